//! An event beside 10,000 pattern subscriptions.

use std::{cell::RefCell, rc::Rc};

use criterion::{BatchSize, Criterion, Throughput, criterion_group};
use visnyk::model::Start;

use crate::shard::{Shard, TakenBytes};

fn patterns(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("patterns");
    group.throughput(Throughput::Elements(1));
    for (name, patterns) in [("none", 0), ("10000", PATTERNS)] {
        // An event of a channel that the shard has seen.
        group.bench_function(format!("{name}/known_channel"), |bencher| {
            let shard = RefCell::new(beside(patterns));
            let entry = shard.borrow().entry("room/7/chat");
            bencher.iter_batched(
                || shard.borrow_mut().commit(&entry, 1),
                |batch| shard.borrow_mut().fan_out(batch),
                BatchSize::PerIteration,
            );
        });
        // An event of a channel that it sees for the first time.
        group.bench_function(format!("{name}/new_channel"), |bencher| {
            let shard = RefCell::new(beside(patterns));
            let mut channels = 0;
            bencher.iter_batched(
                || {
                    let mut shard = shard.borrow_mut();
                    if channels == CHANNELS {
                        channels = 0;
                        *shard = beside(patterns);
                    }
                    channels += 1;
                    let entry = shard.entry(&format!("room/{channels}/chat"));
                    shard.commit(&entry, 1)
                },
                |batch| shard.borrow_mut().fan_out(batch),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// A shard with so many streams, each of a pattern of its own.
fn beside(patterns: usize) -> Shard {
    let mut shard = Shard::new();
    let taken: TakenBytes = Rc::default();
    for n in 0..patterns {
        shard.attach(&[&format!("room/{n}/*")], Start::Now, &taken);
    }
    shard
}

criterion_group!(benches, patterns);

const PATTERNS: usize = 10_000;
/// Channels after which a shard has seen too many; it is made anew.
const CHANNELS: usize = 20_000;
