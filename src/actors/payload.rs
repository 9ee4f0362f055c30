//! The bytes of one send: one or more events, encoded once for all connections of a shape.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::subscriber::{Form, Shape};
use crate::{
    core::Subscription,
    model::{CHUNK_HEAD_BYTES, CHUNK_TAIL_BYTES, Event, EventKind, Framing, Seq, TransferCoding},
};

/// Events and their wire bytes, in log order.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    events: Vec<Arc<Event>>,
    /// Each event a chunk, for HTTP/1.1.
    chunked: Wire,
    /// Without chunk framing, made for the first connection that needs it.
    plain: OnceLock<Box<Wire>>,
    closes: bool,
}

/// The bytes of all events.
#[derive(Debug, Default)]
struct Wire {
    bytes: Bytes,
    /// Where each event ends in `bytes`; empty when there is at most one event.
    event_ends: Vec<u32>,
}

/// What a partial write leaves.
#[derive(Debug)]
pub(crate) struct Split {
    /// Events of which at least a byte was taken.
    pub(crate) begun: usize,
    /// What is left of the event in flight.
    pub(crate) rest: Bytes,
}

impl Payload {
    /// The events of `events` that `shape` lets through, in its form. A poll's form has no bytes
    /// here: its answer is made from the events.
    pub(crate) fn new(mut events: Vec<Arc<Event>>, shape: &Shape) -> Self {
        if !shape.types.is_empty() {
            events.retain(|event| Subscription::wants(&shape.types, event));
        }
        let chunked = match shape.form {
            Form::Frames => Wire::frames(&events),
            Form::Framed(framing) => Wire::framed(&events, framing),
            Form::Poll { .. } => Wire::default(),
        };
        let closes = events.iter().any(|event| event.kind == EventKind::Closed);
        Self { events, chunked, plain: OnceLock::new(), closes }
    }

    /// The events.
    pub(crate) fn events(&self) -> &[Arc<Event>] {
        &self.events
    }

    /// The wire bytes.
    #[inline]
    pub(crate) fn bytes(&self, coding: TransferCoding) -> &Bytes {
        &self.wire(coding).bytes
    }

    /// How many bytes it keeps, about.
    pub(crate) fn len(&self) -> usize {
        self.chunked.bytes.len()
    }

    /// Whether one of the events closes its channel.
    pub(crate) fn closes(&self) -> bool {
        self.closes
    }

    /// How many events come after `seq`, and their bytes, as chunks; a poll's form has none.
    pub(crate) fn after(&self, seq: Seq) -> (u32, u64) {
        let index = self.events.partition_point(|event| event.seq <= seq);
        let bytes = self.chunked.bytes.len() - self.end_before(index);
        ((self.events.len() - index) as u32, bytes as u64)
    }

    /// What is left when only `taken` bytes were written. The rest is a copy of its own, so that a
    /// stalled connection keeps at most one event and not the whole send.
    pub(crate) fn split(&self, coding: TransferCoding, taken: usize) -> Split {
        if taken == 0 {
            return Split { begun: 0, rest: Bytes::new() };
        }
        let Wire { bytes, event_ends } = self.wire(coding);
        let index = event_ends.partition_point(|&end| (end as usize) < taken);
        let end = event_ends.get(index).map_or(bytes.len(), |&end| end as usize);
        Split { begun: index + 1, rest: Bytes::copy_from_slice(&bytes[taken..end]) }
    }

    #[inline]
    fn wire(&self, coding: TransferCoding) -> &Wire {
        match coding {
            TransferCoding::Chunked => &self.chunked,
            TransferCoding::None => self.plain.get_or_init(|| Box::new(self.chunked.unchunked())),
        }
    }

    fn end_before(&self, index: usize) -> usize {
        match index {
            0 => 0,
            _ if index == self.events.len() => self.chunked.bytes.len(),
            _ => self.chunked.event_ends.get(index - 1).map_or(0, |&end| end as usize),
        }
    }
}

impl Wire {
    fn frames(events: &[Arc<Event>]) -> Self {
        if let [only] = events {
            return Self { bytes: only.bytes().clone(), event_ends: Vec::new() };
        }
        let mut bytes = Vec::with_capacity(events.iter().map(|e| e.bytes().len()).sum());
        let mut event_ends = Vec::with_capacity(events.len());
        for event in events {
            bytes.extend_from_slice(event.bytes());
            event_ends.push(bytes.len() as u32);
        }
        Self { bytes: bytes.into(), event_ends }
    }

    fn framed(events: &[Arc<Event>], framing: &'static dyn Framing) -> Self {
        let mut bytes = Vec::new();
        let mut event_ends = Vec::with_capacity(events.len());
        for event in events {
            TransferCoding::Chunked.wrap(&mut bytes, |bytes| framing.event(event, bytes));
            event_ends.push(bytes.len() as u32);
        }
        Self { bytes: bytes.into(), event_ends }
    }

    /// The same without chunk framing. One event is not copied.
    fn unchunked(&self) -> Self {
        if self.event_ends.len() < 2 {
            let inner = CHUNK_HEAD_BYTES..self.bytes.len().max(CHUNK_TAIL_BYTES) - CHUNK_TAIL_BYTES;
            let bytes = if self.bytes.is_empty() { Bytes::new() } else { self.bytes.slice(inner) };
            return Self { bytes, event_ends: Vec::new() };
        }
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let mut event_ends = Vec::with_capacity(self.event_ends.len());
        let mut begin = 0;
        for &end in &self.event_ends {
            let end = end as usize;
            if end > begin {
                let text = begin + CHUNK_HEAD_BYTES..end - CHUNK_TAIL_BYTES;
                bytes.extend_from_slice(&self.bytes[text]);
            }
            begin = end;
            event_ends.push(bytes.len() as u32);
        }
        Self { bytes: bytes.into(), event_ends }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChannelName, Epoch, NewEvent, Position};

    fn event(seq: u64, data: &str) -> Arc<Event> {
        let position = Position { epoch: Epoch::new(0, 1), seq: Seq(seq) };
        Arc::new(Event::published(
            position,
            &ChannelName::parse("c").expect("a name"),
            0,
            &NewEvent::message(data),
        ))
    }

    #[test]
    fn a_split_at_any_byte_leaves_the_event_in_flight_and_nothing_else() {
        for count in 1..4_u64 {
            let events: Vec<_> =
                (1..=count).map(|seq| event(seq, &"x".repeat(seq as usize))).collect();
            let payload = Payload::new(events.clone(), &Shape::frames());
            type Text = fn(&Event) -> &[u8];
            let codings: [(TransferCoding, Text); 2] =
                [(TransferCoding::Chunked, |e| e.bytes()), (TransferCoding::None, Event::text)];
            for (coding, text) in codings {
                let all: Vec<_> = events.iter().flat_map(|event| text(event)).copied().collect();
                assert_eq!(payload.bytes(coding)[..], all);
                for taken in 1..=all.len() {
                    let split = payload.split(coding, taken);
                    let begun: usize = events[..split.begun].iter().map(|e| text(e).len()).sum();
                    assert_eq!(split.rest[..], all[taken..begun], "{taken} of {count}");
                    assert!(split.rest.len() < text(&events[split.begun - 1]).len());
                }
                assert_eq!(payload.split(coding, 0).begun, 0);
            }
        }
    }
}
