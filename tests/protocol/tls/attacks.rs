//! Clients of HTTP/2 that mean no good, while an honest one receives everything.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    client::{Client, Events},
    raw::{self, Raw, frame, get_head, setting},
    support::{PATIENCE, TestHub},
};

/// A hub with an honest client, which is to notice nothing.
struct Besieged {
    hub: TestHub,
    honest: Events,
}

impl Besieged {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let hub = TestHub::start(settings).await;
        let honest = Client::h2c(hub.address()).await.stream("honest", "now").await;
        Self { hub, honest }
    }

    async fn assert_closed_for(&self, reason: &str) {
        let name = format!("visnyk_http2_closed_total{{reason=\"{reason}\"}}");
        self.hub.wait_for_metric(&name, |closed| closed >= 1.0).await;
    }

    /// The honest client still receives.
    async fn assert_unmoved(mut self) {
        for n in 0..10 {
            self.hub.publish("honest", &format!("event {n}")).await;
            assert_eq!(self.honest.data().await, Some(format!("event {n}")));
        }
    }
}

/// Sends until the hub takes no more; that must be.
async fn flood(client: &mut Raw, bytes: &[u8]) {
    let deadline = Instant::now() + PATIENCE;
    while client.send(bytes).await.is_ok() {
        assert!(Instant::now() < deadline, "it takes all bytes");
    }
}

#[tokio::test]
async fn preface_that_does_not_go_on_is_cut() {
    let besieged = Besieged::start(&[("HEADER_READ_TIMEOUT_S", "1")]).await;
    for bytes in
        [&raw::PREFACE[..3], &raw::PREFACE[..10], raw::PREFACE, &[raw::PREFACE, &[0, 0]].concat()]
    {
        let mut client = Raw::silent(besieged.hub.address()).await;
        client.send(bytes).await.expect("it reads");
        client.ended().await;
    }
    // Before its end it is a head of either protocol.
    let unknown = "visnyk_requests_refused_total{reason=\"slow_head\"}";
    besieged.hub.wait_for_metric(unknown, |refused| refused == 2.0).await;
    besieged.assert_closed_for("slow_head").await;
    besieged.hub.wait_for_metric("visnyk_http2_connections", |open| open == 1.0).await;
    besieged.assert_unmoved().await;
}

#[tokio::test]
async fn head_that_does_not_end_is_cut() {
    let besieged = Besieged::start(&[("HEADER_READ_TIMEOUT_S", "1")]).await;
    let mut client = Raw::connect(besieged.hub.address(), &[]).await;
    // A field `a` whose value is to be 1,000 bytes long.
    let field = [0x00, 1, b'a', 0x7f, 0xe9, 0x06];
    let head = [get_head("/").as_slice(), &field].concat();
    client.send(&frame(raw::HEADERS, 0, 1, &head)).await.expect("it reads");
    let began = Instant::now();
    // A byte now and then is not a head either; of many the protocol's own bound would be the end.
    let more = frame(raw::CONTINUATION, 0, 1, b"x");
    while client.send(&more[..]).await.is_ok() && began.elapsed() < PATIENCE {
        sleep(Duration::from_millis(400)).await;
    }
    client.ended().await;
    assert!(began.elapsed() < PATIENCE);
    besieged.assert_closed_for("slow_head").await;
    besieged.assert_unmoved().await;
}

#[tokio::test]
async fn flood_of_continuations_ends_its_connection() {
    let besieged = Besieged::start(&[]).await;
    let mut client = Raw::connect(besieged.hub.address(), &[]).await;
    client.send(&frame(raw::HEADERS, raw::END_STREAM, 1, &get_head("/"))).await.expect("it reads");
    // A field of 4 KiB each.
    let mut field = vec![0x00, 1, b'x', 0x7f, 0x81, 0x1f];
    field.extend([b'y'; 4_096]);
    flood(&mut client, &frame(raw::CONTINUATION, 0, 1, &field)).await;
    besieged.assert_closed_for("enhance_your_calm").await;
    besieged.assert_unmoved().await;

    let besieged = Besieged::start(&[]).await;
    let mut client = Raw::connect(besieged.hub.address(), &[]).await;
    client.send(&frame(raw::HEADERS, raw::END_STREAM, 1, &get_head("/"))).await.expect("it reads");
    flood(&mut client, &frame(raw::CONTINUATION, 0, 1, &[])).await;
    besieged.assert_closed_for("enhance_your_calm").await;
    besieged.assert_unmoved().await;
}

#[tokio::test]
async fn requests_reset_at_once_end_their_connection() {
    assert_calmed(|stream| frame(raw::RST_STREAM, 0, stream, &[0, 0, 0, 8])).await;
}

#[tokio::test]
async fn resets_that_the_hub_is_made_to_send_end_their_connection() {
    // A window that overflows (CVE-2025-8671).
    let overflow = 0x7FFF_FFFF_u32.to_be_bytes();
    assert_calmed(|stream| frame(raw::WINDOW_UPDATE, 0, stream, &overflow)).await;
}

/// Opens very many streams, each with a frame behind it, and checks that the connection is ended.
async fn assert_calmed(behind: impl Fn(u32) -> Vec<u8>) {
    let besieged = Besieged::start(&[]).await;
    let mut client = Raw::connect(besieged.hub.address(), &[]).await;
    let mut bytes = Vec::new();
    for n in 0..2_000 {
        let stream = 2 * n + 1;
        let head = get_head("/v1/channels/a/events");
        bytes.extend(frame(raw::HEADERS, raw::END_STREAM | raw::END_HEADERS, stream, &head));
        bytes.extend(behind(stream));
    }
    let _ = client.send(&bytes).await;
    let reason = client.ended().await;
    assert!(matches!(reason, None | Some(11)), "ENHANCE_YOUR_CALM: {reason:?}");
    besieged.assert_closed_for("enhance_your_calm").await;
    besieged.hub.wait_for_metric("visnyk_streams", |streams| streams == 1.0).await;
    besieged.assert_unmoved().await;
}

#[tokio::test]
async fn connections_that_break_a_rule_are_counted_and_logged_at_a_bounded_rate() {
    const CLIENTS: u32 = 30;
    let mut besieged = Besieged::start(&[]).await;
    let began = std::time::Instant::now();
    // Content of no stream, and more than a frame may have (RFC 9113, sections 6.1 and 4.2).
    let of_no_stream = frame(raw::DATA, 0, 0, b"x");
    let too_large = frame(raw::PING, 0, 0, &[0; 16 * 1024 + 1]);
    for n in 0..CLIENTS {
        let (bytes, code) = if n % 2 == 0 { (&of_no_stream, 1) } else { (&too_large, 6) };
        let mut client = Raw::connect(besieged.hub.address(), &[]).await;
        client.send(bytes).await.expect("it reads");
        let reason = client.ended().await;
        assert!(reason.is_none_or(|reason| reason == code), "{reason:?} and not {code}");
    }
    let name = "visnyk_http2_closed_total{reason=\"protocol\"}";
    besieged.hub.wait_for_metric(name, |closed| closed == f64::from(CLIENTS)).await;
    let about = "closing HTTP/2 connections";
    let line = besieged.hub.wait_for_line(about, PATIENCE).await.expect("it is said");
    assert!(line.contains("protocol") && line.contains("127.0.0.1"), "{line}");
    let (log, took) = (besieged.hub.stderr(), began.elapsed());
    let lines = log.matches(about).count() as u64;
    assert!(lines <= took.as_secs() + 1, "{lines} in {took:?}: {log}");
    besieged.assert_unmoved().await;
}

#[tokio::test]
async fn requests_reset_one_by_one_are_as_many_as_the_setting_says() {
    const RESETS_MAX: u32 = 20;
    let besieged = Besieged::start(&[("LIMITS__HTTP2__RESETS_MAX", "20")]).await;
    let mut client = Raw::connect(besieged.hub.address(), &[]).await;
    let mut stream = 1;
    let mut open_and_reset = async |client: &mut Raw| {
        client.get(stream, "/v1/channels/a/events").await;
        client.next_of(raw::HEADERS).await?;
        let _ = client.send(&frame(raw::RST_STREAM, 0, stream, &[0, 0, 0, 8])).await;
        stream += 2;
        Some(())
    };
    for n in 0..RESETS_MAX {
        assert!(open_and_reset(&mut client).await.is_some(), "{n} are allowed");
    }
    besieged.hub.wait_for_metric("visnyk_streams", |streams| streams == 1.0).await;
    client.get(9_001, "/healthz").await;
    assert!(client.next_of(raw::HEADERS).await.is_some(), "at the bound it is served");
    client.get(9_003, "/v1/channels/a/events").await;
    assert!(client.next_of(raw::HEADERS).await.is_some());
    client.send(&frame(raw::RST_STREAM, 0, 9_003, &[0, 0, 0, 8])).await.expect("it reads");
    client.ended().await;
    besieged.assert_closed_for("resets").await;
    besieged.assert_unmoved().await;
}

#[tokio::test]
async fn frames_that_carry_nothing_end_their_connection() {
    let head = frame(raw::HEADERS, raw::END_HEADERS, 1, &{
        // A POST, whose body may come in pieces.
        let mut head = get_head("/v1/channels/a/events");
        head[0] = 0x83;
        head
    });
    for (what, before, bytes, allowed) in [
        ("PING", Vec::new(), frame(raw::PING, 0, 0, &[0; 8]), 900),
        ("SETTINGS", Vec::new(), frame(raw::SETTINGS, 0, 0, &[]), 900),
        ("PRIORITY", Vec::new(), frame(2, 0, 1, &[0, 0, 0, 0, 1]), 900),
        ("WINDOW_UPDATE", Vec::new(), frame(raw::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), 900),
        ("unknown", Vec::new(), frame(0xfa, 0, 0, b"x"), 900),
        // h2 has a bound of its own for these.
        ("DATA without any", head, frame(raw::DATA, 0, 1, &[]), 50),
    ] {
        let besieged = Besieged::start(&[("LIMITS__HTTP2__FRAMES_MAX", "1000")]).await;
        let mut client = Raw::connect(besieged.hub.address(), &[]).await;
        client.send(&before).await.expect("it reads");
        client.send(&bytes.repeat(allowed)).await.expect("so many are allowed");
        let many = bytes.repeat(1_000);
        client.get(3, "/healthz").await;
        assert!(client.next_of(raw::HEADERS).await.is_some(), "{what}");
        let (mut reading, mut writing) = client.io.into_split();
        let drained =
            tokio::spawn(
                async move { tokio::io::copy(&mut reading, &mut tokio::io::sink()).await },
            );
        let deadline = Instant::now() + PATIENCE;
        use tokio::io::AsyncWriteExt;
        while writing.write_all(&many).await.is_ok() {
            assert!(Instant::now() < deadline, "{what}: it takes all bytes");
        }
        let _ = drained.await;
        let reason = if allowed == 900 { "frames" } else { "enhance_your_calm" };
        besieged.assert_closed_for(reason).await;
        besieged.assert_unmoved().await;
    }
}

#[tokio::test]
async fn windows_that_open_with_what_is_taken_are_no_flood() {
    let besieged = Besieged::start(&[("LIMITS__HTTP2__FRAMES_MAX", "100")]).await;
    let large = "x".repeat(40_000);
    for n in 0..20 {
        besieged.hub.publish("a", &format!("{n} {large}")).await;
    }
    let mut client = Raw::connect(besieged.hub.address(), &[]).await;
    client.get(1, "/v1/channels/a/poll?timeout=0&last_event_id=earliest").await;
    let (mut came, mut opened, mut updates) = (0, 0, 0);
    loop {
        let frame = client.next_of(raw::DATA).await.expect("it is not closed");
        came += frame.payload.len();
        // As programs do that read 4 KiB at a time, for the stream and for the connection.
        while came - opened >= 4_096 {
            opened += 4_096;
            for stream in [0, 1] {
                let update = raw::frame(raw::WINDOW_UPDATE, 0, stream, &4_096_u32.to_be_bytes());
                client.send(&update).await.expect("it reads");
                updates += 1;
            }
        }
        if frame.flags & raw::END_STREAM != 0 {
            break;
        }
    }
    assert!(came > 800_000 && updates > 300, "{came} {updates}");
    client.get(3, "/healthz").await;
    assert!(client.next_of(raw::HEADERS).await.is_some());
    besieged.assert_unmoved().await;
}

#[tokio::test]
async fn answers_that_a_window_holds_back_are_dropped_after_a_while() {
    let settings = [("LIMITS__CONNECTIONS__WRITE_STALL_S", "1")];
    let besieged = Besieged::start(&settings).await;
    let large = "x".repeat(40_000);
    for n in 0..20 {
        besieged.hub.publish("a", &format!("{n} {large}")).await;
    }
    besieged.hub.publish("b", &large[..5_000]).await;
    // A window of nothing, of a byte, and one that ends within the answer. The answer of `b` would
    // fit h2's own buffer.
    for (window, channel) in [(0, "a"), (1, "a"), (20_000, "a"), (0, "b"), (1, "b")] {
        let settings = setting(raw::INITIAL_WINDOW_SIZE, window);
        let mut client = Raw::connect(besieged.hub.address(), &settings).await;
        let target = format!("/v1/channels/{channel}/poll?timeout=0&last_event_id=earliest");
        client.get(1, &target).await;
        let answer = client.next_of(raw::HEADERS).await.expect("a head");
        assert_eq!(answer.payload[0], 0x88);
        let reset = client.next_of(raw::RST_STREAM).await.expect("a reset");
        assert_eq!(reset.stream, 1, "{window} {channel}");
        // The connection goes on.
        client.get(3, "/healthz").await;
        assert!(client.next_of(raw::HEADERS).await.is_some(), "{window}");
    }
    besieged.hub.wait_for_metric("visnyk_answers_stalled_total", |n| n >= 5.0).await;
    besieged.assert_unmoved().await;
}

/// Reads the heads of so many answers: how many polls are answered, and how many refused.
async fn answers_of(client: &mut Raw, polls: u32) -> (usize, usize) {
    let mut let_out = 0;
    for _ in 0..polls {
        let head = client.next_of(raw::HEADERS).await.expect("a head");
        let_out += usize::from(head.payload[0] == 0x88);
    }
    (let_out, polls as usize - let_out)
}

#[tokio::test]
async fn answers_behind_shut_windows_have_a_bound_together() {
    let settings = [
        ("LIMITS__CONNECTIONS__ANSWERS_BYTES_MAX", "4194304"),
        ("LIMITS__CONNECTIONS__WRITE_STALL_S", "600"),
    ];
    let besieged = Besieged::start(&settings).await;
    let hub = &besieged.hub;
    let events: Vec<String> = (0..20).map(|n| format!("{n} {}", "x".repeat(40_000))).collect();
    hub.publish_all("a", &events).await;
    hub.publish("small", "event").await;
    let polls = "poll?timeout=0&last_event_id=earliest";
    let shut = setting(raw::INITIAL_WINDOW_SIZE, 0);
    let mut client = Raw::connect(hub.address(), &shut).await;
    for n in 0..40 {
        client.get(2 * n + 1, &format!("/v1/channels/a/{polls}")).await;
    }
    assert_eq!(answers_of(&mut client, 40).await, (5, 35));
    let held = hub.metric("visnyk_answer_bytes").await;
    assert!((5.0 * 800_000.0..=4_194_304.0).contains(&held), "{held}");
    assert_eq!(hub.metric("visnyk_answers_refused_total").await, 35.0);
    // Others get a reconnection time, and small answers are still sent.
    let refused = hub.get(&format!("/v1/channels/a/{polls}")).await;
    assert_eq!(refused.status(), 503, "{refused:?}");
    assert!(format!("{refused:?}").contains("retry-after"), "{refused:?}");
    assert_eq!(hub.get(&format!("/v1/channels/small/{polls}")).await.status(), 200);
    hub.publish("small", "another").await;
    // A poll that waits is refused by other code, in the same words.
    let waiting = tokio::spawn({
        let client = Client::h2c(hub.address()).await;
        async move { client.send("GET", "/v1/channels/c/poll?timeout=60", &[], "").await }
    });
    hub.wait_for_metric("visnyk_pollers", |polls| polls == 1.0).await;
    hub.publish_all("c", &events).await;
    let refused = waiting.await.expect("it ends").expect("an answer");
    assert_eq!(refused.status(), 503);
    for (name, value) in [
        ("content-type", "application/problem+json"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(refused.headers()[name], value);
    }
    assert!(refused.headers().contains_key("retry-after"), "{refused:?}");
    drop(client);
    hub.wait_for_metric("visnyk_answer_bytes", |bytes| bytes == 0.0).await;
    assert_eq!(hub.get(&format!("/v1/channels/a/{polls}")).await.status(), 200);

    // Polls that wait are answered by their shard.
    let mut client = Raw::connect(hub.address(), &shut).await;
    for n in 0..40 {
        client.get(2 * n + 1, "/v1/channels/b/poll?timeout=60").await;
    }
    hub.wait_for_metric("visnyk_pollers", |polls| polls == 40.0).await;
    hub.publish_all("b", &events).await;
    assert_eq!(answers_of(&mut client, 40).await, (5, 35));
    drop(client);
    hub.wait_for_metric("visnyk_answer_bytes", |bytes| bytes == 0.0).await;
    besieged.assert_unmoved().await;
}

#[tokio::test]
async fn stream_whose_window_is_shut_is_ended_and_delays_no_other() {
    let settings = [("LIMITS__CONNECTIONS__WRITE_STALL_S", "1")];
    let mut besieged = Besieged::start(&settings).await;
    let mut clients = Vec::new();
    for window in [0, 1, 100] {
        let settings = setting(raw::INITIAL_WINDOW_SIZE, window);
        let mut client = Raw::connect(besieged.hub.address(), &settings).await;
        for n in 0..20 {
            client.get(2 * n + 1, "/v1/channels/honest/events").await;
        }
        clients.push(client);
    }
    besieged.hub.wait_for_metric("visnyk_streams", |streams| streams == 61.0).await;
    let large = "x".repeat(4_000);
    for n in 0..50 {
        besieged.hub.publish("honest", &format!("{n} {large}")).await;
        let data = besieged.honest.data().await.expect("an event");
        assert!(data.starts_with(&format!("{n} ")));
    }
    besieged.hub.wait_for_metric("visnyk_streams", |streams| streams == 1.0).await;
    for mut client in clients {
        assert!(client.next_of(raw::RST_STREAM).await.is_some());
    }
    besieged.hub.wait_for_metric("visnyk_answers_stalled_total", |n| n == 60.0).await;
    besieged.assert_unmoved().await;
}

#[tokio::test]
async fn fields_of_a_head_are_as_many_and_as_long_as_over_http1() {
    let besieged = Besieged::start(&[]).await;
    for (fields, length, status) in [(97, 1, 0x88), (101, 1, 0), (8, 4_000, 0x88), (10, 4_000, 0)] {
        let mut client = Raw::connect(besieged.hub.address(), &[]).await;
        let mut block = get_head("/healthz");
        let value = vec![b'y'; length];
        for n in 0..fields {
            block.extend([0x00, 3]);
            block.extend(format!("x{n:02}").as_bytes()[..3].iter());
            match length {
                1 => block.push(1),
                _ => block.extend([0x7f, 0xa1, 0x1e]),
            }
            block.extend(&value);
        }
        let mut rest = block.chunks(16_000);
        let first = rest.next().expect("a block");
        let mut bytes = frame(raw::HEADERS, raw::END_STREAM, 1, first);
        for piece in rest {
            bytes.extend(frame(raw::CONTINUATION, 0, 1, piece));
        }
        bytes.extend(frame(raw::CONTINUATION, raw::END_HEADERS, 1, &[]));
        client.send(&bytes).await.expect("it reads");
        let answer = client.next_of(raw::HEADERS).await.expect("an answer");
        if status == 0x88 {
            assert_eq!(answer.payload[0], status, "{fields} fields of {length}");
        } else {
            assert_ne!(answer.payload[0], 0x88, "{fields} fields of {length}");
            assert!(answer.payload.windows(2).any(|_| true));
        }
    }
    // What is too long for h2 it refuses itself.
    let name = "visnyk_requests_refused_total{reason=\"too_many_fields\"}";
    besieged.hub.wait_for_metric(name, |refused| refused == 1.0).await;
    besieged.assert_unmoved().await;
}

#[tokio::test]
async fn client_past_the_socket_limit_is_answered_when_to_retry() {
    let hub = TestHub::start(&[("LIMITS__CONNECTIONS__REQUESTS_MAX", "1")]).await;
    let mut first = Raw::connect(hub.address(), &[]).await;
    first.get(1, "/v1/channels/a/events").await;
    assert!(first.next_of(raw::HEADERS).await.is_some());
    let mut second = Raw::connect(hub.address(), &[]).await;
    second.get(1, "/v1/channels/a/events").await;
    let goaway = second.next_of(raw::GOAWAY).await.expect("a word");
    assert_eq!(goaway.payload, [0; 8], "nothing was looked at, and nothing was wrong");
    second.ended().await;
}

#[tokio::test]
async fn a_refusal_of_http2_needs_no_more_of_the_preface_than_its_first_line() {
    let hub = TestHub::start(&[("LIMITS__CONNECTIONS__REQUESTS_MAX", "1")]).await;
    let mut only = Raw::connect(hub.address(), &[]).await;
    only.get(1, "/v1/channels/a/events").await;
    assert!(only.next_of(raw::HEADERS).await.is_some());
    let empty_line_end = 18;
    for pieces in [&[empty_line_end][..], &[1, empty_line_end], &[16, 17, 18], &[3, 20], &[23]] {
        let mut client = Raw::silent(hub.address()).await;
        let mut sent = 0;
        for &end in pieces {
            client.send(&raw::PREFACE[sent..end]).await.expect("it reads");
            sent = end;
            // For a piece to be read by itself; if it is not, less is tested.
            sleep(Duration::from_millis(20)).await;
        }
        let goaway = client.next_of(raw::GOAWAY).await.expect("a word");
        assert_eq!(goaway.payload, [0; 8], "{pieces:?}");
        // What comes late of it changes nothing.
        let _ = client.send(&raw::PREFACE[sent..]).await;
        client.ended().await;
    }
}
