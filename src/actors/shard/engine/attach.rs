//! Taking a connection on: its place in the lists, where it starts, its first words.

use std::{io, mem, sync::Arc};

use bytes::Bytes;

use super::{Engine, READS_PER_TURN};
use crate::{
    actors::{
        peer::{Peer, SlotPeer, SlotWaker, StreamSocket},
        shard::{
            registry::VACANT,
            slot::{Slot, SlotKey, Subscribed},
            sockets::Sockets,
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
        let waker = SlotWaker::new(self.next_key(), Arc::clone(&self.ready));
        self.take_on(subscriber, SlotPeer::other(peer, waker), head, ticket, now_ms)
    }

    /// Takes on a stream whose socket `sockets` is to watch.
    pub(in crate::actors::shard) fn attach_stream(
        &mut self,
        subscriber: Subscriber,
        socket: StreamSocket,
        sockets: &Sockets,
        head: Bytes,
        now_ms: u64,
    ) -> io::Result<SlotKey> {
        // What comes in from here on is reported.
        sockets.watch(&socket, self.next_key())?;
        Ok(self.take_on(subscriber, SlotPeer::Socket(socket), head, None, now_ms))
    }

    fn next_key(&self) -> SlotKey {
        let index = self.slots.vacant_key() as u32;
        SlotKey { index, generation: self.generation.wrapping_add(1) }
    }

    fn take_on(
        &mut self,
        mut subscriber: Subscriber,
        mut peer: SlotPeer,
        head: Bytes,
        ticket: Option<PollTicket>,
        now_ms: u64,
    ) -> SlotKey {
        self.now_ms = now_ms;
        let key = self.next_key();
        self.generation = key.generation;
        let index = key.index;

        // Register first: whatever the log commits from here on comes as a round or lies before
        // the head that is read below.
        let place = if Subscribed::is_plain(&subscriber) {
            self.registry.add_plain(index, subscriber.named[0].entry())
        } else {
            self.registry.add_mixed(index, &subscriber);
            VACANT
        };
        let (transport, policy) = (subscriber.shape.transport(), subscriber.policy);
        let mut due_ms = subscriber.ends_after_ms.map_or(u64::MAX, |after| now_ms + after);
        if let Some(mut lease) = subscriber.lease.take() {
            lease.due_ms = due_ms;
            due_ms = due_ms.min(lease.until_ms);
            lease.settle(key);
            self.leases.insert(index, lease);
        }
        if let Some(origin) = subscriber.origin.take() {
            self.origins.insert(index, origin);
        }
        let replay = subscriber.replay.take();
        let (retry_ms, hello) = (subscriber.retry_ms, subscriber.hello);
        let start = mem::replace(&mut subscriber.start, Start::Now);
        let subscriber = Subscribed::new(subscriber, ticket);

        let head_seq = self.backend.head();
        let at_head = match &start {
            Start::Now => true,
            Start::At(at) => at.epoch == self.backend.epoch() && at.seq == head_seq,
            _ => false,
        };
        let (patterns, named) = (subscriber.patterns(), subscriber.named());
        // At the head, whatever its channels have lost lies before.
        let start_now = if at_head { &Start::Now } else { &start };
        let resume = self.backend.resume(patterns, named, start_now, head_seq);
        let reading = (!at_head).then(|| Box::new(resume.reading));
        if let Some(turn) = replay.filter(|_| !at_head) {
            self.replays.insert(index, turn);
        }
        if let Some(gap) = &resume.gap {
            Metrics::count(&self.metrics.gaps, gap.reason.as_str());
        }
        // A closed channel still owes its closing event to those who stand before it.
        let open = subscriber.named().filter(|entry| entry.owes_closing(resume.cursor));
        let open_names = open.count() as u16;

        // Before its first words: a client that has them is counted.
        self.metrics.connections_opened.inc();
        self.gauge(transport).inc();
        let mut preamble = Vec::with_capacity(head.len() + PREAMBLE_BYTES);
        preamble.extend_from_slice(&head);
        if transport == Transport::Stream {
            let retry_ms = retry_ms.unwrap_or_else(|| self.jittered_retry_ms());
            // Behind a gap the client moves on with the gap event: should the connection break
            // before it, the client comes back from where it stood, and is told again.
            let token = match &resume.gap {
                Some(gap) if Start::parse(&gap.requested).is_ok() => gap.requested.clone(),
                _ => self.backend.position(resume.cursor).to_string(),
            };
            preamble.extend(first_block(retry_ms, token));
            if hello {
                preamble.extend(hello_block(&subscriber.id().to_string()));
            }
            if let Some(gap) = &resume.gap {
                preamble.extend(gap.to_block());
            }
        }
        let mut preamble = Bytes::from(preamble);
        let mut taken = 0;
        // If this fails, writing the rest does too, and ends it.
        let _ = peer.write_all(&preamble, &mut taken);
        preamble = if taken == preamble.len() { Bytes::new() } else { preamble.split_off(taken) };
        let joint = Joint {
            cursor: resume.cursor,
            replay_through: resume.head,
            preamble,
            due_ms,
            open_names,
            has_patterns: !subscriber.patterns().is_empty(),
        };
        let connection = Connection::new(joint, transport, policy, now_ms);
        self.slots.insert(Slot {
            connection,
            peer,
            subscriber,
            reading,
            check_ms: u64::MAX,
            opened_s: (now_ms / 1_000) as u32,
            generation: key.generation,
            place,
            reads_left: READS_PER_TURN,
            is_queued: false,
        });
        self.guarded(index, |engine| {
            match resume.gap {
                Some(gap) if transport == Transport::Poll => engine.answer_gap(index, gap),
                _ => engine.step(index, ConnectionMsg::Writable),
            }
            engine.look_at_input_unless_told(index);
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

/// Room for the first block of a stream.
const PREAMBLE_BYTES: usize = 96;
