//! A shard without its actor, for benches: a log, its backend, an engine, and peers that count.

// Each bench uses what it needs of it.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    cell::Cell,
    io,
    rc::Rc,
    sync::{Arc, atomic::AtomicU32},
    time::{Duration, Instant},
};

use bytes::Bytes;
use visnyk::{
    actors::{
        Admission, Batch, CountedEntry, Engine, Form, Holder, Input, Lease, Peer, PollTicket, Run,
        Shape, SlotKey, SlotWaker, Subscriber,
    },
    backend::{ChannelEntry, EventStore, Registry},
    core::{CloseReason, Limits, SlowPolicy, Subscription},
    http::Handoff,
    model::{
        ChannelName, ChannelSelector, Draft, EnvelopeAnswers, Epoch, Event, EventKind, NewEvent,
        Seq, Start, TransferCoding,
    },
    telemetry::Metrics,
};

/// A log with one engine.
pub(crate) struct Shard {
    pub(crate) backend: Arc<EventStore>,
    pub(crate) engine: Engine,
    last: Seq,
    admitted: Arc<AtomicU32>,
    frames: Arc<Shape>,
    answers: Arc<Shape>,
}

impl Shard {
    pub(crate) fn new() -> Self {
        let Limits { history, connections, .. } = Limits::default();
        let registry = Arc::new(Registry::new(&Limits::default()));
        let backend =
            Arc::new(EventStore::new(Epoch::new(1, 1), history.total_bytes_max, registry));
        Self {
            engine: Engine::new(Arc::clone(&backend), connections, Metrics::new(), 0, 1, NOW_MS),
            backend,
            last: Seq::ZERO,
            admitted: Arc::default(),
            frames: Arc::new(Shape::frames()),
            answers: Arc::new(Shape {
                form: Form::Poll { encoding: &EnvelopeAnswers, limit: 100 },
                types: Box::default(),
            }),
        }
    }

    pub(crate) fn entry(&self, name: &str) -> Arc<ChannelEntry> {
        let name = ChannelName::parse(name).unwrap();
        self.backend.registry().directory().find_or_create(&name, NOW_MS).unwrap()
    }

    /// The next event of the log, not in history yet.
    pub(crate) fn next_event(&mut self, entry: &ChannelEntry, draft: Draft) -> Arc<Event> {
        self.last = self.last.next();
        let position = self.backend.position(self.last);
        Arc::new(Event {
            seq: position.seq,
            epoch: position.epoch,
            time_ms: NOW_MS,
            accepted_ms: NOW_MS,
            channel: entry.name().clone(),
            kind: EventKind::Published,
            frame: draft.finish(position),
        })
    }

    /// Commits a batch of `events` events of [`PAYLOAD`] to one channel.
    pub(crate) fn commit(&mut self, entry: &Arc<ChannelEntry>, events: usize) -> Arc<Batch> {
        let first = self.last.next();
        let message = NewEvent::message(PAYLOAD);
        let events: Vec<_> =
            (0..events).map(|_| self.next_event(entry, Draft::new(&message))).collect();
        for event in &events {
            self.backend.append(entry, event);
        }
        self.backend.commit(self.last);
        let runs = vec![Run { entry: Arc::clone(entry), events }];
        Arc::new(Batch::new(first, self.last, NOW_MS, runs, Vec::new()))
    }

    /// Gives a batch to the engine and sends it to everyone.
    pub(crate) fn fan_out(&mut self, batch: Arc<Batch>) {
        self.engine.push_batch(batch, NOW_MS);
        while self.engine.work(NOW_MS) {}
    }

    /// Attaches a stream whose bytes are counted.
    pub(crate) fn attach(
        &mut self,
        channels: &[&str],
        start: Start,
        taken: &TakenBytes,
    ) -> SlotKey {
        let subscriber = self.subscriber(channels, Arc::clone(&self.frames), start, None);
        self.connect(subscriber, None, taken)
    }

    /// The same with a token that expires, but not in this bench.
    pub(crate) fn attach_leased(
        &mut self,
        channels: &[&str],
        start: Start,
        taken: &TakenBytes,
    ) -> SlotKey {
        let mut subscriber = self.subscriber(channels, Arc::clone(&self.frames), start, None);
        let subject = Some(Arc::from("subject"));
        let holder = Holder { subject, until_ms: Some(NOW_MS + TOKEN_MS) };
        subscriber.lease = Some(Box::new(Lease::alone(1, holder)));
        self.connect(subscriber, None, taken)
    }

    /// Attaches a long-poll that waits for the next event.
    pub(crate) fn wait(&mut self, channels: &[&str], taken: &TakenBytes) -> SlotKey {
        let ticket = Handoff::ticket_of(Bytes::new(), true);
        let answers = Arc::clone(&self.answers);
        let subscriber = self.subscriber(channels, answers, Start::Now, Some(POLL_WAIT_MS));
        self.connect(subscriber, Some(ticket), taken)
    }

    /// Attaches a stream and lets it read until it is live.
    pub(crate) fn replay(&mut self, channels: &[&str], taken: &TakenBytes) -> SlotKey {
        let key = self.attach(channels, Start::Earliest, taken);
        let mut before = 0;
        while taken.get() > before {
            before = taken.get();
            self.engine.serve_ready(1, NOW_MS);
        }
        key
    }

    /// Attaches a stream that reads from the oldest event to the head; gives the longest time that
    /// one call of the engine took.
    pub(crate) fn longest_turn(&mut self, channels: &[&str]) -> Duration {
        let taken: TakenBytes = Rc::default();
        let begun = Instant::now();
        let key = self.attach(channels, Start::Earliest, &taken);
        let mut longest = begun.elapsed();
        let mut more = true;
        while more {
            let begun = Instant::now();
            more = self.engine.serve_ready(1, NOW_MS);
            longest = longest.max(begun.elapsed());
        }
        self.engine.close(key, CloseReason::PeerClosed);
        longest
    }

    fn connect(
        &mut self,
        subscriber: Subscriber,
        ticket: Option<PollTicket>,
        taken: &TakenBytes,
    ) -> SlotKey {
        let peer = Box::new(Counting(Rc::clone(taken)));
        self.engine.attach(subscriber, peer, Bytes::new(), ticket, NOW_MS)
    }

    fn subscriber(
        &self,
        channels: &[&str],
        shape: Arc<Shape>,
        start: Start,
        ends_after_ms: Option<u64>,
    ) -> Subscriber {
        let selectors = channels.iter().map(|text| ChannelSelector::parse(text).unwrap());
        let subscription = Subscription::new(selectors, [], 100).unwrap();
        let names = subscription.names().iter();
        let named = names
            .map(|name| CountedEntry::new(self.entry(name.as_str()), shape.transport()))
            .collect();
        Subscriber {
            id: 1,
            counted_patterns: Vec::new(),
            named,
            patterns: subscription.into_patterns(),
            shape,
            coding: TransferCoding::Chunked,
            start,
            policy: SlowPolicy::Disconnect,
            ends_after_ms,
            opening: None,
            lease: None,
            client_info: None,
            record: None,
            replay: None,
            admission: Admission::take(&self.admitted, u32::MAX).unwrap(),
        }
    }
}

/// Bytes that peers have taken.
pub(crate) type TakenBytes = Rc<Cell<u64>>;

/// Takes every byte at once.
#[derive(Debug)]
struct Counting(Rc<Cell<u64>>);

impl Peer for Counting {
    fn try_write(&mut self, bytes: &Bytes, _: &Arc<SlotWaker>) -> io::Result<usize> {
        self.0.set(self.0.get() + bytes.len() as u64);
        Ok(bytes.len())
    }

    fn poll_input(&mut self, _: &Arc<SlotWaker>) -> Input {
        Input::Quiet
    }
}

/// How long a token is good for.
const TOKEN_MS: u64 = 3_600_000;
/// How long a poll waits.
const POLL_WAIT_MS: u64 = 20_000;
pub(crate) const NOW_MS: u64 = 1_767_323_045_678;

/// 128 bytes.
pub(crate) const PAYLOAD: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\
                           0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
