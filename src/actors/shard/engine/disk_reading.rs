//! A connection whose next events are on disk: a thread of [`LogReads`](crate::actors::log_reads) reads
//! them, and wakes its slot.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::engine::Engine;
use crate::{
    actors::{
        log_reads::{ReadFailure, ReadsBusy},
        peer::SlotWaker,
    },
    backend::{LastSearch, Piece, SeqRange, StartRequest},
    core::{CloseReason, ConnectionMsg, Effect, Transport},
    model::{Gap, Seq, Start},
};

/// Why a connection has no piece to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPiece {
    /// It is read from disk, which wakes the slot.
    NotYet,
    /// Events after its cursor have been evicted.
    FellOff,
    /// It cannot go on.
    Ends(CloseReason),
}

impl Engine {
    /// Has the next piece read, up to `through`.
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
        // Others are sent history from memory meanwhile.
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
        let Some(slot) = self.slots.get(index as usize) else { return Err(NoPiece::NotYet) };
        let waker = Waker::from(SlotWaker::new(slot.key(index), Arc::clone(self.ready.list())));
        let Some((after, read)) = self.extras.disk_read(index) else {
            return Err(NoPiece::NotYet);
        };
        let is_from_here = *after == range.after;
        let Poll::Ready(result) = Pin::new(read).poll(&mut Context::from_waker(&waker)) else {
            return Err(NoPiece::NotYet);
        };
        self.extras.end_disk_read(index);
        match result {
            Ok(read) if is_from_here => {
                let mut piece = read.into_piece();
                // Events published since the read began are not in the piece.
                piece.more = piece.through < range.through;
                Ok(piece)
            }
            Ok(_) => Ok(Piece { events: Vec::new(), through: range.after, more: true }),
            Err(ReadFailure::FellOff) => Err(NoPiece::FellOff),
            Err(ReadFailure::Unreadable) => Err(NoPiece::Ends(CloseReason::HistoryUnreadable)),
            Err(ReadFailure::Closed) => Err(NoPiece::Ends(CloseReason::Drained)),
        }
    }

    /// Has a search for the start of a connection go on in the log on disk.
    pub(super) fn begin_disk_search(
        &mut self,
        index: u32,
        search: LastSearch,
    ) -> Result<(), CloseReason> {
        let Some(slot) = self.slots.get_mut(index as usize) else { return Ok(()) };
        let Some(reads) = &self.log_reads else { return Err(CloseReason::HistoryUnreadable) };
        let Ok(pending) = reads.search(search) else { return Err(CloseReason::HistoryBusy) };
        self.extras.add_disk_search(index, pending);
        // A search by patterns may hold some hundred kilobytes: the permits bound their number.
        if slot.subscriber.patterns().is_empty() {
            self.extras.end_replay(index);
        }
        let msg = ConnectionMsg::ReadsDisk(self.backend.head());
        slot.connection.handle(msg, self.now_ms, &self.limits);
        // So that its end wakes the slot.
        match self.take_disk_search(index) {
            // It is over already: the search goes on in the next pass.
            Ok(()) => {
                if let Some(slot) = self.slots.get_mut(index as usize) {
                    self.ready.put_off(index, slot);
                }
                Ok(())
            }
            Err(NoPiece::Ends(reason)) => Err(reason),
            Err(_) => Ok(()),
        }
    }

    /// Takes a search of the disk back, if it is over.
    pub(super) fn take_disk_search(&mut self, index: u32) -> Result<(), NoPiece> {
        let Some(pending) = self.extras.disk_search(index) else { return Ok(()) };
        let Some(slot) = self.slots.get_mut(index as usize) else { return Ok(()) };
        let waker = Waker::from(SlotWaker::new(slot.key(index), Arc::clone(self.ready.list())));
        let Poll::Ready(result) = Pin::new(pending).poll(&mut Context::from_waker(&waker)) else {
            return Err(NoPiece::NotYet);
        };
        self.extras.end_disk_search(index);
        match (result, &mut slot.reader) {
            (Ok(search), Some(reader)) => {
                reader.go_on(search);
                Ok(())
            }
            (Ok(_), None) => Ok(()),
            (Err(ReadFailure::Closed), _) => Err(NoPiece::Ends(CloseReason::Drained)),
            (Err(_), _) => Err(NoPiece::Ends(CloseReason::HistoryUnreadable)),
        }
    }

    /// Ends a connection whose start cannot be found. A waiting poll is answered 204; its next request gets
    /// the error.
    pub(super) fn end_search(&mut self, index: u32, reason: CloseReason) {
        let is_poll = self
            .slots
            .get(index as usize)
            .is_some_and(|slot| slot.connection.transport() == Transport::Poll);
        match is_poll {
            true => self.perform(index, Effect::AnswerEmpty),
            false => self.finish(index, reason),
        }
    }

    /// Continues a stream whose next events were evicted: it skips them, with a gap.
    pub(super) fn resume_behind_loss(&mut self, index: u32, after: Seq) {
        let head = self.backend.head();
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
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
        let open = slot.subscriber.named().filter(|entry| entry.events().closing_event_due(cursor));
        let open_names = open.count() as u16;
        let mut block = Vec::new();
        slot.coding.wrap(&mut block, |out| framing.gap(&gap, out));
        let msg = ConnectionMsg::Skipped { to: cursor, gap: block.into(), open_names };
        self.step(index, msg);
    }
}

/// Events of one read of the disk; usually its limit of bytes is reached first.
const DISK_READ_EVENTS_MAX: usize = 1_000;
