//! The hub in this process, and connections in memory: everything of the hub but sockets and HTTP.
//!
//! Each connection is a peer on its shard's thread that checks every byte it is given. So the
//! number of connections is bounded by memory and not by open files, and what is measured is the
//! hub without the kernel.

mod crowd;
mod peer;
mod plan;
mod scan;

pub use plan::Memory;
