//! Settings from the environment: whatever is taken survives being written to a file and read back.

use std::{ffi::OsString, fs, path::PathBuf, sync::LazyLock};

use crate::server::settings::{Effective, Settings, SettingsErrors, Sources};

/// Lines `NAME=VALUE` of the environment, without `VISNYK_`; after a blank line, a settings file.
pub(super) fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (variables, file) = text.split_once("\n\n").unwrap_or((text, ""));
    let variables = variables.lines().take(32).filter_map(|line| line.split_once('='));
    // A secret file is read when the hub starts, not here.
    let variables: Vec<(OsString, OsString)> =
        variables.map(|(name, value)| (format!("VISNYK_{name}").into(), value.into())).collect();
    let effective = match load(file, variables) {
        Ok(effective) => effective,
        Err(errors) => {
            assert!(errors.iter().next().is_some() && !errors.to_string().is_empty());
            return;
        }
    };
    for entry in effective.entries() {
        assert!(effective.set_by(entry.key.name).is_some());
    }
    let printed = effective.to_toml();
    if printed.contains("***") {
        // Secrets are not printed.
        return;
    }
    let again = load(&printed, Vec::new()).unwrap_or_else(|errors| panic!("{errors}\n{printed}"));
    assert_eq!(again.settings(), effective.settings());
}

fn load(file: &str, variables: Vec<(OsString, OsString)>) -> Result<Effective, SettingsErrors> {
    let path = DIRECTORY.join(format!("visnyk-fuzzed-{}.toml", std::process::id()));
    fs::write(&path, file).expect("a file in memory");
    let sources = Sources::in_directory(DIRECTORY.as_path());
    let effective = Settings::load(&sources.config(Some(path.clone())).environment(variables));
    fs::remove_file(path).expect("it is there");
    effective
}

/// In memory where the system has such a folder.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
});
