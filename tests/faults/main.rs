//! Hubs, their engine, their disks and their connections are broken on purpose, while publishers and subscribers
//! note what they observe; a checker holds that against one log.
#![allow(clippy::unwrap_used)]

mod bed;
mod checker;
mod mechanism;
mod moment;
mod proxy;
mod publisher;
mod record;
mod runner;
mod scenario;
mod subscriber;
#[path = "../support/mod.rs"]
mod support;
mod traffic;
