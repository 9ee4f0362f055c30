//! One connection: a stream or a waiting long-poll, as a state machine without I/O.
//!
//! A connection is LIVE (it has everything up to its cursor, and receives each round of the
//! fan-out) or BEHIND (it has an unsent rest, or reads history from its cursor, or both). It is
//! BEHIND at the start of its subscription, after a write that the socket did not accept whole, and
//! if it was registered during a round. It is LIVE again once a read of history finds nothing more.
//!
//! The owner calls [`Connection::handle`] with an event and performs the returned effect. All
//! decisions are made here.

use bytes::{Buf, Bytes};

use super::{CloseReason, ConnectionLimits, SlowPolicy};
use crate::model::Seq;

/// The state of one connection. Fields that only a connection that is BEHIND needs are boxed, so
/// that an idle one is small.
#[derive(Debug)]
pub struct Connection {
    /// All events of its subscription up to this seq have been sent or are in the rest.
    cursor: Seq,
    /// When the peer last accepted a byte; with [`HEARTBEAT_MARK`] set if that was a heartbeat. As
    /// a bit of the time the mark costs a delivery nothing, which writes the time anyway, and needs
    /// no further memory.
    written_ms: u64,
    /// When the hub ends it: the deadline of a poll, the age or drain of a stream. `u64::MAX` is
    /// never.
    due_ms: u64,
    lagging: Option<Box<Lagging>>,
    /// Set once it is to end; it ends when the rest has been sent.
    ending: Option<CloseReason>,
    /// Named channels not closed yet.
    open_names: u16,
    /// A pattern may match a channel created later, so it never ends by closed channels.
    has_patterns: bool,
    transport: Transport,
    policy: SlowPolicy,
    draining: bool,
}

#[derive(Debug, Default)]
struct Lagging {
    /// The unsent rest of the frame in flight, or of a block of the hub itself.
    rest: Bytes,
    /// Events up to here are replay and do not count as lag.
    replay_through: Seq,
    lag_events: u32,
    lag_bytes: u64,
    /// The size of the largest round since it fell behind that alone exceeded the lag limit. It is
    /// added to the limit, so that one large batch does not close every connection that cannot
    /// accept it at once.
    large_events: u32,
    large_bytes: u64,
    skip: bool,
    /// The next events are read from disk, and so is whatever is published meanwhile.
    is_on_disk: bool,
    /// When a read of history last found nothing, in milliseconds: until then there were no bytes
    /// for the peer.
    checked_ms: u64,
}

impl Lagging {
    /// Whether it waits for the disk, and not for the peer.
    fn waits_for_disk(&self) -> bool {
        self.is_on_disk && self.rest.is_empty()
    }

    /// Counts a round as lag.
    fn add_lag(&mut self, events: u32, bytes: u64, limits: &ConnectionLimits) {
        self.lag_events = self.lag_events.saturating_add(events);
        self.lag_bytes = self.lag_bytes.saturating_add(bytes);
        if events > limits.lag_events_max {
            self.large_events = self.large_events.max(events);
        }
        if bytes > limits.lag_bytes_max {
            self.large_bytes = self.large_bytes.max(bytes);
        }
    }

    /// Events up to here count as replay.
    fn begin_replay(&mut self, head: Seq) {
        self.replay_through = self.replay_through.max(head);
        (self.lag_events, self.lag_bytes) = (0, 0);
        (self.large_events, self.large_bytes) = (0, 0);
    }

    /// Subtracts sent events from the lag.
    fn remove_lag(&mut self, (events, bytes): (u32, u64)) {
        self.lag_events = self.lag_events.saturating_sub(events);
        self.lag_bytes = self.lag_bytes.saturating_sub(bytes);
    }

    fn lags_too_far(&self, limits: &ConnectionLimits) -> bool {
        self.lag_events > limits.lag_events_max.saturating_add(self.large_events)
            || self.lag_bytes > limits.lag_bytes_max.saturating_add(self.large_bytes)
    }
}

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
        /// Its events in the round, without those up to [`Connection::counted_through`].
        events: u32,
        /// Their bytes.
        bytes: u64,
    },
    /// The peer accepted all bytes of a send.
    Sent {
        /// The client has been sent everything up to here.
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
        /// Everything up to here is the client's already.
        cursor: Seq,
        /// Events up to here are replay.
        replay_through: Seq,
        /// Bytes that come before any event.
        preamble: Bytes,
    },
    /// What comes next is being read from disk; events up to here count as replay.
    ReadsDisk(Seq),
    /// What comes next is in memory; if it was on disk before, events up to here count as replay.
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
    /// A channel it named is closed, and the client has been sent the closing event.
    NamedChannelClosed,
    /// A poll is about to be answered because an administrator ends it.
    EndAfterAnswer,
    /// The answer of a poll was sent.
    Answered,
    /// The hub is draining; the connection is to end at the given time. A further message changes
    /// the time.
    Drain {
        /// When, in milliseconds.
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
    /// Send the rest (see [`Connection::rest`]).
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
    /// Everything up to here is the client's already.
    pub cursor: Seq,
    /// Events up to here are replay.
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

impl Connection {
    /// A new connection is BEHIND if part of its preamble is unsent or there is history to replay;
    /// otherwise it is LIVE.
    pub fn new(
        start: ConnectionStart,
        transport: Transport,
        policy: SlowPolicy,
        now_ms: u64,
    ) -> Self {
        let is_live = start.preamble.is_empty() && start.cursor >= start.replay_through;
        let mut connection = Self {
            cursor: start.cursor,
            written_ms: now_ms,
            due_ms: start.due_ms,
            lagging: (!is_live).then(|| {
                let rest = start.preamble;
                let replay_through = start.replay_through;
                Box::new(Lagging { rest, replay_through, ..Lagging::default() })
            }),
            ending: None,
            open_names: start.open_names,
            has_patterns: start.has_patterns,
            transport,
            policy,
            draining: false,
        };
        // Its channels may have been closed between its admission and its registration.
        connection.set_open_names(start.open_names);
        connection
    }

    /// The transition function: takes a message and the time, returns what the owner must do.
    pub fn handle(&mut self, msg: ConnectionMsg, now_ms: u64, limits: &ConnectionLimits) -> Effect {
        match msg {
            ConnectionMsg::Round { first, last, events, bytes } => {
                self.round(first, last, events, bytes, limits)
            }
            ConnectionMsg::Sent { through, sent } => {
                self.cursor = self.cursor.max(through);
                self.written_ms = now_ms;
                if let Some(lagging) = &mut self.lagging {
                    lagging.remove_lag(sent);
                }
                self.next()
            }
            ConnectionMsg::HeartbeatSent => {
                self.written_ms = now_ms | HEARTBEAT_MARK;
                self.next()
            }
            ConnectionMsg::Blocked { cursor, rest, progressed, due, sent } => {
                // LIVE -> BEHIND, or BEHIND and still so.
                if progressed || self.lagging.is_none() {
                    self.written_ms = now_ms;
                }
                self.cursor = self.cursor.max(cursor);
                let replay_through = self.cursor;
                let lagging = self.lagging.get_or_insert_with(|| {
                    let mut lagging = Lagging { replay_through, ..Lagging::default() };
                    lagging.add_lag(due.0 + sent.0, due.1 + sent.1, limits);
                    Box::new(lagging)
                });
                lagging.remove_lag(sent);
                lagging.rest = rest;
                Effect::None
            }
            ConnectionMsg::RestTaken(bytes) => {
                if bytes > 0 {
                    self.written_ms = now_ms;
                }
                if let Some(lagging) = &mut self.lagging {
                    lagging.rest.advance(bytes);
                    if !lagging.rest.is_empty() {
                        return Effect::None;
                    }
                    // Release the buffer that the empty rest still shares.
                    lagging.rest = Bytes::new();
                }
                self.next()
            }
            ConnectionMsg::Writable => self.next(),
            ConnectionMsg::StartFound { cursor, replay_through, preamble } => {
                self.cursor = self.cursor.max(cursor);
                if let Some(lagging) = &mut self.lagging {
                    (lagging.rest, lagging.replay_through) = (preamble, replay_through);
                }
                self.next()
            }
            ConnectionMsg::ReadsDisk(head) => {
                if let Some(lagging) = &mut self.lagging {
                    lagging.is_on_disk = true;
                    lagging.checked_ms = now_ms;
                    lagging.begin_replay(head);
                }
                Effect::None
            }
            ConnectionMsg::ReadsMemory(head) => {
                if let Some(lagging) = self.lagging.as_mut().filter(|lagging| lagging.is_on_disk) {
                    lagging.is_on_disk = false;
                    lagging.begin_replay(head);
                }
                Effect::None
            }
            ConnectionMsg::NothingUpTo(through) => {
                self.cursor = self.cursor.max(through);
                if let Some(lagging) = &mut self.lagging {
                    lagging.checked_ms = now_ms;
                }
                self.next()
            }
            ConnectionMsg::CaughtUp(through) => {
                // BEHIND -> LIVE.
                self.cursor = self.cursor.max(through);
                self.lagging = None;
                self.next()
            }
            ConnectionMsg::FellOff => match self.policy {
                SlowPolicy::Disconnect => self.end(CloseReason::SlowConsumer),
                SlowPolicy::Skip => Effect::Skip { from: self.cursor },
            },
            ConnectionMsg::Skipped { to, gap, open_names } => {
                self.cursor = self.cursor.max(to);
                self.lagging = Some(Box::new(Lagging {
                    rest: gap,
                    replay_through: self.cursor,
                    ..Lagging::default()
                }));
                self.set_open_names(open_names);
                self.next()
            }
            ConnectionMsg::NamedChannelClosed => {
                self.set_open_names(self.open_names.saturating_sub(1));
                Effect::None
            }
            ConnectionMsg::EndAfterAnswer => {
                self.ending = Some(CloseReason::EndedByAdmin);
                Effect::None
            }
            ConnectionMsg::Answered => {
                self.ending.get_or_insert(CloseReason::Answered);
                self.next()
            }
            ConnectionMsg::Drain { at_ms } => {
                let due_ms = if self.draining { u64::MAX } else { self.due_ms };
                self.due_ms = due_ms.min(at_ms);
                self.draining = true;
                Effect::None
            }
            ConnectionMsg::Renewed { due_ms } => {
                // The time that a drain has set stays.
                if !self.draining {
                    self.due_ms = due_ms;
                }
                Effect::None
            }
            ConnectionMsg::Tick => self.tick(now_ms, limits),
        }
    }

    /// The unsent bytes, which must be sent before any others.
    pub fn rest(&self) -> Bytes {
        self.lagging.as_ref().map(|lagging| lagging.rest.clone()).unwrap_or_default()
    }

    /// Whether it is behind the head of the log, or has unsent bytes.
    pub fn is_behind(&self) -> bool {
        self.lagging.is_some()
    }

    /// All events of its subscription up to this seq have been sent or are in its rest.
    pub fn cursor(&self) -> Seq {
        self.cursor
    }

    /// Advances the cursor of a LIVE connection, when the owner knows that no event of its
    /// subscription is in between.
    pub fn advance_idle(&mut self, to: Seq) {
        if self.lagging.is_none() {
            self.cursor = self.cursor.max(to);
        }
    }

    /// Events after this one count as lag.
    pub fn replay_through(&self) -> Seq {
        self.lagging.as_ref().map_or(self.cursor, |lagging| lagging.replay_through)
    }

    /// Events up to this seq do not count as lag: they were sent, or are replay.
    pub fn counted_through(&self) -> Seq {
        self.cursor.max(self.replay_through())
    }

    /// How far it lags, in events and bytes.
    pub fn lag(&self) -> (u32, u64) {
        self.lagging.as_ref().map_or((0, 0), |lagging| (lagging.lag_events, lagging.lag_bytes))
    }

    /// The number of unsent bytes.
    pub fn unsent_bytes(&self) -> usize {
        self.lagging.as_ref().map_or(0, |lagging| lagging.rest.len())
    }

    /// When the peer last accepted a byte, in milliseconds.
    pub fn written_ms(&self) -> u64 {
        self.written_ms & !HEARTBEAT_MARK
    }

    /// Whether the last write was a heartbeat without a position.
    pub fn is_after_heartbeat(&self) -> bool {
        self.written_ms & HEARTBEAT_MARK != 0
    }

    /// When the hub ends it, in milliseconds.
    pub fn ends_ms(&self) -> Option<u64> {
        (self.due_ms != u64::MAX).then_some(self.due_ms)
    }

    /// What happens when it lags too far.
    pub fn policy(&self) -> SlowPolicy {
        self.policy
    }

    /// Whether it ends once its rest is sent.
    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// A stream or a poll.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// When it next has to be checked, in milliseconds.
    pub fn next_check_ms(&self, limits: &ConnectionLimits) -> u64 {
        let stall_ms = self.stalled_since_ms() + u64::from(limits.write_stall_s) * 1_000;
        let waits_for_peer = self.lagging.as_ref().is_some_and(|lagging| !lagging.waits_for_disk());
        match self.transport {
            _ if self.ending.is_some() => stall_ms,
            Transport::Poll => self.due_ms.min(if waits_for_peer { stall_ms } else { u64::MAX }),
            Transport::Stream => {
                // The stall deadline is always included, since the connection may fall behind
                // before its next check.
                let heartbeat_ms = self.written_ms() + u64::from(limits.heartbeat_s) * 1_000;
                let quiet_ms = if waits_for_peer { stall_ms } else { heartbeat_ms.min(stall_ms) };
                quiet_ms.min(self.due_ms)
            }
        }
    }

    fn round(
        &mut self,
        first: Seq,
        last: Seq,
        events: u32,
        bytes: u64,
        limits: &ConnectionLimits,
    ) -> Effect {
        if self.ending.is_some() || self.cursor >= last {
            return Effect::None;
        }
        match &mut self.lagging {
            None if self.cursor < first => {
                // No event of its subscription is in between.
                self.cursor = Seq(first.0.saturating_sub(1));
                Effect::Send
            }
            None => {
                // LIVE -> BEHIND: it was registered after some of this round's events were
                // gathered.
                let mut lagging = Lagging { replay_through: self.cursor, ..Lagging::default() };
                lagging.add_lag(events, bytes, limits);
                self.lagging = Some(Box::new(lagging));
                Effect::Read(self.cursor)
            }
            // A poll has no lag limit: it reads history once and is answered.
            Some(_) if self.transport == Transport::Poll => Effect::None,
            Some(lagging) if lagging.is_on_disk => Effect::None,
            Some(lagging) => {
                lagging.add_lag(events, bytes, limits);
                if lagging.lags_too_far(limits) {
                    match self.policy {
                        SlowPolicy::Disconnect => return self.end(CloseReason::SlowConsumer),
                        SlowPolicy::Skip => lagging.skip = true,
                    }
                }
                Effect::None
            }
        }
    }

    /// The next effect of a writable connection.
    fn next(&mut self) -> Effect {
        match (&self.lagging, self.ending) {
            (Some(lagging), _) if !lagging.rest.is_empty() => Effect::SendRest,
            (_, Some(reason)) => Effect::End(reason),
            (Some(lagging), None) if lagging.skip => Effect::Skip { from: self.cursor },
            (Some(_), None) => Effect::Read(self.cursor),
            (None, None) => Effect::None,
        }
    }

    fn tick(&mut self, now_ms: u64, limits: &ConnectionLimits) -> Effect {
        let quiet_ms = now_ms.saturating_sub(self.written_ms());
        let is_behind = match &mut self.lagging {
            Some(lagging) if lagging.waits_for_disk() => {
                lagging.checked_ms = now_ms;
                false
            }
            lagging => lagging.is_some(),
        };
        if is_behind || self.ending.is_some() {
            let stalled_ms = now_ms.saturating_sub(self.stalled_since_ms());
            if stalled_ms >= u64::from(limits.write_stall_s) * 1_000 {
                return self.end(CloseReason::WriteStalled);
            }
            if now_ms >= self.due_ms && self.transport == Transport::Stream {
                return self.end(self.due_reason());
            }
            return Effect::None;
        }
        if now_ms >= self.due_ms {
            return match self.transport {
                Transport::Poll => Effect::AnswerEmpty,
                Transport::Stream => self.end(self.due_reason()),
            };
        }
        if self.transport == Transport::Stream && quiet_ms >= u64::from(limits.heartbeat_s) * 1_000
        {
            return Effect::Heartbeat;
        }
        Effect::None
    }

    /// Since when the peer has accepted no byte although bytes were waiting; `None` if it has not
    /// stalled.
    fn stalled_since_ms(&self) -> u64 {
        let checked_ms = self.lagging.as_ref().map_or(0, |lagging| lagging.checked_ms);
        self.written_ms().max(checked_ms)
    }

    /// A stream ends with its last named channel; a pattern may match one created later.
    fn set_open_names(&mut self, open_names: u16) {
        self.open_names = open_names;
        if open_names == 0 && !self.has_patterns && self.transport == Transport::Stream {
            self.ending.get_or_insert(CloseReason::ChannelClosed);
        }
    }

    fn due_reason(&self) -> CloseReason {
        if self.draining { CloseReason::Drained } else { CloseReason::Aged }
    }

    fn end(&mut self, reason: CloseReason) -> Effect {
        self.ending = Some(reason);
        Effect::End(reason)
    }
}

/// The bit of a time that marks a heartbeat.
const HEARTBEAT_MARK: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> ConnectionLimits {
        ConnectionLimits { lag_events_max: 10, lag_bytes_max: 1_000, ..ConnectionLimits::default() }
    }

    fn stream(policy: SlowPolicy) -> Connection {
        connection(Transport::Stream, policy, u64::MAX)
    }

    /// A connection that has had everything up to 100 at time 0.
    fn connection(transport: Transport, policy: SlowPolicy, due_ms: u64) -> Connection {
        let start = ConnectionStart {
            cursor: Seq(100),
            replay_through: Seq(100),
            preamble: Bytes::from_static(b"head"),
            due_ms,
            open_names: 1,
            has_patterns: false,
        };
        let mut connection = Connection::new(start, transport, policy, 0);
        let mut step = |msg| connection.handle(msg, 0, &limits());
        assert_eq!(step(ConnectionMsg::Writable), Effect::SendRest);
        assert_eq!(step(ConnectionMsg::RestTaken(3)), Effect::None);
        assert_eq!(step(ConnectionMsg::RestTaken(1)), Effect::Read(Seq(100)));
        assert_eq!(step(ConnectionMsg::CaughtUp(Seq(100))), Effect::None);
        assert!(!connection.is_behind());
        connection
    }

    fn round(first: u64, last: u64, events: u32, bytes: u64) -> ConnectionMsg {
        ConnectionMsg::Round { first: Seq(first), last: Seq(last), events, bytes }
    }

    /// Sends a round of one event of ten bytes, of which one is taken.
    fn block(connection: &mut Connection) {
        let mut step = |msg| connection.handle(msg, 0, &limits());
        assert_eq!(step(round(101, 101, 1, 10)), Effect::Send);
        let blocked = ConnectionMsg::Blocked {
            cursor: Seq(101),
            rest: Bytes::from_static(b"remaining"),
            progressed: true,
            due: (0, 0),
            sent: (1, 10),
        };
        assert_eq!(step(blocked), Effect::None);
        assert_eq!(connection.lag(), (0, 0), "the event in flight does not count as lag");
    }

    #[test]
    fn a_connection_whose_history_is_being_searched_does_not_stall() {
        let limits = ConnectionLimits { write_stall_s: 30, ..limits() };
        let start = ConnectionStart {
            cursor: Seq(1),
            replay_through: Seq(u64::MAX),
            preamble: Bytes::new(),
            due_ms: u64::MAX,
            open_names: 0,
            has_patterns: true,
        };
        let mut connection = Connection::new(start, Transport::Stream, SlowPolicy::Disconnect, 0);
        for now_ms in [20_000, 40_000] {
            let passed = ConnectionMsg::NothingUpTo(Seq::ZERO);
            assert_eq!(connection.handle(passed, now_ms, &limits), Effect::Read(Seq(1)));
            // However much comes, nothing is sent before the preamble.
            assert_eq!(connection.handle(round(200, 400, 0, 0), now_ms, &limits), Effect::None);
            assert_eq!(connection.handle(ConnectionMsg::Tick, now_ms, &limits), Effect::None);
        }
        let preamble = Bytes::from_static(b"first");
        let begun =
            ConnectionMsg::StartFound { cursor: Seq(9), replay_through: Seq(400), preamble };
        assert_eq!(connection.handle(begun, 50_000, &limits), Effect::SendRest);
        assert_eq!((connection.cursor(), connection.replay_through()), (Seq(9), Seq(400)));
        let stalled = Effect::End(CloseReason::WriteStalled);
        assert_eq!(connection.handle(ConnectionMsg::Tick, 69_999, &limits), Effect::None);
        assert_eq!(connection.next_check_ms(&limits), 70_000);
        assert_eq!(connection.handle(ConnectionMsg::Tick, 70_000, &limits), stalled);
    }

    #[test]
    fn the_lag_in_events_is_checked_below_at_and_above_its_bound() {
        for (events, effect) in
            [(9, Effect::None), (10, Effect::None), (11, Effect::End(CloseReason::SlowConsumer))]
        {
            let mut connection = stream(SlowPolicy::Disconnect);
            block(&mut connection);
            assert_eq!(connection.handle(round(102, 102, 1, 10), 0, &limits()), Effect::None);
            let msg = round(103, 101 + u64::from(events), events - 1, 10);
            assert_eq!(connection.handle(msg, 0, &limits()), effect, "{events} events");
        }
    }

    #[test]
    fn the_lag_in_bytes_is_checked_below_at_and_above_its_bound() {
        for (bytes, effect) in [
            (999, Effect::None),
            (1_000, Effect::None),
            (1_001, Effect::End(CloseReason::SlowConsumer)),
        ] {
            let mut connection = stream(SlowPolicy::Disconnect);
            block(&mut connection);
            assert_eq!(connection.handle(round(102, 102, 1, 10), 0, &limits()), Effect::None);
            let msg = round(103, 103, 1, bytes - 10);
            assert_eq!(connection.handle(msg, 0, &limits()), effect, "{bytes} bytes");
        }
    }

    #[test]
    fn the_bound_is_on_top_of_a_round_that_is_larger_than_it_until_it_has_caught_up() {
        let mut connection = stream(SlowPolicy::Disconnect);
        let mut step = |msg| connection.handle(msg, 0, &limits());
        assert_eq!(step(round(101, 150, 50, 500)), Effect::Send);
        // The first event is in flight, 49 are due.
        let blocked = ConnectionMsg::Blocked {
            cursor: Seq(101),
            rest: Bytes::from_static(b"remaining"),
            progressed: true,
            due: (49, 490),
            sent: (1, 10),
        };
        assert_eq!(step(blocked), Effect::None);
        assert_eq!(step(round(151, 160, 10, 100)), Effect::None);
        // Past the bound, but with the large round not past both.
        assert_eq!(step(round(161, 161, 1, 10)), Effect::None);
        assert_eq!(connection.lag(), (60, 600));
        let end = connection.handle(round(162, 162, 1, 10), 0, &limits());
        assert_eq!(end, Effect::End(CloseReason::SlowConsumer));

        let mut connection = stream(SlowPolicy::Disconnect);
        block(&mut connection);
        let mut step = |msg| connection.handle(msg, 0, &limits());
        assert_eq!(step(round(102, 202, 101, 500)), Effect::None);
        step(ConnectionMsg::RestTaken(9));
        step(ConnectionMsg::Sent { through: Seq(202), sent: (101, 500) });
        assert_eq!(step(ConnectionMsg::CaughtUp(Seq(202))), Effect::None);
        assert_eq!(step(round(203, 203, 1, 10)), Effect::Send);
        let blocked = ConnectionMsg::Blocked {
            cursor: Seq(202),
            rest: Bytes::new(),
            progressed: false,
            due: (1, 10),
            sent: (0, 0),
        };
        assert_eq!(step(blocked), Effect::None);
        assert_eq!(step(round(204, 212, 9, 90)), Effect::None);
        assert_eq!(step(round(213, 213, 1, 10)), Effect::End(CloseReason::SlowConsumer));
    }

    #[test]
    fn what_is_sent_is_no_longer_lag() {
        let mut connection = stream(SlowPolicy::Disconnect);
        block(&mut connection);
        let mut step = |msg| connection.handle(msg, 0, &limits());
        step(round(102, 111, 10, 100));
        assert_eq!(step(ConnectionMsg::RestTaken(9)), Effect::Read(Seq(101)));
        let sent = ConnectionMsg::Sent { through: Seq(105), sent: (4, 40) };
        assert_eq!(step(sent), Effect::Read(Seq(105)));
        assert_eq!(connection.lag(), (6, 60));
        let mut step = |msg| connection.handle(msg, 0, &limits());
        assert_eq!(step(round(112, 115, 4, 40)), Effect::None, "ten again");
        assert_eq!(step(round(116, 116, 1, 10)), Effect::End(CloseReason::SlowConsumer));
    }

    #[test]
    fn skip_waits_for_the_event_in_flight() {
        let mut connection = stream(SlowPolicy::Skip);
        block(&mut connection);
        let mut step = |msg| connection.handle(msg, 0, &limits());
        assert_eq!(step(round(102, 111, 10, 90)), Effect::None);
        assert_eq!(step(round(112, 112, 1, 10)), Effect::None);
        assert_eq!(step(ConnectionMsg::Writable), Effect::SendRest);
        assert_eq!(step(ConnectionMsg::RestTaken(9)), Effect::Skip { from: Seq(101) });
        let gap = Bytes::from_static(b"gap");
        let skipped = ConnectionMsg::Skipped { to: Seq(112), gap, open_names: 1 };
        assert_eq!(step(skipped), Effect::SendRest);
        assert_eq!(step(ConnectionMsg::RestTaken(3)), Effect::Read(Seq(112)));
        assert_eq!(connection.lag(), (0, 0));
    }

    #[test]
    fn a_poll_never_lags() {
        let mut connection = connection(Transport::Poll, SlowPolicy::Skip, 20_000);
        let mut step = |msg| connection.handle(msg, 0, &limits());
        // It reads on, because its cursor is within the round that came.
        assert_eq!(step(round(90, 110, 5, 50)), Effect::Read(Seq(100)));
        assert_eq!(step(round(111, 200, 90, 9_000)), Effect::None);
        assert_eq!(step(ConnectionMsg::Writable), Effect::Read(Seq(100)));
    }

    #[test]
    fn a_round_it_has_already_is_not_sent() {
        let mut connection = stream(SlowPolicy::Disconnect);
        let mut step = |msg| connection.handle(msg, 0, &limits());
        assert_eq!(step(round(99, 100, 2, 20)), Effect::None);
        assert_eq!(step(round(99, 101, 1, 10)), Effect::Read(Seq(100)), "it has a part of it");
        assert_eq!(step(ConnectionMsg::CaughtUp(Seq(101))), Effect::None);
        assert_eq!(step(round(102, 102, 1, 10)), Effect::Send);
    }

    #[test]
    fn a_write_stalls_at_its_time_and_not_before() {
        let stall_ms = u64::from(limits().write_stall_s) * 1_000;
        for (at_ms, effect) in [
            (stall_ms - 1, Effect::None),
            (stall_ms, Effect::End(CloseReason::WriteStalled)),
            (stall_ms + 1, Effect::End(CloseReason::WriteStalled)),
        ] {
            let mut connection = stream(SlowPolicy::Disconnect);
            block(&mut connection);
            assert_eq!(connection.next_check_ms(&limits()), stall_ms);
            assert_eq!(connection.handle(ConnectionMsg::Tick, at_ms, &limits()), effect);
        }
        let mut connection = stream(SlowPolicy::Disconnect);
        block(&mut connection);
        connection.handle(ConnectionMsg::RestTaken(1), 5, &limits());
        let tick = connection.handle(ConnectionMsg::Tick, stall_ms, &limits());
        assert_eq!(tick, Effect::None, "a byte was taken since");
    }

    #[test]
    fn a_heartbeat_comes_at_its_time_and_only_to_an_idle_stream() {
        let heartbeat_ms = u64::from(limits().heartbeat_s) * 1_000;
        let mut idle = stream(SlowPolicy::Disconnect);
        assert_eq!(idle.next_check_ms(&limits()), heartbeat_ms);
        for (at_ms, effect) in [
            (heartbeat_ms - 1, Effect::None),
            (heartbeat_ms, Effect::Heartbeat),
            (heartbeat_ms + 1, Effect::Heartbeat),
        ] {
            assert_eq!(idle.handle(ConnectionMsg::Tick, at_ms, &limits()), effect);
        }
        let mut lagging = stream(SlowPolicy::Disconnect);
        block(&mut lagging);
        assert_eq!(lagging.handle(ConnectionMsg::Tick, heartbeat_ms, &limits()), Effect::None);
        let mut poll = connection(Transport::Poll, SlowPolicy::Disconnect, u64::MAX);
        assert_eq!(poll.handle(ConnectionMsg::Tick, heartbeat_ms, &limits()), Effect::None);
    }

    #[test]
    fn a_poll_is_answered_at_its_deadline_and_not_before() {
        for (at_ms, effect) in
            [(19_999, Effect::None), (20_000, Effect::AnswerEmpty), (20_001, Effect::AnswerEmpty)]
        {
            let mut poll = connection(Transport::Poll, SlowPolicy::Disconnect, 20_000);
            assert_eq!(poll.next_check_ms(&limits()), 20_000);
            assert_eq!(poll.handle(ConnectionMsg::Tick, at_ms, &limits()), effect);
        }
    }

    #[test]
    fn a_stream_ends_at_its_age_or_its_time_of_the_drain() {
        let mut aged = connection(Transport::Stream, SlowPolicy::Disconnect, 5_000);
        assert_eq!(aged.handle(ConnectionMsg::Tick, 4_999, &limits()), Effect::None);
        let effect = aged.handle(ConnectionMsg::Tick, 5_000, &limits());
        assert_eq!(effect, Effect::End(CloseReason::Aged));

        let mut drained = connection(Transport::Stream, SlowPolicy::Disconnect, 5_000);
        drained.handle(ConnectionMsg::Drain { at_ms: 300 }, 0, &limits());
        assert_eq!(drained.next_check_ms(&limits()), 300);
        assert_eq!(drained.handle(ConnectionMsg::Tick, 299, &limits()), Effect::None);
        let effect = drained.handle(ConnectionMsg::Tick, 300, &limits());
        assert_eq!(effect, Effect::End(CloseReason::Drained));
    }

    #[test]
    fn a_stream_ends_with_its_last_named_channel_once_its_rest_is_out() {
        let mut connection = stream(SlowPolicy::Disconnect);
        connection.handle(ConnectionMsg::NamedChannelClosed, 0, &limits());
        assert!(connection.is_ending());
        let blocked = ConnectionMsg::Blocked {
            cursor: Seq(101),
            rest: Bytes::from_static(b"closed"),
            progressed: true,
            due: (0, 0),
            sent: (1, 10),
        };
        let mut step = |msg| connection.handle(msg, 0, &limits());
        assert_eq!(step(blocked), Effect::None);
        assert_eq!(step(round(102, 500, 300, 9_000)), Effect::None, "nothing comes after it");
        assert_eq!(step(ConnectionMsg::RestTaken(6)), Effect::End(CloseReason::ChannelClosed));
    }

    #[test]
    fn a_connection_that_waits_for_the_disk_gets_heartbeats_and_neither_lags_nor_stalls() {
        let heartbeat_ms = u64::from(limits().heartbeat_s) * 1_000;
        let mut connection = stream(SlowPolicy::Disconnect);
        block(&mut connection);
        let mut step = |msg, now_ms| connection.handle(msg, now_ms, &limits());
        assert_eq!(step(round(102, 110, 9, 90), 0), Effect::None);
        assert_eq!(step(ConnectionMsg::RestTaken(9), 0), Effect::Read(Seq(101)));
        assert_eq!(step(ConnectionMsg::ReadsDisk(Seq(110)), 0), Effect::None);
        assert_eq!(step(round(111, 911, 800, 8_000), 0), Effect::None, "it does not count");
        for beat in 1..=4 {
            assert_eq!(step(ConnectionMsg::Tick, beat * heartbeat_ms - 1), Effect::None);
            assert_eq!(step(ConnectionMsg::Tick, beat * heartbeat_ms), Effect::Heartbeat);
            // It looks whether the read is done.
            let next = step(ConnectionMsg::HeartbeatSent, beat * heartbeat_ms);
            assert_eq!(next, Effect::Read(Seq(101)));
        }
        let now_ms = 5 * heartbeat_ms;
        let sent = ConnectionMsg::Sent { through: Seq(911), sent: (801, 8_010) };
        assert_eq!(step(sent, now_ms), Effect::Read(Seq(911)));
        assert_eq!(step(ConnectionMsg::ReadsMemory(Seq(920)), now_ms), Effect::None);
        assert_eq!(step(round(921, 926, 6, 60), now_ms), Effect::None);
        assert_eq!(step(round(927, 931, 5, 50), now_ms), Effect::End(CloseReason::SlowConsumer));

        let mut poll = self::connection(Transport::Poll, SlowPolicy::Disconnect, 20_000);
        let mut step = |msg, now_ms| poll.handle(msg, now_ms, &limits());
        assert_eq!(step(round(90, 110, 5, 50), 0), Effect::Read(Seq(100)));
        assert_eq!(step(ConnectionMsg::ReadsDisk(Seq(110)), 0), Effect::None);
        assert_eq!(step(ConnectionMsg::Tick, 19_999), Effect::None);
        assert_eq!(step(ConnectionMsg::Tick, 20_000), Effect::AnswerEmpty);
    }

    #[test]
    fn an_idle_live_connection_is_small() {
        assert!(size_of::<Connection>() <= 48, "{} bytes", size_of::<Connection>());
    }
}
