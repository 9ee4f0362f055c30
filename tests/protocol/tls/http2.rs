//! HTTP/2, over TLS and in plain text: the same hub, with many requests on a connection.

use std::process::Stdio;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    certificate::TlsHub,
    client::{Client, dial, metric, tls_config},
    raw::{self, Raw},
    support::{PATIENCE, TestHub},
};

#[tokio::test]
async fn streams_and_polls_start_with_last_events_that_are_on_disk_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("log");
    let hub = TestHub::start(&[
        ("data_dir", data_dir.to_str().expect("text")),
        ("limits.history.total_bytes_max", "2000"),
    ])
    .await;
    let client = Client::h2c(hub.address()).await;
    let data: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    hub.publish_all("a", &data).await;
    let mut stream = client.stream_of("/v1/channels/a/events?last=200", &[]).await;
    for n in 100..300 {
        assert_eq!(stream.data().await, Some(n.to_string()));
    }
    client.publish("a", "live").await;
    assert_eq!(stream.data().await.as_deref(), Some("live"));
    let target = "/v1/channels/a/poll?timeout=0&limit=1000&last=201";
    let (status, body) = client.ask("GET", target, &[], "").await;
    let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let events = answer["events"].as_array().expect("events");
    assert_eq!((status, events.len()), (200, 201), "{body}");
    assert_eq!((&events[0]["data"], &events[200]["data"]), (&"100".into(), &"live".into()));
}

/// Waits until a metric has a value.
pub(crate) async fn wait_for(client: &Client, name: &str, value: f64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = metric(client, name).await;
        if now == value {
            return;
        }
        assert!(Instant::now() < deadline, "{name} is {now}, not {value}");
    }
}

#[tokio::test]
async fn alpn_chooses_the_protocol() {
    let hub = TlsHub::start(&[]).await;
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&["http/1.1"], Some(b"http/1.1")),
        (&["http/1.0"], Some(b"http/1.0")),
        (&[], None),
    ] {
        let config = tls_config(&hub.certificate.der, offered);
        let io = dial(hub.hub.address(), config).await.expect("a handshake");
        assert_eq!(io.get_ref().1.alpn_protocol(), chosen, "{offered:?}");
    }
    let config = tls_config(&hub.certificate.der, &["spdy/3"]);
    assert!(dial(hub.hub.address(), config).await.is_err(), "nothing in common");
}

#[tokio::test]
async fn an_answer_to_head_has_no_body_whatever_its_status() {
    let hub = TlsHub::start(&[]).await;
    let client = Client::tls_http2(&hub).await;
    for (target, status) in [
        ("/healthz", 200),
        ("/nothing", 404),
        ("/publish", 405),
        ("/v1/channels/a%0Ab/poll", 400),
        ("/v1/channels/none", 404),
    ] {
        // A client of HTTP/2 takes DATA in answer to HEAD for a protocol error (RFC 9113, 8.1.1).
        let (answered, body) = client.ask("HEAD", target, &[], "").await;
        assert_eq!((answered, body.as_str()), (status, ""), "{target}");
    }
}

#[tokio::test]
async fn two_hundred_streams_on_one_connection_each_receive_everything() {
    let hub = TlsHub::start(&[]).await;
    let publisher = Client::tls_http1(&hub).await;
    let client = Client::tls_http2(&hub).await;
    let first = client.publish("a", "before").await;
    let mut streams = Vec::new();
    for n in 0..200 {
        let (channel, from) = [("a", first.as_str()), ("b", "now"), ("**", "now")][n % 3];
        streams.push((channel, client.stream(&channel.replace('*', "%2A"), from).await));
    }
    assert_eq!(metric(&publisher, "visnyk_streams").await, 200.0);
    assert_eq!(metric(&publisher, "visnyk_http2_connections").await, 1.0);
    let mut receiving = JoinSet::new();
    for (channel, mut stream) in streams {
        receiving.spawn(async move {
            let mut received: Vec<String> = Vec::new();
            while received.last().is_none_or(|last| !last.ends_with("49")) {
                received.push(stream.data().await.expect("an event"));
            }
            let of = |name: &str| (0..50).map(|n| format!("{name} {n}")).collect::<Vec<_>>();
            match channel {
                "a" | "b" => assert_eq!(received, of(channel)),
                _ => {
                    received.push(stream.data().await.expect("an event"));
                    let both: Vec<String> =
                        (0..50).flat_map(|n| [format!("a {n}"), format!("b {n}")]).collect();
                    assert_eq!(received, both, "in the log's order");
                }
            }
            stream
        });
    }
    for n in 0..50 {
        // The other way round on the same connection.
        client.publish("a", &format!("a {n}")).await;
        client.publish("b", &format!("b {n}")).await;
    }
    let streams = receiving.join_all().await;
    drop(streams);
    wait_for(&publisher, "visnyk_streams", 0.0).await;
    assert_eq!(metric(&publisher, "visnyk_http2_connections").await, 1.0);
    drop(client);
    wait_for(&publisher, "visnyk_http2_connections", 0.0).await;
    assert_eq!(metric(&publisher, "visnyk_http_connections").await, 1.0, "its permit is free");
}

#[tokio::test]
async fn polls_wait_side_by_side_on_one_connection() {
    let hub = TestHub::start(&[]).await;
    let client = Client::h2c(hub.address()).await;
    let start = client.publish("a", "before").await;
    let mut polls = JoinSet::new();
    for n in 0..50 {
        let (client, start) = (client.clone(), start.clone());
        polls.spawn(async move {
            let target = format!("/v1/channels/a/poll?timeout={}", if n == 0 { 1 } else { 60 });
            let response =
                client.send("GET", &target, &[("last-event-id", &start)], "").await.expect("one");
            let field = |name| {
                let value = response.headers().get(name);
                value.map(|value| value.to_str().expect("text").to_owned())
            };
            (n, response.status().as_u16(), field("last-event-id"), field("content-type"))
        });
    }
    wait_for(&client, "visnyk_pollers", 50.0).await;
    let (n, status, position, _) = polls.join_next().await.expect("one").expect("it does not fail");
    assert_eq!((n, status, position), (0, 204, Some(start)), "the one that waits for a second");
    assert_eq!(metric(&client, "visnyk_pollers").await, 49.0);
    let next = client.publish("a", "now").await;
    for (_, status, position, media_type) in polls.join_all().await {
        assert_eq!((status, position), (200, Some(next.clone())));
        assert_eq!(media_type.as_deref(), Some("application/json"));
    }
    let (status, text) = client
        .ask("GET", "/v1/channels/a/poll?timeout=0", &[("last-event-id", "earliest")], "")
        .await;
    assert!(status == 200 && text.contains("before"), "{text}");
}

#[tokio::test]
async fn preface_in_any_pieces_is_http2_and_nothing_else_is() {
    let hub = TestHub::start(&[]).await;
    let head =
        raw::frame(raw::HEADERS, raw::END_STREAM | raw::END_HEADERS, 1, &raw::get_head("/healthz"));
    let bytes = [raw::PREFACE, &raw::frame(raw::SETTINGS, 0, 0, &[]), &head].concat();
    for cut in [1, 3, 4, 14, 18, 23, 24, 25, 33, 40] {
        assert_answered(&hub, &[&bytes[..cut], &bytes[cut..cut + 1], &bytes[cut + 1..]]).await;
    }
    assert_answered(&hub, &bytes.chunks(1).collect::<Vec<_>>()).await;
    for request in [
        "POST /v1/channels/a/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\
         Connection: close\r\n\r\nx",
        "PRINT / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "PRI / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ] {
        for cut in [1, 2, 3, 4, 5, 20] {
            let mut io = TcpStream::connect(hub.address()).await.expect("it accepts");
            io.write_all(&request.as_bytes()[..cut]).await.expect("it reads");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            io.write_all(&request.as_bytes()[cut..]).await.expect("it reads");
            let mut text = String::new();
            timeout(PATIENCE, io.read_to_string(&mut text)).await.expect("in time").expect("text");
            assert!(text.starts_with("HTTP/1."), "{request:?} cut at {cut}: {text:?}");
        }
    }
}

/// A first request that comes in these pieces is answered.
async fn assert_answered(hub: &TestHub, pieces: &[&[u8]]) {
    let mut client = Raw::silent(hub.address()).await;
    client.io.set_nodelay(true).expect("it is a socket");
    for piece in pieces {
        client.send(piece).await.expect("it reads");
        // Each comes alone, if the machine is not too busy; both ways it must work.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let answer = client.next_of(raw::HEADERS).await.expect("an answer");
    assert_eq!((answer.stream, answer.payload[0]), (1, 0x88), "200, in {} pieces", pieces.len());
}

#[tokio::test]
async fn a_host_other_than_the_authority_is_malformed() {
    let hub = TestHub::start(&[]).await;
    let client = Client::h2c(hub.address()).await;
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:443", 200),
        ("localhost:80", 400),
        ("127.0.0.1", 400),
        ("evil.example", 400),
    ] {
        let (answered, text) = client.ask("GET", "/v1/channels", &[("host", host)], "").await;
        assert_eq!(answered, status, "{host}: {text}");
    }
}

#[tokio::test]
async fn http1_after_http2_was_agreed_ends_the_connection() {
    let hub = TlsHub::start(&[]).await;
    let config = tls_config(&hub.certificate.der, &["h2"]);
    let mut io = dial(hub.hub.address(), config).await.expect("a handshake");
    io.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("it reads");
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, io.read_to_end(&mut answer)).await.expect("its end in time");
    assert!(!answer.starts_with(b"HTTP/1"), "{answer:?}");
    let closed = "visnyk_http2_closed_total{reason=\"protocol\"}";
    let client = Client::tls_http2(&hub).await;
    wait_for(&client, closed, 1.0).await;
}

#[tokio::test]
async fn curl_speaks_http2_with_the_hub() {
    let plain = TestHub::start(&[]).await;
    let tls = TlsHub::start(&[]).await;
    let (plain, secure) = (
        format!("http://{}", plain.address()),
        format!("https://localhost:{}", tls.hub.address().port()),
    );
    for (option, base) in [("--http2-prior-knowledge", plain), ("--http2", secure)] {
        let curl = |arguments: &[&str]| {
            let mut command = Command::new("curl");
            command.args(["--silent", "--show-error", "--max-time", "30", option, "--cacert"]);
            command.arg(tls.cert_file()).args(arguments).stdout(Stdio::piped());
            command
        };
        let target = format!("{base}/v1/channels/a/events");
        let published = curl(&["-d", "hello", "-w", "%{http_version}", &target]).output().await;
        let published = String::from_utf8(published.expect("curl runs").stdout).expect("text");
        assert!(published.ends_with("}2"), "{published}");
        let from = ["-N", "-H", "Last-Event-ID: earliest", &target];
        let mut reading = curl(&from).kill_on_drop(true).spawn().expect("curl runs");
        let mut text = String::new();
        let mut pipe = reading.stdout.take().expect("a pipe");
        while !text.contains("data: hello\n") {
            let mut bytes = [0; 4096];
            let read = timeout(PATIENCE, pipe.read(&mut bytes)).await.expect("in time");
            text += std::str::from_utf8(&bytes[..read.expect("bytes")]).expect("text");
        }
    }
}

#[tokio::test]
async fn more_requests_than_a_connection_may_have_are_refused_and_those_there_stay() {
    let hub = TestHub::start(&[("LIMITS__HTTP2__STREAMS_MAX", "3")]).await;
    let mut client = Raw::connect(hub.address(), &[]).await;
    for stream in [1, 3, 5, 7] {
        client.get(stream, "/v1/channels/a/events").await;
    }
    let refused = client.next_of(raw::RST_STREAM).await.expect("a refusal");
    assert_eq!((refused.stream, refused.payload), (7, vec![0, 0, 0, 7]), "REFUSED_STREAM");
    hub.wait_for_metric("visnyk_streams", |streams| streams == 3.0).await;
    // One leaves, another may come.
    client.send(&raw::frame(raw::RST_STREAM, 0, 3, &[0, 0, 0, 8])).await.expect("it reads");
    hub.wait_for_metric("visnyk_streams", |streams| streams == 2.0).await;
    client.get(9, "/v1/channels/a/events").await;
    hub.wait_for_metric("visnyk_streams", |streams| streams == 3.0).await;
}

#[tokio::test]
async fn drain_ends_streams_each_with_its_retry_and_answers_polls() {
    for secure in [false, true] {
        let settings = [("DRAIN_WINDOW_S", "1")];
        let (plain, tls);
        let (mut hub, client) = if secure {
            tls = TlsHub::start(&settings).await;
            let client = Client::tls_http2(&tls).await;
            (tls.hub, client)
        } else {
            plain = TestHub::start(&settings).await;
            let client = Client::h2c(plain.address()).await;
            (plain.into_inner(), client)
        };
        let start = client.publish("a", "before").await;
        let mut streams = Vec::new();
        for _ in 0..40 {
            streams.push(client.stream("a", "now").await);
        }
        let poll = tokio::spawn({
            let client = client.clone();
            async move {
                let fields = [("last-event-id", start.as_str())];
                client.ask("GET", "/v1/channels/a/poll?timeout=60", &fields, "").await.0
            }
        });
        wait_for(&client, "visnyk_pollers", 1.0).await;
        hub.terminate().expect("it runs");
        let mut retries = Vec::new();
        for mut stream in streams {
            let block = stream.block().await.expect("its last words");
            assert!(block.contains("retry: "), "{block}");
            retries.push(block);
            assert_eq!(stream.block().await, None);
        }
        retries.sort();
        retries.dedup();
        assert!(retries.len() > 20, "{retries:?}");
        assert_eq!(poll.await.expect("it does not fail"), 204);
        let status = hub.wait(PATIENCE).await.expect("it ends");
        assert_eq!(status.code(), Some(0), "{}", hub.stderr());
    }
}

#[tokio::test]
async fn connection_without_requests_is_closed_after_a_while() {
    let hub = TestHub::start(&[("LIMITS__HTTP2__IDLE_S", "1")]).await;
    let mut idle = Raw::connect(hub.address(), &[]).await;
    let mut busy = Raw::connect(hub.address(), &[]).await;
    busy.get(1, "/v1/channels/a/events").await;
    assert_eq!(idle.ended().await, Some(0), "NO_ERROR");
    hub.publish("a", "still here").await;
    while let Some(frame) = busy.next_of(raw::DATA).await {
        if String::from_utf8_lossy(&frame.payload).contains("still here") {
            return;
        }
    }
    panic!("a connection with a stream is not idle");
}

#[tokio::test]
async fn client_that_answers_no_pings_is_gone() {
    let settings =
        [("LIMITS__HTTP2__KEEP_ALIVE_S", "1"), ("LIMITS__HTTP2__KEEP_ALIVE_TIMEOUT_S", "1")];
    let hub = TestHub::start(&settings).await;
    let honest = Client::h2c(hub.address()).await;
    let mut stream = honest.stream("a", "now").await;
    let mut client = Raw::connect(hub.address(), &[]).await;
    client.get(1, "/v1/channels/a/events").await;
    hub.wait_for_metric("visnyk_streams", |streams| streams == 2.0).await;
    client.ended().await;
    hub.wait_for_metric("visnyk_streams", |streams| streams == 1.0).await;
    hub.publish("a", "still here").await;
    assert_eq!(stream.data().await.as_deref(), Some("still here"));
}
