//! The events that a search has found for a subscription to start with. Only their seqs are held,
//! and each event is read when it is due, so that a reader keeps none of them in memory. Events
//! between them, which the search has not chosen, are not read.
//!
//! A hub in memory does not use this: there it is enough to know the first event of each channel
//! ([`Replay`](super::replay::Replay)).

use std::sync::Arc;

use super::{
    losses::KnownLosses,
    piece::{Piece, SeqRange},
    replay::Next,
    search_memory::SearchBytes,
};
use crate::{
    core::NotInMemory,
    model::{LastEvents, Seq},
};

/// The events, in order.
#[derive(Debug, Clone)]
pub struct FoundEvents {
    events: Arc<[Next]>,
    /// Up to this seq the subscription gets only these events; later ones are read like any
    /// history.
    through: Seq,
    /// How many events of each channel were looked for; set only if the search has reached its
    /// limit of bytes before it had found all.
    cut: Option<LastEvents>,
    /// The memory of these events, as a part of the memory that searches share.
    memory: Option<Arc<SearchBytes>>,
}

impl FoundEvents {
    pub(super) fn new(
        events: Arc<[Next]>,
        through: Seq,
        cut: Option<LastEvents>,
        memory: Option<SearchBytes>,
    ) -> Self {
        Self { events, through, cut, memory: memory.map(Arc::new) }
    }

    /// How many events of each channel were looked for, if the search has reached its limit of
    /// bytes: older ones may be there.
    pub(super) fn cut(&self) -> Option<LastEvents> {
        self.cut
    }

    /// The events.
    pub(super) fn events(&self) -> &Arc<[Next]> {
        &self.events
    }

    /// Up to this seq the subscription gets only these events.
    pub(super) fn through(&self) -> Seq {
        self.through
    }

    /// The cursor before the oldest event after `after` that is still retained; without one, the
    /// end.
    pub(super) fn cursor_after(&self, after: Seq) -> Seq {
        let mut due = self.due(after, self.through).iter();
        let retained = due.find(|next| !next.entry().events().has_lost(next.seq_before()));
        retained.map_or(self.through.max(after), Next::seq_before)
    }

    /// The memory that so many events take, in bytes.
    pub(super) fn bytes(events: usize) -> usize {
        FOUND_BYTES + events * size_of::<Next>()
    }

    /// The next piece after `range.after`; `None` at the end. Later reads must not begin before
    /// this `range.after`.
    pub(super) fn read(
        &mut self,
        known: KnownLosses,
        range: &SeqRange,
    ) -> Option<Result<Piece, NotInMemory>> {
        self.free_passed(range.after);
        (range.after < self.through).then(|| self.read_some(known, range))
    }

    fn read_some(&self, known: KnownLosses, range: &SeqRange) -> Result<Piece, NotInMemory> {
        let through = self.through.min(range.through);
        let mut piece = Piece { events: Vec::new(), through, more: through < range.through };
        let mut bytes = 0;
        for next in self.due(range.after, through) {
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
                // Bodies leave memory in the order of the log: all events up to `on_disk` have left
                // it.
                Err(NotInMemory::OnDisk(on_disk)) => {
                    return Err(NotInMemory::OnDisk(on_disk.min(self.through)));
                }
                Err(lost) => return Err(lost),
            }
        }
        Ok(piece)
    }

    /// Frees the events that a reader at `after` has passed, if these are most of the list and no
    /// other reader shares it.
    fn free_passed(&mut self, after: Seq) {
        let passed = self.events.partition_point(|next| !next.is_after(after));
        let is_most = 2 * passed > self.events.len();
        let memory = self.memory.as_mut().filter(|_| is_most).and_then(Arc::get_mut);
        let Some(memory) = memory else { return };
        if Arc::get_mut(&mut self.events).is_some() {
            self.events = self.events[passed..].into();
            memory.shrink(Self::bytes(self.events.len()));
        }
    }

    /// The events up to `through` that a reader at `after` lacks.
    fn due(&self, after: Seq, through: Seq) -> &[Next] {
        due(&self.events, after, through)
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
        let used_at = |found: &mut FoundEvents, after| {
            found.free_passed(Seq(after));
            memory.used() as usize
        };
        assert_eq!(used_at(&mut found, 50), all, "half of it is kept");
        let other = found.clone();
        assert_eq!(used_at(&mut found, 60), all, "another reader has it");
        drop(other);
        assert_eq!(used_at(&mut found, 60), FoundEvents::bytes(40));
        let seqs: Vec<u64> = found.events().iter().map(|next| next.seq().0).collect();
        assert_eq!(seqs, (61..=100).collect::<Vec<_>>());
        assert_eq!(used_at(&mut found, 100), FoundEvents::bytes(0));
        drop(found);
        assert_eq!(memory.used(), 0);
    }
}
