//! Sockets at their limits, against the real binary: the file limit, connections without a stream,
//! answers that are not read, bodies that do not end.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use crate::wire::{
    Answer, PATIENCE, Wire, ask, get, hub, metric, metric_is, post, publish, request,
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpSocket,
    time::{Instant, sleep},
};
use visnyk_loadtest::{Hub, HubCommand};

const ACCEPT: (&str, &str) = ("Accept", "text/event-stream");

/// A hub that may open so many files, and keeps silent connections for long.
async fn hub_of_files(files_max: u32) -> (Hub, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("visnyk");
    let binary = env!("CARGO_BIN_EXE_visnyk");
    fs::write(&script, format!("#!/bin/sh\nulimit -n {files_max}\nexec '{binary}' \"$@\"\n"))
        .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let command = HubCommand::new(&script)
        .directory(directory.path())
        .env("VISNYK_SHARDS", "2")
        .env("VISNYK_HEADER_READ_TIMEOUT_S", "600");
    (command.start().await.unwrap(), directory)
}

async fn stream(hub: &Hub, channel: &str) -> Wire {
    let mut wire = Wire::to(hub).await;
    wire.send(get(&format!("/v1/channels/{channel}/events"))).await;
    wire.stream_head().await;
    wire
}

/// An answer on a connection that stays open.
async fn on(wire: &mut Wire, request: impl AsRef<[u8]>) -> Answer {
    wire.send(request).await;
    wire.answer().await
}

fn assert_refused_for_now(stream: &Answer, other: &Answer) {
    assert_eq!(stream.status, 200, "{stream:?}");
    assert_eq!(stream.field("content-type"), "text/event-stream; charset=utf-8");
    let text = stream.text();
    assert!(text.starts_with(": refused: ") && text.contains("\nretry: "), "{text}");
    assert_eq!(other.status, 503, "{other:?}");
    assert!(other.field("retry-after").parse::<u32>().unwrap() >= 1);
    other.problem();
}

/// The value of a metric, asked for on a connection that is there: a new one might be refused.
async fn metric_on(wire: &mut Wire, name: &str) -> u64 {
    let answer = on(wire, get("/metrics")).await;
    let line = answer.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

/// Processor time of the hub so far.
fn cpu(hub: &Hub) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", hub.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Lines of the log about refused connections.
fn reports(hub: &Hub) -> usize {
    let log = hub.stderr();
    log.lines()
        .filter(|line| {
            line.contains("rejecting connections") || line.contains("cannot accept connections")
        })
        .count()
}

fn open_files(hub: &Hub) -> u64 {
    fs::read_dir(format!("/proc/{}/fd", hub.pid())).unwrap().count() as u64
}

/// Changes the file limit of a running hub.
fn limit_files(hub: &Hub, files_max: u64) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let pid = Pid::from_raw(hub.pid() as i32);
    // The hard limit stays as it was: the hub's is that of this process.
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let limits = Rlimit { current: Some(files_max), maximum };
    prlimit(pid, Resource::Nofile, limits).unwrap();
}

#[tokio::test]
async fn streams_are_refused_before_files_run_out_and_requests_still_served() {
    let (hub, _directory) = hub_of_files(200).await;
    let mut streams = Vec::new();
    loop {
        let mut wire = Wire::to(&hub).await;
        wire.send(request("GET", "/v1/channels/a/events", &[ACCEPT], "")).await;
        let (_, first) = wire.stream_head().await;
        if first.starts_with(": refused") {
            break;
        }
        streams.push(wire);
        assert!(streams.len() < 200);
    }
    assert!(streams.len() > 80, "{} of 200 files", streams.len());
    assert!(open_files(&hub) < 200);
    // A full hub publishes, delivers, and says how it is.
    assert_eq!(ask(&hub, publish("a", "x")).await.status, 201);
    for stream in &mut streams {
        assert!(stream.block().await.starts_with("data: x\n"));
    }
    assert_eq!(ask(&hub, get("/healthz")).await.status, 200);
    assert_eq!(ask(&hub, get("/v1/connections")).await.status, 200);
    let reason = r#"visnyk_subscriptions_refused_total{reason="too_many_connections"}"#;
    assert_eq!(metric(&hub, reason).await, 1);
}

#[tokio::test]
async fn connections_beyond_the_file_limit_are_answered_when_to_retry() {
    let (mut hub, _directory) = hub_of_files(200).await;
    let mut follower = stream(&hub, "a").await;
    let mut publisher = Wire::to(&hub).await;
    assert_eq!(on(&mut publisher, publish("a", "0")).await.status, 201);
    assert!(follower.block().await.starts_with("data: 0\n"));
    // Idle connections take every permit.
    let mut silent = Vec::new();
    let open =
        async |publisher: &mut Wire| metric_on(publisher, "visnyk_http_connections").await as usize;
    loop {
        silent.push(Wire::to(&hub).await);
        let deadline = Instant::now() + Duration::from_millis(300);
        while open(&mut publisher).await < silent.len() + 1 && Instant::now() < deadline {}
        if open(&mut publisher).await < silent.len() + 1 {
            break;
        }
        assert!(silent.len() < 200);
    }
    assert!(silent.len() > 80, "{} of 200 files", silent.len());
    assert!(open_files(&hub) < 200);

    let begun = (Instant::now(), cpu(&hub), reports(&hub));
    let mut rounds = 0;
    while begun.0.elapsed() < Duration::from_secs(2) {
        let stream = ask(&hub, request("GET", "/v1/channels/a/events", &[ACCEPT], "")).await;
        let other = ask(&hub, get("/v1/channels/a/poll")).await;
        assert_refused_for_now(&stream, &other);
        // Those that are there are served as ever.
        rounds += 1;
        let data = rounds.to_string();
        assert_eq!(on(&mut publisher, publish("a", &data)).await.status, 201);
        assert!(follower.block().await.starts_with(&format!("data: {data}\n")));
    }
    let (took, used) = (begun.0.elapsed(), cpu(&hub) - begun.1);
    let lines = reports(&hub) - begun.2;
    println!(
        "{rounds} rounds of two refusals and a publish in {took:?}: {used:?} of CPU, {lines} reports"
    );
    assert!(lines as u64 <= took.as_secs() + 1, "{lines} in {took:?}: {}", hub.stderr());
    hub.wait_for_line("rejecting connections", PATIENCE).await.unwrap();

    // Those that wait to be refused and say nothing cost nothing.
    let waiting: Vec<Wire> = {
        let mut waiting = Vec::new();
        for _ in 0..100 {
            waiting.push(Wire::to(&hub).await);
        }
        waiting
    };
    let before = cpu(&hub);
    sleep(Duration::from_secs(1)).await;
    let idle = cpu(&hub) - before;
    println!("100 silent connections to be refused: {idle:?} of CPU in a second");
    assert!(idle < Duration::from_millis(500), "{idle:?}");
    drop(waiting);

    drop(silent);
    let deadline = Instant::now() + PATIENCE;
    while ask(&hub, publish("a", "again")).await.status != 201 {
        assert!(Instant::now() < deadline, "no connection is accepted");
    }
    let counted = r#"visnyk_sockets_refused_total{reason="file_limit"}"#;
    let counted = metric_on(&mut publisher, counted).await;
    assert!(counted >= 2 * rounds, "{counted} of {rounds}");
}

#[tokio::test]
async fn without_a_file_to_accept_with_connections_are_refused_by_the_reserve() {
    let hub = hub(&[]).await;
    let mut follower = stream(&hub, "a").await;
    let mut publisher = Wire::to(&hub).await;
    assert_eq!(on(&mut publisher, publish("a", "0")).await.status, 201);
    assert!(follower.block().await.starts_with("data: 0\n"));
    // Something else has taken all files: no division could have foreseen it.
    limit_files(&hub, 3);
    let begun = (Instant::now(), cpu(&hub), reports(&hub));
    let mut rounds: u64 = 0;
    while begun.0.elapsed() < Duration::from_secs(2) {
        let mut wire = Wire::to(&hub).await;
        wire.send(get("/healthz")).await;
        rounds += 1;
        // A reserve cannot be had either while the limit is far below what is open.
        assert_eq!(on(&mut publisher, publish("a", "1")).await.status, 201);
        assert!(follower.block().await.starts_with("data: 1\n"));
        sleep(Duration::from_millis(20)).await;
    }
    let (took, used) = (begun.0.elapsed(), cpu(&hub) - begun.1);
    println!("{rounds} connections and publishes in {took:?} without files: {used:?} of CPU");
    assert!(used < Duration::from_millis(600), "it spins: {used:?} of CPU in {took:?}");
    let lines = reports(&hub) - begun.2;
    assert!((1..=took.as_secs() as usize + 1).contains(&lines), "{lines}: {}", hub.stderr());

    // With the reserves, and nothing else.
    limit_files(&hub, 1_000);
    let deadline = Instant::now() + PATIENCE;
    while ask(&hub, get("/healthz")).await.status != 200 {
        assert!(Instant::now() < deadline, "no connection is accepted");
    }
    while metric_on(&mut publisher, "visnyk_http_connections").await > 1 {}
    // Files are there only as numbers below the limit: all of those that are open are kept.
    limit_files(&hub, highest_file(&hub) + 1);
    let (mut open, mut streams, mut others) = (Vec::new(), 0, 0);
    while streams == 0 || others == 0 {
        // What is free of those numbers is taken first; between two refusals one may be free again.
        let mut wire = Wire::to(&hub).await;
        let answer = on(&mut wire, get("/healthz")).await;
        if answer.status == 200 {
            open.push(wire);
            assert!(open.len() < 200);
            continue;
        }
        others += 1;
        let mut wire = Wire::to(&hub).await;
        wire.send(request("GET", "/v1/channels/a/events", &[ACCEPT], "")).await;
        let (head, first) = wire.stream_head().await;
        if first.starts_with(": refused: ") {
            streams += 1;
            assert_eq!(head.field("transfer-encoding"), "chunked");
            wire.closed().await;
            assert!(!wire.has_ended(), "the client is to come back");
        }
        assert_eq!((answer.status, answer.field("connection")), (503, "close"), "{answer:?}");
        open.push(wire);
    }
    limit_files(&hub, 1_000);
    while ask(&hub, get("/healthz")).await.status != 200 {
        assert!(Instant::now() < deadline, "no connection is accepted");
    }
    let counted = r#"visnyk_sockets_refused_total{reason="no_file"}"#;
    let counted = metric_on(&mut publisher, counted).await;
    assert!(counted >= 2, "{counted}");
}

/// The highest number of a file of the hub, those aside that it was started with.
fn highest_file(hub: &Hub) -> u64 {
    let files = fs::read_dir(format!("/proc/{}/fd", hub.pid())).unwrap();
    let numbers = files.map(|file| file.unwrap().file_name().to_str().unwrap().parse().unwrap());
    numbers.filter(|number| *number < 200).max().unwrap()
}

#[tokio::test]
async fn connections_without_a_stream_have_a_bound_of_their_own() {
    let hub =
        hub(&[("limits.connections.requests_max", "4"), ("header_read_timeout_s", "600")]).await;
    // Streams do not count.
    let streams = [stream(&hub, "a").await, stream(&hub, "a").await, stream(&hub, "a").await];
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut wire = Wire::to(&hub).await;
        assert_eq!(on(&mut wire, get("/healthz")).await.status, 200, "at the bound");
        open.push(wire);
    }
    let stream = ask(&hub, request("GET", "/v1/channels/a/events", &[ACCEPT], "")).await;
    assert_refused_for_now(&stream, &ask(&hub, post("/v1/events?channel=a", "x")).await);
    drop(open.pop());
    let deadline = Instant::now() + PATIENCE;
    while ask(&hub, get("/healthz")).await.status != 200 {
        assert!(Instant::now() < deadline, "the permit of the one that left is not reused");
    }
    let refused = r#"visnyk_sockets_refused_total{reason="requests_max"}"#;
    let refused = metric_on(&mut open[0], refused).await;
    assert!(refused >= 2, "{refused}");
    drop(streams);
}

#[tokio::test]
async fn a_client_that_does_not_read_an_answer_is_ended() {
    let settings =
        [("limits.connections.write_stall_s", "1"), ("limits.connections.send_buffer_bytes", "1")];
    let hub = hub(&settings).await;
    assert_eq!(ask(&hub, publish("a", &"x".repeat(900_000))).await.status, 201);
    let poll = get("/v1/channels/a/poll?last_event_id=earliest");
    // As many answers as its kernel and the hub's cannot hold together.
    let mut stalled = Wire::to(&hub).await;
    stalled.send(poll.repeat(50)).await;
    let begun = Instant::now();
    metric_is(&hub, "visnyk_answers_stalled_total", 1).await;
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    let rest = stalled.rest().await;
    assert!(rest.len() < 50 * 900_000, "{}", rest.len());
}

/// Small answers to plain requests are not written by hyper.
#[tokio::test]
async fn a_client_that_does_not_read_small_answers_is_ended() {
    let settings =
        [("limits.connections.write_stall_s", "1"), ("limits.connections.send_buffer_bytes", "1")];
    let hub = hub(&settings).await;
    assert_eq!(ask(&hub, publish("a", &"x".repeat(15_000))).await.status, 201);
    let poll = get("/v1/channels/a/poll?last_event_id=earliest");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(1).expect("a buffer");
    let mut stalled = socket.connect(hub.address()).await.expect("a connection");
    let begun = Instant::now();
    for _ in 0..10 {
        // One at a time: further ones would go to hyper.
        stalled.write_all(poll.as_bytes()).await.expect("sent");
        sleep(Duration::from_millis(50)).await;
    }
    metric_is(&hub, "visnyk_answers_stalled_total", 1).await;
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    drop(stalled);
    metric_is(&hub, "visnyk_http_connections", 1).await;
}

#[tokio::test]
async fn answers_that_are_not_read_have_a_bound_together() {
    let settings = [
        ("limits.connections.answers_bytes_max", "4194304"),
        ("limits.connections.write_stall_s", "600"),
        ("limits.connections.send_buffer_bytes", "1"),
    ];
    let hub = hub(&settings).await;
    assert_eq!(ask(&hub, publish("a", &"x".repeat(900_000))).await.status, 201);
    let poll = get("/v1/channels/a/poll?last_event_id=earliest");
    let mut clients = Vec::new();
    for n in 0..8 {
        let mut client = Wire::to(&hub).await;
        client.send(&poll).await;
        let head = client.head().await;
        let expected = if n < 4 { (200, false) } else { (503, true) };
        assert_eq!((head.status, head.has("retry-after")), expected, "{n}: {head:?}");
        clients.push(client);
    }
    let held = metric(&hub, "visnyk_answer_bytes").await;
    assert!((4 * 900_000..=4_194_304).contains(&held), "{held}");
    assert_eq!(ask(&hub, publish("b", "small")).await.status, 201);
    let small = ask(&hub, get("/v1/channels/b/poll?last_event_id=earliest")).await;
    assert_eq!(small.status, 200);
    drop(clients);
    metric_is(&hub, "visnyk_answer_bytes", 0).await;
    assert_eq!(ask(&hub, &poll).await.status, 200);
    assert_eq!(metric(&hub, "visnyk_answers_refused_total").await, 4);
}

#[tokio::test]
async fn bodies_under_way_have_a_bound_together() {
    let settings = [
        ("limits.publish.body_bytes_max", "100000"),
        ("limits.publish.bodies_bytes_max", "100000"),
        ("limits.publish.wait_ms", "100"),
    ];
    let hub = hub(&settings).await;
    let mut large = Wire::to(&hub).await;
    let body = "x".repeat(100_000);
    let text = publish("a", &body);
    let (begin, end) = text.split_at(text.len() - 10_000);
    large.send(begin).await;
    metric_is(&hub, "visnyk_body_bytes", 90_000).await;
    assert_eq!(ask(&hub, publish("a", &"y".repeat(10_000))).await.status, 201, "at the bound");
    let answer = ask(&hub, publish("a", &"y".repeat(10_001))).await;
    assert_eq!((answer.status, answer.has("retry-after")), (503, true), "{answer:?}");
    answer.problem();
    large.send(end).await;
    assert_eq!(large.answer().await.status, 201);
    metric_is(&hub, "visnyk_body_bytes", 0).await;
    assert_eq!(ask(&hub, publish("a", &"y".repeat(10_001))).await.status, 201);
    assert_eq!(metric(&hub, r#"visnyk_publishes_refused_total{reason="bodies"}"#).await, 1);
}
