//! Drains: which streams end when.

use super::{
    pipe::Pipe,
    world::{Ask, join, join_and_stop, reasons, world},
};
use crate::core::CloseReason;

#[test]
fn a_few_streams_end_soon_and_many_over_the_window() {
    for (streams, ms) in [(1, 20), (5, 100), (500, 10_000), (501, 10_000)] {
        let mut world = world();
        let pipes: Vec<_> = (0..streams).map(|_| join(&mut world, &Ask::stream(&["a"]))).collect();
        world.drain(10_000);
        world.tick(ms + 64);
        assert!(pipes.iter().all(Pipe::is_ended), "{streams} within {ms} ms");
    }
}

#[test]
fn a_stream_ends_once_it_has_been_sent_everything_or_with_the_window() {
    const WINDOW_MS: u64 = 1_000;
    let mut world = world();
    let reading = join(&mut world, &Ask::stream(&["a"]));
    let mixed = join(&mut world, &Ask::stream(&["a", "b"]));
    let _stopped = join_and_stop(&mut world, &Ask::stream(&["a"]));
    world.say("a", "1");
    // The log has shown it, and it waits in the ring.
    world.drain(WINDOW_MS);
    for _ in 0..5 {
        world.tick(100);
        assert!(!reading.is_ended() && !mixed.is_ended(), "it is due, and an event is as well");
    }
    world.settle();
    world.tick(128);
    assert_eq!((reading.events(), mixed.events()), (vec!["1".into()], vec!["1".into()]));
    assert_eq!(reasons(&mut world), [CloseReason::Drained; 2]);
    world.tick(WINDOW_MS - 628 - 1);
    assert_eq!(world.engines[0].len(), 1, "before the end of the window");
    world.tick(65);
    assert_eq!(reasons(&mut world), [CloseReason::Drained]);
}

#[test]
fn a_drain_without_a_window_waits_for_nothing() {
    let mut world = world();
    let pipe = join(&mut world, &Ask::stream(&["a"]));
    world.say("a", "1");
    world.drain(0);
    world.tick(64);
    assert!(pipe.is_ended());
}

#[test]
fn a_drain_gives_a_bounded_number_of_connections_their_times_in_a_step() {
    let mut world = world();
    let pipes: Vec<_> = (0..20).map(|_| join(&mut world, &Ask::stream(&["a"]))).collect();
    world.engines[0].drain(0, world.now_ms);
    let mut ended = Vec::new();
    for _ in 0..3 {
        assert!(world.engines[0].drain_some(world.now_ms), "there are more");
        world.tick(64);
        ended.push(pipes.iter().filter(|pipe| pipe.is_ended()).count());
    }
    assert_eq!(ended, [4, 8, 12]);
    // One that comes meanwhile has its time from the beginning.
    let late = join(&mut world, &Ask::stream(&["a"]));
    world.tick(64);
    assert!(late.is_ended());
    while world.engines[0].drain_some(world.now_ms) {}
    world.tick(64);
    assert!(world.engines[0].is_empty());
}
