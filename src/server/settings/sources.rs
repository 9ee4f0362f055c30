//! The sources that settings are read from.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::assignment::Assignment;
use super::{SetBy, SettingsError, file, service_links::is_service_link};

/// What `Settings::load` reads. It does not look at variables and flags of the process by itself,
/// so a test or an embedding program can give others.
#[derive(Clone, Default)]
#[must_use]
pub struct Sources {
    directory: PathBuf,
    config: Option<PathBuf>,
    profile: Option<String>,
    environment: Vec<(OsString, OsString)>,
    flags: Vec<(String, String, String)>,
}

impl Sources {
    /// `visnyk.toml` in `directory`, if there is one.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), ..Self::default() }
    }

    /// Reads this file, which must exist, instead of `visnyk.toml`.
    pub fn config(mut self, path: Option<PathBuf>) -> Self {
        self.config = path;
        self
    }

    /// Reads `visnyk.PROFILE.toml` beside the settings file as well; it must exist.
    pub fn profile(mut self, profile: Option<String>) -> Self {
        self.profile = profile;
        self
    }

    /// Reads the variables that begin with `VISNYK_`, except those that a container platform sets
    /// for a service of such a name.
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        self.environment.extend(variables);
        // Sorted, so that the order of errors does not depend on the process that started this one.
        self.environment.sort();
        self
    }

    /// Adds a flag: its name as it was given, the key that it sets, and the text of its value.
    pub fn flag(
        mut self,
        flag: impl Into<String>,
        key: impl Into<String>,
        text: impl Into<String>,
    ) -> Self {
        self.flags.push((flag.into(), key.into(), text.into()));
        self
    }

    /// The settings files, in the order in which they are merged.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>, SettingsError> {
        let mut files = Vec::with_capacity(2);
        let main = match &self.config {
            Some(path) if path.is_file() => path.clone(),
            Some(path) => {
                let wanted_by = "--config (or VISNYK_CONFIG)";
                return Err(SettingsError::FileMissing { path: path.clone(), wanted_by });
            }
            None => self.directory.join("visnyk.toml"),
        };
        if main.is_file() {
            files.push(main.clone());
        }
        if let Some(profile) = &self.profile {
            if !is_profile_name(profile) {
                return Err(SettingsError::ProfileName { profile: profile.clone() });
            }
            let beside = main.parent().unwrap_or(Path::new(""));
            let path = beside.join(format!("visnyk.{profile}.toml"));
            if !path.is_file() {
                let wanted_by = "--profile (or VISNYK_PROFILE)";
                return Err(SettingsError::FileMissing { path, wanted_by });
            }
            files.push(path);
        }
        Ok(files)
    }

    /// The variables that a container platform has set for a service.
    pub(super) fn service_links(&self) -> impl Iterator<Item = &str> {
        self.environment.iter().filter_map(|(name, value)| {
            let name = name.to_str()?;
            let rest = name.strip_prefix(PREFIX)?;
            is_service_link(rest, value.to_str()?).then_some(name)
        })
    }

    /// The assignments of the variables and then of the flags, in the order in which they are
    /// merged.
    pub(super) fn texts(&self) -> impl Iterator<Item = Result<Assignment, SettingsError>> + '_ {
        let variables = self.environment.iter().filter_map(|(name, value)| variable(name, value));
        let flags = self
            .flags
            .iter()
            .map(|(flag, key, text)| Assignment::from_text(key, text, SetBy::Flag(flag.clone())));
        variables.chain(flags)
    }
}

/// Without the values of variables and flags, which may be secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |name: &&(OsString, OsString)| name.0.to_string_lossy().starts_with(PREFIX);
        let variables = self.environment.iter().filter(names).map(|(name, _)| name);
        f.debug_struct("Sources")
            .field("directory", &self.directory)
            .field("config", &self.config)
            .field("profile", &self.profile)
            .field("environment", &variables.collect::<Vec<_>>())
            .field("flags", &self.flags.iter().map(|(flag, ..)| flag).collect::<Vec<_>>())
            .finish()
    }
}

/// The assignments of a file, and the errors in it.
pub(super) fn file_assignments(path: &Path) -> Vec<Result<Assignment, SettingsError>> {
    match file::read(path) {
        Ok(lines) => lines
            .into_iter()
            .map(|line| {
                let set_by = SetBy::File { path: path.to_owned(), line: line.number };
                Assignment::from_value(&line.key, line.value, set_by, &line.items)
            })
            .collect(),
        Err(error) => vec![Err(error)],
    }
}

fn variable(name: &OsString, value: &OsString) -> Option<Result<Assignment, SettingsError>> {
    let name = name.to_str()?;
    let rest = name.strip_prefix(PREFIX)?;
    if OTHER_VARIABLES.contains(&rest) {
        return None;
    }
    let set_by = SetBy::Environment(name.to_owned());
    Some(match value.to_str() {
        Some(text) if is_service_link(rest, text) => return None,
        Some(text) => Assignment::from_text(&key_of(rest), text, set_by),
        None => Err(SettingsError::NotText { name: name.to_owned() }),
    })
}

/// The key of a variable: `limits.poll.limit` for `LIMITS__POLL__LIMIT`. A name with lower-case
/// letters is not changed, and so is refused as unknown: otherwise two variables could set the same
/// key.
fn key_of(rest: &str) -> String {
    let key = rest.replace("__", ".");
    if key.bytes().any(|byte| byte.is_ascii_lowercase()) { key } else { key.to_ascii_lowercase() }
}

fn is_profile_name(profile: &str) -> bool {
    (1..=PROFILE_BYTES_MAX).contains(&profile.len())
        && profile.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The prefix of all variables that set something.
const PREFIX: &str = "VISNYK_";

/// Variables with our prefix that belong to the command line, not to the settings.
const OTHER_VARIABLES: [&str; 6] = ["URL", "TOKEN", "CA_CERT", "CONFIG", "PROFILE", "BIN"];

/// A profile is part of a file name.
const PROFILE_BYTES_MAX: usize = 64;
