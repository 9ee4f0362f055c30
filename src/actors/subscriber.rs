//! An admitted subscription, on its way to a shard and as the shard keeps it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::{client_info::ClientInfo, lease::Lease};
use crate::{
    backend::{ChannelEntry, CountedPattern},
    core::{SlowPolicy, Transport},
    model::{
        ChannelPattern, EventType, Framing, PollEncoding, PollReply, Sse, Start, TransferCoding,
    },
    telemetry::AccessRecord,
};

/// The framing and type filter of a connection. Connections with the same shape share the bytes of
/// a round, so equal shapes should be one `Arc`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shape {
    /// How it is written.
    pub form: Form,
    /// The wanted types, sorted; none means all.
    pub types: Box<[EventType]>,
}

/// How a connection is written to.
#[derive(Clone, Copy)]
pub enum Form {
    /// As server-sent events that are sent as they are in history.
    Frames,
    /// In another framing.
    Framed(&'static dyn Framing),
    /// As the answer to a long-poll.
    Poll {
        /// The form of the answer.
        encoding: &'static dyn PollEncoding,
        /// Events at most.
        limit: u32,
    },
}

impl Form {
    /// The framing of a stream; the answer to a poll has none.
    pub fn framing(&self) -> Option<&'static dyn Framing> {
        match self {
            Self::Frames => Some(&Sse),
            Self::Framed(framing) => Some(*framing),
            Self::Poll { .. } => None,
        }
    }

    fn identity(&self) -> (u8, &'static str, u32) {
        match self {
            Self::Frames => (0, "", 0),
            Self::Framed(framing) => (1, framing.name(), 0),
            Self::Poll { encoding, limit } => (2, encoding.name(), *limit),
        }
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.identity())
    }
}

impl PartialEq for Form {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Form {}

impl std::hash::Hash for Form {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl Shape {
    /// Every event as it is in history.
    pub fn frames() -> Self {
        Self { form: Form::Frames, types: Box::default() }
    }

    /// Whether it takes the frames of history unchanged.
    pub fn is_plain(&self) -> bool {
        matches!(self.form, Form::Frames) && self.types.is_empty()
    }

    /// How the client receives.
    pub fn transport(&self) -> Transport {
        match self.form {
            Form::Poll { .. } => Transport::Poll,
            _ => Transport::Stream,
        }
    }
}

/// A subscription that the hub has admitted. Dropping it gives back what it holds: its permit as a
/// connection, and its part of the channels' subscriber counts.
#[derive(Debug)]
pub struct Subscriber {
    /// The connection's number.
    pub id: u64,
    /// Its patterns.
    pub patterns: Box<[ChannelPattern]>,
    /// The channels it names, counted.
    pub named: Vec<CountedEntry>,
    /// Its patterns, counted.
    pub counted_patterns: Vec<CountedPattern>,
    /// Its framing and type filter.
    pub shape: Arc<Shape>,
    /// Transfer coding of the stream; none unless the caller sets it.
    pub coding: TransferCoding,
    /// Where it starts.
    pub start: Start,
    /// What happens when it lags.
    pub policy: SlowPolicy,
    /// Milliseconds after which it ends by itself; a poll's wait.
    pub ends_after_ms: Option<u64>,
    /// What its stream begins with beside its position, if anything.
    pub opening: Option<Box<StreamOpening>>,
    /// Until when it may stay, where clients are authenticated.
    pub lease: Option<Box<Lease>>,
    /// The client's address behind a proxy, and its permits, if it has any.
    pub client_info: Option<Box<ClientInfo>>,
    /// What the access log says of its request when it is over.
    pub record: Option<Box<AccessRecord>>,
    /// Its replay permit, given back when the replay is done or the socket takes no more for now.
    pub replay: Option<ReplayPermit>,
    /// Its permit as a connection.
    pub admission: Admission,
}

/// What the first block of a stream has beside its position, where a client or a route asks for it.
#[derive(Debug)]
pub struct StreamOpening {
    /// Whether it has its connection's id.
    pub hello: bool,
    /// A reconnection time other than the jittered one, in milliseconds.
    pub retry_ms: Option<u32>,
    /// A comment for people who read the stream.
    pub comment: Option<Arc<str>>,
}

/// A permit to be sent history, given back when dropped.
#[derive(Debug)]
pub struct ReplayPermit {
    _permit: OwnedSemaphorePermit,
}

impl ReplayPermit {
    pub(crate) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: permit }
    }
}

/// What a waiting poll needs for its answer if that is written to its peer as bytes. A peer that
/// takes the answer as a value needs none.
#[derive(Debug)]
pub struct PollTicket {
    /// Header lines that go with any answer (CORS and the like), each ended by CR LF.
    pub header_lines: Bytes,
    /// Whether the socket goes back to the HTTP server after the answer.
    pub keep_alive: bool,
    /// Renders the whole response; the protocol belongs to the front door.
    pub render: fn(&PollReply, &PollTicket) -> Bytes,
    /// What the access log says of its request; `render` notes the answer there.
    pub record: Option<Box<AccessRecord>>,
}

/// A permit for one connection of the hub, given back when dropped.
#[derive(Debug)]
pub struct Admission(Arc<AtomicU32>);

impl Admission {
    /// Takes one if fewer than `connections_max` are taken.
    pub fn take(taken: &Arc<AtomicU32>, connections_max: u32) -> Option<Self> {
        taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (n < connections_max).then_some(n + 1)
            })
            .ok()
            .map(|_| Self(Arc::clone(taken)))
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A channel that a subscriber names, counted as long as this lives.
#[derive(Debug)]
pub struct CountedEntry {
    entry: Arc<ChannelEntry>,
    transport: Transport,
}

impl CountedEntry {
    /// Counts one more subscriber of `entry`.
    pub fn new(entry: Arc<ChannelEntry>, transport: Transport) -> Self {
        let counted = Self { entry, transport };
        counted.count().fetch_add(1, Ordering::Relaxed);
        counted
    }

    /// The channel.
    pub fn entry(&self) -> &Arc<ChannelEntry> {
        &self.entry
    }

    fn count(&self) -> &AtomicU32 {
        match self.transport {
            Transport::Stream => self.entry.streams(),
            Transport::Poll => self.entry.pollers(),
        }
    }
}

impl Drop for CountedEntry {
    fn drop(&mut self) {
        match self.transport {
            Transport::Stream => self.entry.remove_stream(),
            Transport::Poll => _ = self.entry.pollers().fetch_sub(1, Ordering::Relaxed),
        }
    }
}
