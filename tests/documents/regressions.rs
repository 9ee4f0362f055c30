//! docs/regressions.md against the code: each file and each test that it names exists.

use std::{fs, path::Path};

const PAGE: &str = include_str!("../../docs/regressions.md");
const README: &str = include_str!("../../README.md");
/// Stands for a file that is one test.
const WHOLE: &str = "the whole file";

#[test]
fn each_fault_names_tests_that_exist() {
    let (mut rows, mut wrong) = (0, Vec::new());
    for line in PAGE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| fault")) {
        rows += 1;
        let cells: Vec<_> = line.trim_matches('|').split(" | ").collect();
        let [_, _, tests] = cells[..] else { panic!("three columns: {line}") };
        let mut file = None;
        let mut named = 0;
        // What stands between backticks.
        for word in tests.split('`').skip(1).step_by(2) {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(word);
            if word.contains('/') && !word.contains(' ') {
                file = fs::read_to_string(&path).ok().map(|text| (word, text));
                if file.is_none() {
                    wrong.push(format!("{word} is not a file"));
                }
            } else if let Some((path, text)) = &file {
                named += 1;
                if word != WHOLE && !has_test(path, text, word) {
                    wrong.push(format!("{path} has no test `{word}`"));
                }
            }
        }
        if named == 0 {
            wrong.push(format!("no test: {line}"));
        }
    }
    assert!(rows > 50, "{rows} rows");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_first_screen_of_the_readme_says_what_happens_to_an_event() {
    let first_screen: Vec<_> = README.lines().take(FIRST_SCREEN).collect();
    for part in
        ["history in memory", "history on disk", "Redis", "the hub drains", "the client is slow"]
    {
        let is_row = |line: &&&str| line.starts_with("| ") && line.contains(part);
        assert!(first_screen.iter().find(is_row).is_some(), "no row about {part:?}");
    }
}

fn has_test(path: &str, text: &str, name: &str) -> bool {
    if path.ends_with(".rs") {
        let Some((before, _)) = text.split_once(&format!("fn {name}(")) else { return false };
        let attributes = before.rsplit("\n\n").next().unwrap_or_default();
        return attributes.contains("test]") || attributes.contains("test(");
    }
    text.contains(name)
}

/// Lines.
const FIRST_SCREEN: usize = 45;
