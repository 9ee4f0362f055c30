//! Each kind of actor dies under load, in the real binary: all other sequences stay exact, and the
//! actor or its connections come back.

use std::{fs, time::Duration};

use crate::support::{
    Channels, Follower, Ledger, Load, LoadPlan, PATIENCE, TestHub, Transports, data_of, seed, seq,
};
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use visnyk_loadtest::SseClient;

/// A hub under load with followers of every kind.
struct Scene {
    hub: TestHub,
    load: Load,
    followers: JoinSet<Follower>,
}

impl Scene {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let mut all = vec![
            ("FAULTS", "true"),
            ("SHARDS", "2"),
            ("LIMITS__HISTORY__EVENTS_MAX", "1000000"),
            ("LIMITS__HISTORY__BYTES_MAX", "200000000"),
        ];
        all.extend(settings);
        let hub = TestHub::start(&all).await;
        let names: Vec<String> = ["a", "b", "c/d"].map(str::to_owned).to_vec();
        let seed = seed();
        let mut followers = JoinSet::new();
        for number in 0..FOLLOWERS as u64 {
            let channels = match number % 4 {
                0 | 1 => Channels::one(&names[number as usize / 4 % 3]),
                2 => Channels::Named(names.clone()),
                _ => Channels::All,
            };
            let transports = if number % 3 == 2 { Transports::Poll } else { Transports::Sse };
            let ends = names.iter().filter(|name| channels.contains(name)).count();
            let (name, seed) = (format!("follower {number}"), seed + number);
            let follower = Follower::start(name, hub.address(), channels, transports, seed);
            followers.spawn(follower.await.run(ends));
        }
        let plan = LoadPlan {
            channels: names,
            publishers: 4,
            requests_max: usize::MAX,
            pause: Duration::from_millis(1),
            seed,
        };
        let load = Load::start(hub.address(), &plan);
        let scene = Self { hub, load, followers };
        scene.go_on().await;
        scene
    }

    /// Lets events be published.
    async fn go_on(&self) {
        self.load.wait_for(self.load.ledger.len() + 200).await;
    }

    /// Plants a fault and waits until so many actors of a kind have been restarted in all.
    async fn strike(&self, fault: &str, kind: &str, restarts: u32) {
        self.hub.plant(fault).await;
        let metric = format!(r#"visnyk_restarts_total{{reason="{kind}"}}"#);
        self.hub.wait_for_metric(&metric, |count| count == f64::from(restarts)).await;
        self.go_on().await;
    }

    /// Ends the load and checks every follower's sequence; returns the followers.
    async fn check(mut self) -> (TestHub, Vec<Follower>, std::sync::Arc<Ledger>) {
        let ledger = self.load.end().await;
        let mut followers = Vec::new();
        while let Some(follower) = self.followers.join_next().await {
            let follower = follower.expect("a follower does not fail");
            follower.assert_exact(&ledger);
            followers.push(follower);
        }
        (self.hub, followers, ledger)
    }
}

const FOLLOWERS: usize = 36;

/// Streams that were never dropped, and those that were.
fn kept_and_dropped(followers: &[Follower]) -> (usize, usize) {
    let streams = followers.iter().filter(|follower| follower.is_stream());
    let kept = streams.clone().filter(|follower| follower.connects == 1).count();
    (kept, streams.count() - kept)
}

#[tokio::test]
async fn fault_routes_are_not_there_without_the_setting() {
    let hub = TestHub::start(&[]).await;
    for kind in ["log", "channels", "channel", "shards", "shard", "connection"] {
        let answer = hub.request("POST", &format!("/faults/{kind}?channel=a"), &[], "").await;
        assert_eq!(answer.status(), 404, "{kind}");
    }
    assert_eq!(hub.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn panicking_step_ends_one_of_a_thousand_connections() {
    let hub = TestHub::start(&[("FAULTS", "true"), ("SHARDS", "2")]).await;
    let mut streams = Vec::new();
    for _ in 0..1_000 {
        streams.push(hub.stream("channel=a", "now").await);
    }
    let before: Vec<String> = (0..20).map(|n| format!("before {n}")).collect();
    hub.publish_all("a", &before).await;
    hub.plant("connection?channel=a").await;
    let after: Vec<String> = (0..200).map(|n| format!("after {n}")).collect();
    let panicked = r#"visnyk_connections_closed_total{reason="panicked"}"#;
    for data in &after {
        hub.publish("a", data).await;
    }
    assert_eq!(hub.metric(panicked).await, 1.0);
    let all: Vec<String> = before.into_iter().chain(after).collect();

    let mut ended = Vec::new();
    for (number, mut stream) in streams.into_iter().enumerate() {
        let received = receive(&mut stream, all.len()).await;
        if received.len() < all.len() {
            ended.push((received, stream.position().expect("a position").to_owned()));
            continue;
        }
        assert_eq!(received, all, "stream {number}");
    }
    let [(received, position)] = &ended[..] else { panic!("{} streams ended", ended.len()) };
    let mut resumed = hub.stream("channel=a", position).await;
    let rest = data_of(&mut resumed, all.len() - received.len()).await;
    assert_eq!([&received[..], &rest[..]].concat(), all, "nothing lost or repeated");
    assert_eq!(hub.metric(r#"visnyk_restarts_total{reason="shard"}"#).await, 0.0);
}

/// The data of a stream's events, up to so many or its end.
async fn receive(stream: &mut SseClient, events: usize) -> Vec<String> {
    let mut received = Vec::new();
    while received.len() < events {
        match stream.next_event(PATIENCE).await.expect("an event or the end") {
            Some(block) => received.extend(block.data),
            None => break,
        }
    }
    received
}

#[tokio::test]
async fn panicking_connections_under_load_resume() {
    let scene = Scene::start(&[]).await;
    let panicked = r#"visnyk_connections_closed_total{reason="panicked"}"#;
    for count in 1..=10 {
        let channel = ["a", "b", "c%2Fd"][count % 3];
        scene.hub.plant(&format!("connection?channel={channel}")).await;
        scene.hub.wait_for_metric(panicked, |value| value == count as f64).await;
    }
    scene.go_on().await;
    let (hub, _, _) = scene.check().await;
    assert_eq!(hub.metric(panicked).await, 10.0, "one each");
}

#[tokio::test]
async fn channel_actor_that_dies_is_restarted_and_clients_do_not_notice() {
    let scene = Scene::start(&[]).await;
    for (count, fault) in
        ["channel?channel=a", "kill-channel?channel=c%2Fd", "channel?channel=a"].iter().enumerate()
    {
        scene.strike(fault, "channel", count as u32 + 1).await;
    }
    let (hub, followers, ledger) = scene.check().await;
    assert_eq!(kept_and_dropped(&followers).1, 0, "no stream was dropped");
    assert_info_is_right(&hub, &ledger).await;
}

/// Once all clients have left, none is counted, crashed or not.
async fn assert_no_client_is_counted(hub: &TestHub) {
    hub.wait_for_metric("visnyk_streams", |streams| streams == 0.0).await;
    hub.wait_for_metric("visnyk_pollers", |pollers| pollers == 0.0).await;
    for name in ["a", "b", "c/d"] {
        hub.wait_for_channel(name, |info| info["subscribers"] == 0 && info["pollers"] == 0).await;
    }
}

/// Holds what the hub says of its channels against what was acknowledged.
async fn assert_info_is_right(hub: &TestHub, ledger: &Ledger) {
    for name in ["a", "b", "c/d"] {
        let (events, last) = ledger.count(name);
        let info = hub.channel(name).await;
        assert_eq!(info["events_retained"], events, "{info}");
        assert_eq!(info["last_id"].as_str().map(seq), last, "{info}");
    }
}

#[tokio::test]
async fn channel_actor_goes_on_with_its_work_after_a_restart() {
    let settings = [
        ("FAULTS", "true"),
        ("LIMITS__HISTORY__AGE_MAX_S", "5"),
        ("LIMITS__CHANNELS__IDLE_S", "1"),
    ];
    let hub = TestHub::start(&settings).await;
    let start = hub.publish("other", "x").await;
    for (fault, kind) in [
        ("channel?channel=a", "channel"),
        ("kill-channel?channel=a", "channel"),
        ("channels", "channels"),
    ] {
        // The first is acknowledged before its channel has an actor, the second after.
        let published = Instant::now();
        hub.publish("a", fault).await;
        // However slowly this goes, a channel with a subscriber is not evicted.
        let stream = hub.stream("channel=a", "now").await;
        hub.publish("a", fault).await;
        let metric = format!(r#"visnyk_restarts_total{{reason="{kind}"}}"#);
        let before = hub.metric(&metric).await;
        hub.plant(fault).await;
        hub.wait_for_metric(&metric, |count| count == before + 1.0).await;
        let info = hub.channel("a").await;
        if published.elapsed() < Duration::from_secs(5) {
            assert_eq!(info["events_retained"], 2, "{fault}: {info}");
        }
        drop(stream);
        // It still evicts by age, and the channel is evicted after that.
        hub.wait_for_channel("a", Value::is_null).await;
        assert_eq!(hub.poll_now("channel=a", &start).await["gap"]["reason"], "evicted");
    }
}

#[tokio::test]
async fn channels_supervisor_that_dies_is_restarted_and_clients_do_not_notice() {
    let scene = Scene::start(&[]).await;
    scene.strike("channels", "channels", 1).await;
    scene.strike("channels", "channels", 2).await;
    // The new supervisor has its channels' actors back.
    scene.strike("channel?channel=a", "channel", 1).await;
    let (hub, followers, ledger) = scene.check().await;
    assert_eq!(kept_and_dropped(&followers).1, 0, "no stream was dropped");
    assert_info_is_right(&hub, &ledger).await;
}

#[tokio::test]
async fn shard_that_dies_drops_only_its_sockets_and_they_resume() {
    for fault in ["shard?shard=0", "kill-shard?shard=1"] {
        let scene = Scene::start(&[]).await;
        scene.strike(fault, "shard", 1).await;
        let (hub, followers, _) = scene.check().await;
        let (kept, dropped) = kept_and_dropped(&followers);
        println!("{fault}: {kept} streams stayed, {dropped} resumed");
        assert!(kept > 0 && dropped > 0, "{kept} streams stayed, {dropped} resumed");
        let ended = hub.metric(r#"visnyk_connections_closed_total{reason="shard_ended"}"#).await;
        assert!(ended >= dropped as f64, "{ended} connections ended with their shard");
        drop(followers);
        assert_no_client_is_counted(&hub).await;
    }
}

#[tokio::test]
async fn sampler_that_dies_is_restarted_and_keeps_its_samples() {
    let hub = TestHub::start(&[("FAULTS", "true")]).await;
    let samples = async || {
        hub.get("/v1/samples").await.json()["samples"].as_array().expect("samples").clone()
    };
    let deadline = Instant::now() + PATIENCE;
    let at_least = async |count: usize| loop {
        let found = samples().await;
        if found.len() >= count {
            return found;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        sleep(Duration::from_millis(50)).await;
    };
    let before = at_least(1).await;
    hub.plant("sampler").await;
    let metric = r#"visnyk_restarts_total{reason="sampler"}"#;
    hub.wait_for_metric(metric, |count| count == 1.0).await;
    let after = at_least(before.len() + 1).await;
    assert_eq!(after[..before.len()], before[..]);
}

#[tokio::test]
async fn sampler_that_dies_again_and_again_costs_samples_alone() {
    let mut hub = TestHub::start(&[("FAULTS", "true")]).await;
    let dies = async |kind: &str, times: u32| {
        hub.plant(kind).await;
        let metric = format!(r#"visnyk_restarts_total{{reason="{kind}"}}"#);
        hub.wait_for_metric(&metric, |count| count == f64::from(times)).await;
    };
    for times in 1..=6 {
        dies("sampler", times).await;
    }
    // Other actors have their own restarts left.
    for times in 1..=5 {
        dies("channels", times).await;
    }
    hub.wait_for_line("the sampler fails too often", PATIENCE).await.expect("a line");
    hub.publish("a", "still served").await;
    assert_eq!(hub.get("/readyz").await.status(), 200);
}

#[tokio::test]
async fn shard_that_dies_leaves_no_file_open() {
    let hub = TestHub::start(&[("FAULTS", "true"), ("SHARDS", "2")]).await;
    let restart = async |restarts: u32| {
        hub.plant("shard?shard=0").await;
        let metric = r#"visnyk_restarts_total{reason="shard"}"#;
        hub.wait_for_metric(metric, |count| count == f64::from(restarts)).await;
    };
    // A hub that has just started still opens some. What three restarts would leave is twice this.
    restart(1).await;
    let before = open_files(&hub) + 4;
    for restarts in 2..=4 {
        restart(restarts).await;
    }
    let deadline = Instant::now() + PATIENCE;
    while open_files(&hub) > before {
        assert!(Instant::now() < deadline, "{before} files became {}", open_files(&hub));
        sleep(Duration::from_millis(20)).await;
    }
}

fn open_files(hub: &TestHub) -> usize {
    let pid = hub.pid();
    fs::read_dir(format!("/proc/{pid}/fd")).expect("its files").count()
}

#[tokio::test]
async fn shards_that_keep_dying_take_their_supervisor_along_and_clients_resume() {
    let scene = Scene::start(&[]).await;
    for round in 0..3 {
        scene.strike("shard?shard=0", "shard", 2 * round + 1).await;
        scene.strike("kill-shard?shard=1", "shard", 2 * round + 2).await;
    }
    let supervisor = scene.hub.metric(r#"visnyk_restarts_total{reason="shards"}"#).await;
    println!("{supervisor} restarts of the supervisor");
    scene.check().await;
}

#[tokio::test]
async fn shards_supervisor_that_dies_is_restarted_and_every_client_resumes() {
    let scene = Scene::start(&[]).await;
    scene.strike("shards", "shards", 1).await;
    scene.strike("shards", "shards", 2).await;
    // The new supervisor has new shards.
    scene.strike("shard?shard=1", "shard", 1).await;
    let (hub, followers, ledger) = scene.check().await;
    assert_eq!(kept_and_dropped(&followers).0, 0, "every stream was dropped");
    assert_info_is_right(&hub, &ledger).await;
    drop(followers);
    assert_no_client_is_counted(&hub).await;
}

#[tokio::test]
async fn all_kinds_of_faults_at_once_lose_nothing() {
    let scene = Scene::start(&[]).await;
    // Twice: with more, the root would give up (see below).
    for round in 0..2 {
        scene.hub.plant("channel?channel=a").await;
        scene.hub.plant("connection?channel=b").await;
        scene.hub.plant("channels").await;
        scene.hub.plant(&format!("shard?shard={}", round % 2)).await;
        scene.hub.plant("shards").await;
        let metric = r#"visnyk_restarts_total{reason="shards"}"#;
        scene.hub.wait_for_metric(metric, |count| count == f64::from(round + 1)).await;
        scene.go_on().await;
    }
    let (hub, _, ledger) = scene.check().await;
    assert_info_is_right(&hub, &ledger).await;
    hub.wait_for_metric("visnyk_permits_free", |free| free == 32_768.0).await;
}

#[tokio::test]
async fn supervisors_that_keep_failing_end_the_process() {
    let mut hub = TestHub::start(&[("FAULTS", "true")]).await;
    for restarts in 1..=5 {
        hub.plant("channels").await;
        let metric = r#"visnyk_restarts_total{reason="channels"}"#;
        hub.wait_for_metric(metric, |count| count == f64::from(restarts)).await;
        hub.publish("a", "x").await;
    }
    hub.plant("channels").await;
    let status = hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", hub.stderr());
    assert!(hub.stderr().contains("fails too often"), "{}", hub.stderr());
}

#[tokio::test]
async fn log_that_panics_ends_the_process() {
    let mut hub = TestHub::start(&[("FAULTS", "true")]).await;
    let mut stream = hub.stream("channel=a", "now").await;
    hub.publish("a", "x").await;
    assert_eq!(data_of(&mut stream, 1).await, ["x"]);
    hub.plant("log").await;
    let status = hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", hub.stderr());
    assert!(hub.stderr().contains("the log failed"), "{}", hub.stderr());
    assert_eq!(receive(&mut stream, 1).await, [""; 0], "its clients see the end");
}

#[tokio::test]
async fn root_that_panics_ends_the_process() {
    let mut hub = TestHub::start(&[("FAULTS", "true")]).await;
    let mut stream = hub.stream("channel=a", "now").await;
    hub.publish("a", "x").await;
    assert_eq!(data_of(&mut stream, 1).await, ["x"]);
    hub.plant("root").await;
    let status = hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", hub.stderr());
    assert!(hub.stderr().contains("the root of the actors ended"), "{}", hub.stderr());
    assert_eq!(receive(&mut stream, 1).await, [""; 0], "its clients see the end");
}
