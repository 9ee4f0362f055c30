//! Reads the log on disk at a start: counts its events, and takes over its other items.

use std::{collections::VecDeque, sync::Arc};

use super::expired_channels::ExpiredChannels;
use crate::{
    backend::{ChannelEntry, ChannelIndex, DirectoryFull, EventStore, Outlines},
    core::{EventOutline, Limits},
    disk::{LogEvent, LogItem, RemovedEvents, StoredKey},
    model::{ChannelName, EventKind, FrameLength, Seq},
};

/// Counts the events of a log, in their order.
pub(super) struct LogCounter {
    store: Arc<EventStore>,
    outlines: Outlines,
    expired: ExpiredChannels,
    frame_length: FrameLength,
    keys_max: usize,
    tombstone_ms: u64,
    keys_from_ms: u64,
    now_ms: u64,
    last: Seq,
    /// Set if the channels do not fit into the directory: then nothing more is counted.
    full: Option<DirectoryFull>,
    keys: VecDeque<StoredKey>,
    events: u64,
    last_hole: Seq,
}

/// The contents of a log.
pub(super) struct Counted {
    pub(super) outlines: Outlines,
    /// The latest idempotency keys.
    pub(super) keys: VecDeque<StoredKey>,
    pub(super) events: u64,
    /// The last seq that was given out and is not in the log.
    pub(super) last_hole: Seq,
}

impl LogCounter {
    pub(super) fn new(store: &Arc<EventStore>, limits: &Limits, now_ms: u64) -> Self {
        Self {
            store: Arc::clone(store),
            outlines: Outlines::new(Arc::clone(store), limits.history.total_bytes_max),
            expired: ExpiredChannels::new(limits.channels.forgotten_max as usize, now_ms),
            frame_length: FrameLength::of_epoch(store.epoch()),
            keys_max: limits.publish.idempotency_keys_max as usize,
            tombstone_ms: u64::from(limits.channels.tombstone_s) * 1_000,
            keys_from_ms: now_ms.saturating_sub(u64::from(limits.publish.idempotency_s) * 1_000),
            now_ms,
            last: Seq::ZERO,
            full: None,
            keys: VecDeque::new(),
            events: 0,
            last_hole: Seq::ZERO,
        }
    }

    /// Takes over what the log remembers of removed events.
    pub(super) fn begin_with(&mut self, removed: &RemovedEvents) -> Result<(), DirectoryFull> {
        self.store.registry().directory().restore_losses(removed.lost(), removed.unnamed());
        for (channel, seq, closed_ms) in removed.closed() {
            let closed_ms = self.accepted_ms(closed_ms);
            if closed_ms + self.tombstone_ms > self.now_ms {
                let index = self.find_or_create(channel)?;
                self.outlines.restore_closed(index, seq, closed_ms);
                self.expire_excess_tombstones();
            }
        }
        for key in removed.keys() {
            self.key(*key);
        }
        Ok(())
    }

    /// Counts the next item of the log. `None` for an event that this version does not know.
    pub(super) fn count(&mut self, item: &LogItem<'_>) -> Option<()> {
        match item {
            _ if self.full.is_some() => return item.recover().map(drop),
            LogItem::Key(key) => self.key(*key),
            LogItem::Event(event) => {
                let frame_bytes = event.frame_bytes(self.frame_length)?;
                let index = match self.outlines.find(event.channel()) {
                    Some(index) => Ok(Some(index)),
                    None => self.channel_of(event)?,
                };
                self.events += 1;
                self.come_to(event.seq());
                match index {
                    Ok(Some(index)) => self.event(index, event, frame_bytes as u32),
                    Ok(None) => {}
                    Err(full) => self.full = Some(full),
                }
            }
        }
        Some(())
    }

    /// The counts of a log that continues after `last`.
    pub(super) fn finish(mut self, last: Seq) -> Result<Counted, DirectoryFull> {
        if let Some(full) = self.full {
            return Err(full);
        }
        self.come_to(last.next());
        self.expired.record(self.store.registry().directory());
        let Self { outlines, keys, events, last_hole, .. } = self;
        Ok(Counted { outlines, keys, events, last_hole })
    }

    /// Notes the seq of the next event.
    fn come_to(&mut self, seq: Seq) {
        if seq.0 > self.last.0 + 1 {
            self.last_hole = Seq(seq.0 - 1);
        }
        self.last = seq;
    }

    fn event(&mut self, index: ChannelIndex, event: &LogEvent<'_>, frame_bytes: u32) {
        let (seq, kind) = (event.seq(), event.kind());
        let accepted_ms = self.accepted_ms(event.time_ms());
        if self.outlines.is_closed(index) {
            // An event after the close: the channel had been created again.
            self.outlines.reopen(index);
        }
        self.outlines.append(index, EventOutline { seq, accepted_ms, frame_bytes }, kind);
        if kind == EventKind::Closed {
            match self.is_tombstone(accepted_ms) {
                true => self.expire_excess_tombstones(),
                false => self.outlines.reopen(index),
            }
        }
    }

    /// The channel of an event which has not been added, unless retention would evict the event at
    /// once: then the channel is not created for it. `None` if it is not the name of a channel.
    fn channel_of(
        &mut self,
        event: &LogEvent<'_>,
    ) -> Option<Result<Option<ChannelIndex>, DirectoryFull>> {
        let (seq, time_ms) = (event.seq(), self.accepted_ms(event.time_ms()));
        let is_tombstone = event.kind() == EventKind::Closed && self.is_tombstone(time_ms);
        if !is_tombstone && self.expired.lose(event.channel(), seq, time_ms) {
            return Some(Ok(None));
        }
        let name = ChannelName::parse(event.channel()).ok()?;
        let directory = self.store.registry().directory();
        let age_max_ms = u64::from(directory.policy_of(&name).history.age_max_s) * 1_000;
        if time_ms + age_max_ms > self.now_ms {
            return Some(self.find_or_create(&name).map(Some));
        }
        self.expired.add(name.clone(), age_max_ms, seq, directory);
        if is_tombstone {
            match self.find_or_create(&name) {
                Ok(index) => self.outlines.restore_closed(index, seq, time_ms),
                Err(full) => return Some(Err(full)),
            }
            self.expire_excess_tombstones();
        }
        Some(Ok(None))
    }

    /// When an event was accepted. A time after now counts as now: the clock was ahead and has been
    /// set back, and the event would otherwise expire too late.
    fn accepted_ms(&self, time_ms: u64) -> u64 {
        time_ms.min(self.now_ms)
    }

    fn is_tombstone(&self, closed_ms: u64) -> bool {
        closed_ms + self.tombstone_ms > self.now_ms
    }

    /// Finds or creates the channel. If the directory is full, channels without retained events are
    /// evicted.
    fn find_or_create(&mut self, name: &ChannelName) -> Result<ChannelIndex, DirectoryFull> {
        if let Some(index) = self.outlines.find(name.as_str()) {
            return Ok(index);
        }
        self.expired.record(self.store.registry().directory());
        let entry = match self.create(name) {
            Err(_) => {
                self.outlines.evict_idle();
                self.create(name)?
            }
            Ok(entry) => entry,
        };
        Ok(self.outlines.add(entry))
    }

    fn create(&self, name: &ChannelName) -> Result<Arc<ChannelEntry>, DirectoryFull> {
        self.store.registry().directory().find_or_create(name, self.now_ms)
    }

    /// Reopens the channels with the oldest tombstones past the cap, as the hub did before it
    /// ended.
    fn expire_excess_tombstones(&mut self) {
        for entry in self.store.registry().tombstones().take_excess() {
            if let Some(index) = self.outlines.find(entry.name().as_str()) {
                self.outlines.reopen(index);
            }
        }
    }

    fn key(&mut self, key: StoredKey) {
        let key = StoredKey { time_ms: self.accepted_ms(key.time_ms), ..key };
        if key.time_ms >= self.keys_from_ms {
            if self.keys.len() >= self.keys_max {
                self.keys.pop_front();
            }
            self.keys.push_back(key);
        }
    }
}
