//! What a subscription wants of the log on disk.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::channel::ChannelEntry;
use crate::{
    disk::ChannelHash,
    model::{ChannelName, ChannelPattern},
};

/// The channels and patterns of a reader.
#[derive(Debug)]
pub(super) struct LogFilter {
    pub(super) named: Vec<Arc<ChannelEntry>>,
    pub(super) patterns: Vec<ChannelPattern>,
    /// The hashes of the named channels; `None` with patterns, since these may match any channel.
    pub(super) hashes: Option<Vec<ChannelHash>>,
}

impl LogFilter {
    pub(super) fn new<'a>(
        patterns: &[ChannelPattern],
        named: impl Iterator<Item = &'a Arc<ChannelEntry>>,
    ) -> Self {
        let named: Vec<_> = named.cloned().collect();
        let hashes = patterns.is_empty().then(|| {
            let hash = |entry: &Arc<ChannelEntry>| ChannelHash::of(entry.name().as_str());
            let mut hashes: Vec<_> = named.iter().map(hash).collect();
            hashes.sort_unstable();
            hashes
        });
        Self { named, patterns: patterns.to_vec(), hashes }
    }

    fn find(&self, name: &str) -> Option<ChannelName> {
        if let Some(entry) = self.named.iter().find(|entry| entry.name().as_str() == name) {
            return Some(entry.name().clone());
        }
        let name = ChannelName::parse(name).ok().filter(|_| !self.patterns.is_empty())?;
        self.patterns.iter().any(|pattern| pattern.matches(&name)).then_some(name)
    }
}

/// Compares each name of one read with the filter once.
pub(super) struct Selector<'a> {
    filter: &'a LogFilter,
    seen: FxHashMap<Box<str>, Option<ChannelName>>,
}

impl<'a> Selector<'a> {
    pub(super) fn new(filter: &'a LogFilter) -> Self {
        Self { filter, seen: FxHashMap::default() }
    }

    /// The channel, if it is wanted.
    pub(super) fn select(&mut self, name: &str) -> Option<ChannelName> {
        if let Some(found) = self.seen.get(name) {
            return found.clone();
        }
        if self.seen.len() == NAMES_MAX {
            self.seen.clear();
        }
        let found = self.filter.find(name);
        self.seen.insert(name.into(), found.clone());
        found
    }
}

/// Names for which one read remembers whether they are wanted.
const NAMES_MAX: usize = 1_024;
