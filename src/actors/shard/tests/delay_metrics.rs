//! What is observed of the time from shown to sent: one observation a round, however many
//! connections.

use super::world::{Ask, join, world};

#[test]
fn a_round_is_observed_once_however_many_it_is_sent_to() {
    // Of a small channel, of a large one in its lane, and of connections with several channels.
    for (streams, selectors) in
        [(3, &["a"][..]), (200, &["a"]), (3, &["a", "b"]), (200, &["a", "b"])]
    {
        let mut world = world();
        let _pipes: Vec<_> =
            (0..streams).map(|_| join(&mut world, &Ask::stream(selectors))).collect();
        let observed = |expected: u64, world: &super::world::World| {
            let count = world.metrics.fan_out_seconds.count();
            assert_eq!(count, expected, "{streams} streams of {selectors:?}");
        };
        world.settle();
        observed(0, &world);
        world.say("a", "1");
        world.settle();
        observed(1, &world);
        world.say("c", "to no connection");
        world.settle();
        observed(1, &world);
        world.say("a", "2");
        world.settle();
        observed(2, &world);
    }
}

#[test]
fn the_lag_of_a_connection_is_observed_when_it_ends() {
    let mut world = world();
    let pipe = super::world::join_and_stop(&mut world, &Ask::stream(&["a"]));
    for data in ["1", "2", "3"] {
        world.say("a", data);
        world.settle();
    }
    assert_eq!(world.metrics.lag_at_close_events.count(), 0);
    drop(pipe);
    world.drain(0);
    world.tick(128);
    assert!(world.engines[0].is_empty());
    assert_eq!(world.metrics.lag_at_close_events.count(), 1);
}
