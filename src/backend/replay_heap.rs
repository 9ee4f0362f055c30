//! Collects the channels that have events for a subscription, in pieces: a hub may have a hundred
//! thousand channels, and other tasks run between two pieces. No lock is held then.
//!
//! Only events up to the head at its beginning are looked for: events that are published meanwhile,
//! also to new channels, come after that head. A channel that is evicted before the walk reaches it
//! has lost its events. It is then among the evicted channels, which are visited last. A loss of a
//! channel that the walk has passed is found when the channel is read.

use std::{collections::BinaryHeap, sync::Arc};

use super::{
    channel::ChannelEntry,
    directory::Directory,
    losses::{KnownLosses, Lost},
    replay::{Next, Replay},
    walk::Walk,
};
use crate::{
    core::FellOff,
    model::{ChannelPattern, Seq},
};

/// The channels of a subscription with their next events, as far as they are collected.
#[derive(Debug)]
pub(super) struct ReplayHeap {
    known: KnownLosses,
    after: Seq,
    /// The end of the range in which it looks for events.
    through: Seq,
    /// It has every channel with an event up to this seq.
    horizon: Seq,
    /// Channels by their next event, those whose next events are the oldest.
    oldest: BinaryHeap<Next>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Named,
    Names(Walk),
    Evicted(Walk),
}

impl ReplayHeap {
    /// A heap of the channels that have events after `after` and up to `through`. It has not
    /// looked at any.
    pub(super) fn new(known: KnownLosses, after: Seq, through: Seq) -> Self {
        let oldest = BinaryHeap::new();
        Self { known, after, through, horizon: through, oldest, stage: Stage::Named }
    }

    /// The reader has all events up to this seq.
    pub(super) fn after(&self) -> Seq {
        self.after
    }

    /// The end of the range in which it looks for events.
    pub(super) fn through(&self) -> Seq {
        self.through
    }

    /// Looks at the next channels; true when it has looked at all. The caller gives the same
    /// subscription at each look.
    pub(super) fn collect_some<'a>(
        &mut self,
        directory: &Directory,
        patterns: &[ChannelPattern],
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
    ) -> Result<bool, Lost> {
        let names_max = Walk::names_per_look(patterns);
        match &mut self.stage {
            Stage::Named => {
                named.clone().try_for_each(|entry| self.consider(entry))?;
                self.stage = Stage::Names(Walk::new(patterns));
                Ok(false)
            }
            Stage::Names(walk) => {
                let entries = directory.next_names(walk, names_max);
                if walk.is_over() {
                    // Evicted channels come last, so that a channel evicted during the walk is
                    // found.
                    self.stage = Stage::Evicted(Walk::new(patterns));
                }
                for entry in &entries {
                    let name = entry.name();
                    if patterns.iter().any(|pattern| pattern.matches(name))
                        && !named.clone().any(|named| named.id() == entry.id())
                    {
                        self.consider(entry)?;
                    }
                }
                Ok(false)
            }
            Stage::Evicted(walk) => {
                let evicted = directory.evicted_channels();
                match evicted.any_lost(walk, names_max, patterns, self.after, self.known) {
                    true => Err(Lost(None)),
                    false => Ok(walk.is_over()),
                }
            }
        }
    }

    /// The merge of what it has found.
    pub(super) fn merge(self) -> Replay {
        Replay::new(self.oldest, self.after, self.horizon)
    }

    fn consider(&mut self, entry: &Arc<ChannelEntry>) -> Result<(), Lost> {
        let next = entry.events().next_after(self.after, self.known);
        let seq = next.map_err(|FellOff| Lost(Some(entry.name().clone())))?;
        if let Some(seq) = seq.filter(|seq| *seq <= self.horizon) {
            self.oldest.push(Next::new(seq, entry));
            if self.oldest.len() > CHANNELS_MAX
                && let Some(newest) = self.oldest.pop()
            {
                self.horizon = newest.seq_before();
            }
        }
        Ok(())
    }
}

/// Channels of one merge, 16 bytes each.
const CHANNELS_MAX: usize = if cfg!(test) { 3 } else { 4_096 };
