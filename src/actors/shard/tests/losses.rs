//! Losses: which clients get a gap for events that are gone, and which do not.

use super::{
    pipe::Pipe,
    world::{
        Ask, evict, join, join_after, join_and_stop, poll, read_answer, reasons, skipping, world,
        world_with,
    },
};
use crate::{
    core::{CloseReason, SlowPolicy},
    model::Start,
};

#[test]
fn a_reader_that_falls_off_history_is_ended_or_gets_a_gap() {
    for policy in [SlowPolicy::Disconnect, SlowPolicy::Skip] {
        let mut world = world_with(|limits| limits.history.events_max = 2);
        let ask = Ask { policy, ..Ask::stream(&["a"]) };
        let pipe = join_and_stop(&mut world, &ask);
        for n in 0..4 {
            world.say("a", &n.to_string());
            world.settle();
        }
        assert!(!pipe.is_ended());
        pipe.grant(usize::MAX);
        world.settle();
        world.say("a", "4");
        world.settle();
        match policy {
            SlowPolicy::Disconnect => assert_eq!(reasons(&mut world), [CloseReason::SlowConsumer]),
            SlowPolicy::Skip => assert_eq!(pipe.events(), ["gap:slow", "4"]),
        }
    }
}

#[test]
fn a_gap_is_sent_only_to_connections_that_lost_something() {
    let mut world = world_with(|limits| limits.history.events_max = 2);
    world.say("quiet", "q");
    for n in 0..4 {
        world.say("busy", &n.to_string());
    }
    world.settle();
    let start = world.at(1);
    let quiet = join(&mut world, &Ask::stream(&["quiet"]).from(start.clone()));
    let busy = join(&mut world, &Ask::stream(&["busy"]).from(start.clone()));
    let both = join(&mut world, &Ask::stream(&["**"]).from(start));
    let edge = join_after(&mut world, &["busy"], 3);
    assert_eq!(quiet.events(), [""; 0]);
    assert_eq!(busy.events(), ["gap:evicted", "2", "3"]);
    assert_eq!(both.events(), ["gap:evicted", "2", "3"]);
    assert_eq!(edge.events(), ["2", "3"]);
}

#[test]
fn a_poll_that_has_lost_something_is_answered_at_once() {
    let mut world = world_with(|limits| limits.history.events_max = 1);
    world.say("a", "1");
    world.say("a", "2");
    let start = world.at(0);
    let pipe = join(&mut world, &poll(&["a"], start));
    assert!(pipe.text().contains("\"gap\":{"));
    assert_eq!(read_answer(&pipe).1, ["2"]);
}

#[test]
fn what_a_client_cannot_have_sent_as_a_token_is_not_made_its_position() {
    let mut world = world_with(|limits| limits.history.events_max = 1);
    world.say("a", "1");
    for text in ["urn:uuid:5e94", &"x".repeat(64)] {
        let pipe = join(&mut world, &Ask::stream(&["a"]).from(Start::parse_any(text)));
        let said = pipe.text();
        let (first, rest) = said.split_once("\n\n").unwrap();
        assert!(!first.contains("id: ") && rest.starts_with("event: visnyk.gap\n"), "{said}");
        assert_eq!(pipe.events(), ["gap:unknown_position", "1"]);
    }
}

#[test]
fn a_connection_that_breaks_before_its_gap_gets_it_again() {
    let mut world = world_with(|limits| limits.history.events_max = 1);
    world.say("a", "1");
    world.say("a", "2");
    for start in [world.at(0), Start::Unknown("7".into()), Start::parse("zz-1").unwrap()] {
        let ask = Ask::stream(&["a"]).from(start);
        let first_block = {
            let pipe = join(&mut world, &ask);
            pipe.text().find("\n\n").unwrap() + 2
        };
        let cut = Pipe::new(first_block, usize::MAX);
        world.attach(0, &ask, &cut);
        assert_eq!(cut.events(), [""; 0]);
        assert_eq!(cut.last_id(), "", "the client keeps what it has");
        let again = join(&mut world, &ask);
        assert!(again.events()[0].starts_with("gap:"), "{:?}", again.events());
    }
}

#[test]
fn a_reader_gets_a_gap_for_a_channel_that_was_evicted_meanwhile() {
    for reborn in [false, true] {
        let mut world = world();
        world.say("b", "0");
        world.settle();
        let pipe = join_and_stop(&mut world, &skipping(Ask::stream(&["**"])));
        // It cannot be sent, and when it could be, it is gone with its channel.
        world.say("a", "1");
        world.settle();
        evict(&mut world, "a");
        if reborn {
            world.entry("a");
        }
        world.say("b", "2");
        pipe.grant(usize::MAX);
        world.settle();
        world.say("a", "3");
        world.settle();
        assert_eq!(pipe.events(), ["gap:slow", "3"], "created anew: {reborn}");
    }
}

#[test]
fn losses_reported_at_the_start_are_not_reported_again() {
    let mut world = world();
    world.say("b", "0");
    world.say("a", "1");
    world.settle();
    evict(&mut world, "a");
    let pipe = Pipe::new(0, usize::MAX);
    world.attach(0, &Ask::stream(&["**"]).from(world.at(0)), &pipe);
    // Its members are listed anew, and the channel that has lost events is among them.
    world.say("c", "2");
    world.say("a", "3");
    world.settle();
    pipe.grant(usize::MAX);
    world.settle();
    assert_eq!(pipe.events(), ["gap:evicted", "0", "2", "3"]);
    assert!(!pipe.is_ended());
}

#[test]
fn a_quiet_pattern_gets_no_gap_for_a_floor_below_its_position() {
    let mut world = world_with(|limits| limits.channels.forgotten_max = 1);
    let pipe = join_and_stop(&mut world, &Ask::stream(&["g/*"]));
    for name in ["x", "y", "z"] {
        world.say(name, "not for it");
        world.settle();
        evict(&mut world, name);
    }
    world.say("g/a", "1");
    world.settle();
    pipe.grant(usize::MAX);
    world.settle();
    assert_eq!(pipe.events(), ["1"]);
    assert!(!pipe.is_ended());
}
