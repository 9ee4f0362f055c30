//! Reads a piece of a subscription from the log on disk. It blocks, so it is not for the threads
//! that serve connections.

use std::sync::Arc;

use thiserror::Error;

use super::{
    channel::ChannelEntry,
    event_store::EventStore,
    log_filter::{LogFilter, Selector},
    losses::{KnownLosses, Losses},
    piece::{Piece, SeqRange},
    reader::{HistoryReader, ReadStage},
    replay::Next,
};
use crate::{
    disk::{Directory, LogReader, LogSearch, ReadError, RecoveredEvent},
    model::{ChannelName, ChannelPattern, Event, Seq},
};

/// A read of the log on disk.
#[derive(Debug)]
pub struct LogRead {
    wanted: Wanted,
    known: KnownLosses,
    range: SeqRange,
    /// Whether all events of the range had left memory when `disk_through` was set. If so, only a
    /// loss of events on disk can be unknown to the reader.
    left_memory: bool,
}

/// What a reader wants of the log.
#[derive(Debug)]
enum Wanted {
    /// All events of these channels.
    Channels(Arc<LogFilter>),
    /// These events, which a search has found.
    Events(Arc<[Next]>),
}

/// What a channel has lost: in total, and of the events that were on disk alone when they were
/// lost.
#[derive(Debug, Clone, Copy)]
struct ChannelLosses {
    all: Losses,
    on_disk: Losses,
}

impl ChannelLosses {
    fn of(entry: &ChannelEntry) -> Self {
        // `all` is read first, under the lock of the history. An eviction notes its losses on disk
        // before it releases that lock, so `on_disk` then has all of these that are in `all`.
        let all = entry.events().losses();
        Self { all, on_disk: entry.events().losses_on_disk() }
    }
}

/// A piece could not be read from the log on disk.
#[derive(Debug, Error)]
pub enum LogReadError {
    /// Events after the cursor have been evicted.
    #[error("events after the position have been evicted")]
    FellOff,
    /// The disk failed, or the log is closed.
    #[error(transparent)]
    Failed(#[from] ReadError),
}

impl EventStore {
    /// The read of the log on disk that a reader continues with, up to `through`:
    /// [`read`](Self::read) has sent it there.
    pub fn log_read<'a>(
        &self,
        patterns: &[ChannelPattern],
        named: impl Iterator<Item = &'a Arc<ChannelEntry>>,
        reader: &mut HistoryReader,
        range: &SeqRange,
        through: Seq,
    ) -> LogRead {
        let found = match &reader.stage {
            ReadStage::Found(found) => Some(found.events()),
            _ => None,
        };
        let wanted = match found {
            Some(found) => Wanted::Events(Arc::clone(found)),
            None => {
                let filter = || Arc::new(LogFilter::new(patterns, named));
                Wanted::Channels(Arc::clone(reader.filter.get_or_insert_with(filter)))
            }
        };
        LogRead {
            wanted,
            known: reader.known,
            left_memory: through <= reader.disk_through,
            range: SeqRange { through: range.through.min(through), ..*range },
        }
    }

    /// Reads a piece from the log on disk. As with a read from memory the reader then has all
    /// events of the subscription up to the piece's `through`. Behind it there may be further
    /// events, and lost ones.
    ///
    /// # Errors
    /// Events of the range that are gone and that the reader does not know of, or a disk that
    /// fails.
    pub fn read_log<D: Directory>(
        &self,
        log: &LogReader<D>,
        read: &LogRead,
    ) -> Result<Piece, LogReadError> {
        let LogRead { wanted, known, range, left_memory } = read;
        let filter = match wanted {
            Wanted::Channels(filter) => filter,
            Wanted::Events(found) => return self.read_found(log, found, *known, range),
        };
        let unknown = |losses: &ChannelLosses, after| match left_memory {
            true => losses.on_disk.are_unknown(after, *known),
            false => losses.all.are_unknown(after, *known),
        };
        let mut selector = Selector::new(filter);
        let search = LogSearch {
            after: range.after,
            through: range.through,
            events_max: range.events_max,
            bytes_max: range.bytes_max,
            channels: filter.hashes.as_deref(),
            seqs: None,
        };
        let found = log.search(&search, |_, name| selector.select(name))?;
        // Losses are looked at after the log is read: an event that it no longer had was evicted
        // before.
        for entry in &filter.named {
            if unknown(&ChannelLosses::of(entry), range.after) {
                return Err(LogReadError::FellOff);
            }
        }
        let starts_before_log =
            self.first_on_disk().is_some_and(|first| range.after.next() < first);
        if starts_before_log && !filter.patterns.is_empty() {
            // A read from memory finds which channels have lost events.
            return Ok(Piece { events: Vec::new(), through: range.after, more: true });
        }
        let mut events = Vec::with_capacity(found.events.len());
        let mut last: Option<(ChannelName, ChannelLosses)> = None;
        for event in found.events {
            let losses = match &last {
                Some((channel, losses)) if *channel == event.channel => *losses,
                _ => self.losses_of(filter, &event),
            };
            last = Some((event.channel.clone(), losses));
            if losses.all.through < event.seq {
                events.push(Arc::new(self.restore(event)));
            } else if unknown(&losses, Seq(event.seq.0 - 1)) {
                // The events before the loss are sent first.
                let through = Seq(event.seq.0 - 1);
                return match events.is_empty() {
                    true => Err(LogReadError::FellOff),
                    false => Ok(Piece { events, through, more: true }),
                };
            }
        }
        Ok(Piece { events, through: found.through, more: true })
    }

    /// What the channel of an event has lost. One that was evicted has lost all that it had.
    fn losses_of(&self, filter: &LogFilter, event: &RecoveredEvent) -> ChannelLosses {
        let directory = self.registry().directory();
        let named = filter.named.iter().find(|entry| *entry.name() == event.channel);
        if let Some(entry) = named {
            return ChannelLosses::of(entry);
        }
        match directory.find(&event.channel) {
            Some(entry) => ChannelLosses::of(&entry),
            None => {
                let losses = directory.evicted_channels().recall(&event.channel);
                let all = Losses { through: losses.through.max(event.seq), ..losses };
                ChannelLosses { all, on_disk: all }
            }
        }
    }

    /// The event as it was when readers first saw it.
    pub fn restore(&self, event: RecoveredEvent) -> Event {
        let RecoveredEvent { seq, time_ms, kind, channel, draft } = event;
        let position = self.position(seq);
        Event {
            seq,
            epoch: position.epoch,
            time_ms,
            accepted_ms: time_ms,
            channel,
            kind,
            frame: draft.finish(position),
        }
    }
}
