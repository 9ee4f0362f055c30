//! The events that a search has found for a subscription to start with. Only their seqs are held, and
//! each event is read when it is due, so that a reader keeps none of them in memory. Events between
//! them, which the search has not chosen, are not read.
//!
//! A hub in memory does not use this: there it is enough to know the first event of each channel
//! ([`Replay`](super::replay::Replay)).

use std::sync::Arc;

use super::{
    losses::KnownLosses,
    piece::{Piece, SeqRange},
    replay::Next,
    search_memory::{FoundList, SearchBytes},
};
use crate::{
    core::NotInMemory,
    model::{LastEvents, Seq},
};

/// The events, in order.
#[derive(Debug, Clone)]
pub struct FoundEvents {
    list: Arc<FoundList>,
    /// The list as long as it is not revoked from this reader: until the first read, and between a read that
    /// goes to the disk and the next one.
    events: Option<Arc<[Next]>>,
    /// Up to here the subscription gets these events alone; what follows is read like any history.
    through: Seq,
    /// How many events of each channel were looked for; set only if the search has reached its limit of
    /// bytes before it had found all.
    cut: Option<LastEvents>,
}

impl FoundEvents {
    pub(super) fn new(
        events: Arc<[Next]>,
        through: Seq,
        cut: Option<LastEvents>,
        memory: Option<SearchBytes>,
    ) -> Self {
        let list = Arc::new(FoundList::new(Arc::clone(&events), memory));
        Self { list, events: Some(events), through, cut }
    }

    /// How many events of each channel were looked for, if the search has reached its limit of bytes:
    /// older ones may be there.
    pub(super) fn cut(&self) -> Option<LastEvents> {
        self.cut
    }

    /// The events, unless they were revoked.
    pub(super) fn events(&self) -> Option<Arc<[Next]>> {
        self.events.clone().or_else(|| self.list.events())
    }

    /// Up to here the subscription gets these events alone.
    pub(super) fn through(&self) -> Seq {
        self.through
    }

    /// Just before the oldest event after `after` that is still retained, or at the end; `None` if they
    /// were revoked.
    pub(super) fn cursor_after(&self, after: Seq) -> Option<Seq> {
        let events = self.events()?;
        let mut due = due(&events, after, self.through).iter();
        let retained = due.find(|next| !next.entry().events().has_lost(next.seq_before()));
        Some(retained.map_or(self.through.max(after), Next::seq_before))
    }

    /// The memory that so many events take, in bytes.
    pub(super) fn bytes(events: usize) -> usize {
        FOUND_BYTES + events * size_of::<Next>()
    }

    /// The next piece after `range.after`; `None` at the end. Later reads must not begin before this
    /// `range.after`.
    pub(super) fn read(
        &mut self,
        known: KnownLosses,
        range: &SeqRange,
    ) -> Option<Result<Piece, NotInMemory>> {
        if range.after >= self.through {
            return None;
        }
        let events = self.events.take();
        if events.is_none() {
            self.free_passed(range.after);
        }
        self.list.begin();
        let Some(events) = events.or_else(|| self.list.events()) else {
            return Some(Err(NotInMemory::Revoked));
        };
        let piece = self.read_some(&events, known, range);
        if let Err(NotInMemory::OnDisk(_)) = piece {
            self.events = Some(events);
        }
        Some(piece)
    }

    fn read_some(
        &self,
        events: &[Next],
        known: KnownLosses,
        range: &SeqRange,
    ) -> Result<Piece, NotInMemory> {
        let through = self.through.min(range.through);
        let mut piece = Piece { events: Vec::new(), through, more: through < range.through };
        let mut bytes = 0;
        for next in due(events, range.after, through) {
            let rest = Piece { events: Vec::new(), through: next.seq_before(), more: true };
            if piece.events.len() >= range.events_max || bytes >= range.bytes_max {
                return Ok(Piece { events: piece.events, ..rest });
            }
            let this = SeqRange { after: next.seq_before(), through: next.seq(), ..*range };
            match next.entry().events().read(known, &this) {
                Ok(slice) => {
                    bytes += slice.events.iter().map(|event| event.bytes().len()).sum::<usize>();
                    piece.events.extend(slice.events);
                }
                // The events before it are sent first.
                Err(_) if !piece.events.is_empty() => {
                    return Ok(Piece { events: piece.events, ..rest });
                }
                // Bodies leave memory in the order of the log: all events up to `on_disk` have left it.
                Err(NotInMemory::OnDisk(on_disk)) => {
                    return Err(NotInMemory::OnDisk(on_disk.min(self.through)));
                }
                Err(lost) => return Err(lost),
            }
        }
        Ok(piece)
    }

    /// Frees the events that a reader at `after` has passed, if these are most of the list and no other
    /// reader shares it.
    fn free_passed(&self, after: Seq) {
        if Arc::strong_count(&self.list) == 1 {
            let passed = |events: &[Next]| events.partition_point(|next| !next.is_after(after));
            self.list.keep_from(passed, Self::bytes);
        }
    }
}

/// The part of a sorted list that is after `after` and not after `through`.
pub(super) fn due(events: &[Next], after: Seq, through: Seq) -> &[Next] {
    let begin = events.partition_point(|next| !next.is_after(after));
    let due = &events[begin..];
    &due[..due.partition_point(|next| !next.is_after(through))]
}

/// Bytes that a list of events takes besides the events.
const FOUND_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::{
        backend::{registry::Registry, search_memory::SearchMemory},
        core::Limits,
        model::ChannelName,
    };

    #[test]
    fn a_list_of_one_reader_frees_what_it_has_passed() {
        let registry = Registry::new(&Limits::default());
        let name = ChannelName::parse("a").expect("a name");
        let entry = registry.directory().find_or_create_always(&name, 0);
        let events: Vec<Next> = (1..=100).map(|seq| Next::new(Seq(seq), &entry)).collect();
        let memory = SearchMemory::new(1 << 20);
        let all = FoundEvents::bytes(100);
        let part = memory.try_take(all as u32);
        let mut found = FoundEvents::new(events.into(), Seq(100), None, part);
        found.events = None;
        let used_at = |found: &FoundEvents, after| {
            found.free_passed(Seq(after));
            memory.used() as usize
        };
        assert_eq!(used_at(&found, 50), all, "half of it is kept");
        let other = found.clone();
        assert_eq!(used_at(&found, 60), all, "another reader has it");
        drop(other);
        assert_eq!(used_at(&found, 60), FoundEvents::bytes(40));
        let events = found.events().expect("not revoked");
        let seqs: Vec<u64> = events.iter().map(|next| next.seq().0).collect();
        assert_eq!(seqs, (61..=100).collect::<Vec<_>>());
        drop(events);
        assert_eq!(used_at(&found, 100), FoundEvents::bytes(0));
        drop(found);
        assert_eq!(memory.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_search_that_waits_takes_the_memory_of_readers_that_are_slow_and_of_no_others() {
        let registry = Registry::new(&Limits::default());
        let name = ChannelName::parse("a").expect("a name");
        let entry = registry.directory().find_or_create_always(&name, 0);
        let bytes = FoundEvents::bytes(3);
        let memory = SearchMemory::new(3 * bytes as u64);
        let found = || {
            let events: Vec<Next> = (1..=3).map(|seq| Next::new(Seq(seq), &entry)).collect();
            let part = memory.try_take(bytes as u32);
            assert!(part.is_some());
            FoundEvents::new(events.into(), Seq(3), None, part)
        };
        let read = |found: &mut FoundEvents, after| {
            let range =
                SeqRange { after: Seq(after), through: Seq(9), events_max: 1, bytes_max: 1 };
            found.read(KnownLosses::ALL, &range)
        };
        let revoked = |read: &Option<Result<Piece, NotInMemory>>| {
            matches!(read, Some(Err(NotInMemory::Revoked)))
        };
        let [mut slow, mut other, mut begins] = [found(), found(), found()];
        let mut shares = slow.clone();
        assert!(!revoked(&read(&mut slow, 0)));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!revoked(&read(&mut other, 0)));
        // Nothing waits.
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!revoked(&read(&mut slow, 1)));
        let started = Instant::now();
        let part = memory.take(bytes as u32).await.expect("it is not closed");
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        assert_eq!(memory.used(), 3 * bytes as u64);
        assert!(revoked(&read(&mut slow, 1)));
        assert_eq!(slow.cursor_after(Seq(1)), None);
        assert!(!revoked(&read(&mut shares, 0)), "it begins");
        assert!(revoked(&read(&mut shares, 1)));
        assert!(!revoked(&read(&mut other, 1)), "one suffices");
        drop((slow, shares));
        // What was begun a moment ago is not revoked, nor what was not begun.
        drop(part);
        let mut third = found();
        let waiting = tokio::spawn(memory.take(2 * bytes as u32));
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(revoked(&read(&mut other, 1)));
        assert!(!revoked(&read(&mut third, 0)) && !revoked(&read(&mut begins, 0)));
        assert!(!waiting.is_finished());
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(waiting.is_finished());
        assert!(revoked(&read(&mut third, 1)) && !revoked(&read(&mut begins, 1)));
    }
}
