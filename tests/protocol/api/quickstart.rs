//! The quickstart routes: what the tutorials' clients send, and what they expect.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    data_json, field, is_time, retained,
    wire::{
        Answer, PATIENCE, Wire, ask, get, hub, metric_is, nothing_is_left, post, published,
        request, taken_on,
    },
};
use visnyk_loadtest::Hub;

async fn publish(hub: &Hub, message: &str) -> Answer {
    let body = json!({"message": message}).to_string();
    let fields = [("Content-Type", "application/json")];
    ask(hub, request("POST", "/publish", &fields, &body)).await
}

/// Checks the one form of an event, and gives its id.
fn event(value: &Value, message: &str) -> u64 {
    assert!(is_time(&value["timestamp"]), "{value}");
    let id = value["id"].as_u64().unwrap();
    assert!(id > 0);
    let timestamp = value["timestamp"].clone();
    let expected = json!({"id": id, "text": message, "message": message, "timestamp": timestamp});
    assert_eq!(*value, expected);
    id
}

const NOTHING: &str = "No new data, please re-poll.";

#[tokio::test]
async fn publish_takes_a_message_and_repeats_it() {
    let hub = hub(&[]).await;
    for message in ["hello", "two\nlines", "\"quoted\" і 😀", " "] {
        let answer = publish(&hub, message).await;
        assert_eq!((answer.status, answer.field("content-type")), (200, "application/json"));
        assert_eq!(answer.json(), json!({"status": "Message sent", "message": message}));
    }
    // The media type does not matter: `fetch` without headers sends text/plain.
    let answer = ask(&hub, post("/publish", r#"{"message":"x","more":[1]}"#)).await;
    assert_eq!(answer.json(), json!({"status": "Message sent", "message": "x"}));
    // As some editors and shells write it, with a byte order mark.
    let answer = ask(&hub, post("/publish", "\u{feff}{\"message\":\"x\"}")).await;
    assert_eq!(answer.json(), json!({"status": "Message sent", "message": "x"}));
    assert_eq!(retained(&hub, "default").await.len(), 6);
}

#[tokio::test]
async fn publish_without_a_message_is_refused_in_the_tutorials_words() {
    let hub = hub(&[]).await;
    for body in
        ["", "{}", "[]", "null", r#"{"message":""}"#, r#"{"message":null}"#, r#"{"text":"x"}"#]
    {
        let answer = ask(&hub, post("/publish", body)).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json(), json!({"error": "Message is required"}), "{body}");
    }
    for (body, error) in [
        (r#"{"message":7}"#, "Message must be a string"),
        ("hello", "Not JSON: expected value at line 1 column 1"),
        (r#"{"message":"x""#, "Not JSON: EOF while parsing an object at line 1 column 14"),
        (r#"{"message":"\ud800"}"#, "Not JSON: unexpected end of hex escape at line 1 column 19"),
    ] {
        let answer = ask(&hub, post("/publish", body)).await;
        assert_eq!((answer.status, answer.json()), (400, json!({ "error": error })), "{body}");
    }
    assert_eq!(retained(&hub, "default").await, []);
}

#[tokio::test]
async fn subscribe_is_answered_with_the_next_event() {
    let hub = hub(&[]).await;
    publish(&hub, "before").await;
    let mut wire = Wire::to(&hub).await;
    let mut last = 0;
    for (count, message) in (1..).zip(["one", "two", "three"]) {
        wire.send(get("/subscribe")).await;
        taken_on(&hub, count).await;
        publish(&hub, message).await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.field("content-type")), (200, "application/json"));
        assert_eq!(answer.field("cache-control"), "no-cache, no-store, must-revalidate");
        let id = event(&answer.json(), message);
        assert!(id > last);
        last = id;
    }
}

#[tokio::test]
async fn subscribe_gives_one_event_of_many() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/subscribe")).await;
    metric_is(&hub, "visnyk_pollers", 1).await;
    let lines = "{\"data\":\"1\"}\n{\"data\":\"2\"}\n{\"data\":\"3\"}\n";
    ask(&hub, super::batch("/v1/channels/default/events", lines)).await;
    let first = event(&wire.answer().await.json(), "1");
    wire.send(get(&format!("/subscribe?after={first}"))).await;
    let second = event(&wire.answer().await.json(), "2");
    wire.send(get(&format!("/subscribe?after={second}"))).await;
    event(&wire.answer().await.json(), "3");
}

#[tokio::test]
async fn subscribe_that_finds_nothing_in_time_says_so() {
    let hub = hub(&[("limits.poll.timeout_s", "1")]).await;
    let began = Instant::now();
    let answer = ask(&hub, get("/subscribe")).await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!((answer.status, answer.field("content-type")), (200, "application/json"));
    assert_eq!(answer.json(), json!({"message": NOTHING}));
    // A timeout of its own is not part of this route, and an empty position does not count.
    for query in ["timeout=60", "after="] {
        let answer = ask(&hub, get(&format!("/subscribe?{query}"))).await;
        assert_eq!(answer.json(), json!({"message": NOTHING}), "{query}");
    }
}

#[tokio::test]
async fn after_misses_nothing() {
    let hub = hub(&[("limits.poll.timeout_s", "1")]).await;
    let other = published(&hub, "other", "x").await;
    for n in 1..=3 {
        publish(&hub, &n.to_string()).await;
        published(&hub, "other", "x").await;
    }
    let mut wire = Wire::to(&hub).await;
    let mut after = "0".to_owned();
    for n in 1..=3 {
        wire.send(get(&format!("/subscribe?after={after}"))).await;
        after = event(&wire.answer().await.json(), &n.to_string()).to_string();
        assert!(after.parse::<u64>().unwrap() < 1 << 53, "JavaScript cannot count further");
    }
    wire.send(get(&format!("/subscribe?after={after}"))).await;
    assert_eq!(wire.answer().await.json(), json!({"message": NOTHING}));
    for (after, first) in [(&*other, "1"), ("earliest", "1"), ("2", "1")] {
        wire.send(get(&format!("/subscribe?after={after}"))).await;
        event(&wire.answer().await.json(), first);
    }
    // A number of another log: better twice than not at all.
    for foreign in ["1000000", "9007199254740991", "18446744073709551615"] {
        wire.send(get(&format!("/subscribe?after={foreign}"))).await;
        event(&wire.answer().await.json(), "1");
    }
    // The positions of the native API work too.
    let fields = [("Last-Event-ID", &*other)];
    wire.send(request("GET", "/subscribe", &fields, "")).await;
    event(&wire.answer().await.json(), "1");
}

#[tokio::test]
async fn ids_grow_over_restarts_and_after_misses_nothing_of_the_next_run() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data");
    for kept in [false, true] {
        let data_dir = [("data_dir", data_dir.to_str().expect("UTF-8"))];
        let settings = if kept { &data_dir[..] } else { &[] };
        let (mut after, mut said) = (0, Vec::new());
        for run in 0..3 {
            let mut hub = hub(settings).await;
            // The later run has more events than the earlier one, and the other way round.
            for n in 0..[3, 5, 2][run] {
                let message = format!("{run} {n}");
                publish(&hub, &message).await;
                said.push(message);
            }
            let mut wire = Wire::to(&hub).await;
            for message in said.drain(..) {
                wire.send(get(&format!("/subscribe?after={after}"))).await;
                let id = event(&wire.answer().await.json(), &message);
                assert!(id > after && id < 1 << 53, "{id} after {after}");
                after = id;
            }
            publish(&hub, "unread").await;
            if kept {
                said.push("unread".to_owned());
            }
            hub.kill().await.expect("it ends");
        }
    }
}

#[tokio::test]
async fn after_something_that_is_gone_waits_and_does_not_spin() {
    let hub = hub(&[("limits.history.age_max_s", "1")]).await;
    publish(&hub, "old").await;
    let deadline = Instant::now() + PATIENCE;
    while ask(&hub, get("/v1/channels/default")).await.json()["events_retained"] != 0 {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(20)).await;
    }
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/subscribe?after=0")).await;
    metric_is(&hub, "visnyk_pollers", 1).await;
    publish(&hub, "new").await;
    event(&wire.answer().await.json(), "new");
}

#[tokio::test]
async fn events_is_a_stream_of_the_same_objects() {
    let hub = hub(&[]).await;
    publish(&hub, "before").await;
    let mut wire = Wire::to(&hub).await;
    wire.send(request("GET", "/events", &[("Accept", "text/event-stream")], "")).await;
    let (_, first) = wire.stream_head().await;
    assert_eq!(field(&first, "retry"), "5000");
    publish(&hub, "two\nlines").await;
    ask(&hub, post("/v1/channels/default/events?type=t", "typed")).await;
    let block = wire.block().await;
    assert!(block.starts_with("data: {"), "{block}");
    event(&data_json(&block), "two\nlines");
    let typed = wire.block().await;
    assert!(typed.starts_with("event: t\ndata: {"), "{typed}");
    event(&data_json(&typed), "typed");
    // The id of the stream is a position, so a reconnect loses nothing.
    drop(wire);
    let mut wire = Wire::to(&hub).await;
    let fields = [("Last-Event-ID", field(&block, "id"))];
    wire.send(request("GET", "/events", &fields, "")).await;
    wire.stream_head().await;
    event(&data_json(&wire.block().await), "typed");
    drop(wire);
    nothing_is_left(&hub).await;
}

#[tokio::test]
async fn the_console_and_its_parts_are_there() {
    let hub = hub(&[]).await;
    for (target, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/console/console.css", "text/css; charset=utf-8"),
        ("/console/console.js", "text/javascript; charset=utf-8"),
        ("/visnyk.js", "text/javascript; charset=utf-8"),
        ("/favicon.svg", "image/svg+xml"),
    ] {
        let answer = ask(&hub, get(target)).await;
        assert_eq!((answer.status, answer.field("content-type")), (200, media_type), "{target}");
        assert_eq!(answer.field("x-content-type-options"), "nosniff");
        assert!(answer.field("content-security-policy").contains("frame-ancestors 'none'"));
        assert!(!answer.body.is_empty());
    }
}

#[tokio::test]
async fn the_client_is_compressed_for_those_that_take_it_and_not_sent_again() {
    let hub = hub(&[]).await;
    let with = async |name: &str, value: &str| {
        ask(&hub, request("GET", "/visnyk.js", &[(name, value)], "")).await
    };
    let plain = ask(&hub, get("/visnyk.js")).await;
    assert!(!plain.has("content-encoding"), "{plain:?}");
    assert!(plain.field("vary").contains("Accept-Encoding"), "{plain:?}");
    for takes in ["gzip", "br, GZIP;Q=0.5"] {
        let answer = with("Accept-Encoding", takes).await;
        assert_eq!(answer.field("content-encoding"), "gzip", "{takes}");
        assert!(answer.body.len() < plain.body.len() / 2, "{}", answer.body.len());
        let text = crate::proxy::streams::gunzip(&answer.body);
        assert_eq!(text, plain.text(), "run `gzip -9nkf src/http/console/visnyk.js`");
    }
    for takes in ["br", "gzip;q=0", "gzip;Q=0", "gzip;q=0.5, identity", "identity"] {
        assert!(!with("Accept-Encoding", takes).await.has("content-encoding"), "{takes}");
    }
    let tag = plain.field("etag").to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    for known in [
        tag.clone(),
        format!("\"x\", {tag}"),
        tag.replace("\"", "").replace("W/", "\"") + "-gzip\"",
    ] {
        let answer = with("If-None-Match", &known).await;
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{known}");
        assert_eq!(
            (answer.field("etag"), answer.field("access-control-allow-origin")),
            (&*tag, "*")
        );
    }
    assert_eq!(with("If-None-Match", "W/\"x\"").await.status, 200);
    let types = ask(&hub, get("/visnyk.d.ts")).await;
    assert!(types.text().contains("export class Visnyk"), "{types:?}");
}

#[tokio::test]
async fn without_the_quickstart_none_of_it_is_there() {
    let hub = hub(&[("quickstart", "false")]).await;
    for target in ["/", "/subscribe", "/events", "/console/console.js"] {
        let answer = ask(&hub, get(target)).await;
        assert_eq!(answer.status, 404, "{target}");
        answer.problem();
    }
    assert_eq!(ask(&hub, post("/publish", r#"{"message":"x"}"#)).await.status, 404);
    assert_eq!(ask(&hub, get("/visnyk.js")).await.status, 200, "pages elsewhere may import it");
    published(&hub, "default", "x").await;
}
