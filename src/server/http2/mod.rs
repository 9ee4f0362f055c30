//! HTTP/2: many requests and streams on one connection, under the same router and the same shard.
//!
//! hyper and h2 speak the protocol. What is here keeps it bounded: h2 bounds what one frame or one
//! stream may do, not what a client does with very many of them, and not how long it takes.

mod connection;
mod flow_controlled_body;
mod frames;
mod streams;

pub(super) use frames::{GOAWAY_REJECTION, PREFACE};
