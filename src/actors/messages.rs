//! The messages of the actors.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    body::EventBody,
    connection_report::{ConnectionFilter, ConnectionMatches, ConnectionQuery, ConnectionReport},
    lease::{Renew, Renewal},
    peer::StreamSocket,
    subscriber::Subscriber,
};
use crate::{
    backend::ChannelEntry,
    model::{ChannelName, PollReply},
};

/// To the root.
#[derive(Debug)]
pub(super) enum RootMsg {
    /// Plant a fault.
    Fault(Fault),
    /// Start the sampler again, which had failed too often.
    StartSampler,
}

/// An actor that a test wants to see die.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The root panics.
    Root,
    /// The log panics.
    Log,
    /// The supervisor of the channels panics.
    Channels,
    /// A channel's actor panics.
    Channel(ChannelName),
    /// A channel's actor is killed.
    KillChannel(ChannelName),
    /// The supervisor of the shards panics.
    Shards,
    /// A shard panics.
    Shard(usize),
    /// A shard is killed.
    KillShard(usize),
    /// The next step of one connection to the channel panics.
    Connection(ChannelName),
    /// The bridge to the log that hubs share panics.
    Bridge,
    /// The sampler panics.
    Sampler,
}

/// To the log's actor.
#[derive(Debug)]
pub(super) enum LogMsg {
    /// There are submissions.
    Commit,
    /// A commit on another thread has failed, and why.
    Failed(String),
    /// A planted fault.
    Panic,
}

/// To the bridge.
#[derive(Debug)]
pub(super) enum BridgeMsg {
    /// A task of the bridge has panicked or ended.
    TaskEnded(&'static str),
    /// A planted fault.
    Panic,
}

/// To the sampler.
#[derive(Debug)]
pub(super) enum SamplerMsg {
    /// Take a sample.
    Tick,
    /// A planted fault.
    Panic,
}

/// To the supervisor of the channels.
#[derive(Debug)]
pub(super) enum ChannelsMsg {
    /// Give this channel an actor; it has been claimed.
    Start(Arc<ChannelEntry>),
    /// Channels were closed; there may be too many tombstones.
    Closed,
    /// Look for channels that need an actor.
    Sweep,
    /// A planted fault, here or in a channel.
    Panic(Option<ChannelName>),
    /// Kill a channel's actor.
    Kill(ChannelName),
}

/// To a channel's actor.
#[derive(Debug)]
pub(super) enum ChannelMsg {
    /// Do what is due.
    Tick,
    /// A planted fault.
    Panic,
}

/// To the supervisor of the shards.
#[derive(Debug)]
pub(super) enum ShardsMsg {
    /// Kill a shard.
    Kill(usize),
    /// A planted fault.
    Panic,
}

/// To a shard.
pub(super) enum ShardMsg {
    /// Take on a stream that pulls from a body.
    Attach(Box<Subscriber>, oneshot::Sender<EventBody>),
    /// Let a poll wait whose answer is taken as a value.
    Wait(Box<Subscriber>, oneshot::Sender<PollReply>),
    /// Adopt a stream that another shard has accepted.
    Adopt(Box<StreamTransfer>),
    /// End all connections within the window; the sender is dropped when none is left.
    Drain(Duration, oneshot::Sender<()>),
    /// Set the end times of some more connections, in a drain.
    DrainSome,
    /// End all connections now: the log is not the one that they follow any more. The sender is
    /// dropped when that is done.
    EndAll(oneshot::Sender<()>),
    /// Explain connections: a bounded number of them.
    Explain(ConnectionQuery, oneshot::Sender<ConnectionMatches>),
    /// Explain connections that ended lately.
    ExplainClosed(ConnectionFilter, oneshot::Sender<Vec<ConnectionReport>>),
    /// End a connection.
    End(EndQuery, oneshot::Sender<EndProgress>),
    /// Take a fresh token for the connection in a slot.
    Renew(Renew, oneshot::Sender<Renewal>),
    /// A task of the shard has panicked or ended.
    TaskEnded(&'static str),
    /// A planted fault.
    Panic,
    /// A planted fault in one connection to the channel; the first shard that sets the flag keeps
    /// the fault.
    PanicConnection(ChannelName, Arc<AtomicBool>),
}

/// A connection to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndQuery {
    /// Its number.
    pub(crate) id: u64,
    /// The first slot to look at.
    pub(crate) from: u32,
}

/// How far the search for a connection to end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndProgress {
    /// It was there, and is ended.
    Ended,
    /// The slot to continue from.
    GoOn(u32),
    /// The shard does not have it.
    NotHere,
}

/// A stream on its way to its shard. If that shard fails, the socket is closed like its other
/// sockets, and the client resumes.
pub(super) struct StreamTransfer {
    pub(super) subscriber: Subscriber,
    pub(super) socket: StreamSocket,
    /// What goes before the stream.
    pub(super) head: Bytes,
}
