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
    _memory: Option<Arc<SearchBytes>>,
}

impl FoundEvents {
    pub(super) fn new(
        events: Arc<[Next]>,
        through: Seq,
        cut: Option<LastEvents>,
        memory: Option<SearchBytes>,
    ) -> Self {
        Self { events, through, cut, _memory: memory.map(Arc::new) }
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

    /// The next piece after `range.after`; nothing at the end.
    pub(super) fn read(
        &self,
        known: KnownLosses,
        range: &SeqRange,
    ) -> Option<Result<Piece, NotInMemory>> {
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

    /// Those that a reader at `after` lacks.
    fn due(&self, after: Seq, through: Seq) -> &[Next] {
        let begin = self.events.partition_point(|next| !next.is_after(after));
        let due = &self.events[begin..];
        &due[..due.partition_point(|next| !next.is_after(through))]
    }
}
