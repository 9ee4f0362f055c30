//! What an engine says of its connections.

use super::{
    pipe::Pipe,
    world::{Ask, START_MS, World},
};
use crate::{
    actors::connection_report::{
        BehindReason, ConnectionFilter, ConnectionQuery, ConnectionReport, ConnectionState,
    },
    core::{CloseReason, Limits},
    model::{ChannelName, NewEvent, Seq, Start},
};

fn query(filter: ConnectionFilter) -> ConnectionQuery {
    ConnectionQuery { filter, from: 0, slots: u32::MAX, limit: 1_000, selectors_max: 1_000 }
}

/// All pieces of a query; in tests a piece has at most two connections of four slots.
fn all(world: &mut World, filter: &ConnectionFilter) -> Vec<ConnectionReport> {
    let mut query = query(filter.clone());
    let mut found = Vec::new();
    loop {
        let piece = world.engines[0].explain(&query, world.now_ms);
        assert!(piece.found.len() <= 2, "{piece:?}");
        found.extend(piece.found);
        match piece.next {
            Some(next) => {
                assert!(next > query.from && next - query.from <= 4, "{next}");
                query.from = next;
            }
            None => return found,
        }
    }
}

fn state_of(world: &mut World, id: u64) -> ConnectionReport {
    let filter = ConnectionFilter { id: Some(id), ..ConnectionFilter::default() };
    let mut found = all(world, &filter);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn every_connection_is_found_once_in_bounded_pieces() {
    let mut world = World::new(Limits::default(), 1);
    let keys: Vec<_> =
        (0..23).map(|_| world.attach(0, &Ask::stream(&["a"]), &Pipe::open())).collect();
    for (_, key) in keys.iter().skip(3).step_by(3) {
        world.engines[0].close(*key, CloseReason::PeerClosed);
    }
    let expected: Vec<u64> = keys
        .iter()
        .enumerate()
        .filter(|(at, _)| *at == 0 || at % 3 != 0)
        .map(|(_, k)| k.0)
        .collect();
    let mut ids: Vec<u64> =
        all(&mut world, &ConnectionFilter::default()).iter().map(|found| found.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, expected);
    let one = ConnectionQuery { limit: 1, ..query(ConnectionFilter::default()) };
    let piece = world.engines[0].explain(&one, world.now_ms);
    assert_eq!((piece.found.len(), piece.next), (1, Some(1)));
    let none = ConnectionFilter { id: Some(u64::MAX), ..ConnectionFilter::default() };
    let one_slot = ConnectionQuery { slots: 1, ..query(none) };
    let piece = world.engines[0].explain(&one_slot, world.now_ms);
    assert_eq!((piece.found.len(), piece.next), (0, Some(1)), "it looks at one slot");
}

#[test]
fn a_connection_that_takes_no_more_is_blocked_and_its_lag_is_what_is_due() {
    let mut world = World::new(Limits::default(), 1);
    let pipe = Pipe::open();
    let (id, _) = world.attach(0, &Ask::stream(&["a"]), &pipe);
    let live = state_of(&mut world, id);
    assert_eq!((live.state, live.lag_events, live.unsent_bytes), (ConnectionState::Live, 0, 0));
    assert_eq!(live.stalls_ms, None);
    pipe.stop();
    pipe.grant(7);
    for _ in 0..9 {
        world.say("a", "x");
        world.say("b", "not for it");
        world.settle();
    }
    world.now_ms += 5_000;
    let found = state_of(&mut world, id);
    assert_eq!(found.state, ConnectionState::Behind(BehindReason::Blocked));
    // The first event is in flight; eight are due.
    assert_eq!((found.position.seq, found.lag_events), (Seq(1), 8));
    let event = world.log[0].text().len() as u64;
    assert_eq!(found.unsent_bytes, event - 7);
    let due: u64 = world.log.iter().skip(2).step_by(2).map(|e| e.bytes().len() as u64).sum();
    assert_eq!(found.lag_bytes, due);
    assert_eq!((found.opened_ms, found.written_ms), (START_MS, START_MS));
    assert_eq!((found.ends_ms, found.ends_for), (None, None));
    let limits = Limits::default().connections;
    assert_eq!(found.lag_max, (limits.lag_events_max, limits.lag_bytes_max));
    assert_eq!(found.stalls_ms, Some(START_MS + u64::from(limits.write_stall_s) * 1_000));
}

#[test]
fn a_connection_that_took_its_last_event_whole_and_no_more_is_blocked() {
    let mut world = World::new(Limits::default(), 1);
    let pipe = Pipe::open();
    let (id, _) = world.attach(0, &Ask::stream(&["a"]), &pipe);
    world.say("a", "x");
    world.settle();
    pipe.stop();
    pipe.grant(world.log[0].text().len());
    for lag_events in [0, 1, 2] {
        world.say("a", "x");
        world.settle();
        let found = state_of(&mut world, id);
        assert_eq!((found.position.seq, found.unsent_bytes), (Seq(2), 0));
        assert_eq!(found.lag_events, lag_events);
        let blocked = ConnectionState::Behind(BehindReason::Blocked);
        assert_eq!(found.state, if lag_events == 0 { ConnectionState::Live } else { blocked });
    }
    pipe.grant(usize::MAX);
    world.settle();
    assert_eq!(state_of(&mut world, id).state, ConnectionState::Live);
}

#[test]
fn bytes_are_counted_as_the_peer_takes_them_and_their_rate_is_since_the_look_before() {
    let taken = |pipe: &Pipe| pipe.taken().len() as u64;
    let mut world = World::new(Limits::default(), 1);
    let pipe = Pipe::open();
    let (id, key) = world.attach(0, &Ask::stream(&["a"]), &pipe);
    let first = state_of(&mut world, id);
    assert_eq!((first.sent_bytes, first.bytes_per_s), (taken(&pipe), taken(&pipe)));
    world.say("a", "x");
    world.settle();
    pipe.stop();
    pipe.grant(7);
    world.say("a", "y");
    world.settle();
    let so_far = taken(&pipe);
    assert_eq!(so_far, first.sent_bytes + world.log[0].text().len() as u64 + 7);
    world.now_ms += 999;
    let soon = state_of(&mut world, id);
    assert_eq!((soon.sent_bytes, soon.bytes_per_s), (so_far, first.bytes_per_s));
    world.now_ms += 1_001;
    assert_eq!(state_of(&mut world, id).bytes_per_s, (so_far - first.sent_bytes) / 2);
    world.now_ms += 1_000;
    assert_eq!(state_of(&mut world, id).bytes_per_s, 0);
    pipe.grant(1_000);
    world.settle();
    assert_eq!(state_of(&mut world, id).sent_bytes, taken(&pipe));
    world.engines[0].close(key, CloseReason::UnexpectedInput);
    let ended = world.engines[0].recently_closed(&ConnectionFilter::default()).remove(0);
    assert_eq!((ended.sent_bytes, ended.bytes_per_s), (taken(&pipe), taken(&pipe) / 3));
}

#[test]
fn an_idle_connection_stands_at_the_head() {
    let mut world = World::new(Limits::default(), 1);
    let (id, _) = world.attach(0, &Ask::stream(&["a"]), &Pipe::open());
    world.say("b", "for others");
    world.settle();
    let found = state_of(&mut world, id);
    assert_eq!((found.state, found.position.seq), (ConnectionState::Live, Seq(1)));
}

#[test]
fn replay_is_no_lag_and_is_called_what_it_is() {
    let mut world = World::new(Limits::default(), 1);
    let events: Vec<_> = (0..50).map(|_| ("a", NewEvent::message("x"))).collect();
    world.publish(&events);
    let ask = Ask::stream(&["a"]).from(Start::Earliest);
    let (id, _) = world.attach(0, &ask, &Pipe::open());
    let found = state_of(&mut world, id);
    assert_eq!(found.state, ConnectionState::Behind(BehindReason::Replaying));
    assert_eq!((found.lag_events, found.lag_bytes), (0, 0));
    assert!(found.position.seq < Seq(50));
    world.settle();
    assert_eq!(state_of(&mut world, id).state, ConnectionState::Live);
}

#[test]
fn filters_choose() {
    let mut world = World::new(Limits::default(), 1);
    let slow = Pipe::open();
    let (named, _) = world.attach(0, &Ask::stream(&["a/b", "c"]), &slow);
    let (pattern, _) = world.attach(0, &Ask::stream(&["a/*"]), &Pipe::open());
    slow.stop();
    world.say("c", "x");
    world.settle();
    let ids = |world: &mut World, filter: ConnectionFilter| -> Vec<u64> {
        all(world, &filter).iter().map(|found| found.id).collect()
    };
    let channel = |name| ConnectionFilter {
        channel: Some(ChannelName::parse(name).unwrap()),
        ..ConnectionFilter::default()
    };
    assert_eq!(ids(&mut world, channel("a/b")), [named, pattern]);
    assert_eq!(ids(&mut world, channel("a/z")), [pattern]);
    assert_eq!(ids(&mut world, channel("a")), [0; 0]);
    let behind = |behind| ConnectionFilter { behind: Some(behind), ..ConnectionFilter::default() };
    assert_eq!(ids(&mut world, behind(true)), [named]);
    assert_eq!(ids(&mut world, behind(false)), [pattern]);
}

#[test]
fn the_last_ends_are_remembered_newest_first_and_no_more() {
    let mut world = World::new(Limits::default(), 1);
    let mut ids = Vec::new();
    for _ in 0..8 {
        let (id, key) = world.attach(0, &Ask::stream(&["a"]), &Pipe::open());
        world.tick(100);
        world.engines[0].close(key, CloseReason::UnexpectedInput);
        ids.insert(0, id);
    }
    let ended = world.engines[0].recently_closed(&ConnectionFilter::default());
    assert_eq!(ended.iter().map(|ended| ended.id).collect::<Vec<_>>(), ids[..5]);
    let ended_ms = world.now_ms;
    let reason = CloseReason::UnexpectedInput;
    assert_eq!(ended[0].state, ConnectionState::Closed { reason, ended_ms });
    let channel = Some(ChannelName::parse("b").unwrap());
    let filter = ConnectionFilter { channel, ..ConnectionFilter::default() };
    assert!(world.engines[0].recently_closed(&filter).is_empty());
}
