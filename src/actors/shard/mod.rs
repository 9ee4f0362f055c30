//! A shard: owns a part of the connections, on a thread of its own.
//!
//! [`Engine`] is the shard without its thread: synchronous code that gets the time as an argument.
//! The actor calls it with sockets, batches and the time.

mod actor;
mod engine;
mod fan_out_budget;
mod front;
mod gather_time;
mod gathering;
mod lane;
mod local_shard;
mod mixed_lane;
mod placement;
mod registry;
mod round_queue;
mod round_start;
mod round_trace;
mod serving_loop;
mod sets;
mod slot;
mod slots;
mod sockets;
#[cfg(test)]
mod tests;

pub use engine::{Engine, ReturnedSocket};
pub use front::Front;
pub use local_shard::LocalShard;

pub(super) use actor::{Shard, ShardArguments};
