//! Checks the setting `channels.rules`: a list of tables, each a rule for the channels that match a
//! pattern.

use super::{Allowed, SetBy, SettingsError};

/// Checks the rules of one source; `set_by` says where the rule of an index came from.
pub(super) fn check(
    value: &toml::Value,
    set_by: impl Fn(usize) -> SetBy,
) -> Result<(), SettingsError> {
    for (index, rule) in value.as_array().into_iter().flatten().enumerate() {
        let refused = |reason: String| {
            Err(SettingsError::BadRule { number: index + 1, set_by: set_by(index), reason })
        };
        let Some(rule) = rule.as_table() else {
            return refused(format!("{} is not a table of settings", shown(rule)));
        };
        for (name, value) in rule {
            let Some((_, allowed)) = FIELDS.iter().find(|(field, _)| field == name) else {
                let known: Vec<&str> = FIELDS.iter().map(|(field, _)| *field).collect();
                let value = shown(value);
                let known = known.join(", ");
                return refused(format!("{name} = {value} is unknown, and a rule has {known}"));
            };
            if allowed.admit(value).is_none() {
                return refused(format!("{name} = {}, and allowed is {allowed}", shown(value)));
            }
        }
        if !rule.contains_key("pattern") {
            return refused("it has no pattern, which names its channels".to_owned());
        }
    }
    Ok(())
}

/// The value as TOML, cut to [`SHOWN_CHARS_MAX`] characters.
pub(super) fn shown(value: &toml::Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

const SHOWN_CHARS_MAX: usize = 200;

const fn whole(min: i64, max: i64) -> Allowed {
    Allowed::Whole { min, max }
}

/// The fields of a rule. Their bounds are those of the limits that they replace.
const FIELDS: &[(&str, Allowed)] = &[
    ("pattern", Allowed::Pattern),
    ("events_max", whole(1, u32::MAX as i64)),
    ("age_max_s", whole(1, u32::MAX as i64)),
    ("bytes_max", whole(1, 1 << 40)),
    ("slow", Allowed::Choice(&["disconnect", "skip"])),
    ("publish_per_s", whole(0, u32::MAX as i64)),
    ("durable", Allowed::Switch),
];
