//! Attempts to have bytes read as a request that are not one, most of them around sockets that are
//! handed off. Whatever the answers, the channel `smuggled` must not exist afterwards.

use std::{rc::Rc, time::Duration};

use tokio::time::{sleep, timeout};

use crate::target::{Target, Wire, get, request};

/// All of them, over and over, cut into two pieces at another byte each time.
pub(crate) async fn all(target: Target) {
    let texts: Rc<[String]> = texts().into();
    let act = move |target: Target, number: usize| {
        let texts = Rc::clone(&texts);
        async move {
            for round in 0.. {
                for (at, text) in texts.iter().enumerate() {
                    let mut wire = target.connect().await?;
                    let cut = (at * 31 + round * 17 + number * 7) % text.len();
                    // In bytes: a cut may go through a character.
                    let (first, rest) = text.as_bytes().split_at(cut);
                    let _ = wire.send(first).await;
                    tokio::task::yield_now().await;
                    let _ = wire.send(rest).await;
                    target.got("attempts");
                    let _ = timeout(Duration::from_millis(30), read(&mut wire)).await;
                    if at % 2 == 0 {
                        wire.reset();
                    }
                }
            }
            Ok(())
        }
    };
    // Some polls are answered, so that their sockets go back.
    let answering = |target: Target| async move {
        let mut wire = target.connect().await.ok()?;
        loop {
            wire.send(request("POST", "/v1/channels/attacked/events", "", "x")).await.ok()?;
            wire.status().await.ok()?;
            sleep(Duration::from_millis(5)).await;
        }
        #[allow(unreachable_code)]
        Some(())
    };
    tokio::task::spawn_local(answering(target.clone()));
    target.by_many(16, act).await;
}

async fn read(wire: &mut Wire) {
    let _ = wire.drop_bytes(100_000).await;
}

fn texts() -> Vec<String> {
    let smuggled = request("POST", "/v1/channels/smuggled/events", "", "x");
    let length = smuggled.len();
    let chunked = format!("{length:x}\r\n{smuggled}\r\n0\r\n\r\n");
    let poll = "/v1/channels/attacked/poll?timeout=1";
    let stream = "/v1/channels/attacked/events";
    let post = "/v1/channels/attacked/events";
    let mut texts = Vec::new();
    let with = |method: &str, path: &str, fields: &str, body: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n{body}")
    };
    // A body on what gives its socket away, in each framing, and behind HEAD.
    for path in [poll, stream] {
        for method in ["GET", "HEAD"] {
            let length = format!("Content-Length: {length}\r\n");
            texts.push(with(method, path, &length, &smuggled));
            texts.push(with(method, path, "Transfer-Encoding: chunked\r\n", &chunked));
            texts.push(with(method, path, &format!("Expect: 100-continue\r\n{length}"), &smuggled));
        }
        // Behind a stream nothing is a request.
        texts.push(get(stream) + &smuggled);
    }
    // Two framings in one request: the body is the whole text by one and ends early by the other.
    for method in ["GET", "POST"] {
        let path = if method == "GET" { poll } else { post };
        for fields in [
            format!("Content-Length: 0\r\nContent-Length: {length}\r\n"),
            format!("Content-Length: {length}\r\nContent-Length: 0\r\n"),
            format!("Content-Length: 0, {length}\r\n"),
            format!("Content-Length : {length}\r\nContent-Length: 0\r\n"),
            format!("Content-Length: +{length}\r\n"),
            format!("Content-Length: 0x{length:x}\r\n"),
            format!("Content-Length:\r\n {length}\r\n"),
            format!("X: a\r\n Content-Length: {length}\r\n"),
        ] {
            // By one reading it is a body, by the other the connection must be over.
            if fields.contains(" : ") || fields.contains("\r\n ") || fields.contains(", ") {
                texts.push(with(method, path, &fields, &smuggled));
            }
            texts.push(with(method, path, &fields, ""));
        }
        for coding in [
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Transfer-Encoding:\x0bchunked\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer_Encoding: chunked\r\n",
            "X: y\nTransfer-Encoding: chunked\r\n",
        ] {
            let fields = format!("{coding}Content-Length: {}\r\n", chunked.len());
            texts.push(with(method, path, &fields, &chunked));
        }
    }
    // Chunks that one reader ends where another does not.
    for chunks in [
        format!("{length:x};a=b\r\n{smuggled}\r\n0\r\n\r\n"),
        format!("{length:x};\n{smuggled}\r\n0\r\n\r\n"),
        format!("{length:x}\n{smuggled}\n0\n\n"),
        format!("0{length:x}\r\n{smuggled}\r\n00\r\n\r\n"),
        format!("0x{length:x}\r\n{smuggled}\r\n0\r\n\r\n"),
        format!("+{length:x}\r\n{smuggled}\r\n0\r\n\r\n"),
        format!("{length:x} \r\n{smuggled}\r\n0\r\n\r\n"),
        format!("1{length:016x}\r\n{smuggled}\r\n0\r\n\r\n"),
        format!("1\r\nx\r\n{length:x}\r\n{smuggled}\r\n0\r\nX: y\r\n\r\n"),
    ] {
        texts.push(with("POST", post, "Transfer-Encoding: chunked\r\n", &chunks));
    }
    // Malformed heads.
    for field in ["X: a\0b\r\n", "X: a\rb\r\n", "X\r\n", ": x\r\n", "X y: z\r\n", "\u{e9}: x\r\n"] {
        let fields = format!("{field}Content-Length: {length}\r\n");
        texts.push(with("GET", poll, &fields, &smuggled));
    }
    texts.push(format!(
        "GET {poll} HTTP/1.1\nHost: localhost\nContent-Length: {length}\n\n{smuggled}"
    ));
    texts.push(format!("GET {poll} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{smuggled}"));
    texts.push(format!("GET {poll} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"));
    texts.push(with("CONNECT", "localhost:80", "", ""));
    texts
}
