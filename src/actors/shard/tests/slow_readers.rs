//! Readers that are slow, and their bounds.

use super::{
    pipe::Pipe,
    world::{Ask, join, join_and_stop, poll, read_answer, reasons, skipping, world, world_with},
};
use crate::{
    core::{CloseReason, SlowPolicy},
    model::{NewEvent, Start},
};

#[test]
fn a_client_that_never_reads_delays_no_other() {
    let mut world = world_with(|limits| limits.connections.lag_events_max = 10);
    let stuck = join_and_stop(&mut world, &Ask::stream(&["a"]));
    let quick = join(&mut world, &Ask::stream(&["a"]));
    for n in 0..12 {
        world.say("a", &n.to_string());
        world.settle();
        assert_eq!(quick.events().len(), n + 1);
    }
    assert!(stuck.is_ended());
    assert_eq!(reasons(&mut world), [CloseReason::SlowConsumer]);
}

#[test]
fn a_reader_at_its_lag_bound_stays_and_one_event_past_it_is_ended() {
    for selectors in [&["a"][..], &["a", "b"]] {
        let mut world = world_with(|limits| limits.connections.lag_events_max = 3);
        let pipe = join_and_stop(&mut world, &Ask::stream(selectors));
        for data in ["1", "2", "3"] {
            world.say("a", data);
            world.settle();
        }
        assert!(!pipe.is_ended(), "at its bound");
        world.say("a", "4");
        world.settle();
        assert!(pipe.is_ended(), "past it");
        assert_eq!(reasons(&mut world), [CloseReason::SlowConsumer]);
    }
}

#[test]
fn a_reader_at_its_lag_bound_in_bytes_stays_and_one_byte_past_it_is_ended() {
    for (last, ended) in [("x", false), ("xx", true)] {
        // Two chunks of `data: x` LF `id: …-n` LF LF.
        let frame = "00000015\r\ndata: x\nid: 130nwn-1\n\n\r\n".len() as u64;
        let mut world = world_with(|limits| limits.connections.lag_bytes_max = 2 * frame);
        let pipe = join_and_stop(&mut world, &Ask::stream(&["a"]));
        world.say("a", "x");
        world.settle();
        world.say("a", last);
        world.settle();
        assert_eq!(pipe.is_ended(), ended);
    }
}

#[test]
fn a_partial_write_before_the_policy_acts_is_completed_first() {
    let mut world = world_with(|limits| limits.connections.lag_events_max = 2);
    let pipe = join_and_stop(&mut world, &skipping(Ask::stream(&["a"])));
    pipe.grant(3);
    for n in 0..5 {
        world.say("a", &n.to_string());
        world.settle();
    }
    assert!(pipe.text().ends_with("dat"));
    pipe.grant(usize::MAX);
    world.settle();
    world.say("a", "5");
    world.settle();
    assert_eq!(pipe.events(), ["0", "gap:slow", "5"]);
    assert!(!pipe.is_ended());
}

#[test]
fn a_slow_reader_within_its_bound_gets_everything() {
    let mut world = world();
    let pipe = join_and_stop(&mut world, &Ask::stream(&["a"]));
    let data: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    for data in &data {
        world.say("a", data);
        pipe.grant(7);
        world.settle();
    }
    pipe.grant(usize::MAX);
    world.settle();
    assert_eq!(pipe.events(), data);
}

#[test]
fn replay_is_no_lag_however_long_it_takes() {
    let mut world = world_with(|limits| limits.connections.lag_events_max = 5);
    for n in 0..50 {
        world.say("a", &n.to_string());
    }
    // The batches of what it replays reach the shard only later.
    let pipe = Pipe::new(10, usize::MAX);
    world.attach(0, &Ask::stream(&["a"]).from(Start::Earliest), &pipe);
    world.settle();
    for n in 50..55 {
        world.say("a", &n.to_string());
        world.settle();
    }
    assert!(!pipe.is_ended(), "five events of lag");
    pipe.grant(usize::MAX);
    world.settle();
    assert_eq!(pipe.events().len(), 55);
}

#[test]
fn a_poll_that_still_reads_is_not_a_slow_consumer() {
    for policy in [SlowPolicy::Disconnect, SlowPolicy::Skip] {
        let mut world = world_with(|limits| limits.connections.lag_events_max = 2);
        for n in 0..50 {
            world.say("a", &n.to_string());
        }
        // Nothing of history passes its filter, so it reads on in several passes.
        let ask = Ask { types: vec!["t"], policy, ..poll(&["a"], Start::Earliest) };
        let pipe = join(&mut world, &ask);
        let event_type = crate::model::EventType::parse("t").ok();
        let event = NewEvent { event_type, ..NewEvent::message("it") };
        world.publish(&[("a", event.clone()), ("a", event.clone()), ("a", event)]);
        while world.push_batch(0) {
            world.engines[0].work(world.now_ms);
        }
        world.settle();
        assert_eq!(read_answer(&pipe).1, ["it", "it", "it"], "{policy:?}");
    }
}

#[test]
fn a_stalled_write_ends_the_connection_at_the_stall_time_and_not_before() {
    let mut world = world();
    let pipe = join_and_stop(&mut world, &Ask::stream(&["a"]));
    world.say("a", "1");
    world.settle();
    world.tick(29_900);
    assert!(!pipe.is_ended());
    pipe.grant(1);
    world.settle();
    world.tick(29_900);
    assert!(!pipe.is_ended(), "it has taken a byte");
    world.tick(200);
    assert_eq!(reasons(&mut world), [CloseReason::WriteStalled]);
}
