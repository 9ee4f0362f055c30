//! Fills the histories of a hub with what the log keeps.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::times::VOUCH_WAIT;
use crate::{
    actors::{clock::Clock, seen::Seen},
    backend::{ChannelEntry, EventStore},
    model::{Epoch, Event, EventKind, Position, Seq},
    redis::{Entry, Fence, RedisError, RedisLog},
};

/// Loads a store.
#[derive(Debug, Clone)]
pub(crate) struct Loader {
    pub(crate) store: Arc<EventStore>,
    pub(crate) clock: Clock,
    /// How long a channel stays closed, in milliseconds.
    pub(crate) closed_ms: u64,
}

impl Loader {
    /// The epoch of the log, which begins if the log does not exist. A log whose server was
    /// started anew may have lost events, and goes on in another epoch, unless a hub that has followed it
    /// through that vouches for it in time.
    pub(crate) async fn begin(
        &self,
        log: &mut RedisLog,
        seen: Option<Seen>,
    ) -> Result<Epoch, RedisError> {
        let mut waited = Duration::ZERO;
        loop {
            let state = log.state(Seq::ZERO).await?;
            match state.epoch {
                Some(epoch) if state.is_vouched => return Ok(epoch),
                Some(_) if waited < VOUCH_WAIT => {
                    sleep(VOUCH_LOOK).await;
                    waited += VOUCH_LOOK;
                }
                Some(_) => {
                    tracing::warn!(
                        "the server of the shared log was started anew, and no hub that runs has \
                         followed the log through that; it goes on in another epoch, since events may \
                         be lost, and clients get a gap"
                    );
                    self.begin_epoch(log, state.epoch, seen).await?;
                }
                None => self.begin_epoch(log, None, seen).await?,
            }
        }
    }

    /// Begins another epoch, if the log's is still the expected one. It is later than that and than any
    /// that was seen, whatever the clock says. Its seqs are above any of an epoch before: they begin at a
    /// number that grows with time, faster than events could be published.
    pub(crate) async fn begin_epoch(
        &self,
        log: &mut RedisLog,
        expected: Option<Epoch>,
        seen: Option<Seen>,
    ) -> Result<(), RedisError> {
        // A clock beyond the year 2109 would leave no seqs that the server can count with.
        let now_ms = self.clock.now_ms().min(CLOCK_MS_MAX);
        let before = expected.max(seen.map(|seen| seen.fence.epoch));
        let epoch = Epoch::after(before, now_ms, fastrand::u16(..));
        let highest = seen.map_or(Seq::ZERO, |seen| seen.highest);
        let base = Seq((now_ms << SEQS_PER_MS_LOG2).max(highest.next().0));
        log.begin_epoch(expected, epoch, base).await
    }

    /// Drops what the store has, and loads what the log keeps. `loaded` is called with each entry.
    pub(crate) async fn load(
        &self,
        log: &mut RedisLog,
        seen: Option<Seen>,
        loaded: impl Fn(Fence),
    ) -> Result<Fence, RedisError> {
        for _ in 0..LOADS_MAX {
            if let Some(fence) = self.try_load(log, seen, &loaded).await? {
                return Ok(fence);
            }
        }
        Err(RedisError::Unexpected("the log loses its oldest events faster than they are read"))
    }

    /// Loads once; nothing if what was to be read next has been removed meanwhile.
    async fn try_load(
        &self,
        log: &mut RedisLog,
        seen: Option<Seen>,
        loaded: impl Fn(Fence),
    ) -> Result<Option<Fence>, RedisError> {
        // Before anything is written: a log of another format is left as it is.
        log.check_format().await?;
        let epoch = self.begin(log, seen).await?;
        let state = log.state(Seq::ZERO).await?;
        if state.epoch != Some(epoch) {
            return Ok(None);
        }
        let before_first = state.first.map_or(state.last, |first| Seq(first.0 - 1));
        self.store.reset(epoch, before_first, before_first);
        let mut fence = Fence { epoch, seq: before_first, nonce: None };
        let mut count = PAGE_EVENTS_MIN;
        // What other hubs append meanwhile is left to the tail: there may be no end to it.
        while fence.seq < state.last {
            let entries = log.read(fence.seq, count).await?;
            if entries.is_empty() {
                break;
            }
            count = next_count(&entries, count);
            for (seq, entry) in entries {
                // A log that began another epoch has a jump, and so has one that was cut behind us.
                if seq != fence.seq.next() {
                    let first = log.state(Seq::ZERO).await?.first;
                    if first.is_none_or(|first| first > fence.seq.next()) {
                        return Ok(None);
                    }
                }
                fence = Fence { epoch, seq, nonce: Some(entry.nonce) };
                let (entry, event) = self.event(epoch, seq, entry, true);
                let (kind, closed_ms) = (event.kind, event.accepted_ms);
                self.store.append(&entry, &Arc::new(event));
                self.store.commit(seq);
                if kind == EventKind::Closed && !self.is_tombstone(closed_ms) {
                    self.store.reopen(&entry);
                }
                loaded(fence);
            }
            tokio::task::yield_now().await;
        }
        if fence.seq < state.last {
            fence = Fence { epoch, seq: state.last, nonce: None };
        }
        let head = fence.seq;
        self.store.skip_to(head);
        for (channel, seq, closed_ms) in log.closed().await? {
            if self.is_tombstone(closed_ms) && seq <= head {
                let now_ms = self.clock.now_ms();
                let entry =
                    self.store.registry().directory().find_or_create_always(&channel, now_ms);
                // It was opened again if something came behind its close, whatever this hub's clock says.
                let is_open_again = entry.events().last_seq() > seq.max(before_first);
                if !entry.events().is_closed() && !is_open_again {
                    self.store.restore_closed(&entry, seq, closed_ms.min(now_ms));
                }
            }
        }
        // What came from a later epoch was loaded as if it were of this one.
        let is_same = log.state(head).await?.epoch == Some(epoch);
        Ok(is_same.then_some(fence))
    }

    /// Whether a channel that was closed then is still closed.
    fn is_tombstone(&self, closed_ms: u64) -> bool {
        closed_ms + self.closed_ms > self.clock.now_ms()
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
            self.store.reopen(&entry);
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

/// How many entries to ask for next, by the size of the last ones and how many were asked for: a reply is
/// held in memory as a whole, and the next entries may be as large as an event may be.
pub(super) fn next_count(entries: &[(Seq, Entry)], asked: usize) -> usize {
    if entries.len() < asked {
        return PAGE_EVENTS_MIN;
    }
    let bytes: usize = entries.iter().map(|(_, entry)| entry.draft.len()).sum();
    let largest = entries.iter().map(|(_, entry)| entry.draft.len()).max().unwrap_or_default();
    let typical = (bytes / entries.len().max(1)).max(largest / 8) + 64;
    (PAGE_BYTES / typical).min(2 * asked).clamp(PAGE_EVENTS_MIN, PAGE_EVENTS_MAX)
}

/// Seqs for each millisecond: a million a second.
const SEQS_PER_MS_LOG2: u32 = 10;
/// The server's scripts count in doubles, up to 2^53.
const CLOCK_MS_MAX: u64 = 1 << 42;
const VOUCH_LOOK: Duration = Duration::from_millis(100);
/// How often a load begins anew since the log was cut behind it.
const LOADS_MAX: usize = 5;
/// Bytes of one reply, about.
const PAGE_BYTES: usize = 4 << 20;
/// After a page that was not full, whatever the size of its entries.
pub(super) const PAGE_EVENTS_MIN: usize = 64;
const PAGE_EVENTS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChannelName, Draft, NewEvent};

    fn page(entries: usize, bytes: usize) -> Vec<(Seq, Entry)> {
        let entry = |_: usize| Entry {
            nonce: [0; 8],
            previous: None,
            kind: EventKind::Published,
            time_ms: 0,
            channel: ChannelName::parse("a").expect("a name"),
            draft: Draft::new(&NewEvent::message(&*"x".repeat(bytes))),
        };
        (0..entries).map(|seq| (Seq(seq as u64), entry(seq))).collect()
    }

    #[test]
    fn pages_grow_while_they_are_full_and_small() {
        let mut counts = vec![PAGE_EVENTS_MIN];
        while counts.len() < 6 {
            let asked = counts[counts.len() - 1];
            counts.push(next_count(&page(asked, 10), asked));
        }
        assert_eq!(counts, [64, 128, 256, 512, 1_000, 1_000]);
        // At the end of the log the next entries may be of any size.
        assert_eq!(next_count(&page(999, 10), 1_000), 64);
        assert_eq!(next_count(&page(1_000, 10_000), 1_000), 416);
        assert_eq!(next_count(&page(64, 200_000), 64), 64);
    }
}
