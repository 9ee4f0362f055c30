//! The wire bytes of an event: its frame, encoded once for all subscribers, and the envelope.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group};
use visnyk::model::{Draft, EnvelopeEncoding, EventEncoding, NewEvent};

use crate::shard::{PAYLOAD, Shard};

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let mut shard = Shard::new();
    let entry = shard.entry("bench");
    let message = NewEvent::message(PAYLOAD);
    group.throughput(Throughput::Bytes(PAYLOAD.len() as u64));
    group.bench_function("draft", |bencher| bencher.iter(|| Draft::new(black_box(&message))));
    group.bench_function("frame", |bencher| {
        bencher.iter(|| shard.next_event(&entry, Draft::new(black_box(&message))));
    });
    let event = shard.next_event(&entry, Draft::new(&message));
    let mut out = Vec::with_capacity(1_024);
    group.bench_function("envelope", |bencher| {
        bencher.iter(|| {
            out.clear();
            EnvelopeEncoding.encode(black_box(&event), &mut out);
            out.len()
        });
    });
    group.finish();
}

criterion_group!(benches, encode);
