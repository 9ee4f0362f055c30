//! The engine against a naive model, and its corner cases one by one.

#![allow(clippy::unwrap_used)]

mod corner_cases;
mod pipe;
mod world;
