//! Loads the entries that the shared log keeps into the histories of a hub.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::times::VOUCH_WAIT;
use crate::{
    actors::{clock::Clock, seen::Seen},
    backend::{ChannelEntry, EventStore, LostThrough},
    model::{Epoch, Event, EventKind, Position, Seq},
    redis::{Entry, Fence, RedisError, RedisLog},
};

/// Loads the log into a store.
#[derive(Debug, Clone)]
pub(crate) struct Loader {
    pub(crate) store: Arc<EventStore>,
    pub(crate) clock: Clock,
    /// How long a channel stays closed, in milliseconds.
    pub(crate) closed_ms: u64,
}

impl Loader {
    /// The epoch of the log; a log that does not exist is begun. After a restart of the server
    /// events may be missing: waits [`VOUCH_WAIT`] for a hub that followed the log across the
    /// restart to confirm it, and otherwise begins a new epoch.
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
                        "Redis was restarted, and no running hub has confirmed that it kept every \
                         event: beginning a new epoch; clients get a gap"
                    );
                    self.begin_epoch(log, state.epoch, seen).await?;
                }
                None => self.begin_epoch(log, None, seen).await?,
            }
        }
    }

    /// Begins a new epoch, if the current one is still `expected`. The new epoch is later than that
    /// one and than any that this hub has seen, whatever the clock says. Its seqs are above those
    /// of all earlier epochs: they begin at a number that grows with time, faster than events could
    /// be published.
    pub(crate) async fn begin_epoch(
        &self,
        log: &mut RedisLog,
        expected: Option<Epoch>,
        seen: Option<Seen>,
    ) -> Result<(), RedisError> {
        // A clock past the year 2109 would give seqs that the server cannot count with.
        let now_ms = self.clock.now_ms().min(CLOCK_MS_MAX);
        let before = expected.max(seen.map(|seen| seen.fence.epoch));
        let epoch = Epoch::after(before, now_ms, fastrand::u16(..));
        let highest = seen.map_or(Seq::ZERO, |seen| seen.highest);
        let base = Seq((now_ms << SEQS_PER_MS_LOG2).max(highest.next().0));
        log.begin_epoch(expected, epoch, base).await
    }

    /// Empties the store, and loads the entries that the log keeps. `loaded` is called with each
    /// entry.
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

    /// One attempt; `None` if entries were trimmed before they were read, or the epoch changed.
    async fn try_load(
        &self,
        log: &mut RedisLog,
        seen: Option<Seen>,
        loaded: impl Fn(Fence),
    ) -> Result<Option<Fence>, RedisError> {
        // Check before anything is written: a log of another format is left as it is.
        log.check_format().await?;
        let epoch = self.begin(log, seen).await?;
        let state = log.state(Seq::ZERO).await?;
        if state.epoch != Some(epoch) {
            return Ok(None);
        }
        let before_first = state.first.map_or(state.last, |first| Seq(first.0 - 1));
        let newest = self.reset(log, epoch, before_first).await?;
        let mut fence = Fence { epoch, seq: before_first, nonce: None };
        let mut count = PAGE_EVENTS_MIN;
        // The tail reads what other hubs append meanwhile: they may never stop.
        while fence.seq < state.last.max(newest) {
            let entries = log.read(fence.seq, count).await?;
            if entries.is_empty() {
                break;
            }
            count = next_count(&entries, count);
            for (seq, entry) in entries {
                // A jump in seqs is the start of an epoch, or entries trimmed during the load: ask
                // which.
                if seq != fence.seq.next() {
                    let first = log.state(Seq::ZERO).await?.first;
                    if first.is_none_or(|first| first > fence.seq.next()) {
                        return Ok(None);
                    }
                }
                fence = Fence { epoch, seq, nonce: Some(entry.nonce) };
                let before = entry.channel_before;
                let (entry, event) = self.event(epoch, seq, entry, true);
                // The first of its channel that the log keeps says which one was before it.
                if let Some(before) = before
                    && entry.events().last_seq() <= before_first
                {
                    self.store.begin_after(&entry, before.min(before_first));
                }
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
                // A channel with an event after its close was opened again, whatever this hub's
                // clock says.
                let is_open_again = entry.events().last_seq() > seq.max(before_first);
                if !entry.events().is_closed() && !is_open_again {
                    self.store.restore_closed(&entry, seq, closed_ms.min(now_ms));
                }
            }
        }
        // If the epoch changed meanwhile, its entries were loaded under the old one: load again.
        let is_same = log.state(head).await?.epoch == Some(epoch);
        Ok(is_same.then_some(fence))
    }

    /// Empties the store. Of a log that was trimmed up to `trimmed`, a channel has lost nothing
    /// behind its newest event. A channel with newer events counts as having lost all up to
    /// `trimmed` until its first event that is kept is read. Returns the newest event of any
    /// channel.
    async fn reset(
        &self,
        log: &mut RedisLog,
        epoch: Epoch,
        trimmed: Seq,
    ) -> Result<Seq, RedisError> {
        let mut named = log.channels().await?;
        let newest = named.last().map_or(Seq::ZERO, |(_, seq)| *seq);
        // Read after the channels: it covers those that were dropped from the index meanwhile.
        let Some(others) = log.state(Seq::ZERO).await?.unindexed else {
            self.store.reset(epoch, LostThrough::any(trimmed), trimmed);
            return Ok(newest);
        };
        let kept = named.split_off(named.partition_point(|(_, newest)| *newest <= trimmed));
        // Hubs of an earlier version may have appended further events of these, up to `others`.
        named.retain(|(_, newest)| *newest > others);
        let lost = LostThrough { named, others: trimmed.min(others) };
        self.store.reset(epoch, lost, trimmed);
        let (directory, now_ms) = (self.store.registry().directory(), self.clock.now_ms());
        for (channel, _) in kept {
            let entry = directory.find_or_create_always(&channel, now_ms);
            self.store.begin_after(&entry, trimmed);
        }
        Ok(newest)
    }

    /// Whether a channel that was closed at `closed_ms` is still closed.
    fn is_tombstone(&self, closed_ms: u64) -> bool {
        closed_ms + self.closed_ms > self.clock.now_ms()
    }

    /// The event of an entry, and its channel. Reopens a closed channel, since the log has accepted
    /// another event for it.
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

/// How many entries to ask for next, by the size of the last page and how many were `asked` for: a
/// reply is held in memory as a whole, and the next entries may be of the largest size.
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
/// Scripts of the server count in doubles, which are exact up to 2^53.
const CLOCK_MS_MAX: u64 = 1 << 42;
const VOUCH_LOOK: Duration = Duration::from_millis(100);
/// How often a load is repeated because entries were trimmed before it read them.
const LOADS_MAX: usize = 5;
/// Bytes of one reply, approximately.
const PAGE_BYTES: usize = 4 << 20;
/// Entries of the first page, and after a page that was not full.
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
            channel_before: None,
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
