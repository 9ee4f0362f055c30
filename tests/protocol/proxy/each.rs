//! What has to hold behind each of the documented proxies.

use std::{path::Path, process::Stdio};

use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use visnyk_loadtest::{Hub, SseClient, SseRequest};

use super::{
    kinds::{Changes, Kind},
    process::ProxyProcess,
    wire::{PATIENCE, Wire, hub, metric_is, published, request, taken_on},
};

async fn behind(kind: Kind, settings: &[(&str, &str)], changes: &Changes) -> (Hub, ProxyProcess) {
    let hub = hub(&[&[("trusted_proxies", "127.0.0.1")], settings].concat()).await;
    let proxy = kind.start(hub.address(), changes).await;
    (hub, proxy)
}

#[tokio::test]
async fn events_come_one_by_one_and_a_client_resumes_by_its_header() {
    for kind in Kind::ALL {
        let (hub, proxy) = behind(kind, &[], &Changes::default()).await;
        let mut stream = Wire::at(proxy.address()).await;
        let fields = [("Accept", "text/event-stream")];
        stream.send(request("GET", "/v1/events?channel=a", &fields, "")).await;
        assert_eq!(stream.head().await.status, 200, "{kind:?}");
        assert!(stream.block().await.contains("retry: "), "{kind:?}");
        let mut positions = Vec::new();
        for number in 0..10 {
            positions.push(published(&hub, "a", &format!("event {number}")).await);
            // The stream goes on: what comes is not what its end has set free.
            let block = stream.block().await;
            assert!(block.contains(&format!("data: event {number}\n")), "{kind:?} {block}");
        }
        let mut again = Wire::at(proxy.address()).await;
        let fields = [("Accept", "text/event-stream"), ("Last-Event-ID", &positions[7])];
        again.send(request("GET", "/v1/events?channel=a", &fields, "")).await;
        assert_eq!(again.head().await.status, 200, "{kind:?}");
        for data in ["retry: ", "data: event 8\n", "data: event 9\n"] {
            let block = again.block().await;
            assert!(block.contains(data), "{kind:?} {block}");
        }
        let mut polling = Wire::at(proxy.address()).await;
        let fields = [("Last-Event-ID", &*positions[8])];
        polling.send(request("GET", "/v1/poll?channel=a", &fields, "")).await;
        let answer = polling.answer().await;
        assert_eq!(answer.json()["events"][0]["data"], "event 9", "{kind:?} {answer:?}");
        assert_eq!(answer.field("last-event-id"), positions[9], "{kind:?}");
    }
}

#[tokio::test]
async fn a_slash_in_a_channel_name_stays_encoded() {
    for kind in Kind::ALL {
        let (_hub, proxy) = behind(kind, &[], &Changes::default()).await;
        let mut wire = Wire::at(proxy.address()).await;
        wire.send(request("POST", "/v1/channels/jobs%2F7%20b/events", &[], "one")).await;
        let answer = wire.answer().await;
        assert_eq!(answer.json()["channel"], "jobs/7 b", "{kind:?} {answer:?}");
        // A slash that is not encoded is another path.
        let mut wire = Wire::at(proxy.address()).await;
        wire.send(request("GET", "/v1/channels/jobs/7%20b", &[], "")).await;
        assert_eq!(wire.answer().await.status, 404, "{kind:?}");
    }
}

#[tokio::test]
async fn the_hub_sees_the_client_whatever_the_client_claims() {
    for kind in Kind::ALL {
        let (hub, proxy) = behind(kind, &[], &Changes::default()).await;
        let claims = [("X-Forwarded-For", "203.0.113.9")];
        let mut wire = Wire::from_source_to(proxy.address(), "127.0.0.9").await;
        wire.send(request("GET", "/v1/events?channel=a", &claims, "")).await;
        assert_eq!(wire.head().await.status, 200, "{kind:?}");
        taken_on(&hub, 1).await;
        let mut asking = Wire::to(&hub).await;
        asking.send(request("GET", "/v1/connections", &[], "")).await;
        let found: Value = asking.answer().await.json();
        let connection = &found["connections"][0];
        assert_eq!(connection["peer"], "127.0.0.9", "{kind:?} {connection}");
    }
}

#[tokio::test]
async fn a_name_that_the_proxy_passes_on_has_to_be_allowed() {
    for kind in Kind::ALL {
        for (settings, status) in [(&[][..], 421), (&[("allowed_hosts", "hub.example.org")], 200)] {
            let (_hub, proxy) = behind(kind, settings, &Changes::default()).await;
            let mut wire = Wire::at(proxy.address()).await;
            wire.send("GET /v1/channels HTTP/1.1\r\nHost: hub.example.org\r\n\r\n").await;
            assert_eq!(wire.answer().await.status, status, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn a_drain_is_seen_and_afterwards_an_event_source_gets_a_time_to_come_back() {
    for kind in Kind::ALL {
        let (mut hub, proxy) = behind(kind, &[("drain_window_s", "1")], &Changes::default()).await;
        let position = published(&hub, "a", "before").await;
        let from = SseRequest::new("/v1/events?channel=a").from("earliest");
        let mut stream = SseClient::connect(proxy.address(), &from).await.unwrap();
        for _ in 0..2 {
            stream.next_block(PATIENCE).await.unwrap().expect("the first block, and the event");
        }
        let mut polling = Wire::at(proxy.address()).await;
        let fields = [("Last-Event-ID", &*position)];
        polling.send(request("GET", "/v1/poll?channel=a&timeout=60", &fields, "")).await;
        metric_is(&hub, "visnyk_pollers", 1).await;
        hub.terminate().unwrap();
        let answer = polling.answer().await;
        assert_eq!(answer.status, 204, "{kind:?} {answer:?}");
        let last = stream.next_block(PATIENCE).await.unwrap().expect("a block before the end");
        assert!(last.retry_ms.is_some(), "{kind:?} {last:?}");
        assert_eq!(hub.wait(PATIENCE).await.unwrap().code(), Some(0), "{}", hub.stderr());

        let mut wire = Wire::at(proxy.address()).await;
        let fields = [("Accept", "text/event-stream")];
        wire.send(request("GET", "/v1/events?channel=a", &fields, "")).await;
        let away = wire.answer().await;
        let mut wire = Wire::at(proxy.address()).await;
        wire.send(request("GET", "/v1/poll?channel=a", &[], "")).await;
        assert_eq!(wire.answer().await.status, 503, "{kind:?}");
        // 503 says that nothing was published. nginx and Caddy do not know whether a publish was
        // sent before the connection broke; the others give another status then.
        let mut wire = Wire::at(proxy.address()).await;
        wire.send(request("POST", "/v1/channels/a/events", &[], "late")).await;
        let expected = if matches!(kind, Kind::Nginx | Kind::Caddy) { 504 } else { 503 };
        assert_eq!(wire.answer().await.status, expected, "{kind:?}");
        if kind == Kind::Apache {
            assert_eq!(away.status, 503, "as the page says of it: {away:?}");
            continue;
        }
        assert_eq!(away.status, 200, "{kind:?} {away:?}");
        assert_eq!(away.field("content-type"), "text/event-stream", "{kind:?}");
        assert!(away.text().starts_with(": refused: the hub is away\nretry: "), "{}", away.text());
        assert!(away.text().ends_with("\n\n"), "{kind:?} {}", away.text());
        let retry = away.text().lines().find_map(|line| line.strip_prefix("retry: "));
        let retry: u64 = retry.unwrap().parse().unwrap();
        assert!((2_000..=4_000).contains(&retry), "{kind:?} {retry}");
    }
}

/// The documented 90 s, the longest poll and the heartbeat, each at a fifteenth; and a time that
/// cuts, to see that it is what the configuration says that keeps them.
#[tokio::test]
async fn the_documented_times_cut_no_poll_and_no_quiet_stream() {
    const SCALE: u64 = 15;
    let limits = visnyk::server::Settings::default().limits;
    let poll_s = u64::from(limits.poll.timeout_max_s).div_ceil(SCALE);
    let heartbeat_s = u64::from(limits.connections.heartbeat_s).div_ceil(SCALE);
    let target = format!("/v1/poll?channel=a&timeout={poll_s}");
    let heartbeat_s = heartbeat_s.to_string();
    let settings = [("limits.connections.heartbeat_s", &*heartbeat_s)];
    let mut waiting = Vec::new();
    for kind in Kind::IMPATIENT {
        for patience_s in [90 / SCALE, 1] {
            let changes = Changes { patience_s: Some(patience_s), tls: None };
            let settings = if patience_s == 1 { &[][..] } else { &settings };
            let (hub, proxy) = behind(kind, settings, &changes).await;
            let mut stream = Wire::at(proxy.address()).await;
            stream.send(request("GET", "/v1/events?channel=a", &[], "")).await;
            assert_eq!(stream.head().await.status, 200, "{kind:?}");
            assert!(stream.block().await.contains("retry: "), "{kind:?}");
            let mut polling = Wire::at(proxy.address()).await;
            polling.send(request("GET", &target, &[], "")).await;
            waiting.push((kind, patience_s, hub, proxy, stream, polling));
        }
    }
    // All of them wait at the same time.
    for (kind, patience_s, _hub, _proxy, mut stream, mut polling) in waiting {
        let answer = polling.answer().await;
        if patience_s == 1 {
            assert!(answer.status > 500, "{kind:?} waits no longer: {answer:?}");
            stream.rest().await;
            continue;
        }
        assert_eq!(answer.status, 204, "{kind:?}: it waited its time: {answer:?}");
        for _ in 0..=patience_s {
            assert_eq!(stream.block().await, ":\n", "{kind:?}");
        }
    }
}

#[tokio::test]
async fn http2_in_front_carries_streams() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    for kind in Kind::ALL {
        let changes = Changes { patience_s: None, tls: Some((cert.clone(), key.clone())) };
        let (hub, proxy) = behind(kind, &[], &changes).await;
        let url = format!("https://localhost:{}/v1/events?channel=a", proxy.address().port());
        let mut curl = curl(&cert, &url).spawn().expect("curl is installed: tests/run does that");
        let mut output = curl.stdout.take().expect("it is piped");
        let mut seen = String::new();
        read_until(&mut output, &mut seen, "retry: ").await;
        assert!(seen.starts_with("HTTP/2 200"), "{kind:?} {seen}");
        published(&hub, "a", "over HTTP/2").await;
        read_until(&mut output, &mut seen, "data: over HTTP/2\n").await;
        curl.kill().await.unwrap();
    }
}

fn curl(cert: &Path, url: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("curl");
    command.args(["-sNi", "--http2", "--max-time", "60", "--cacert"]).arg(cert).arg(url);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

async fn read_until(output: &mut tokio::process::ChildStdout, seen: &mut String, part: &str) {
    while !seen.contains(part) {
        let mut bytes = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, output.read(&mut bytes)).await;
        let length = read.expect("in time").expect("a pipe");
        assert_ne!(length, 0, "it ends before {part:?}: {seen}");
        seen.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
    }
}
