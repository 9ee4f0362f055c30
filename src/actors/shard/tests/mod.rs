//! The engine against a naive model, and its corner cases one by one.

#![allow(clippy::unwrap_used)]

mod answers;
mod census;
mod client;
mod closing;
mod corner_cases;
mod delay_metrics;
mod delays;
mod drains;
mod explain;
mod framing;
mod gathers;
mod leases;
mod losses;
mod mixed_rounds;
mod model;
mod pipe;
mod retention;
mod slow_readers;
mod time;
mod unsent;
mod world;
