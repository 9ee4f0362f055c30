//! Polls that wait, and what they find.

use std::task::Poll;

use tokio::task::{JoinHandle, yield_now};

use super::*;
use crate::{
    backend::LostThrough,
    core::Limits,
    hub::{Fault, Publication},
    model::{ChannelName, ChannelSelector, EnvelopeAnswers, EventKind, EventType, NewEvent, Seq},
};

#[tokio::test]
async fn a_poll_that_comes_to_wait_in_a_drain_gets_what_was_acknowledged_before() {
    let hub = Hub::builder().shards(1).start().await.expect("a hub");
    let mut request = poll_of("a", Duration::from_secs(20));
    let Ok(PollNow::Wait(PollWait { position, .. })) = hub.poll_now(&request).await else {
        panic!("there is nothing yet")
    };
    request.start = Start::At(position);
    let publication = Publication::message("a", "last").expect("a name");
    hub.publish(publication).await.expect("published");
    hub.drain(Duration::ZERO).await;
    let reply = hub.wait_for_reply(request.clone()).await.expect("an answer");
    assert!(String::from_utf8_lossy(&reply.body).contains("last"));
    request.start = Start::At(reply.position);
    let refused = hub.wait_for_reply(request).await.map(|reply| reply.status);
    assert_eq!(refused, Err(SubscribeError::GoingDown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_does_not_wait_misses_no_channel_created_meanwhile() {
    let hub = Hub::builder().shards(1).start().await.expect("a hub");
    let publisher = hub.clone();
    let publishing = tokio::spawn(async move {
        for n in 0..CREATIONS {
            let name = ChannelName::parse(&format!("c/{n}")).expect("a name");
            let publication = Publication::one(name, NewEvent::message("created"));
            publisher.publish(publication).await.expect("published");
        }
    });
    let pattern = ChannelSelector::parse("**").expect("a pattern");
    let mut request = PollRequest {
        subscription: Subscription::new([pattern], [], 1).expect("a subscription"),
        start: Start::Earliest,
        encoding: &EnvelopeAnswers,
        wait: Duration::ZERO,
        limit: 1_000,
        holder: None,
        client: None,
    };
    let mut received = 0;
    while received < CREATIONS {
        let position = match hub.poll_now(&request).await.expect("an answer") {
            PollNow::Answer(answer) => {
                received += answer.events.len() as u64;
                answer.position
            }
            PollNow::Wait(wait) => wait.position,
        };
        assert_eq!(position.seq.0, received, "every event of the log is one of its own");
        request.start = Start::At(position);
    }
    publishing.await.expect("all published");
}

const CREATIONS: u64 = 2_000;

#[tokio::test]
async fn a_poll_with_a_gap_goes_on_behind_it() {
    // However far it has looked when all that it wants is replaced.
    let mut found_later = 0;
    for looks in 0..12 {
        let mut limits = Limits::default();
        limits.history.events_max = 1;
        let hub = Hub::builder().limits(limits).shards(1).start().await.expect("a hub");
        let publish = async |name: &str| {
            let name = ChannelName::parse(name).expect("a name");
            let publication = Publication::one(name, NewEvent::message("x"));
            hub.publish(publication).await.expect("published");
        };
        let wanted = ["p/a", "p/b", "p/c"];
        for name in wanted {
            publish(name).await;
        }
        for _ in 0..20 {
            publish("other").await;
        }
        let pattern = ChannelSelector::parse("p/*").expect("a pattern");
        let request = PollRequest {
            subscription: Subscription::new([pattern], [], 1).expect("a subscription"),
            start: Start::At(hub.0.store.position(Seq(1))),
            encoding: &EnvelopeAnswers,
            wait: Duration::ZERO,
            limit: 100,
            holder: None,
            client: None,
        };
        let mut poll = std::pin::pin!(hub.poll_now(&request));
        let mut answer = None;
        for _ in 0..looks {
            if answer.is_none()
                && let Poll::Ready(it) =
                    std::future::poll_fn(|context| Poll::Ready(poll.as_mut().poll(context))).await
            {
                answer = Some(it);
            }
        }
        publish("other").await;
        for name in wanted {
            publish(name).await;
        }
        let answer = match answer {
            Some(answer) => answer,
            None => poll.await,
        };
        // Otherwise it found a loss when it knew already where to start; the shard tells that.
        if let PollNow::Answer(answer) = answer.expect("no refusal")
            && let Some(gap) = answer.gap
        {
            let is_behind_first_head = looks > 0 && gap.oldest.seq > Seq(23);
            found_later += u32::from(is_behind_first_head);
            assert!(answer.position.seq >= gap.oldest.seq, "{looks}: {:?}", answer.position);
        }
    }
    assert!(found_later > 0);
}

#[tokio::test]
async fn a_poll_whose_answers_show_no_gaps_waits_behind_one_that_has_no_event() {
    #[derive(Debug)]
    struct WithoutGaps;

    impl PollEncoding for WithoutGaps {
        fn name(&self) -> &'static str {
            "without gaps"
        }

        fn shows_gaps(&self) -> bool {
            false
        }

        fn encode(&self, answer: &PollAnswer) -> PollReply {
            EnvelopeAnswers.encode(answer)
        }
    }

    let mut limits = Limits::default();
    limits.history.events_max = 1;
    let hub = Hub::builder().limits(limits).shards(1).start().await.expect("a hub");
    let publish = async |data: &str| {
        hub.publish(Publication::message("a", data).expect("a name")).await.expect("published")
    };
    let mut request = poll_of("a", Duration::from_secs(20));
    request.start = Start::parse("zzzzzzzzzzz-7").expect("a position of another log");
    let Ok(PollNow::Answer(answer)) = hub.poll_now(&request).await else { panic!("a gap") };
    assert!(answer.gap.is_some() && answer.events.is_empty());
    request.encoding = &WithoutGaps;
    let Ok(PollNow::Wait(wait)) = hub.poll_now(&request).await else { panic!("no event") };
    assert_eq!(wait.position, answer.position);
    publish("first").await;
    // With an event there is no need to wait.
    let Ok(PollNow::Answer(answer)) = hub.poll_now(&request).await else { panic!("an event") };
    assert_eq!(answer.events.len(), 1);
}

/// A type filter may pass over more events than one look reads.
#[tokio::test]
async fn a_poll_of_a_closed_channel_gets_all_of_it_before_it_is_refused() {
    let mut limits = Limits::default();
    limits.history.events_max = 10_000;
    let hub = Hub::builder().limits(limits).shards(1).start().await.expect("a hub");
    let name = ChannelName::parse("a").expect("a name");
    let event = |event_type: &str| NewEvent {
        event_type: Some(EventType::parse(event_type).expect("a type")),
        ..NewEvent::message("x")
    };
    for _ in 0..9 {
        let mut batch = Publication::one(name.clone(), event("step"));
        batch.events.extend((1..500).map(|_| (name.clone(), event("step"))));
        hub.publish(batch).await.expect("published");
    }
    hub.publish(Publication::one(name.clone(), event("final"))).await.expect("published");
    hub.close_channel(&name).await.expect("closed");
    let mut request = poll_of("a", Duration::ZERO);
    request.start = Start::Earliest;
    let types = [EventType::parse("final").expect("a type")];
    let selector = ChannelSelector::Name(name);
    request.subscription = Subscription::new([selector], types, 1).expect("a subscription");
    let mut kinds = Vec::new();
    let refused = loop {
        match hub.poll_now(&request).await {
            Ok(PollNow::Answer(answer)) => {
                kinds.extend(answer.events.iter().map(|event| event.kind));
                request.start = Start::At(answer.position);
            }
            Ok(PollNow::Wait(wait)) => request.start = Start::At(wait.position),
            Err(error) => break error,
        }
    };
    assert_eq!(kinds, [EventKind::Published, EventKind::Closed]);
    assert_eq!(refused, SubscribeError::Closed);
    // Nor is one that waits.
    request.start = Start::Earliest;
    request.wait = Duration::from_secs(20);
    let reply = hub.wait_for_reply(request).await.expect("an answer");
    assert!(String::from_utf8_lossy(&reply.body).contains("final"));
}

#[tokio::test]
async fn a_poll_that_looks_again_counts_its_gap_once() {
    // However far it has looked when the histories are loaded anew.
    let mut looked_again = 0;
    for looks in 1..12 {
        let hub = Hub::builder().shards(1).start().await.expect("a hub");
        for name in ["p/a", "p/b", "p/c"].into_iter().chain(["other"; 20]) {
            let publication = Publication::message(name, "x").expect("a name");
            hub.publish(publication).await.expect("published");
        }
        let pattern = ChannelSelector::parse("p/*").expect("a pattern");
        let request = PollRequest {
            subscription: Subscription::new([pattern], [], 1).expect("a subscription"),
            start: Start::Unknown("x".into()),
            ..poll_of("a", Duration::ZERO)
        };
        let mut poll = std::pin::pin!(hub.poll_now(&request));
        let mut answer = None;
        for _ in 0..looks {
            if answer.is_none()
                && let Poll::Ready(it) =
                    std::future::poll_fn(|context| Poll::Ready(poll.as_mut().poll(context))).await
            {
                answer = Some(it);
            }
        }
        let answer = match answer {
            Some(answer) => answer,
            None => {
                looked_again += 1;
                let store = &hub.0.store;
                store.reset(store.epoch(), LostThrough::default(), store.head());
                poll.await
            }
        };
        let PollNow::Answer(answer) = answer.expect("no refusal") else { panic!("it has a gap") };
        assert!(answer.gap.is_some(), "{looks}");
        assert_eq!(hub.0.metrics.gaps.total(["unknown_position"]), 1, "{looks}");
    }
    assert!(looked_again > 0);
}

/// A poll of one channel from now on.
fn poll_of(channel: &str, wait: Duration) -> PollRequest {
    let name = ChannelName::parse(channel).expect("a name");
    let selector = ChannelSelector::Name(name);
    PollRequest {
        subscription: Subscription::new([selector], [], 1).expect("a subscription"),
        start: Start::Now,
        encoding: &EnvelopeAnswers,
        wait,
        limit: 10,
        holder: None,
        client: None,
    }
}

/// A hub of one shard on which a poll of `a` waits for longer than a test takes.
async fn hub_with_waiting_poll() -> (Hub, JoinHandle<Result<PollReply, SubscribeError>>) {
    let hub = Hub::builder().shards(1).start().await.expect("a hub");
    let waiting = tokio::spawn({
        let hub = hub.clone();
        async move { hub.poll(poll_of("a", Duration::from_secs(60))).await }
    });
    while hub.counters().pollers.get() == 0 {
        yield_now().await;
    }
    (hub, waiting)
}

#[tokio::test]
async fn a_poll_waits_for_its_answer_and_gets_it_as_a_value() {
    let (hub, waiting) = hub_with_waiting_poll().await;
    let name = ChannelName::parse("a").expect("a name");
    let publication = Publication::one(name, NewEvent::message("hello"));
    let published = hub.publish(publication).await.expect("published");
    let reply = waiting.await.expect("it ends").expect("an answer");
    assert_eq!((reply.status, reply.position), (200, published.last));
    assert_eq!(reply.content_type, Some("application/json"));
    let body = std::str::from_utf8(&reply.body).expect("text");
    assert!(body.contains(r#""data":"hello""#), "{body}");
    for wait in [Duration::ZERO, Duration::from_millis(1)] {
        let reply = hub.poll(poll_of("a", wait)).await.expect("an answer");
        assert_eq!((reply.status, reply.position), (204, published.last));
    }
    while hub.counters().pollers.get() > 0 {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_poll_whose_shard_ends_is_answered_by_its_successor() {
    let (hub, waiting) = hub_with_waiting_poll().await;
    hub.plant_fault(Fault::Shard(0));
    while !hub.metrics().contains("visnyk_restarts_total{reason=\"shard\"} 1") {
        yield_now().await;
    }
    let name = ChannelName::parse("a").expect("a name");
    let publication = Publication::one(name, NewEvent::message("hello"));
    let published = hub.publish(publication).await.expect("published");
    let reply = waiting.await.expect("it ends").expect("an answer");
    assert_eq!((reply.status, reply.position), (200, published.last));
}

#[tokio::test]
async fn a_poll_that_is_dropped_leaves_its_shard() {
    let (hub, waiting) = hub_with_waiting_poll().await;
    waiting.abort();
    while hub.counters().pollers.get() > 0 {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_poll_for_no_event_at_all_loses_none() {
    let hub = Hub::builder().shards(1).start().await.expect("a hub");
    let name = ChannelName::parse("a").expect("a name");
    let publication = Publication::one(name.clone(), NewEvent::message("1"));
    hub.publish(publication).await.expect("published");
    let selector = ChannelSelector::Name(name);
    let request = PollRequest {
        subscription: Subscription::new([selector], [], 1).expect("a subscription"),
        start: Start::Earliest,
        encoding: &EnvelopeAnswers,
        wait: Duration::ZERO,
        limit: 0,
        holder: None,
        client: None,
    };
    match hub.poll_now(&request).await {
        Ok(PollNow::Answer(answer)) => assert_eq!(answer.events.len(), 1),
        other => panic!("{other:?}"),
    }
}
