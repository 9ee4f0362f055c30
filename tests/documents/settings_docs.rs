//! docs/configuration.md and docs/limits.md against the settings: nothing missing, nothing stale.

use visnyk::server::settings::{Allowed, Settings, Sources};

#[test]
fn configuration_lists_every_setting_as_it_is() {
    let effective = Settings::load(&Sources::default()).expect("defaults are good");
    let expected: Vec<Vec<String>> = effective
        .entries()
        .iter()
        .map(|entry| {
            vec![
                entry.key.name.to_owned(),
                entry.key.variable(),
                entry.value.clone(),
                in_the_table(&entry.key.allowed),
            ]
        })
        .collect();
    let page = include_str!("../../docs/configuration.md").replace("` ↻ |", "` |");
    assert_eq!(rows(&page, 4), expected);
}

#[test]
fn configuration_marks_what_reloads() {
    let page = include_str!("../../docs/configuration.md");
    for key in Settings::keys() {
        let row = format!("| `{}`{} | ", key.name, if key.reloads { " ↻" } else { "" });
        assert!(page.lines().any(|line| line.starts_with(&row)), "{row}");
    }
}

#[test]
fn limits_lists_every_limit_with_its_default() {
    let effective = Settings::load(&Sources::default()).expect("defaults are good");
    let expected: Vec<Vec<String>> = effective
        .entries()
        .iter()
        .filter_map(|entry| {
            let name = entry.key.name.strip_prefix("limits.")?;
            Some(vec![name.to_owned(), entry.value.clone()])
        })
        .collect();
    assert_eq!(rows(include_str!("../../docs/limits.md"), 2), expected);
}

#[test]
fn every_limit_is_a_setting() {
    let limits = serde_json::to_value(visnyk::core::Limits::default()).expect("plain data");
    for (section, fields) in limits.as_object().expect("sections") {
        for field in fields.as_object().expect("fields").keys() {
            let name = format!("limits.{section}.{field}");
            assert!(Settings::keys().iter().any(|key| key.name == name), "{name}");
        }
    }
}

/// The first `columns` cells of every table row that begins with a name in backticks.
fn rows(page: &str, columns: usize) -> Vec<Vec<String>> {
    page.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells = line.split('|').skip(1).take(columns);
            cells.map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
        })
        .collect()
}

fn in_the_table(allowed: &Allowed) -> String {
    match allowed {
        Allowed::Addresses => "addresses".to_owned(),
        Allowed::Hosts => "host names".to_owned(),
        Allowed::LogFilter => "levels".to_owned(),
        Allowed::Secret => "a secret".to_owned(),
        Allowed::Text | Allowed::Url => "text".to_owned(),
        Allowed::Backend => "an address".to_owned(),
        Allowed::Collector => "a URL".to_owned(),
        Allowed::Name => "a name".to_owned(),
        Allowed::Texts => "texts".to_owned(),
        Allowed::Patterns => "patterns".to_owned(),
        Allowed::Rules => "rules".to_owned(),
        Allowed::KeyFiles => "keys".to_owned(),
        Allowed::CookieName => "a cookie".to_owned(),
        Allowed::Origins => "origins".to_owned(),
        Allowed::OriginPatterns => "origins, patterns".to_owned(),
        Allowed::Networks => "addresses and blocks".to_owned(),
        other => other.to_string().replace("a whole number from ", ""),
    }
}
