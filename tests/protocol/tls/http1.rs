//! HTTP/1.1 over TLS: the same as without it.

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::{Instant, timeout},
};

use super::{
    certificate::TlsHub,
    client::{Client, dial, greet, metric, tls_config},
    support::PATIENCE,
};

#[tokio::test]
async fn stream_over_tls_resumes_and_goes_on() {
    let hub = TlsHub::start(&[]).await;
    let publisher = Client::tls_http1(&hub).await;
    let first = publisher.publish("a", "one").await;
    publisher.publish("a", "two").await;
    let mut stream = Client::tls_http1(&hub).await.stream("a", &first).await;
    assert_eq!(stream.data().await.as_deref(), Some("two"), "what it missed");
    for n in 0..100 {
        publisher.publish("a", &format!("live {n}")).await;
    }
    for n in 0..100 {
        assert_eq!(stream.data().await, Some(format!("live {n}")));
    }
    assert_eq!(metric(&publisher, "visnyk_streams").await, 1.0);
    drop(stream);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while metric(&publisher, "visnyk_streams").await > 0.0 {
        assert!(tokio::time::Instant::now() < deadline, "it does not notice that the client left");
    }
}

#[tokio::test]
async fn events_larger_than_a_record_come_whole() {
    let hub = TlsHub::start(&[]).await;
    let publisher = Client::tls_http1(&hub).await;
    let mut stream = Client::tls_http1(&hub).await.stream("a", "now").await;
    let large: Vec<String> = (0..20).map(|n| format!("{n}").repeat(100_000 + 4_096 * n)).collect();
    for data in &large {
        publisher.publish("a", data).await;
        assert!(stream.data().await.as_ref() == Some(data));
    }
}

#[tokio::test]
async fn connection_of_a_poll_goes_on_after_its_answer() {
    let hub = TlsHub::start(&[]).await;
    let publisher = Client::tls_http1(&hub).await;
    let client = Client::tls_http1(&hub).await;
    let (_, text) = client.ask("GET", "/v1/channels/a/poll?timeout=0", &[], "").await;
    assert_eq!(text, "");
    let mut position = "now".to_owned();
    for n in 0..10 {
        let polling = tokio::spawn({
            let client = client.clone();
            let position = position.clone();
            async move {
                let fields = [("last-event-id", position.as_str())];
                client.ask("GET", "/v1/channels/a/poll?timeout=30", &fields, "").await
            }
        });
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while metric(&publisher, "visnyk_pollers").await < 1.0 {
            assert!(tokio::time::Instant::now() < deadline, "it does not wait");
        }
        position = publisher.publish("a", &format!("event {n}")).await;
        let (status, text) = polling.await.expect("it does not fail");
        assert_eq!(status, 200);
        assert!(text.contains(&format!("event {n}")), "{text}");
    }
    // All on one connection, which hyper's client would not replace.
    let (status, _) = client.ask("GET", "/healthz", &[], "").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn last_answer_of_a_connection_comes_whole_however_slowly_it_is_read() {
    let hub = TlsHub::start(&[("LIMITS__CONNECTIONS__SEND_BUFFER_BYTES", "16384")]).await;
    let publisher = Client::tls_http1(&hub).await;
    // About as many bytes as kernels take of an answer that is not read, in steps of half a record.
    for kib in (16..=160).step_by(8) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a buffer");
        let io = socket.connect(hub.hub.address()).await.expect("it accepts");
        let config = tls_config(&hub.certificate.der, &[]);
        let mut io = greet(io, config).await.expect("a handshake");
        let poll = "GET /v1/channels/a/poll?timeout=30 HTTP/1.1\r\nHost: localhost\r\n\
                    Connection: close\r\n\r\n";
        io.write_all(poll.as_bytes()).await.expect("it reads");
        let deadline = Instant::now() + PATIENCE;
        while metric(&publisher, "visnyk_pollers").await < 1.0 {
            assert!(Instant::now() < deadline, "it does not wait");
        }
        publisher.publish("a", &"x".repeat(kib * 1_024)).await;
        // The hub has written what it can, and may be through with it.
        for _ in 0..5 {
            metric(&publisher, "visnyk_pollers").await;
        }
        let mut text = String::new();
        let read = timeout(PATIENCE, io.read_to_string(&mut text)).await.expect("in time");
        read.unwrap_or_else(|error| panic!("{kib} KiB: {error} after {} bytes", text.len()));
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let length = format!("content-length: {}\r\n", body.len());
        assert!(head.contains(&length), "{kib} KiB: {} bytes of {head}", body.len());
    }
}

#[tokio::test]
async fn request_sent_behind_a_waiting_poll_is_answered_after_it() {
    let hub = TlsHub::start(&[]).await;
    let config = tls_config(&hub.certificate.der, &[]);
    let mut io = dial(hub.hub.address(), config).await.expect("a handshake");
    let poll = "GET /v1/channels/a/poll?timeout=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let next = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    io.write_all(format!("{poll}{next}").as_bytes()).await.expect("it reads");
    let mut text = String::new();
    timeout(PATIENCE, io.read_to_string(&mut text)).await.expect("in time").expect("an end");
    assert!(text.starts_with("HTTP/1.1 204"), "{text}");
    assert!(text.contains("HTTP/1.1 200"), "{text}");

    // The same, with the second request in a record of its own while the poll waits.
    let config = tls_config(&hub.certificate.der, &[]);
    let mut io = dial(hub.hub.address(), config).await.expect("a handshake");
    io.write_all(poll.as_bytes()).await.expect("it reads");
    io.flush().await.expect("it goes out");
    let publisher = Client::tls_http1(&hub).await;
    while metric(&publisher, "visnyk_pollers").await < 1.0 {}
    io.write_all(next.as_bytes()).await.expect("it reads");
    let mut text = String::new();
    timeout(PATIENCE, io.read_to_string(&mut text)).await.expect("in time").expect("an end");
    assert!(text.starts_with("HTTP/1.1 204") && text.contains("HTTP/1.1 200"), "{text}");
}

#[tokio::test]
async fn stream_that_drains_ends_with_its_retry_and_a_close_notify() {
    let hub = TlsHub::start(&[("DRAIN_WINDOW_S", "1")]).await;
    let config = tls_config(&hub.certificate.der, &[]);
    let mut io = dial(hub.hub.address(), config).await.expect("a handshake");
    let request = "GET /v1/channels/a/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    io.write_all(request.as_bytes()).await.expect("it reads");
    let publisher = Client::tls_http1(&hub).await;
    while metric(&publisher, "visnyk_streams").await < 1.0 {}
    hub.hub.terminate().expect("it runs");
    let mut bytes = Vec::new();
    // rustls calls an end without a close_notify an error.
    timeout(PATIENCE, io.read_to_end(&mut bytes)).await.expect("in time").expect("a good end");
    let text = Bytes::from(bytes);
    let text = std::str::from_utf8(&text).expect("text");
    assert_eq!(text.matches("retry:").count(), 2, "{text}");
}

/// Pooled connections end without an answer that would say so.
#[tokio::test]
async fn connection_that_is_kept_ends_with_a_close_notify() {
    for ends_by_time in [true, false] {
        let keep_alive_s = if ends_by_time { "1" } else { "600" };
        let hub = TlsHub::start(&[("KEEP_ALIVE_S", keep_alive_s)]).await;
        let config = tls_config(&hub.certificate.der, &[]);
        let mut io = dial(hub.hub.address(), config).await.expect("a handshake");
        let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        io.write_all(request.as_bytes()).await.expect("it reads");
        let mut bytes = vec![0; 4_096];
        let read = timeout(PATIENCE, io.read(&mut bytes)).await.expect("in time").expect("read");
        assert!(bytes[..read].starts_with(b"HTTP/1.1 200"));
        if !ends_by_time {
            hub.hub.terminate().expect("it runs");
        }
        let mut rest = Vec::new();
        // rustls calls an end without a close_notify an error.
        let end = timeout(PATIENCE, io.read_to_end(&mut rest)).await.expect("in time");
        end.expect("a good end");
    }
}

#[tokio::test]
async fn client_that_does_not_read_is_closed_and_delays_no_other() {
    let hub = TlsHub::start(&[("LIMITS__CONNECTIONS__SEND_BUFFER_BYTES", "4096")]).await;
    let publisher = Client::tls_http1(&hub).await;
    let mut reader = Client::tls_http1(&hub).await.stream("a", "now").await;
    let mut stalled = Vec::new();
    for _ in 0..10 {
        let config = tls_config(&hub.certificate.der, &[]);
        let mut io = dial(hub.hub.address(), config).await.expect("a handshake");
        let request = "GET /v1/channels/a/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        io.write_all(request.as_bytes()).await.expect("it reads");
        stalled.push(io);
    }
    while metric(&publisher, "visnyk_streams").await < 11.0 {}
    let large = "x".repeat(50_000);
    let closed = "visnyk_connections_closed_total{reason=\"slow_consumer\"}";
    let mut published = 0;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while metric(&publisher, closed).await < 10.0 {
        publisher.publish("a", &large).await;
        published += 1;
        assert!(reader.data().await.is_some_and(|data| data == large), "it is not held up");
        assert!(tokio::time::Instant::now() < deadline, "after {published} events");
    }
    assert_eq!(metric(&publisher, "visnyk_streams").await, 1.0);
}
