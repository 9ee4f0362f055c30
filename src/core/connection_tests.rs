//! Each transition of a connection, at, below and above its limits.

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    CloseReason, Connection, ConnectionLimits, ConnectionMsg, ConnectionStart, Effect, SlowPolicy,
    Transport,
};
use crate::model::Seq;

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
    let begun = ConnectionMsg::StartFound { cursor: Seq(9), replay_through: Seq(400), preamble };
    assert_eq!(connection.handle(begun, 50_000, &limits), Effect::SendRest);
    assert_eq!((connection.cursor(), connection.replay_through()), (Seq(9), Seq(400)));
    let stalled = Effect::End(CloseReason::WriteStalled);
    assert_eq!(connection.handle(ConnectionMsg::Tick, 69_999, &limits), Effect::None);
    assert_eq!(connection.next_check_ms(69_999, &limits), 70_000);
    assert_eq!(connection.handle(ConnectionMsg::Tick, 70_000, &limits), stalled);
}

#[test]
fn a_connection_that_reads_the_disk_stalls_though_its_last_event_was_taken_whole() {
    let limits = ConnectionLimits { write_stall_s: 30, ..limits() };
    let mut connection = stream(SlowPolicy::Disconnect);
    block(&mut connection);
    let taken = connection.handle(ConnectionMsg::RestTaken(9), 0, &limits);
    assert_eq!((taken, connection.is_blocked()), (Effect::Read(Seq(101)), false));
    connection.handle(ConnectionMsg::ReadsDisk(Seq(200)), 0, &limits);
    // It waits for the disk.
    assert_eq!(connection.handle(ConnectionMsg::Tick, 14_000, &limits), Effect::None);
    let blocked = ConnectionMsg::Blocked {
        cursor: Seq(102),
        rest: Bytes::new(),
        progressed: true,
        due: (0, 0),
        sent: (0, 0),
    };
    connection.handle(blocked, 14_500, &limits);
    assert!(connection.is_blocked());
    assert_eq!(connection.next_check_ms(14_500, &limits), 44_500);
    assert_eq!(connection.handle(ConnectionMsg::Tick, 44_499, &limits), Effect::None);
    let stalled = Effect::End(CloseReason::WriteStalled);
    assert_eq!(connection.handle(ConnectionMsg::Tick, 44_500, &limits), stalled);
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
        assert_eq!(connection.next_check_ms(0, &limits()), stall_ms);
        assert_eq!(connection.handle(ConnectionMsg::Tick, at_ms, &limits()), effect);
    }
    let mut connection = stream(SlowPolicy::Disconnect);
    block(&mut connection);
    connection.handle(ConnectionMsg::RestTaken(1), 5, &limits());
    let tick = connection.handle(ConnectionMsg::Tick, stall_ms, &limits());
    assert_eq!(tick, Effect::None, "a byte was taken since");
}

proptest! {
    /// Otherwise each pass of a shard would check it again.
    #[test]
    fn a_check_without_effect_is_followed_by_a_later_one(
        heartbeat_s in 1u32..60,
        write_stall_s in 1u32..60,
        due_ms in 0u64..200_000,
        is_poll: bool,
        is_blocked: bool,
        is_on_disk: bool,
    ) {
        let limits = ConnectionLimits { heartbeat_s, write_stall_s, ..limits() };
        let transport = if is_poll { Transport::Poll } else { Transport::Stream };
        let mut connection = connection(transport, SlowPolicy::Disconnect, due_ms);
        if is_blocked && !is_poll {
            block(&mut connection);
        }
        if is_on_disk {
            connection.handle(ConnectionMsg::ReadsDisk(Seq(200)), 0, &limits);
        }
        let mut now_ms = 0;
        for _ in 0..100 {
            now_ms = connection.next_check_ms(now_ms, &limits).max(now_ms);
            match connection.handle(ConnectionMsg::Tick, now_ms, &limits) {
                Effect::None => {
                    prop_assert!(connection.next_check_ms(now_ms, &limits) > now_ms);
                }
                Effect::Heartbeat => {
                    connection.handle(ConnectionMsg::HeartbeatSent, now_ms, &limits);
                }
                _ => return Ok(()),
            }
        }
        // Only the heartbeats of a stream go on for so long.
        prop_assert!(!is_poll);
    }
}

/// It may fall behind between two checks, and ends `write_stall_s` after that.
#[test]
fn a_stream_with_rare_heartbeats_stalls_in_time() {
    let limits = ConnectionLimits { heartbeat_s: 55, write_stall_s: 30, ..limits() };
    let mut connection = stream(SlowPolicy::Disconnect);
    assert_eq!(connection.next_check_ms(0, &limits), 30_000);
    assert_eq!(connection.handle(ConnectionMsg::Tick, 30_000, &limits), Effect::None);
    assert_eq!(connection.next_check_ms(30_000, &limits), 55_000);
    let blocked = ConnectionMsg::Blocked {
        cursor: Seq(101),
        rest: Bytes::from_static(b"event"),
        progressed: false,
        due: (1, 5),
        sent: (0, 0),
    };
    connection.handle(blocked, 40_000, &limits);
    assert_eq!(connection.handle(ConnectionMsg::Tick, 55_000, &limits), Effect::None);
    assert_eq!(connection.next_check_ms(55_000, &limits), 70_000);
    let stalled = Effect::End(CloseReason::WriteStalled);
    assert_eq!(connection.handle(ConnectionMsg::Tick, 70_000, &limits), stalled);
}

#[test]
fn a_heartbeat_comes_at_its_time_and_only_to_an_idle_stream() {
    let heartbeat_ms = u64::from(limits().heartbeat_s) * 1_000;
    let mut idle = stream(SlowPolicy::Disconnect);
    assert_eq!(idle.next_check_ms(0, &limits()), heartbeat_ms);
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
        assert_eq!(poll.next_check_ms(0, &limits()), 20_000);
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
    assert_eq!(drained.next_check_ms(0, &limits()), 300);
    assert_eq!(drained.handle(ConnectionMsg::Tick, 299, &limits()), Effect::None);
    let effect = drained.handle(ConnectionMsg::Tick, 300, &limits());
    assert_eq!(effect, Effect::End(CloseReason::Drained));
}

#[test]
fn a_stream_ends_with_its_last_named_channel_once_its_rest_is_out() {
    let mut connection = stream(SlowPolicy::Disconnect);
    connection.handle(ConnectionMsg::NamedChannelClosed { open_names: 0 }, 0, &limits());
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
