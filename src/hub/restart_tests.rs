//! What a hub with a log on disk knows after a restart.

use std::{path::Path, time::Duration};

use http_body_util::BodyExt;
use tokio::time::{sleep, timeout};

use super::{DiskOptions, Hub, Publication, PublishError, StreamRequest};
use crate::{
    core::{Limits, Subscription},
    model::{ChannelName, ChannelSelector, NewEvent, Start},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_subscription_starts_behind_skipped_seqs_without_a_new_event() {
    let directory = tempfile::tempdir().expect("a directory");
    let hub = start(directory.path(), Limits::default()).await;
    crash(hub).await;
    // Nothing was ever published, and seqs are skipped all the same.
    let hub = start(directory.path(), Limits::default()).await;
    assert_eq!(first_events(&hub, "**", 0).await, Vec::<String>::new());
    publish(&hub, "a", "1").await;
    crash(hub).await;
    let hub = start(directory.path(), Limits::default()).await;
    assert_eq!(first_events(&hub, "**", 1).await, ["1"]);
    assert_eq!(first_events(&hub, "a", 1).await, ["1"]);
    // A clean start behind one that skipped seqs and wrote nothing.
    hub.shut_down().await;
    drop(hub);
    let hub = start(directory.path(), Limits::default()).await;
    assert_eq!(first_events(&hub, "**", 1).await, ["1"]);
    publish(&hub, "b", "2").await;
    assert_eq!(first_events(&hub, "**", 2).await, ["1", "2"]);
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_whose_events_are_too_old_take_no_room_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut limits = Limits::default();
    let hub = start(directory.path(), limits.clone()).await;
    for n in 0..20 {
        publish(&hub, &format!("session/{n}"), "x").await;
    }
    hub.shut_down().await;
    drop(hub);
    limits.channels.channels_max = 5;
    let refused =
        try_start(directory.path(), limits.clone()).await.map(drop).expect_err("20 are left");
    assert!(refused.contains("raise limits.channels.channels_max"), "{refused}");
    limits.history.age_max_s = 1;
    sleep(Duration::from_millis(1_100)).await;
    let hub = start(directory.path(), limits).await;
    assert_eq!(hub.0.registry.directory().len(), 0);
    publish(&hub, "session/1", "new").await;
    assert_eq!(first_events(&hub, "session/1", 1).await, ["new"]);
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_was_open_again_does_not_end_its_subscribers_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut limits = Limits::default();
    limits.channels.tombstone_s = 1;
    let hub = start(directory.path(), limits.clone()).await;
    publish(&hub, "a", "1").await;
    hub.close_channel(&name("a")).await.expect("closed");
    let is_open = async {
        while hub.publish(publication("a", "2")).await == Err(PublishError::Closed(name("a"))) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, is_open).await.expect("its tombstone expires");
    hub.shut_down().await;
    drop(hub);
    let hub = start(directory.path(), limits).await;
    assert_eq!(first_events(&hub, "a", 1).await, ["2"]);
    publish(&hub, "a", "3").await;
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_channels_past_the_cap_of_tombstones_are_open_and_take_no_room_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut limits = Limits::default();
    limits.channels.tombstones_max = 5;
    limits.channels.channels_max = 20;
    let hub = start(directory.path(), limits.clone()).await;
    for n in 0..60 {
        let job = name(&format!("job/{n}"));
        let closed = async {
            // Those past the cap make room in a moment.
            while let Err(error) = hub.publish(publication(job.as_str(), "x")).await {
                assert!(matches!(error, PublishError::DirectoryFull(_)), "{error}");
                sleep(Duration::from_millis(5)).await;
            }
            hub.close_channel(&job).await.expect("closed");
        };
        timeout(PATIENCE, closed).await.expect("the hub has room");
    }
    hub.shut_down().await;
    drop(hub);
    let hub = start(directory.path(), limits).await;
    for n in [0, 54] {
        publish(&hub, &format!("job/{n}"), "again").await;
    }
    for n in 55..60 {
        let job = name(&format!("job/{n}"));
        let answer = hub.publish(publication(job.as_str(), "again")).await;
        assert_eq!(answer.map(drop), Err(PublishError::Closed(job)));
    }
    hub.shut_down().await;
}

async fn start(directory: &Path, limits: Limits) -> Hub {
    let starts = async {
        loop {
            // The threads of a hub that crashed end by themselves.
            match try_start(directory, limits.clone()).await {
                Ok(hub) => return hub,
                Err(why) if why.contains("another hub uses it") => {
                    sleep(Duration::from_millis(5)).await;
                }
                Err(why) => panic!("{why}"),
            }
        }
    };
    timeout(PATIENCE, starts).await.expect("it starts")
}

async fn try_start(directory: &Path, limits: Limits) -> Result<Hub, String> {
    let options = DiskOptions { segment_bytes: 1 << 16, ..DiskOptions::new(directory) };
    let builder = Hub::builder().shards(1).limits(limits).disk(options);
    builder.start().await.map_err(|error| error.to_string())
}

/// Ends a hub without closing its log.
async fn crash(hub: Hub) {
    hub.0.log.stop();
    hub.shut_down().await;
}

async fn publish(hub: &Hub, channel: &str, data: &str) {
    hub.publish(publication(channel, data)).await.expect("published");
}

fn publication(channel: &str, data: &str) -> Publication {
    Publication::one(name(channel), NewEvent::message(data))
}

/// The data of the first events that a stream from `earliest` is sent; it has begun in any case.
async fn first_events(hub: &Hub, selector: &str, count: usize) -> Vec<String> {
    let selector = ChannelSelector::parse(selector).expect("a selector");
    let subscription = Subscription::new([selector], [], 1).expect("a subscription");
    let request = StreamRequest { start: Start::Earliest, ..StreamRequest::new(subscription) };
    let mut body = hub.stream(request).await.expect("a stream");
    let mut text = String::new();
    let read = async {
        while !text.contains("retry: ") || text.matches("data: ").count() < count {
            let frame = body.frame().await.expect("it goes on").expect("bytes");
            text += &String::from_utf8_lossy(frame.data_ref().expect("data"));
        }
    };
    let is_read = timeout(PATIENCE, read).await;
    is_read.unwrap_or_else(|_| panic!("{count} events do not come"));
    assert!(!text.contains("visnyk.closed"), "{text}");
    text.lines().filter_map(|line| Some(line.strip_prefix("data: ")?.to_owned())).collect()
}

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).expect("a name")
}

const PATIENCE: Duration = Duration::from_secs(10);
