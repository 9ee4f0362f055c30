//! Streams and polls by way of nginx.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::Value;
use visnyk_loadtest::Hub;

use super::{
    nginx::{Nginx, Setup, documented_patience_s},
    wire::{Wire, hub, metric_is, publish, published, request, taken_on},
};

const BOTH: [Setup; 2] = [Setup::Documented, Setup::Bare];

async fn behind(setup: Setup, settings: &[(&str, &str)]) -> (Hub, Nginx) {
    let hub = hub(&[&[("trusted_proxies", "127.0.0.1")], settings].concat()).await;
    let nginx = Nginx::start(setup, hub.address()).await;
    (hub, nginx)
}

/// A stream by way of nginx, with its first block read.
async fn stream(nginx: &Nginx, fields: &[(&str, &str)]) -> Wire {
    let mut wire = Wire::at(nginx.address()).await;
    let fields = [&[("Accept", "text/event-stream")], fields].concat();
    wire.send(request("GET", "/v1/events?channel=a", &fields, "")).await;
    let head = wire.head().await;
    assert_eq!(head.status, 200, "{head:?}");
    // What the hub sends is for the proxy and not for its clients.
    assert!(!head.has("x-accel-buffering"), "{head:?}");
    let first = wire.through("\n\n").await;
    assert!(first.contains("retry: "), "{first}");
    wire
}

#[tokio::test]
async fn events_go_out_as_they_come_and_a_client_resumes_where_it_was() {
    for setup in BOTH {
        let (hub, nginx) = behind(setup, &[]).await;
        let mut wire = stream(&nginx, &[]).await;
        let mut position = String::new();
        for number in 0..20 {
            let mut publisher = Wire::at(nginx.address()).await;
            publisher.send(publish("a", &format!("event {number}"))).await;
            let answer = publisher.answer().await;
            assert_eq!(answer.status, 201, "{answer:?}");
            // The stream goes on: what comes is not what its end has set free.
            let block = wire.through("\n\n").await;
            assert!(block.contains(&format!("data: event {number}\n")), "{setup:?} {block}");
            position = answer.json()["id"].as_str().unwrap().to_owned();
        }
        drop(wire);
        // nginx does not keep streams of clients that have left.
        metric_is(&hub, "visnyk_streams", 0).await;
        published(&hub, "a", "missed").await;
        let mut wire = stream(&nginx, &[("Last-Event-ID", &position)]).await;
        let block = wire.through("\n\n").await;
        assert!(block.contains("data: missed\n"), "{setup:?} {block}");
    }
}

#[tokio::test]
async fn polls_wait_behind_nginx_and_are_answered() {
    for setup in BOTH {
        let (hub, nginx) = behind(setup, &[]).await;
        let mut wire = Wire::at(nginx.address()).await;
        wire.send(request("GET", "/v1/poll?channel=a&timeout=3", &[], "")).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, 204, "it waited its time: {answer:?}");
        let position = answer.field("last-event-id").to_owned();
        // The same connection to nginx, whatever nginx makes of its own to the hub.
        let fields = [("Last-Event-ID", &*position)];
        wire.send(request("GET", "/v1/poll?channel=a&timeout=60", &fields, "")).await;
        metric_is(&hub, "visnyk_pollers", 1).await;
        published(&hub, "a", "answer").await;
        let answer = wire.answer().await;
        assert_eq!(answer.json()["events"][0]["data"], "answer", "{answer:?}");
    }
}

/// The documented time of nginx and the hub's own, both at a fifteenth, to keep the test short.
#[tokio::test]
async fn documented_times_cut_neither_the_longest_poll_nor_a_quiet_stream() {
    const SCALE: u64 = 15;
    let limits = visnyk::server::Settings::default().limits;
    let (poll_s, patience_s) = (u64::from(limits.poll.timeout_max_s), documented_patience_s());
    assert!(patience_s >= poll_s + 15, "a hub that is late has some time to be so");
    assert!(patience_s > 2 * u64::from(limits.connections.heartbeat_s), "one may come late");
    let heartbeat_s = limits.connections.heartbeat_s.div_ceil(SCALE as u32).to_string();
    let settings = [("limits.connections.heartbeat_s", &*heartbeat_s)];
    let target = format!("/v1/poll?channel=a&timeout={}", poll_s / SCALE);
    for is_cut in [false, true] {
        // A time that is too short, as nginx has it where nothing is set, is one that cuts.
        let patience_ms = if is_cut { 1_000 } else { patience_s * 1_000 / SCALE };
        let settings = if is_cut { &[][..] } else { &settings };
        let (_hub, nginx) = behind(Setup::Patient(patience_ms), settings).await;
        let mut quiet = stream(&nginx, &[]).await;
        let mut polling = Wire::at(nginx.address()).await;
        polling.send(request("GET", &target, &[], "")).await;
        let answer = polling.answer().await;
        if is_cut {
            assert_eq!(answer.status, 503, "nginx waits no longer: {answer:?}");
            quiet.rest().await;
            assert!(!quiet.has_ended(), "it is cut, and does not end");
            continue;
        }
        assert_eq!(answer.status, 204, "it waited its time: {answer:?}");
        // More heartbeats than the time that nginx waits for one has room for.
        for _ in 0..=patience_ms / 1_000 {
            assert_eq!(quiet.block().await, ":\n");
        }
    }
}

#[tokio::test]
async fn more_polls_than_kept_connections_all_have_their_answers() {
    let (hub, nginx) = behind(Setup::Documented, &[]).await;
    let mut wires = Vec::new();
    for _ in 0..100 {
        let mut wire = Wire::at(nginx.address()).await;
        wire.send(request("GET", "/v1/poll?channel=a&timeout=60", &[], "")).await;
        wires.push(wire);
    }
    for round in 0..3 {
        metric_is(&hub, "visnyk_pollers", 100).await;
        let data = format!("round {round}");
        published(&hub, "a", &data).await;
        for wire in &mut wires {
            let answer = wire.answer().await;
            assert_eq!(answer.json()["events"][0]["data"], *data, "{answer:?}");
            let position = answer.field("last-event-id").to_owned();
            let fields = [("Last-Event-ID", &*position)];
            wire.send(request("GET", "/v1/poll?channel=a&timeout=60", &fields, "")).await;
        }
    }
}

#[tokio::test]
async fn the_hub_names_the_client_and_not_nginx() {
    let (hub, nginx) = behind(Setup::Documented, &[]).await;
    // What the client claims stands left of what nginx has seen.
    let claims = [("X-Forwarded-For", "203.0.113.9")];
    let mut wire = Wire::from_source_to(nginx.address(), "127.0.0.9").await;
    wire.send(request("GET", "/v1/events?channel=a", &claims, "")).await;
    assert_eq!(wire.head().await.status, 200);
    taken_on(&hub, 1).await;
    let mut asking = Wire::to(&hub).await;
    asking.send(request("GET", "/v1/connections", &[], "")).await;
    let found: Value = asking.answer().await.json();
    let connection = &found["connections"][0];
    assert_eq!(connection["peer"], "127.0.0.9", "{connection}");
    assert!(connection["proxy"].as_str().unwrap().starts_with("127.0.0.1:"), "{connection}");
}

#[tokio::test]
async fn limits_count_clients_and_refusals_come_through_as_they_are() {
    let settings = [("limits.per_address.connections_max", "1")];
    let (_hub, nginx) = behind(Setup::Documented, &settings).await;
    let ask = async |source: &str, target: &str, accept: &str| {
        let mut wire = Wire::from_source_to(nginx.address(), source).await;
        wire.send(request("GET", target, &[("Accept", accept)], "")).await;
        wire
    };
    let mut first = ask("127.0.0.8", "/v1/events?channel=a", "text/event-stream").await;
    assert!(!first.head().await.has("content-length"));
    let mut second = ask("127.0.0.8", "/v1/events?channel=a", "text/event-stream").await;
    let refused = second.answer().await;
    assert_eq!(refused.status, 200, "{refused:?}");
    assert_eq!(refused.field("content-type"), "text/event-stream; charset=utf-8");
    assert!(refused.text().contains(": refused: this address"), "{}", refused.text());
    assert!(refused.text().contains("retry: "), "{}", refused.text());
    let mut third = ask("127.0.0.8", "/v1/poll?channel=a", "*/*").await;
    let refused = third.answer().await;
    assert_eq!((refused.status, refused.has("retry-after")), (429, true), "{refused:?}");
    let mut other = ask("127.0.0.7", "/v1/events?channel=a", "text/event-stream").await;
    assert_eq!(other.head().await.status, 200);
    assert!(other.block().await.contains("retry: "));
}

#[tokio::test]
async fn a_name_that_nginx_passes_on_has_to_be_allowed() {
    for (settings, status) in [(&[][..], 421), (&[("allowed_hosts", "hub.example.org")], 200)] {
        let (_hub, nginx) = behind(Setup::Documented, settings).await;
        let mut wire = Wire::at(nginx.address()).await;
        wire.send("GET /v1/channels HTTP/1.1\r\nHost: hub.example.org\r\n\r\n").await;
        assert_eq!(wire.answer().await.status, status);
    }
}

#[tokio::test]
async fn compressed_streams_go_out_event_by_event_too() {
    let (mut hub, nginx) = behind(Setup::Compressing, &[("drain_window_s", "0")]).await;
    let mut wire = Wire::at(nginx.address()).await;
    // Without chunks around the compressed bytes.
    let stream =
        "GET /v1/events?channel=a HTTP/1.0\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n";
    wire.send(stream).await;
    let head = wire.head().await;
    assert_eq!((head.status, head.field("content-encoding")), (200, "gzip"), "{head:?}");
    let mut compressed = wire.some().await;
    taken_on(&hub, 1).await;
    for number in 0..5 {
        published(&hub, "a", &format!("event {number}")).await;
        let before = compressed.len();
        compressed.extend(wire.some().await);
        assert!(compressed.len() > before, "event {number} is kept back");
        let text = gunzip(&compressed);
        assert!(text.contains(&format!("data: event {number}\n")), "{number}: {text}");
    }
    hub.terminate().unwrap();
    hub.wait(super::wire::PATIENCE).await.unwrap();
    compressed.extend(wire.rest().await);
    assert!(gunzip(&compressed).ends_with("\n\n"), "the end comes through as well");
}

/// What there is to be had of a compressed text, its end missing or not.
pub(crate) fn gunzip(compressed: &[u8]) -> String {
    let mut gzip = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("gzip is there");
    // Less than a pipe holds.
    gzip.stdin.take().unwrap().write_all(compressed).unwrap();
    let output = gzip.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
