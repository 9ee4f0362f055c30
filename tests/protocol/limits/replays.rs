//! Streams that resume all at once, far more than may be sent history at a time.

use std::time::{Duration, Instant};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

use super::wire::{PATIENCE, Wire, hub, metric, published, request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_replays_complete_and_lose_nothing() {
    let hub = hub(&[("limits.connections.replays_max", "1")]).await;
    for number in 0..300 {
        published(&hub, "a", &format!("event {number}")).await;
    }
    let mut clients = JoinSet::new();
    for number in 0..100 {
        let mut wire = Wire::to(&hub).await;
        let (target, fields) = match number % 3 {
            0 => ("/v1/events?channel=a", [("Last-Event-ID", "earliest")]),
            1 => ("/v1/events?channel=**", [("Last-Event-ID", "earliest")]),
            _ => ("/events", [("Last-Event-ID", "earliest")]),
        };
        // The quickstart's channel has nothing to be sent: its permit is released too.
        wire.send(request("GET", target, &fields, "")).await;
        clients.spawn(async move {
            wire.stream_head().await;
            if target != "/events" {
                for number in 0..300 {
                    let block = wire.block().await;
                    assert!(block.starts_with(&format!("data: event {number}\n")), "{block}");
                }
            }
            wire
        });
    }
    let wires = clients.join_all().await;
    assert_eq!(wires.len(), 100);
    let refused = r#"visnyk_subscriptions_refused_total{reason="too_many_replays"}"#;
    assert_eq!(metric(&hub, refused).await, 0);
    // A client that reads nothing keeps no permit: it is free for the next.
    let mut silent = Wire::to(&hub).await;
    let earliest = [("Last-Event-ID", "earliest")];
    silent.send(request("GET", "/v1/events?channel=a", &earliest, "")).await;
    let mut next = Wire::to(&hub).await;
    next.send(request("GET", "/v1/events?channel=a", &earliest, "")).await;
    next.stream_head().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_without_a_permit_in_time_is_refused_and_counted() {
    let settings =
        [("limits.connections.replays_max", "1"), ("limits.connections.replay_wait_ms", "1")];
    let hub = hub(&settings).await;
    for number in 0..300 {
        published(&hub, "a", &format!("event {number}")).await;
    }
    let name = r#"visnyk_subscriptions_refused_total{reason="too_many_replays"}"#;
    let deadline = Instant::now() + PATIENCE;
    let mut refused = 0;
    while refused == 0 {
        assert!(Instant::now() < deadline, "every replay gets a permit in a millisecond");
        let mut clients = JoinSet::new();
        for _ in 0..100 {
            let mut wire = Wire::to(&hub).await;
            clients.spawn(async move {
                let fields = [("Last-Event-ID", "earliest")];
                wire.send(request("GET", "/v1/events?channel=**", &fields, "")).await;
                let head = wire.head().await;
                assert!(matches!(head.status, 200 | 503), "{head:?}");
                head.status == 503
            });
        }
        refused += clients.join_all().await.into_iter().filter(|is_refused| *is_refused).count();
        assert_eq!(metric(&hub, name).await, refused as u64);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_its_earlier_answer_gives_its_replay_permit_back() {
    let settings = [
        ("limits.connections.replays_max", "1"),
        ("limits.connections.send_buffer_bytes", "16384"),
    ];
    let hub = hub(&settings).await;
    for number in 0..10 {
        published(&hub, "a", &format!("event {number}")).await;
    }
    let ping = request("GET", "/healthz", &[], "");
    let earliest = [("Last-Event-ID", "earliest")];
    let resume = request("GET", "/v1/events?channel=a", &earliest, "");
    // Answers that are not read, of as many bytes as kernels take and then some, before a resume.
    // In some of the steps its head is due while the last of them wait in the hub.
    let mut silent: Vec<TcpStream> = Vec::new();
    for pings in 40..=300 {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a buffer");
        // What the hub's kernel keeps for a client grows with the size of a segment.
        socket2::SockRef::from(&socket).set_tcp_mss(600).expect("a size of segments");
        let mut socket = socket.connect(hub.address()).await.expect("it accepts");
        let requests = ping.repeat(pings) + &resume;
        socket.write_all(requests.as_bytes()).await.expect("the kernel takes them");
        silent.push(socket);
    }
    // Until the hub is through with what it takes of them: those that come as far as their stream.
    let (mut streams, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        let now = metric(&hub, "visnyk_streams").await;
        if now != streams {
            (streams, since) = (now, Instant::now());
        }
    }
    let mut next = Wire::to(&hub).await;
    next.send(resume).await;
    next.stream_head().await;
    for number in 0..10 {
        let block = next.block().await;
        assert!(block.starts_with(&format!("data: event {number}\n")), "{block}");
    }
    drop(silent);
}
