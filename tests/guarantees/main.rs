//! What the hub promises (docs/architecture.md, "Invariants"), held against the real binary under
//! load, with slow readers, while it drains and while parts of it fail.
#![allow(clippy::unwrap_used)]

mod alerts;
mod clock_steps;
mod disk;
mod drain;
mod faults;
mod fleet;
#[cfg(target_os = "linux")]
#[path = "../fragile/mod.rs"]
mod fragile;
mod handover;
mod invariants;
mod overload;
mod service_manager;
mod shared;
mod slow;
mod stopped_readers;
#[path = "../support/mod.rs"]
mod support;
mod vanished;
