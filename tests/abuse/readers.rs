//! Attacks by what is read: not at all, or all of it, again and again.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    AUDIENCE,
    target::{Target, get, request},
};

/// Streams of the channel that the honest have, which stop reading.
pub(crate) async fn stalled_streams(target: Target) {
    let act = |target: Target, _| async move {
        let mut wire = target.connect_narrow().await?;
        wire.send(get(&format!("/v1/channels/{AUDIENCE}/events"))).await?;
        wire.drop_bytes(1).await?;
        target.got("streams");
        target.hold(wire).await;
        Ok(())
    };
    target.by_many(1_000, act).await;
}

/// Requests for long answers that are not read.
pub(crate) async fn unread_answers(target: Target) {
    let act = |target: Target, _| async move {
        let mut wire = target.connect_narrow().await?;
        let requests = get("/openapi.json").repeat(100);
        wire.send(requests).await?;
        target.got("connections");
        target.hold(wire).await;
        Ok(())
    };
    target.by_many(500, act).await;
}

/// Streams that read all of a long history, end, and begin anew.
pub(crate) async fn replays(target: Target) {
    fill(&target).await;
    let act = |target: Target, _| async move {
        let mut wire = target.connect().await?;
        wire.send(get("/v1/channels/attacked/events?last_event_id=earliest")).await?;
        let status = wire.first_status().await?;
        if status != 200 {
            target.got(status.to_string());
            return Ok(());
        }
        let read = wire.drop_bytes(900_000).await?;
        target.got(if read >= 900_000 { "replays" } else { "replays that end" });
        wire.reset();
        Ok(())
    };
    target.by_many(200, act).await;
}

/// Streams of everything from the beginning, which stop reading before they have it.
pub(crate) async fn stalled_replays(target: Target) {
    fill(&target).await;
    let act = |target: Target, _| async move {
        let mut wire = target.connect_narrow().await?;
        wire.send(get("/v1/events?channel=**&last_event_id=earliest")).await?;
        wire.drop_bytes(1).await?;
        target.got("streams");
        sleep(Duration::from_millis(500)).await;
        wire.reset();
        Ok(())
    };
    target.by_many(500, act).await;
}

/// A megabyte of history.
async fn fill(target: &Target) {
    let line = format!("{{\"data\":\"{}\"}}\n", "x".repeat(900));
    let batch = line.repeat(500);
    let fields = "Content-Type: application/x-ndjson\r\n";
    for _ in 0..2 {
        let Ok(mut wire) = target.connect().await else { continue };
        let _ = wire.send(request("POST", "/v1/channels/attacked/events", fields, &batch)).await;
        let _ = wire.status().await;
    }
}
