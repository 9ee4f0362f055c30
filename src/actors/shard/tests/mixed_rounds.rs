//! How rounds of the mixed lane begin.

use super::{
    pipe::Pipe,
    world::{Ask, World, join, world},
};
use crate::{core::CloseReason, model::NewEvent};

const CHANNELS: [&str; 4] = ["a", "b", "c", "d"];

/// Publishes an event in each of the channels in one batch, and gives it to the engine.
fn publish_to_all(world: &mut World) {
    world.publish(&CHANNELS.map(|name| (name, NewEvent::message(name))));
    world.push_batch(0);
}

fn pass(world: &mut World) -> bool {
    let now_ms = world.now_ms;
    world.engines[0].work(now_ms)
}

#[test]
fn a_round_of_many_channels_and_subscribers_begins_in_bounded_steps() {
    let mut world = world();
    let pipes: Vec<_> = (0..20).map(|_| join(&mut world, &Ask::stream(&["**"]))).collect();
    publish_to_all(&mut world);
    let mut passes = 0;
    while pipes.iter().all(|pipe| pipe.events().is_empty()) {
        assert!(pass(&mut world) && world.engines[0].has_more(), "a round is under way");
        passes += 1;
    }
    let steps = CHANNELS.len() * (1 + pipes.len()) / 5;
    assert!(passes >= steps, "{passes} passes for {steps} steps of five");
    world.settle();
    assert!(pipes.iter().all(|pipe| pipe.events() == CHANNELS));
}

#[test]
fn connections_that_come_and_leave_while_a_round_begins_get_what_they_are_to_get() {
    for passes in 0..20 {
        let mut world = world();
        let leaving = Pipe::open();
        let (_, key) = world.attach(0, &Ask::stream(&["**"]), &leaving);
        let pipes: Vec<_> = (0..12).map(|_| join(&mut world, &Ask::stream(&["**"]))).collect();
        let both = join(&mut world, &Ask::stream(&["a", "d"]));
        publish_to_all(&mut world);
        for _ in 0..passes {
            pass(&mut world);
        }
        world.engines[0].close(key, CloseReason::PeerClosed);
        let joined = [&["b", "x"][..], &["**"]].map(|names| join(&mut world, &Ask::stream(names)));
        let from_start = Ask::stream(&["**"]).from(crate::model::Start::Earliest);
        let late = join(&mut world, &from_start);
        world.settle();
        assert!(pipes.iter().all(|pipe| pipe.events() == CHANNELS), "after {passes}");
        assert_eq!(both.events(), ["a", "d"], "after {passes}");
        assert_eq!(late.events(), CHANNELS, "after {passes}");
        assert!(joined.iter().all(|pipe| pipe.events().is_empty()), "after {passes}");
        world.say("b", "next");
        world.settle();
        assert!(joined.iter().all(|pipe| pipe.events() == ["next"]), "after {passes}");
    }
}
