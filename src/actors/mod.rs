//! The actors: effects around the state machines of `core`.
//!
//! Outsiders hold typed handles, never an actor's reference; ractor stays inside this module.

mod batch;
mod body;
mod channel;
mod channels;
mod clock;
mod committer;
mod explanation;
mod hub_state;
mod lease;
mod log;
mod origin;
mod payload;
mod peer;
mod root;
mod shard;
mod shards;
mod shares;
mod socket;
mod subscriber;
mod tcp;
mod tls_peer;

pub use batch::{Batch, Run};
pub use body::EventBody;
pub use clock::Clock;
pub use explanation::{Behind, ConnectionFilter, ConnectionState, Explanation};
pub use lease::{Holder, Lease, Renewal};
pub use origin::Origin;
pub use peer::{Input, Peer, SlotWaker};
pub use root::Fault;
pub use shard::{Engine, Finished, Front, LocalShard, SlotKey};
pub use socket::Socket;
pub use subscriber::{Admission, CountedEntry, Form, PollTicket, ReplayTurn, Shape, Subscriber};
pub use tcp::{Ends, Tcp};

#[cfg(test)]
pub(crate) use committer::Share as CommitShare;
pub(crate) use committer::{CommitError, Submission, cost};
pub(crate) use explanation::Survey;
pub(crate) use hub_state::HubState;
pub(crate) use lease::Renew;
pub(crate) use root::{Root, RootMsg};
pub(crate) use shard::ShardMsg;
pub(crate) use shares::{Share, Shares};
