//! docs/security.md names a test for each line: they are all there.

use std::{fs, path::Path};

#[test]
fn every_test_that_the_security_page_names_exists() {
    let page = include_str!("../../docs/security.md");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    // Every other piece stands between backticks.
    for name in page.split('`').skip(1).step_by(2) {
        let (file, test) = name.split_once("::").unwrap_or((name, ""));
        let path = match file.split_once('/') {
            Some(("src", _)) => format!("{file}.rs"),
            Some(("browser", suite)) => format!("tests/browser/{suite}.test.mjs"),
            Some(("abuse", _)) => format!("tests/{file}.rs"),
            Some(("auth" | "api" | "http_edges" | "limits" | "tls", _)) => {
                format!("tests/protocol/{file}.rs")
            }
            _ if !test.is_empty() && !file.contains("visnyk") => {
                let of_group =
                    |group: &&&str| root.join(format!("tests/{group}/{file}.rs")).exists();
                let group = ["protocol", "guarantees", "commands"].iter().find(of_group);
                format!("tests/{}/{file}.rs", group.unwrap_or_else(|| panic!("`{name}`: no file")))
            }
            _ => continue,
        };
        let text = fs::read_to_string(root.join(&path));
        let text = text.unwrap_or_else(|error| panic!("`{name}`: {path}: {error}"));
        assert!(test.is_empty() || text.contains(&format!("fn {test}(")), "`{name}` in {path}");
        named += 1;
    }
    assert!(named > 40, "{named}");
}
