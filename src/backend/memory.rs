//! The memory backend: histories in this process, under one ceiling.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::{
    channel::{ChannelEntry, ChannelId, ChannelInfo},
    directory::Directory,
    journal::Journal,
    pattern_counts::PatternCounts,
    shard_set::{ShardSet, TargetShards},
};
use crate::{
    core::{Evicted, History, Limits},
    model::{Epoch, Event, EventKind, Position, Seq},
};

/// The log's memory: every channel's history, and the head of the log.
#[derive(Debug)]
pub struct MemoryBackend {
    epoch: Epoch,
    limits: Limits,
    directory: Directory,
    pattern_counts: Arc<PatternCounts>,
    /// The shards that have connections with patterns.
    pattern_subscribers: Arc<ShardSet>,
    /// The newest seq whose batch is in the histories as a whole.
    head: AtomicU64,
    bytes: AtomicU64,
    /// Channels by their oldest event, for the ceiling. One entry a channel, corrected when it
    /// comes to the top; only the log's thread takes this lock.
    ranking: Mutex<BinaryHeap<Reverse<Ranked>>>,
    /// Its lock is taken under that of a history, never the other way round.
    journal: RwLock<Journal>,
}

#[derive(Debug)]
struct Ranked {
    oldest: Seq,
    id: ChannelId,
    /// Weak, so that an entry in the queue does not keep a channel from being evicted.
    entry: Weak<ChannelEntry>,
}

impl MemoryBackend {
    /// An empty log.
    pub fn new(epoch: Epoch, limits: Limits) -> Self {
        let publish_permits = (limits.publish.in_flight_max as usize
            * usize::from(limits.publish.channel_share_percent))
            / 100;
        let channels = &limits.channels;
        Self {
            epoch,
            directory: Directory::new(
                channels.channels_max as usize,
                channels.forgotten_max as usize,
                publish_permits.max(1),
            ),
            pattern_counts: Arc::default(),
            pattern_subscribers: Arc::default(),
            limits,
            head: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            ranking: Mutex::new(BinaryHeap::new()),
            journal: RwLock::default(),
        }
    }

    /// How many subscriptions have which pattern.
    pub fn pattern_counts(&self) -> &Arc<PatternCounts> {
        &self.pattern_counts
    }

    /// The shards that have connections with patterns.
    pub fn pattern_subscribers(&self) -> &Arc<ShardSet> {
        &self.pattern_subscribers
    }

    /// The shards that events of these channels concern, once they are committed: of every other,
    /// all connections begin behind them.
    pub fn target_shards<'a>(
        &'a self,
        channels: impl IntoIterator<Item = &'a ChannelEntry>,
    ) -> TargetShards {
        let named = channels.into_iter().map(ChannelEntry::shards);
        TargetShards::of(named.chain([&*self.pattern_subscribers]))
    }

    /// What the info routes say of a channel: subscribers that name it and those whose patterns
    /// match it.
    pub fn info(&self, entry: &ChannelEntry) -> ChannelInfo {
        let mut info = entry.info(self.epoch);
        let (streams, pollers) = self.pattern_counts.matching(entry.name());
        info.subscribers += streams;
        info.pollers += pollers;
        info
    }

    /// This incarnation of the log.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The limits it keeps.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The channels.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The newest seq that readers may count on: everything up to it is in the histories.
    pub fn head(&self) -> Seq {
        Seq(self.head.load(Ordering::Acquire))
    }

    /// `seq` as a position of this log.
    pub fn position(&self, seq: Seq) -> Position {
        Position { epoch: self.epoch, seq }
    }

    /// Bytes in all histories, bookkeeping included.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Puts one event into its channel's history. Only the log calls this, in order of seq, and
    /// [`commit`](Self::commit) at the end of each batch.
    pub fn append(&self, entry: &Arc<ChannelEntry>, event: &Arc<Event>) {
        self.bytes.fetch_add(History::cost(event), Ordering::Relaxed);
        entry.with_history(|history| {
            let evicted = history.append(Arc::clone(event), &self.limits.history);
            let mut journal = self.journal.write();
            journal.append(Arc::clone(event));
            self.note(&mut journal, entry, &evicted);
        });
        entry.set_last_seq(event.seq);
        if event.kind == EventKind::Closed {
            entry.close(event.seq, event.time_ms);
        }
        if entry.rank() {
            let ranked = Ranked { oldest: event.seq, id: entry.id(), entry: Arc::downgrade(entry) };
            let mut ranking = self.ranking.lock();
            // Below the ceiling nothing else removes the entries of evicted channels.
            if ranking.len() > 2 * self.directory.len() + RANKING_SLACK {
                ranking.retain(|Reverse(ranked)| ranked.entry.strong_count() > 0);
            }
            ranking.push(Reverse(ranked));
        }
    }

    /// Shows the batch that ends with `head` to readers, then makes room under the ceiling.
    pub fn commit(&self, head: Seq) {
        self.head.store(head.0, Ordering::Release);
        if self.bytes() > self.limits.history.total_bytes_max {
            self.make_room();
        }
    }

    /// Evicts what is older than the age bound from one channel, in bounded steps; true when
    /// there may be more.
    pub fn evict_aged(&self, entry: &ChannelEntry, now_ms: u64) -> bool {
        let oldest_ms = now_ms.saturating_sub(u64::from(self.limits.history.age_max_s) * 1_000);
        entry.with_history(|history| {
            let evicted = history.evict_older_than(oldest_ms, AGED_EVENTS_PER_STEP);
            self.note(&mut self.journal.write(), entry, &evicted);
            evicted.seqs.len() == AGED_EVENTS_PER_STEP
        })
    }

    /// Drops the history of a channel that is about to be evicted.
    pub fn evict_all(&self, entry: &ChannelEntry) {
        entry.with_history(|history| {
            let evicted = history.evict_through(Seq(u64::MAX));
            self.note(&mut self.journal.write(), entry, &evicted);
        });
    }

    /// The latest events of the log.
    pub(super) fn journal(&self) -> RwLockReadGuard<'_, Journal> {
        self.journal.read()
    }

    /// Notes what has gone from a history; the caller holds its lock.
    fn note(&self, journal: &mut Journal, entry: &ChannelEntry, evicted: &Evicted) {
        if !evicted.seqs.is_empty() {
            entry.set_eviction(journal.evict(&evicted.seqs));
            self.bytes.fetch_sub(evicted.bytes, Ordering::Relaxed);
        }
    }

    fn make_room(&self) {
        let mut ranking = self.ranking.lock();
        while self.bytes() > self.limits.history.total_bytes_max {
            let Some(Reverse(top)) = ranking.pop() else { break };
            let Some(entry) = top.entry.upgrade() else { continue };
            let next = ranking.peek().map_or(Seq(u64::MAX), |Reverse(next)| next.oldest);
            let oldest = entry.with_history(|history| {
                // Up to the next channel's oldest event, a bounded number at a time.
                let mut through = Seq::ZERO;
                let mut bytes = 0;
                // An actor may have evicted enough meanwhile.
                let over = self.bytes().saturating_sub(self.limits.history.total_bytes_max);
                let step = history.read(history.evicted_through(), next, 64, usize::MAX);
                for event in step.map(|slice| slice.events).unwrap_or_default() {
                    if bytes >= over {
                        break;
                    }
                    bytes += History::cost(&event);
                    through = event.seq;
                }
                let evicted = history.evict_through(through);
                self.note(&mut self.journal.write(), &entry, &evicted);
                history.oldest().map(|event| event.seq)
            });
            match oldest {
                Some(oldest) => ranking.push(Reverse(Ranked { oldest, ..top })),
                None => entry.unrank(),
            }
        }
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        (self.oldest, self.id) == (other.oldest, other.id)
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.oldest, self.id).cmp(&(other.oldest, other.id))
    }
}

/// Entries of the ceiling's queue beyond two a channel.
const RANKING_SLACK: usize = 1_024;
/// Events evicted by age under one hold of a channel's lock.
const AGED_EVENTS_PER_STEP: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChannelName, Draft, NewEvent};

    #[test]
    fn evicted_channels_leave_the_queue_of_the_ceiling_below_it_too() {
        let backend = MemoryBackend::new(Epoch::new(0, 1), Limits::default());
        for seq in 1..=3 * RANKING_SLACK as u64 {
            let name = ChannelName::parse(&format!("once/{seq}")).expect("a name");
            let entry = backend.directory().find_or_create(&name, 0).expect("room for it");
            let position = backend.position(Seq(seq));
            let event = Event {
                seq: position.seq,
                epoch: position.epoch,
                time_ms: 0,
                channel: name,
                kind: EventKind::Published,
                frame: Draft::new(&NewEvent::message("x")).finish(position),
            };
            backend.append(&entry, &Arc::new(event));
            backend.commit(Seq(seq));
            backend.evict_all(&entry);
            assert!(backend.directory().evict(entry));
            // Two entries for the one channel, the slack, and the new entry.
            assert!(backend.ranking.lock().len() <= 2 + RANKING_SLACK + 1);
        }
    }
}
