//! `Host` and the target's authority (RFC 9112, section 3.2): the check against pages whose name
//! resolves to this machine must see the name that counts.

use super::wire::{Wire, exists, hub};

async fn status(hub: &visnyk_loadtest::Hub, head: &str) -> u16 {
    let mut wire = Wire::to(hub).await;
    wire.send(format!("{head}\r\n\r\n")).await;
    wire.head().await.status
}

#[tokio::test]
async fn a_foreign_host_is_misdirected_on_loopback() {
    let hub = hub(&[]).await;
    for (host, expected) in [
        ("localhost", 200),
        ("LocalHost:3000", 200),
        ("app.localhost:3000", 200),
        ("127.0.0.1", 200),
        ("127.9.9.9:1", 200),
        ("[::1]:3000", 200),
        // An absolute name (RFC 1034, section 3.1), as it may be in a browser's address bar.
        ("localhost.:3000", 200),
        ("app.localhost.", 200),
        ("evil.example.", 421),
        ("localhost..", 421),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example:3000", 421),
        ("192.0.2.1", 421),
        ("[2001:db8::1]:3000", 421),
    ] {
        for target in ["/metrics", "/", "/v1/channels"] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: {host}");
            assert_eq!(status(&hub, &head).await, expected, "{host} {target}");
        }
    }
}

#[tokio::test]
async fn probes_come_by_any_name_or_address() {
    let hub = hub(&[("allowed_hosts", "hub.example")]).await;
    let own = ["hub.example", "hub.example.:3000"];
    for host in ["10.1.2.3:3000", "[fd00::1]:3000", "visnyk.default.svc", own[0], own[1]] {
        for (target, expected) in [("/healthz", 200), ("/readyz", 200), ("/v1/channels", 421)] {
            let expected = if own.contains(&host) { 200 } else { expected };
            let head = format!("GET {target} HTTP/1.1\r\nHost: {host}");
            assert_eq!(status(&hub, &head).await, expected, "{host} {target}");
        }
    }
}

#[tokio::test]
async fn a_request_has_exactly_one_host() {
    let hub = hub(&[]).await;
    for fields in [
        "X: y",
        "Host: localhost\r\nHost: evil.example",
        "Host: evil.example\r\nHost: localhost",
        "Host: localhost\r\nHost: localhost",
        "Host: \u{456}",
        "Host: localhost:1@evil.example",
        "Host: 127.0.0.1:3000, evil.example",
        "Host: localhost,localhost",
        "Host: localhost:http",
        "Host: local host",
        "Host: [::1",
        "Host: localhost/",
    ] {
        let head = format!("GET /v1/channels HTTP/1.1\r\n{fields}");
        assert_eq!(status(&hub, &head).await, 400, "{fields:?}");
        let head = format!("GET /healthz HTTP/1.1\r\n{fields}");
        assert_eq!(status(&hub, &head).await, 400, "{fields:?}");
    }
}

#[tokio::test]
async fn an_absolute_target_says_where_it_goes() {
    let hub = hub(&[]).await;
    for (target, host, expected) in [
        ("http://localhost/v1/channels", "localhost", 200),
        ("http://localhost/v1/channels", "evil.example", 200),
        ("http://evil.example/v1/channels", "localhost", 421),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}");
        assert_eq!(status(&hub, &head).await, expected, "{target} {host}");
    }
}

#[tokio::test]
async fn the_hubs_own_page_is_known_whatever_port_is_left_out() {
    let hub = hub(&[("allowed_hosts", "hub.example")]).await;
    for (host, fields, expected) in [
        ("hub.example:443", "Origin: https://hub.example", 201),
        ("hub.example", "Origin: https://hub.example", 201),
        ("hub.example:80", "Origin: http://hub.example", 201),
        ("hub.example:80", "Origin: https://hub.example", 403),
        ("hub.example:8443", "Origin: https://hub.example", 403),
        ("hub.example", "Origin: https://hub.example:8443", 403),
        // A proxy has taken the port away, and the browser knows.
        ("hub.example", "Origin: https://hub.example:8443\r\nSec-Fetch-Site: same-origin", 201),
        ("hub.example", "Origin: https://hub.example:8443\r\nSec-Fetch-Site: same-site", 403),
    ] {
        let head = format!(
            "POST /v1/channels/a/events HTTP/1.1\r\nHost: {host}\r\n{fields}\r\nContent-Length: 0"
        );
        assert_eq!(status(&hub, &head).await, expected, "{host} {fields:?}");
    }
}

#[tokio::test]
async fn a_foreign_page_may_not_publish() {
    let hub = hub(&[]).await;
    for (origin, expected) in [
        ("http://localhost:3000", 201),
        ("http://LOCALHOST:3000", 201),
        ("http://localhost:4000", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("localhost:3000", 403),
    ] {
        let head = format!(
            "POST /v1/channels/{}/events HTTP/1.1\r\nHost: localhost:3000\r\nOrigin: {origin}\r\n\
             Content-Length: 0",
            if expected == 201 { "own" } else { "foreign" },
        );
        assert_eq!(status(&hub, &head).await, expected, "{origin}");
        let delete = format!(
            "DELETE /v1/channels/none HTTP/1.1\r\nHost: localhost:3000\r\nOrigin: {origin}"
        );
        let expected = if expected == 201 { 404 } else { 403 };
        assert_eq!(status(&hub, &delete).await, expected, "{origin}");
    }
    assert!(!exists(&hub, "foreign").await);
}
