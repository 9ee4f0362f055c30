//! A stream that attaches and reads 1,000 events of history.

use std::rc::Rc;

use criterion::{Criterion, Throughput, criterion_group};
use visnyk::core::CloseReason;

use crate::shard::{Shard, TakenBytes};

fn replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for (name, channels) in [("one_channel", 1), ("10_channels", 10), ("100_channels", 100)] {
        group.bench_function(name, |bencher| {
            let mut shard = Shard::new();
            let names: Vec<String> = (0..channels).map(|n| format!("bench/{n}")).collect();
            let mut bytes = 0;
            for n in 0..EVENTS {
                let entry = shard.entry(&names[n % channels]);
                let batch = shard.commit(&entry, 1);
                bytes += batch.runs()[0].bytes() as u64;
            }
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            bencher.iter(|| {
                let taken: TakenBytes = Rc::default();
                let key = shard.replay(&names, &taken);
                assert!(taken.get() >= bytes);
                shard.engine.close(key, CloseReason::PeerClosed);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, replay);

const EVENTS: usize = 1_000;
