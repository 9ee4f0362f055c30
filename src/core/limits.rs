//! Every bound the hub keeps, with its default, its unit and what happens when it is hit.

use serde::{Deserialize, Serialize};

use crate::model::ClientAddress;

/// All limits of a hub. `Default` gives the documented defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// What a channel's history keeps.
    pub history: HistoryLimits,
    /// How many channels there are and how long they stay.
    pub channels: ChannelLimits,
    /// Limits of one connection.
    pub connections: ConnectionLimits,
    /// Limits of publishers.
    pub publish: PublishLimits,
    /// Limits of a long-poll.
    pub poll: PollLimits,
    /// Limits of one HTTP/2 connection.
    pub http2: Http2Limits,
    /// Limits of a request's head.
    pub requests: RequestLimits,
    /// Limits of one address.
    pub per_address: AddressLimits,
    /// Limits of one subject.
    pub per_subject: SubjectLimits,
}

/// Retention. Whichever bound is reached first evicts the oldest events; a client whose position is
/// before them gets a gap event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HistoryLimits {
    /// Events kept per channel.
    pub events_max: u32,
    /// Age of the oldest event kept, in seconds.
    pub age_max_s: u32,
    /// Frame bytes kept per channel.
    pub bytes_max: u64,
    /// Bytes kept in all channels together, bookkeeping included; past it the hub's oldest events
    /// are evicted first, whichever channel they are in.
    pub total_bytes_max: u64,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            events_max: 1_000,
            age_max_s: 3_600,
            bytes_max: 1024 * 1024,
            total_bytes_max: 256 * 1024 * 1024,
        }
    }
}

/// The channel directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ChannelLimits {
    /// Channels in the directory, closed ones included; past it a publish or a subscription that
    /// would create one is refused for a while (503).
    pub channels_max: u32,
    /// Seconds without use after which a channel's actor stops; a channel without history and
    /// subscribers is then evicted.
    pub idle_s: u32,
    /// Seconds for which a deleted channel answers 410.
    pub tombstone_s: u32,
    /// Tombstones of deleted channels; past it the oldest is removed early.
    pub tombstones_max: u32,
    /// Evicted channels whose last evicted event is remembered one by one; of older ones only
    /// the newest event that any of them lost, and a resume from before it is answered with a gap.
    pub forgotten_max: u32,
    /// Rules for channels by pattern; a new channel is matched with each of them.
    pub rules_max: u32,
    /// Events a second to one channel from all its publishers; past it 429. 0 is no limit.
    pub events_per_s: u32,
    /// Events to one channel at once, above its rate.
    pub events_burst: u32,
}

impl Default for ChannelLimits {
    fn default() -> Self {
        Self {
            channels_max: 100_000,
            idle_s: 60,
            tombstone_s: 3_600,
            tombstones_max: 10_000,
            forgotten_max: 10_000,
            rules_max: 100,
            events_per_s: 0,
            events_burst: 50_000,
        }
    }
}

/// One connection: a stream or a waiting long-poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConnectionLimits {
    /// Streams and waiting polls in all; past it new ones are refused for a while.
    pub connections_max: u32,
    /// Connections on which requests are read and answered, at a time: those without a stream or a
    /// waiting poll. Past it new ones are refused for a while.
    pub requests_max: u32,
    /// New connections a second, from everywhere; past it they are refused for a while. 0 is no
    /// limit.
    pub new_per_s: u32,
    /// New connections at once, above that rate.
    pub new_burst: u32,
    /// Channels and patterns on one connection; past it the request is refused (400).
    pub subscriptions_max: u16,
    /// Events a connection may lag before its policy acts.
    pub lag_events_max: u32,
    /// Frame bytes a connection may lag before its policy acts.
    pub lag_bytes_max: u64,
    /// Unsent bytes of all connections whose sockets would block; past it the slowest of these
    /// connections are closed.
    pub unsent_bytes_max: u64,
    /// Bytes of large answers under way, in the whole hub; past it further ones are refused for a
    /// while.
    pub answers_bytes_max: u64,
    /// What happens to a connection that lags too far.
    pub slow_policy: SlowPolicy,
    /// Seconds for which a socket may accept no byte although bytes wait; then it is closed.
    pub write_stall_s: u32,
    /// Seconds between heartbeats of an idle stream.
    pub heartbeat_s: u32,
    /// Milliseconds between two checks of deadlines: heartbeats, stalls, ages, poll timeouts.
    /// Nothing else waits for it.
    pub deadline_check_ms: u32,
    /// Seconds after which a stream is ended, so that its client reconnects, perhaps to another
    /// node; 0 is never.
    pub age_max_s: u32,
    /// Streams that are being sent history at a time; further ones wait.
    pub replays_max: u32,
    /// Milliseconds for which a stream waits for that before it is refused for a while.
    pub replay_wait_ms: u32,
    /// Shortest reconnection time sent to clients, in milliseconds.
    pub retry_min_ms: u32,
    /// Longest reconnection time sent to clients, in milliseconds.
    pub retry_max_ms: u32,
    /// `SO_SNDBUF` of each connection, in bytes as asked of the kernel (Linux doubles it);
    /// 0 leaves the kernel's own growing buffer.
    pub send_buffer_bytes: u32,
}

impl ConnectionLimits {
    /// Checks what the settings of a hub cannot hold, and limits of an embedded one may.
    ///
    /// # Errors
    /// A time is 0, or the times of reconnection have no range; the text names it.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.heartbeat_s == 0 {
            return Err("`connections.heartbeat_s` must be at least 1");
        }
        if self.write_stall_s == 0 {
            return Err("`connections.write_stall_s` must be at least 1");
        }
        if self.retry_min_ms > self.retry_max_ms {
            return Err("`connections.retry_min_ms` must be at most `connections.retry_max_ms`");
        }
        Ok(())
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: 1_000_000,
            requests_max: 10_000,
            new_per_s: 0,
            new_burst: 20_000,
            subscriptions_max: 100,
            lag_events_max: 1_000,
            lag_bytes_max: 256 * 1024,
            unsent_bytes_max: 256 * 1024 * 1024,
            answers_bytes_max: 256 * 1024 * 1024,
            slow_policy: SlowPolicy::Disconnect,
            write_stall_s: 30,
            heartbeat_s: 15,
            deadline_check_ms: 64,
            age_max_s: 0,
            replays_max: 4_096,
            replay_wait_ms: 5_000,
            retry_min_ms: 2_000,
            retry_max_ms: 4_000,
            send_buffer_bytes: 64 * 1024,
        }
    }
}

/// What happens to a connection that lags past its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlowPolicy {
    /// It is closed; the client resumes by its position.
    #[default]
    Disconnect,
    /// It jumps to the newest event, and a gap event says so.
    Skip,
}

/// Publishing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PublishLimits {
    /// Bytes of a request body; past it 413.
    pub body_bytes_max: u64,
    /// Bytes of request bodies that are held at a time, until their publishes are answered; past it
    /// they wait, and then get 503.
    pub bodies_bytes_max: u64,
    /// Events in one batch; past it 413.
    pub batch_events_max: u32,
    /// Milliseconds a publisher waits for permits and for the shards of its channels before 503.
    pub wait_ms: u32,
    /// Milliseconds a publisher waits for its events to become durable; past it 504: they may be in
    /// the log or not.
    pub outcome_wait_ms: u32,
    /// Milliseconds that an event may wait on a shard beyond the round under way; past it publishers
    /// of its channel wait.
    pub delay_max_ms: u32,
    /// Milliseconds that an event to few subscribers waits at most for others of its channel while its
    /// shard is busy all the time, so that they are sent together; 0 is never.
    pub gather_max_ms: u32,
    /// Permits in all: an event takes one, and one more per KiB, until the last shard is through
    /// with it.
    pub in_flight_max: u32,
    /// Part of the permits that a single channel may hold, in percent.
    pub channel_share_percent: u8,
    /// Idempotency keys remembered; past it the oldest is dropped early.
    pub idempotency_keys_max: u32,
    /// Seconds for which an idempotency key is remembered.
    pub idempotency_s: u32,
}

impl Default for PublishLimits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1024 * 1024,
            bodies_bytes_max: 64 * 1024 * 1024,
            batch_events_max: 10_000,
            wait_ms: 2_000,
            outcome_wait_ms: 30_000,
            delay_max_ms: 50,
            gather_max_ms: 50,
            in_flight_max: 32_768,
            channel_share_percent: 50,
            idempotency_keys_max: 100_000,
            idempotency_s: 300,
        }
    }
}

/// Long-polls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PollLimits {
    /// Seconds a poll waits if it has no `timeout`.
    pub timeout_s: u32,
    /// Longest wait a poll may ask for, in seconds.
    pub timeout_max_s: u32,
    /// Events in an answer if the poll has no `limit`.
    pub limit: u32,
    /// Most events a poll may ask for.
    pub limit_max: u32,
    /// Milliseconds that a client may take between two polls, so that a drain waits for the second one.
    pub drain_pause_ms: u32,
}

impl Default for PollLimits {
    fn default() -> Self {
        Self {
            timeout_s: 20,
            timeout_max_s: 60,
            limit: 100,
            limit_max: 1_000,
            drain_pause_ms: 2_000,
        }
    }
}

/// One HTTP/2 connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Http2Limits {
    /// Requests under way on one connection, streams and waiting polls included; past it a request
    /// is reset, and may be sent again.
    pub streams_max: u32,
    /// Requests that a client resets within 10 seconds; past it the connection is closed.
    pub resets_max: u32,
    /// Frames without a request or content within 10 seconds; past it the connection is closed.
    pub frames_max: u32,
    /// Bytes of a request's body that a client may send ahead of what is read.
    pub window_bytes: u32,
    /// Bytes of all bodies that a client may send ahead of what is read.
    pub connection_window_bytes: u32,
    /// Seconds without a request under way after which the connection is closed.
    pub idle_s: u32,
    /// Seconds of silence after which the client is sent a PING.
    pub keep_alive_s: u32,
    /// Seconds within which it must answer; then the connection is closed.
    pub keep_alive_timeout_s: u32,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            streams_max: 256,
            resets_max: 500,
            frames_max: 2_000,
            window_bytes: 65_535,
            connection_window_bytes: 131_070,
            idle_s: 60,
            keep_alive_s: 20,
            keep_alive_timeout_s: 20,
        }
    }
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RequestLimits {
    /// Bytes of the target (path and query); past it 414.
    pub target_bytes_max: u32,
    /// Bytes of the target, field names and values together; past it 431.
    pub head_bytes_max: u32,
    /// Header fields; past it 431.
    pub fields_max: u32,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { target_bytes_max: 16 * 1024, head_bytes_max: 32 * 1024, fields_max: 100 }
    }
}

/// Limits of one IPv4 address, or one /64 of IPv6; 0 is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AddressLimits {
    /// Sockets on which requests are read and answered; past it new ones are refused for a while.
    pub requests_max: u32,
    /// Streams and waiting polls; past it new ones are refused for a while.
    pub connections_max: u32,
    /// New connections a second; past it they are refused for a while.
    pub new_per_s: u32,
    /// New connections at once, above that rate.
    pub new_burst: u32,
    /// Events a second from requests without a subject; past it 429.
    pub events_per_s: u32,
    /// Events at once, above that rate.
    pub events_burst: u32,
    /// Channels a second that requests without a subject create; past it 429.
    pub channels_per_s: u32,
    /// New channels at once, above that rate.
    pub channels_burst: u32,
    /// Bytes of large answers under way; past it further ones are refused for a while.
    pub answers_bytes_max: u64,
    /// Addresses whose rates are remembered one by one; others share a rate.
    pub rates_max: u32,
    /// Whether programs on this machine are counted too.
    pub loopback: bool,
}

impl AddressLimits {
    /// Whether a client counts for them.
    pub fn count(&self, client: ClientAddress) -> bool {
        self.loopback || !client.is_this_machine()
    }
}

impl Default for AddressLimits {
    fn default() -> Self {
        Self {
            requests_max: 1_000,
            connections_max: 2_000,
            new_per_s: 200,
            new_burst: 2_000,
            events_per_s: 10_000,
            events_burst: 50_000,
            channels_per_s: 200,
            channels_burst: 10_000,
            answers_bytes_max: 64 * 1024 * 1024,
            rates_max: 100_000,
            loopback: false,
        }
    }
}

/// Limits of all tokens with one subject together; 0 is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SubjectLimits {
    /// Streams and waiting polls; past it new ones are refused for a while.
    pub connections_max: u32,
    /// Events a second; past it 429.
    pub events_per_s: u32,
    /// Events at once, above that rate.
    pub events_burst: u32,
    /// Channels a second that they create; past it 429.
    pub channels_per_s: u32,
    /// New channels at once, above that rate.
    pub channels_burst: u32,
    /// Subjects whose rates are remembered one by one; others share a rate.
    pub rates_max: u32,
}

impl Default for SubjectLimits {
    fn default() -> Self {
        Self {
            connections_max: 2_000,
            events_per_s: 10_000,
            events_burst: 50_000,
            channels_per_s: 200,
            channels_burst: 10_000,
            rates_max: 100_000,
        }
    }
}
