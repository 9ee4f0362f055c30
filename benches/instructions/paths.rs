//! The hot paths that are counted.

use std::{hint::black_box, mem::forget, rc::Rc, sync::Arc};

use visnyk::{
    actors::Batch,
    core::CloseReason,
    model::{Draft, NewEvent, Start},
};

use crate::{
    callgrind::Counts,
    load::Load,
    requests,
    shard::{PAYLOAD, Shard, TakenBytes},
};

/// A path, and how its operations are counted.
pub(crate) struct Path {
    pub(crate) name: &'static str,
    /// What is counted, after "per".
    pub(crate) operation: &'static str,
    /// It may not allocate at all.
    pub(crate) is_allocation_free: bool,
    /// What it may take more than was blessed, in percent.
    pub(crate) margin_percent: f64,
    /// Another path than which it may not take more, but for [`MORE_THAN_ANOTHER_PERCENT`].
    pub(crate) no_more_than: Option<&'static str>,
    per: Per,
    pub(crate) size: usize,
    rounds: usize,
    run: fn(Load),
}

/// What of a run is one operation.
enum Per {
    /// A round: what twice the rounds take more.
    Round,
    /// One of `size` in a round: what twice the size takes more in as many more rounds, so what
    /// a round takes by itself is not in it.
    Each,
}

impl Path {
    /// Runs it. Its result is leaked (`mem::forget`), so that the end costs the same whatever was
    /// done.
    pub(crate) fn run(&self, load: Load) {
        (self.run)(load);
    }

    /// The rounds of its longest run.
    pub(crate) fn rounds_max(&self) -> usize {
        2 * self.rounds
    }

    /// Counts one operation, by differences of runs.
    pub(crate) fn count(
        &self,
        count: impl Fn(&str, Load) -> Result<Counts, String>,
    ) -> Result<Counts, String> {
        let (rounds, rounds_max) = (self.rounds, self.rounds_max());
        let of_rounds = |size| -> Result<Counts, String> {
            let once = count(self.name, Load { size, rounds, rounds_max })?;
            let twice = count(self.name, Load { size, rounds: 2 * rounds, rounds_max })?;
            Ok(twice - once)
        };
        match self.per {
            Per::Round => Ok(of_rounds(self.size)? / rounds as f64),
            Per::Each => {
                let more = of_rounds(2 * self.size)? - of_rounds(self.size)?;
                Ok(more / (rounds * self.size) as f64)
            }
        }
    }
}

/// All of them.
pub(crate) const PATHS: &[Path] = &[
    path("encode", "frame", Per::Round, 1, 1_000, encode),
    path("append", "event", Per::Round, 1, 1_500, append),
    // More streams than a slice has sends: a lane of its own.
    path("fan_out_large", "delivery", Per::Each, 600, 5, fan_out_large).without_allocation(),
    path("fan_out_leased", "delivery", Per::Each, 600, 5, fan_out_leased)
        .without_allocation()
        .no_more_than("fan_out_large"),
    path("fan_out_batched", "delivery of 16 events", Per::Each, 600, 5, fan_out_batched)
        .without_allocation(),
    path("fan_out_small", "delivery", Per::Each, 10, 200, fan_out_small).without_allocation(),
    path("small_channel", "event to 10 subscribers", Per::Round, 10, 200, fan_out_small),
    path("fan_out_mixed", "delivery", Per::Each, 300, 5, fan_out_mixed).without_allocation(),
    path("replay_one", "event of one channel", Per::Each, 400, 5, replay_one),
    path("replay_many", "event of ten channels", Per::Each, 400, 5, replay_many),
    path("poll_answer", "poll", Per::Each, 100, 3, poll_answer),
    path("pattern_known", "event beside 10,000 patterns", Per::Round, 10_000, 1_000, pattern_known),
    path("pattern_new", "channel beside 10,000 patterns", Per::Round, 10_000, 500, pattern_new),
    path("attach_close", "stream", Per::Round, 1_000, 1_000, attach_close),
    path("publish_request", "publish by HTTP", Per::Round, 1, 1_000, requests::publish)
        .beside_threads(),
    path("subscribe_request", "stream by HTTP", Per::Round, 1, 1_000, requests::subscribe)
        .beside_threads(),
];

const fn path(
    name: &'static str,
    operation: &'static str,
    per: Per,
    size: usize,
    rounds: usize,
    run: fn(Load),
) -> Path {
    let (is_allocation_free, margin_percent) = (false, MARGIN_PERCENT);
    let no_more_than = None;
    Path {
        name,
        operation,
        is_allocation_free,
        margin_percent,
        no_more_than,
        per,
        size,
        rounds,
        run,
    }
}

impl Path {
    const fn without_allocation(mut self) -> Self {
        self.is_allocation_free = true;
        self
    }

    const fn no_more_than(mut self, other: &'static str) -> Self {
        self.no_more_than = Some(other);
        self
    }

    /// It waits for other threads, and how often it goes to sleep for that is chance.
    const fn beside_threads(mut self) -> Self {
        self.margin_percent = MARGIN_BESIDE_THREADS_PERCENT;
        self
    }
}

fn encode(load: Load) {
    let mut shard = Shard::new();
    let entry = shard.entry("bench");
    let message = NewEvent::message(PAYLOAD);
    for _ in 0..load.rounds {
        forget(black_box(shard.next_event(&entry, Draft::new(black_box(&message)))));
    }
    forget(shard);
}

fn append(load: Load) {
    let mut shard = Shard::new();
    let entry = shard.entry("bench");
    let message = NewEvent::message(PAYLOAD);
    let events: Vec<_> =
        (0..load.rounds_max).map(|_| shard.next_event(&entry, Draft::new(&message))).collect();
    for event in &events[..load.rounds] {
        shard.backend.append(&entry, event);
        shard.backend.commit(event.seq);
    }
    forget((shard, events));
}

fn fan_out_large(load: Load) {
    fan_out(load, &["bench"], 1);
}

/// A token is verified once, when the stream opens: no event verifies it again.
fn fan_out_leased(load: Load) {
    let mut shard = Shard::new();
    let taken: TakenBytes = Rc::default();
    for _ in 0..load.size {
        shard.attach_leased(&["bench"], Start::Now, &taken);
    }
    deliver(load, shard, "bench", 1);
}

fn fan_out_batched(load: Load) {
    fan_out(load, &["bench"], 16);
}

fn fan_out_small(load: Load) {
    fan_out(load, &["bench"], 1);
}

fn fan_out_mixed(load: Load) {
    fan_out(load, &["bench", "other"], 1);
}

/// `size` streams of `channels`, and rounds of `events` events to the first of them.
fn fan_out(load: Load, channels: &[&str], events: usize) {
    let mut shard = Shard::new();
    let taken: TakenBytes = Rc::default();
    for _ in 0..load.size {
        shard.attach(channels, Start::Now, &taken);
    }
    deliver(load, shard, channels[0], events);
}

/// Rounds of `events` events to a channel.
fn deliver(load: Load, mut shard: Shard, channel: &str, events: usize) {
    let entry = shard.entry(channel);
    let batches: Vec<_> = (0..load.rounds_max).map(|_| shard.commit(&entry, events)).collect();
    send(&mut shard, &batches, load.rounds);
    forget((shard, batches));
}

fn send(shard: &mut Shard, batches: &[Arc<Batch>], rounds: usize) {
    for batch in &batches[..rounds] {
        shard.fan_out(Arc::clone(batch));
    }
}

fn replay_one(load: Load) {
    replay(load, 1);
}

fn replay_many(load: Load) {
    replay(load, 10);
}

/// A stream a round that reads `size` events.
fn replay(load: Load, channels: usize) {
    let mut shard = Shard::new();
    let names: Vec<String> = (0..channels).map(|n| format!("bench/{n}")).collect();
    for n in 0..load.size {
        let entry = shard.entry(&names[n % channels]);
        shard.commit(&entry, 1);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for _ in 0..load.rounds {
        let taken: TakenBytes = Rc::default();
        shard.replay(&names, &taken);
        assert!(taken.get() as usize > load.size * PAYLOAD.len(), "it has everything");
    }
    forget(shard);
}

/// `size` polls on a channel a round, answered by an event.
fn poll_answer(load: Load) {
    let mut shard = Shard::new();
    let taken: TakenBytes = Rc::default();
    let names: Vec<String> = (0..load.rounds_max).map(|n| format!("bench/{n}")).collect();
    for name in &names {
        for _ in 0..load.size {
            shard.wait(&[name.as_str()], &taken);
        }
    }
    let batches: Vec<_> = names.iter().map(|name| shard.entry(name)).collect();
    let batches: Vec<_> = batches.iter().map(|entry| shard.commit(entry, 1)).collect();
    send(&mut shard, &batches, load.rounds);
    assert_eq!(shard.engine.len(), load.size * (load.rounds_max - load.rounds), "all answered");
    forget((shard, batches));
}

fn pattern_known(load: Load) {
    let mut shard = with_patterns(load.size);
    let entry = shard.entry("room/7/chat");
    let batches: Vec<_> = (0..=load.rounds_max).map(|_| shard.commit(&entry, 1)).collect();
    // The first one makes it known.
    send(&mut shard, &batches, 1);
    send(&mut shard, &batches[1..], load.rounds);
    forget((shard, batches));
}

fn pattern_new(load: Load) {
    let mut shard = with_patterns(load.size);
    let entries: Vec<_> =
        (0..load.rounds_max).map(|n| shard.entry(&format!("room/{n}/chat"))).collect();
    let batches: Vec<_> = entries.iter().map(|entry| shard.commit(entry, 1)).collect();
    send(&mut shard, &batches, load.rounds);
    forget((shard, batches));
}

/// A shard with so many streams, each of a pattern of its own.
fn with_patterns(patterns: usize) -> Shard {
    let mut shard = Shard::new();
    let taken: TakenBytes = Rc::default();
    for n in 0..patterns {
        shard.attach(&[&format!("room/{n}/*")], Start::Now, &taken);
    }
    shard
}

/// A stream that comes and goes beside `size` others.
fn attach_close(load: Load) {
    let mut shard = Shard::new();
    let taken: TakenBytes = Rc::default();
    for _ in 0..load.size {
        shard.attach(&["bench"], Start::Now, &taken);
    }
    for _ in 0..load.rounds {
        let key = shard.attach(&["bench"], Start::Now, &taken);
        shard.engine.close(key, CloseReason::PeerClosed);
    }
    forget(shard);
}

/// What a path may take more than was blessed, in percent.
const MARGIN_PERCENT: f64 = 5.0;
/// The same for one that waits for other threads: on a busy machine 7 % was seen.
const MARGIN_BESIDE_THREADS_PERCENT: f64 = 15.0;
/// What a path may take more than another that it is held to: how they are linked differs a little.
pub(crate) const MORE_THAN_ANOTHER_PERCENT: f64 = 1.0;
