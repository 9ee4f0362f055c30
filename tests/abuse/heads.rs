//! Attacks by heads of requests.

use std::{rc::Rc, time::Duration};

use tokio::time::sleep;

use crate::target::{Target, get};

/// Heads that never end, a byte at a time.
pub(crate) async fn slow(target: Target) {
    let act = |target: Target, _| async move {
        let mut wire = target.connect().await?;
        target.got("connections");
        wire.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ").await?;
        loop {
            sleep(Duration::from_millis(200)).await;
            wire.send("a").await?;
            target.got("bytes");
        }
    };
    target.by_many(1_000, act).await;
}

/// Heads of 40 KB.
pub(crate) async fn large(target: Target) {
    let field = "x".repeat(40_000);
    again_and_again(target, format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {field}\r\n\r\n"))
        .await;
}

/// Heads of very many fields.
pub(crate) async fn many_fields(target: Target) {
    let fields: String = (0..2_000).map(|n| format!("X-{n}: a\r\n")).collect();
    again_and_again(target, format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")).await;
}

/// Request targets of 30 KB, which fit into a head.
pub(crate) async fn long_targets(target: Target) {
    let name = "a%2F".repeat(7_500);
    again_and_again(target, get(&format!("/v1/events?channel={name}"))).await;
}

async fn again_and_again(target: Target, head: String) {
    let head: Rc<str> = head.into();
    let act = move |target: Target, _| {
        let head = Rc::clone(&head);
        async move {
            let mut wire = target.connect().await?;
            wire.send(&*head).await?;
            target.got(wire.status().await?.to_string());
            Ok(())
        }
    };
    target.by_many(32, act).await;
}
