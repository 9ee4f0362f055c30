//! A hub without actors: a log, its backend, engines, and batches on their way between them.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::pipe::Pipe;
use crate::{
    actors::{
        batch::{Batch, Run},
        shard::Engine,
        slot_key::SlotKey,
        subscriber::{Admission, CountedEntry, Form, PollTicket, Shape, Subscriber},
    },
    backend::{ChannelEntry, EventStore, Registry},
    core::{CloseReason, Limits, SlowPolicy, Subscription},
    model::{
        ChannelName, ChannelSelector, Draft, EnvelopeAnswers, Epoch, Event, EventKind, EventType,
        NewEvent, PollReply, Seq, Start, TransferCoding,
    },
    telemetry::Metrics,
};

/// Everything of a hub but its actors. Nothing happens by itself.
pub(super) struct World {
    pub(super) backend: Arc<EventStore>,
    pub(super) limits: Limits,
    pub(super) metrics: Arc<Metrics>,
    pub(super) engines: Vec<Engine>,
    /// Batches that an engine has not been given yet, or their last seqs if they do not concern it.
    pub(super) rings: Vec<VecDeque<Result<Arc<Batch>, Seq>>>,
    /// How far each engine has been given the log.
    pub(super) given: Vec<Seq>,
    /// By engine: whether the last pass has left something to do.
    pub(super) is_in_pass: Vec<bool>,
    /// The whole log; the event of seq 1 comes first.
    pub(super) log: Vec<Arc<Event>>,
    /// The first and last seqs of the batches.
    pub(super) batches: Vec<(u64, u64)>,
    pub(super) now_ms: u64,
    shapes: FxHashMap<Shape, Arc<Shape>>,
    next_id: u64,
}

/// A subscription as a test writes it.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) selectors: Vec<&'static str>,
    pub(super) types: Vec<&'static str>,
    pub(super) form: Form,
    pub(super) coding: TransferCoding,
    pub(super) start: Start,
    pub(super) policy: SlowPolicy,
    pub(super) ends_after_ms: Option<u64>,
}

impl Ask {
    /// A plain stream of what comes from now on.
    pub(super) fn stream(selectors: &[&'static str]) -> Self {
        Self {
            selectors: selectors.to_vec(),
            types: Vec::new(),
            form: Form::Frames,
            coding: TransferCoding::None,
            start: Start::Now,
            policy: SlowPolicy::Disconnect,
            ends_after_ms: None,
        }
    }

    /// The same from another start.
    pub(super) fn from(self, start: Start) -> Self {
        Self { start, ..self }
    }
}

impl World {
    pub(super) fn new(limits: Limits, engines: usize) -> Self {
        let registry = Arc::new(Registry::new(&limits));
        let bytes_max = limits.history.total_bytes_max;
        let backend = Arc::new(EventStore::new(Epoch::new(1_000, 7), bytes_max, registry));
        let metrics = Metrics::new();
        let engine = |index| {
            let (backend, metrics) = (Arc::clone(&backend), Arc::clone(&metrics));
            Engine::new(backend, limits.connections.clone(), metrics, index, index as u64, START_MS)
        };
        Self {
            engines: (0..engines).map(engine).collect(),
            rings: vec![VecDeque::new(); engines],
            given: vec![Seq::ZERO; engines],
            is_in_pass: vec![false; engines],
            backend,
            limits,
            metrics,
            log: Vec::new(),
            batches: Vec::new(),
            now_ms: START_MS,
            shapes: FxHashMap::default(),
            next_id: 0,
        }
    }

    pub(super) fn entry(&self, name: &str) -> Arc<ChannelEntry> {
        let name = ChannelName::parse(name).unwrap();
        self.backend.registry().directory().find_or_create(&name, self.now_ms).unwrap()
    }

    pub(super) fn entry_if_any(&self, name: &str) -> Option<Arc<ChannelEntry>> {
        self.backend.registry().directory().find(&ChannelName::parse(name).unwrap())
    }

    /// Commits a batch, as the log does: history first, then on its way to the engines. Events
    /// for closed channels are left out.
    pub(super) fn publish(&mut self, events: &[(&str, NewEvent)]) {
        let drafts = events.iter().map(|(name, event)| (self.entry(name), Draft::new(event)));
        let drafts = drafts.filter(|(entry, _)| !entry.events().is_closed()).collect();
        self.commit(drafts, EventKind::Published);
    }

    /// Publishes one plain message.
    pub(super) fn say(&mut self, name: &str, data: &str) {
        self.publish(&[(name, NewEvent::message(data))]);
    }

    /// Closes a channel.
    pub(super) fn close(&mut self, name: &str) {
        let entry = self.entry(name);
        if !entry.events().is_closed() {
            self.commit(vec![(entry, Draft::closed(name))], EventKind::Closed);
        }
    }

    fn commit(&mut self, drafts: Vec<(Arc<ChannelEntry>, Draft)>, kind: EventKind) {
        if drafts.is_empty() {
            return;
        }
        let first = Seq(self.log.len() as u64 + 1);
        let mut runs: Vec<Run> = Vec::new();
        for (entry, draft) in drafts {
            let position = self.backend.position(Seq(self.log.len() as u64 + 1));
            let event = Arc::new(Event {
                seq: position.seq,
                epoch: position.epoch,
                time_ms: self.now_ms,
                accepted_ms: self.now_ms,
                channel: entry.name().clone(),
                kind,
                frame: draft.finish(position),
            });
            self.backend.append(&entry, &event);
            self.log.push(Arc::clone(&event));
            match runs.iter_mut().find(|run| run.entry.id() == entry.id()) {
                Some(run) => run.events.push(event),
                None => runs.push(Run { entry, events: vec![event] }),
            }
        }
        let last = Seq(self.log.len() as u64);
        self.backend.commit(last);
        self.batches.push((first.0, last.0));
        let batch = Arc::new(Batch::new(first, last, self.now_ms, runs, Vec::new()));
        let target_shards =
            self.backend.registry().target_shards(batch.runs().iter().map(|run| &*run.entry));
        for (engine, ring) in self.rings.iter_mut().enumerate() {
            ring.push_back(target_shards.contains(engine).then(|| Arc::clone(&batch)).ok_or(last));
        }
    }

    /// Hands the next batch to an engine, or tells it how far the log is; false without a batch.
    pub(super) fn push_batch(&mut self, engine: usize) -> bool {
        match self.rings[engine].pop_front() {
            None => return false,
            Some(Ok(batch)) => {
                self.given[engine] = batch.last();
                self.engines[engine].push_batch(batch, self.now_ms);
            }
            Some(Err(through)) => {
                self.given[engine] = through;
                self.engines[engine].note_log_head(through);
            }
        }
        true
    }

    /// The loop of an engine's shard sleeps or goes on, by what the engine has left to do.
    pub(super) fn end_pass(&mut self, engine: usize) {
        self.is_in_pass[engine] = self.engines[engine].has_more();
    }

    /// Whether it goes on, or has been woken.
    pub(super) fn takes_pass(&self, engine: usize) -> bool {
        self.is_in_pass[engine] || self.engines[engine].take_wake()
    }

    /// Lets all engines do what there is to do.
    pub(super) fn settle(&mut self) {
        for engine in 0..self.engines.len() {
            while self.push_batch(engine) {}
            let now_ms = self.now_ms;
            let engine = &mut self.engines[engine];
            let mut passes = 0;
            while engine.work(now_ms) | engine.serve_ready(256, now_ms) | !engine.is_idle() {
                passes += 1;
                assert!(passes < 100_000, "it never comes to rest");
            }
        }
    }

    /// Lets time pass, with a tick of each engine at the end.
    pub(super) fn tick(&mut self, ms: u64) {
        self.now_ms += ms;
        for engine in 0..self.engines.len() {
            while self.engines[engine].tick(self.now_ms) {}
            self.end_pass(engine);
        }
    }

    /// Drains the first engine.
    pub(super) fn drain(&mut self, window_ms: u64) {
        self.engines[0].drain(window_ms, self.now_ms);
        while self.engines[0].drain_some(self.now_ms) {}
    }

    /// Attaches `pipe` to an engine; gives the connection's id and address.
    pub(super) fn attach(&mut self, engine: usize, ask: &Ask, pipe: &Pipe) -> (u64, SlotKey) {
        let subscriber = self.subscriber(ask);
        let id = subscriber.id;
        let ticket = matches!(ask.form, Form::Poll { .. }).then(|| PollTicket {
            header_lines: Bytes::new(),
            keep_alive: true,
            render,
            record: None,
        });
        let engine = &mut self.engines[engine];
        let key = engine.attach(subscriber, pipe.hub_end(), Bytes::new(), ticket, self.now_ms);
        (id, key)
    }

    pub(super) fn subscriber(&mut self, ask: &Ask) -> Subscriber {
        self.next_id += 1;
        let selectors = ask.selectors.iter().map(|text| ChannelSelector::parse(text).unwrap());
        let types = ask.types.iter().map(|text| EventType::parse(text).unwrap());
        let subscription = Subscription::new(selectors, types, 100).unwrap();
        let shape = Shape { form: ask.form, types: subscription.types().into() };
        let shape = Arc::clone(self.shapes.entry(shape.clone()).or_insert_with(|| Arc::new(shape)));
        let transport = shape.transport();
        let names = subscription.names().iter();
        let named = names.map(|name| CountedEntry::new(self.entry(name.as_str()), transport));
        Subscriber {
            id: self.next_id,
            named: named.collect(),
            counted_patterns: Vec::new(),
            patterns: subscription.into_patterns(),
            shape,
            coding: ask.coding,
            start: ask.start.clone(),
            policy: ask.policy,
            ends_after_ms: ask.ends_after_ms,
            opening: None,
            lease: None,
            client_info: None,
            record: None,
            replay: None,
            admission: Admission::take(&Arc::default(), 1).unwrap(),
        }
    }

    /// Connections of an engine that ended since the last call, and why.
    pub(super) fn ended(&mut self, engine: usize) -> Vec<(u64, CloseReason)> {
        std::mem::take(&mut self.engines[engine].ended)
    }

    /// A position in this log.
    pub(super) fn at(&self, seq: u64) -> Start {
        Start::At(self.backend.position(Seq(seq)))
    }
}

/// A poll's response in a form that is easy to read back: status, position, body.
fn render(reply: &PollReply, _: &PollTicket) -> Bytes {
    let mut response = format!("{} {}\n", reply.status, reply.position).into_bytes();
    response.extend_from_slice(&reply.body);
    response.into()
}

pub(super) const START_MS: u64 = 1_000_000;

pub(super) fn world() -> World {
    World::new(Limits::default(), 1)
}

pub(super) fn world_with(set: impl FnOnce(&mut Limits)) -> World {
    let mut limits = Limits::default();
    set(&mut limits);
    World::new(limits, 1)
}

pub(super) fn join(world: &mut World, ask: &Ask) -> Pipe {
    let pipe = Pipe::open();
    world.attach(0, ask, &pipe);
    pipe
}

/// A client that has its first block and takes nothing more.
pub(super) fn join_and_stop(world: &mut World, ask: &Ask) -> Pipe {
    let pipe = join(world, ask);
    pipe.stop();
    pipe
}

/// Joins after the event of this seq.
pub(super) fn join_after(world: &mut World, selectors: &[&'static str], seq: u64) -> Pipe {
    let start = world.at(seq);
    join(world, &Ask::stream(selectors).from(start))
}

pub(super) fn poll(selectors: &[&'static str], start: Start) -> Ask {
    Ask {
        form: Form::Poll { encoding: &EnvelopeAnswers, limit: 100 },
        ends_after_ms: Some(20_000),
        ..Ask::stream(selectors).from(start)
    }
}

pub(super) fn skipping(ask: Ask) -> Ask {
    Ask { policy: SlowPolicy::Skip, ..ask }
}

pub(super) fn reasons(world: &mut World) -> Vec<CloseReason> {
    world.ended(0).into_iter().map(|(_, reason)| reason).collect()
}

pub(super) fn evict(world: &mut World, name: &str) {
    let entry = world.entry(name);
    world.backend.evict_all(&entry);
    assert!(world.backend.registry().directory().evict(entry), "{name} is held");
}

/// Position and data of a poll's answer.
pub(super) fn read_answer(pipe: &Pipe) -> (String, Vec<String>) {
    let text = pipe.text();
    let (head, body) = text.split_once('\n').unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let events = body["events"].as_array().into_iter().flatten();
    let events = events.map(|event| event["data"].as_str().unwrap().to_owned()).collect();
    (head[4..].to_owned(), events)
}
