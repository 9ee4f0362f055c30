//! HTTP/2: many requests and streams on one connection, under the same router and the same shard.
//!
//! hyper and h2 implement the protocol. This folder keeps it bounded: h2 bounds what one frame or
//! one stream may do, but neither the sum over many of them nor how long they take.

mod connection;
mod flow_controlled_body;
mod frames;
mod streams;
