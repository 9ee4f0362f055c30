//! The state of a hub in figures, read at one moment and without waiting.

use super::handle::Hub;
use crate::{
    core::CloseReason,
    model::{Position, labels},
    telemetry::resident_bytes,
};

/// What a hub does now, and what it has done since it started.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HubStatus {
    /// Whether the hub accepts work.
    pub state: HubState,
    /// When it started, in milliseconds since 1970, by the wall clock of then.
    pub started_ms: u64,
    /// Now, by the wall clock, which may have stepped meanwhile.
    pub now_ms: u64,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Where events are kept: `memory`, `disk` or `redis`.
    pub history: &'static str,
    /// Everything up to this position is shown.
    pub head: Position,
    /// Threads that serve connections.
    pub shards: usize,
    /// Channels in the directory.
    pub channels: u64,
    /// Channels whose publishers wait for a shard.
    pub channels_throttled: u64,
    /// Bytes in all histories.
    pub history_bytes: u64,
    /// Bytes ready for connections whose sockets have not taken them.
    pub unsent_bytes: u64,
    /// Bytes of memory of the process; `None` if the system does not report them.
    pub resident_bytes: Option<u64>,
    /// Connections of the HTTP server: on which requests are read and answered.
    pub http_connections: u64,
    /// Of these and of streams, those over HTTP/2.
    pub http2_connections: u64,
    /// Events accepted since the start.
    pub events_published: u64,
    /// Frame bytes of these events.
    pub bytes_published: u64,
    /// Events handed to connections since the start.
    pub deliveries: u64,
    /// Streams and polls opened since the start.
    pub connections_opened: u64,
    /// Times that a connection fell behind since the start.
    pub fell_behind: u64,
    /// Connections ended since the start, by reason, in the order of [`CloseReason::ALL`].
    pub connections_closed: Vec<(CloseReason, u64)>,
}

labels! {
    /// Whether a hub takes work.
    #[non_exhaustive]
    pub enum HubState {
        /// The hub accepts work.
        Ready = "ready",
        /// The hub accepts work, but new clients should go elsewhere: a drain is near.
        Unready = "unready",
        /// The hub is ending its connections.
        Draining = "draining",
    }
}

impl Hub {
    /// The present state of the hub, and its counts since the start.
    pub fn status(&self) -> HubStatus {
        let parts = &self.0;
        let metrics = &parts.metrics;
        let state = match (self.is_draining(), self.is_ready()) {
            (true, _) => HubState::Draining,
            (false, true) => HubState::Ready,
            (false, false) => HubState::Unready,
        };
        let gauge = |gauge: &prometheus_client::metrics::gauge::Gauge| gauge.get().max(0) as u64;
        let closed = |reason: CloseReason| {
            (reason, metrics.connections_closed.counter(reason.as_str()).get())
        };
        let clock_ms = parts.clock.now_ms();
        HubStatus {
            state,
            started_ms: parts.clock.started_ms(),
            now_ms: parts.clock.wall_ms_at(clock_ms),
            uptime_ms: clock_ms - parts.clock.started_ms(),
            history: parts.log.storage(),
            head: Position { epoch: self.epoch(), seq: self.head() },
            shards: parts.shards.count(),
            channels: parts.registry.directory().len() as u64,
            channels_throttled: parts.registry.throttles().len() as u64,
            history_bytes: gauge(&metrics.history_bytes),
            unsent_bytes: gauge(&metrics.unsent_bytes),
            resident_bytes: resident_bytes(),
            http_connections: gauge(&metrics.http_connections),
            http2_connections: gauge(&metrics.http2_connections),
            events_published: metrics.events_published.get(),
            bytes_published: metrics.bytes_published.get(),
            deliveries: metrics.deliveries.get(),
            connections_opened: metrics.connections_opened.get(),
            fell_behind: metrics.fell_behind.get(),
            connections_closed: CloseReason::ALL.map(closed).into(),
        }
    }
}
