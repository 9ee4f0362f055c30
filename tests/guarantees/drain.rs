//! Going down, in the real binary: SIGTERM while hundreds of streams are open and publishing goes
//! on.

use std::time::Duration;

use crate::support::{PATIENCE, TestHub, data_of};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use visnyk_loadtest::{PollClient, Publisher, SseClient, SseRequest};

const WINDOW: Duration = Duration::from_secs(4);
const WINDOW_SETTING: (&str, &str) = ("DRAIN_WINDOW_S", "4");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_streams_are_closed_over_the_window_each_with_its_own_retry() {
    const STREAMS: usize = 500;
    let mut hub = TestHub::start(&[WINDOW_SETTING, ("SHARDS", "1")]).await;
    let mut streams = Vec::new();
    for number in 0..STREAMS {
        let query = ["channel=a", "channel=a&channel=b", "channel=**"][number % 3];
        streams.push(hub.stream(query, "now").await);
    }
    let before = hub.publish("a", "before").await;
    let begun = Instant::now();
    hub.terminate().expect("it runs");
    hub.wait_for_line("draining", PATIENCE).await.expect("a line");

    let mut ends = JoinSet::new();
    for (number, mut stream) in streams.into_iter().enumerate() {
        let before = before.clone();
        ends.spawn(async move {
            assert_eq!(data_of(&mut stream, 1).await, ["before"], "stream {number}");
            let mut retries = Vec::new();
            while let Some(block) = stream.next_block(PATIENCE).await.expect("a block or the end") {
                assert_eq!(block.data, None, "stream {number}");
                retries.extend(block.retry_ms);
            }
            let [retry] = retries[..] else { panic!("stream {number}: {retries:?}") };
            assert_eq!(stream.position(), Some(before.as_str()), "where to go on");
            (begun.elapsed(), retry)
        });
    }
    let ends = ends.join_all().await;

    // Uniform over the window: a tenth of it sees about fifty ends, never half or twice that and
    // more (5 deviations are 34).
    let mut tenths = [0; 10];
    for (after, _) in &ends {
        assert!(*after < WINDOW + Duration::from_millis(700), "ended after {after:?}");
        let tenth = after.as_secs_f64() / WINDOW.as_secs_f64() * 10.0;
        tenths[(tenth as usize).min(9)] += 1;
    }
    println!("ends in each tenth of the window: {tenths:?}");
    assert!(tenths.iter().all(|count| (10..=100).contains(count)), "{tenths:?}");
    // Uniform between the bounds of the setting, too: of 2,001 values 500 draws leave few alike.
    let mut retries: Vec<u64> = ends.iter().map(|(_, retry)| *retry).collect();
    retries.sort_unstable();
    assert!(retries[0] >= 2_000 && retries[STREAMS - 1] <= 4_000, "{retries:?}");
    assert!(retries[0] < 2_200 && retries[STREAMS - 1] > 3_800, "{retries:?}");
    retries.dedup();
    println!("{} different reconnection times", retries.len());
    assert!(retries.len() > STREAMS / 2, "{}", retries.len());

    let status = hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", hub.stderr());
    let after = begun.elapsed();
    assert!(after < WINDOW + Duration::from_secs(3), "it took {after:?}");
}

#[tokio::test]
async fn signals_that_are_meant_for_other_servers_end_nothing() {
    let mut hub = TestHub::start(&[WINDOW_SETTING]).await;
    let mut stream = hub.stream("channel=a", "now").await;
    for (signal, name) in [(Signal::HUP, "HUP"), (Signal::USR1, "USR1"), (Signal::USR2, "USR2")] {
        hub.signal(signal).expect("it runs");
        hub.wait_for_line(&format!("SIG{name}"), PATIENCE).await.expect("a line");
    }
    hub.publish("a", "still here").await;
    assert_eq!(data_of(&mut stream, 1).await, ["still here"]);

    // Nor do they cut a drain short.
    let begun = Instant::now();
    hub.terminate().expect("it runs");
    hub.wait_for_line("draining", PATIENCE).await.expect("a line");
    hub.signal(Signal::HUP).expect("it runs");
    hub.wait_for_line("ignoring the reload: the hub is draining", PATIENCE).await.expect("a line");
    while stream.next_block(PATIENCE).await.expect("a block or the end").is_some() {}
    let status = hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", hub.stderr());
    assert!(!hub.stderr().contains("a second signal"), "{}", hub.stderr());
    assert!(begun.elapsed() < WINDOW + Duration::from_secs(3));
}

#[tokio::test]
async fn while_it_drains_it_says_so_and_refuses_as_clients_understand() {
    let mut hub = TestHub::start(&[WINDOW_SETTING, ("SHARDS", "1")]).await;
    let _open = streams(&hub, 200).await;
    assert_eq!(hub.get("/readyz").await.status(), 200);
    let mut kept = Publisher::new(hub.address());
    assert_eq!(kept.publish("a", "x").await.expect("an answer").status(), 201);
    hub.terminate().expect("it runs");
    hub.wait_for_line("draining", PATIENCE).await.expect("a line");

    let deadline = Instant::now() + Duration::from_secs(1);
    while hub.get("/readyz").await.status() != 503 {
        assert!(Instant::now() < deadline, "it says that it is ready");
    }
    assert_eq!(hub.get("/healthz").await.status(), 200, "it is alive");
    // A connection that is kept alive is closed with its next answer.
    let refused = kept.publish("a", "x").await.expect("an answer");
    assert_eq!((refused.status(), refused.head.field("connection")), (503, Some("close")));
    // A new stream is refused so that EventSource tries again, later and elsewhere.
    let mut refused = hub.open(&SseRequest::new("/v1/events?channel=a")).await;
    let block = refused.next_block(PATIENCE).await.expect("a block").expect("words");
    assert!(block.comment.expect("why").contains("going down"));
    assert!(block.retry_ms.is_some());
    assert_eq!(refused.next_block(PATIENCE).await.expect("a block"), None, "and the end");
    // A poll that would wait is refused by its status; what is there it may still have.
    let answer = hub.get("/v1/poll?channel=a").await;
    assert_eq!(answer.status(), 503);
    assert!(answer.head.field("retry-after").is_some());

    let status = hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", hub.stderr());
    assert!(hub.stderr().contains("stopped"), "{}", hub.stderr());
}

#[tokio::test]
async fn waiting_polls_are_answered_within_the_window() {
    const POLLS: usize = 100;
    let mut hub = TestHub::start(&[WINDOW_SETTING]).await;
    let start = hub.publish("a", "before").await;
    let begun = Instant::now();
    let mut polls = JoinSet::new();
    for _ in 0..POLLS {
        let (address, start) = (hub.address(), start.clone());
        polls.spawn(async move {
            let target = "/v1/poll?channel=a&timeout=60";
            let mut poll = PollClient::new(address, target).from(&start);
            let answer = poll.next(PATIENCE).await.expect("an answer");
            assert_eq!(answer.answer.status(), 204);
            assert_eq!(answer.answer.head.field("connection"), Some("close"));
            assert_eq!(poll.position(), Some(start.as_str()), "where to go on");
        });
    }
    hub.wait_for_metric("visnyk_pollers", |pollers| pollers == POLLS as f64).await;
    let draining = Instant::now();
    hub.terminate().expect("it runs");
    polls.join_all().await;
    let (all, after) = (begun.elapsed(), draining.elapsed());
    assert!(after < WINDOW + Duration::from_millis(700), "answered after {after:?} of {all:?}");
    let status = hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", hub.stderr());
}

#[tokio::test]
async fn clients_between_two_polls_get_what_was_acknowledged() {
    // The end of the drain is that of the test.
    let settings = [("DRAIN_WINDOW_S", "600"), ("LIMITS__POLL__DRAIN_PAUSE_MS", "600000")];
    let mut hub = TestHub::start(&settings).await;
    let start = hub.publish("a", "first").await;
    let target = "/v1/poll?channel=a&limit=1";
    let mut kept = PollClient::new(hub.address(), target).from(&start);
    let mut closed =
        PollClient::new(hub.address(), target).from(&start).field("Connection", "close");
    hub.publish("a", "second").await;
    for poll in [&mut kept, &mut closed] {
        assert_eq!(poll.next(PATIENCE).await.expect("an answer").events[0].data, "second");
    }
    for data in ["third", "fourth"] {
        hub.publish("a", data).await;
    }
    // No client is connected but one whose connection is idle.
    hub.terminate().expect("it runs");
    hub.wait_for_line("draining", PATIENCE).await.expect("a line");
    for poll in [&mut kept, &mut closed] {
        for data in ["third", "fourth"] {
            let answer = poll.next(PATIENCE).await.expect("an answer");
            assert_eq!(answer.events[0].data, data);
            assert_eq!(answer.answer.head.field("connection"), Some("close"));
        }
        let refused = poll.next(PATIENCE).await.expect("an answer").answer;
        assert_eq!(refused.status(), 503, "it has everything");
        assert!(refused.head.field("retry-after").is_some());
    }
    let after = format!("/subscribe?after={start}");
    assert_eq!(hub.get(&after).await.status(), 503, "another channel, which has no events");
    hub.terminate().expect("it runs");
    assert_eq!(hub.wait(PATIENCE).await.expect("it ends").code(), Some(0), "{}", hub.stderr());
}

#[tokio::test]
async fn a_drain_waits_for_the_next_polls_no_longer_than_is_set() {
    for (window_s, pause_ms) in [("600", "100"), ("600", "0"), ("1", "600000")] {
        let settings = [("DRAIN_WINDOW_S", window_s), ("LIMITS__POLL__DRAIN_PAUSE_MS", pause_ms)];
        let mut hub = TestHub::start(&settings).await;
        let start = hub.publish("a", "first").await;
        let mut poll = PollClient::new(hub.address(), "/v1/poll?channel=a").from(&start);
        hub.publish("a", "second").await;
        poll.next(PATIENCE).await.expect("an answer");
        hub.publish("a", "third").await;
        hub.terminate().expect("it runs");
        assert_eq!(hub.wait(PATIENCE).await.expect("it ends").code(), Some(0), "{}", hub.stderr());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_read_miss_no_acknowledged_event() {
    let mut hub = TestHub::start(&[WINDOW_SETTING]).await;
    let address = hub.address();
    let start = hub.publish("a", "first").await;
    let mut clients = JoinSet::new();
    for query in ["channel=a", "channel=a", "channel=a&channel=b", "channel=**"] {
        let mut stream = hub.stream(query, &start).await;
        clients.spawn(async move {
            let mut received = Vec::new();
            while let Some(block) = stream.next_block(PATIENCE).await.expect("a block or the end") {
                received.extend(block.data);
            }
            (query, received)
        });
    }
    for query in ["channel=a", "channel=a&channel=b"] {
        let mut poll = PollClient::new(address, &format!("/v1/poll?{query}")).from(&start);
        clients.spawn(async move {
            let mut received = Vec::new();
            loop {
                let answer = poll.next(PATIENCE).await.expect("an answer");
                if answer.answer.status() == 503 {
                    return (query, received);
                }
                received.extend(answer.events.into_iter().map(|event| event.data));
            }
        });
    }
    // Publishers that stop when they are refused.
    let mut publishers = JoinSet::new();
    for number in 0..4 {
        publishers.spawn(async move {
            let mut publisher = Publisher::new(address);
            let mut acknowledged = Vec::new();
            for event in 0.. {
                let data = format!("{number}-{event}");
                let answer = publisher.publish("a", &data).await.expect("an answer");
                if answer.status() != 201 {
                    assert_eq!(answer.status(), 503, "{}", answer.body);
                    assert!(answer.head.field("retry-after").is_some());
                    assert_eq!(answer.head.field("connection"), Some("close"));
                    break;
                }
                acknowledged.push(data);
            }
            acknowledged
        });
    }
    hub.wait_for_metric("visnyk_events_published_total", |events| events > 400.0).await;
    hub.terminate().expect("it runs");
    let mut acknowledged = publishers.join_all().await.concat();
    let clients = clients.join_all().await;
    let status = hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", hub.stderr());

    println!("{} events acknowledged", acknowledged.len());
    acknowledged.sort_unstable();
    assert_eq!(clients.len(), 6);
    for (query, mut received) in clients {
        received.sort_unstable();
        assert!(received == acknowledged, "{query}: {} events", received.len());
    }
}

#[tokio::test]
async fn retries_across_a_restart_deliver_once_in_each_log_and_clients_get_a_gap() {
    let settings = [("DRAIN_WINDOW_S", "1"), ("SHARDS", "1")];
    let mut hub = TestHub::start(&settings).await;
    let address = hub.address();
    let mut stream = hub.stream("channel=a", "now").await;
    let _others = streams(&hub, 50).await;
    let keyed = [("Idempotency-Key", "the key")];
    let first = hub.request("POST", "/v1/channels/a/events", &keyed, "once").await;
    assert_eq!(first.status(), 201);
    hub.terminate().expect("it runs");
    hub.wait_for_line("draining", PATIENCE).await.expect("a line");
    // Its answer, let us say, was lost: the publisher tries again, and again, until some hub
    // answers.
    let again = hub.request("POST", "/v1/channels/a/events", &keyed, "once").await;
    assert_eq!(again.status(), 503, "the event is gone with this process");
    assert_eq!(data_of(&mut stream, 1).await, ["once"]);
    while let Some(block) = stream.next_block(PATIENCE).await.expect("a block or the end") {
        assert_eq!(block.data, None, "once");
    }
    assert_eq!(hub.wait(PATIENCE).await.expect("it ends").code(), Some(0));

    let hub = TestHub::start_at(address, &settings).await;
    let mut publisher = Publisher::new(address);
    for attempt in 0..3 {
        let answer = publisher.post("/v1/channels/a/events", &keyed, "once").await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 201, "{}", answer.body);
        let replayed = answer.head.field("idempotent-replayed").is_some();
        assert_eq!(replayed, attempt > 0, "memory does not outlive the process; then it holds");
    }
    let old = stream.position().expect("a position");
    assert_eq!(hub.retained("channel=a", old).await, ["once"]);
    let gap = hub.poll_now("channel=a", old).await["gap"].clone();
    assert_eq!(gap["reason"], "epoch", "it can tell that this is another log");
}

#[tokio::test]
async fn clients_that_do_not_read_and_idle_connections_delay_no_drain() {
    let mut hub = TestHub::start(&[("DRAIN_WINDOW_S", "2")]).await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.push(hub.open(&stopped_reader()).await);
    }
    // Kept alive, and with half a request.
    let _idle = fill(&hub).await;
    let mut half = TcpStream::connect(hub.address()).await.expect("it accepts");
    half.write_all(b"GET /v1/events?channel=a HTTP/1.1\r\nHost: ").await.expect("it reads");
    let begun = Instant::now();
    hub.terminate().expect("it runs");
    let status = hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", hub.stderr());
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    assert!(!hub.stderr().contains("are left"), "{}", hub.stderr());
}

#[tokio::test]
async fn request_under_way_when_the_streams_have_ended_is_answered() {
    let mut hub = TestHub::start(&[("DRAIN_WINDOW_S", "1")]).await;
    let mut half = TcpStream::connect(hub.address()).await.expect("it accepts");
    let head = "POST /v1/channels/a/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\
                Expect: 100-continue\r\nConnection: close\r\nContent-Length: 4\r\n\r\n";
    half.write_all(head.as_bytes()).await.expect("it reads");
    // The hub asks for the body: the request is under way.
    let mut go_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    half.read_exact(&mut go_on).await.expect("a word");
    assert!(go_on.starts_with(b"HTTP/1.1 100"), "{go_on:?}");
    half.write_all(b"da").await.expect("it reads");
    hub.terminate().expect("it runs");
    hub.wait_for_line("draining", PATIENCE).await.expect("a line");
    // Nothing else is open: what it waits for now is the rest of this body.
    half.write_all(b"ta").await.expect("it reads");
    let mut answer = String::new();
    half.read_to_string(&mut answer).await.expect("an answer and the end");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let status = hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", hub.stderr());
}

#[tokio::test]
async fn a_handful_of_streams_ends_soon() {
    let mut hub = TestHub::start(&[("DRAIN_WINDOW_S", "60")]).await;
    let _streams = streams(&hub, 5).await;
    let begun = Instant::now();
    hub.terminate().expect("it runs");
    let status = hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", hub.stderr());
    // Within a second, and as long again on a machine that does other things.
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
}

#[tokio::test]
async fn before_a_drain_it_is_not_ready_and_serves_for_as_long_as_is_set() {
    let mut hub = TestHub::start(&[("DRAIN_DELAY_S", "60")]).await;
    let mut stream = hub.stream("channel=a", "now").await;
    hub.terminate().expect("it runs");
    hub.wait_for_line("not ready", PATIENCE).await.expect("a line");
    assert_eq!(hub.get("/readyz").await.status(), 503);
    hub.publish("a", "still served").await;
    assert_eq!(data_of(&mut stream, 1).await, ["still served"]);
    hub.stream("channel=b", "now").await;
    // A second signal begins the drain.
    hub.terminate().expect("it runs");
    let status = hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", hub.stderr());

    let mut hub = TestHub::start(&[("DRAIN_DELAY_S", "1")]).await;
    hub.terminate().expect("it runs");
    let status = hub.wait(PATIENCE).await.expect("it ends by itself");
    assert_eq!(status.code(), Some(0), "{}", hub.stderr());
}

#[tokio::test]
async fn second_signal_cuts_the_drain_short() {
    let mut hub = TestHub::start(&[("DRAIN_WINDOW_S", "60")]).await;
    let mut stopped = hub.open(&stopped_reader()).await;
    stopped.next_block(PATIENCE).await.expect("a block").expect("a block");
    fill(&hub).await;
    hub.terminate().expect("it runs");
    hub.wait_for_line("draining", PATIENCE).await.expect("a line");
    let begun = Instant::now();
    hub.terminate().expect("it runs");
    let status = hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", hub.stderr());
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn hub_without_connections_ends_at_once() {
    let mut hub = TestHub::start(&[("DRAIN_WINDOW_S", "60")]).await;
    hub.publish("a", "x").await;
    let begun = Instant::now();
    hub.terminate().expect("it runs");
    let status = hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", hub.stderr());
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// So many streams of a channel.
async fn streams(hub: &TestHub, count: usize) -> Vec<SseClient> {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(hub.stream("channel=a", "now").await);
    }
    streams
}

/// A stream of `a` that takes little more than its first block.
fn stopped_reader() -> SseRequest {
    SseRequest::new("/v1/events?channel=a&slow=skip").receive_buffer_bytes(1)
}

/// Publishes more to `a` than sockets take; gives the connection that it used.
async fn fill(hub: &TestHub) -> Publisher {
    let mut publisher = Publisher::new(hub.address());
    let long = "x".repeat(100_000);
    for _ in 0..5 {
        assert_eq!(publisher.publish("a", &long).await.expect("an answer").status(), 201);
    }
    publisher
}
