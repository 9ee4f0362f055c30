//! The memory backend: histories in this process, under one ceiling.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::{ChannelEntry, ChannelId, ChannelInfo, Directory, Watchers};
use crate::{
    core::{FellOff, History, Limits, Slice},
    model::{
        ChannelName, ChannelPattern, Epoch, Event, EventKind, Gap, GapReason, Position, Seq, Start,
    },
};

/// The log's memory: every channel's history, and the head of the log.
#[derive(Debug)]
pub struct MemoryBackend {
    epoch: Epoch,
    limits: Limits,
    directory: Directory,
    watchers: Arc<Watchers>,
    /// The newest seq whose batch is in the histories as a whole.
    head: AtomicU64,
    bytes: AtomicU64,
    /// Channels by their oldest event, for the ceiling. One entry a channel, corrected when it
    /// comes to the top; only the log's thread takes this lock.
    ranking: Mutex<BinaryHeap<Reverse<Ranked>>>,
}

#[derive(Debug)]
struct Ranked {
    oldest: Seq,
    id: ChannelId,
    /// Weak, so that a place in the queue does not keep a channel from being forgotten.
    entry: Weak<ChannelEntry>,
}

/// A channel as one reader sees it.
#[derive(Debug, Clone)]
pub struct Member {
    /// The channel.
    pub entry: Arc<ChannelEntry>,
    /// Losses up to here are known to the reader; later ones are news to it.
    pub told_through: Seq,
}

impl Member {
    /// A channel whose own losses would all be news.
    pub fn new(entry: Arc<ChannelEntry>) -> Self {
        Self { told_through: entry.born_after(), entry }
    }

    fn read(
        &self,
        after: Seq,
        through: Seq,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Slice, FellOff> {
        let after = after.max(self.told_through);
        self.entry.with_history(|history| history.read(after, through, events_max, bytes_max))
    }
}

/// Where a subscription starts, and what it missed.
#[derive(Debug)]
pub struct Resume {
    /// Everything up to here is the client's already.
    pub cursor: Seq,
    /// The head of the log before this was found out.
    pub head: Seq,
    /// What is gone.
    pub gap: Option<Gap>,
}

impl MemoryBackend {
    /// An empty log.
    pub fn new(epoch: Epoch, limits: Limits) -> Self {
        let share = (limits.publish.in_flight_max as usize
            * usize::from(limits.publish.channel_share_percent))
            / 100;
        let channels = &limits.channels;
        Self {
            epoch,
            directory: Directory::new(
                channels.channels_max as usize,
                channels.forgotten_max as usize,
                share.max(1),
            ),
            watchers: Arc::default(),
            limits,
            head: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            ranking: Mutex::new(BinaryHeap::new()),
        }
    }

    /// Who subscribes by pattern.
    pub fn watchers(&self) -> &Arc<Watchers> {
        &self.watchers
    }

    /// What the info routes say of a channel: those who name it and those whose patterns match
    /// it.
    pub fn info(&self, entry: &ChannelEntry) -> ChannelInfo {
        let mut info = entry.info(self.epoch);
        let (streams, pollers) = self.watchers.matching(entry.name());
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
        let cost = History::cost(event);
        let evicted =
            entry.with_history(|history| history.append(Arc::clone(event), &self.limits.history));
        entry.set_last_seq(event.seq);
        if event.kind == EventKind::Closed {
            entry.close(event.seq, event.time_ms);
        }
        self.bytes.fetch_add(cost, Ordering::Relaxed);
        self.bytes.fetch_sub(evicted.bytes, Ordering::Relaxed);
        if entry.rank() {
            let ranked = Ranked { oldest: event.seq, id: entry.id(), entry: Arc::downgrade(entry) };
            let mut ranking = self.ranking.lock();
            // Below the ceiling nothing else takes the places of forgotten channels away.
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
        let evicted =
            entry.with_history(|history| history.evict_older_than(oldest_ms, AGED_EVENTS_PER_STEP));
        self.bytes.fetch_sub(evicted.bytes, Ordering::Relaxed);
        evicted.events as usize == AGED_EVENTS_PER_STEP
    }

    /// Drops the history of a channel that is about to be forgotten.
    pub fn evict_all(&self, entry: &ChannelEntry) {
        let evicted = entry.with_history(|history| history.evict_through(Seq(u64::MAX)));
        self.bytes.fetch_sub(evicted.bytes, Ordering::Relaxed);
    }

    /// The events of `members` after `after` up to `through`, merged in log order; `more` when
    /// the bounds kept some out.
    pub fn read(
        &self,
        members: &[Member],
        after: Seq,
        through: Seq,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Slice, FellOff> {
        if let [only] = members {
            return only.read(after, through, events_max, bytes_max);
        }
        let each_max = (2 * events_max / members.len().max(1)).max(4);
        let mut merged = Slice::default();
        // Past the last event of a channel that has more, the merge would leave holes.
        let mut horizon = through;
        for member in members {
            if member.entry.last_seq() <= after {
                continue;
            }
            let part = member.read(after, through, each_max, bytes_max)?;
            if part.more {
                let last = part.events.last().map_or(after, |event| event.seq);
                horizon = horizon.min(last);
                merged.more = true;
            }
            merged.events.extend(part.events);
        }
        merged.events.retain(|event| event.seq <= horizon);
        merged.events.sort_unstable_by_key(|event| event.seq);
        merged.events.dedup_by_key(|event| event.seq);
        let mut bytes = 0;
        let within = merged.events.iter().take(events_max).take_while(|event| {
            let before = bytes;
            bytes += event.bytes().len();
            before < bytes_max
        });
        let within = within.count();
        if within < merged.events.len() {
            merged.events.truncate(within);
            merged.more = true;
        }
        Ok(merged)
    }

    /// Where a subscription starts. The caller reads `head` after it has registered and before it
    /// lists the members, so that nothing is lost between: whatever lies up to the head is in a
    /// channel that is listed, whatever comes after it is sent. What `members` have lost by now counts as told to a reader that
    /// starts at the oldest event or behind a gap.
    pub fn resume(
        &self,
        patterns: &[ChannelPattern],
        members: &mut [Member],
        start: &Start,
        head: Seq,
    ) -> Resume {
        let (after, lost) = match start {
            Start::Now => return Resume { cursor: head, head, gap: None },
            Start::Earliest => (Seq::ZERO, None),
            Start::Unknown(token) => {
                (Seq::ZERO, Some((GapReason::UnknownPosition, token.clone(), None)))
            }
            Start::At(at) if at.epoch != self.epoch => {
                (Seq::ZERO, Some((GapReason::Epoch, at.to_string(), None)))
            }
            Start::At(at) if at.seq > head => {
                (Seq::ZERO, Some((GapReason::UnknownPosition, at.to_string(), None)))
            }
            Start::At(at) => match self.lost_after(patterns, members, at.seq) {
                None => return Resume { cursor: at.seq, head, gap: None },
                Some(channel) => (at.seq, Some((GapReason::Evicted, at.to_string(), channel))),
            },
        };
        let cursor = self.oldest_after(members, after, head);
        let gap = lost.map(|(reason, requested, channel)| Gap {
            reason,
            requested,
            oldest: self.position(cursor),
            channel,
        });
        Resume { cursor, head, gap }
    }

    /// Whether history has lost events of the subscription after `after`, and of which channel if
    /// that is known.
    fn lost_after(
        &self,
        patterns: &[ChannelPattern],
        members: &[Member],
        after: Seq,
    ) -> Option<Option<ChannelName>> {
        let evicted = |member: &Member| member.entry.with_history(|h| h.evicted_through());
        if let Some(member) = members.iter().find(|member| evicted(member) > after) {
            return Some(Some(member.entry.name().clone()));
        }
        self.directory.forgotten_after(patterns, after).map(|_| None)
    }

    /// The position just before the oldest event after `after` that any member retains. What is
    /// gone by now counts as told.
    fn oldest_after(&self, members: &mut [Member], after: Seq, head: Seq) -> Seq {
        let mut oldest = head;
        for member in members {
            member.told_through = member.entry.with_history(|history| {
                let told = history.evicted_through();
                if let Ok(next) = history.read(after.max(told), head, 1, 1)
                    && let Some(event) = next.events.first()
                {
                    oldest = oldest.min(Seq(event.seq.0 - 1));
                }
                told
            });
        }
        oldest.max(after)
    }

    fn make_room(&self) {
        let mut ranking = self.ranking.lock();
        while self.bytes() > self.limits.history.total_bytes_max {
            let Some(Reverse(top)) = ranking.pop() else { break };
            let Some(entry) = top.entry.upgrade() else { continue };
            let next = ranking.peek().map_or(Seq(u64::MAX), |Reverse(next)| next.oldest);
            let (evicted, oldest) = entry.with_history(|history| {
                // Not further than the next channel's oldest event, and a little at a time.
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
                (evicted, history.oldest().map(|event| event.seq))
            });
            self.bytes.fetch_sub(evicted.bytes, Ordering::Relaxed);
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

/// Places of the ceiling's queue beyond two a channel.
const RANKING_SLACK: usize = 1_024;
/// Events evicted by age under one hold of a channel's lock.
const AGED_EVENTS_PER_STEP: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Draft, NewEvent};

    #[test]
    fn forgotten_channels_leave_the_queue_of_the_ceiling_below_it_too() {
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
            assert!(backend.directory().forget(entry));
            // Two places for the one channel there is, the slack, and the place just taken.
            assert!(backend.ranking.lock().len() <= 2 + RANKING_SLACK + 1);
        }
    }
}
