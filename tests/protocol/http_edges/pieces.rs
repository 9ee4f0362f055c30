//! Requests that come in pieces, cut at every byte.

use std::time::Duration;

use super::wire::{Wire, exists, get, hub, nothing_is_left, publish, published, request};

#[tokio::test]
async fn one_byte_at_a_time() {
    let hub = hub(&[]).await;
    let position = published(&hub, "a", "first").await;
    let mut wire = Wire::to(&hub).await;
    let poll = get(&format!("/v1/channels/a/poll?last_event_id={position}&timeout=0"));
    let chunked = format!(
        "{}3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        request("POST", "/v1/channels/a/events", &[("Transfer-Encoding", "chunked")], "")
            .replace("Content-Length: 0\r\n", "")
    );
    for (request, status) in
        [(publish("a", "own"), 201), (poll, 200), (chunked, 201), (get("/healthz"), 200)]
    {
        for byte in request.as_bytes().chunks(1) {
            wire.send(byte).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(wire.answer().await.status, status, "{request}");
    }
    for byte in get("/v1/channels/a/events?last_event_id=earliest").as_bytes().chunks(1) {
        wire.send(byte).await;
        tokio::task::yield_now().await;
    }
    wire.stream_head().await;
    for data in ["first", "own", "abcde"] {
        assert!(wire.block().await.starts_with(&format!("data: {data}\n")));
    }
}

#[tokio::test]
async fn two_pieces_cut_at_every_byte() {
    let hub = hub(&[]).await;
    published(&hub, "a", "first").await;
    let stream = get("/v1/channels/a/events?last_event_id=earliest");
    let chain = get("/v1/channels/a/poll?last_event_id=earliest&limit=1")
        + &get("/v1/channels/b/poll?timeout=1")
        + &publish("c", "x")
        + &stream;
    let cuts = (1..chain.len()).map(|cut| {
        let (chain, hub) = (&chain, &hub);
        async move {
            let mut wire = Wire::to(hub).await;
            wire.send(&chain[..cut]).await;
            // Only time tells the two pieces apart for the hub: nothing answers the first.
            tokio::time::sleep(Duration::from_millis(5)).await;
            wire.send(&chain[cut..]).await;
            assert_eq!(wire.answer().await.json()["events"][0]["data"], "first", "cut at {cut}");
            assert_eq!(wire.answer().await.status, 204, "cut at {cut}");
            assert_eq!(wire.answer().await.status, 201, "cut at {cut}");
            wire.stream_head().await;
            assert!(wire.block().await.starts_with("data: first\n"), "cut at {cut}");
        }
    });
    let cuts: Vec<_> = cuts.collect();
    futures(cuts).await;
    nothing_is_left(&hub).await;
}

#[tokio::test]
async fn garbage_is_refused_and_not_waited_for() {
    let hub = hub(&[]).await;
    let client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello hello hello\r\n\r\n";
    for garbage in [
        &b"\r\n\r\n\r\nwhat\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET /v1/channels/a/events HTTP/9.9\r\n\r\n",
        b"GET /v1/channels/a/events HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET /v1/channels/a/events HTTP/1.1\r\nHost: local\0host\r\n\r\n",
        b"GET /v1/chan nels/a/events HTTP/1.1\r\nHost: localhost\r\n\r\n",
        client_hello,
    ] {
        let mut wire = Wire::to(&hub).await;
        wire.send(garbage).await;
        let said = wire.rest().await;
        let said = String::from_utf8_lossy(&said);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{garbage:?}: {said}");
    }
    assert!(!exists(&hub, "a").await);
}

#[tokio::test]
async fn unusual_methods_and_targets_are_refused_and_not_waited_for() {
    let hub = hub(&[]).await;
    for (line, status) in [
        ("OPTIONS * HTTP/1.1", 204),
        ("CONNECT localhost:80 HTTP/1.1", 404),
        ("TRACE / HTTP/1.1", 405),
        ("BREW /v1/events HTTP/1.1", 405),
        ("GET // HTTP/1.1", 404),
        ("GET /v1/channels//events HTTP/1.1", 400),
        ("GET /v1/channels/a/b/events HTTP/1.1", 404),
        ("GET /v1/channels/a/events/ HTTP/1.1", 404),
        ("GET /healthz?%ff HTTP/1.1", 200),
    ] {
        let mut wire = Wire::to(&hub).await;
        wire.send(format!("{line}\r\nHost: localhost\r\n\r\n")).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        if status >= 400 {
            answer.problem();
        }
    }
}

/// Runs all of them at once.
async fn futures(all: Vec<impl Future<Output = ()>>) {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        all.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
