//! How many living subscriptions have which pattern, for the counts that channels show.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use dashmap::DashMap;

use crate::{
    core::Transport,
    model::{ChannelName, ChannelPattern},
};

/// Streams and waiting polls by pattern. Asking costs a match for each distinct pattern, so it is
/// for the info routes, not for the way of an event.
#[derive(Debug, Default)]
pub struct Watchers(DashMap<ChannelPattern, Counts>);

#[derive(Debug, Default)]
struct Counts {
    streams: AtomicU32,
    pollers: AtomicU32,
}

impl Counts {
    fn of(&self, transport: Transport) -> &AtomicU32 {
        match transport {
            Transport::Stream => &self.streams,
            Transport::Poll => &self.pollers,
        }
    }
}

/// A pattern of a living subscription, counted as long as this lives.
#[derive(Debug)]
pub struct CountedPattern {
    watchers: Arc<Watchers>,
    pattern: ChannelPattern,
    transport: Transport,
}

impl Watchers {
    /// Counts one more subscription to `pattern`.
    pub fn count(
        self: &Arc<Self>,
        pattern: ChannelPattern,
        transport: Transport,
    ) -> CountedPattern {
        let counts = self.0.entry(pattern.clone()).or_default();
        counts.of(transport).fetch_add(1, Ordering::Relaxed);
        CountedPattern { watchers: Arc::clone(self), pattern, transport }
    }

    /// Streams and polls whose patterns match `name`.
    pub fn matching(&self, name: &ChannelName) -> (u32, u32) {
        let matching = self.0.iter().filter(|counts| counts.key().matches(name));
        matching.fold((0, 0), |(streams, pollers), counts| {
            (
                streams + counts.streams.load(Ordering::Relaxed),
                pollers + counts.pollers.load(Ordering::Relaxed),
            )
        })
    }
}

impl Drop for CountedPattern {
    fn drop(&mut self) {
        if let Some(counts) = self.watchers.0.get(&self.pattern) {
            counts.of(self.transport).fetch_sub(1, Ordering::Relaxed);
        }
        let unused = |counts: &Counts| {
            counts.streams.load(Ordering::Relaxed) == 0
                && counts.pollers.load(Ordering::Relaxed) == 0
        };
        self.watchers.0.remove_if(&self.pattern, |_, counts| unused(counts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_counts_for_the_channels_it_matches_while_it_lives() {
        let watchers = Arc::new(Watchers::default());
        let pattern = |text| ChannelPattern::parse(text).expect("a pattern");
        let name = ChannelName::parse("a/b").expect("a name");
        let stream = watchers.count(pattern("a/*"), Transport::Stream);
        let poll = watchers.count(pattern("**"), Transport::Poll);
        let _other = watchers.count(pattern("c/*"), Transport::Stream);
        assert_eq!(watchers.matching(&name), (1, 1));
        drop(stream);
        drop(poll);
        assert_eq!(watchers.matching(&name), (0, 0));
        assert_eq!(watchers.0.len(), 1);
    }
}
