//! Reads the settings of a running hub again, and separates changes that a running hub can apply
//! from those that need a restart.

use std::path::PathBuf;

use super::{Effective, Key, Settings, SettingsError, SettingsErrors, contradictions, keys};

/// Settings that were read again.
#[derive(Debug)]
pub(crate) struct Reload {
    /// The settings for the running hub: the new values of the keys in `changed`, and the old
    /// values of all others.
    pub(crate) effective: Effective,
    /// Keys with a new value that a running hub applies, in the order of the documentation.
    pub(crate) changed: Vec<&'static str>,
    /// Keys with a new value that needs a restart.
    pub(crate) needs_restart: Vec<&'static str>,
}

impl Effective {
    /// Reads the settings files again. Variables and flags are those of the start.
    ///
    /// # Errors
    /// The files have an error at which a start would fail; a file that was read before does not
    /// exist any more; or new values contradict old ones that stay until a restart.
    pub(crate) fn read_again(&self) -> Result<Reload, SettingsErrors> {
        let new = Settings::load(&self.sources)?;
        if let Some(path) = self.files.iter().find(|path| !new.files.contains(path)) {
            // Without it the hub would fall back to defaults, such as no CORS origins.
            return Err(file_is_gone(path.clone()).into());
        }
        let (old_settings, new_settings) = (&self.settings, &new.settings);
        let (mut merged, mut new_values) = (old_settings.to_value(), new_settings.to_value());
        let mut set_by = self.set_by.clone();
        let (mut changed, mut needs_restart) = (Vec::new(), Vec::new());
        for key in keys::KEYS {
            let (old_value, new_value) = (key.value_in(&mut merged), key.value_in(&mut new_values));
            if old_value == new_value && !hidden_value_differs(key, old_settings, new_settings) {
                continue;
            }
            if !key.reloads || turns_protection_on_or_off(key, old_settings, new_settings) {
                needs_restart.push(key.name);
            } else {
                *old_value = new_value.clone();
                set_by.insert(key.name, new.set_by[key.name].clone());
                changed.push(key.name);
            }
        }
        let mut settings: Settings = merged
            .try_into()
            .map_err(|error: toml::de::Error| SettingsError::Merge { reason: error.to_string() })?;
        // In the tree these values are replaced by `***`.
        let is_new = |key: &str| changed.contains(&key);
        let of = |key: &str| if is_new(key) { new_settings } else { old_settings };
        settings.jwt_secret = of("jwt_secret").jwt_secret.clone();
        settings.auth.metrics_token = of("auth.metrics_token").auth.metrics_token.clone();
        settings.auth.jwks_url = of("auth.jwks_url").auth.jwks_url.clone();
        settings.traces.headers = old_settings.traces.headers.clone();
        SettingsErrors::none_or(contradictions::find(&settings, |key| set_by[key].clone()))?;
        let effective = Effective { settings, set_by, files: new.files, ..self.clone() };
        Ok(Reload { effective, changed, needs_restart })
    }
}

/// Whether a key has a new value, if it is one whose value the tree of all settings hides.
fn hidden_value_differs(key: &Key, old: &Settings, new: &Settings) -> bool {
    match key.name {
        "jwt_secret" => old.jwt_secret != new.jwt_secret,
        "auth.metrics_token" => old.auth.metrics_token != new.auth.metrics_token,
        "traces.headers" => old.traces.headers != new.traces.headers,
        "auth.jwks_url" => old.auth.jwks_url != new.auth.jwks_url,
        _ => false,
    }
}

/// Whether the new value of this key turns TLS or authentication on or off, which needs a restart.
/// Whether the listeners speak TLS is decided at the start. Streams that were opened without
/// authentication have no lease that would end them; and if a line is missing from a file by
/// mistake, a reload must not open the hub to everyone.
fn turns_protection_on_or_off(key: &Key, old: &Settings, new: &Settings) -> bool {
    match key.name {
        "tls_cert" | "tls_key" => old.has_tls() != new.has_tls(),
        "jwt_secret" | "jwt_secret_file" | "allow_anonymous" => {
            old.authenticates() != new.authenticates()
        }
        name if name.starts_with("auth.") => old.authenticates() != new.authenticates(),
        _ => false,
    }
}

fn file_is_gone(path: PathBuf) -> SettingsError {
    SettingsError::FileMissing { path, wanted_by: "the hub, which read it before," }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::{
        hub::Hub,
        server::settings::{Allowed, Sources},
    };

    struct Files(TempDir);

    impl Files {
        fn new(toml: &str) -> (Self, Effective) {
            let files = Self(tempfile::tempdir().expect("a directory"));
            files.write(toml);
            let sources =
                Sources::in_directory(files.0.path()).flag("--log-level", "log.level", "warn");
            let effective = Settings::load(&sources).expect("good settings");
            (files, effective)
        }

        fn write(&self, toml: &str) {
            fs::write(self.0.path().join("visnyk.toml"), toml).expect("it is written");
        }
    }

    /// Any other value that a key allows.
    fn other(key: &Key, value: &toml::Value) -> toml::Value {
        match (&key.allowed, value) {
            (Allowed::Whole { min, .. }, toml::Value::Integer(n)) if n > min => (n - 1).into(),
            (Allowed::Whole { .. }, toml::Value::Integer(n)) => (n + 1).into(),
            (Allowed::Switch, toml::Value::Boolean(is_on)) => (!is_on).into(),
            (Allowed::Choice(words), toml::Value::String(word)) => {
                (*words.iter().find(|other| **other != *word).expect("more than one word")).into()
            }
            _ => panic!("no other value of {} is known", key.name),
        }
    }

    #[tokio::test]
    async fn a_running_hub_takes_the_limits_that_reload_and_no_others() {
        let hub = Hub::builder().shards(1).start().await.expect("a hub");
        let default = Settings::default();
        let limits = keys::KEYS.iter().filter(|key| key.name.starts_with("limits."));
        let mut reload = 0;
        for key in limits {
            let mut tree = default.to_value();
            let value = key.value_in(&mut tree);
            *value = other(key, value);
            let new: Settings = tree.try_into().expect("settings");
            assert!(new.limits != default.limits, "{} does not reach the limits", key.name);
            hub.set_limits(&new.limits, Vec::new()).await.expect("they are set");
            let expected = if key.reloads { &new.limits } else { &default.limits };
            assert!(*hub.limits() == *expected, "{} reloads: {}", key.name, key.reloads);
            reload += usize::from(key.reloads);
        }
        assert!(reload > 10, "{reload} limits reload");
    }

    #[test]
    fn what_reloads_is_new_and_what_does_not_is_named_and_stays() {
        let (files, running) = Files::new("shards = 1\ncors_origins = 'https://a.example'");
        let unchanged = running.read_again().expect("good settings");
        assert!(unchanged.changed.is_empty() && unchanged.needs_restart.is_empty());
        files.write("shards = 2\ncors_origins = 'https://b.example'\nlog.level = 'debug'");
        let reload = running.read_again().expect("good settings");
        // The flag of the start still wins over the file.
        assert_eq!(reload.changed, ["cors_origins"]);
        assert_eq!(reload.needs_restart, ["shards"]);
        let settings = reload.effective.settings();
        assert_eq!(settings.shards, 1);
        assert!(settings.cors_origins[0].matches(b"https://b.example"));
        // The restart that is needed stays needed.
        let again = reload.effective.read_again().expect("good settings");
        assert!(again.changed.is_empty() && again.needs_restart == ["shards"]);
    }

    #[test]
    fn secrets_are_compared_and_taken_though_they_are_not_shown() {
        let secret = |n: u8| format!("jwt_secret = '{n}{}'\n", "x".repeat(40));
        let url = |n: u8| format!("auth.jwks_url = 'https://id.example/keys?key={n}'\n");
        let token = |n: u8| format!("auth.metrics_token = 'token-{n}'\n");
        let (files, running) = Files::new(&(secret(1) + &url(1) + &token(1)));
        assert!(running.read_again().expect("good settings").changed.is_empty());
        for (toml, key) in [
            (secret(2) + &url(1) + &token(1), "jwt_secret"),
            (secret(1) + &url(2) + &token(1), "auth.jwks_url"),
            (secret(1) + &url(1) + &token(2), "auth.metrics_token"),
        ] {
            files.write(&toml);
            let reload = running.read_again().expect("good settings");
            assert_eq!(reload.changed, [key]);
            let sources = Sources::in_directory(files.0.path());
            let mut expected = Settings::load(&sources).expect("good settings").into_settings();
            expected.log.level = "warn".to_owned();
            assert_eq!(*reload.effective.settings(), expected, "{key}");
        }
    }

    #[test]
    fn tls_and_authentication_are_turned_on_and_off_by_a_restart() {
        let secret = format!("jwt_secret = '{}'\n", "x".repeat(40));
        for (before, after, keys) in [
            ("", &*secret, ["jwt_secret"].as_slice()),
            (&*secret, "", &["jwt_secret"]),
            ("", "tls_cert = 'a'\ntls_key = 'b'", &["tls_cert", "tls_key"]),
            ("tls_cert = 'a'\ntls_key = 'b'", "", &["tls_cert", "tls_key"]),
        ] {
            let (files, running) = Files::new(before);
            files.write(after);
            let reload = running.read_again().expect("good settings");
            assert_eq!((&*reload.changed, &*reload.needs_restart), (&[][..], keys));
            assert_eq!(reload.effective.settings(), running.settings());
        }
    }

    #[test]
    fn what_is_wrong_or_gone_or_contradicts_what_stays_is_refused() {
        let secret = |n: usize| format!("jwt_secret = '{}'\n", "x".repeat(n));
        let (files, running) = Files::new(&(secret(40) + "listen = '0.0.0.0:0'"));
        for (toml, reason) in [
            ("corse = 1".to_owned(), "unknown setting corse"),
            ("cors_origins = 'example'".to_owned(), "cors_origins"),
            // Good by itself; but the hub listens beyond loopback until a restart.
            (secret(10) + "listen = '127.0.0.1:0'", "a secret of less than 32 bytes"),
        ] {
            files.write(&toml);
            let refused = running.read_again().expect_err("refused").to_string();
            assert!(refused.contains(reason), "{refused}");
        }
        fs::remove_file(files.0.path().join("visnyk.toml")).expect("it was there");
        let refused = running.read_again().expect_err("refused").to_string();
        assert!(refused.contains("which does not exist"), "{refused}");
    }
}
