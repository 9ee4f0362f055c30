//! Events that gather before they are sent, on a shard that is busy all the time.

use super::{
    pipe::Pipe,
    world::{Ask, World, join, poll, reasons, world},
};
use crate::{core::CloseReason, model::Start};

const GATHER_MS: u64 = 50;

fn busy_world() -> World {
    let world = world();
    gather(world, GATHER_MS)
}

fn gather(mut world: World, gather_ms: u64) -> World {
    world.engines[0].set_gather_ms(gather_ms);
    world
}

/// Publishes an event, and lets the engine do what there is to do now.
fn say(world: &mut World, channel: &str, data: &str) {
    world.say(channel, data);
    world.settle();
}

fn wait(world: &mut World, ms: u64) {
    world.now_ms += ms;
    world.settle();
}

#[test]
fn events_to_few_go_out_together_after_their_time() {
    let mut world = busy_world();
    let (a, b) = (join(&mut world, &Ask::stream(&["a"])), join(&mut world, &Ask::stream(&["b"])));
    let writes = a.writes();
    say(&mut world, "a", "1");
    assert_eq!(world.engines[0].gathers_until_ms(), Some(world.now_ms + GATHER_MS));
    wait(&mut world, 20);
    say(&mut world, "a", "2");
    say(&mut world, "b", "3");
    wait(&mut world, GATHER_MS - 21);
    assert_eq!((a.events().len(), b.events().len()), (0, 0));
    assert!(!world.engines[0].has_more(), "the shard sleeps");
    wait(&mut world, 1);
    assert_eq!(a.events(), ["1", "2"]);
    assert_eq!(a.writes(), writes + 1, "in one send");
    assert!(b.events().is_empty(), "it has a time of its own");
    wait(&mut world, 20);
    assert_eq!(b.events(), ["3"]);
    assert_eq!(world.engines[0].gathers_until_ms(), None);
}

#[test]
fn connections_of_several_channels_and_polls_get_theirs_together_too() {
    let mut world = busy_world();
    let both = join(&mut world, &Ask::stream(&["a", "b"]));
    let polled = join(&mut world, &poll(&["a"], Start::Now));
    for (channel, data) in [("a", "1"), ("b", "2"), ("a", "3")] {
        say(&mut world, channel, data);
        wait(&mut world, 10);
    }
    wait(&mut world, GATHER_MS - 31);
    assert!(both.events().is_empty() && polled.text().is_empty());
    wait(&mut world, 1);
    assert_eq!(both.events(), ["1", "2", "3"]);
    let answer = polled.text();
    assert!(answer.contains("\"1\"") && answer.contains("\"3\""), "{answer}");
}

#[test]
fn a_large_channel_does_not_wait() {
    let mut world = busy_world();
    let large: Vec<Pipe> = (0..20).map(|_| join(&mut world, &Ask::stream(&["a"]))).collect();
    say(&mut world, "a", "1");
    assert!(large.iter().all(|pipe| pipe.events() == ["1"]));
}

#[test]
fn what_gathers_is_sent_when_the_shard_is_idle_or_gathers_no_more() {
    let mut world = busy_world();
    let plain = join(&mut world, &Ask::stream(&["a"]));
    let mixed = join(&mut world, &Ask::stream(&["a", "b"]));
    say(&mut world, "a", "1");
    world.engines[0].end_gathering();
    world.settle();
    assert_eq!((plain.events(), mixed.events()), (vec!["1".into()], vec!["1".into()]));

    let mut world = gather(world, 0);
    say(&mut world, "a", "2");
    assert_eq!((plain.events().len(), mixed.events().len()), (2, 2), "at once");
}

#[test]
fn who_comes_or_ends_meanwhile_misses_nothing() {
    let mut world = busy_world();
    let early = join(&mut world, &Ask::stream(&["a"]));
    say(&mut world, "a", "1");
    let late = join(&mut world, &Ask::stream(&["a"]));
    let from_start = join(&mut world, &Ask::stream(&["a"]).from(Start::Earliest));
    world.settle();
    assert_eq!(from_start.events(), ["1"], "history does not wait");
    say(&mut world, "a", "2");
    // A heartbeat does not name a position behind what it has not been sent.
    world.drain(1_000);
    world.tick(GATHER_MS - 1);
    assert!(!early.is_ended(), "it has not been sent everything");
    wait(&mut world, 1);
    world.tick(1_100);
    assert_eq!(early.events(), ["1", "2"]);
    assert_eq!(late.events(), ["2"]);
    assert_eq!(from_start.events(), ["1", "2"]);
    assert_eq!(reasons(&mut world), [CloseReason::Drained; 3]);
}

#[test]
fn a_channel_is_throttled_while_lanes_wait_too_long_for_their_turn() {
    let mut world = busy_world();
    let channels: Vec<String> = (0..12).map(|number| format!("c{number}")).collect();
    for channel in &channels {
        let name: &'static str = String::leak(channel.clone());
        join(&mut world, &Ask::stream(&[name]));
    }
    let delay_max_ms = world.limits.publish.delay_max_ms.into();
    let turn = |world: &mut World, late_ms: u64| {
        for channel in &channels {
            world.say(channel, "x");
        }
        while world.push_batch(0) {
            let now_ms = world.now_ms;
            world.engines[0].work(now_ms);
        }
        world.now_ms += GATHER_MS;
        let now_ms = world.now_ms;
        // They come to be served all at once, three a pass.
        world.engines[0].work(now_ms);
        world.now_ms += late_ms;
        let now_ms = world.now_ms;
        world.engines[0].work(now_ms);
        let last = world.entry(&channels[11]).id();
        world.say(&channels[11], "x");
        world.push_batch(0);
        world.engines[0].work(now_ms);
        let is_throttled = world.backend.registry().throttles().first([last]).is_some();
        world.settle();
        wait(world, GATHER_MS);
        assert!(world.backend.registry().throttles().is_empty(), "it has been sent");
        is_throttled
    };
    assert!(!turn(&mut world, delay_max_ms), "at the bound");
    assert!(turn(&mut world, delay_max_ms + 1), "above");
    assert!(!turn(&mut world, 0), "in time again");
}
