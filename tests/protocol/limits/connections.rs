//! Streams and waiting polls of one address.

use std::time::Instant;

use visnyk_loadtest::Hub;

use super::{
    counted,
    reports::logged_seldom,
    wire::{Answer, PATIENCE, Wire, hub, metric, metric_is, request, taken_on},
};

const MAX: &str = "limits.per_address.connections_max";
const REFUSED: &str = r#"visnyk_subscriptions_refused_total{reason="too_many_of_address"}"#;
const STREAM: &[(&str, &str)] = &[("Accept", "text/event-stream")];

async fn ask_from(hub: &Hub, source: &str, target: &str, fields: &[(&str, &str)]) -> Wire {
    let mut wire = Wire::from_source(hub, source).await;
    wire.send(request("GET", target, fields, "")).await;
    wire
}

async fn stream_from(hub: &Hub, source: &str, fields: &[(&str, &str)]) -> Wire {
    let mut wire = ask_from(hub, source, "/v1/events?channel=a", fields).await;
    let (_, first) = wire.stream_head().await;
    assert!(first.contains("\nid: "), "{first}");
    wire
}

async fn refused_stream(hub: &Hub, source: &str, fields: &[(&str, &str)]) -> Answer {
    let fields = [STREAM, fields].concat();
    ask_from(hub, source, "/v1/events?channel=a", &fields).await.answer().await
}

#[tokio::test]
async fn an_address_has_so_many_streams_and_polls_and_others_have_theirs() {
    let hub = hub(&counted(&[(MAX, "2")])).await;
    let first = stream_from(&hub, "127.0.0.2", &[]).await;
    let _poll = ask_from(&hub, "127.0.0.2", "/v1/poll?channel=a&timeout=60", &[]).await;
    taken_on(&hub, 2).await;

    let refused = refused_stream(&hub, "127.0.0.2", &[]).await;
    assert_eq!(refused.status, 200, "a browser would give up on any other");
    assert_eq!(refused.field("content-type"), "text/event-stream; charset=utf-8");
    assert!(refused.text().starts_with(": refused: this address has"), "{}", refused.text());
    assert!(refused.text().contains("\nretry: "), "{}", refused.text());
    let target = "/v1/poll?channel=a&timeout=60";
    let refused = ask_from(&hub, "127.0.0.2", target, &[]).await.answer().await;
    assert_eq!((refused.status, refused.has("retry-after")), (429, true));
    refused.problem();
    assert_eq!(metric(&hub, REFUSED).await, 2);

    // Requests that hold no connection go on, and so do those of other addresses.
    let at_once = ask_from(&hub, "127.0.0.2", "/v1/poll?channel=a&timeout=0", &[]).await;
    assert_eq!({ at_once }.answer().await.status, 204);
    let _other = stream_from(&hub, "127.0.0.3", &[]).await;

    drop(first);
    metric_is(&hub, "visnyk_streams", 1).await;
    let _again = stream_from(&hub, "127.0.0.2", &[]).await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_own_even_without_loopback() {
    let hub =
        hub(&[(MAX, "1"), ("trusted_proxies", "127.0.0.2"), ("plain_refusals", "true")]).await;
    let from = |client: &'static str| [("X-Forwarded-For", client)];
    let _one = stream_from(&hub, "127.0.0.2", &from("2001:db8:0:1::1")).await;
    let _other = stream_from(&hub, "127.0.0.2", &from("2001:db8:0:2::1")).await;
    let refused = refused_stream(&hub, "127.0.0.2", &from("2001:db8:0:1:9::9")).await;
    assert_eq!(refused.status, 429, "of the same /64");
    // What says to be this machine by way of a proxy is not.
    let _claims = stream_from(&hub, "127.0.0.2", &from("127.0.0.1")).await;
    assert_eq!(refused_stream(&hub, "127.0.0.2", &from("127.0.0.1")).await.status, 429);
    // This machine itself is not counted.
    for _ in 0..3 {
        std::mem::forget(stream_from(&hub, "127.0.0.1", &[]).await);
    }
}

#[tokio::test]
async fn a_client_over_a_limit_is_logged_at_a_bounded_rate_with_its_address() {
    let mut hub = hub(&counted(&[(MAX, "1")])).await;
    let _first = stream_from(&hub, "127.0.0.2", &[]).await;
    let begun = Instant::now();
    for _ in 0..20 {
        refused_stream(&hub, "127.0.0.2", &[]).await;
    }
    let line = hub.wait_for_line("over a limit", PATIENCE).await.unwrap();
    assert!(line.contains("127.0.0.2") && line.contains("too_many_of_address"), "{line}");
    assert_eq!(metric(&hub, REFUSED).await, 20);
    logged_seldom(&hub, "over a limit", begun);
}
