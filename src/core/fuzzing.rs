//! Fuzz target of the pattern index: a look-up must find the same patterns as matching each by
//! itself.

use std::collections::BTreeMap;

use super::{PatternId, PatternIndex};
use crate::model::{ChannelName, ChannelPattern, fuzzing::matches_by_table};

/// Lines of text: `+PATTERN` inserts, `-PATTERN` removes, any other line is a name to look up.
pub(crate) fn index(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut index: PatternIndex<Vec<String>> = PatternIndex::default();
    let mut ids: BTreeMap<String, PatternId> = BTreeMap::new();
    for line in text.lines().take(64) {
        if let Some(text) = line.strip_prefix('+') {
            let Ok(pattern) = ChannelPattern::parse(text) else { continue };
            if ids.contains_key(text) {
                continue;
            }
            let (id, texts) = index.entry(&pattern, Vec::new);
            texts.push(text.to_owned());
            ids.insert(text.to_owned(), id);
            assert_eq!(index.find(&pattern), Some(id));
        } else if let Some(text) = line.strip_prefix('-') {
            let Some(id) = ids.get(text).copied() else { continue };
            // Patterns that match the same names have one entry, and are removed together.
            let gone = index.remove(id).expect("it was inserted");
            assert!(gone.iter().all(|text| ids.remove(text) == Some(id)), "{gone:?}");
            assert!(index.remove(id).is_none());
        } else if let Ok(name) = ChannelName::parse(line) {
            let mut found = Vec::new();
            index.each_match(&name, |_, texts| found.extend(texts.iter().cloned()));
            found.sort_unstable();
            let segments: Vec<&str> = name.segments().collect();
            let fits =
                |text: &&String| matches_by_table(&text.split('/').collect::<Vec<_>>(), &segments);
            let expected: Vec<String> = ids.keys().filter(fits).cloned().collect();
            assert_eq!(found, expected, "{name}");
        }
    }
    for id in ids.into_values() {
        index.remove(id);
    }
    assert!(index.is_empty());
}
