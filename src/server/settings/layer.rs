//! One value for one key from one source, checked.

use std::fmt;

use super::keys::{self, Key};
use super::{Allowed, SetBy, SettingsError, nearest};
use crate::auth::JwksUrlText;

/// A checked assignment.
pub(super) struct Assignment {
    pub(super) key: &'static Key,
    pub(super) value: toml::Value,
    pub(super) set_by: SetBy,
}

impl Assignment {
    /// From a file: the value has a type already.
    pub(super) fn from_value(
        key: &str,
        value: toml::Value,
        set_by: SetBy,
    ) -> Result<Self, SettingsError> {
        let key = find(key, &value, &set_by)?;
        match key.allowed.admit(&value) {
            Some(value) => Ok(Self { key, value, set_by }),
            None => Err(SettingsError::BadValue {
                key: key.name,
                value: shown_of(key, &value),
                set_by,
                allowed: key.allowed,
            }),
        }
    }

    /// From a variable or a flag: the key says of what type the text is.
    pub(super) fn from_text(key: &str, text: &str, set_by: SetBy) -> Result<Self, SettingsError> {
        let as_text = toml::Value::String(text.to_owned());
        let key = find(key, &as_text, &set_by)?;
        match key.allowed.admit(&key.allowed.read(text)) {
            Some(value) => Ok(Self { key, value, set_by }),
            None => Err(SettingsError::BadValue {
                key: key.name,
                value: shown_of(key, &as_text),
                set_by,
                allowed: key.allowed,
            }),
        }
    }
}

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = shown_of(self.key, &self.value);
        write!(f, "{} = {value} ({})", self.key.name, self.set_by)
    }
}

fn find(name: &str, value: &toml::Value, set_by: &SetBy) -> Result<&'static Key, SettingsError> {
    if let Some(key) = keys::KEYS.iter().find(|key| key.name == name) {
        return Ok(key);
    }
    if let Some(reserved) = keys::reserved(name) {
        return Err(SettingsError::NotAvailable {
            key: name.to_owned(),
            set_by: set_by.clone(),
            lacks: reserved,
        });
    }
    let value = if is_secret(name) { "(not shown)".to_owned() } else { shown(value) };
    let hint = nearest::hint(name);
    Err(SettingsError::UnknownKey { key: name.to_owned(), value, set_by: set_by.clone(), hint })
}

/// A misspelt name may still hold a secret, and rejections end up in logs.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["secret", "token", "pass", "pwd", "credential", "jwt", "jwk", "hmac", "key", "auth"]
        .iter()
        .any(|word| name.contains(word))
}

/// The value of a known key, if it may be shown.
fn shown_of(key: &Key, value: &toml::Value) -> String {
    match (key.allowed, value) {
        (Allowed::Url, toml::Value::String(url)) => {
            shown(&toml::Value::String(JwksUrlText::new(url).to_string()))
        }
        (Allowed::Secret | Allowed::Url, _) => "(not shown)".to_owned(),
        _ => shown(value),
    }
}

/// The value as TOML, cut where it would fill the screen.
fn shown(value: &toml::Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

const SHOWN_CHARS_MAX: usize = 200;
