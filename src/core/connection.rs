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

use super::{
    CloseReason, ConnectionLimits, SlowPolicy,
    connection_msg::{ConnectionMsg, ConnectionStart, Effect, Transport},
    lagging::Lagging,
};
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
    /// A pattern may match a channel created later, so it never ends by closed channels.
    has_patterns: bool,
    transport: Transport,
    policy: SlowPolicy,
    draining: bool,
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
                    lagging.is_blocked = false;
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
                lagging.is_blocked = true;
                Effect::None
            }
            ConnectionMsg::RestTaken(bytes) => {
                if bytes > 0 {
                    self.written_ms = now_ms;
                }
                if let Some(lagging) = &mut self.lagging {
                    lagging.rest.advance(bytes);
                    lagging.is_blocked = !lagging.rest.is_empty();
                    if lagging.is_blocked {
                        return Effect::None;
                    }
                    // Release the buffer that the empty rest still shares.
                    lagging.rest = Bytes::new();
                }
                self.next()
            }
            ConnectionMsg::Writable => {
                if let Some(lagging) = &mut self.lagging {
                    lagging.is_blocked = false;
                }
                self.next()
            }
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
            ConnectionMsg::NamedChannelClosed { open_names } => {
                self.set_open_names(open_names);
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

    /// Whether it waits for its socket to become writable.
    pub fn is_blocked(&self) -> bool {
        self.lagging.as_ref().is_some_and(|lagging| lagging.is_blocked)
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

    /// How far it may lag, in events and bytes.
    pub fn lag_max(&self, limits: &ConnectionLimits) -> (u32, u64) {
        let large = self.lagging.as_ref().map_or((0, 0), |lagging| lagging.large());
        (
            limits.lag_events_max.saturating_add(large.0),
            limits.lag_bytes_max.saturating_add(large.1),
        )
    }

    /// When it ends if its peer takes no byte until then, in milliseconds; `None` while there is
    /// nothing that its peer has to take.
    pub fn stalls_ms(&self, limits: &ConnectionLimits) -> Option<u64> {
        let waits_for_peer = self.lagging.as_ref().is_some_and(|lagging| !lagging.waits_for_disk());
        let stall_ms = u64::from(limits.write_stall_s) * 1_000;
        (waits_for_peer || self.is_ending()).then(|| self.stalled_since_ms() + stall_ms)
    }

    /// What happens when it lags too far.
    pub fn policy(&self) -> SlowPolicy {
        self.policy
    }

    /// Whether it ends once its rest is sent.
    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Whether a drain has set its end time.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// A stream or a poll.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// When it next has to be checked, in milliseconds: after `now_ms`, if a check then has no
    /// effect.
    pub fn next_check_ms(&self, now_ms: u64, limits: &ConnectionLimits) -> u64 {
        let write_stall_ms = u64::from(limits.write_stall_s) * 1_000;
        let stall_ms = self.stalled_since_ms() + write_stall_ms;
        let waits_for_peer = self.lagging.as_ref().is_some_and(|lagging| !lagging.waits_for_disk());
        match self.transport {
            _ if self.ending.is_some() => stall_ms,
            Transport::Poll if waits_for_peer => stall_ms,
            Transport::Poll => self.due_ms,
            Transport::Stream => {
                // One that is LIVE may fall behind right after this check: then this is in time for
                // its stall.
                let heartbeat_ms = self.written_ms() + u64::from(limits.heartbeat_s) * 1_000;
                let quiet_ms = heartbeat_ms.min(now_ms + write_stall_ms);
                self.due_ms.min(if waits_for_peer { stall_ms } else { quiet_ms })
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

    /// Since when there may have been bytes that the peer did not accept, in milliseconds.
    fn stalled_since_ms(&self) -> u64 {
        let checked_ms = self.lagging.as_ref().map_or(0, |lagging| lagging.checked_ms);
        self.written_ms().max(checked_ms)
    }

    /// A stream ends with its last named channel; a pattern may match one created later.
    fn set_open_names(&mut self, open_names: u16) {
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
