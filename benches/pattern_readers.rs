//! What a pattern's reader costs beside many channels, and an event beside many patterns.

use std::rc::Rc;

use criterion::{Criterion, criterion_group};
use visnyk::{
    core::CloseReason,
    model::{Seq, Start},
};

use crate::shard::{NOW_MS, Shard, TakenBytes};

/// A shard whose log has an event in each of as many channels, and then the latest
/// [`CAUGHT_UP`] events, spread over them.
fn shard_with(channels: usize) -> Shard {
    let mut shard = Shard::new();
    for n in 0..channels + CAUGHT_UP {
        let entry = shard.entry(&format!("t/{}", n % channels));
        shard.commit(&entry, 1);
    }
    shard
}

fn attach_now(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attach_to_all");
    group.sample_size(10);
    for channels in [100, 10_000] {
        let mut shard = shard_with(channels);
        let taken: TakenBytes = Rc::default();
        group.bench_function(format!("beside_{channels}_channels"), |bencher| {
            bencher.iter(|| {
                let key = shard.attach(&["**"], Start::Now, &taken);
                shard.engine.close(key, CloseReason::PeerClosed);
            });
        });
    }
    group.finish();
}

fn catch_up(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("catch_up_1000_events_of_all");
    group.sample_size(10);
    for channels in [100, 10_000] {
        let mut shard = shard_with(channels);
        let start = Start::At(shard.backend.position(Seq(channels as u64)));
        group.bench_function(format!("beside_{channels}_channels"), |bencher| {
            bencher.iter(|| {
                let taken: TakenBytes = Rc::default();
                let key = shard.attach(&["**"], start.clone(), &taken);
                while shard.engine.serve_ready(1, NOW_MS) || taken.get() < CAUGHT_UP as u64 * 128 {}
                shard.engine.close(key, CloseReason::PeerClosed);
            });
        });
    }
    group.finish();
}

/// How long a reader of everything has the thread at a time: the longest of its passes, from the
/// oldest event of 100,000 channels to the head.
fn longest_turn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("longest_turn_of_a_replay_of_all");
    group.sample_size(10);
    let intricate: Vec<String> = (0..100).map(|n| format!("**/x{n}")).collect();
    let intricate: Vec<&str> = intricate.iter().map(String::as_str).collect();
    for (name, patterns) in [("by_one_pattern", &["**"][..]), ("by_100_patterns", &intricate)] {
        let mut shard = shard_with(CHANNELS_MAX);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| shard.longest_turn(patterns)).sum());
        });
    }
    group.finish();
}

/// A connection with a pattern of its own comes and goes, and an event for a channel comes.
fn churn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("event_while_patterns_come_and_go");
    group.sample_size(10);
    for patterns in [10, 10_000] {
        let mut shard = shard_with(10);
        let taken: TakenBytes = Rc::default();
        for n in 0..patterns {
            shard.attach(&[&format!("p/{n}/*")], Start::Now, &taken);
        }
        let entry = shard.entry("t/1");
        group.bench_function(format!("beside_{patterns}_patterns"), |bencher| {
            bencher.iter(|| {
                let key = shard.attach(&["t/1/*"], Start::Now, &taken);
                let batch = shard.commit(&entry, 1);
                shard.fan_out(batch);
                shard.engine.close(key, CloseReason::PeerClosed);
            });
        });
    }
    group.finish();
}

const CAUGHT_UP: usize = 1_000;
/// As many as a hub has at most by default.
const CHANNELS_MAX: usize = 100_000;

criterion_group!(benches, attach_now, catch_up, longest_turn, churn);
