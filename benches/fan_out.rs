//! One round to subscribers in memory: what the shard costs beside the kernel.

mod shard;

use std::{cell::Cell, rc::Rc};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shard::Shard;
use visnyk::model::Start;

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    let topics: [(&str, &[&str]); 2] = [("one_channel", &["bench"]), ("pattern", &["bench", "**"])];
    for (name, channels) in topics {
        for (subscribers, events) in [(1, 1), (100, 1), (10_000, 1), (10_000, 16)] {
            let mut shard = Shard::new();
            let entry = shard.entry("bench");
            let taken = Rc::new(Cell::new(0));
            for _ in 0..subscribers {
                shard.attach(channels, Start::Now, &taken);
            }
            let id = BenchmarkId::new(name, format!("{subscribers}x{events}"));
            group.throughput(Throughput::Elements((subscribers * events) as u64));
            let shard = std::cell::RefCell::new(shard);
            group.bench_function(id, |bencher| {
                bencher.iter_batched(
                    || shard.borrow_mut().commit(&entry, events),
                    |batch| shard.borrow_mut().fan_out(batch),
                    BatchSize::PerIteration,
                );
            });
            assert!(taken.get() > 0);
        }
    }
    group.finish();
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
