//! Walks through all channels or connections of a full hub: how long one has a thread or a lock.

use std::rc::Rc;

use criterion::{BatchSize, Criterion, criterion_group};
use visnyk::{
    core::CloseReason,
    model::{ChannelName, Start},
};

use crate::shard::{NOW_MS, Shard, TakenBytes};

fn channels(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("walk_of_100000_channels");
    group.sample_size(10);
    let mut shard = Shard::new();
    for n in 0..CHANNELS {
        let entry = shard.entry(&format!("c/{n}"));
        shard.commit(&entry, 1);
    }
    let backend = Rc::new(shard.backend.clone());
    group.bench_function("select_none", |bencher| {
        bencher
            .iter(|| backend.registry().directory().select(10_000, |entry| entry.needs_actor(0)));
    });
    group.bench_function("page_of_none_one_look", |bencher| {
        bencher.iter(|| backend.registry().directory().page("", None, 1_000, |_| false));
    });
    let mut names = 0;
    group.bench_function("queue_of_the_ceiling_when_all_are_evicted", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut longest = std::time::Duration::ZERO;
            for _ in 0..rounds {
                let mut shard = Shard::new();
                // Twice as many as are there at the end.
                for _ in 0..CHANNELS {
                    names += 1;
                    let entry = shard.entry(&format!("f/{names}"));
                    let begun = std::time::Instant::now();
                    shard.commit(&entry, 1);
                    longest = longest.max(begun.elapsed());
                    shard.backend.evict_all(&entry);
                    shard.backend.registry().directory().evict(entry);
                }
            }
            longest * rounds as u32
        });
    });
    group.finish();
}

fn connections(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("walk_of_18000_connections");
    group.sample_size(10);
    let crowd = || {
        let mut shard = Shard::new();
        let taken: TakenBytes = Rc::default();
        for _ in 0..CONNECTIONS {
            shard.attach(&["c"], Start::Now, &taken);
        }
        shard
    };
    group.bench_function("drain", |bencher| {
        bencher.iter_batched_ref(
            crowd,
            |shard| {
                shard.engine.drain(30_000, NOW_MS);
                while shard.engine.drain_some(NOW_MS) {}
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("first_of_all_heartbeats", |bencher| {
        bencher.iter_batched_ref(
            crowd,
            |shard| shard.engine.tick(NOW_MS + 60_000),
            BatchSize::PerIteration,
        );
    });
    // A reader of everything has seen all channels, which are evicted.
    group.bench_function("prune_100000_channels", |bencher| {
        bencher.iter_batched_ref(
            || {
                let mut shard = Shard::new();
                let taken: TakenBytes = Rc::default();
                let key = shard.attach(&["**"], Start::Now, &taken);
                for n in 0..CHANNELS {
                    let name = ChannelName::parse(&format!("p/{n}")).expect("a name");
                    let entry = shard.entry(name.as_str());
                    let batch = shard.commit(&entry, 1);
                    shard.fan_out(batch);
                    shard.backend.evict_all(&entry);
                    shard.backend.registry().directory().evict(entry);
                }
                shard.engine.close(key, CloseReason::PeerClosed);
                shard
            },
            |shard| shard.engine.tick(NOW_MS),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

const CHANNELS: usize = 100_000;
const CONNECTIONS: usize = 18_000;

criterion_group!(benches, channels, connections);
