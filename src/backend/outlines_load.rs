//! Builds the events of counted histories that stay in memory: they are read from the log once
//! more.

use std::sync::Arc;

use thiserror::Error;

use super::{channel::ChannelEntry, journal::Journal, outlines::Outlines};
use crate::{
    disk::{Directory, LogReader, LogSearch, ReadError, RecoveredEvent},
    model::{ChannelName, Seq},
};

/// The events that stay in memory could not be read.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The disk failed.
    #[error(transparent)]
    Failed(#[from] ReadError),
    /// Events that were counted are no longer in the log.
    #[error("the log has changed while it was read")]
    Changed,
}

impl Outlines {
    /// Puts the histories into the store, with the events that stay in memory, and moves its head
    /// to `head`. For an event whose time is after `now_ms`, `now_ms` counts. Blocks.
    ///
    /// # Errors
    /// A disk that fails, or a log that is not as it was when it was counted.
    pub fn load<D: Directory>(
        mut self,
        log: &LogReader<D>,
        head: Seq,
        now_ms: u64,
    ) -> Result<(), LoadError> {
        let mut order = std::mem::take(&mut self.order);
        order.retain(|(seq, index)| self.is_in_memory(*seq, *index));
        let (begin, last) = self.run;
        let journal_after = match head > last {
            // The journal is empty: the log continues after a hole.
            true => last,
            false => begin.max(self.unloaded_through).max(Journal::reach_back(last)),
        };
        let channels = std::mem::take(&mut self.channels).into_iter();
        let mut loading = Loading {
            entries: channels.map(|channel| channel.map(|it| it.hand_over())).collect(),
            in_memory: order.into(),
            loaded: 0,
            journal_after,
            last,
            now_ms,
            outlines: self,
        };
        loading.read(log)?;
        if loading.loaded < loading.in_memory.len() {
            return Err(LoadError::Changed);
        }
        loading.outlines.store.skip_to(head);
        Ok(())
    }
}

/// A load under way.
struct Loading {
    outlines: Outlines,
    entries: Vec<Option<Arc<ChannelEntry>>>,
    /// The events that stay in memory, in log order.
    in_memory: Vec<(Seq, u32)>,
    /// How many of them have been read.
    loaded: usize,
    /// The journal has all events after this seq.
    journal_after: Seq,
    last: Seq,
    now_ms: u64,
}

impl Loading {
    fn read<D: Directory>(&mut self, log: &LogReader<D>) -> Result<(), ReadError> {
        let Outlines { store, evictions, unloaded_through, .. } = &self.outlines;
        store.begin_with(self.journal_after, *evictions, *unloaded_through);
        // Before the journal only events that stay in memory are read.
        while let Some(seqs) = self.seqs_before_journal() {
            let (after, through) = (Seq(seqs[0].0 - 1), seqs[seqs.len() - 1]);
            self.read_through(log, after, through, Some(&seqs))?;
            if self.in_memory.get(self.loaded).is_some_and(|(seq, _)| *seq <= through) {
                return Ok(());
            }
        }
        self.read_through(log, self.journal_after, self.last, None)
    }

    /// The next events to read that are before the journal, as many as one search looks for.
    fn seqs_before_journal(&self) -> Option<Vec<Seq>> {
        let left = self.in_memory[self.loaded..].iter().map(|(seq, _)| *seq);
        let seqs: Vec<Seq> =
            left.take_while(|seq| *seq <= self.journal_after).take(EVENTS_PER_READ).collect();
        (!seqs.is_empty()).then_some(seqs)
    }

    /// Reads the events of a range that stay in memory, and those that the journal notes.
    fn read_through<D: Directory>(
        &mut self,
        log: &LogReader<D>,
        mut after: Seq,
        through: Seq,
        seqs: Option<&[Seq]>,
    ) -> Result<(), ReadError> {
        while after < through {
            let search = LogSearch {
                after,
                through,
                events_max: EVENTS_PER_READ,
                bytes_max: usize::MAX,
                channels: None,
                seqs,
            };
            let mut left = &self.in_memory[self.loaded..];
            let found = log.search(&search, |seq, name| {
                while left.first().is_some_and(|(first, _)| *first < seq) {
                    left = &left[1..];
                }
                match left.first() {
                    Some((first, index)) if *first == seq => Some(self.name(*index)?.clone()),
                    _ if seq > self.journal_after => self.name_of_other(name),
                    _ => None,
                }
            })?;
            for event in found.events {
                self.take(event);
            }
            after = found.through;
        }
        Ok(())
    }

    fn name(&self, index: u32) -> Option<&ChannelName> {
        self.entries[index as usize].as_ref().map(|entry| entry.name())
    }

    /// The name of a channel whose event is not in memory; it may have been evicted.
    fn name_of_other(&self, name: &str) -> Option<ChannelName> {
        let index = self.outlines.indexes.get(name);
        let known = index.and_then(|index| self.name(*index)).cloned();
        known.or_else(|| ChannelName::parse(name).ok())
    }

    fn take(&mut self, event: RecoveredEvent) {
        let store = &self.outlines.store;
        let is_in_journal = event.seq > self.journal_after;
        let next = self.in_memory.get(self.loaded).filter(|(seq, _)| *seq == event.seq);
        if let Some((_, index)) = next
            && let Some(entry) = &self.entries[*index as usize]
        {
            self.loaded += 1;
            store.restore_event(entry, event, is_in_journal, self.now_ms);
        } else if is_in_journal {
            store.restore_evicted(event.seq, event.channel);
        }
    }
}

/// Events that one search of the log looks for.
const EVENTS_PER_READ: usize = if cfg!(test) { 3 } else { 4_096 };
