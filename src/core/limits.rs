//! Every bound the hub keeps, with its default, its unit and what happens when it is hit.

use serde::{Deserialize, Serialize};

use crate::model::ClientAddress;

/// Defines a struct of settings, each with its default beside it.
macro_rules! with_defaults {
    (
        $(#[$attribute:meta])*
        pub struct $settings:ident {
            $($(#[$doc:meta])* pub $setting:ident: $kind:ty = $default:expr,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[non_exhaustive]
        pub struct $settings {
            $($(#[$doc])* pub $setting: $kind,)*
        }

        impl Default for $settings {
            fn default() -> Self {
                Self { $($setting: $default,)* }
            }
        }
    };
}
pub(crate) use with_defaults;

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

with_defaults! {
    /// Retention. Whichever bound is reached first evicts the oldest events; a client whose
    /// position is before them gets a gap event.
    pub struct HistoryLimits {
        /// Events kept per channel.
        pub events_max: u32 = 1_000,
        /// Age of the oldest event kept, in seconds.
        pub age_max_s: u32 = 3_600,
        /// Frame bytes kept per channel.
        pub bytes_max: u64 = 1024 * 1024,
        /// Bytes kept in all channels together, bookkeeping included; past it the hub's oldest
        /// events are evicted first, whichever channel they are in.
        pub total_bytes_max: u64 = 256 * 1024 * 1024,
    }
}

with_defaults! {
    /// The channel directory.
    pub struct ChannelLimits {
        /// Channels in the directory, closed ones included; past it a publish or a subscription
        /// that would create one is refused for a while (503).
        pub channels_max: u32 = 100_000,
        /// Seconds without use after which a channel's actor stops; a channel without history and
        /// subscribers is then evicted.
        pub idle_s: u32 = 60,
        /// Seconds for which a deleted channel answers 410.
        pub tombstone_s: u32 = 3_600,
        /// Tombstones of deleted channels; past it the oldest is removed early.
        pub tombstones_max: u32 = 10_000,
        /// Evicted channels whose last evicted event is remembered one by one; of older ones only
        /// the newest event that any of them lost, and a resume from before it is answered with a
        /// gap.
        pub forgotten_max: u32 = 10_000,
        /// Rules for channels by pattern; a new channel is matched with each of them.
        pub rules_max: u32 = 100,
        /// Events a second to one channel from all its publishers together; further ones are
        /// rejected with 429. 0 turns the limit off.
        pub events_per_s: u32 = 0,
        /// Events to one channel at once, above its rate.
        pub events_burst: u32 = 50_000,
    }
}

with_defaults! {
    /// One connection: a stream or a waiting long-poll.
    pub struct ConnectionLimits {
        /// Streams and waiting polls in all; past it new ones are refused for a while.
        pub connections_max: u32 = 1_000_000,
        /// Connections on which requests are read and answered, at a time: those without a stream
        /// or a waiting poll. Past it new ones are refused for a while.
        pub requests_max: u32 = 10_000,
        /// New connections a second, from everywhere; past it they are refused for a while. 0 is no
        /// limit.
        pub new_per_s: u32 = 0,
        /// New connections at once, above that rate.
        pub new_burst: u32 = 20_000,
        /// Channels and patterns on one connection; past it the request is refused (400).
        pub subscriptions_max: u16 = 100,
        /// Events a connection may lag before its policy acts.
        pub lag_events_max: u32 = 1_000,
        /// Frame bytes a connection may lag before its policy acts.
        pub lag_bytes_max: u64 = 256 * 1024,
        /// Unsent bytes of all connections whose sockets would block; past it the slowest of these
        /// connections are closed.
        pub unsent_bytes_max: u64 = 256 * 1024 * 1024,
        /// Bytes of large answers under way, in the whole hub; past it further ones are refused for
        /// a while.
        pub answers_bytes_max: u64 = 256 * 1024 * 1024,
        /// What happens to a connection that lags too far.
        pub slow_policy: SlowPolicy = SlowPolicy::Disconnect,
        /// Seconds for which a socket may accept no byte although bytes wait; then it is closed.
        pub write_stall_s: u32 = 30,
        /// Seconds between heartbeats of an idle stream.
        pub heartbeat_s: u32 = 15,
        /// Milliseconds between two checks of deadlines: heartbeats, stalls, ages, poll timeouts.
        /// Nothing else waits for it.
        pub deadline_check_ms: u32 = 64,
        /// Seconds after which a stream is ended, so that its client reconnects, perhaps to another
        /// node; 0 is never.
        pub age_max_s: u32 = 0,
        /// Streams that are being sent history at a time; further ones wait.
        pub replays_max: u32 = 4_096,
        /// Milliseconds for which a stream waits for its replay to begin before it is refused for a
        /// while.
        pub replay_wait_ms: u32 = 5_000,
        /// Shortest reconnection time sent to clients, in milliseconds.
        pub retry_min_ms: u32 = 2_000,
        /// Longest reconnection time sent to clients, in milliseconds.
        pub retry_max_ms: u32 = 4_000,
        /// `SO_SNDBUF` of each connection, in bytes as asked of the kernel (Linux doubles it);
        /// 0 leaves the kernel's own growing buffer.
        pub send_buffer_bytes: u32 = 64 * 1024,
    }
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

with_defaults! {
    /// Publishing.
    pub struct PublishLimits {
        /// Bytes of a request body; past it 413.
        pub body_bytes_max: u64 = 1024 * 1024,
        /// Bytes of request bodies that are held at a time, until their publishes are answered;
        /// past it they wait, and then get 503.
        pub bodies_bytes_max: u64 = 64 * 1024 * 1024,
        /// Events in one batch; past it 413.
        pub batch_events_max: u32 = 10_000,
        /// Milliseconds a publisher waits for permits and for the shards of its channels before
        /// 503.
        pub wait_ms: u32 = 2_000,
        /// Milliseconds a publisher waits for its events to become durable; past it 504: they may
        /// be in the log or not.
        pub outcome_wait_ms: u32 = 30_000,
        /// Milliseconds that an event may wait on a shard beyond the round under way; past it
        /// publishers of its channel wait.
        pub delay_max_ms: u32 = 50,
        /// Milliseconds that an event to few subscribers waits at most for others of its channel
        /// while its shard is busy all the time, so that they are sent together; 0 is never.
        pub gather_max_ms: u32 = 50,
        /// Permits in all: an event takes one, and one more per KiB, until the last shard is
        /// through with it.
        pub in_flight_max: u32 = 32_768,
        /// Part of the permits that a single channel may hold, in percent.
        pub channel_share_percent: u8 = 50,
        /// Idempotency keys remembered; past it the oldest is dropped early.
        pub idempotency_keys_max: u32 = 100_000,
        /// Seconds for which an idempotency key is remembered.
        pub idempotency_s: u32 = 300,
    }
}

with_defaults! {
    /// Long-polls.
    pub struct PollLimits {
        /// Seconds a poll waits if it has no `timeout`.
        pub timeout_s: u32 = 20,
        /// Longest wait a poll may ask for, in seconds.
        pub timeout_max_s: u32 = 60,
        /// Events in an answer if the poll has no `limit`.
        pub limit: u32 = 100,
        /// Most events a poll may ask for.
        pub limit_max: u32 = 1_000,
        /// Milliseconds that a client may take between two polls, so that a drain waits for the
        /// second one.
        pub drain_pause_ms: u32 = 2_000,
    }
}

with_defaults! {
    /// One HTTP/2 connection.
    pub struct Http2Limits {
        /// Requests under way on one connection, streams and waiting polls included; past it a
        /// request is reset, and may be sent again.
        pub streams_max: u32 = 256,
        /// Requests that a client resets within 10 seconds; past it the connection is closed.
        pub resets_max: u32 = 500,
        /// Frames without a request or content within 10 seconds; past it the connection is closed.
        pub frames_max: u32 = 2_000,
        /// Bytes of a request's body that a client may send ahead of what is read.
        pub window_bytes: u32 = 65_535,
        /// Bytes of all bodies that a client may send ahead of what is read.
        pub connection_window_bytes: u32 = 131_070,
        /// Seconds without a request under way after which the connection is closed.
        pub idle_s: u32 = 60,
        /// Seconds of silence after which the client is sent a PING.
        pub keep_alive_s: u32 = 20,
        /// Seconds within which the client must answer the PING; then the connection is closed.
        pub keep_alive_timeout_s: u32 = 20,
    }
}

with_defaults! {
    /// The head of a request.
    pub struct RequestLimits {
        /// Bytes of the target (path and query); past it 414.
        pub target_bytes_max: u32 = 16 * 1024,
        /// Bytes of the target, field names and values together; past it 431.
        pub head_bytes_max: u32 = 32 * 1024,
        /// Header fields; past it 431.
        pub fields_max: u32 = 100,
    }
}

with_defaults! {
    /// Limits of one IPv4 address, or one /64 of IPv6. 0 turns a limit off.
    pub struct AddressLimits {
        /// Sockets on which requests are read and answered; past it new ones are refused for a
        /// while.
        pub requests_max: u32 = 1_000,
        /// Streams and waiting polls; past it new ones are refused for a while.
        pub connections_max: u32 = 2_000,
        /// New connections a second; past it they are refused for a while.
        pub new_per_s: u32 = 200,
        /// New connections at once, above that rate.
        pub new_burst: u32 = 2_000,
        /// Events a second from requests without a subject; further ones are rejected with 429.
        pub events_per_s: u32 = 10_000,
        /// Events at once, above that rate.
        pub events_burst: u32 = 50_000,
        /// Channels a second that requests without a subject create; further ones are rejected with
        /// 429.
        pub channels_per_s: u32 = 200,
        /// New channels at once, above that rate.
        pub channels_burst: u32 = 10_000,
        /// Bytes of large answers under way; past it further ones are refused for a while.
        pub answers_bytes_max: u64 = 64 * 1024 * 1024,
        /// Addresses whose rates are remembered one by one; others share a rate.
        pub rates_max: u32 = 100_000,
        /// Whether programs on this machine are counted too.
        pub loopback: bool = false,
    }
}

impl AddressLimits {
    /// Whether a client counts for them.
    pub fn count(&self, client: ClientAddress) -> bool {
        self.loopback || !client.is_this_machine()
    }
}

with_defaults! {
    /// Limits of all tokens with one subject together. 0 turns a limit off.
    pub struct SubjectLimits {
        /// Streams and waiting polls; past it new ones are refused for a while.
        pub connections_max: u32 = 2_000,
        /// Events a second; further ones are rejected with 429.
        pub events_per_s: u32 = 10_000,
        /// Events at once, above that rate.
        pub events_burst: u32 = 50_000,
        /// Channels a second that they create; further ones are rejected with 429.
        pub channels_per_s: u32 = 200,
        /// New channels at once, above that rate.
        pub channels_burst: u32 = 10_000,
        /// Subjects whose rates are remembered one by one; others share a rate.
        pub rates_max: u32 = 100_000,
    }
}
