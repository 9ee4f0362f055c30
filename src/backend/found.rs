//! The events that a search has found for a subscription to start with. They are known by their seqs and read
//! one by one, so that a reader holds none of them in memory, and what lies between is not its own.
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
    /// Up to here there are no others; what follows is read like any history.
    through: Seq,
    /// How many of each channel were looked for, if the search was ended before it had looked at all.
    cut: Option<LastEvents>,
    /// What they take of the memory of all searches.
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

    /// How many of each channel were looked for, if older ones may be there.
    pub(super) fn cut(&self) -> Option<LastEvents> {
        self.cut
    }

    /// The events.
    pub(super) fn events(&self) -> &Arc<[Next]> {
        &self.events
    }

    /// Up to here there are no others.
    pub(super) fn through(&self) -> Seq {
        self.through
    }

    /// Just before the oldest event after `after` that is still retained, or at the end.
    pub(super) fn cursor_after(&self, after: Seq) -> Seq {
        let mut due = self.due(after, self.through).iter();
        let retained = due.find(|next| !next.entry().events().has_lost(next.seq_before()));
        retained.map_or(self.through.max(after), Next::seq_before)
    }

    /// What so many events take of the memory of all searches.
    pub(super) fn bytes(events: usize) -> usize {
        FOUND_BYTES + events * size_of::<Next>()
    }

    /// The next piece after `range.after`; nothing at the end. Later reads do not begin before that.
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
                // What comes before it is still due.
                Err(_) if !piece.events.is_empty() => {
                    return Ok(Piece { events: piece.events, ..rest });
                }
                // Bodies leave memory in the order of the log: up to there all are on disk.
                Err(NotInMemory::OnDisk(on_disk)) => {
                    return Err(NotInMemory::OnDisk(on_disk.min(self.through)));
                }
                Err(lost) => return Err(lost),
            }
        }
        Ok(piece)
    }

    /// Frees what a reader at `after` has passed, if that is most of it and no other reader has it.
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

    /// Those that a reader at `after` lacks.
    fn due(&self, after: Seq, through: Seq) -> &[Next] {
        due(&self.events, after, through)
    }
}

/// Those of events in order that are after `after`, and not after `through`.
pub(super) fn due(events: &[Next], after: Seq, through: Seq) -> &[Next] {
    let begin = events.partition_point(|next| !next.is_after(after));
    let due = &events[begin..];
    &due[..due.partition_point(|next| !next.is_after(through))]
}

/// What a list of events takes besides them.
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
