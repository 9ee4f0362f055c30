//! The actors: effects around the state machines of `core`.
//!
//! Outsiders hold typed handles, never an actor's reference; ractor stays inside this module.

mod batch;
mod payload;
mod peer;
mod shard;
mod subscriber;

pub use batch::{Batch, Run};
pub use peer::{Input, Peer, SlotWaker};
pub use shard::{Engine, SlotKey};
pub use subscriber::{Admission, Form, PollTicket, Shape, Subscriber};
