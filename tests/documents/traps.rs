//! The traps of docs/reliability.md, each with tests that exist.

use std::{collections::BTreeSet, fs, path::Path};

/// Files all of whose tests look for one of the traps.
const FILES_OF_TRAPS: [&str; 4] = [
    "src/disk/traps.rs",
    "src/disk/simulation/defects.rs",
    "tests/guarantees/disk/lying.rs",
    "tests/guarantees/disk/power_cut.rs",
];

#[test]
fn every_trap_names_tests_that_exist_and_no_test_of_a_trap_is_left_out() {
    let page = include_str!("../../docs/reliability.md");
    let (_, section) = page.split_once("\n## Traps\n").expect("a section of traps");
    let section = section.split("\n## ").next().expect("its text");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut existing = BTreeSet::new();
    for folder in ["src", "tests"] {
        tests_below(&root.join(folder), &mut existing);
    }
    let mut named = BTreeSet::new();
    for line in section.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let tests: Vec<&str> = cells[1].split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test: {line}");
        for test in tests {
            assert!(existing.contains(test), "there is no test {test}");
            named.insert(test.to_owned());
        }
    }
    assert!(named.len() >= 40, "only {} tests", named.len());
    for file in FILES_OF_TRAPS {
        let mut of_file = BTreeSet::new();
        tests_of(&fs::read_to_string(root.join(file)).unwrap(), &mut of_file);
        let left_out: Vec<&String> = of_file.difference(&named).collect();
        assert!(!of_file.is_empty() && left_out.is_empty(), "{file}: {left_out:?}");
    }
}

fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests_of(&fs::read_to_string(&path).unwrap(), found);
        }
    }
}

/// The functions behind `#[test]` and its like, and the promises of a suite that runs on several
/// storages.
fn tests_of(code: &str, found: &mut BTreeSet<String>) {
    let mut is_test = false;
    for line in code.lines().map(str::trim) {
        let name = line.strip_prefix("async fn ").or(line.strip_prefix("fn "));
        match name.and_then(|name| name.split_once('(')) {
            Some((name, arguments)) if is_test || arguments == "storage: &Storage) {" => {
                found.insert(name.to_owned());
                is_test = false;
            }
            Some(_) => is_test = false,
            None => is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test"),
        }
    }
}
