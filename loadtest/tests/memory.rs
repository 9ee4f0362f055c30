//! The scenario in memory, small: every delivery is checked, to slow peers too.

use visnyk_loadtest::{Memory, Outcome, Progress};

fn run(plan: &Memory) -> Outcome {
    plan.run(&Progress::silent()).unwrap_or_else(|failure| panic!("{}", failure.in_full()))
}

fn small() -> Memory {
    Memory {
        connections: 1_200,
        channels: 1,
        mixed: false,
        broadcasts: 3,
        burst: 40,
        slow_every: 10,
        slow_bytes: 100,
        idle_s: 0,
        heartbeat_s: 15,
        shards: 2,
    }
}

#[test]
fn every_connection_of_one_channel_gets_every_event() {
    let outcome = run(&small());
    // At 1,000 connections three events, at 1,200 three and the burst.
    assert_eq!(outcome.verified.deliveries, 1_000 * 3 + 1_200 * (3 + 40));
    assert!(outcome.figures["writes_refused_by_slow"] > 0.0, "some were slow");
}

#[test]
fn every_connection_of_the_mixed_lane_gets_every_event() {
    let outcome = run(&Memory { mixed: true, channels: 7, ..small() });
    assert_eq!(outcome.verified.deliveries, 1_000 * 3 + 1_200 * (3 + 40));
    assert_eq!(outcome.verified.events, 7 * (2 * 3 + 40));
}
