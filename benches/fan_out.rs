//! Rounds to subscribers in memory: what the shard costs beside the kernel.

use std::{cell::RefCell, rc::Rc};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group};
use visnyk::model::Start;

use crate::shard::Shard;

fn fan_out(criterion: &mut Criterion) {
    for (name, channels, sizes) in LANES {
        let mut group = criterion.benchmark_group(format!("fan_out/{name}"));
        for &(subscribers, events) in sizes {
            let id = BenchmarkId::from_parameter(format!("{subscribers}x{events}"));
            group.throughput(Throughput::Elements((subscribers * events) as u64));
            group.bench_function(id, |bencher| {
                let mut shard = Shard::new();
                let entry = shard.entry("bench");
                let taken = Rc::default();
                for _ in 0..subscribers {
                    shard.attach(channels, Start::Now, &taken);
                }
                let shard = RefCell::new(shard);
                bencher.iter_batched(
                    || shard.borrow_mut().commit(&entry, events),
                    |batch| shard.borrow_mut().fan_out(batch),
                    BatchSize::PerIteration,
                );
                assert!(taken.get() > 0);
            });
        }
        group.finish();
    }
}

criterion_group!(benches, fan_out);

/// Name, channels of each subscriber, and its subscribers and events a round.
type Lane = (&'static str, &'static [&'static str], &'static [(usize, usize)]);

/// A stream of one channel is in the plain lane, one of several or of a pattern in the mixed lane.
const LANES: [Lane; 3] = [
    ("plain", &["bench"], &[(1, 1), (100, 1), (10_000, 1), (10_000, 16), (100_000, 1)]),
    ("mixed", &["bench", "other"], &[(1, 1), (100, 1), (10_000, 1), (10_000, 16)]),
    ("pattern", &["**"], &[(1, 1), (100, 1), (10_000, 1), (10_000, 16)]),
];
