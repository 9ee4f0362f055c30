//! Hubs, their engine, their disks and their connections are broken on purpose, while publishers and subscribers
//! note what they observe; a checker holds that against one log.
#![allow(clippy::unwrap_used)]

mod balancer;
mod bars;
mod bed;
mod checker;
mod effects;
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
