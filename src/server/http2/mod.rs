//! HTTP/2: many requests and streams on one connection, with the same dispatcher and shard as
//! HTTP/1.
//!
//! hyper and h2 implement the protocol. h2 limits the size of frames and the number of streams at a
//! time, but neither the number of frames and resets over time nor how long a head or an answer
//! takes. This folder adds these limits.

mod connection;
mod flow_controlled_body;
mod frames;
mod streams;
