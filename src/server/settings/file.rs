//! Reads a TOML file into its assignments: key, value and line of each.

use std::{io, path::Path};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::SettingsError;
use crate::auth::bounded_file;

/// One assignment of a file.
#[derive(Debug)]
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: usize,
    /// The dotted key from the root, as in `limits.poll.limit`.
    pub(super) key: String,
    /// Never a table: the values in a table are assignments of their own.
    pub(super) value: toml::Value,
    /// If the value is an array, the line of each of its items.
    pub(super) items: Vec<usize>,
}

/// All assignments of the file, those in tables too.
pub(super) fn read(path: &Path) -> Result<Vec<Line>, SettingsError> {
    let bytes = bounded_file::read(path, FILE_BYTES_MAX).map_err(|source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::FileTooLarge => {
                SettingsError::FileTooLong { path, bytes_max: FILE_BYTES_MAX }
            }
            _ => SettingsError::FileUnreadable { path, source },
        }
    })?;
    let malformed = |offset: usize, reason: &str| {
        let before = &bytes[..offset.min(bytes.len())];
        let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
        SettingsError::FileMalformed {
            path: path.to_owned(),
            line: line_of(before),
            column,
            reason: reason.to_owned(),
        }
    };
    let text =
        std::str::from_utf8(&bytes).map_err(|error| malformed(error.valid_up_to(), "not UTF-8"))?;
    let root = DeTable::parse(text).map_err(|error| {
        malformed(error.span().map_or(0, |span| span.start), error.message().trim())
    })?;
    let mut lines = Vec::new();
    flatten(&bytes, "", root.into_inner(), &mut lines)
        .map_err(|(offset, reason)| malformed(offset, &reason))?;
    lines.sort_by_key(|line| line.number);
    Ok(lines)
}

/// Collects the assignments of a table and of the tables in it. The parser limits how deep they
/// nest.
fn flatten(
    bytes: &[u8],
    prefix: &str,
    table: DeTable<'_>,
    lines: &mut Vec<Line>,
) -> Result<(), (usize, String)> {
    for (name, value) in table {
        let at = name.span().start;
        let key = match prefix {
            "" => name.into_inner().into_owned(),
            _ => format!("{prefix}.{}", name.get_ref()),
        };
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(inner) => flatten(bytes, &key, inner, lines)?,
            leaf => {
                let items = match &leaf {
                    DeValue::Array(items) => {
                        items.iter().map(|item| line_of(&bytes[..item.span().start])).collect()
                    }
                    _ => Vec::new(),
                };
                let value = ValueDeserializer::from(Spanned::new(span, leaf));
                let value = toml::Value::deserialize(value)
                    .map_err(|error| (at, error.message().to_owned()))?;
                lines.push(Line { number: line_of(&bytes[..at]), key, value, items });
            }
        }
    }
    Ok(())
}

fn line_of(before: &[u8]) -> usize {
    before.iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// A settings file has a page or two. One that is longer than this was named by mistake.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
