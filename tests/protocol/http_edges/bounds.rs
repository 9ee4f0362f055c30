//! Requests that are too long or too slow, and clients that talk where they should listen.

use super::{
    STREAMS,
    wire::{
        Wire, ask, get, hub, metric, metric_is, nothing_is_left, post, publish, published, request,
    },
};

/// Checks how often requests were past a bound.
async fn past(hub: &visnyk_loadtest::Hub, bound: &str, times: u64) {
    let name = format!("visnyk_requests_refused_total{{reason=\"{bound}\"}}");
    metric_is(hub, &name, times).await;
}

const SMALL: [(&str, &str); 2] =
    [("limits.publish.body_bytes_max", "1000"), ("limits.publish.batch_events_max", "10")];

#[tokio::test]
async fn a_body_may_have_its_bound_and_no_byte_more() {
    let hub = hub(&SMALL).await;
    let mut wire = Wire::to(&hub).await;
    for length in [999, 1000] {
        let data = "x".repeat(length);
        wire.send(publish("a", &data)).await;
        assert_eq!(wire.answer().await.status, 201, "{length}");
        wire.send(chunked(&data, 300)).await;
        assert_eq!(wire.answer().await.status, 201, "{length}");
    }
    let data = "x".repeat(1001);
    for request in [publish("a", &data), chunked(&data, 300), post("/publish", &data)] {
        let mut wire = Wire::to(&hub).await;
        wire.send(&request).await;
        let answer = wire.answer().await;
        assert_eq!(answer.refuses(413, "body")["bytes_max"], 1000);
        assert_eq!(answer.field("connection"), "close");
        wire.closed().await;
    }
    metric_is(&hub, "visnyk_events_published_total", 4).await;
    past(&hub, "body_too_large", 3).await;
}

#[tokio::test]
async fn a_client_that_goes_on_sending_after_its_refusal_is_not_reset_at_once() {
    let hub = hub(&SMALL).await;
    let data = "x".repeat(2_000_000);
    for request in [publish("a", &data), chunked(&data, 10_000)] {
        let mut wire = Wire::to(&hub).await;
        let (now, later) = request.split_at(100_000);
        wire.send(now).await;
        wire.answer().await.refuses(413, "body");
        wire.closed().await;
        // A reset on unread bytes could overtake the answer, on a longer way than this.
        for piece in later.as_bytes().chunks(200_000) {
            wire.send(piece).await;
        }
    }
    assert_eq!(metric(&hub, "visnyk_events_published_total").await, 0);
}

#[tokio::test]
async fn a_batch_may_have_its_bound_and_no_line_more() {
    let hub = hub(&SMALL).await;
    let batch = |lines: usize| {
        let ndjson = [("Content-Type", "application/x-ndjson")];
        request("POST", "/v1/channels/a/events", &ndjson, &"{\"data\":1}\n".repeat(lines))
    };
    for lines in [9, 10] {
        assert_eq!(ask(&hub, batch(lines)).await.json()["accepted"], lines);
    }
    assert_eq!(ask(&hub, batch(11)).await.refuses(413, "body")["events_max"], 10);
    metric_is(&hub, "visnyk_events_published_total", 19).await;
    past(&hub, "too_many_events", 1).await;
}

#[tokio::test]
async fn a_slow_body_is_given_up() {
    let hub = hub(&[("body_read_timeout_s", "1")]).await;
    for target in ["/v1/channels/a/events", "/publish"] {
        let mut wire = Wire::to(&hub).await;
        wire.send(format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhel"
        ))
        .await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.field("connection")), (408, "close"));
        answer.problem();
        let _ = wire.try_send("lo").await;
        wire.closed().await;
    }
    past(&hub, "slow_body", 2).await;
    assert_eq!(metric(&hub, "visnyk_events_published_total").await, 0);
}

#[tokio::test]
async fn a_slow_head_is_given_up_and_a_waiting_poll_is_not() {
    let hub = hub(&[("header_read_timeout_s", "1")]).await;
    let mut poll = Wire::to(&hub).await;
    poll.send(get("/v1/channels/a/poll?timeout=3")).await;
    let mut stream = Wire::to(&hub).await;
    stream.send(get(STREAMS[0])).await;
    stream.stream_head().await;
    let whole = get(STREAMS[0]);
    let mut slow = Vec::new();
    for end in [0, 1, 30, whole.len() - 1] {
        let mut wire = Wire::to(&hub).await;
        wire.send(&whole[..end]).await;
        slow.push(wire);
    }
    for mut wire in slow {
        wire.closed().await;
    }
    // A client that sends nothing only keeps a connection.
    past(&hub, "slow_head", 3).await;
    assert_eq!(poll.answer().await.status, 204);
    // The socket went back to a server that has a fresh second for the next head.
    poll.send(publish("a", "live")).await;
    assert_eq!(poll.answer().await.status, 201);
    assert!(stream.block().await.starts_with("data: live\n"));
    // And then it is as slow as anyone.
    poll.send("GET ").await;
    poll.closed().await;
}

#[tokio::test]
async fn a_connection_is_kept_for_a_next_request_longer_than_a_head_may_take() {
    let hub = hub_that_keeps("600").await;
    let requests = [
        get("/healthz"),
        publish("a", "x"),
        get("/v1/channels/a/poll?timeout=0"),
        get("/v1/channels/b/poll?timeout=1"),
    ];
    let mut kept = Vec::new();
    for request in &requests {
        let mut wire = Wire::to(&hub).await;
        wire.send(request).await;
        assert!(wire.answer().await.status < 300, "{request}");
        kept.push(wire);
    }
    // The time is what is tested: longer than a head may take.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    for wire in &mut kept {
        wire.send(publish("a", "again")).await;
        assert_eq!(wire.answer().await.status, 201);
        // A head that has begun has its own bound.
        wire.send("GET ").await;
        wire.closed().await;
    }
    past(&hub, "slow_head", kept.len() as u64).await;

    let hub = hub_that_keeps("1").await;
    for request in &requests {
        let mut wire = Wire::to(&hub).await;
        wire.send(request).await;
        assert!(wire.answer().await.status < 300, "{request}");
        wire.closed().await;
    }
    assert_eq!(metric(&hub, "visnyk_requests_refused_total{reason=\"slow_head\"}").await, 0);
}

async fn hub_that_keeps(keep_alive_s: &str) -> visnyk_loadtest::Hub {
    hub(&[("header_read_timeout_s", "1"), ("keep_alive_s", keep_alive_s)]).await
}

#[tokio::test]
async fn a_head_may_have_its_bound_and_no_byte_more() {
    let hub = hub(&[]).await;
    let around = "/healthz".len() + "HostlocalhostX".len();
    for (bytes, status) in [(32_767, 200), (32_768, 200), (32_769, 431)] {
        let x = "x".repeat(bytes - around);
        let mut wire = Wire::to(&hub).await;
        wire.send(request("GET", "/healthz", &[("X", &x)], "")).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, status, "{bytes}");
        if status == 431 {
            assert_eq!(answer.refuses(431, "head")["bytes_max"], 32_768);
        }
        wire.send(get("/healthz")).await;
        assert_eq!(wire.answer().await.status, 200, "the request had an end");
    }
    let target = format!("/v1/channels/{}/events", "x".repeat(32_768));
    assert_eq!(ask(&hub, get(&target)).await.status, 414);
    past(&hub, "head_too_large", 1).await;
    past(&hub, "target_too_long", 1).await;
}

#[tokio::test]
async fn a_head_that_is_far_too_long_is_not_read_to_its_end() {
    let hub = hub(&[]).await;
    let long = "x".repeat(1_000_000);
    let many: String = (0..101).map(|n| format!("X-{n}: y\r\n")).collect();
    for head in [
        request("GET", "/v1/channels/a/events", &[("X", &long)], ""),
        request("POST", "/v1/channels/a/events", &[("X", &long)], "data"),
        get("/v1/channels/a/events").replace("\r\n\r\n", &format!("\r\n{many}\r\n")),
        get(&format!("/v1/channels/{long}/events")),
    ] {
        let mut wire = Wire::to(&hub).await;
        wire.send(&head).await;
        let status = wire.answer().await.status;
        assert!(matches!(status, 414 | 431), "{status}");
        wire.closed().await;
    }
    assert_eq!(metric(&hub, "visnyk_channels").await, 0);
    past(&hub, "head_too_large", 4).await;
}

#[tokio::test]
async fn a_head_of_some_size_is_taken() {
    let hub = hub(&[]).await;
    let cookie = "x".repeat(16_000);
    let answer = ask(&hub, request("GET", "/healthz", &[("Cookie", &cookie)], "")).await;
    assert_eq!(answer.status, 200);
    let channels: String = (0..100).map(|n| format!("channel={n}{}&", "c".repeat(80))).collect();
    let mut wire = Wire::to(&hub).await;
    wire.send(get(&format!("/v1/events?{channels}"))).await;
    wire.stream_head().await;
}

#[tokio::test]
async fn a_streams_client_may_say_a_little_and_not_a_lot() {
    let hub = hub(&[]).await;
    let closed = "visnyk_connections_closed_total{reason=\"unexpected_input\"}";
    for (count, target) in STREAMS.into_iter().enumerate() {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(target)).await;
        wire.stream_head().await;
        wire.send(vec![b'x'; 10_000]).await;
        published(&hub, "a", "still there").await;
        published(&hub, "default", "still there").await;
        assert!(wire.block().await.contains("still there"));
        let _ = wire.try_send(vec![b'x'; 10_240]).await;
        wire.rest().await;
        metric_is(&hub, closed, count as u64 + 1).await;
    }
    nothing_is_left(&hub).await;
}

#[tokio::test]
async fn absurd_positions_are_refused_by_name_where_a_page_writes_them() {
    let hub = hub(&[]).await;
    let long = "x".repeat(41);
    for target in
        ["/v1/channels/a/events", "/v1/channels/a/poll?timeout=0", "/events", "/subscribe"]
    {
        let separator = if target.contains('?') { '&' } else { '?' };
        let target = format!("{target}{separator}last_event_id={long}");
        ask(&hub, get(&target)).await.refuses(400, "last_event_id");
    }
    let answer = ask(&hub, get("/v1/channels/a/events?last_event_id=%ff")).await;
    answer.refuses(400, "last_event_id");
    nothing_is_left(&hub).await;
}

/// A publish in chunks of `size` bytes.
fn chunked(data: &str, size: usize) -> String {
    let mut text = "POST /v1/channels/a/events HTTP/1.1\r\nHost: localhost\r\n\
                    Transfer-Encoding: chunked\r\n\r\n"
        .to_owned();
    for chunk in data.as_bytes().chunks(size) {
        text += &format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk));
    }
    text + "0\r\n\r\n"
}

#[tokio::test]
async fn a_body_comes_in_no_more_than_so_many_pieces() {
    let hub = hub(&[]).await;
    let chunked = |sizes: &[usize]| {
        let chunks = sizes.iter().map(|&size| format!("{size:x}\r\n{}\r\n", "x".repeat(size)));
        let body = chunks.collect::<String>() + "0\r\n\r\n";
        let fields = "Host: localhost\r\nTransfer-Encoding: chunked\r\n";
        format!("POST /v1/channels/a/events HTTP/1.1\r\n{fields}\r\n{body}")
    };
    // 1,024, and one more for each 64 bytes.
    for (pieces, status) in [(1_023, 201), (1_039, 201), (1_040, 201), (1_041, 400), (9_000, 400)] {
        let mut wire = Wire::to(&hub).await;
        // What comes after the refusal the hub may not take.
        let _ = wire.try_send(chunked(&vec![1; pieces])).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, status, "{pieces} pieces: {answer:?}");
        if status == 400 {
            answer.refuses(400, "body");
            assert_eq!(answer.field("connection"), "close");
        }
    }
    assert_eq!(ask(&hub, chunked(&vec![64; 10_000])).await.status, 201, "none of them is small");
    past(&hub, "too_many_pieces", 2).await;
}

#[tokio::test]
async fn a_client_that_sends_without_end_after_its_refusal_is_slowed_down() {
    let hub = hub(&SMALL).await;
    let mut wire = Wire::to(&hub).await;
    wire.send(
        "POST /v1/channels/a/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n",
    )
    .await;
    assert_eq!(wire.answer().await.status, 413);
    let piece = vec![b'x'; 64 * 1024];
    let mut sent = 0;
    while sent < 256 * 1024 * 1024 && wire.try_send(&piece).await.is_ok() {
        sent += piece.len();
    }
    // Two seconds of four megabytes each, and what the kernel takes.
    assert!(sent < 64 * 1024 * 1024, "{sent} bytes were read for nothing");
}
