//! Appends events to history, with the evictions that these cause.

use criterion::{BatchSize, Criterion, Throughput, criterion_group};
use visnyk::model::{Draft, NewEvent};

use crate::shard::{PAYLOAD, Shard};

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    let message = NewEvent::message(PAYLOAD);
    for (name, channels) in [("one_channel", 1), ("1000_channels", 1_000)] {
        let mut shard = Shard::new();
        let entries: Vec<_> = (0..channels).map(|n| shard.entry(&format!("bench/{n}"))).collect();
        let mut next = 0;
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |bencher| {
            let backend = std::sync::Arc::clone(&shard.backend);
            bencher.iter_batched(
                || {
                    next = (next + 1) % channels;
                    (next, shard.next_event(&entries[next], Draft::new(&message)))
                },
                |(entry, event)| {
                    backend.append(&entries[entry], &event);
                    backend.commit(event.seq);
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, append);
