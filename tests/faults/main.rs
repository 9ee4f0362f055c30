//! Hubs, their engine, their disks and their connections are broken on purpose, while publishers
//! and subscribers note what they observe; a checker holds that against one log.
#![allow(clippy::unwrap_used)]
// What it breaks things with is Linux's: strace, libfaketime, FUSE.
#![cfg(target_os = "linux")]

mod balancer;
mod bars;
mod bed;
mod checker;
mod effects;
#[path = "../fragile/mod.rs"]
mod fragile;
mod masters;
mod mechanism;
mod moment;
#[path = "../protocol/proxy/process.rs"]
mod process;
mod proxy;
mod publisher;
mod record;
mod rolling;
mod runner;
mod scenario;
mod subscriber;
#[path = "../support/mod.rs"]
mod support;
mod traffic;
mod upgrades;
mod version;
