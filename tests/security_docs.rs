//! docs/security.md names a test for each line: they are all there.

use std::{fs, path::Path};

#[test]
fn every_test_that_the_security_page_names_exists() {
    let page = include_str!("../docs/security.md");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    // Every other piece stands between backticks.
    for name in page.split('`').skip(1).step_by(2) {
        let (file, test) = name.split_once("::").unwrap_or((name, ""));
        let path = match file.split_once('/') {
            Some(("src", _)) => format!("{file}.rs"),
            Some(("browser", suite)) => format!("tests/browser/{suite}.test.mjs"),
            Some(("auth" | "api" | "abuse" | "http_edges" | "limits" | "tls", _)) => {
                format!("tests/{file}.rs")
            }
            _ if !test.is_empty() && !file.contains("visnyk") => format!("tests/{file}.rs"),
            _ => continue,
        };
        let text = fs::read_to_string(root.join(&path));
        let text = text.unwrap_or_else(|error| panic!("`{name}`: {path}: {error}"));
        assert!(test.is_empty() || text.contains(&format!("fn {test}(")), "`{name}` in {path}");
        named += 1;
    }
    assert!(named > 40, "{named}");
}
