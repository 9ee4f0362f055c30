//! What happens to a connection, and what its owner must do then.

use bytes::Bytes;

use super::CloseReason;
use crate::model::Seq;

/// How the client receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A stream of events.
    Stream,
    /// One answer, then the connection returns to its server.
    Poll,
}

/// Something that happened to a connection.
#[derive(Debug)]
pub enum ConnectionMsg {
    /// The fan-out has events for it, between `first` and `last` in the log.
    Round {
        /// First seq of the round.
        first: Seq,
        /// Last seq of the round.
        last: Seq,
        /// Its events in the round, without those up to
        /// [`Connection::counted_through`](super::Connection::counted_through).
        events: u32,
        /// Bytes of these events.
        bytes: u64,
    },
    /// The peer accepted all bytes of a send.
    Sent {
        /// The client has been sent everything up to this seq.
        through: Seq,
        /// Events among them that were not replay, and their bytes.
        sent: (u32, u64),
    },
    /// The peer accepted all bytes of a heartbeat without a position.
    HeartbeatSent,
    /// The peer did not accept all bytes of a send.
    Blocked {
        /// The seq of the event in flight, or the cursor before the send if none is.
        cursor: Seq,
        /// The unsent rest of the event in flight.
        rest: Bytes,
        /// Whether the peer accepted any byte.
        progressed: bool,
        /// Events of the send that are still to be sent, and their bytes.
        due: (u32, u64),
        /// Events that counted as lag and are sent now, and their bytes.
        sent: (u32, u64),
    },
    /// The peer accepted this many bytes of the rest.
    RestTaken(usize),
    /// The peer is writable again, or the next pass has begun.
    Writable,
    /// The search for its start is done.
    StartFound {
        /// The client has everything up to this seq already.
        cursor: Seq,
        /// Events up to this seq are replay.
        replay_through: Seq,
        /// Bytes that come before any event.
        preamble: Bytes,
    },
    /// The next events are being read from disk; events up to this seq count as replay.
    ReadsDisk(Seq),
    /// The next events are in memory. If they were on disk before, events up to this seq count as
    /// replay.
    ReadsMemory(Seq),
    /// A read of history found no event up to this seq, and there is more to read.
    NothingUpTo(Seq),
    /// A read of history found no event up to this seq, which is its end.
    CaughtUp(Seq),
    /// History no longer reaches back to the cursor.
    FellOff,
    /// The jump of [`Effect::Skip`] was made.
    Skipped {
        /// The newest event.
        to: Seq,
        /// The gap event, and the closing events of channels, to be sent first.
        gap: Bytes,
        /// Named channels that are still open.
        open_names: u16,
    },
    /// The client has been sent the closing event of a channel that it named.
    NamedChannelClosed {
        /// Named channels that are still open, or whose closing event comes later.
        open_names: u16,
    },
    /// A poll is about to be answered because an administrator ends it.
    EndAfterAnswer,
    /// The answer of a poll was sent.
    Answered,
    /// The hub is draining; the connection is to end at the given time. A further message changes
    /// the time.
    Drain {
        /// The time, in milliseconds.
        at_ms: u64,
    },
    /// Its lease was renewed.
    Renewed {
        /// Its new end time, in milliseconds; `u64::MAX` is never.
        due_ms: u64,
    },
    /// Time has passed.
    Tick,
}

/// What the owner must do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Send the round.
    Send,
    /// Send the rest (see [`Connection::rest`](super::Connection::rest)).
    SendRest,
    /// Read history after this seq, and send its events.
    Read(Seq),
    /// Jump to the newest event and report [`ConnectionMsg::Skipped`].
    Skip {
        /// The cursor before the jump.
        from: Seq,
    },
    /// Send a heartbeat: a comment, or a block with a newer position.
    Heartbeat,
    /// Answer a poll that found nothing.
    AnswerEmpty,
    /// The connection has ended.
    End(CloseReason),
}

/// The initial state of a connection. The default starts before the first event and has no channel.
#[derive(Debug)]
pub struct ConnectionStart {
    /// The client has everything up to this seq already.
    pub cursor: Seq,
    /// Events up to this seq are replay.
    pub replay_through: Seq,
    /// The unsent part of the preamble: a response head, a first block, a gap.
    pub preamble: Bytes,
    /// When it ends by itself, in milliseconds; `u64::MAX` is never.
    pub due_ms: u64,
    /// Named channels that are not closed.
    pub open_names: u16,
    /// Whether it subscribes to patterns.
    pub has_patterns: bool,
}

impl Default for ConnectionStart {
    fn default() -> Self {
        Self {
            cursor: Seq::ZERO,
            replay_through: Seq::ZERO,
            preamble: Bytes::new(),
            due_ms: u64::MAX,
            open_names: 0,
            // A stream of closed channels would end.
            has_patterns: true,
        }
    }
}
