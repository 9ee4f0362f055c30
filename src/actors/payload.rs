//! The bytes of one send: one or more events, encoded once for all connections of a shape.

use std::sync::Arc;

use bytes::Bytes;

use super::subscriber::{Form, Shape};
use crate::{
    core::Subscription,
    model::{Event, EventKind, Framing, Seq},
};

/// Events and their wire bytes, in log order.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    events: Vec<Arc<Event>>,
    bytes: Bytes,
    /// Where each event ends in `bytes`; empty when there is at most one event.
    event_ends: Vec<u32>,
    closes: bool,
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
        match shape.form {
            Form::Frames => Self::frames(events),
            Form::Framed(framing) => Self::framed(events, framing),
            Form::Poll { .. } => Self::assemble(events, Bytes::new(), Vec::new()),
        }
    }

    fn frames(events: Vec<Arc<Event>>) -> Self {
        if let [only] = &events[..] {
            let bytes = only.bytes().clone();
            return Self::assemble(events, bytes, Vec::new());
        }
        let mut bytes = Vec::with_capacity(events.iter().map(|e| e.bytes().len()).sum());
        let mut event_ends = Vec::with_capacity(events.len());
        for event in &events {
            bytes.extend_from_slice(event.bytes());
            event_ends.push(bytes.len() as u32);
        }
        Self::assemble(events, bytes.into(), event_ends)
    }

    fn framed(events: Vec<Arc<Event>>, framing: &'static dyn Framing) -> Self {
        let mut bytes = Vec::new();
        let mut event_ends = Vec::with_capacity(events.len());
        for event in &events {
            framing.event(event, &mut bytes);
            event_ends.push(bytes.len() as u32);
        }
        Self::assemble(events, bytes.into(), event_ends)
    }

    fn assemble(events: Vec<Arc<Event>>, bytes: Bytes, event_ends: Vec<u32>) -> Self {
        let closes = events.iter().any(|event| event.kind == EventKind::Closed);
        Self { events, bytes, event_ends, closes }
    }

    /// The events.
    pub(crate) fn events(&self) -> &[Arc<Event>] {
        &self.events
    }

    /// The wire bytes.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether one of the events closes its channel.
    pub(crate) fn closes(&self) -> bool {
        self.closes
    }

    /// How many events come after `seq`, and their bytes; a poll's form has none.
    pub(crate) fn after(&self, seq: Seq) -> (u32, u64) {
        let index = self.events.partition_point(|event| event.seq <= seq);
        let bytes = self.bytes.len() - self.end_before(index);
        ((self.events.len() - index) as u32, bytes as u64)
    }

    /// What is left when only `taken` bytes were written. The rest is a copy of its own, so that a
    /// stalled connection keeps at most one event and not the whole send.
    pub(crate) fn split(&self, taken: usize) -> Split {
        if taken == 0 {
            return Split { begun: 0, rest: Bytes::new() };
        }
        let index = self.event_ends.partition_point(|&end| (end as usize) < taken);
        let end = self.event_ends.get(index).map_or(self.bytes.len(), |&end| end as usize);
        Split { begun: index + 1, rest: Bytes::copy_from_slice(&self.bytes[taken..end]) }
    }

    fn end_before(&self, index: usize) -> usize {
        match index {
            0 => 0,
            _ if index == self.events.len() => self.bytes.len(),
            _ => self.event_ends.get(index - 1).map_or(0, |&end| end as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChannelName, Draft, Epoch, NewEvent, Position};

    fn event(seq: u64, data: &str) -> Arc<Event> {
        let position = Position { epoch: Epoch::new(0, 1), seq: Seq(seq) };
        Arc::new(Event {
            seq: position.seq,
            epoch: position.epoch,
            time_ms: 0,
            channel: ChannelName::parse("c").expect("a name"),
            kind: EventKind::Published,
            frame: Draft::new(&NewEvent::message(data)).finish(position),
        })
    }

    #[test]
    fn a_split_at_any_byte_leaves_the_event_in_flight_and_nothing_else() {
        for count in 1..4_u64 {
            let events: Vec<_> =
                (1..=count).map(|seq| event(seq, &"x".repeat(seq as usize))).collect();
            let payload = Payload::new(events.clone(), &Shape::frames());
            for taken in 1..=payload.bytes().len() {
                let split = payload.split(taken);
                let begun: usize = events[..split.begun].iter().map(|e| e.bytes().len()).sum();
                assert_eq!(taken + split.rest.len(), begun, "{taken} of {count}");
                assert!(split.rest.len() < events[split.begun - 1].bytes().len());
            }
            assert_eq!(payload.split(0).begun, 0);
        }
    }
}
