//! Attacks by bodies of requests.

use std::{rc::Rc, time::Duration};

use tokio::time::sleep;

use crate::target::{Target, get};

const POST: &str = "POST /v1/channels/attacked/events HTTP/1.1\r\nHost: localhost\r\n";

/// Bodies that never end, a byte at a time.
pub(crate) async fn slow(target: Target) {
    let act = |target: Target, _| async move {
        let mut wire = target.connect().await?;
        target.got("connections");
        wire.send(format!("{POST}Content-Length: 1000\r\n\r\n")).await?;
        loop {
            sleep(Duration::from_millis(200)).await;
            wire.send("a").await?;
            target.got("bytes");
        }
    };
    target.by_many(1_000, act).await;
}

/// Bodies of 10 MB, sent whatever the hub says.
pub(crate) async fn huge(target: Target) {
    endlessly(target, format!("{POST}Content-Length: 10000000\r\n\r\n"), "x".repeat(64 * 1024))
        .await;
}

/// Chunked bodies without an end.
pub(crate) async fn endless_chunks(target: Target) {
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(64 * 1024));
    endlessly(target, format!("{POST}Transfer-Encoding: chunked\r\n\r\n"), chunk).await;
}

/// Chunks of one byte each, with kilobytes of extension.
pub(crate) async fn chunk_extensions(target: Target) {
    let chunk = format!("1;a={}\r\nx\r\n", "x".repeat(8_000)).repeat(8);
    endlessly(target, format!("{POST}Transfer-Encoding: chunked\r\n\r\n"), chunk).await;
}

/// Very many chunks of one byte each.
pub(crate) async fn tiny_chunks(target: Target) {
    endlessly(
        target,
        format!("{POST}Transfer-Encoding: chunked\r\n\r\n"),
        "1\r\nx\r\n".repeat(8_000),
    )
    .await;
}

/// Bodies within the bounds that are all but finished, as many as there is room for, and more.
pub(crate) async fn held(target: Target) {
    let body: Rc<str> = "x".repeat(1_000_000).into();
    let act = move |target: Target, _| {
        let body = Rc::clone(&body);
        async move {
            let mut wire = target.connect().await?;
            wire.send(format!("{POST}Content-Length: 1000001\r\n\r\n")).await?;
            wire.send(&*body).await?;
            target.got("bodies");
            target.got(wire.status().await?.to_string());
            Ok(())
        }
    };
    target.by_many(200, act).await;
}

/// Bodies of a megabyte that have all but their last byte: as many as fill the room for bodies to a
/// few bytes. Other clients can then publish only if there is room besides.
pub(crate) async fn filling_the_room(target: Target) {
    let body: Rc<str> = "x".repeat(1_048_575).into();
    let act = move |target: Target, _| {
        let body = Rc::clone(&body);
        async move {
            let mut wire = target.connect().await?;
            wire.send(format!("{POST}Content-Length: 1048576\r\n\r\n")).await?;
            wire.send(&*body).await?;
            target.got("megabytes held");
            target.hold(wire).await;
            Ok(())
        }
    };
    target.by_many(64, act).await;
}

async fn endlessly(target: Target, head: String, piece: String) {
    let (head, piece): (Rc<str>, Rc<str>) = (head.into(), piece.into());
    let act = move |target: Target, _| {
        let (head, piece) = (Rc::clone(&head), Rc::clone(&piece));
        async move {
            let mut wire = target.connect().await?;
            wire.send(&*head).await?;
            // Until the hub takes no more.
            let mut kilobytes = 0;
            while wire.send(&*piece).await.is_ok() {
                kilobytes += piece.len() / 1_000;
                if kilobytes > 20_000 {
                    break;
                }
            }
            target.got(wire.status().await.map_or("ends".into(), |status| status.to_string()));
            Ok(())
        }
    };
    target.by_many(16, act).await;
}

/// Bodies where none belongs, on what would give its socket away.
pub(crate) async fn on_polls(target: Target) {
    let act = |target: Target, _| async move {
        let mut wire = target.connect().await?;
        let smuggled = "POST /v1/channels/smuggled/events HTTP/1.1\r\nHost: localhost\r\n\
                        Content-Length: 1\r\n\r\nx";
        let length = smuggled.len();
        let poll = get("/v1/channels/attacked/poll?timeout=0");
        let poll = poll.trim_end();
        wire.send(format!("{poll}\r\nContent-Length: {length}\r\n\r\n{smuggled}")).await?;
        target.got(wire.status().await?.to_string());
        Ok(())
    };
    target.by_many(16, act).await;
}
