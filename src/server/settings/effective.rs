//! The settings in force, and where each came from.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use figment::Figment;

use super::layer::Assignment;
use super::{Key, Settings, SettingsError, SettingsErrors, Sources, contradictions, keys, sources};

/// Settings that were checked and go together, with the origin of each.
#[derive(Debug, Clone)]
pub struct Effective {
    settings: Settings,
    set_by: BTreeMap<&'static str, String>,
    files: Vec<PathBuf>,
    service_links: Vec<String>,
}

impl Effective {
    pub(super) fn load(sources: &Sources) -> Result<Self, SettingsErrors> {
        let files = sources.files()?;
        let mut errors = Vec::new();
        let mut figment = Figment::new();
        let given = files.iter().flat_map(|path| sources::file_assignments(path));
        for assignment in
            Assignment::defaults().into_iter().map(Ok).chain(given).chain(sources.texts())
        {
            match assignment {
                Ok(assignment) => figment = figment.merge(assignment),
                Err(error) => errors.push(error),
            }
        }
        SettingsErrors::none_or(errors)?;

        let settings: Settings = figment
            .extract()
            .map_err(|error| SettingsError::Merge { reason: error.to_string() })?;
        let set_by = |key: &str| {
            figment
                .find_metadata(key)
                .map_or_else(String::new, |metadata| metadata.name.to_string())
        };
        SettingsErrors::none_or(contradictions::find(&settings, set_by))?;
        let set_by = keys::KEYS.iter().map(|key| (key.name, set_by(key.name))).collect();
        let service_links = sources.service_links().map(str::to_owned).collect();
        Ok(Self { settings, set_by, files, service_links })
    }

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

    /// Variables that were passed over, since a container platform has set them for a service whose
    /// name begins with `visnyk`.
    pub fn service_links(&self) -> &[String] {
        &self.service_links
    }

    /// Every setting, in the order of the documentation.
    pub fn entries(&self) -> Vec<Entry<'_>> {
        let table = toml::Table::try_from(&self.settings)
            .expect("settings are tables, numbers, strings and booleans, which TOML has");
        let root = toml::Value::Table(table);
        keys::KEYS
            .iter()
            .map(|key| Entry {
                key,
                value: key.value_in(&root).to_string(),
                set_by: &self.set_by[key.name],
            })
            .collect()
    }

    /// A settings file that sets everything as it is now, each value with its origin beside it.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for entry in self.entries() {
            let (within, name) = entry.key.name.rsplit_once('.').unwrap_or(("", entry.key.name));
            if within != section {
                section = within;
                let _ = writeln!(text, "\n[{section}]");
            }
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name} = {} # {}", entry.value, entry.set_by);
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
