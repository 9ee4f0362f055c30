//! Connections that come and go beside others.

use std::rc::Rc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use visnyk::{core::CloseReason, model::Start};

use crate::shard::{Shard, TakenBytes};

fn attach(criterion: &mut Criterion) {
    let lanes: [(&str, &[&str]); 3] =
        [("plain", &["bench"]), ("mixed", &["bench", "other"]), ("pattern", &["bench/*"])];
    let mut group = criterion.benchmark_group("attach_and_close");
    group.throughput(Throughput::Elements(1));
    for (name, channels) in lanes {
        for others in [0, 10_000] {
            group.bench_function(BenchmarkId::new(name, format!("beside_{others}")), |bencher| {
                let mut shard = Shard::new();
                let taken: TakenBytes = Rc::default();
                for _ in 0..others {
                    shard.attach(channels, Start::Now, &taken);
                }
                bencher.iter(|| {
                    let key = shard.attach(channels, Start::Now, &taken);
                    shard.engine.close(key, CloseReason::PeerClosed);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, attach);
