//! Every row of the table of routes, against what is expected of it: methods, authentication, the
//! check for foreign pages, `no-store`, and CORS.

use visnyk::http::{Exposure, ROUTES};
use visnyk_loadtest::Hub;

use super::wire::{Answer, Wire, ask, get, hub, published, request};

/// What is expected of a route: its methods, whether it needs a token, and its exposure.
type Row = (&'static str, &'static str, bool, Exposure);

const EXPECTED: [Row; 25] = [
    ("/v1/channels/{channel}/events", "GET, HEAD, POST, OPTIONS", true, Exposure::Api),
    ("/v1/events", "GET, HEAD, POST, OPTIONS", true, Exposure::Api),
    ("/v1/channels/{channel}/poll", "GET, HEAD, OPTIONS", true, Exposure::Api),
    ("/v1/poll", "GET, HEAD, OPTIONS", true, Exposure::Api),
    ("/v1/channels", "GET, HEAD, OPTIONS", true, Exposure::Api),
    ("/v1/channels/{channel}", "GET, HEAD, DELETE, OPTIONS", true, Exposure::Api),
    ("/v1/channel", "GET, HEAD, DELETE, OPTIONS", true, Exposure::Api),
    ("/v1/connections", "GET, HEAD, OPTIONS", true, Exposure::Api),
    ("/v1/connections/{id}", "GET, HEAD, DELETE, OPTIONS", true, Exposure::Api),
    ("/v1/connections/{id}/token", "POST, OPTIONS", true, Exposure::Api),
    ("/v1/status", "GET, HEAD, OPTIONS", true, Exposure::Api),
    ("/v1/samples", "GET, HEAD, OPTIONS", true, Exposure::Api),
    ("/v1/reload", "POST, OPTIONS", true, Exposure::Operations),
    ("/healthz", "GET, HEAD, OPTIONS", false, Exposure::Status),
    ("/readyz", "GET, HEAD, OPTIONS", false, Exposure::Status),
    ("/openapi.json", "GET, HEAD, OPTIONS", false, Exposure::Status),
    // Open to this machine: `auth.metrics`.
    ("/metrics", "GET, HEAD, OPTIONS", false, Exposure::Operations),
    ("/visnyk.js", "GET, HEAD, OPTIONS", false, Exposure::Assets),
    ("/visnyk.d.ts", "GET, HEAD, OPTIONS", false, Exposure::Assets),
    ("/", "GET, HEAD, OPTIONS", false, Exposure::Assets),
    ("/console/{file}", "GET, HEAD, OPTIONS", false, Exposure::Assets),
    ("/favicon.svg", "GET, HEAD, OPTIONS", false, Exposure::Assets),
    ("/publish", "POST, OPTIONS", true, Exposure::Quickstart),
    ("/subscribe", "GET, HEAD, OPTIONS", true, Exposure::Quickstart),
    ("/events", "GET, HEAD, OPTIONS", true, Exposure::Quickstart),
];

/// The fault hook, which the table of routes does not show.
const FAULTS: Row = ("/faults/{kind}", "POST, OPTIONS", true, Exposure::Operations);

const LISTED: (&str, &str) = ("Origin", "https://app.example");
const UNLISTED: (&str, &str) = ("Origin", "https://evil.example");
const CROSS_SITE: (&str, &str) = ("Sec-Fetch-Site", "cross-site");
const FAULTS_ON: (&str, &str) = ("faults", "true");

#[test]
fn every_route_is_expected() {
    let mut expected: Vec<&str> = EXPECTED.iter().map(|row| row.0).collect();
    let mut routed: Vec<&str> = ROUTES.iter().map(|route| route.path).collect();
    expected.sort_unstable();
    routed.sort_unstable();
    assert_eq!(expected, routed);
    for (path, allow, _, exposure) in EXPECTED {
        let route = ROUTES.iter().find(|route| route.path == path).unwrap();
        assert_eq!((route.allow, route.exposure), (allow, exposure), "{path}");
    }
}

#[tokio::test]
async fn a_route_takes_its_methods_and_no_others() {
    let hub = hub(&[FAULTS_ON]).await;
    for (path, allow, ..) in rows() {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
            if allow.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let answer = send(&hub, method, &target(path), &[]).await;
            assert_eq!((answer.status, answer.field("allow")), (405, allow), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn options_says_which_methods_there_are() {
    let hub = hub(&[("jwt_secret", "a-secret-of-these-tests-and-of-no-hub"), FAULTS_ON]).await;
    for (path, allow, ..) in rows() {
        let answer = send(&hub, "OPTIONS", &target(path), &[]).await;
        assert_eq!((answer.status, answer.field("allow")), (204, allow), "{path}: {answer:?}");
    }
    let answer = send(&hub, "OPTIONS", "*", &[]).await;
    assert_eq!((answer.status, answer.has("allow")), (204, true), "{answer:?}");
    assert_eq!(send(&hub, "OPTIONS", "/nothing", &[]).await.status, 404);
}

#[tokio::test]
async fn a_route_needs_a_token_or_does_not() {
    let secret = ("jwt_secret", "a-secret-of-these-tests-and-of-no-hub");
    let hub = hub(&[secret, FAULTS_ON]).await;
    for (path, allow, needs_token, _) in rows() {
        // A method that the route has, and one that it has not: a client without a token learns
        // nothing of either.
        for method in [if allow.contains("HEAD") { "HEAD" } else { "POST" }, "PUT"] {
            let answer = send(&hub, method, &target(path), &[]).await;
            assert_eq!(answer.status == 401, needs_token, "{method} {path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_route_rejects_foreign_pages_and_is_stored_as_its_exposure_says() {
    let hub = hub(&[FAULTS_ON]).await;
    let _stream = one_stream(&hub).await;
    for (path, allow, _, exposure) in rows() {
        let (target, is_private) = (target(path), is_private(exposure));
        if allow.contains("HEAD") {
            let answer = send(&hub, "HEAD", &target, &[]).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            // All but the files of the console, which are asked for anew each time.
            let is_stored = !answer.field("cache-control").contains("no-store");
            assert_eq!(is_stored, exposure == Exposure::Assets, "{path}: {answer:?}");
            let answer = send(&hub, "HEAD", &target, &[CROSS_SITE]).await;
            assert_eq!(answer.status == 403, is_private, "{path}: {answer:?}");
        }
        if allow.contains("POST") && path != FAULTS.0 {
            let answer = send(&hub, "POST", &target, &[UNLISTED]).await;
            assert_eq!(answer.status == 403, is_private, "{path}: {answer:?}");
        }
    }
    let answer = send(&hub, "POST", "/faults/none", &[UNLISTED]).await;
    assert_eq!(answer.status, 403, "{answer:?}");
}

#[tokio::test]
async fn a_route_is_shared_with_the_origins_of_its_class() {
    let hub = hub(&[("cors_origins", "https://app.example"), FAULTS_ON]).await;
    let _stream = one_stream(&hub).await;
    for (path, allow, _, exposure) in rows() {
        let method = if allow.contains("HEAD") { "HEAD" } else { "PUT" };
        let (for_listed, for_unlisted) = match exposure {
            // The files that pages of any origin load.
            _ if path.starts_with("/visnyk.") => ("*", "*"),
            _ if path == "/openapi.json" => (LISTED.1, "*"),
            Exposure::Api | Exposure::Status => (LISTED.1, ""),
            Exposure::Quickstart => (LISTED.1, "*"),
            _ => ("", ""),
        };
        for (origin, expected) in [(LISTED, for_listed), (UNLISTED, for_unlisted)] {
            let answer = send(&hub, method, &target(path), &[origin]).await;
            let shared_with = answer.field("access-control-allow-origin");
            assert_eq!(shared_with, expected, "{method} {path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_path_without_a_route_is_checked_as_the_api_is() {
    let hub = hub(&[("cors_origins", "https://app.example")]).await;
    for path in ["/nothing", "/metrics/", "/v1", "/v2/events", "/faults/log", "/healthz/more"] {
        let answer = send(&hub, "HEAD", path, &[]).await;
        assert_eq!((answer.status, answer.field("cache-control")), (404, "no-store"), "{path}");
        let answer = send(&hub, "HEAD", path, &[CROSS_SITE]).await;
        assert_eq!(answer.status, 403, "{path}: {answer:?}");
        let answer = send(&hub, "POST", path, &[UNLISTED]).await;
        assert_eq!(answer.status, 403, "{path}: {answer:?}");
        assert!(!answer.has("access-control-allow-origin"), "{path}: {answer:?}");
        let answer = send(&hub, "POST", path, &[LISTED]).await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert_eq!(answer.field("access-control-allow-origin"), LISTED.1, "{path}");
    }
}

fn rows() -> impl Iterator<Item = Row> {
    EXPECTED.into_iter().chain([FAULTS])
}

fn is_private(exposure: Exposure) -> bool {
    matches!(exposure, Exposure::Api | Exposure::Operations)
}

fn target(path: &str) -> String {
    let path = path.replace("{channel}", "a").replace("{id}", "1").replace("{kind}", "none");
    let path = path.replace("{file}", "console.css");
    let is_named_in_query = matches!(&*path, "/v1/events" | "/v1/poll" | "/v1/channel");
    if is_named_in_query { path + "?channel=a" } else { path }
}

async fn send(hub: &Hub, method: &str, target: &str, fields: &[(&str, &str)]) -> Answer {
    let request = request(method, target, fields, "");
    if method != "HEAD" {
        return ask(hub, request).await;
    }
    let mut wire = Wire::to(hub).await;
    wire.send(request).await;
    wire.head().await
}

/// A hub's first connection, and a channel.
async fn one_stream(hub: &Hub) -> Wire {
    published(hub, "a", "x").await;
    let mut stream = Wire::to(hub).await;
    stream.send(get("/v1/channels/a/events")).await;
    stream.stream_head().await;
    stream
}
