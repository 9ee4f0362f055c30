//! The ceiling on unsent bytes.

use super::{
    pipe::Pipe,
    world::{Ask, World},
};
use crate::core::{CloseReason, Limits, SlowPolicy};

/// Ten clients of which the first ones have not taken a byte for longer.
fn stalled(unsent_bytes_max: u64) -> (World, Vec<u64>) {
    let mut limits = Limits::default();
    limits.connections.unsent_bytes_max = unsent_bytes_max;
    let mut world = World::new(limits, 1);
    let mut ids = Vec::new();
    for _ in 0..10 {
        let pipe = Pipe::open();
        let ask = Ask { policy: SlowPolicy::Skip, ..Ask::stream(&["a"]) };
        ids.push(world.attach(0, &ask, &pipe).0);
        pipe.stop();
        pipe.grant(1);
        world.now_ms += 10;
    }
    (world, ids)
}

#[test]
fn rests_are_counted_as_long_as_they_live() {
    let (mut world, _) = stalled(u64::MAX);
    world.say("a", &"x".repeat(100));
    world.settle();
    let event = world.log[0].text().len() as i64;
    assert_eq!(world.metrics.unsent_bytes.get(), 10 * (event - 1));
    // What comes on top lies in history.
    world.say("a", &"x".repeat(100));
    world.settle();
    assert_eq!(world.metrics.unsent_bytes.get(), 10 * (event - 1));
    let metrics = world.metrics.clone();
    drop(world);
    assert_eq!(metrics.unsent_bytes.get(), 0);
}

#[test]
fn past_the_ceiling_the_slowest_are_ended_and_no_more() {
    let (mut world, _) = stalled(u64::MAX);
    world.say("a", &"x".repeat(100));
    let rest = world.log[0].text().len() as u64 - 1;
    for room in [10, 9, 4, 1, 0] {
        let (mut world, ids) = stalled(room * rest);
        world.say("a", &"x".repeat(100));
        world.settle();
        let reason = CloseReason::UnsentCeiling;
        let slowest = &ids[..10 - room as usize];
        let ended: Vec<_> = slowest.iter().map(|&id| (id, reason)).collect();
        assert_eq!(world.ended(0), ended, "room for {room}");
        assert_eq!(world.metrics.unsent_bytes.get() as u64, room * rest);
    }
}

#[test]
fn the_search_for_the_slowest_looks_at_a_bounded_number_of_slots_in_a_pass() {
    let mut limits = Limits::default();
    limits.connections.unsent_bytes_max = 0;
    let mut world = World::new(limits, 1);
    let idle: Vec<_> = (0..200)
        .map(|_| {
            let pipe = Pipe::open();
            world.attach(0, &Ask::stream(&["idle"]), &pipe);
            pipe
        })
        .collect();
    let pipe = Pipe::open();
    let stalled = Ask { policy: SlowPolicy::Skip, ..Ask::stream(&["a"]) };
    world.attach(0, &stalled, &pipe);
    pipe.stop();
    pipe.grant(1);
    world.say("a", &"x".repeat(100));
    world.push_batch(0);
    let now_ms = world.now_ms;
    for pass in 0..3 {
        assert!(
            world.engines[0].work(now_ms) && world.engines[0].has_more(),
            "it is not found yet"
        );
        assert!(world.ended(0).is_empty(), "pass {pass}");
    }
    assert!(!world.engines[0].work(now_ms) && !world.engines[0].has_more());
    assert_eq!(world.ended(0).len(), 1);
    assert_eq!(idle.iter().filter(|pipe| pipe.is_ended()).count(), 0);
    // What other shards hold is not looked for again and again.
    world.metrics.unsent_bytes.inc_by(1_000);
    world.say("idle", "x");
    world.settle();
    assert!(!world.engines[0].has_more() && world.ended(0).is_empty());
}
