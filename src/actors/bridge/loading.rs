//! Fills the histories of a hub with what the log keeps.

use std::sync::Arc;

use crate::{
    actors::clock::Clock,
    backend::{ChannelEntry, EventStore},
    model::{Epoch, Event, EventKind, Position, Seq},
    redis::{Entry, Fence, Nonce, RedisError, RedisLog},
};

/// Loads a store.
#[derive(Debug, Clone)]
pub(crate) struct Loader {
    pub(crate) store: Arc<EventStore>,
    pub(crate) clock: Clock,
    /// How long a channel stays closed, in milliseconds.
    pub(crate) closed_ms: u64,
}

/// What has been loaded so far.
struct Loaded {
    at: Seq,
    nonce: Option<Nonce>,
}

impl Loader {
    /// Begins the log if it does not exist.
    pub(crate) async fn begin(&self, log: &mut RedisLog) -> Result<Epoch, RedisError> {
        loop {
            if let Some(epoch) = log.state(Seq::ZERO).await?.epoch {
                return Ok(epoch);
            }
            self.begin_epoch(log, None).await?;
        }
    }

    /// Begins another epoch, if the log's is still the expected one. Its seqs are above any of an epoch
    /// before: they begin at a number that grows with time, faster than events could be published.
    pub(super) async fn begin_epoch(
        &self,
        log: &mut RedisLog,
        expected: Option<Epoch>,
    ) -> Result<(), RedisError> {
        let now_ms = self.clock.now_ms();
        let base = Seq((now_ms << SEQS_PER_MS_LOG2).max(self.store.head().0 + 1));
        log.begin_epoch(expected, Epoch::new(now_ms, fastrand::u16(..)), base).await
    }

    /// Drops what the store has, and loads what the log keeps.
    pub(crate) async fn load(&self, log: &mut RedisLog) -> Result<Fence, RedisError> {
        for _ in 0..LOADS_MAX {
            if let Some(fence) = self.try_load(log).await? {
                return Ok(fence);
            }
        }
        Err(RedisError::Unexpected("the log loses its oldest events faster than they are read"))
    }

    /// Loads once; nothing if what was to be read next has been removed meanwhile.
    async fn try_load(&self, log: &mut RedisLog) -> Result<Option<Fence>, RedisError> {
        let epoch = self.begin(log).await?;
        let state = log.state(Seq::ZERO).await?;
        if state.epoch != Some(epoch) {
            return Ok(None);
        }
        let floor = state.first.map_or(state.last, |first| Seq(first.0 - 1));
        self.store.reset(epoch, floor, floor);
        let mut loaded = Loaded { at: floor, nonce: None };
        let mut count = PAGE_EVENTS_MIN;
        loop {
            let entries = log.read(loaded.at, count).await?;
            if entries.is_empty() {
                break;
            }
            count = next_count(&entries);
            for (seq, entry) in entries {
                // A log that began another epoch has a jump, and so has one that was cut behind us.
                if seq != loaded.at.next() {
                    let first = log.state(Seq::ZERO).await?.first;
                    if first.is_none_or(|first| first > loaded.at.next()) {
                        return Ok(None);
                    }
                }
                loaded = Loaded { at: seq, nonce: Some(entry.nonce) };
                let (entry, event) = self.event(epoch, seq, entry, true);
                self.store.append(&entry, &Arc::new(event));
                self.store.commit(seq);
            }
            tokio::task::yield_now().await;
        }
        let head = loaded.at.max(state.last);
        self.store.skip_to(head);
        for (channel, seq, closed_ms) in log.closed().await? {
            if closed_ms + self.closed_ms > self.clock.now_ms() && seq <= head {
                let now_ms = self.clock.now_ms();
                let entry =
                    self.store.registry().directory().find_or_create_always(&channel, now_ms);
                if !entry.events().is_closed() {
                    self.store.restore_closed(&entry, seq, closed_ms.min(now_ms));
                }
            }
        }
        let nonce = loaded.nonce.filter(|_| loaded.at == head);
        Ok(Some(Fence { epoch, seq: head, nonce }))
    }

    /// The event of an entry, and its channel. A channel that is closed here is open again if the log
    /// has taken another event of it.
    pub(super) fn event(
        &self,
        epoch: Epoch,
        seq: Seq,
        entry: Entry,
        is_old: bool,
    ) -> (Arc<ChannelEntry>, Event) {
        let Entry { kind, time_ms, channel, draft, .. } = entry;
        let now_ms = self.clock.now_ms();
        let entry = self.store.registry().directory().find_or_create_always(&channel, now_ms);
        if entry.events().is_closed() && kind == EventKind::Published {
            self.store.evict_all(&entry);
            entry.events().reopen();
        }
        let event = Event {
            seq,
            epoch,
            time_ms,
            accepted_ms: if is_old { time_ms.min(now_ms) } else { now_ms },
            channel: entry.name().clone(),
            kind,
            frame: draft.finish(Position { epoch, seq }),
        };
        (entry, event)
    }
}

/// How many entries to ask for next, by the size of the last ones: a reply is held in memory as a
/// whole.
pub(super) fn next_count(entries: &[(Seq, Entry)]) -> usize {
    let bytes: usize = entries.iter().map(|(_, entry)| entry.draft.len()).sum();
    let largest = entries.iter().map(|(_, entry)| entry.draft.len()).max().unwrap_or_default();
    let typical = (bytes / entries.len().max(1)).max(largest / 8) + 64;
    (PAGE_BYTES / typical).clamp(PAGE_EVENTS_MIN, PAGE_EVENTS_MAX)
}

/// Seqs for each millisecond: a million a second.
const SEQS_PER_MS_LOG2: u32 = 10;
/// How often a load begins anew since the log was cut behind it.
const LOADS_MAX: usize = 5;
/// Bytes of one reply, about.
const PAGE_BYTES: usize = 4 << 20;
pub(super) const PAGE_EVENTS_MIN: usize = 16;
const PAGE_EVENTS_MAX: usize = 1_000;
