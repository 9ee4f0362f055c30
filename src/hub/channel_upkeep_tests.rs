//! The sweep of channels, their actors and their tombstones, through a whole hub.

use std::time::Duration;

use tokio::time::sleep;

use super::{Fault, Hub, Publication, PublishError, StreamRequest, Subscriber};
use crate::{
    core::Limits,
    model::{ChannelName, NewEvent},
};

#[tokio::test(start_paused = true)]
async fn subscribed_channels_do_not_keep_the_sweep_from_others() {
    // More than one sweep comes to in a test, and than it gives actors.
    for has_events in [false, true] {
        let hub = hub(|limits| {
            limits.channels.idle_s = 1;
            limits.channels.tombstone_s = 3;
            limits.history.age_max_s = 1;
        })
        .await;
        let mut streams = Vec::new();
        for n in 0..40 {
            // Before the others in the order of names, too.
            let channel = format!("a/user/{n}");
            if has_events {
                publish(&hub, &channel).await.expect("published");
            }
            streams.push(subscribe(&hub, &channel));
        }
        for n in 0..20 {
            close(&hub, &format!("job/{n}")).await;
        }
        sleep(Duration::from_secs(20)).await;
        for n in 0..20 {
            let answer = publish(&hub, &format!("job/{n}")).await;
            assert_eq!(answer, Ok(()), "{n}: its tombstone has expired ({has_events})");
        }
        drop(streams);
        sleep(Duration::from_secs(20)).await;
        assert_eq!(hub.0.registry.directory().len(), 0, "nothing is left of them");
        hub.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_cap_of_tombstones_holds_over_a_crash_of_the_channels_supervisor() {
    let hub = hub(|limits| limits.channels.tombstones_max = 2).await;
    close(&hub, "a").await;
    close(&hub, "b").await;
    hub.plant_fault(Fault::Channels);
    while !hub.metrics().contains("visnyk_restarts_total{reason=\"channels\"} 1") {
        sleep(Duration::from_millis(1)).await;
    }
    close(&hub, "c").await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(publish(&hub, "a").await, Ok(()));
    for channel in ["b", "c"] {
        assert_eq!(publish(&hub, channel).await, Err(PublishError::Closed(name(channel))));
    }
    hub.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_closed_twice_has_one_tombstone() {
    let hub = hub(|limits| {
        limits.channels.tombstones_max = 2;
        limits.channels.tombstone_s = 10;
    })
    .await;
    // A stream holds it, so that it is the same channel when it is open again.
    let stream = subscribe(&hub, "a");
    close(&hub, "a").await;
    sleep(Duration::from_secs(12)).await;
    close(&hub, "a").await;
    close(&hub, "b").await;
    sleep(Duration::from_secs(2)).await;
    for channel in ["a", "b"] {
        assert_eq!(publish(&hub, channel).await, Err(PublishError::Closed(name(channel))));
    }
    drop(stream);
    hub.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn channels_past_the_cap_of_tombstones_are_evicted_at_once() {
    let hub = hub(|limits| {
        limits.channels.tombstones_max = 5;
        limits.channels.channels_max = 10;
    })
    .await;
    for n in 0..100 {
        close(&hub, &format!("job/{n}")).await;
        // The supervisor and the channel's actor come to it.
        sleep(Duration::from_millis(1)).await;
        assert!(hub.0.registry.directory().len() <= 8, "{n}");
    }
    hub.shut_down().await;
}

async fn hub(set: impl FnOnce(&mut Limits)) -> Hub {
    let mut limits = Limits::default();
    set(&mut limits);
    Hub::builder().shards(1).limits(limits).start().await.expect("it starts")
}

fn subscribe(hub: &Hub, channel: &str) -> Subscriber {
    hub.admit_stream(StreamRequest::channel(channel).expect("a channel")).expect("room")
}

async fn publish(hub: &Hub, channel: &str) -> Result<(), PublishError> {
    hub.publish(Publication::one(name(channel), NewEvent::message("x"))).await.map(drop)
}

/// Closes a channel that had an event.
async fn close(hub: &Hub, channel: &str) {
    publish(hub, channel).await.expect("it is open");
    hub.close_channel(&name(channel)).await.expect("closed");
}

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).expect("a name")
}
