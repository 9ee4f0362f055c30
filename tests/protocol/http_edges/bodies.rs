//! A GET with a body: on routes that give their socket away it is refused, and the body is never
//! read as the next request, early or late (request smuggling).

use super::{
    streams_and_polls,
    wire::{Wire, ask, exists, get, hub, nothing_is_left, publish, request},
};

/// A body that would do something if it were a request.
fn smuggled() -> String {
    publish("smuggled", "x")
}

/// The two framings of a body: their field, and the body in it.
fn framings() -> [(&'static str, String, String); 2] {
    let body = smuggled();
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    [
        ("Content-Length", body.len().to_string(), body),
        ("Transfer-Encoding", "chunked".to_owned(), chunked),
    ]
}

#[tokio::test]
async fn a_body_in_one_piece_is_refused_and_is_not_a_request() {
    let hub = hub(&[]).await;
    for method in ["GET", "HEAD"] {
        for target in streams_and_polls() {
            for (name, value, body) in framings() {
                let mut wire = Wire::to(&hub).await;
                wire.send(request(method, target, &[(name, &value)], "") + &body).await;
                let answer = match method {
                    "HEAD" => wire.head().await,
                    _ => wire.answer().await,
                };
                assert_eq!(answer.status, 400, "{method} {target}: {answer:?}");
                assert_eq!(answer.field("connection"), "close");
                if method == "GET" {
                    answer.refuses(400, "body");
                }
                wire.closed().await;
            }
        }
    }
    assert!(!exists(&hub, "smuggled").await);
    nothing_is_left(&hub).await;
}

#[tokio::test]
async fn a_body_sent_late_is_refused_before_it_comes_and_is_not_a_request() {
    let hub = hub(&[]).await;
    for target in streams_and_polls() {
        for (name, value, body) in framings() {
            let mut wire = Wire::to(&hub).await;
            wire.send(request("GET", target, &[(name, &value)], "")).await;
            wire.answer().await.refuses(400, "body");
            // The hub may have closed by now, or be about to.
            let _ = wire.try_send(&body).await;
            let _ = wire.try_send(smuggled()).await;
            wire.closed().await;
        }
    }
    assert!(!exists(&hub, "smuggled").await);
    nothing_is_left(&hub).await;
}

#[tokio::test]
async fn an_empty_length_is_no_body() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    let none = [("Content-Length", "0")];
    wire.send(request("GET", "/v1/channels/a/poll?timeout=0", &none, "")).await;
    assert_eq!(wire.answer().await.status, 204);
    wire.send(request("GET", "/v1/channels/a/events", &none, "")).await;
    wire.stream_head().await;
}

#[tokio::test]
async fn an_empty_chunked_body_is_a_body() {
    let hub = hub(&[]).await;
    for target in streams_and_polls() {
        let chunked = [("Transfer-Encoding", "chunked")];
        let answer =
            ask(&hub, request("GET", target, &chunked, "") + "0\r\n\r\n" + &smuggled()).await;
        answer.refuses(400, "body");
    }
    assert!(!exists(&hub, "smuggled").await);
}

#[tokio::test]
async fn two_framings_at_once_never_hide_a_request() {
    let hub = hub(&[]).await;
    let body = smuggled();
    for target in streams_and_polls().chain(["/healthz", "/v1/channels"]) {
        for framing in [
            format!("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{body}"),
            format!("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{body}"),
            format!("Content-Length: 0\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
            format!("Content-Length: 0, {}\r\n\r\n{body}", body.len()),
            format!("Content-Length: +0\r\n\r\n{body}"),
            format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{body}"),
            format!("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{body}"),
            format!("Transfer-Encoding:\u{b}chunked\r\n\r\n0\r\n\r\n{body}"),
            format!("X: y\r\n Content-Length: 0\r\n\r\n{body}"),
        ] {
            let mut wire = Wire::to(&hub).await;
            wire.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{framing}")).await;
            let answer = wire.head().await;
            assert!(
                answer.status == 400 || target == "/healthz" || target == "/v1/channels",
                "{target} {framing:?}: {answer:?}"
            );
            wire.rest().await;
            assert!(!exists(&hub, "smuggled").await, "{target} {framing:?}");
        }
    }
    nothing_is_left(&hub).await;
}

#[tokio::test]
async fn elsewhere_a_body_is_read_as_one_and_thrown_away() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    for target in ["/healthz", "/v1/channels", "/openapi.json", "/nowhere"] {
        for (name, value, body) in framings() {
            wire.send(request("GET", target, &[(name, &value)], "") + &body).await;
            wire.answer().await;
            wire.send(get("/healthz")).await;
            assert_eq!(wire.answer().await.text(), "ok\n", "{target}");
        }
    }
    assert!(!exists(&hub, "smuggled").await);
}
