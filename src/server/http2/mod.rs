//! HTTP/2: many requests and streams on one connection, under the same router and the same shard.
//!
//! hyper and h2 implement the protocol. h2 limits single frames and streams, but neither their
//! number over time nor their duration; this folder adds these limits.

mod connection;
mod flow_controlled_body;
mod frames;
mod streams;
