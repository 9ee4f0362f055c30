//! The reasons for which connections end, and which of them clients are informed of.

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client closed it, or its host is unreachable.
    PeerClosed,
    /// It exceeded its lag limit, or its next event was evicted.
    SlowConsumer,
    /// Its peer accepted no byte for the write stall time.
    WriteStalled,
    /// The kernel gave its connection up: what was sent was not acknowledged in time, or its peer's
    /// window stayed closed or nearly so.
    TimedOut,
    /// Its last named channel was closed.
    ChannelClosed,
    /// It reached the age at which streams are renewed.
    Aged,
    /// The hub is going down.
    Drained,
    /// A poll got its answer.
    Answered,
    /// The client sent more bytes than a client of a stream may.
    UnexpectedInput,
    /// The ceiling on unsent bytes was exceeded, and it was among the slowest connections.
    UnsentCeiling,
    /// One of its steps panicked: a bug of the hub.
    Panicked,
    /// Its client's token expired.
    TokenExpired,
    /// A fresh token does not allow everything it receives.
    TokenOutgrown,
    /// An administrator requested it.
    EndedByAdmin,
    /// What it is to be sent next cannot be read from disk.
    HistoryUnreadable,
    /// As many connections as may wait for a read of the disk.
    HistoryBusy,
    /// Its shard ended: by a crash, or because the drain window is over.
    ShardEnded,
    /// The shared log has lost events, or this hub has missed some of its events.
    LogChanged,
}

impl CloseReason {
    /// All reasons, for metrics.
    pub const ALL: [Self; 18] = [
        Self::PeerClosed,
        Self::SlowConsumer,
        Self::WriteStalled,
        Self::TimedOut,
        Self::ChannelClosed,
        Self::Aged,
        Self::Drained,
        Self::Answered,
        Self::UnexpectedInput,
        Self::UnsentCeiling,
        Self::Panicked,
        Self::TokenExpired,
        Self::TokenOutgrown,
        Self::EndedByAdmin,
        Self::HistoryUnreadable,
        Self::HistoryBusy,
        Self::ShardEnded,
        Self::LogChanged,
    ];

    /// The label in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::SlowConsumer => "slow_consumer",
            Self::WriteStalled => "write_stalled",
            Self::TimedOut => "timed_out",
            Self::ChannelClosed => "channel_closed",
            Self::Aged => "aged",
            Self::Drained => "drained",
            Self::Answered => "answered",
            Self::UnexpectedInput => "unexpected_input",
            Self::UnsentCeiling => "unsent_ceiling",
            Self::Panicked => "panicked",
            Self::TokenExpired => "token_expired",
            Self::TokenOutgrown => "token_outgrown",
            Self::EndedByAdmin => "ended_by_admin",
            Self::HistoryUnreadable => "history_unreadable",
            Self::HistoryBusy => "history_busy",
            Self::ShardEnded => "shard_ended",
            Self::LogChanged => "log_changed",
        }
    }

    /// Whether the closing block has a `retry:`.
    pub fn asks_to_reconnect(self) -> bool {
        matches!(
            self,
            Self::Aged
                | Self::Drained
                | Self::EndedByAdmin
                | Self::HistoryUnreadable
                | Self::HistoryBusy
                | Self::LogChanged
        ) || self.token_word().is_some()
    }

    /// A comment for people at the end of a stream, where the client cannot know the reason
    /// otherwise.
    pub fn comment(self) -> Option<&'static str> {
        (self == Self::EndedByAdmin).then_some("ended by an administrator")
    }

    /// The reason in the token's closing event, if the token was why it ended.
    pub fn token_word(self) -> Option<&'static str> {
        match self {
            Self::TokenExpired => Some("expired"),
            Self::TokenOutgrown => Some("permissions"),
            _ => None,
        }
    }
}
