//! Attaches a connection: registers it, finds its start, and sends its preamble.

use std::{io, mem, sync::Arc};

use bytes::Bytes;

use super::{
    disk_reading::NoPiece,
    engine::{Engine, READS_PER_PASS},
};
use crate::{
    actors::{
        ClientInfo, Lease,
        peer::{Peer, SlotPeer, SlotWaker, StreamSocket},
        shard::{
            registry::VACANT,
            slot::{Slot, Subscribed},
            sockets::Sockets,
        },
        slot_key::SlotKey,
        subscriber::{PollTicket, ReplayPermit, StreamOpening, Subscriber},
    },
    backend::{StartFound, StartRequest},
    core::{Connection, ConnectionMsg, ConnectionStart, Transport},
    model::{ChannelPattern, Framing, Gap, Preamble, Seq, Start},
    telemetry::AccessRecord,
};

/// The data that a connection needs only until it has started.
struct NewConnection {
    start: Start,
    /// When the connection ends by itself, in milliseconds; `u64::MAX` is never.
    due_ms: u64,
    lease: Option<Box<Lease>>,
    client_info: Option<Box<ClientInfo>>,
    record: Option<Box<AccessRecord>>,
    replay: Option<ReplayPermit>,
    opening: Option<Box<StreamOpening>>,
    /// The response head.
    head: Bytes,
}

/// The content of `visnyk.hello`.
struct Hello {
    id: u64,
    truncated: bool,
}

impl Hello {
    fn of(id: u64, subscriber: &Subscribed, matched_truncated: bool) -> Self {
        let truncated =
            matched_truncated || subscriber.named().any(|entry| entry.events().is_truncated());
        Self { id, truncated }
    }
}

impl Engine {
    /// Attaches a connection: registers it, finds its start, and sends its first bytes. `head` is
    /// the response head.
    pub fn attach(
        &mut self,
        subscriber: Subscriber,
        peer: Box<dyn Peer>,
        head: Bytes,
        ticket: Option<PollTicket>,
        now_ms: u64,
    ) -> SlotKey {
        let waker = SlotWaker::new(self.next_key(), Arc::clone(self.ready.list()));
        self.attach_slot(subscriber, SlotPeer::other(peer, waker), head, ticket, now_ms)
    }

    /// Attaches a stream and registers its socket with `sockets`.
    pub(in crate::actors::shard) fn attach_stream(
        &mut self,
        subscriber: Subscriber,
        socket: StreamSocket,
        sockets: &Sockets,
        head: Bytes,
        now_ms: u64,
    ) -> io::Result<SlotKey> {
        // From here on the poller reports the socket.
        sockets.watch(&socket, self.next_key())?;
        Ok(self.attach_slot(subscriber, SlotPeer::Socket(socket), head, None, now_ms))
    }

    fn next_key(&self) -> SlotKey {
        let index = self.slots.vacant_key() as u32;
        SlotKey { index, generation: self.generation.wrapping_add(1) }
    }

    fn attach_slot(
        &mut self,
        mut subscriber: Subscriber,
        peer: SlotPeer,
        head: Bytes,
        ticket: Option<PollTicket>,
        now_ms: u64,
    ) -> SlotKey {
        self.now_ms = now_ms;
        let key = self.next_key();
        self.generation = key.generation;
        let index = key.index;
        let transport = subscriber.shape.transport();
        let (policy, due_ms) = (subscriber.policy, subscriber.ends_after_ms);
        let new = NewConnection {
            start: mem::replace(&mut subscriber.start, Start::Now),
            due_ms: due_ms.map_or(u64::MAX, |after| now_ms + after),
            lease: subscriber.lease.take(),
            client_info: subscriber.client_info.take(),
            record: subscriber.record.take(),
            replay: subscriber.replay.take(),
            opening: subscriber.opening.take(),
            head,
        };
        // The slot is created first, with an empty connection. A panic from here on is one in a
        // step of this connection, which is then closed and removed from all lists.
        self.slots.insert(Slot {
            connection: Connection::new(ConnectionStart::default(), transport, policy, now_ms),
            peer,
            coding: subscriber.coding,
            subscriber: Subscribed::new(subscriber, ticket),
            reader: None,
            check_ms: u64::MAX,
            sent_bytes: 0,
            opened_s: (now_ms / 1_000) as u32,
            generation: key.generation,
            plain_index: VACANT,
            reads_left: READS_PER_PASS,
            heartbeats: 0,
            is_queued: false,
        });
        // Counted before the preamble is sent, so that a client that has received it is in the
        // count.
        self.metrics.connections_opened.inc();
        self.gauge(transport).inc();
        self.guarded(index, |engine| engine.begin(key, new));
        self.drain_slot(index);
        self.schedule(index);
        key
    }

    /// Registers a new connection, finds its start, and takes its first step.
    fn begin(&mut self, key: SlotKey, new: NewConnection) {
        let index = key.index;
        let slot = &mut self.slots[index as usize];
        // Register first: an event that the log commits from here on either comes in a round or is
        // before the head that is read below.
        slot.plain_index = self.fan_out.subscribe(index, &slot.subscriber);
        let (transport, policy) = (slot.connection.transport(), slot.connection.policy());
        let mut due_ms = new.due_ms;
        if let Some(mut lease) = new.lease {
            lease.due_ms = due_ms;
            due_ms = due_ms.min(lease.until_ms);
            lease.set_slot(key);
            self.extras.add_lease(index, lease);
        }
        if let Some(client_info) = new.client_info {
            self.extras.add_client_info(index, client_info);
        }
        if let Some(record) = new.record {
            self.extras.add_record(index, record);
        }

        let head_seq = self.backend.head();
        let subscriber = &slot.subscriber;
        let (patterns, named) = (subscriber.patterns(), subscriber.named());
        let opening = new.opening;
        let says_hello = opening.as_ref().is_some_and(|opening| opening.hello);
        let asked = StartRequest {
            start: &new.start,
            types: &subscriber.shape(self.fan_out.plain_shape()).types,
            truncated: says_hello,
        };
        let resume = self.backend.resume(patterns, named, asked, head_seq);
        // The search for the start may take several passes; then the preamble is sent after it.
        let is_searching_start = resume.reader.is_searching_start();
        let at_head = resume.cursor == head_seq && !is_searching_start;
        slot.reader = (!at_head).then(|| Box::new(resume.reader));
        if let Some(permit) = new.replay.filter(|_| !at_head) {
            self.extras.add_replay(index, permit);
        }
        if let Some(gap) = &resume.gap {
            self.metrics.gaps.count(gap.reason.as_str());
        }
        let open_names = subscriber.open_names(resume.cursor);
        let (id, has_patterns) = (subscriber.id(), !patterns.is_empty());
        let (framing, coding) = (subscriber.framing(), slot.coding);

        tracing::trace!(
            id,
            after = resume.cursor.0,
            is_searching_start,
            channels = ?subscriber.named().map(|entry| entry.name().as_str()).collect::<Vec<_>>(),
            patterns = ?patterns.iter().map(ChannelPattern::as_str).collect::<Vec<_>>(),
            "connection attached"
        );
        let head = new.head;
        let mut preamble = Vec::with_capacity(head.len() + PREAMBLE_BYTES);
        preamble.extend_from_slice(&head);
        if !is_searching_start && let Some(framing) = framing {
            let hello = says_hello.then(|| Hello::of(id, subscriber, resume.truncated));
            let gap = resume.gap.as_ref();
            coding.wrap(&mut preamble, |out| {
                self.write_preamble(framing, out, opening.as_deref(), hello, resume.cursor, gap);
            });
        }
        if is_searching_start && let Some(opening) = opening {
            self.extras.add_opening(index, opening);
        }
        let mut preamble = Bytes::from(preamble);
        let mut taken = 0;
        let slot = &mut self.slots[index as usize];
        // If this write fails, the next write of the rest fails too and closes the connection.
        let _ = slot.peer.write_all(&preamble, &mut taken);
        slot.sent_bytes += taken as u64;
        preamble = if taken == preamble.len() { Bytes::new() } else { preamble.split_off(taken) };
        let connection_start = ConnectionStart {
            cursor: resume.cursor,
            replay_through: if is_searching_start { Seq(u64::MAX) } else { resume.head },
            preamble,
            due_ms,
            open_names,
            has_patterns,
        };
        slot.connection = Connection::new(connection_start, transport, policy, self.now_ms);
        match resume.gap {
            Some(gap) if transport == Transport::Poll => self.answer_gap(index, gap),
            _ => self.step(index, ConnectionMsg::Writable),
        }
        self.check_input_unless_reported(index);
    }

    /// Postpones the search for a connection's start until the disk has made the next step of it,
    /// or ends the connection.
    fn search_later(&mut self, index: u32, why: NoPiece) {
        match why {
            NoPiece::NotYet | NoPiece::FellOff => self.schedule(index),
            NoPiece::Ends(reason) => self.finish(index, reason),
        }
    }

    /// Continues the search for a connection's start; starts the connection once it is found.
    pub(super) fn search_start(&mut self, index: u32) {
        if let Err(why) = self.take_disk_search(index) {
            return self.search_later(index, why);
        }
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Some(reader) = &mut slot.reader else { return };
        let (patterns, named) = (slot.subscriber.patterns(), slot.subscriber.named());
        self.serving_cost.add_search();
        let found = self.backend.search_start(patterns, named, reader);
        let Some(StartFound { cursor, gap, truncated }) = found else {
            if let Some(search) = reader.take_search() {
                let begun = self.begin_disk_search(index, search);
                return self.search_later(index, begun.err().unwrap_or(NoPiece::NotYet));
            }
            // A connection makes at most one step of its search in a pass.
            slot.reads_left = 0;
            return self.step(index, ConnectionMsg::NothingUpTo(Seq::ZERO));
        };
        if self.extras.end_resuming(index) {
            return self.resume_at(index, cursor, gap);
        }
        if let Some(gap) = &gap {
            self.metrics.gaps.count(gap.reason.as_str());
        }
        let mut preamble = Vec::with_capacity(PREAMBLE_BYTES);
        match (slot.subscriber.framing(), gap) {
            (None, Some(gap)) => return self.answer_gap(index, gap),
            (None, None) => {}
            (Some(framing), gap) => {
                let opening = self.extras.take_opening(index);
                let (id, coding) = (slot.subscriber.id(), slot.coding);
                let says_hello = opening.as_ref().is_some_and(|opening| opening.hello);
                let hello = says_hello.then(|| Hello::of(id, &slot.subscriber, truncated));
                coding.wrap(&mut preamble, |out| {
                    let (opening, gap) = (opening.as_deref(), gap.as_ref());
                    self.write_preamble(framing, out, opening, hello, cursor, gap);
                });
            }
        }
        let replay_through = self.backend.head();
        let preamble = preamble.into();
        self.step(index, ConnectionMsg::StartFound { cursor, replay_through, preamble });
    }

    /// Writes the preamble of a stream.
    fn write_preamble(
        &mut self,
        framing: &dyn Framing,
        out: &mut Vec<u8>,
        opening: Option<&StreamOpening>,
        hello: Option<Hello>,
        cursor: Seq,
        gap: Option<&Gap>,
    ) {
        let comment = opening.and_then(|opening| opening.comment.as_deref());
        let retry_ms = opening.and_then(|opening| opening.retry_ms);
        let retry_ms = retry_ms.unwrap_or_else(|| self.jittered_retry_ms());
        let position = self.epoch.at(cursor);
        let (connection, truncated) = hello.map_or((None, false), |h| (Some(h.id), h.truncated));
        let preamble = Preamble { comment, retry_ms, position, connection, truncated, gap };
        framing.preamble(&preamble, out);
    }
}

/// Initial capacity for the first block of a stream, in bytes.
const PREAMBLE_BYTES: usize = 96;
