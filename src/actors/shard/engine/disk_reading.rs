//! A connection whose next events are on disk: a thread of [`LogReads`](crate::actors::log_reads)
//! reads them, and wakes its slot.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::engine::Engine;
use crate::{
    actors::{log_reads::ReadsBusy, peer::SlotWaker, pending_read::ReadFailure},
    backend::{LastSearch, Piece, SeqRange, StartRequest},
    core::{CloseReason, ConnectionMsg},
    model::{Gap, Seq, Start},
};

impl From<ReadFailure> for NoPiece {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::FellOff => Self::FellOff,
            ReadFailure::Unreadable => Self::Ends(CloseReason::HistoryUnreadable),
            ReadFailure::Busy => Self::Ends(CloseReason::HistoryBusy),
            ReadFailure::Closed => Self::Ends(CloseReason::Drained),
        }
    }
}

/// Why a connection has no piece to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPiece {
    /// The piece is being read from disk; the end of the read wakes the slot.
    NotYet,
    /// Events after its cursor have been evicted.
    FellOff,
    /// The connection cannot continue.
    Ends(CloseReason),
}

impl Engine {
    /// Starts to read the next piece, up to `through`.
    pub(super) fn begin_disk_read(
        &mut self,
        index: u32,
        range: &SeqRange,
        through: Seq,
    ) -> Result<(), NoPiece> {
        let Some(slot) = self.slots.get_mut(index as usize) else { return Ok(()) };
        let Some(reads) = &self.log_reads else {
            return Err(NoPiece::Ends(CloseReason::HistoryUnreadable));
        };
        let mut reader = slot.reader.take().unwrap_or_default();
        let (patterns, named) = (slot.subscriber.patterns(), slot.subscriber.named());
        let range =
            SeqRange { events_max: DISK_READ_EVENTS_MAX, bytes_max: reads.piece_bytes(), ..*range };
        let read = self.backend.log_read(patterns, named, &mut reader, &range, through);
        slot.reader = Some(reader);
        match reads.read(read) {
            Ok(pending) => self.extras.add_disk_read(index, range.after, pending),
            Err(ReadsBusy) => return Err(NoPiece::Ends(CloseReason::HistoryBusy)),
        }
        // Meanwhile the replay permit serves a connection that reads from memory.
        self.extras.end_replay(index);
        let msg = ConnectionMsg::ReadsDisk(range.through);
        slot.connection.handle(msg, self.now_ms, &self.limits);
        Ok(())
    }

    /// The piece, if it has been read.
    pub(super) fn take_disk_read(
        &mut self,
        index: u32,
        range: &SeqRange,
    ) -> Result<Piece, NoPiece> {
        let waker = self.slot_waker(index).ok_or(NoPiece::NotYet)?;
        let (after, read) = self.extras.disk_read(index).ok_or(NoPiece::NotYet)?;
        let is_from_here = *after == range.after;
        let result = result_of(read, &waker)?;
        self.extras.end_disk_read(index);
        let mut piece = result?.into_piece();
        if !is_from_here {
            return Ok(Piece { events: Vec::new(), through: range.after, more: true });
        }
        // Events published since the read began are not in the piece.
        piece.more = piece.through < range.through;
        Ok(piece)
    }

    /// Wakes a slot.
    fn slot_waker(&self, index: u32) -> Option<Waker> {
        let slot = self.slots.get(index as usize)?;
        Some(Waker::from(SlotWaker::new(slot.key(index), Arc::clone(self.ready.list()))))
    }

    /// Makes the search for the start of a connection wait for memory, or continue in the log on
    /// disk.
    pub(super) fn begin_disk_search(
        &mut self,
        index: u32,
        search: LastSearch,
    ) -> Result<(), NoPiece> {
        let Some(slot) = self.slots.get_mut(index as usize) else { return Ok(()) };
        let Some(reads) = &self.log_reads else {
            return Err(NoPiece::Ends(CloseReason::HistoryUnreadable));
        };
        let Ok(pending) = reads.search(search) else {
            return Err(NoPiece::Ends(CloseReason::HistoryBusy));
        };
        self.extras.add_disk_search(index, pending);
        self.extras.end_replay(index);
        let msg = ConnectionMsg::ReadsDisk(self.backend.head());
        slot.connection.handle(msg, self.now_ms, &self.limits);
        // Polled now, so that its end wakes the slot.
        match self.take_disk_search(index) {
            // It is over already: the search goes on in the next pass.
            Ok(()) => {
                if let Some(slot) = self.slots.get_mut(index as usize) {
                    self.ready.put_off(index, slot);
                }
                Ok(())
            }
            Err(NoPiece::NotYet) => Ok(()),
            ends => ends,
        }
    }

    /// Takes the result of a search of the disk, if the search is over.
    pub(super) fn take_disk_search(&mut self, index: u32) -> Result<(), NoPiece> {
        if !self.extras.has_disk_search(index) {
            return Ok(());
        }
        let waker = self.slot_waker(index).ok_or(NoPiece::NotYet)?;
        let pending = self.extras.disk_search(index).ok_or(NoPiece::NotYet)?;
        let result = result_of(pending, &waker)?;
        self.extras.end_disk_search(index);
        let step = result?;
        if let Some(reader) =
            self.slots.get_mut(index as usize).and_then(|slot| slot.reader.as_mut())
        {
            reader.return_search(step);
        }
        Ok(())
    }

    /// Continues a stream whose next events were evicted: it skips them, with a gap.
    pub(super) fn resume_behind_loss(&mut self, index: u32, after: Seq) {
        let head = self.backend.head();
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        // A connection that starts with the last events of its channels gets no older ones.
        let skipped = slot.reader.as_mut().and_then(|reader| self.backend.skip_lost(reader, after));
        if let Some((cursor, gap)) = skipped {
            return self.resume_at(index, cursor, Some(gap));
        }
        let start = Start::At(self.backend.position(after));
        let (patterns, named) = (slot.subscriber.patterns(), slot.subscriber.named());
        let asked = StartRequest { start: &start, types: &[], truncated: false };
        let resume = self.backend.resume(patterns, named, asked, head);
        let is_searching_start = resume.reader.is_searching_start();
        slot.reader = Some(Box::new(resume.reader));
        if is_searching_start {
            self.extras.begin_resuming(index);
            // One step of the search is all that it does in a pass.
            slot.reads_left = 0;
            return self.step(index, ConnectionMsg::NothingUpTo(Seq::ZERO));
        }
        self.resume_at(index, resume.cursor, resume.gap);
    }

    /// Continues a stream at a cursor.
    pub(super) fn resume_at(&mut self, index: u32, cursor: Seq, gap: Option<Gap>) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Some((framing, gap)) = slot.subscriber.framing().zip(gap) else {
            return self.step(index, ConnectionMsg::NothingUpTo(cursor));
        };
        self.metrics.gaps.count(gap.reason.as_str());
        let open_names = slot.subscriber.open_names(cursor);
        let mut block = Vec::new();
        slot.coding.wrap(&mut block, |out| framing.gap(&gap, out));
        let msg = ConnectionMsg::Skipped { to: cursor, gap: block.into(), open_names };
        self.step(index, msg);
    }
}

/// The result of a read or a search of the disk. If it is not over, its end wakes the slot.
fn result_of<T>(
    pending: &mut (impl Future<Output = Result<T, ReadFailure>> + Unpin),
    waker: &Waker,
) -> Result<Result<T, ReadFailure>, NoPiece> {
    match Pin::new(pending).poll(&mut Context::from_waker(waker)) {
        Poll::Ready(result) => Ok(result),
        Poll::Pending => Err(NoPiece::NotYet),
    }
}

/// Events of one read of the disk; usually its limit of bytes is reached first.
const DISK_READ_EVENTS_MAX: usize = 1_000;
