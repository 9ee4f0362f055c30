//! Times of the hot paths, by criterion, per delivery: `cargo bench --bench times`, one group by
//! `-- fan_out`. They are for comparing on a quiet machine; on a shared one they are noise, and
//! what fails a change is the instruction counts (`instructions`).

mod append;
mod attach;
mod encode;
mod fan_out;
mod pattern_readers;
mod patterns;
mod replay;
mod shard;
mod walks;

use criterion::criterion_main;

criterion_main!(
    encode::benches,
    append::benches,
    fan_out::benches,
    replay::benches,
    patterns::benches,
    pattern_readers::benches,
    attach::benches,
    walks::benches
);
