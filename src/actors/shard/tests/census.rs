//! How many connections are behind, as metrics have it.

use super::{
    pipe::Pipe,
    world::{Ask, World},
};
use crate::{
    actors::connection_report::{ConnectionFilter, ConnectionQuery, ConnectionState},
    core::{CloseReason, Limits},
    telemetry::BehindCounts,
};

/// What reports on all connections of all engines add up to.
fn reported(world: &mut World) -> BehindCounts {
    let mut counts = BehindCounts::default();
    for engine in 0..world.engines.len() {
        let mut from = Some(0);
        while let Some(at) = from {
            let filter = ConnectionFilter::default();
            let query = ConnectionQuery {
                filter,
                from: at,
                slots: u32::MAX,
                limit: 1_000,
                selectors_max: 0,
            };
            let piece = world.engines[engine].explain(&query, world.now_ms);
            for found in piece.found {
                if let ConnectionState::Behind(reason) = found.state {
                    counts.connections[reason as usize] += 1;
                    counts.lag_events += u64::from(found.lag_events);
                }
            }
            from = piece.next;
        }
    }
    counts
}

/// Lets one census end that has begun now. In tests a look is at three slots, each 64 ms.
fn count(world: &mut World, connections: usize) -> BehindCounts {
    world.tick(1_000);
    for _ in 0..connections.div_ceil(3) {
        world.tick(64);
    }
    world.metrics.behind.counts()
}

#[test]
fn the_census_agrees_with_reports_on_every_connection() {
    const CONNECTIONS: usize = 40;
    let mut world = World::new(Limits::default(), 2);
    let attached: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let pipe = Pipe::open();
            let engine = number % 2;
            let (_, key) = world.attach(engine, &Ask::stream(&["a"]), &pipe);
            (engine, key, pipe)
        })
        .collect();
    assert_eq!(count(&mut world, CONNECTIONS), BehindCounts::default());
    for (_, _, pipe) in attached.iter().step_by(3) {
        pipe.stop();
    }
    for _ in 0..5 {
        world.say("a", "x");
        world.settle();
    }
    // It is counted in its time and not before.
    world.tick(1);
    assert_eq!(world.metrics.behind.counts(), BehindCounts::default());
    let counted = count(&mut world, CONNECTIONS);
    let blocked = attached.len().div_ceil(3) as u32;
    assert_eq!(
        (counted.connections, counted.lag_events),
        ([blocked, 0, 0, 0], 5 * u64::from(blocked))
    );
    assert_eq!(counted, reported(&mut world));
    // Some catch up, some end.
    for (number, (engine, key, pipe)) in attached.iter().enumerate().step_by(3) {
        match number % 2 {
            0 => pipe.grant(usize::MAX),
            _ => world.engines[*engine].close(*key, CloseReason::PeerClosed),
        }
    }
    world.settle();
    assert_eq!(count(&mut world, CONNECTIONS), BehindCounts::default());
}

#[test]
fn passes_beyond_one_in_64_ms_look_at_no_slots() {
    let mut world = World::new(Limits::default(), 1);
    for _ in 0..4 {
        let pipe = Pipe::open();
        world.attach(0, &Ask::stream(&["a"]), &pipe);
        pipe.stop();
    }
    world.say("a", "x");
    world.settle();
    world.tick(1_000);
    // Three slots are looked at; the fourth is not, however often the shard comes by.
    for _ in 0..63 {
        world.tick(1);
        assert_eq!(world.metrics.behind.counts(), BehindCounts::default());
    }
    world.tick(1);
    assert_eq!(world.metrics.behind.counts().connections[0], 4);
}

#[test]
fn a_shard_that_fails_takes_its_part_of_the_count_with_it() {
    let mut world = World::new(Limits::default(), 2);
    for engine in 0..2 {
        let pipe = Pipe::open();
        world.attach(engine, &Ask::stream(&["a"]), &pipe);
        pipe.stop();
    }
    world.say("a", "x");
    world.settle();
    let counted = count(&mut world, 1);
    assert_eq!((counted.connections[0], counted.lag_events), (2, 2));
    world.engines.truncate(1);
    let left = world.metrics.behind.counts();
    assert_eq!((left.connections[0], left.lag_events), (1, 1));
}
