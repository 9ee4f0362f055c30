//! The actors: effects around the state machines of `core`.
//!
//! Outsiders hold typed handles, never an actor's reference; ractor stays inside this module.

mod append_queue;
mod backend_options;
mod batch;
mod body;
mod bridge;
mod channel;
mod channels;
mod channels_handle;
mod client_info;
mod clock;
mod committer;
mod connection_report;
#[cfg(test)]
mod delayed_stage;
mod disk_stage;
mod durable_stage;
mod fan_out_trace;
mod following;
mod inbox;
mod lease;
mod lifecycle;
mod log;
mod log_actor;
mod log_reads;
mod messages;
mod payload;
mod peer;
mod pending_append;
mod pending_read;
mod poll_times;
mod read_limits;
mod read_queue;
mod reply;
mod root;
mod sampler;
mod search_wait;
mod seen;
mod shard;
mod shard_context;
mod shards;
mod shards_handle;
mod shared_answers;
mod shared_counts;
mod shared_search;
mod shared_stage;
mod show_stage;
mod slot_key;
mod socket;
mod submission;
mod subscriber;
mod tcp;
mod tls_peer;
mod usage;
mod wake_flag;

pub use backend_options::BackendOptions;
pub use batch::{Batch, Run};
pub use body::EventBody;
pub use client_info::ClientInfo;
pub use clock::Clock;
pub use connection_report::{
    BehindReason, ConnectionFilter, ConnectionReport, ConnectionState, EndsFor,
};
pub use lease::{Holder, Lease, Renewal};
pub use messages::Fault;
pub(crate) use peer::ReadyList;
pub use peer::{Input, Peer, SlotWaker};
pub use read_limits::ReadLimits;
pub use shard::{Engine, Front, LocalShard, ReturnedSocket};
pub use slot_key::SlotKey;
pub use socket::Socket;
pub use subscriber::{
    Admission, CountedEntry, Form, PollTicket, ReplayPermit, Shape, StreamOpening, Subscriber,
};
pub use tcp::{SocketAddrs, Tcp};

pub(crate) use bridge::{BridgeArguments, Loader};
pub(crate) use channel::ChannelContext;
pub(crate) use channels::ChannelsArguments;
pub(crate) use channels_handle::ChannelsHandle;
#[cfg(test)]
pub(crate) use committer::CommitBudget;
pub(crate) use connection_report::ConnectionQuery;
#[cfg(test)]
pub(crate) use delayed_stage::DelayedStage;
pub(crate) use disk_stage::DiskStage;
#[cfg(test)]
pub(crate) use disk_stage::StoredHistories;
pub(crate) use durable_stage::DurableStage;
pub(crate) use inbox::Inboxes;
pub(crate) use lease::{Leases, Renew, SlotAddress};
pub(crate) use lifecycle::Lifecycle;
pub(crate) use log::Log;
pub(crate) use log_reads::{LogReads, ReadsBusy};
pub(crate) use messages::{EndProgress, EndQuery};
pub(crate) use pending_read::ReadFailure;
pub(crate) use poll_times::PollTimes;
pub(crate) use root::RootHandle;
pub(crate) use sampler::SamplerArguments;
pub(crate) use shard_context::ShardContext;
pub(crate) use shards_handle::ShardsHandle;
pub(crate) use shared_counts::Elsewhere;
pub(crate) use shared_stage::SharedStage;
pub(crate) use show_stage::ShowStage;
pub(crate) use submission::{AppendError, Submission, cost};
pub(crate) use usage::{Usage, UsageTable};
