//! Taking a connection on: its place in the lists, where it starts, its first words.

use std::sync::Arc;

use bytes::Bytes;

use super::{Engine, READS_PER_TURN};
use crate::{
    actors::{
        peer::{Peer, SlotWaker},
        shard::{
            registry::{VACANT, named_entries},
            slot::{Slot, SlotKey},
        },
        subscriber::{PollTicket, Subscriber},
    },
    core::{Connection, ConnectionMsg, Joint, Transport},
    model::{Start, first_block, hello_block},
    telemetry::Metrics,
};

impl Engine {
    /// Takes a connection on: registers it, finds out where it starts, and sends what it can.
    /// `head` is what goes before the stream (a response head).
    pub fn attach(
        &mut self,
        subscriber: Subscriber,
        peer: Box<dyn Peer>,
        head: Bytes,
        ticket: Option<PollTicket>,
        now_ms: u64,
    ) -> SlotKey {
        self.now_ms = now_ms;
        self.generation = self.generation.wrapping_add(1);
        let transport = subscriber.shape.transport();
        let index = self.slots.vacant_key() as u32;
        let key = SlotKey { index, generation: self.generation };

        // Register first: whatever the log commits from here on comes as a round or lies before
        // the head that `resume` reads below.
        let place = if Slot::is_plain(&subscriber) {
            self.registry.add_plain(index, subscriber.named[0].entry())
        } else {
            self.registry.add_mixed(index, &subscriber);
            VACANT
        };
        let head_seq = self.backend.head();
        let named = named_entries(&subscriber);
        let resume =
            self.backend.resume(&subscriber.subscription, named, &subscriber.start, head_seq);

        let mut preamble = Vec::from(&head[..]);
        if transport == Transport::Stream {
            let retry_ms = subscriber.retry_ms.unwrap_or_else(|| self.jittered_retry_ms());
            // Behind a gap the client moves on with the gap event: should the connection break
            // before it, the client comes back from where it stood, and is told again.
            let token = match &resume.gap {
                Some(gap) if Start::parse(&gap.requested).is_ok() => gap.requested.clone(),
                _ => self.backend.position(resume.cursor).to_string(),
            };
            preamble.extend(first_block(retry_ms, token));
            if subscriber.hello {
                preamble.extend(hello_block(&subscriber.id.to_string()));
            }
            if let Some(gap) = &resume.gap {
                preamble.extend(gap.to_block());
            }
        }
        if let Some(gap) = &resume.gap {
            Metrics::count(&self.metrics.gaps, gap.reason.as_str());
        }
        // A closed channel still owes its closing event to those who stand before it.
        let open = named_entries(&subscriber).filter(|entry| entry.owes_closing(resume.cursor));
        let joint = Joint {
            cursor: resume.cursor,
            replay_through: resume.head,
            preamble: preamble.into(),
            due_ms: subscriber.ends_after_ms.map_or(u64::MAX, |after| now_ms + after),
            open_names: open.count() as u16,
            has_patterns: !subscriber.subscription.patterns().is_empty(),
        };
        let connection = Connection::new(joint, transport, subscriber.policy, now_ms);
        self.slots.insert(Slot {
            connection,
            peer,
            waker: SlotWaker::new(key, Arc::clone(&self.ready)),
            subscriber: Box::new(subscriber),
            reading: Some(Box::new(resume.reading)),
            ticket: ticket.map(Box::new),
            check_ms: u64::MAX,
            opened_s: (now_ms / 1_000) as u32,
            generation: key.generation,
            place,
            reads_left: READS_PER_TURN,
        });
        self.metrics.connections_opened.inc();
        self.gauge(transport).inc();
        self.guarded(index, |engine| {
            match resume.gap {
                Some(gap) if transport == Transport::Poll => engine.answer_gap(index, gap),
                _ => engine.step(index, ConnectionMsg::Writable),
            }
            engine.look_at_input(index);
        });
        if let Some(until_ms) = self.drain_until_ms
            && self.slots.contains(index as usize)
        {
            self.drain_slot(index, until_ms);
        }
        self.schedule(index);
        key
    }
}
