//! What the end-to-end tests share: a hub as a process, publishers that keep a record of what was
//! acknowledged, and clients that follow channels and are held against that record.
#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

mod follower;
mod hub;
mod load;
mod tools;

use std::time::Duration;

pub(crate) use follower::{CLOSED, Follower, Transports, assert_exact, run_all};
pub(crate) use hub::{TestHub, data_of, ndjson};
pub(crate) use load::{Channels, END, Ledger, Load, LoadPlan};
pub(crate) use tools::{Tool, clock_off_by, fake_time, script_in, succeeds, tracer};

/// For what takes no time on a machine that is alive, however busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A seed from `VISNYK_TEST_SEED`, or by chance; said, so that a failure can be repeated.
pub(crate) fn seed() -> u64 {
    let seed = match std::env::var("VISNYK_TEST_SEED") {
        Ok(text) => text.parse().expect("VISNYK_TEST_SEED is a whole number"),
        Err(_) => fastrand::u64(..1 << 32),
    };
    println!("VISNYK_TEST_SEED={seed}");
    seed
}

/// The number in a position: tests may look into what clients take as it comes.
pub(crate) fn seq(position: &str) -> u64 {
    let (_, seq) = position.split_once('-').unwrap_or_else(|| panic!("position {position:?}"));
    seq.parse().unwrap_or_else(|_| panic!("position {position:?}"))
}

/// The position with another number, of the same log.
pub(crate) fn with_seq(position: &str, seq: u64) -> String {
    let (epoch, _) = position.split_once('-').unwrap_or_else(|| panic!("position {position:?}"));
    format!("{epoch}-{seq}")
}
