//! Reads history for connections that are BEHIND.

use std::sync::Arc;

use super::{disk_reading::NoPiece, engine::Engine};
use crate::{
    actors::{payload::Payload, subscriber::Form},
    backend::{Piece, SeqRange},
    core::{ConnectionMsg, Effect, NotInMemory},
    model::{Gap, GapReason, PollAnswer, Seq},
};

impl Engine {
    /// Reads the next piece of history and sends it.
    pub(super) fn read(&mut self, index: u32, after: Seq) {
        let range = SeqRange {
            after,
            through: self.backend.head().max(after),
            events_max: READ_EVENTS_MAX,
            bytes_max: READ_BYTES_MAX,
        };
        let Some(slot) = self.slots.get(index as usize) else { return };
        if slot.reader.as_ref().is_some_and(|reader| reader.is_searching_start()) {
            return self.search_start(index);
        }
        let shape = Arc::clone(slot.subscriber.shape(self.fan_out.plain_shape()));
        let poll_limit = match shape.form {
            Form::Poll { limit, .. } => Some(limit as usize),
            _ => None,
        };
        let piece = match self.read_piece(index, &range) {
            Ok(piece) => piece,
            Err(NoPiece::NotYet) => return self.schedule(index),
            // A waiting poll is answered 204; its next request gets the error.
            Err(NoPiece::Ends(_)) if poll_limit.is_some() => {
                return self.perform(index, Effect::AnswerEmpty);
            }
            Err(NoPiece::Ends(reason)) => return self.finish(index, reason),
            Err(NoPiece::FellOff) if poll_limit.is_some() => {
                return self.answer_fallen_off(index, after);
            }
            Err(NoPiece::FellOff) if self.log_reads.is_some() => {
                return self.resume_behind_loss(index, after);
            }
            Err(NoPiece::FellOff) => return self.step(index, ConnectionMsg::FellOff),
        };
        let mut through = piece.through;
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if piece.events.is_empty() {
            let msg = match piece.more {
                true => {
                    // After a read that finds nothing, the connection continues in a later pass.
                    slot.reads_left = 0;
                    ConnectionMsg::NothingUpTo(through)
                }
                false => ConnectionMsg::CaughtUp(through),
            };
            self.step(index, msg);
            return self.drop_reader_if_live(index);
        }
        if let Some(limit) = poll_limit {
            // The limit counts events that pass the filter, not all events read.
            let mut events = Payload::new(piece.events, &shape).events().to_vec();
            if events.is_empty() {
                return self.step(index, ConnectionMsg::Sent { through, sent: (0, 0) });
            }
            if events.len() > limit.max(1) {
                events.truncate(limit.max(1));
                through = events.last().map_or(through, |event| event.seq);
            }
            let position = self.epoch.at(through);
            return self
                .answer(index, PollAnswer { events, position, truncated: false, gap: None });
        }
        let payload = self.read_cache.payload(&shape, piece.events);
        self.send(index, &payload, through, (!piece.more).then_some(through));
        self.drop_reader_if_live(index);
    }

    /// Drops the history reader of a LIVE connection; it is recreated when the connection falls
    /// behind.
    fn drop_reader_if_live(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize)
            && !slot.connection.is_behind()
        {
            slot.reader = None;
        }
    }

    /// The next piece of what a connection receives.
    fn read_piece(&mut self, index: u32, range: &SeqRange) -> Result<Piece, NoPiece> {
        if self.extras.disk_read(index).is_some() {
            return self.take_disk_read(index, range);
        }
        match self.read_memory(index, range) {
            Ok(piece) => {
                if self.log_reads.is_some()
                    && let Some(slot) = self.slots.get_mut(index as usize)
                {
                    let msg = ConnectionMsg::ReadsMemory(range.through);
                    slot.connection.handle(msg, self.now_ms, &self.limits);
                }
                Ok(piece)
            }
            Err(NotInMemory::FellOff) => Err(NoPiece::FellOff),
            Err(NotInMemory::OnDisk(through)) => {
                self.begin_disk_read(index, range, through)?;
                self.take_disk_read(index, range)
            }
        }
    }

    /// The same, if it is in memory.
    pub(super) fn read_memory(
        &mut self,
        index: u32,
        range: &SeqRange,
    ) -> Result<Piece, NotInMemory> {
        let Some(slot) = self.slots.get_mut(index as usize) else { return Ok(Piece::default()) };
        let mut reader = slot.reader.take().unwrap_or_default();
        let (patterns, named) = (slot.subscriber.patterns(), slot.subscriber.named());
        let piece = self.backend.read(patterns, named, &mut reader, range);
        slot.reader = Some(reader);
        piece
    }

    /// Moves the cursor to the newest event; the client gets a gap.
    pub(super) fn skip(&mut self, index: u32, from: Seq) -> Effect {
        let to = self.backend.head();
        let gap = Gap {
            reason: GapReason::Slow,
            requested: self.epoch.at(from).to_string(),
            oldest: self.epoch.at(to),
            channel: None,
        };
        self.metrics.gaps.count(gap.reason.as_str());
        self.extras.end_disk_read(index);
        let Some(slot) = self.slots.get_mut(index as usize) else { return Effect::None };
        slot.reader = None;
        let Some(framing) = slot.subscriber.framing() else { return Effect::None };
        let (mut blocks, mut open_names) = (Vec::new(), 0);
        slot.coding.wrap(&mut blocks, |out| {
            framing.gap(&gap, out);
            // Closing events among the skipped ones must still take effect.
            for entry in slot.subscriber.named() {
                match entry.events().closed_seq() {
                    Some(closed) if closed <= from => {}
                    Some(closed) if closed <= to => framing.channel_closed(entry.name(), out),
                    _ => open_names += 1,
                }
            }
        });
        let msg = ConnectionMsg::Skipped { to, gap: blocks.into(), open_names };
        slot.connection.handle(msg, self.now_ms, &self.limits)
    }
}

// Tests of the crate run with bounds so small that they are hit all the time.
/// Events of one read of history.
const READ_EVENTS_MAX: usize = if cfg!(test) { 5 } else { 128 };
/// Frame bytes after which a read of history stops.
pub(super) const READ_BYTES_MAX: usize = if cfg!(test) { 700 } else { 48 * 1024 };
