//! The engine as a state machine against the naive model of [`Client`] and [`Retention`].
//!
//! Steps name channels and clients by numbers that are taken modulo what there is, so that any
//! part of a failing run is a run too and shrinks well.

use std::collections::BTreeSet;

use proptest::{prelude::*, test_runner::RngSeed};

use super::{
    client::Client,
    pipe::Pipe,
    retention::Retention,
    world::{Ask, START_MS, World},
};
use crate::{
    actors::subscriber::Form,
    core::{CloseReason, Limits, SlowPolicy},
    model::{
        ChannelName, EnvelopeAnswers, EnvelopeEncoding, Epoch, EventType, LastEvents, NewEvent,
        Position, Seq, Start, TransferCoding,
    },
};

#[derive(Debug, Clone)]
enum Step {
    Publish {
        events: Vec<(u8, u8)>,
    },
    /// One event to each of many channels, in one batch.
    PublishWide {
        from: u8,
        channels: u8,
    },
    Close {
        channel: u8,
    },
    /// The tombstone of a closed channel expires.
    Expire {
        channel: u8,
    },
    Give {
        engine: u8,
        batches: u8,
    },
    Work {
        engine: u8,
        slices: u8,
    },
    Serve {
        engine: u8,
        slots: u8,
    },
    Settle,
    Attach(Attach),
    Grant {
        client: u8,
        bytes: u16,
    },
    Stop {
        client: u8,
    },
    HangUp {
        client: u8,
    },
    /// Time passes for histories: events age, and unused channels are evicted.
    Age {
        seconds: u8,
    },
    Tick {
        ms: u16,
    },
    /// Events gather for so long before they are sent.
    Gather {
        engine: u8,
        ms: u8,
    },
    /// The next step of a connection to the channel panics.
    Fault {
        engine: u8,
        channel: u8,
    },
}

#[derive(Debug, Clone)]
struct Attach {
    /// How many clients come that ask for the same.
    copies: u8,
    engine: u8,
    topic: u8,
    types: u8,
    form: u8,
    start: StartAt,
    skips: bool,
    room: Option<u16>,
    write_max: Option<u8>,
}

#[derive(Debug, Clone)]
enum StartAt {
    Now,
    Earliest,
    Last(u8),
    /// Where some client has been, on whatever transport and channels.
    Seen(u16),
    Unknown,
    OtherEpoch,
    Beyond,
}

#[derive(Debug, Clone)]
struct Bounds {
    events_max: u32,
    bytes_max: u64,
    total_bytes_max: u64,
    forgotten_max: u32,
    lag_events_max: u32,
    lag_bytes_max: u64,
    engines: usize,
}

struct Run {
    world: World,
    kept: Retention,
    clients: Vec<Client>,
    positions: BTreeSet<u64>,
    faults: usize,
}

impl Run {
    fn new(bounds: &Bounds) -> Self {
        let mut limits = Limits::default();
        limits.history.events_max = bounds.events_max;
        limits.history.bytes_max = bounds.bytes_max;
        limits.history.total_bytes_max = bounds.total_bytes_max;
        limits.history.age_max_s = 10;
        limits.channels.forgotten_max = bounds.forgotten_max;
        limits.connections.lag_events_max = bounds.lag_events_max;
        limits.connections.lag_bytes_max = bounds.lag_bytes_max;
        limits.connections.heartbeat_s = 2;
        limits.connections.write_stall_s = 5;
        let kept = Retention::new(limits.history.clone(), bounds.forgotten_max as usize);
        Self {
            world: World::new(limits, bounds.engines),
            kept,
            clients: Vec::new(),
            positions: BTreeSet::from([0]),
            faults: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish { events } => {
                let events: Vec<_> =
                    events.iter().map(|&(channel, kind)| (name(channel), event(kind))).collect();
                self.publish(&events);
            }
            Step::PublishWide { from, channels } => {
                let channels = 2 + channels % 9;
                let events: Vec<_> =
                    (0..channels).map(|n| (name(from.wrapping_add(n)), event(n))).collect();
                self.publish(&events);
            }
            Step::Close { channel } => {
                let from = self.world.log.len();
                self.world.close(name(*channel));
                self.kept.commit(&self.world.log[from..]);
            }
            Step::Expire { channel } => self.expire(name(*channel)),
            Step::Give { engine, batches } => {
                for _ in 0..=batches % 4 {
                    let engine = self.engine(*engine);
                    self.world.push_batch(engine);
                    self.world.end_pass(engine);
                    self.look();
                }
            }
            Step::Work { engine, slices } => {
                for _ in 0..=slices % 4 {
                    let engine = self.engine(*engine);
                    self.world.engines[engine].work(self.world.now_ms);
                    self.world.end_pass(engine);
                    self.look();
                }
            }
            Step::Serve { engine, slots } => {
                let engine = self.engine(*engine);
                self.world.engines[engine].serve_ready(usize::from(slots % 5), self.world.now_ms);
                self.world.end_pass(engine);
            }
            Step::Settle => self.settle(),
            Step::Attach(attach) => (0..attach.copies).for_each(|_| self.attach(attach)),
            Step::Grant { client, bytes } => {
                // A tenth of the numbers stands for a client that is quick from now on.
                let bytes = if bytes % 10 == 0 { usize::MAX } else { usize::from(bytes % 400) };
                if let Some(client) = self.client(*client) {
                    client.pipe.grant(bytes);
                }
            }
            Step::Stop { client } => {
                if let Some(client) = self.client(*client) {
                    client.pipe.stop();
                }
            }
            Step::HangUp { client } => {
                if let Some(client) = self.client(*client) {
                    client.pipe.hang_up();
                }
            }
            Step::Age { seconds } => self.age(u64::from(seconds % 12) * 1_000),
            Step::Tick { ms } => self.tick(u64::from(ms % 3_000)),
            Step::Gather { engine, ms } => {
                let engine = self.engine(*engine);
                self.world.engines[engine].set_gather_ms(u64::from(ms % 3) * 500);
            }
            Step::Fault { engine, channel } => {
                let channel = ChannelName::parse(name(*channel)).unwrap();
                let engine = self.engine(*engine);
                self.faults += usize::from(self.world.engines[engine].plant_fault(&channel));
            }
        }
        self.look();
    }

    fn publish(&mut self, events: &[(&str, NewEvent)]) {
        let from = self.world.log.len();
        self.world.publish(events);
        self.kept.commit(&self.world.log[from..]);
        assert_eq!(self.world.backend.bytes(), self.kept.cost());
        for channel in CHANNELS {
            let entry = self.world.entry_if_any(channel);
            let held: Vec<u64> = entry.map_or(Vec::new(), |entry| {
                entry.events().with_history(|history| {
                    let all =
                        history.read(history.evicted_through(), Seq(u64::MAX), 9_999, 1 << 30);
                    all.unwrap().events.iter().map(|event| event.seq.0).collect()
                })
            });
            assert_eq!(held, self.kept.of(channel), "the history of {channel}");
        }
    }

    fn attach(&mut self, attach: &Attach) {
        let engine = self.engine(attach.engine);
        let selectors = TOPICS[usize::from(attach.topic) % TOPICS.len()];
        let types = TYPE_FILTERS[usize::from(attach.types) % TYPE_FILTERS.len()];
        let (form, wait_ms) = match attach.form % 6 {
            0..=2 => (Form::Frames, None),
            3 => (Form::Framed(&EnvelopeEncoding), None),
            n => {
                let limit = if n == 4 { 2 } else { 100 };
                (Form::Poll { encoding: &EnvelopeAnswers, limit }, Some(1_500))
            }
        };
        let head = self.world.backend.head().0;
        let start = match attach.start {
            StartAt::Now => Start::Now,
            StartAt::Earliest => Start::Earliest,
            StartAt::Last(each) => {
                Start::Last(LastEvents::new(each.into()).expect("within its bounds"))
            }
            StartAt::Seen(nth) => {
                // Recent ones are likelier.
                let nth = usize::from(nth) % self.positions.len();
                self.world.at(*self.positions.iter().rev().nth(nth).unwrap())
            }
            StartAt::Unknown => Start::Unknown("7".into()),
            StartAt::OtherEpoch => {
                Start::At(Position { epoch: Epoch::new(9, 9), seq: Seq(head / 2) })
            }
            StartAt::Beyond => self.world.at(head + 5),
        };
        let policy = if attach.skips { SlowPolicy::Skip } else { SlowPolicy::Disconnect };
        let ask = Ask {
            selectors: selectors.to_vec(),
            types: types.to_vec(),
            form,
            coding: match attach.form / 6 % 3 {
                0 => TransferCoding::None,
                _ => TransferCoding::Chunked,
            },
            start,
            policy,
            ends_after_ms: wait_ms,
        };
        let pipe = Pipe::new(
            attach.room.map_or(usize::MAX, usize::from),
            attach.write_max.map_or(usize::MAX, |max| usize::from(max).max(1)),
        );
        let mut client = Client::new(&self.world, &self.kept, engine, ask.clone(), pipe.clone());
        let (id, key) = self.world.attach(engine, &ask, &pipe);
        (client.id, client.key) = (id, Some(key));
        self.clients.push(client);
    }

    fn expire(&mut self, channel: &str) {
        let Some(entry) = self.world.entry_if_any(channel) else { return };
        if !entry.events().is_closed() {
            return;
        }
        self.world.backend.evict_all(&entry);
        self.kept.drop_all(channel);
        if entry.is_removable() && self.world.backend.registry().directory().evict(entry) {
            self.kept.evict(channel);
        }
    }

    fn age(&mut self, ms: u64) {
        // Deadlines are looked at now and then, whatever else happens.
        self.tick(ms.min(1_000));
        self.world.now_ms += ms.saturating_sub(1_000);
        self.kept.age(self.world.now_ms);
        for channel in CHANNELS {
            let Some(entry) = self.world.entry_if_any(channel) else { continue };
            while self.world.backend.evict_due(&entry, self.world.now_ms) {}
            let is_removable = entry.is_removable() && !entry.events().is_closed();
            if is_removable && self.world.backend.registry().directory().evict(entry) {
                self.kept.evict(channel);
            }
        }
        self.look();
    }

    fn tick(&mut self, ms: u64) {
        self.world.tick(ms);
        self.look();
        for client in &mut self.clients {
            client.check_after_tick(&self.world);
        }
    }

    fn settle(&mut self) {
        for engine in 0..self.world.engines.len() {
            // As the shard's loop does: a pass when it is woken, and another while the last has
            // left something to do. Nor does anything gather once it is idle.
            self.world.engines[engine].set_gather_ms(0);
            self.world.engines[engine].end_gathering();
            self.world.end_pass(engine);
            while self.world.push_batch(engine) | self.world.takes_pass(engine) {
                let now_ms = self.world.now_ms;
                self.look();
                self.world.engines[engine].work(now_ms);
                self.look();
                self.world.engines[engine].serve_ready(2, now_ms);
                self.world.end_pass(engine);
                self.look();
            }
            let shard = &self.world.engines[engine];
            assert!(shard.is_idle() && !shard.has_more(), "only a tick would go on");
        }
        self.look();
        for client in &mut self.clients {
            client.check_at_rest(&self.world, &self.kept);
        }
    }

    /// Looks at what all clients have received, and at those that were ended.
    fn look(&mut self) {
        for client in &mut self.clients {
            client.watch(&self.world, &self.kept);
        }
        for engine in 0..self.world.engines.len() {
            for (id, reason) in self.world.ended(engine) {
                if reason == CloseReason::Panicked {
                    assert!(self.faults > 0, "a step panicked");
                    self.faults -= 1;
                }
                let client = self.clients.iter_mut().find(|client| client.id == id).unwrap();
                client.judge_end(&self.world, &self.kept, reason);
                assert!(client.pipe.is_ended());
            }
        }
        for client in &mut self.clients {
            client.read(&self.world, &self.kept);
            self.positions.insert(client.position());
        }
        self.clients.retain(|client| client.ended.is_none());
    }

    /// In the end everyone reads, and everyone has everything.
    fn finish(&mut self) {
        self.settle();
        for client in &self.clients {
            client.pipe.grant(usize::MAX);
        }
        self.settle();
        self.settle();
        let window_ms = 3_000;
        for engine in &mut self.world.engines {
            engine.drain(window_ms, self.world.now_ms);
            while engine.drain_some(self.world.now_ms) {}
        }
        self.look();
        for _ in 0..=window_ms / 64 + 1 {
            self.tick(64);
        }
        assert!(self.clients.is_empty(), "{:?} outlived the drain", self.clients);
        let gauges = &self.world.metrics;
        assert_eq!((gauges.streams.get(), gauges.pollers.get()), (0, 0));
        for channel in CHANNELS {
            if let Some(entry) = self.world.entry_if_any(channel) {
                assert!(entry.has_no_subscribers(), "{channel} still has subscribers");
            }
        }
    }

    fn engine(&self, number: u8) -> usize {
        usize::from(number) % self.world.engines.len()
    }

    fn client(&mut self, number: u8) -> Option<&mut Client> {
        let clients = self.clients.len().max(1);
        self.clients.get_mut(usize::from(number) % clients)
    }
}

fn name(number: u8) -> &'static str {
    // Half of all goes to one channel.
    match number % 2 {
        0 => CHANNELS[0],
        _ => CHANNELS[usize::from(number / 2) % CHANNELS.len()],
    }
}

fn event(kind: u8) -> NewEvent {
    let data = match kind / 3 {
        0..=70 => format!("{kind}"),
        71..=80 => "two\nlines".into(),
        _ => "large ".repeat(usize::from(kind)),
    };
    let event_type = match kind % 3 {
        0 => None,
        1 => Some(EventType::parse("t1").unwrap()),
        _ => Some(EventType::parse("t2").unwrap()),
    };
    NewEvent { event_type, ..NewEvent::message(data) }
}

const CHANNELS: [&str; 10] = ["a", "b", "c", "g/x", "g/y", "g/h/z", "k1", "k2", "k3", "k4"];

const TOPICS: [&[&str]; 22] = [
    &["a"],
    &["a"],
    &["a"],
    &["a"],
    &["b"],
    &["g/x"],
    &["a", "b"],
    &["b", "c", "g/x"],
    &["a", "b", "c", "g/x", "g/y", "k1", "k2", "k3"],
    &["**"],
    &["g/*"],
    &["g/**"],
    &["*"],
    &["a", "**"],
    &["g/x", "g/*"],
    &["k1", "g/**", "*"],
    &["**/x"],
    &["**/h/**", "k2"],
    &["g/**/z", "g/*/*"],
    &["**/g/**/*", "*/*"],
    &["*", "*/**"],
    &["g/x/**", "k1/**", "k2/**"],
];

const TYPE_FILTERS: [&[&str]; 5] = [&[], &[], &[], &["t1"], &["t2", "message"]];

fn step() -> impl Strategy<Value = Step> {
    let byte = any::<u8>;
    prop_oneof![
        10 => prop::collection::vec((byte(), byte()), 1..6)
            .prop_map(|events| Step::Publish { events }),
        2 => (byte(), byte()).prop_map(|(from, channels)| Step::PublishWide { from, channels }),
        1 => byte().prop_map(|channel| Step::Close { channel }),
        1 => byte().prop_map(|channel| Step::Expire { channel }),
        5 => (byte(), byte()).prop_map(|(engine, batches)| Step::Give { engine, batches }),
        5 => (byte(), byte()).prop_map(|(engine, slices)| Step::Work { engine, slices }),
        5 => (byte(), byte()).prop_map(|(engine, slots)| Step::Serve { engine, slots }),
        3 => Just(Step::Settle),
        8 => attach().prop_map(Step::Attach),
        6 => (byte(), any::<u16>()).prop_map(|(client, bytes)| Step::Grant { client, bytes }),
        2 => byte().prop_map(|client| Step::Stop { client }),
        2 => byte().prop_map(|client| Step::HangUp { client }),
        2 => byte().prop_map(|seconds| Step::Age { seconds }),
        3 => any::<u16>().prop_map(|ms| Step::Tick { ms }),
        2 => (byte(), byte()).prop_map(|(engine, ms)| Step::Gather { engine, ms }),
        1 => (byte(), byte()).prop_map(|(engine, channel)| Step::Fault { engine, channel }),
    ]
}

fn attach() -> impl Strategy<Value = Attach> {
    let start = prop_oneof![
        4 => Just(StartAt::Now),
        1 => Just(StartAt::Earliest),
        2 => (1..5_u8).prop_map(StartAt::Last),
        6 => any::<u16>().prop_map(StartAt::Seen),
        1 => Just(StartAt::Unknown),
        1 => Just(StartAt::OtherEpoch),
        1 => Just(StartAt::Beyond),
    ];
    let room = prop_oneof![
        3 => Just(None),
        1 => Just(Some(0)),
        3 => (0u16..600).prop_map(Some),
    ];
    let write_max = prop_oneof![3 => Just(None), 1 => any::<u8>().prop_map(Some)];
    // Large rounds are walked in slices, so crowds must come, and most of them to one channel.
    let copies = prop_oneof![5 => Just(1), 2 => 2u8..9];
    let often_plain = || prop_oneof![2 => Just(0), 3 => any::<u8>()];
    let what = (copies, any::<u8>(), often_plain(), often_plain(), often_plain(), any::<bool>());
    (what, start, room, write_max).prop_map(
        |((copies, engine, topic, types, form, skips), start, room, write_max)| Attach {
            copies,
            engine,
            topic,
            types,
            form,
            start,
            skips,
            room,
            write_max,
        },
    )
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let large = || prop_oneof![Just(1_u64 << 40), Just(2_000)];
    let forgotten_max = prop_oneof![3 => Just(100), 1 => Just(1)];
    let lag = (1u32..12, prop_oneof![Just(1_u64 << 40), 100u64..2_000]);
    ((1u32..14, large(), large()), forgotten_max, lag, 1usize..3).prop_map(
        |(history, forgotten_max, lag, engines)| Bounds {
            events_max: history.0,
            bytes_max: history.1,
            total_bytes_max: history.2,
            forgotten_max,
            lag_events_max: lag.0,
            lag_bytes_max: lag.1,
            engines,
        },
    )
}

/// The same cases every time, unless `PROPTEST_CASES` or `PROPTEST_RNG_SEED` ask for others.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig {
        cases: config.cases.max(2_000),
        rng_seed: match config.rng_seed {
            RngSeed::Random => RngSeed::Fixed(7),
            asked_for => asked_for,
        },
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..config
    }
}

proptest! {
    #![proptest_config(config())]

    /// Order, resume, honest gaps, bounds and closing, for every client of random histories.
    #[test]
    fn every_client_receives_what_the_naive_model_says(
        bounds in bounds(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut run = Run::new(&bounds);
        assert_eq!(run.world.now_ms, START_MS);
        for step in &steps {
            run.step(step);
        }
        run.finish();
    }
}
