//! Publishing through a whole hub: who commits, how much at once, and what a panic there costs.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, mpsc},
    task::{Context, Poll, Waker},
};

use tokio::sync::OwnedSemaphorePermit;

use super::{CloseError, Hub, Publication, PublishError};
use crate::{
    actors::{CommitBudget, Log, Submission},
    core::Limits,
    model::{ChannelName, Draft, EventKind, NewEvent, Seq},
};

fn publication(data: &str) -> Publication {
    let name = ChannelName::parse("a").expect("a name");
    Publication::one(name, NewEvent::message(data))
}

#[tokio::test]
async fn a_commit_that_panics_on_a_publishers_thread_ends_the_hub_and_nothing_is_committed_after() {
    let hub = Hub::builder().shards(1).start().await.expect("it starts");
    hub.publish(publication("1")).await.expect("published");
    hub.0.log.committer().lock().plant_panic(true);
    let answer = hub.publish(publication("2")).await;
    assert_eq!(answer, Err(PublishError::GoingDown));
    let why = tokio::time::timeout(std::time::Duration::from_secs(10), hub.failed()).await;
    assert!(why.expect("it fails").contains("the log failed"));
    hub.0.log.committer().lock().plant_panic(false);
    let answer = hub.publish(publication("3")).await;
    assert_eq!(answer, Err(PublishError::GoingDown));
    assert_eq!(hub.head(), Seq(1));
}

#[tokio::test]
async fn a_commit_that_panics_on_any_thread_is_the_last() {
    let hub = Hub::builder().shards(1).start().await.expect("it starts");
    let mut committer = hub.0.log.committer().lock();
    hub.0.log.commit_within(&mut committer, CommitBudget::ALL);
    assert!(!committer.is_stopped());
    committer.plant_panic(true);
    let commit = AssertUnwindSafe(|| hub.0.log.commit_within(&mut committer, CommitBudget::ALL));
    assert!(catch_unwind(commit).is_err());
    assert!(committer.is_stopped());
}

/// What the channel's publisher waits for before an event is handed in.
async fn room(hub: &Hub, channel: &str) -> Vec<OwnedSemaphorePermit> {
    let name = ChannelName::parse(channel).expect("a name");
    let entry = hub.0.registry.directory().find_or_create(&name, 0).expect("room");
    hub.acquire_permits(&[(entry, Draft::new(&NewEvent::message("1")))]).await
}

/// What a future comes to without waiting.
fn at_once<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_channel_at_its_limit_waits_and_another_does_not() {
    let mut limits = Limits::default();
    limits.publish.in_flight_max = 8;
    let hub = Hub::builder().shards(1).limits(limits).start().await.expect("it starts");
    let mut hot = Vec::new();
    for _ in 0..4 {
        hot.push(at_once(pin!(room(&hub, "hot"))).expect("within its limit"));
    }
    // The fifth waits where it holds up no other channel, though there is room in the hub.
    let mut waiting = pin!(room(&hub, "hot"));
    assert!(at_once(waiting.as_mut()).is_none());
    let mut calm = Vec::new();
    for _ in 0..4 {
        calm.push(at_once(pin!(room(&hub, "calm"))).expect("room"));
    }
    assert!(at_once(pin!(room(&hub, "third"))).is_none(), "all is taken");
    hot.pop();
    hot.push(waiting.await);
    calm.pop();
    assert!(at_once(pin!(room(&hub, "third"))).is_some());
}

/// Submits an event with so much data, and does not commit it.
fn submit_only(hub: &Hub, bytes: usize) {
    let name = ChannelName::parse("a").expect("a name");
    let entry = hub.0.registry.directory().find_or_create(&name, 0).expect("room");
    let draft = Draft::new(&NewEvent::message("x".repeat(bytes)));
    let (kind, key, permits) = (EventKind::Published, None, Vec::new());
    hub.0.log.submit_only(Submission {
        events: vec![(entry, draft)],
        kind,
        key,
        permits,
        trace: None,
    });
}

#[tokio::test]
async fn an_inline_commit_is_bounded_in_bytes_and_the_rest_keeps_its_order() {
    let hub = Hub::builder().shards(1).start().await.expect("it starts");
    let log = &hub.0.log;
    let mut committer = log.committer().lock();
    let kib_max = CommitBudget::INLINE.cost_max - 1;
    submit_only(&hub, kib_max * 1_024);
    log.commit_within(&mut committer, CommitBudget::INLINE);
    assert_eq!(hub.head(), Seq(1), "at the bound");
    for bytes in [1, (kib_max + 1) * 1_024, 1] {
        submit_only(&hub, bytes);
    }
    for _ in 0..2 {
        log.commit_within(&mut committer, CommitBudget::INLINE);
        assert_eq!((hub.head(), log.queued()), (Seq(2), 1), "above");
    }
    assert!(committer.has_deferred());
    log.commit_within(&mut committer, CommitBudget::ALL);
    assert_eq!((hub.head(), committer.has_deferred()), (Seq(4), false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_actor_commits_what_is_over_the_inline_budget_or_comes_during_another_commit() {
    let hub = Hub::builder().shards(1).start().await.expect("it starts");
    for events in [CommitBudget::INLINE.cost_max, CommitBudget::INLINE.cost_max + 1] {
        let mut large = publication("0");
        large.events = vec![large.events[0].clone(); events];
        assert_eq!(hub.publish(large).await.expect("published").events, events);
    }
    let log = Arc::clone(&hub.0.log);
    let (locked, wait_locked) = mpsc::channel();
    let (free, wait_free) = mpsc::channel::<()>();
    let other: Arc<Log> = Arc::clone(&log);
    let other = std::thread::spawn(move || {
        let _held = other.committer().lock();
        locked.send(()).expect("the test waits");
        wait_free.recv().expect("it is let go");
    });
    wait_locked.recv().expect("it is held");
    let publishing = tokio::spawn(async move { hub.publish(publication("1")).await });
    while log.queued() == 0 {
        tokio::task::yield_now().await;
    }
    free.send(()).expect("it waits");
    publishing.await.expect("it ends").expect("published");
    other.join().expect("it ends");
}

#[tokio::test]
async fn a_channel_that_is_closed_again_is_no_refused_publish() {
    let hub = Hub::builder().shards(1).start().await.expect("it starts");
    hub.publish(publication("1")).await.expect("published");
    let name = ChannelName::parse("a").expect("a name");
    hub.close_channel(&name).await.expect("it closes");
    let refused = || hub.0.metrics.publishes_refused.total(["closed"]);
    let again = hub.close_channel(&name).await;
    assert_eq!(again, Err(CloseError::Publish(PublishError::Closed(name))));
    assert_eq!(refused(), 0);
    assert!(hub.publish(publication("2")).await.is_err());
    assert_eq!(refused(), 1);
}

#[tokio::test]
async fn a_hub_does_not_start_with_limits_that_cannot_hold() {
    let change: [fn(&mut Limits); 3] = [
        |limits| limits.connections.heartbeat_s = 0,
        |limits| limits.connections.write_stall_s = 0,
        |limits| limits.connections.retry_min_ms = limits.connections.retry_max_ms + 1,
    ];
    for change in change {
        let mut limits = Limits::default();
        change(&mut limits);
        assert!(Hub::builder().limits(limits).shards(1).start().await.is_err());
    }
}
