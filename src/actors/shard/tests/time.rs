//! How long connections that are sent history may hold up the others of their shard.

use super::{
    pipe::Pipe,
    world::{Ask, World, join, world},
};
use crate::{actors::shard::sockets::Ready, model::Start};

/// A world whose history takes readers many turns, and a live subscriber.
fn world_with_history() -> (World, Pipe) {
    let mut world = world();
    let live = join(&mut world, &Ask::stream(&["live"]));
    for n in 0..EVENTS {
        world.say("a", &n.to_string());
    }
    world.settle();
    (world, live)
}

fn sent(readers: &[Pipe]) -> Vec<usize> {
    readers.iter().map(|reader| reader.events().len()).collect()
}

fn say_live(world: &mut World, data: &str) {
    world.say("live", data);
    while world.push_batch(0) {}
    while world.engines[0].work(world.now_ms) {}
}

#[test]
fn readers_of_history_give_way_when_their_time_is_up_and_keep_their_turn() {
    let (mut world, live) = world_with_history();
    let earliest = Ask::stream(&["a"]).from(Start::Earliest);
    let readers: Vec<Pipe> = (0..8).map(|_| join(&mut world, &earliest)).collect();
    let mut passes = 0;
    let mut more = true;
    while more {
        let before = sent(&readers);
        more = world.engines[0].serve_ready_within(256, world.now_ms, || true);
        let after = sent(&readers);
        let served = before.iter().zip(&after).filter(|(before, after)| before < after).count();
        assert!(served <= 2, "each costs as much as many that have nothing to read: {after:?}");
        let (least, most) = (after.iter().min(), after.iter().max());
        assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 10), "{after:?}");
        passes += 1;
        say_live(&mut world, "x");
        assert_eq!(live.events().len(), passes, "live events go out in between");
    }
    assert!(passes > 8, "{passes}");
    assert_eq!(sent(&readers), [EVENTS; 8]);
    // While there is time all are served.
    let readers: Vec<Pipe> = (0..8).map(|_| join(&mut world, &earliest)).collect();
    let before = sent(&readers);
    world.engines[0].serve_ready_within(256, world.now_ms, || false);
    assert!(before.iter().zip(sent(&readers)).all(|(before, after)| *before < after));
}

#[test]
fn sockets_whose_time_is_up_are_served_in_the_next_pass() {
    let (mut world, live) = world_with_history();
    let mut readers = Vec::new();
    let mut ready = Vec::new();
    for _ in 0..8 {
        let pipe = Pipe::new(0, usize::MAX);
        let earliest = Ask::stream(&["a"]).from(Start::Earliest);
        let (_, key) = world.attach(0, &earliest, &pipe);
        ready.push(Ready { token: key.token(), input: false, room: true });
        readers.push(pipe);
    }
    readers.iter().for_each(|reader| reader.grant(usize::MAX));
    let (mut served, mut passes) = (0, 0);
    while served < ready.len() {
        let engine = &mut world.engines[0];
        let more = engine.serve_sockets(&ready[served..], world.now_ms, || true);
        assert!((1..=2).contains(&more), "{more}");
        served += more;
        assert!(sent(&readers)[..served].iter().all(|sent| *sent > 0));
        assert!(sent(&readers)[served..].iter().all(|sent| *sent == 0));
        passes += 1;
        say_live(&mut world, "x");
        assert_eq!(live.events().len(), passes);
    }
    world.settle();
    assert_eq!(sent(&readers), [EVENTS; 8]);
}

const EVENTS: usize = 60;
