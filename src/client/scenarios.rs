//! Publisher and subscription against a server that plays a script.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;

/// What the script does with one request. Each is on a connection of its own.
enum Reply {
    /// Writes this and closes.
    Say(String),
    /// Writes this and leaves the connection open.
    Hold(String),
}

/// A server that answers the requests in turn, then refuses connections.
struct Script {
    endpoint: Endpoint,
    requests: mpsc::Receiver<String>,
}

impl Script {
    async fn play(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (sender, requests) = mpsc::channel(100);
        tokio::spawn(async move {
            let mut held = Vec::new();
            for reply in replies {
                let (mut socket, _) = listener.accept().await.expect("accepting");
                let request = read_request(&mut socket).await;
                sender.send(request).await.expect("the test reads on");
                let (Reply::Say(text) | Reply::Hold(text)) = &reply;
                socket.write_all(text.as_bytes()).await.expect("the client reads on");
                if matches!(reply, Reply::Hold(_)) {
                    held.push(socket);
                }
            }
            drop(listener);
            std::future::pending::<()>().await;
        });
        let endpoint = Endpoint::parse(&format!("http://{address}")).expect("valid");
        Self { endpoint, requests }
    }

    fn next_request(&mut self) -> String {
        self.requests.try_recv().expect("a request was made").to_ascii_lowercase()
    }
}

async fn read_request(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        assert_ne!(socket.read_buf(&mut bytes).await.expect("readable"), 0, "cut off");
        let text = String::from_utf8(bytes.clone()).expect("UTF-8");
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() == length.map_or(0, |length| length.parse().expect("a number")) {
            return text;
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    )
}

fn stream(blocks: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n{blocks}"
    )
}

fn block(id: &str, data: &str) -> String {
    format!("event: t\ndata: {}\nid: {id}\n\n", envelope(id, data))
}

fn envelope(id: &str, data: &str) -> String {
    format!(
        r#"{{"id":"{id}","channel":"a","type":"t","time":"2026-01-02T03:04:05.678Z","data":"{data}"}}"#
    )
}

fn subscribe(script: &Script, change: impl FnOnce(&mut SubscribeOptions)) -> Subscription {
    let mut options = SubscribeOptions::new(vec!["a".into()]);
    change(&mut options);
    Subscription::new(script.endpoint.clone(), options)
}

/// Updates in short until the end, which is the last.
async fn follow(subscription: &mut Subscription) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let update = tokio::time::timeout(Duration::from_secs(20), subscription.next());
        seen.push(match update.await.expect("in time") {
            Ok(Some(Update::Opened { position })) => format!("opened {position}"),
            Ok(Some(Update::Event(event))) => format!("{} {}", event.id, event.data),
            Ok(Some(Update::Gap(gap))) => format!("gap {}", gap.reason),
            Ok(Some(Update::Closed { channel })) => format!("closed {channel}"),
            Ok(Some(Update::Reconnecting { failure, .. })) => format!("lost: {failure}"),
            Ok(None) => {
                seen.push("end".into());
                return seen;
            }
            Err(error) => {
                seen.push(format!("error: {error}"));
                return seen;
            }
        });
    }
}

#[tokio::test]
async fn stream_resumes_behind_what_was_received() {
    let first = format!("retry: 10\nid: p0\n\n{}id: p5\n\ndata: half", block("p1", "one"));
    let mut script = Script::play(vec![
        Reply::Say(stream(&first)),
        Reply::Say(answer("502 Bad Gateway", "", "<html>")),
        Reply::Say(stream(&format!("id: p5\n\n{}", block("p6", "two")))),
        Reply::Say(answer("204 No Content", "", "")),
    ])
    .await;
    script.endpoint = script.endpoint.with_token("secret").expect("valid");
    let mut subscription = subscribe(&script, |options| options.types = vec!["t".into()]);
    assert_eq!(
        follow(&mut subscription).await,
        [
            "opened p0",
            "p1 one",
            "lost: the stream ended",
            "lost: 502 Bad Gateway",
            "opened p5",
            "p6 two",
            "lost: the stream ended",
            "closed a",
            "end"
        ]
    );
    assert_eq!(subscription.position().as_str(), "p6");
    let first = script.next_request();
    assert!(first.starts_with("get /v1/events?channel=a&type=t&format=envelope http/1.1\r\n"));
    assert!(first.contains("\r\nauthorization: bearer secret\r\n"), "{first}");
    for position in ["p5", "p5", "p6"] {
        let again = script.next_request();
        assert!(again.contains(&format!("\r\nlast-event-id: {position}\r\n")), "{again}");
    }
}

#[tokio::test]
async fn has_next_says_whether_the_next_update_is_here_already() {
    let blocks = format!("id: p0\n\n{}{}id: p3\n\n", block("p1", "one"), block("p2", "two"));
    let script = Script::play(vec![Reply::Hold(stream(&blocks))]).await;
    let mut subscription = subscribe(&script, |_| {});
    assert!(!subscription.has_next());
    for left in [true, true, false] {
        let update = subscription.next().await.expect("it goes on");
        assert!(update.is_some());
        assert_eq!(subscription.has_next(), left);
    }
    // A position alone does not count.
    assert_eq!(subscription.position().as_str(), "p2");
}

#[tokio::test]
async fn pieces_that_have_come_are_read_together() {
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let events = ["p1", "p2", "p3", "p4"].map(|id| chunk(&block(id, "x")));
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let text = format!("{head}{}{}", chunk("id: p0\n\n"), events.concat());
    let script = Script::play(vec![Reply::Hold(text)]).await;
    let mut subscription = subscribe(&script, |_| {});
    for left in [true, true, true, true, false] {
        let update = subscription.next().await.expect("it goes on");
        assert!(update.is_some());
        assert_eq!(subscription.has_next(), left);
    }
    assert_eq!(subscription.position().as_str(), "p4");
}

#[tokio::test]
async fn gap_and_closed_channels_are_reported_and_the_last_channel_ends_it() {
    let blocks = concat!(
        "id: p0\n\nevent: visnyk.gap\ndata: {\"reason\":\"evicted\",\"requested\":\"p0\",\"oldest\":\"p3\"}\nid: p3\n\n",
        "event: visnyk.later\ndata: x\nid: p4\n\n",
        "event: visnyk.closed\ndata: a\nid: p5\n\n"
    );
    let script = Script::play(vec![Reply::Say(stream(blocks))]).await;
    let mut subscription = subscribe(&script, |_| {});
    assert_eq!(follow(&mut subscription).await, ["opened p0", "gap evicted", "closed a", "end"]);
    assert_eq!(subscription.position().as_str(), "p5");
}

#[tokio::test]
async fn refusal_inside_a_stream_is_tried_again_with_its_reason() {
    let script = Script::play(vec![
        Reply::Say(stream(": too many connections\nretry: 10\n\n")),
        Reply::Say(answer("410 Gone", "", "{}")),
    ])
    .await;
    assert_eq!(
        follow(&mut subscribe(&script, |_| {})).await,
        ["lost: the hub refused for now: too many connections", "closed a", "end"]
    );
}

#[tokio::test]
async fn permanent_refusals_and_unexpected_answers_end_it() {
    let problem = r#"{"title":"Bad channel","status":400,"detail":"empty segment"}"#;
    let cases = [
        (
            answer("400 Bad Request", "", problem),
            "error: the hub refused: 400 Bad Request: empty segment",
        ),
        (answer("302 Found", "Location: /x\r\n", ""), "error: the hub refused: 302 Found"),
        (
            answer("200 OK", "Content-Type: text/html\r\n", "<html>"),
            "error: the answer is `text/html`, not an event stream",
        ),
        (stream("id: a b\n\n"), "error: the hub sent a position that makes no sense: a b"),
        (stream("data: x\n\n"), "error: the hub sent an event that makes no sense: x"),
    ];
    for (reply, expected) in cases {
        let script = Script::play(vec![Reply::Say(reply)]).await;
        let seen = follow(&mut subscribe(&script, |_| {})).await;
        assert_eq!(seen.last().map(String::as_str), Some(expected));
    }
}

#[tokio::test]
async fn what_came_before_a_broken_bound_is_given_out() {
    let blocks = format!("id: p0\n\n{}data: {}", block("p1", "one"), "x".repeat(2_000));
    let script = Script::play(vec![Reply::Say(stream(&blocks))]).await;
    let mut subscription = subscribe(&script, |options| {
        options.sse_limits = SseLimits { line_bytes_max: 1_000, event_bytes_max: 1_000 };
    });
    assert_eq!(
        follow(&mut subscription).await,
        ["opened p0", "p1 one", "error: the stream cannot be read on"]
    );
    assert!(matches!(subscription.next().await, Ok(None)));
}

#[tokio::test]
async fn silent_stream_counts_as_broken() {
    let script = Script::play(vec![
        Reply::Hold(stream("retry: 10\nid: p0\n\n")),
        Reply::Say(answer("204 No Content", "", "")),
    ])
    .await;
    let silence_max = Duration::from_millis(100);
    let mut subscription = subscribe(&script, |options| options.silence_max = silence_max);
    assert_eq!(
        follow(&mut subscription).await,
        ["opened p0", "lost: nothing came for 0.1 s", "closed a", "end"]
    );
}

#[tokio::test]
async fn polls_go_on_from_position_to_position() {
    let json = "Content-Type: application/json\r\n";
    let events = format!(r#"{{"events":[{}],"position":"p3"}}"#, envelope("p1", "one"));
    let gap = format!(
        r#"{{"events":[{}],"position":"q2","gap":{{"reason":"epoch","requested":"p3","oldest":"q1"}}}}"#,
        envelope("q2", "two")
    );
    let mut script = Script::play(vec![
        Reply::Say(answer("204 No Content", "Last-Event-ID: p0\r\n", "")),
        Reply::Say(answer("200 OK", json, &events)),
        Reply::Say(answer("503 Service Unavailable", "Retry-After: 0\r\n", "")),
        Reply::Say(answer("200 OK", json, &gap)),
        Reply::Say(answer("410 Gone", "", "")),
    ])
    .await;
    let mut subscription = subscribe(&script, |options| {
        options.transport = Transport::Poll;
        options.from = Position::EARLIEST;
    });
    assert_eq!(
        follow(&mut subscription).await,
        [
            "opened p0",
            "p1 one",
            "lost: 503 Service Unavailable",
            "opened q2",
            "gap epoch",
            "q2 two",
            "closed a",
            "end"
        ]
    );
    for (timeout, position) in [(0, "earliest"), (20, "p0"), (20, "p3"), (0, "p3"), (20, "q2")] {
        let request = script.next_request();
        let line = format!("get /v1/poll?channel=a&timeout={timeout}&limit=100 http/1.1\r\n");
        assert!(request.starts_with(&line), "{request}");
        assert!(request.contains(&format!("\r\nlast-event-id: {position}\r\n")), "{request}");
    }
}

#[tokio::test]
async fn channel_that_closes_during_a_poll_is_reported_once() {
    let closed = envelope("p2", "a").replace(r#""type":"t""#, r#""type":"visnyk.closed""#);
    let events = format!(r#"{{"events":[{},{closed}],"position":"p2"}}"#, envelope("p1", "one"));
    let script = Script::play(vec![
        Reply::Say(answer("200 OK", "", &events)),
        Reply::Say(answer("410 Gone", "", "")),
    ])
    .await;
    let mut subscription = subscribe(&script, |options| options.transport = Transport::Poll);
    assert_eq!(follow(&mut subscription).await, ["opened p2", "p1 one", "closed a", "end"]);
}

#[tokio::test]
async fn cancelled_next_loses_nothing() {
    let events = block("p1", "one") + &block("p2", "two");
    let script = Script::play(vec![Reply::Hold(stream(&format!("id: p0\n\n{events}")))]).await;
    let mut subscription = subscribe(&script, |_| {});
    assert!(matches!(subscription.next().await, Ok(Some(Update::Opened { .. }))));
    let mut seen = 0;
    while seen < 2 {
        tokio::select! {
            biased;
            update = subscription.next() => seen += usize::from(matches!(update, Ok(Some(_)))),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(subscription.position().as_str(), "p2");
}

const ACCEPTED: &str = r#"{"accepted":2,"first_id":"p1","last_id":"p2"}"#;

fn two_events() -> Batch {
    let mut batch = Batch::to("a/b");
    batch.push(&Envelope::text("one")).expect("room");
    batch.push(&Envelope::text("two")).expect("room");
    batch
}

#[tokio::test]
async fn batch_is_repeated_under_its_key_until_it_is_acknowledged() {
    let mut script = Script::play(vec![
        Reply::Say(String::new()),
        Reply::Say(answer("503 Service Unavailable", "Retry-After: 0\r\n", "{}")),
        Reply::Say("HTTP/1.1 201 Created\r\nContent-Length: 40\r\n\r\n{\"acce".into()),
        Reply::Say(answer("201 Created", "Idempotent-Replayed: true\r\n", ACCEPTED)),
    ])
    .await;
    let publisher = Publisher::new(script.endpoint.clone(), PublisherOptions::default());
    let accepted = publisher.publish_batch(two_events()).await.expect("accepted");
    assert_eq!((accepted.accepted, accepted.last_id.as_str()), (2, "p2"));
    assert!(accepted.replayed);
    let first = script.next_request();
    assert!(first.starts_with("post /v1/channels/a%2fb/events http/1.1\r\n"), "{first}");
    assert!(first.contains("\r\nidempotency-key: "), "{first}");
    assert!(first.ends_with("\r\n\r\n{\"data\":\"one\"}\n{\"data\":\"two\"}\n"), "{first}");
    for _ in 0..3 {
        assert_eq!(script.next_request(), first);
    }
}

#[tokio::test]
async fn refused_batch_is_not_repeated() {
    let problem = r#"{"detail":"`data` is missing","line":2}"#;
    let script = Script::play(vec![Reply::Say(answer("400 Bad Request", "", problem))]).await;
    let publisher = Publisher::new(script.endpoint.clone(), PublisherOptions::default());
    let Err(PublishError::Refused(problem)) = publisher.publish_batch(two_events()).await else {
        panic!("it is refused");
    };
    assert_eq!(problem.line, Some(2));
}

#[tokio::test]
async fn publisher_gives_up_after_its_time_and_reports_each_attempt() {
    let script = Script::play(vec![]).await;
    let options =
        PublisherOptions { retry_for: Duration::from_millis(700), ..PublisherOptions::default() };
    let (sender, mut reports) = mpsc::channel(100);
    let publisher = Publisher::new(script.endpoint.clone(), options).on_retry(move |failure, _| {
        sender.try_send(failure.to_string()).expect("few attempts");
    });
    let Err(PublishError::GaveUp { source, .. }) = publisher.publish("a", "x", None).await else {
        panic!("nothing listens there");
    };
    assert_eq!(source.to_string(), "cannot reach the hub");
    assert_eq!(reports.try_recv().as_deref(), Ok("cannot reach the hub"));
}

#[tokio::test]
async fn single_event_travels_as_it_is() {
    let acknowledgement = r#"{"id":"p1","channel":"a"}"#;
    let mut script =
        Script::play(vec![Reply::Say(answer("201 Created", "", acknowledgement))]).await;
    let publisher = Publisher::new(script.endpoint.clone(), PublisherOptions::default());
    let published = publisher.publish("a", "x y\nz", Some("t&u")).await.expect("acknowledged");
    assert_eq!((published.id.as_str(), published.channel.as_str()), ("p1", "a"));
    let request = script.next_request();
    assert!(request.starts_with("post /v1/channels/a/events?type=t%26u http/1.1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\nx y\nz"), "{request}");
}

#[tokio::test]
async fn publishes_in_a_trace_carry_it_and_others_do_not() {
    let acknowledgement = r#"{"id":"p1","channel":"a"}"#;
    let good = || Reply::Say(answer("201 Created", "", acknowledgement));
    let away = Reply::Say(answer("503 Service Unavailable", "Retry-After: 0\r\n", "{}"));
    let mut script = Script::play(vec![good(), away, good()]).await;
    let publisher = Publisher::new(script.endpoint.clone(), PublisherOptions::default());
    publisher.publish("a", "x", None).await.expect("acknowledged");
    assert!(!script.next_request().contains("trace"));
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let context = TraceContext::parse(parent).expect("it is good").with_state("rojo=1");
    publisher.in_trace(context).publish("a", "x", None).await.expect("acknowledged");
    for _attempt in 0..2 {
        let request = script.next_request();
        assert!(request.contains(&format!("\r\ntraceparent: {parent}\r\n")), "{request}");
        assert!(request.contains("\r\ntracestate: rojo=1\r\n"), "{request}");
    }
}
