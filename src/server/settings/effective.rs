//! The settings in force, and where each came from.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{
    Key, SetBy, Settings, SettingsError, SettingsErrors, Sources, contradictions, keys, sources,
};

/// Settings that were checked, alone and together, with the origin of each.
#[derive(Debug, Clone)]
pub struct Effective {
    pub(super) settings: Settings,
    pub(super) set_by: BTreeMap<&'static str, String>,
    pub(super) files: Vec<PathBuf>,
    pub(super) service_links: Vec<String>,
    /// What they were read from, for a reload.
    pub(super) sources: Sources,
}

/// Settings of a program, with empty sources.
#[cfg(any(test, fuzzing))]
impl From<Settings> for Effective {
    fn from(settings: Settings) -> Self {
        Self {
            settings,
            set_by: keys::KEYS.iter().map(|key| (key.name, "program".to_owned())).collect(),
            files: Vec::new(),
            service_links: Vec::new(),
            sources: Sources::default(),
        }
    }
}

impl Settings {
    /// Reads all layers of `sources`, rejects what is unknown, out of range or contradictory, and
    /// records where each value came from.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first: a file that is missing or malformed, unknown
    /// and reserved keys, bad values, and then the contradictions between good ones.
    pub fn load(sources: &Sources) -> Result<Effective, SettingsErrors> {
        let files = sources.files()?;
        let mut errors = Vec::new();
        let mut root = Self::default().to_value();
        let by_default = SetBy::Default.to_string();
        let mut set_by: BTreeMap<_, _> =
            keys::KEYS.iter().map(|key| (key.name, by_default.clone())).collect();
        let given = files.iter().flat_map(|path| sources::file_assignments(path));
        for assignment in given.chain(sources.texts()) {
            match assignment {
                Ok(assignment) => {
                    *assignment.key.value_in(&mut root) = assignment.value;
                    set_by.insert(assignment.key.name, assignment.set_by.to_string());
                }
                Err(error) => errors.push(error),
            }
        }
        SettingsErrors::none_or(errors)?;
        let settings: Self = root
            .try_into()
            .map_err(|error: toml::de::Error| SettingsError::Merge { reason: error.to_string() })?;
        SettingsErrors::none_or(contradictions::find(&settings, |key| set_by[key].clone()))?;
        let service_links = sources.service_links().map(str::to_owned).collect();
        Ok(Effective { settings, set_by, files, service_links, sources: sources.clone() })
    }

    /// All settings as a tree, with a table for each section.
    pub(super) fn to_value(&self) -> toml::Value {
        toml::Value::try_from(self)
            .expect("settings are tables, numbers, strings and booleans, which TOML has")
    }
}

impl Effective {
    /// The values.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The values, without their origins.
    pub fn into_settings(self) -> Settings {
        self.settings
    }

    /// Where the value of `key` came from: `default`, `FILE:LINE`, `environment NAME` or
    /// `flag NAME`. `None` if there is no such key.
    pub fn set_by(&self, key: &str) -> Option<&str> {
        self.set_by.get(key).map(String::as_str)
    }

    /// The files that were read, in order.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }

    /// Variables that were ignored, since a container platform has set them for a service whose
    /// name begins with `visnyk`.
    pub fn service_links(&self) -> &[String] {
        &self.service_links
    }

    /// Every setting, in the order of the documentation.
    pub fn entries(&self) -> Vec<Entry<'_>> {
        let mut root = self.settings.to_value();
        keys::KEYS
            .iter()
            .map(|key| Entry {
                key,
                value: key.value_in(&mut root).to_string(),
                set_by: &self.set_by[key.name],
            })
            .collect()
    }

    /// A settings file with all values in force. After each value are its origin, and `reloads` if
    /// a reload can change it.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        let mut entries = self.entries();
        // Keys without a section come first: in TOML all keys after the header of a section belong
        // to it.
        entries.sort_by_key(|entry| entry.key.name.contains('.'));
        for entry in entries {
            let (within, name) = entry.key.name.rsplit_once('.').unwrap_or(("", entry.key.name));
            if within != section {
                section = within;
                let _ = writeln!(text, "\n[{section}]");
            }
            // Writing to a string cannot fail.
            let reloads = if entry.key.reloads { ", reloads" } else { "" };
            let _ = writeln!(text, "{name} = {} # {}{reloads}", entry.value, entry.set_by);
        }
        text
    }
}

/// One setting in force.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Entry<'a> {
    /// Its key.
    pub key: &'static Key,
    /// Its value, as TOML.
    pub value: String,
    /// Where it came from.
    pub set_by: &'a str,
}
