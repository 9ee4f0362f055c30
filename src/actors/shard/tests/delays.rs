//! How long events wait on a shard, and which channels it throttles for it.

use super::{
    pipe::Pipe,
    world::{Ask, World, join, world},
};
use crate::{actors::shard::lane::ROUND, backend::Throttles, model::NewEvent};

/// More than a slice each, so that a round is of many passes.
const READERS: usize = 75;

fn readers(world: &mut World, selectors: &[&'static str]) -> Vec<Pipe> {
    (0..READERS).map(|_| join(world, &Ask::stream(selectors))).collect()
}

/// Publishes so many events in one batch, and lets the engine make one pass.
fn publish(world: &mut World, channel: &str, events: usize) {
    let events: Vec<_> = (0..events).map(|_| (channel, NewEvent::message("x"))).collect();
    world.publish(&events);
    pass(world);
}

fn pass(world: &mut World) {
    world.push_batch(0);
    let now_ms = world.now_ms;
    world.engines[0].work(now_ms);
}

fn is_throttled(world: &World, channel: &str) -> bool {
    throttles(world).first([world.entry(channel).id()]).is_some()
}

fn throttles(world: &World) -> &Throttles {
    world.backend.registry().throttles()
}

#[test]
fn a_single_long_round_throttles_no_channel_and_delays_no_other() {
    let mut world = world();
    let large = readers(&mut world, &["large"]);
    let small = join(&mut world, &Ask::stream(&["small"]));
    publish(&mut world, "large", 1);
    let has_event = |pipe: &&Pipe| !pipe.events().is_empty();
    assert!(large.iter().any(|pipe| has_event(&pipe)), "a round is under way");
    for number in 1..ROUND.events {
        world.now_ms += 10_000;
        publish(&mut world, "large", 1);
        publish(&mut world, "small", 1);
        assert_eq!(small.events().len(), number, "in the same pass");
        assert!(throttles(&world).is_empty(), "it all fits into the next round");
    }
    assert!(large.iter().any(|pipe| !has_event(&pipe)), "it is the same round still");
    world.settle();
    assert!(large.iter().all(|pipe| pipe.events().len() == ROUND.events));
}

#[test]
fn a_channel_is_throttled_while_what_is_published_now_would_wait_too_long() {
    let mut world = world();
    let _large = readers(&mut world, &["large"]);
    let _small = join(&mut world, &Ask::stream(&["small"]));
    publish(&mut world, "large", 1);
    // Three of 75 sends were made: the round takes 25 times as long as until now.
    world.now_ms += 2;
    publish(&mut world, "large", ROUND.events);
    assert!(throttles(&world).is_empty(), "at the bound");
    world.now_ms += 10;
    pass(&mut world);
    assert!(is_throttled(&world, "large"), "above");
    publish(&mut world, "small", 1);
    assert!(!is_throttled(&world, "small"));
    while is_throttled(&world, "large") {
        assert!(world.engines[0].has_more(), "the next round takes what waits");
        pass(&mut world);
    }
    world.settle();
    assert!(throttles(&world).is_empty());
}

#[test]
fn a_channel_is_throttled_while_the_mixed_lane_takes_too_long() {
    let mut world = world();
    let both = readers(&mut world, &["a", "b"]);
    let _plain = join(&mut world, &Ask::stream(&["c"]));
    publish(&mut world, "a", 1);
    while both.iter().all(|pipe| pipe.events().is_empty()) {
        pass(&mut world);
    }
    world.now_ms += 10;
    let events = 16 * ROUND.events;
    let names = ["a", "c"].into_iter().cycle().take(events - 1);
    let mixed: Vec<_> = names.map(|name| (name, NewEvent::message("x"))).collect();
    world.publish(&mixed);
    pass(&mut world);
    assert!(throttles(&world).is_empty(), "below: the next round takes all of it");
    publish(&mut world, "a", 1);
    assert!(is_throttled(&world, "a") && !is_throttled(&world, "b"), "above");
    assert!(!is_throttled(&world, "c"), "it has no subscriber in the lane");
    world.settle();
    assert!(throttles(&world).is_empty());
}

/// Fills the lane's queue with what one round takes, so that an event published now waits for a
/// round.
fn queue_a_round(world: &mut World) {
    publish(world, "a", 16 * ROUND.events);
}

#[test]
fn a_round_of_the_mixed_lane_is_not_taken_for_longer_by_the_time_before_its_sends() {
    for (begin_ms, late) in [(25, false), (60, true)] {
        let mut world = world();
        let both = readers(&mut world, &["a", "b"]);
        publish(&mut world, "a", 1);
        world.now_ms += begin_ms;
        while both.iter().all(|pipe| pipe.events().is_empty()) {
            pass(&mut world);
        }
        queue_a_round(&mut world);
        assert_eq!(
            is_throttled(&world, "a"),
            late,
            "its connections were collected in {begin_ms} ms"
        );
    }
}

#[test]
fn a_round_of_the_mixed_lane_is_not_taken_for_longer_by_its_sends_before() {
    for (walk_ms, late) in [(25, false), (60, true)] {
        let mut world = world();
        let both = readers(&mut world, &["a", "b"]);
        // Two sends to each, so that the round walks over them twice.
        for _ in 0..2 {
            let events: Vec<_> = (0..ROUND.events).map(|_| ("a", NewEvent::message("x"))).collect();
            world.publish(&events);
            world.push_batch(0);
        }
        while !both.iter().all(|pipe| pipe.events().len() == ROUND.events) {
            pass(&mut world);
        }
        world.now_ms += walk_ms;
        pass(&mut world);
        assert!(both.iter().any(|pipe| pipe.events().len() > ROUND.events), "the second walk");
        queue_a_round(&mut world);
        assert_eq!(is_throttled(&world, "a"), late, "the first walk took {walk_ms} ms");
    }
}

#[test]
fn a_channel_is_throttled_while_its_batches_wait_too_long_in_the_ring() {
    let mut world = world();
    let _a = join(&mut world, &Ask::stream(&["a"]));
    let _b = join(&mut world, &Ask::stream(&["b"]));
    for (wait_ms, late) in [(49, false), (50, false), (51, true), (0, false)] {
        world.publish(&[("a", NewEvent::message("x"))]);
        world.now_ms += wait_ms;
        pass(&mut world);
        assert_eq!(is_throttled(&world, "a"), late, "{wait_ms} ms");
        assert!(!is_throttled(&world, "b"));
    }
    world.publish(&[("a", NewEvent::message("x"))]);
    world.now_ms += 51;
    pass(&mut world);
    assert!(is_throttled(&world, "a"));
    let head = world.backend.head();
    world.engines[0].note_log_head(head);
    assert!(throttles(&world).is_empty(), "the ring is empty");
}

#[test]
fn a_shard_that_crashes_throttles_no_channel() {
    let mut world = world();
    let _a = join(&mut world, &Ask::stream(&["a"]));
    world.publish(&[("a", NewEvent::message("x"))]);
    world.now_ms += 51;
    pass(&mut world);
    assert!(is_throttled(&world, "a"));
    world.engines.clear();
    assert!(throttles(&world).is_empty());
}
