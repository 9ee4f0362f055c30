//! Counts the living subscriptions of each pattern, for the subscriber counts of channels.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{
    core::{PatternId, PatternIndex, Transport},
    model::{ChannelName, ChannelPattern},
};

/// Streams and waiting polls by pattern. The counts for a channel take one look-up, however many
/// patterns there are.
#[derive(Debug, Default)]
pub struct PatternCounts(Mutex<PatternIndex<Counts>>);

#[derive(Debug)]
struct Counts {
    pattern: ChannelPattern,
    streams: u32,
    pollers: u32,
}

impl Counts {
    fn of(&mut self, transport: Transport) -> &mut u32 {
        match transport {
            Transport::Stream => &mut self.streams,
            Transport::Poll => &mut self.pollers,
        }
    }
}

/// A pattern of a living subscription, counted as long as this lives.
#[derive(Debug)]
pub struct CountedPattern {
    pattern_counts: Arc<PatternCounts>,
    id: PatternId,
    transport: Transport,
}

impl PatternCounts {
    /// Counts one more subscription to `pattern`.
    pub fn count(
        self: &Arc<Self>,
        pattern: &ChannelPattern,
        transport: Transport,
    ) -> CountedPattern {
        let mut index = self.0.lock();
        let (id, counts) =
            index.entry(pattern, || Counts { pattern: pattern.clone(), streams: 0, pollers: 0 });
        *counts.of(transport) += 1;
        CountedPattern { pattern_counts: Arc::clone(self), id, transport }
    }

    /// All patterns in the order of their texts, with their streams and polls; `None` if the texts
    /// have more than `bytes_max` bytes.
    pub fn all(&self, bytes_max: usize) -> Option<Vec<(ChannelPattern, u32, u32)>> {
        let index = self.0.lock();
        let bytes: usize = index.values().map(|counts| counts.pattern.as_str().len()).sum();
        let count = |counts: &Counts| (counts.pattern.clone(), counts.streams, counts.pollers);
        let mut all: Vec<_> = (bytes <= bytes_max).then(|| index.values().map(count).collect())?;
        drop(index);
        all.sort_unstable_by(|(a, ..), (b, ..)| a.as_str().cmp(b.as_str()));
        Some(all)
    }

    /// Streams and polls whose patterns match `name`.
    pub fn matching(&self, name: &ChannelName) -> (u32, u32) {
        let (mut streams, mut pollers) = (0, 0);
        self.0.lock().each_match(name, |_, counts| {
            streams += counts.streams;
            pollers += counts.pollers;
        });
        (streams, pollers)
    }
}

impl Drop for CountedPattern {
    fn drop(&mut self) {
        let mut index = self.pattern_counts.0.lock();
        let Some(counts) = index.get_mut(self.id) else { return };
        *counts.of(self.transport) -= 1;
        if counts.streams == 0 && counts.pollers == 0 {
            index.remove(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_counts_for_the_channels_it_matches_while_it_lives() {
        let pattern_counts = Arc::new(PatternCounts::default());
        let pattern = |text| ChannelPattern::parse(text).expect("a pattern");
        let name = ChannelName::parse("a/b").expect("a name");
        let stream = pattern_counts.count(&pattern("a/*"), Transport::Stream);
        let poll = pattern_counts.count(&pattern("**"), Transport::Poll);
        let _other = pattern_counts.count(&pattern("c/*"), Transport::Stream);
        assert_eq!(pattern_counts.matching(&name), (1, 1));
        let all = [("**", 0, 1), ("a/*", 1, 0), ("c/*", 1, 0)];
        let all = all.map(|(text, streams, pollers)| (pattern(text), streams, pollers));
        assert_eq!(pattern_counts.all(8).as_deref(), Some(&all[..]));
        assert_eq!(pattern_counts.all(7), None, "their texts have 8 bytes");
        drop(stream);
        drop(poll);
        assert_eq!(pattern_counts.matching(&name), (0, 0));
        assert_eq!(pattern_counts.0.lock().len(), 1);
    }
}
