//! The client's address: the peer address of its socket, or the one that a trusted proxy names.

use serde_json::Value;

use super::wire::{Wire, ask, get, hub, request, taken_on};

/// A stream that says it was passed on for these addresses; it lasts as long as what is given.
async fn stream(hub: &visnyk_loadtest::Hub, source: &str, forwarded: &[&str]) -> Wire {
    let fields: Vec<(&str, &str)> =
        forwarded.iter().map(|addresses| ("X-Forwarded-For", *addresses)).collect();
    let mut wire = Wire::from_source(hub, source).await;
    wire.send(request("GET", "/v1/events?channel=a", &fields, "")).await;
    wire.stream_head().await;
    wire
}

async fn peers(hub: &visnyk_loadtest::Hub, query: &str) -> Vec<(Value, Value)> {
    let answer = ask(hub, get(&format!("/v1/connections{query}"))).await;
    let answer = answer.json();
    let connections = answer["connections"].as_array().unwrap();
    connections.iter().map(|found| (found["peer"].clone(), found["proxy"].clone())).collect()
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client_and_others_do_not() {
    let hub = hub(&[("trusted_proxies", "127.0.0.2, 10.0.0.0/8")]).await;
    let _named = stream(&hub, "127.0.0.2", &["198.51.100.9, 192.0.2.1", "10.1.1.1"]).await;
    taken_on(&hub, 1).await;
    let found = peers(&hub, "").await;
    assert_eq!(found[0].0, "192.0.2.1", "the right-most that is not a proxy");
    assert!(found[0].1.as_str().unwrap().starts_with("127.0.0.2:"), "{found:?}");

    drop(_named);
    let deadline = tokio::time::Instant::now() + super::wire::PATIENCE;
    let ended = loop {
        let ended = peers(&hub, "?state=closed").await;
        if !ended.is_empty() {
            break ended;
        }
        assert!(tokio::time::Instant::now() < deadline, "its end is not listed");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert_eq!(ended[0].0, "192.0.2.1", "remembered at its end too");

    let _unnamed = stream(&hub, "127.0.0.3", &["192.0.2.1"]).await;
    taken_on(&hub, 2).await;
    let found = peers(&hub, "").await;
    assert!(found[0].0.as_str().unwrap().starts_with("127.0.0.3:"), "{found:?}");
    assert_eq!(found[0].1, Value::Null);
}

#[tokio::test]
async fn a_client_keeps_its_address_when_its_socket_comes_back_from_a_poll() {
    let hub = hub(&[("trusted_proxies", "127.0.0.2")]).await;
    let mut wire = Wire::from_source(&hub, "127.0.0.2").await;
    let poll = |client: &str| {
        request("GET", "/v1/poll?channel=a&timeout=1", &[("X-Forwarded-For", client)], "")
    };
    wire.send(poll("192.0.2.1")).await;
    assert_eq!(wire.answer().await.status, 204);
    // Another client's request on the same connection, as proxies that keep them send it.
    wire.send(poll("192.0.2.2")).await;
    taken_on(&hub, 2).await;
    let found = peers(&hub, "?transport=poll").await;
    assert_eq!(found[0].0, "192.0.2.2", "{found:?}");
}

#[tokio::test]
async fn a_client_behind_a_proxy_is_not_this_machine() {
    let secret = "0123456789abcdef0123456789abcdef";
    let hub = hub(&[("trusted_proxies", "127.0.0.2"), ("jwt_secret", secret)]).await;
    let status = async |source: &str, fields: &[(&str, &str)]| {
        let mut wire = Wire::from_source(&hub, source).await;
        wire.send(request("GET", "/metrics", fields, "")).await;
        wire.answer().await.status
    };
    assert_eq!(status("127.0.0.2", &[]).await, 200, "the proxy's own machine");
    for forwarded in ["192.0.2.1", "127.0.0.1", "nonsense"] {
        let fields = [("X-Forwarded-For", forwarded)];
        assert_eq!(status("127.0.0.2", &fields).await, 401, "{forwarded}");
        assert_eq!(status("127.0.0.3", &fields).await, 401, "{forwarded}: it claims to be a proxy");
    }
}

#[tokio::test]
async fn each_proxy_that_is_not_trusted_is_warned_of_once() {
    let mut hub = hub(&[("trusted_proxies", "127.0.0.2")]).await;
    let ask_from = async |hub: &visnyk_loadtest::Hub, source: &str| {
        let mut wire = Wire::from_source(hub, source).await;
        wire.send(request("GET", "/healthz", &[("X-Forwarded-For", "192.0.2.1")], "")).await;
        assert_eq!(wire.answer().await.status, 200);
    };
    for source in ["127.0.0.2", "127.0.0.3", "127.0.0.3", "127.0.0.4"] {
        ask_from(&hub, source).await;
    }
    hub.wait_for_line("127.0.0.4", super::wire::PATIENCE).await.unwrap();
    let said = hub.stderr();
    let warnings: Vec<_> = said.lines().filter(|line| line.contains("trusted_proxies")).collect();
    assert_eq!(warnings.len(), 2, "{said}");
    assert!(warnings[0].contains("127.0.0.3") && warnings[1].contains("127.0.0.4"), "{said}");
}
