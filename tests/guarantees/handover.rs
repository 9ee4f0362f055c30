//! A restart without a refused connection: a new process takes sockets and log over, under load.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener},
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpStream, UnixListener},
    process::Command,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use visnyk_loadtest::{Exchange, HubCommand, SseClient, SseRequest};

use crate::support::PATIENCE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_under_load_refuse_no_connection_and_lose_nothing() {
    let restarts: usize =
        std::env::var("VISNYK_TEST_RESTARTS").map_or(5, |count| count.parse().expect("a number"));
    let followers = if restarts > 5 { 200 } else { 40 };
    let directory = tempfile::tempdir().expect("a directory");
    let mut hub = command(directory.path(), 2).start().await.expect("it starts");
    let address = hub.address();
    let is_over = Arc::new(AtomicBool::new(false));

    let mut following = JoinSet::new();
    for _ in 0..followers {
        let client = SseClient::connect(address, &from("now")).await.expect("a stream");
        following.spawn(follow(address, client));
    }
    let publishing = publish(address, Arc::clone(&is_over));
    let connecting = connect(address, Arc::clone(&is_over));
    for restart in 0..restarts {
        sleep(Duration::from_millis(400)).await;
        // Not always as many shards.
        let shards = [1, 2, 3][restart % 3];
        let next = command(directory.path(), shards).listen(address).arg("--take-over");
        let next = next.start().await.expect("it takes over");
        assert_eq!(next.address(), address);
        let status = hub.wait(PATIENCE).await.expect("it ends");
        assert_eq!(status.code(), Some(0), "{}", hub.stderr());
        assert!(hub.stderr().contains("another process takes over"), "{}", hub.stderr());
        hub = next;
    }
    sleep(Duration::from_millis(200)).await;
    is_over.store(true, Ordering::Relaxed);
    let published = publishing.await.expect("it publishes");
    let connects = connecting.await.expect("no connection is refused");
    println!("{published} events, {connects} connections, {restarts} restarts");
    assert!(published > 10 * restarts, "{published}");
    let expected: Vec<String> = (0..published).map(|n| n.to_string()).collect();
    while let Some(followed) = following.join_next().await {
        let received = followed.expect("it follows");
        assert_eq!(received, expected, "each event once, in order");
    }
}

#[tokio::test]
async fn without_a_hub_to_take_over_from_it_starts_as_ever() {
    let directory = tempfile::tempdir().expect("a directory");
    let hub = command(directory.path(), 1).arg("--take-over").start().await.expect("it starts");
    publish_one(hub.address(), 0).await.expect("published");
    // Without being asked to, a second one does not.
    let second = command(directory.path(), 1).start().await.expect_err("it is in use").to_string();
    assert!(second.contains("another hub uses it"), "{second}");
}

#[tokio::test]
async fn a_successor_that_cannot_start_leaves_the_hub_serving() {
    let directory = tempfile::tempdir().expect("a directory");
    let hub = command(directory.path(), 1).start().await.expect("it starts");
    let successor = command(directory.path(), 1).listen(hub.address()).arg("--take-over");
    let mistyped = [("tls_cert", "/nonexistent"), ("tls_key", "/nonexistent")];
    let ended = successor.clone().settings(&mistyped).start().await.expect_err("no certificate");
    assert!(ended.to_string().contains("tls_cert"), "{ended}");
    let blocker = TcpListener::bind("127.0.0.1:0").expect("a port");
    let blocked = blocker.local_addr().expect("it is bound").to_string();
    let ended = successor.args(["--listen", &blocked]).start().await.expect_err("it is taken");
    assert!(ended.to_string().contains("cannot listen on"), "{ended}");
    publish_one(hub.address(), 0).await.expect("published");
}

#[tokio::test]
async fn a_hub_whose_successor_is_gone_ends_with_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut hub = command(directory.path(), 1).start().await.expect("it starts");
    let mut successor = UnixStream::connect(directory.path().join("handover")).expect("it waits");
    while read_byte(&mut successor) != b'E' {}
    // What is sent to it from now on fails, as if it had ended.
    successor.shutdown(Shutdown::Read).expect("it is open");
    successor.write_all(b"E").expect("it waits");
    let status = hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", hub.stderr());
    assert!(hub.stderr().contains("the process that took over is gone"), "{}", hub.stderr());
}

#[tokio::test]
async fn a_successor_that_stalls_holds_up_neither_a_signal_nor_another_successor() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut hub = command(directory.path(), 1).start().await.expect("it starts");
    let mut stalls = UnixStream::connect(directory.path().join("handover")).expect("it waits");
    read_byte(&mut stalls);
    let next = command(directory.path(), 1).listen(hub.address()).arg("--take-over");
    let mut next = next.start().await.expect("it takes over");
    assert_eq!(hub.wait(PATIENCE).await.expect("it ends").code(), Some(0), "{}", hub.stderr());
    let mut stalls = UnixStream::connect(directory.path().join("handover")).expect("it waits");
    read_byte(&mut stalls);
    next.terminate().expect("it runs");
    let status = next.wait(SOON).await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", next.stderr());
}

#[tokio::test]
async fn a_hub_that_drains_is_waited_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let hub = command(directory.path(), 1).settings(&[("drain_delay_s", "1")]);
    let mut hub = hub.start().await.expect("it starts");
    publish_one(hub.address(), 0).await.expect("published");
    hub.terminate().expect("it runs");
    let deadline = Instant::now() + PATIENCE;
    while !hub.stderr().contains("the drain begins after the delay") {
        assert!(Instant::now() < deadline, "{}", hub.stderr());
        sleep(Duration::from_millis(5)).await;
    }
    let next = command(directory.path(), 1).listen(hub.address()).arg("--take-over");
    let next = next.start().await.expect("it starts");
    assert_eq!(hub.wait(PATIENCE).await.expect("it ends").code(), Some(0), "{}", hub.stderr());
    publish_one(next.address(), 1).await.expect("published");
}

#[tokio::test]
async fn sigterm_ends_a_process_that_waits_for_its_predecessor() {
    let directory = tempfile::tempdir().expect("a directory");
    let silent = UnixListener::bind(directory.path().join("handover")).expect("it is bound");
    let mut waiting = Command::new(env!("CARGO_BIN_EXE_visnyk"))
        .args(["serve", "--listen", "127.0.0.1:0", "--take-over", "--data-dir"])
        .arg(directory.path())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let asked = timeout(PATIENCE, silent.accept()).await.expect("in time").expect("it asks");
    let id = waiting.id().expect("it runs").to_string();
    assert!(Command::new("kill").arg(id).status().await.expect("kill runs").success());
    let status = timeout(SOON, waiting.wait()).await.expect("in time").expect("it ends");
    assert_eq!(status.code(), Some(0));
    drop(asked);
}

#[tokio::test]
async fn a_directory_with_a_long_path_is_taken_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let long = directory.path().join("x".repeat(120));
    let mut hub = command(&long, 1).start().await.expect("it starts");
    let next = command(&long, 1).listen(hub.address()).arg("--take-over");
    let _next = next.start().await.expect("it takes over");
    assert_eq!(hub.wait(PATIENCE).await.expect("it ends").code(), Some(0), "{}", hub.stderr());
    assert!(hub.stderr().contains("another process takes over"), "{}", hub.stderr());
}

fn read_byte(stream: &mut UnixStream) -> u8 {
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("it passes its sockets on");
    byte[0]
}

/// Less than what a hub waits for another process.
const SOON: Duration = Duration::from_secs(15);

fn command(directory: &Path, shards: usize) -> HubCommand {
    HubCommand::new(env!("CARGO_BIN_EXE_visnyk"))
        .args([Path::new("--data-dir"), directory])
        .settings(&[("shards", &shards.to_string()), ("log.segment_bytes", "1048576")])
}

fn from(position: &str) -> SseRequest {
    SseRequest::new("/v1/events?channel=a").from(position)
}

/// Follows until it has the last event, over any number of connections.
async fn follow(address: SocketAddr, mut client: SseClient) -> Vec<String> {
    let mut received = Vec::new();
    loop {
        let block = match client.next_block(PATIENCE).await {
            Ok(Some(block)) => block,
            _ => {
                let position = client.position().expect("it has begun").to_owned();
                let again = SseClient::connect(address, &from(&position)).await;
                client = again.expect("no connection is refused");
                continue;
            }
        };
        match (block.event.as_deref(), block.data) {
            (None, Some(data)) if data == "end" => return received,
            (None, Some(data)) => received.push(data),
            (Some(event), data) => panic!("{event}: {data:?}"),
            (None, None) => {}
        }
    }
}

/// Publishes one number after the other, each until it is acknowledged, and an end mark at the end.
fn publish(address: SocketAddr, is_over: Arc<AtomicBool>) -> JoinHandle<usize> {
    tokio::spawn(async move {
        let mut published = 0;
        while !is_over.load(Ordering::Relaxed) {
            publish_one(address, published).await.expect("acknowledged");
            published += 1;
        }
        let mut exchange = Exchange::new(address);
        let target = "/v1/channels/a/events";
        let answer = exchange.request("POST", target, &[], b"end", PATIENCE).await;
        assert_eq!(answer.expect("an answer").status(), 201);
        published
    })
}

async fn publish_one(address: SocketAddr, number: usize) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let (key, data) = (format!("key-{number}"), number.to_string());
    loop {
        let mut exchange = Exchange::new(address);
        let fields = [("Idempotency-Key", key.as_str())];
        let target = "/v1/channels/a/events";
        let answer = exchange.request("POST", target, &fields, data.as_bytes(), PATIENCE).await;
        let failure = match answer {
            Ok(answer) if answer.status() == 201 => return Ok(()),
            Ok(answer) if answer.status() == 503 => answer.body,
            Ok(answer) => return Err(answer.body),
            // The hub ended before it answered.
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline {
            return Err(failure);
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Opens connections all the time; none may be refused.
fn connect(address: SocketAddr, is_over: Arc<AtomicBool>) -> JoinHandle<usize> {
    tokio::spawn(async move {
        let mut connects = 0;
        while !is_over.load(Ordering::Relaxed) {
            let connected = TcpStream::connect(address).await;
            connected.expect("no connection is refused");
            connects += 1;
            sleep(Duration::from_millis(2)).await;
        }
        connects
    })
}
