//! Queries about a shard's connections, and the reports.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    core::{CloseReason, SlowPolicy, Transport},
    model::{ChannelName, ChannelPattern, EventType, Position, labels},
};

/// One connection as it is now, or as it was at its end. It holds no event data.
#[derive(Debug, Clone)]
pub struct ConnectionReport {
    /// The connection's number, as in `visnyk.hello`.
    pub id: u64,
    /// The shard that has it.
    pub shard: usize,
    /// How the client receives.
    pub transport: Transport,
    /// Its state, or why it was closed.
    pub state: ConnectionState,
    /// Channels that it names, up to the requested number.
    pub channels: Vec<ChannelName>,
    /// Its patterns, up to the requested number.
    pub patterns: Vec<ChannelPattern>,
    /// How many channels and patterns it has in all.
    pub selectors: usize,
    /// The event types that it filters by, up to the requested number; none means all.
    pub types: Vec<EventType>,
    /// Everything of its subscription up to here has been sent, or is about to be as the rest of
    /// an event in flight.
    pub position: Position,
    /// Events published since it fell behind that are not sent yet.
    pub lag_events: u32,
    /// Bytes of these events.
    pub lag_bytes: u64,
    /// How many events and bytes it may lag before its policy acts.
    pub lag_max: (u32, u64),
    /// Bytes that wait until its peer accepts them: the rest of one event, or of a heartbeat, gap
    /// or preamble.
    pub unsent_bytes: u64,
    /// Bytes that its peer has accepted so far, with the response head.
    pub sent_bytes: u64,
    /// Bytes a second that its peer accepts, between the last two reports that were at least a
    /// second apart. For a closed connection, over its whole life.
    pub bytes_per_s: u64,
    /// When it was attached, in milliseconds since 1970; to the second.
    pub opened_ms: u64,
    /// When its peer last accepted a byte, in milliseconds since 1970.
    pub written_ms: u64,
    /// What happens when it lags too far.
    pub policy: SlowPolicy,
    /// The peer's address, if it has one.
    pub peer: Option<SocketAddr>,
    /// The client's address, if the peer is a proxy that reports it.
    pub forwarded_for: Option<IpAddr>,
    /// The subject of its client's token.
    pub subject: Option<Arc<str>>,
    /// When the hub ends it: the deadline of a poll, the age or drain of a stream.
    pub ends_ms: Option<u64>,
    /// Why it ends then.
    pub ends_for: Option<EndsFor>,
    /// When the hub ends it if its peer accepts no byte until then; `None` while no bytes wait for
    /// the peer.
    pub stalls_ms: Option<u64>,
}

labels! {
    /// Why a connection has an end time.
    pub enum EndsFor {
        /// Its client's token expires.
        Token = "token",
        /// A stream reaches its age.
        Age = "age",
        /// The hub is going down.
        Drain = "drain",
        /// A poll reaches its deadline.
        Deadline = "deadline",
    }
}

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// It has everything up to the head of the log.
    Live,
    /// It is behind the head.
    Behind(BehindReason),
    /// It was closed.
    Closed {
        /// The reason.
        reason: CloseReason,
        /// The time, in milliseconds since 1970.
        ended_ms: u64,
    },
}

labels! {
    /// Why a connection is behind.
    pub enum BehindReason {
        /// Its peer accepted less than the last send, and accepts nothing more for now.
        Blocked = "blocked",
        /// It replays history from its start position.
        Replaying = "replaying",
        /// It reads events from history that could not be sent at once.
        CatchingUp = "catching_up",
        /// It ends when its last bytes are out.
        Ending = "ending",
    }
}

/// The connections that a query is about.
#[derive(Debug, Clone, Default)]
pub struct ConnectionFilter {
    /// Only the one with this number.
    pub id: Option<u64>,
    /// Only those that receive this channel, by its name or by a pattern.
    pub channel: Option<ChannelName>,
    /// Only those in this state: behind (true) or live (false).
    pub behind: Option<bool>,
    /// Only this subject's.
    pub subject: Option<Arc<str>>,
    /// Only those of this transport.
    pub transport: Option<Transport>,
}

/// A piece of a shard's connections to explain.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionQuery {
    pub(crate) filter: ConnectionFilter,
    /// The first slot to examine.
    pub(crate) from: u32,
    /// The most slots to examine.
    pub(crate) slots: u32,
    /// The most connections.
    pub(crate) limit: usize,
    /// The most channels, patterns, and types that are listed of each.
    pub(crate) selectors_max: usize,
}

/// The result of a query to a shard.
#[derive(Debug)]
pub(crate) struct ConnectionMatches {
    pub(crate) found: Vec<ConnectionReport>,
    /// The slot to continue from; `None` if all were examined.
    pub(crate) next: Option<u32>,
}
