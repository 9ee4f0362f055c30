//! The log of a hub: what is in it, and how that changes while it runs.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use visnyk_loadtest::{HubCommand, PollClient, RedisServer};

use crate::{
    auth::{SECRET, mint},
    support::{PATIENCE, TestHub, data_of},
    tls::Client,
    wire::{Wire, get, request},
};

#[tokio::test]
async fn sigusr2_turns_debug_lines_on_and_off_again() {
    let mut hub = TestHub::start(&[]).await;
    for (line, ended) in [
        (None, 1.0),
        (Some("SIGUSR2: debug lines are logged; another one ends it"), 2.0),
        (Some("SIGUSR2: the log level is that of the settings again"), 3.0),
    ] {
        if let Some(line) = line {
            hub.signal(Signal::USR2).expect("it runs");
            hub.wait_for_line(line, PATIENCE).await.expect("a line");
        }
        drop(hub.stream("channel=a", "now").await);
        let closed = r#"visnyk_connections_closed_total{reason="peer_closed"}"#;
        hub.wait_for_metric(closed, |count| count == ended).await;
    }
    hub.terminate().expect("it runs");
    hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(hub.stderr().matches("connection ended").count(), 1, "{}", hub.stderr());
}

#[tokio::test]
async fn trace_has_a_line_for_each_step_of_a_delivery_and_debug_has_none() {
    let module = "visnyk::actors::shard";
    let level = format!("info,{module}=trace");
    let mut hub = logging(&[("log.level", &level), ("shards", "1")]).await;
    let mut stream = hub.stream("channel=a&channel=b", "now").await;
    let mut plain = hub.stream("channel=a", "now").await;
    hub.publish("a", "secret").await;
    for stream in [&mut stream, &mut plain] {
        assert_eq!(data_of(stream, 1).await, ["secret"]);
    }
    let mut late = hub.stream("channel=a", "earliest").await;
    assert_eq!(data_of(&mut late, 1).await, ["secret"]);
    assert_eq!(hub.request("GET", "/v1/poll?channel=a&timeout=1", &[], "").await.status(), 204);
    let last = "poll is answered";
    hub.wait_for_line(last, PATIENCE).await.expect("a line");
    let lines = lines(&hub);
    let of = |message: &str| {
        let mut of = lines.iter().filter(|line| line["message"] == message);
        let line = of.next().unwrap_or_else(|| panic!("no `{message}`: {}", hub.stderr()));
        assert_eq!(line["level"], "TRACE", "{line}");
        line
    };
    let attached = of("connection attached");
    assert_eq!(attached["channels"], r#"["a", "b"]"#, "{attached}");
    let sent = of("events are sent to streams of one channel");
    assert_eq!((&sent["channel"], &sent["events"]), (&"a".into(), &1.into()), "{sent}");
    assert_eq!(sent["first"], sent["last"], "{sent}");
    let mixed = of("events are sent to polls, and to streams that are not of one whole channel");
    assert_eq!(mixed["connections"], format!("[{}]", attached["id"]), "{mixed}");
    assert_eq!(of("history is read")["id"], of("connection has all of history")["id"]);
    assert_eq!(of(last)["events"], 0);
    assert!(!hub.stderr().contains("secret"), "{}", hub.stderr());

    let hub = logging(&[("log.level", "debug")]).await;
    let mut stream = hub.stream("channel=a", "now").await;
    hub.publish("a", "x").await;
    assert_eq!(data_of(&mut stream, 1).await, ["x"]);
    assert!(self::lines(&hub).iter().all(|line| line["level"] != "TRACE"), "{}", hub.stderr());
}

/// A hub whose log is JSON, with an access log.
async fn logging(settings: &[(&str, &str)]) -> TestHub {
    let command = HubCommand::new(env!("CARGO_BIN_EXE_visnyk"))
        .directory(env!("CARGO_TARGET_TMPDIR"))
        .settings(settings)
        .args(["--log-format", "json", "--access-log"]);
    TestHub::start_with(command).await
}

fn lines(hub: &TestHub) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    hub.stderr().lines().map(parse).collect()
}

/// The line of the request with this id, once it is there.
async fn line_of(hub: &TestHub, id: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = lines(hub).into_iter().find(|line| line["request_id"] == id);
        if let Some(line) = found {
            assert_eq!(line["target"], "visnyk::access", "{line}");
            return line;
        }
        assert!(Instant::now() < deadline, "no line of {id}: {}", hub.stderr());
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn each_request_has_a_line_when_it_is_over_and_none_before() {
    // Whatever is logged otherwise.
    let mut hub = logging(&[("log.level", "off"), ("shards", "1")]).await;
    let ask = |method: &'static str, target: &'static str, id: &'static str| {
        let hub = &hub;
        async move { hub.request(method, target, &[("X-Request-Id", id)], "hello").await }
    };
    let published = ask("POST", "/v1/channels/a/events?retry=5&x=secret", "published").await;
    assert_eq!(published.status(), 201);
    ask("POST", "/v1/channels//events", "refused").await;
    ask("GET", "/nowhere?channel=a", "nowhere").await;
    for (id, method, route, url, status) in [
        ("published", "POST", "publish", "/v1/channels/a/events?retry=5", 201),
        ("refused", "POST", "publish", "/v1/channels//events", 400),
        ("nowhere", "GET", "other", "/nowhere?channel=a", 404),
    ] {
        let line = line_of(&hub, id).await;
        assert_eq!((&line["method"], &line["route"]), (&method.into(), &route.into()), "{line}");
        assert_eq!((&line["status"], &line["message"]), (&status.into(), &"request".into()));
        assert_eq!(line["client"], "127.0.0.1");
        assert!(line["duration_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{line}");
        assert!(line.get("ended").is_none() && line.get("subject").is_none(), "{line}");
        assert_eq!(line["url"], url, "{line}");
    }
    let line = line_of(&hub, "published").await;
    assert_eq!(line["bytes"], published.body.len() as u64, "{line}");
    assert!(!hub.stderr().contains("secret"), "{}", hub.stderr());

    // A stream, whose socket is handed off.
    let mut stream = Wire::to(&hub).await;
    let fields = [("X-Request-Id", "streamed")];
    stream.send(request("GET", "/v1/events?channel=a", &fields, "")).await;
    let (head, _) = stream.stream_head().await;
    assert_eq!(head.field("x-request-id"), "streamed");
    let began = Instant::now();
    let last = hub.publish("a", "seen").await;
    hub.wait_for_metric("visnyk_deliveries_total", |count| count == 1.0).await;
    assert!(lines(&hub).iter().all(|line| line["request_id"] != "streamed"), "{}", hub.stderr());
    stream.block().await;
    let lasted = began.elapsed().as_secs_f64() * 1_000.0;
    drop(stream);
    let line = line_of(&hub, "streamed").await;
    assert_eq!((&line["status"], &line["ended"]), (&200.into(), &"peer_closed".into()), "{line}");
    assert_eq!(line["position"], last.as_str(), "{line}");
    assert!(line["duration_ms"].as_f64().is_some_and(|ms| ms >= lasted), "{line}");

    // Polls that wait: one is answered, one is not.
    let (answered, gone) = ("answered", "gone");
    let mut polls = Vec::new();
    for id in [answered, gone] {
        let mut wire = Wire::to(&hub).await;
        let fields = [("X-Request-Id", id)];
        let target = if id == gone { "/v1/poll?channel=b" } else { "/v1/poll?channel=a" };
        wire.send(request("GET", target, &fields, "")).await;
        polls.push(wire);
    }
    hub.wait_for_metric("visnyk_pollers", |count| count == 2.0).await;
    hub.publish("a", "polled").await;
    let answer = polls[0].answer().await;
    assert_eq!((answer.status, answer.field("x-request-id")), (200, answered));
    drop(polls.pop());
    let line = line_of(&hub, answered).await;
    assert_eq!((&line["status"], &line["route"]), (&200.into(), &"poll".into()), "{line}");
    assert_eq!(line["bytes"], answer.text().len() as u64, "{line}");
    let line = line_of(&hub, gone).await;
    assert_eq!(line["ended"], "cut_short", "{line}");
    assert!(line.get("status").is_none(), "{line}");
    hub.terminate().expect("it runs");
    hub.wait(PATIENCE).await.expect("it ends");
}

#[tokio::test]
async fn streams_and_polls_over_http2_have_lines_too() {
    let hub = logging(&[]).await;
    let client = Client::h2c(hub.address()).await;
    let mut stream = client.stream("a", "now").await;
    client.publish("a", "x").await;
    assert_eq!(stream.data().await.as_deref(), Some("x"));
    drop(stream);
    let deadline = Instant::now() + PATIENCE;
    let line = loop {
        let found = lines(&hub).into_iter().find(|line| line["route"] == "stream");
        if let Some(line) = found {
            break line;
        }
        assert!(Instant::now() < deadline, "{}", hub.stderr());
        sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((&line["status"], &line["ended"]), (&200.into(), &"peer_closed".into()), "{line}");
}

#[tokio::test]
async fn a_line_has_the_subject_and_never_a_token() {
    let hub = logging(&[("jwt_secret", SECRET), ("log.level", "trace")]).await;
    let token = mint(&["--subject", "ann", "--subscribe", "**", "--publish", "**"]);
    let (query, bearer) =
        (format!("/v1/poll?channel=a&timeout=0&token={token}"), format!("Bearer {token}"));
    let fields = [("X-Request-Id", "by-query")];
    assert_eq!(hub.request("GET", &query, &fields, "").await.status(), 204);
    let fields = [("X-Request-Id", "by-header"), ("Authorization", &bearer)];
    let answer = hub.request("POST", "/v1/channels/a/events", &fields, "x").await;
    assert_eq!(answer.status(), 201, "{}", answer.body);
    let fields = [("X-Request-Id", "misplaced"), ("Authorization", "Bearer x")];
    let answer = hub.request("GET", &query.replace("token=", "jwt="), &fields, "").await;
    assert_eq!(answer.json()["request_id"], "misplaced");
    for (id, status, subject) in
        [("by-query", 204, Some("ann")), ("by-header", 201, Some("ann")), ("misplaced", 401, None)]
    {
        let line = line_of(&hub, id).await;
        assert_eq!(
            (&line["status"], line["subject"].as_str()),
            (&status.into(), subject),
            "{line}"
        );
    }
    let signature = token.rsplit('.').next().expect("a signature");
    assert!(!hub.stderr().contains(signature), "{}", hub.stderr());
}

#[tokio::test]
async fn every_answer_has_the_id_of_its_request_or_one_of_its_own() {
    let hub = TestHub::start(&[]).await;
    let ask = |target: &'static str, fields: Vec<(&'static str, &'static str)>| {
        let hub = &hub;
        async move {
            let answer = hub.request("GET", target, &fields, "").await;
            let id = answer.head.field("x-request-id").map(str::to_owned);
            (id.unwrap_or_default(), answer)
        }
    };
    for target in ["/healthz", "/", "/nowhere", "/v1/channels", "/v1/poll?channel=a&timeout=0"] {
        let (id, _) = ask(target, vec![("X-Request-Id", "4bf9-A.b:c/d")]).await;
        assert_eq!(id, "4bf9-A.b:c/d", "{target}");
        let (own, answer) = ask(target, vec![("X-Request-Id", "not {sane}")]).await;
        assert_eq!(own.len(), 16, "{target}: {own}");
        let (other, _) = ask(target, vec![]).await;
        assert!(other.len() == 16 && other != own, "{target}");
        if answer.status() >= 400 {
            assert_eq!(answer.json()["request_id"], own.as_str(), "{}", answer.body);
        }
    }
    let mut stream = Wire::to(&hub).await;
    stream.send(get("/v1/events?channel=a")).await;
    let (head, _) = stream.stream_head().await;
    assert_eq!(head.field("x-request-id").len(), 16);
    // Polls that wait share the bytes of their answers, unless their clients sent ids.
    let mut poll = PollClient::new(hub.address(), "/v1/poll?channel=a");
    let waiting = poll.next(PATIENCE);
    let published = async {
        hub.wait_for_metric("visnyk_pollers", |count| count == 1.0).await;
        hub.publish("a", "x").await;
    };
    let (answer, ()) = tokio::join!(waiting, published);
    assert!(answer.expect("an answer").answer.head.field("x-request-id").is_none());
    assert!(!hub.stderr().contains("\"request\""), "there is no access log");
}

#[tokio::test]
async fn the_log_says_what_started_and_how_a_drain_went() {
    let mut hub = logging(&[("drain_window_s", "1"), ("shards", "1")]).await;
    let mut stream = hub.stream("channel=a", "now").await;
    hub.publish("a", "x").await;
    assert_eq!(data_of(&mut stream, 1).await, ["x"]);
    // A shard adds to it once it has made the sends of a slice.
    hub.wait_for_metric("visnyk_deliveries_total", |count| count == 1.0).await;
    hub.terminate().expect("it runs");
    while stream.next_block(PATIENCE).await.expect("a block or the end").is_some() {}
    hub.wait(PATIENCE).await.expect("it ends");
    let lines = lines(&hub);
    let line =
        |message: &str| lines.iter().find(|line| line["message"] == message).expect("a line");
    let started = line("the hub has started");
    for (member, value) in [
        ("version", Value::from(env!("CARGO_PKG_VERSION"))),
        ("pid", hub.pid().into()),
        ("shards", 1.into()),
        ("history", "memory".into()),
        ("authentication", false.into()),
        ("access_log", true.into()),
    ] {
        assert_eq!(started[member], value, "{started}");
    }
    let stopped = line("stopped");
    for (member, value) in [
        ("streams_drained", 1),
        ("cut", 0),
        ("publishes_refused", 0),
        ("events_published", 1),
        ("events_delivered", 1),
        ("deliveries", 0),
    ] {
        assert_eq!(stopped[member], value, "{stopped}");
    }
}

#[tokio::test]
async fn the_log_says_where_history_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = RedisServer::start(&[]);
    let (data_dir, url) = (directory.path().to_str().expect("UTF-8"), server.url());
    for (setting, history) in [(("data_dir", data_dir), "disk"), (("backend.url", &*url), "redis")]
    {
        let hub = logging(&[setting]).await;
        let lines = lines(&hub);
        let started = lines.iter().find(|line| line["message"] == "the hub has started");
        assert_eq!(started.expect("a line")["history"], history);
    }
}
