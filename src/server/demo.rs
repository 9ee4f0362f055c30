//! `--demo`: publishes events, for a first look.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::{
    http::default_channel,
    hub::{Hub, Publication},
    model::NewEvent,
};

/// Publishes an update to `default` every 3 seconds, until it is dropped.
pub(super) async fn publish(hub: Hub) {
    let mut every = tokio::time::interval(Duration::from_secs(3));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 1_u64.. {
        every.tick().await;
        let event = NewEvent::message(format!("Demo update #{number}"));
        if let Err(error) = hub.publish(Publication::one(default_channel(), event)).await {
            tracing::warn!(%error, "the demo update was not published");
        }
    }
}
