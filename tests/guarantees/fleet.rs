//! A fleet of clients against the real binary: streams, long-polls, and clients that change from
//! one to the other, a third of them cut at random moments; each one's exact sequence is checked.

use std::time::Duration;

use crate::support::{Channels, Follower, Load, LoadPlan, TestHub, Transports, seed};

#[tokio::test]
async fn two_hundred_clients_receive_exactly_what_was_acknowledged() {
    let settings =
        [("LIMITS__HISTORY__EVENTS_MAX", "1000000"), ("LIMITS__HISTORY__BYTES_MAX", "200000000")];
    let hub = TestHub::start(&settings).await;
    let seed = seed();
    let mut rng = fastrand::Rng::with_seed(seed);
    let names: Vec<String> = (0..20).map(|n| format!("{}/{n}", ["room", "news"][n % 2])).collect();
    let plan = LoadPlan {
        channels: names.clone(),
        publishers: 5,
        requests_max: 300,
        pause: Duration::from_millis(4),
        seed,
    };

    // Half of the fleet is there before the first event, the others come while it goes on.
    let mut load = None;
    let mut fleet = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        if number == CLIENTS / 2 {
            load = Some(Load::start(hub.address(), &plan));
        }
        let transports = [Transports::Sse, Transports::Poll, Transports::Both][number % 3];
        let channels = match rng.u8(..10) {
            0..5 => Channels::one(&names[rng.usize(..names.len())]),
            5..7 => Channels::Named(rng.choose_multiple(names.clone(), 4)),
            7..9 => Channels::Below(["room", "news"][rng.usize(..2)].into()),
            _ => Channels::All,
        };
        let ends = names.iter().filter(|name| channels.contains(name)).count();
        let (name, seed) = (format!("client {number}"), rng.u64(..));
        let mut follower = Follower::start(name, hub.address(), channels, transports, seed).await;
        // A third of each kind is cut.
        if number / 3 % 3 == 0 {
            follower = follower.cut_within(Duration::from_millis(300));
        }
        fleet.spawn(follower.run(ends));
    }

    let ledger = load.expect("started half way").finish().await;
    let (mut deliveries, mut cut) = (0, 0);
    while let Some(follower) = fleet.join_next().await {
        let follower = follower.expect("a client does not fail");
        follower.assert_exact(&ledger);
        deliveries += follower.received.len();
        cut += usize::from(follower.connects > 3);
    }
    println!("{} events, {deliveries} deliveries, {cut} clients cut", ledger.len());
    assert!(ledger.len() > 3_000 && deliveries > 100_000, "{} {deliveries}", ledger.len());
    assert!(cut >= CLIENTS / 4, "{cut} clients were cut");
}

const CLIENTS: usize = 200;
