//! How a stream is written: what comes first, its events, what keeps it alive, and what comes last.

use super::{ChannelName, Event, Gap, Position};

/// The form of a stream on its wire. A shard decides what is sent and when; a framing writes it.
///
/// Events are written once a round for all connections of one framing, and the rest once a
/// connection: nothing of it is called for a delivery. Server-sent events are the first one
/// ([`Sse`](super::Sse)); each [`EventEncoding`](super::EventEncoding) gives another, which differs
/// in its events alone.
pub trait Framing: Send + Sync + 'static {
    /// Tells one framing from another.
    fn name(&self) -> &'static str;

    /// Appends what a stream begins with.
    fn preamble(&self, preamble: &Preamble<'_>, out: &mut Vec<u8>);

    /// Appends an event.
    fn event(&self, event: &Event, out: &mut Vec<u8>);

    /// Appends a heartbeat; with a position it moves the client's on, without one it must not reach
    /// the application.
    fn heartbeat(&self, position: Option<Position>, out: &mut Vec<u8>);

    /// Appends that events are lost; the client's position is behind them.
    fn gap(&self, gap: &Gap, out: &mut Vec<u8>);

    /// Appends that a channel is closed whose closing event was skipped. The client's position is
    /// behind it already.
    fn channel_closed(&self, channel: &ChannelName, out: &mut Vec<u8>);

    /// Appends what a stream ends with if its client is to come back.
    fn closing(&self, closing: &Closing, out: &mut Vec<u8>);
}

/// What a stream begins with.
#[derive(Debug)]
pub struct Preamble<'a> {
    /// A comment for people who read the stream, on one line.
    pub comment: Option<&'a str>,
    /// The client's reconnection time in milliseconds.
    pub retry_ms: u32,
    /// Everything up to here is the client's, or lost.
    pub position: Position,
    /// The connection's id, if the client asked for it.
    pub connection: Option<u64>,
    /// Whether a channel that it names has lost events before its oldest one.
    pub truncated: bool,
    /// Events that are lost before the first one.
    pub gap: Option<&'a Gap>,
}

/// What a stream ends with.
#[derive(Debug)]
pub struct Closing {
    /// The client's reconnection time in milliseconds.
    pub retry_ms: u32,
    /// Why the client's token is the end of the stream, if it is: `expired` or `permissions`.
    pub token: Option<&'static str>,
    /// Why the stream ends, for people to read, if there is something to say.
    pub comment: Option<&'static str>,
}
