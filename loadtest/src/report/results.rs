//! Lines of results, read; an error has its file and line.

use std::path::{Path, PathBuf};

use crate::outcome::Outcome;

/// Why results cannot be read. Nothing is left out silently: one bad line refuses the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read.
    #[error("{}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is longer than any results are.
    #[error("{}: {bytes} bytes; results have at most {FILE_BYTES_MAX}", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// A line is not an outcome.
    #[error("{}:{line}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line of it, from 1.
        line: usize,
        /// What is wrong with it. Its own line is always 1; its column counts.
        #[source]
        source: serde_json::Error,
    },
}

/// Reads the outcomes of a file of JSON lines in their order. Empty lines are skipped.
///
/// # Errors
///
/// A file that cannot be read or is longer than 256 MiB; the first line that is not an outcome.
pub fn read_results(path: &Path) -> Result<Vec<Outcome>, ReadError> {
    let file = |source| ReadError::File { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(file)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(ReadError::TooLong { path: path.to_owned(), bytes });
    }
    parse(path, &std::fs::read(path).map_err(file)?)
}

fn parse(path: &Path, text: &[u8]) -> Result<Vec<Outcome>, ReadError> {
    let mut outcomes = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let outcome = serde_json::from_slice(line).map_err(|source| ReadError::Line {
            path: path.to_owned(),
            line: index + 1,
            source,
        })?;
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// A file is held in memory whole; a long sitting gives some megabytes.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn lines_are_read_in_order_and_empty_ones_skipped() {
        let line = |scenario: &str| {
            let outcome = Outcome { scenario: scenario.into(), ..Outcome::default() };
            serde_json::to_string(&outcome).expect("an outcome is JSON")
        };
        let text = format!("{}\n\n{}\n", line("idle"), line("paced"));
        let outcomes = parse(Path::new("r.jsonl"), text.as_bytes()).expect("good lines");
        let names: Vec<_> = outcomes.iter().map(|outcome| &*outcome.scenario).collect();
        assert_eq!(names, ["idle", "paced"]);
    }

    #[test]
    fn bad_line_is_named_by_file_and_line() {
        let good = serde_json::to_string(&Outcome::default()).expect("an outcome is JSON");
        for bad in ["{", "{}", "[]", "\u{0}", &good.replace("\"round\":0", "\"round\":-1")] {
            let text = format!("{good}\n{bad}\n{good}");
            let error = parse(Path::new("a/r.jsonl"), text.as_bytes()).expect_err(bad);
            assert_eq!(error.to_string(), "a/r.jsonl:2", "{bad}");
            assert!(error.source().is_some(), "says what is wrong");
        }
    }

    #[test]
    fn missing_file_is_named() {
        let error = read_results(Path::new("/nowhere/r.jsonl")).expect_err("no such file");
        assert_eq!(error.to_string(), "/nowhere/r.jsonl");
    }
}
