//! Attacks by connections alone.

use std::time::Duration;

use tokio::time::sleep;

use crate::target::{Target, Wire};

/// Connections as fast as they come, all from one address, and kept.
pub(crate) async fn flood_from_one(target: Target) {
    keep_connecting(target, false).await;
}

/// The same from thousands of addresses.
pub(crate) async fn flood_from_many(target: Target) {
    keep_connecting(target, true).await;
}

async fn keep_connecting(target: Target, from_many: bool) {
    let act = move |target: Target, number: usize| async move {
        let mut kept: Vec<Wire> = Vec::new();
        for nth in 0..KEPT_MAX {
            let before = kept.len();
            kept.retain(|wire| !wire.is_shut_out());
            for _ in kept.len()..before {
                target.got("shut out");
            }
            let wire = match from_many {
                true => target.connect_from_many(number * KEPT_MAX + nth).await?,
                false => target.connect().await?,
            };
            target.got("connections");
            kept.push(wire);
        }
        target.hold(kept).await;
        Ok(())
    };
    target.by_many(64, act).await;
}

/// Connections that are reset as soon as they are made.
pub(crate) async fn resets(target: Target) {
    let act = |target: Target, number| async move {
        let mut wire = target.connect_from_many(number).await?;
        let _ =
            wire.send("GET /v1/channels/attacked/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        wire.reset();
        target.got("resets");
        Ok(())
    };
    target.by_many(64, act).await;
}

/// As many idle connections as may be, and those beyond.
pub(crate) async fn idle_up_to_the_limit(target: Target) {
    let act = |target: Target, _| async move {
        let mut wire = target.connect().await?;
        target.got("connections");
        // Until it is shut out.
        wire.drop_bytes(usize::MAX).await?;
        target.got("refusals");
        sleep(Duration::from_millis(100)).await;
        Ok(())
    };
    target.by_many(1_000, act).await;
}

/// Of each of the attackers.
const KEPT_MAX: usize = 80;
