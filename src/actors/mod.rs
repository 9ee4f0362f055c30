//! The actors: effects around the state machines of `core`.
//!
//! Outsiders hold typed handles, never an actor's reference; ractor stays inside this module.

mod batch;
mod body;
mod channel;
mod channels;
mod client_info;
mod clock;
mod committer;
mod connection_report;
mod hub_state;
mod lease;
mod log;
mod payload;
mod peer;
mod reply;
mod root;
mod shard;
mod shards;
mod socket;
mod subscriber;
mod tcp;
mod tls_peer;
mod usage;

pub use batch::{Batch, Run};
pub use body::EventBody;
pub use client_info::ClientInfo;
pub use clock::Clock;
pub use connection_report::{BehindReason, ConnectionFilter, ConnectionReport, ConnectionState};
pub use lease::{Holder, Lease, Renewal};
pub use peer::{Input, Peer, SlotWaker};
pub use root::Fault;
pub use shard::{Engine, Front, LocalShard, ReturnedSocket, SlotKey};
pub use socket::Socket;
pub use subscriber::{Admission, CountedEntry, Form, PollTicket, ReplayPermit, Shape, Subscriber};
pub use tcp::{SocketAddrs, Tcp};

#[cfg(test)]
pub(crate) use committer::CommitBudget;
pub(crate) use committer::{CommitError, Submission, cost};
pub(crate) use connection_report::ConnectionQuery;
pub(crate) use hub_state::HubState;
pub(crate) use lease::Renew;
pub(crate) use root::{Root, RootMsg};
pub(crate) use shard::ShardMsg;
pub(crate) use usage::{Usage, UsageTable};
