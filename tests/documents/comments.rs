//! Comments end at the column at which rustfmt ends code, which it does not do for them.

use std::fs;

use crate::words::{root, texts};

const COLUMNS_MAX: usize = 100;

#[test]
fn lines_of_comments_end_at_100_columns() {
    let mut faults = Vec::new();
    for folder in ["src", "tests", "loadtest", "benches", "examples"] {
        let folder = root().join(folder);
        assert!(folder.is_dir(), "{}", folder.display());
        for path in texts(&folder) {
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("a file of code");
            let too_long = text.lines().enumerate().filter(|(_, line)| is_too_long(line));
            faults.extend(too_long.map(|(at, _)| format!("{}:{}", path.display(), at + 1)));
        }
    }
    assert!(faults.is_empty(), "{} lines:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn only_a_long_comment_is_too_long_and_a_row_of_a_table_is_not() {
    for (before, expected) in [
        ("// ", true),
        ("    /// ", true),
        ("//! ", true),
        ("//! | ", false),
        ("let text = \"// ", false),
    ] {
        let line = |columns: usize| before.to_owned() + &"ї".repeat(columns - before.len());
        assert!(!is_too_long(&line(COLUMNS_MAX)), "{before}");
        assert_eq!(is_too_long(&line(COLUMNS_MAX + 1)), expected, "{before}");
    }
}

/// Whether a line is a comment of too many columns. Markdown does not let a row of a table end
/// earlier.
fn is_too_long(line: &str) -> bool {
    let Some(comment) = line.trim_start().strip_prefix("//") else { return false };
    let is_row = comment.trim_start_matches(['/', '!', ' ']).starts_with('|');
    !is_row && line.chars().count() > COLUMNS_MAX
}
