//! A connection that is behind reads on from history.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Engine, READ_BYTES_MAX, READ_EVENTS_MAX};
use crate::{
    actors::{
        payload::Payload,
        shard::slot::{Reading, Subscribed},
        subscriber::{Form, Shape},
    },
    backend::{ChannelId, Member, MemoryBackend},
    core::{ConnectionMsg, Effect, FellOff},
    model::{Event, Gap, GapReason, PollAnswer, Seq, closed_block},
    telemetry::Metrics,
};

impl Engine {
    /// Reads on from history.
    pub(super) fn read(&mut self, index: u32, after: Seq) {
        // The head comes first: whatever lies up to it is in channels that are listed below.
        let head = self.backend.head();
        let births = self.backend.directory().births();
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let (mut reading, lost) = match slot.reading.take() {
            Some(reading) if reading.births == births => (reading, false),
            known => Self::list_anew(&self.backend, &slot.subscriber, known, after),
        };
        let poll_limit = match slot.subscriber.shape(&self.plain_shape).form {
            Form::Poll { limit, .. } => Some(limit as usize),
            _ => None,
        };
        let (events_max, bytes_max) = (READ_EVENTS_MAX, READ_BYTES_MAX);
        let slice = match lost {
            true => Err(FellOff { evicted_through: head }),
            false => self.backend.read(&reading.members, after, head, events_max, bytes_max),
        };
        let only = match &reading.members[..] {
            [only] => Some(only.entry.id()),
            _ => None,
        };
        if slot.connection.is_behind() {
            slot.reading = Some(reading);
        } else {
            reading.members.clear();
        }
        let slice = match slice {
            Ok(slice) => slice,
            Err(_) if poll_limit.is_some() => return self.answer_fallen_off(index, after),
            Err(_) => return self.step(index, ConnectionMsg::FellOff),
        };
        let Some(last) = slice.events.last().map(|event| event.seq) else {
            return self.step(index, ConnectionMsg::CaughtUp(head.max(after)));
        };
        let shape = Arc::clone(slot.subscriber.shape(&self.plain_shape));
        let mut through = if slice.more { last } else { head.max(last) };
        if let Some(limit) = poll_limit {
            // The limit counts what passes the filter, not what is looked at.
            let mut events = Payload::new(slice.events, &shape).events().to_vec();
            if events.is_empty() {
                return self.step(index, ConnectionMsg::Sent { through, sent: (0, 0) });
            }
            if events.len() > limit.max(1) {
                events.truncate(limit.max(1));
                through = events.last().map_or(through, |event| event.seq);
            }
            let position = self.backend.position(through);
            return self.answer(index, PollAnswer { events, position, gap: None });
        }
        let payload = self.read_payload(only, &shape, slice.events);
        let caught_up = (!slice.more).then_some(through);
        self.send(index, &payload, last, caught_up);
    }

    /// The bytes of a read, shared with the next connection that reads the same.
    fn read_payload(
        &mut self,
        only: Option<ChannelId>,
        shape: &Arc<Shape>,
        events: Vec<Arc<Event>>,
    ) -> Arc<Payload> {
        let Some((channel, (first, last))) =
            only.zip(events.first().zip(events.last()).map(|(f, l)| (f.seq, l.seq)))
        else {
            return Arc::new(Payload::new(events, shape));
        };
        if !shape.is_plain() {
            return Arc::new(Payload::new(events, shape));
        }
        let key = (channel, first, last, events.len());
        match &self.last_read {
            Some((kept, payload)) if *kept == key => Arc::clone(payload),
            _ => {
                let payload = Arc::new(Payload::new(events, shape));
                self.last_read = Some((key, Arc::clone(&payload)));
                payload
            }
        }
    }

    /// Jumps to the newest event, and says so.
    pub(super) fn skip(&mut self, index: u32, from: Seq) -> Effect {
        let to = self.backend.head();
        let gap = Gap {
            reason: GapReason::Slow,
            requested: self.backend.position(from).to_string(),
            oldest: self.backend.position(to),
            channel: None,
        };
        Metrics::count(&self.metrics.gaps, gap.reason.as_str());
        let Some(slot) = self.slots.get_mut(index as usize) else { return Effect::None };
        slot.reading = None;
        // That a channel is closed must not be lost with what is skipped.
        let mut words = gap.to_block();
        let mut open_names = 0;
        for entry in slot.subscriber.named() {
            match entry.closed_seq() {
                Some(closed) if closed <= from => {}
                Some(closed) if closed <= to => words.extend(closed_block(entry.name().as_str())),
                _ => open_names += 1,
            }
        }
        let msg = ConnectionMsg::Skipped { to, gap: words.into(), open_names };
        slot.connection.handle(msg, self.now_ms, &self.limits)
    }

    pub(super) fn members_of(
        backend: &MemoryBackend,
        subscriber: &Subscribed,
        told_through: Seq,
    ) -> Reading {
        // The births are read first: a channel born meanwhile makes the list stale, not short.
        let births = backend.directory().births();
        let mut members: Vec<Member> =
            subscriber.named().map(|entry| Member::new(Arc::clone(entry))).collect();
        let named = members.len();
        for entry in backend.directory().matching(subscriber.patterns()) {
            if !members[..named].iter().any(|member| member.entry.id() == entry.id()) {
                members.push(Member::new(entry));
            }
        }
        Reading { members, births, told_through }
    }

    /// Lists the members of a connection that has everything up to `after`, and says whether a
    /// channel that it does not know has lost events since: one that was forgotten, or has been
    /// born anew.
    fn list_anew(
        backend: &MemoryBackend,
        subscriber: &Subscribed,
        known: Option<Box<Reading>>,
        after: Seq,
    ) -> (Box<Reading>, bool) {
        let told_through = known.as_ref().map_or(after, |known| known.told_through.max(after));
        let mut listed = Self::members_of(backend, subscriber, told_through);
        let known = known.iter().flat_map(|known| &known.members);
        let known: FxHashMap<ChannelId, Seq> =
            known.map(|member| (member.entry.id(), member.told_through)).collect();
        let patterns = subscriber.patterns();
        let mut lost = backend.directory().forgotten_after(patterns, told_through).is_some();
        for member in &mut listed.members {
            match known.get(&member.entry.id()) {
                // What has been told of a channel stays told.
                Some(&told_through) => member.told_through = told_through,
                None => lost |= member.entry.born_after() > told_through,
            }
        }
        (Box::new(listed), lost)
    }
}
