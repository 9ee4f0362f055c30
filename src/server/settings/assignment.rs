//! An assignment: a value that one source gives to one key, checked against the table of keys.

use std::fmt;

use super::keys::{self, Key};
use super::{
    Allowed, SetBy, SettingsError, nearest,
    rules::{self, shown},
};
use crate::auth::JwksUrlText;

/// One value that a source gives to one key.
pub(super) struct Assignment {
    pub(super) key: &'static Key,
    pub(super) value: toml::Value,
    pub(super) set_by: SetBy,
}

impl Assignment {
    /// An assignment of a file, whose value has a type already. If it is an array, `items` are the
    /// lines of its items.
    pub(super) fn from_value(
        key: &str,
        value: toml::Value,
        set_by: SetBy,
        items: &[usize],
    ) -> Result<Self, SettingsError> {
        let key = find(key, &value, &set_by)?;
        check_rules(key, &value, |index| set_by.at(items.get(index).copied()))?;
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

    /// An assignment of a variable or a flag, whose text is parsed into the type of the key.
    pub(super) fn from_text(key: &str, text: &str, set_by: SetBy) -> Result<Self, SettingsError> {
        let as_text = toml::Value::String(text.to_owned());
        let key = find(key, &as_text, &set_by)?;
        let value = key.allowed.parse(text);
        check_rules(key, &value, |_| set_by.clone())?;
        match key.allowed.admit(&value) {
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
    // `backend` is short for the one key of this section that a backend needs.
    let name = if name == "backend" { "backend.url" } else { name };
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
    let value = if is_secret(name) || has_credentials(value) {
        "(not shown)".to_owned()
    } else {
        shown(value)
    };
    let hint = nearest::hint(name);
    Err(SettingsError::UnknownKey { key: name.to_owned(), value, set_by: set_by.clone(), hint })
}

/// Checks the rules for channels one by one, so that a refusal names the rule and its key.
fn check_rules(
    key: &Key,
    value: &toml::Value,
    set_by: impl Fn(usize) -> SetBy,
) -> Result<(), SettingsError> {
    match key.allowed {
        Allowed::Rules => rules::check(value, set_by),
        _ => Ok(()),
    }
}

/// Whether a name sounds like that of a secret. The value of a misspelt name may be a secret, and
/// refusals are logged.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["secret", "token", "pass", "pwd", "credential", "jwt", "jwk", "hmac", "key", "auth"]
        .iter()
        .any(|word| name.contains(word))
}

/// Whether a value looks like an address with a user or a password.
fn has_credentials(value: &toml::Value) -> bool {
    value.as_str().is_some_and(|text| text.contains("://") && text.contains('@'))
}

/// The value of a known key as a refusal shows it.
fn shown_of(key: &Key, value: &toml::Value) -> String {
    match (key.allowed, value) {
        (Allowed::Url, toml::Value::String(url)) => {
            shown(&toml::Value::String(JwksUrlText::new(url).to_string()))
        }
        (Allowed::Secret | Allowed::Url | Allowed::Backend | Allowed::Collector, _) => {
            "(not shown)".to_owned()
        }
        _ => shown(value),
    }
}
