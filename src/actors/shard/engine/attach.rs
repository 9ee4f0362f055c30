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
    backend::Begun,
    core::{Connection, ConnectionMsg, Joint, Transport},
    model::{Gap, Seq, Start, first_block, hello_block},
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
        // Where it starts may have to be found out in turns; then its first words come after that.
        let is_looking_back = resume.reading.is_looking_back();
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
        if transport == Transport::Stream && !is_looking_back {
            let hello = hello.then(|| subscriber.id());
            let gap = resume.gap.as_ref();
            self.first_words(&mut preamble, retry_ms, hello, resume.cursor, gap);
        }
        let mut preamble = Bytes::from(preamble);
        let mut taken = 0;
        // If this fails, writing the rest does too, and ends it.
        let _ = peer.write_all(&preamble, &mut taken);
        preamble = if taken == preamble.len() { Bytes::new() } else { preamble.split_off(taken) };
        let joint = Joint {
            cursor: resume.cursor,
            replay_through: if is_looking_back { Seq(u64::MAX) } else { resume.head },
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

    /// Goes on to find out where a connection starts, and lets it begin when that is known.
    pub(super) fn look_back(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Some(reading) = &mut slot.reading else { return };
        let (patterns, named) = (slot.subscriber.patterns(), slot.subscriber.named());
        let Some(Begun { cursor, gap }) = self.backend.look_back(patterns, named, reading) else {
            // A look is all that it has of a turn.
            slot.reads_left = 0;
            return self.step(index, ConnectionMsg::Passed(Seq::ZERO));
        };
        if let Some(gap) = &gap {
            Metrics::count(&self.metrics.gaps, gap.reason.as_str());
        }
        let mut words = Vec::with_capacity(PREAMBLE_BYTES);
        match (slot.connection.transport(), gap) {
            (Transport::Poll, Some(gap)) => return self.answer_gap(index, gap),
            (Transport::Poll, None) => {}
            (Transport::Stream, gap) => {
                let Subscribed::Full(full) = &slot.subscriber else { return };
                let Subscriber { id, hello, retry_ms, .. } = full.subscriber;
                self.first_words(&mut words, retry_ms, hello.then_some(id), cursor, gap.as_ref());
            }
        }
        let replay_through = self.backend.head();
        self.step(index, ConnectionMsg::Begun { cursor, replay_through, words: words.into() });
    }

    /// What a stream begins with: its first block, and what is due to it before any event.
    fn first_words(
        &mut self,
        words: &mut Vec<u8>,
        retry_ms: Option<u32>,
        hello: Option<u64>,
        cursor: Seq,
        gap: Option<&Gap>,
    ) {
        let retry_ms = retry_ms.unwrap_or_else(|| self.jittered_retry_ms());
        // Behind a gap the client moves on with the gap event: should the connection break
        // before it, the client comes back from where it stood, and is told again.
        let token = match gap {
            Some(gap) if Start::parse(&gap.requested).is_ok() => gap.requested.clone(),
            _ => self.backend.position(cursor).to_string(),
        };
        words.extend(first_block(retry_ms, token));
        if let Some(id) = hello {
            words.extend(hello_block(&id.to_string()));
        }
        if let Some(gap) = gap {
            words.extend(gap.to_block());
        }
    }
}

/// Room for the first block of a stream.
const PREAMBLE_BYTES: usize = 96;
