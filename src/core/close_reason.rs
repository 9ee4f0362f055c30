//! The reasons for which connections end, and whether clients are informed of them.

use crate::model::labels;

labels! {
    /// Why a connection ended.
    #[non_exhaustive]
    pub enum CloseReason {
        /// The client closed it, or its host is unreachable.
        PeerClosed = "peer_closed",
        /// It exceeded its lag limit, or its next event was evicted.
        SlowConsumer = "slow_consumer",
        /// Its peer accepted no byte for the write stall time.
        WriteStalled = "write_stalled",
        /// The kernel gave up its connection: sent bytes were not acknowledged in time, or its
        /// peer's window stayed closed or nearly so.
        TimedOut = "timed_out",
        /// Its last named channel was closed.
        ChannelClosed = "channel_closed",
        /// It reached the age at which streams are renewed.
        Aged = "aged",
        /// The hub is going down.
        Drained = "drained",
        /// A poll got its answer.
        Answered = "answered",
        /// The client sent more bytes than a client of a stream may.
        UnexpectedInput = "unexpected_input",
        /// The ceiling on unsent bytes was exceeded, and it was among the slowest connections.
        UnsentCeiling = "unsent_ceiling",
        /// One of its steps panicked: a bug of the hub.
        Panicked = "panicked",
        /// Its client's token expired.
        TokenExpired = "token_expired",
        /// Its token was replaced by one that does not allow everything it receives.
        TokenOutgrown = "token_outgrown",
        /// An administrator requested it.
        EndedByAdmin = "ended_by_admin",
        /// Its next events cannot be read from disk.
        HistoryUnreadable = "history_unreadable",
        /// Too many connections already wait for a read of the disk.
        HistoryBusy = "history_busy",
        /// Its shard ended: by a crash, or because the drain window is over.
        ShardEnded = "shard_ended",
        /// The shared log has lost events, or this hub has missed some of its events.
        LogChanged = "log_changed",
    }
}

impl CloseReason {
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
