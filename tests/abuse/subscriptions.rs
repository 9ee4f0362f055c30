//! Attacks by what is subscribed to.

use std::{cell::Cell, rc::Rc};

use crate::target::{Target, get, request};

/// Thousands of patterns, made to be slow to match.
pub(crate) async fn patterns(target: Target) {
    let act = |target: Target, number: usize| async move {
        let patterns: String = (0..100)
            .map(|n| format!("channel=**/a{number}/**/b{n}/**&channel=*/**/c{n}/*&"))
            .take(50)
            .collect();
        let mut wire = target.connect().await?;
        wire.send(get(&format!("/v1/events?{patterns}"))).await?;
        wire.drop_bytes(1).await?;
        target.got("streams of 100 patterns");
        target.hold(wire).await;
        Ok(())
    };
    target.by_many(100, act).await;
}

/// Polls from the earliest event by a hundred patterns each, which all but fit what was published
/// to names of very many segments.
pub(crate) async fn resumes_by_patterns(target: Target) {
    let act = |target: Target, number: usize| async move {
        let mut wire = target.connect().await?;
        let deep = "a/".repeat(120);
        if number == 0 {
            for _ in 0..10 {
                // Names in turn, so that no look at one serves for the next.
                let lines: String = (0..1_000)
                    .map(|n| format!("{{\"channel\":\"{deep}y{}\",\"data\":\"x\"}}\n", n % 2))
                    .collect();
                let fields = "Content-Type: application/x-ndjson\r\n";
                wire.send(request("POST", "/v1/events", fields, &lines)).await?;
                target.got(format!("{} of a batch", wire.status().await?));
            }
        }
        let patterns: String =
            (0..100).map(|n| format!("channel=**/{}y{n}z&", "a/".repeat(56))).collect();
        loop {
            wire.send(get(&format!("/v1/poll?{patterns}timeout=0&last_event_id=earliest"))).await?;
            target.got(wire.status().await?.to_string());
        }
    };
    target.by_many(32, act).await;
}

/// Events that fit many patterns, published to names of very many segments.
pub(crate) async fn deep_names(target: Target) {
    let act = |target: Target, number: usize| async move {
        let mut wire = target.connect().await?;
        if number < 50 {
            let patterns: String = (0..50)
                .map(|n| {
                    format!("channel={}**/z{n}&channel={}*/**&", "a/".repeat(n), "*/".repeat(n))
                })
                .collect();
            wire.send(get(&format!("/v1/events?{patterns}"))).await?;
            wire.drop_bytes(usize::MAX).await?;
            return Ok(());
        }
        let name = "a%2F".repeat(120) + &format!("z{number}");
        loop {
            wire.send(request("POST", &format!("/v1/channels/{name}/events"), "", "x")).await?;
            target.got(wire.status().await?.to_string());
        }
    };
    target.by_many(54, act).await;
}

/// A new channel with every event.
pub(crate) async fn new_channels(target: Target) {
    let next = Rc::new(Cell::new(0_u64));
    let act = move |target: Target, _| {
        let next = Rc::clone(&next);
        async move {
            let mut wire = target.connect().await?;
            loop {
                let number = next.replace(next.get() + 1);
                let path = format!("/v1/channels/new{number}/events");
                wire.send(request("POST", &path, "", "x")).await?;
                target.got(wire.status().await?.to_string());
            }
        }
    };
    target.by_many(32, act).await;
}

/// Streams of a hundred new channels each that come and go.
pub(crate) async fn comings_and_goings(target: Target) {
    let next = Rc::new(Cell::new(0_u64));
    let act = move |target: Target, _| {
        let next = Rc::clone(&next);
        async move {
            let number = next.replace(next.get() + 1);
            let channels: String = (0..100).map(|n| format!("channel=s{number}/{n}&")).collect();
            let mut wire = target.connect().await?;
            wire.send(get(&format!("/v1/events?{channels}"))).await?;
            wire.drop_bytes(1).await?;
            wire.reset();
            target.got("streams of 100 channels");
            Ok(())
        }
    };
    target.by_many(32, act).await;
}

/// Long lists, asked for again and again.
pub(crate) async fn listings(target: Target) {
    let act = |target: Target, number: usize| async move {
        let mut wire = target.connect().await?;
        let lists = ["/v1/channels?limit=1000", "/v1/connections", "/metrics", "/openapi.json"];
        loop {
            wire.send(get(lists[number % lists.len()])).await?;
            target.got(wire.status().await?.to_string());
        }
    };
    target.by_many(16, act).await;
}
