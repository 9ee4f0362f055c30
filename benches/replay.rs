//! A stream that attaches and reads 1,000 events of history.

mod shard;

use std::{cell::Cell, rc::Rc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shard::{NOW_MS, Shard};
use visnyk::{core::CloseReason, model::Start};

fn replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for (name, channels) in [("one_channel", 1), ("10_channels", 10)] {
        let mut shard = Shard::new();
        let names: Vec<String> = (0..channels).map(|n| format!("bench/{n}")).collect();
        let mut bytes = 0;
        for n in 0..EVENTS {
            let entry = shard.entry(&names[n % channels]);
            let batch = shard.commit(&entry, 1);
            bytes += batch.runs()[0].bytes() as u64;
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let taken = Rc::new(Cell::new(0));
                let key = shard.attach(&names, Start::Earliest, &taken);
                while taken.get() < bytes {
                    shard.engine.serve_ready(1, NOW_MS);
                }
                shard.engine.close(key, CloseReason::PeerClosed);
            });
        });
    }
    group.finish();
}

const EVENTS: usize = 1_000;

criterion_group!(benches, replay);
criterion_main!(benches);
