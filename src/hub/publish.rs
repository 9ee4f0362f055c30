//! Publishing: admission, the log, the answer.
//!
//! Only the publisher's own task ever waits, and no longer than the publish wait time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;
use smallvec::SmallVec;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    channel_creation::CreatedBy,
    error::{CloseError, PublishError},
    event_rate::Source,
    handle::Hub,
    quotas::check_channels,
};
use crate::{
    actors::{AppendError, Submission, cost},
    backend::ChannelEntry,
    core::IdempotencyKey,
    model::{ChannelName, ChannelNameError, Draft, EventKind, NewEvent, Position},
    telemetry::{OpenSpan, PublishTrace, Stage, Step, Value},
};

/// Events to publish together: accepted whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Publication {
    /// The events, each with its channel, in the order of their seqs.
    pub events: Vec<(ChannelName, NewEvent)>,
    /// Names the publish, so that a retry publishes nothing.
    pub key: Option<IdempotencyKey>,
    /// The key under which rate limits count the events; `None` is not limited.
    pub source: Option<Source>,
}

impl Publication {
    /// One event without a type, to a channel by name.
    ///
    /// # Errors
    /// A text that is not a channel's name.
    pub fn message(channel: &str, data: impl Into<String>) -> Result<Self, ChannelNameError> {
        Ok(Self::one(ChannelName::parse(channel)?, NewEvent::message(data)))
    }

    /// One event.
    pub fn one(channel: ChannelName, event: NewEvent) -> Self {
        Self { events: vec![(channel, event)], key: None, source: None }
    }
}

/// The answer to a publish: the events are in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The position of the first event.
    pub first: Position,
    /// The position of the last event.
    pub last: Position,
    /// How many events.
    pub events: usize,
    /// Whether this repeats the answer to an earlier publish under the same key.
    pub replayed: bool,
}

impl Hub {
    /// Publishes, and answers once the events are in the log.
    ///
    /// Waits up to `publish.wait_ms` for late shards and permits. If the future is dropped, the
    /// events may be accepted or not; an idempotency key makes a retry safe.
    pub async fn publish(&self, publication: Publication) -> Result<Published, PublishError> {
        self.publish_traced(publication, None).await
    }

    /// Publishes as [`publish`](Self::publish) does. If the publish is traced, its spans are
    /// recorded.
    pub(crate) async fn publish_traced(
        &self,
        publication: Publication,
        trace: Option<&Arc<PublishTrace>>,
    ) -> Result<Published, PublishError> {
        let span =
            trace.map(|trace| OpenSpan::stage(trace, Stage::Publish, attributes_of(&publication)));
        let client = match &publication.source {
            Some(Source::Client(client)) => Some(client.ip()),
            _ => None,
        };
        let began = Instant::now();
        let mut unanswered = Unanswered(Some(&self.0.metrics.publishes_cancelled));
        let result = self.try_publish(publication, trace).await;
        unanswered.0 = None;
        if let Some(span) = span {
            end_publish(span, &result);
        }
        if result.is_ok() {
            self.0.metrics.publish_seconds.observe_time(began.elapsed());
        }
        if let Err(error) = &result {
            let reason = error.as_str();
            match error {
                PublishError::Unknown => {
                    self.0.metrics.publishes_unknown.inc();
                    return result;
                }
                // A body is counted before it comes here.
                PublishError::Empty
                | PublishError::TooMany { .. }
                | PublishError::TooManyBodies { .. } => return result,
                _ => {}
            }
            self.0.metrics.publishes_refused.count(reason);
            if matches!(
                error,
                PublishError::TooFast { .. }
                    | PublishError::OverBurst { .. }
                    | PublishError::TooManyNewChannels { .. }
            ) {
                self.0.throttled_logs.over_limit(reason, client);
            }
        }
        result
    }

    async fn try_publish(
        &self,
        publication: Publication,
        trace: Option<&Arc<PublishTrace>>,
    ) -> Result<Published, PublishError> {
        let events_max = self.0.limits.load().publish.batch_events_max as usize;
        if publication.events.is_empty() {
            return Err(PublishError::Empty);
        }
        if publication.events.len() > events_max {
            return Err(PublishError::TooMany { events_max });
        }
        self.0.quotas.check_source(publication.source.as_ref(), publication.events.len())?;
        let now_ms = self.0.clock.now_ms();
        let created_by = CreatedBy::of(publication.source.as_ref());
        let mut events: Vec<(Arc<ChannelEntry>, Draft)> =
            Vec::with_capacity(publication.events.len());
        for (name, event) in &publication.events {
            let entry = match events.last() {
                Some((last, _)) if last.name() == name => Arc::clone(last),
                _ => self.0.channel_creator.find_or_create(name, created_by, now_ms)?,
            };
            events.push((entry, Draft::new(event)));
        }
        check_channels(&events, now_ms)?;
        self.submit(events, EventKind::Published, publication.key, trace).await
    }

    /// Closes a channel: its subscribers get the closing event in log order, and it takes no more
    /// events until its tombstone expires.
    pub async fn close_channel(&self, name: &ChannelName) -> Result<Published, CloseError> {
        let Some(entry) = self.0.registry.directory().find(name) else {
            return Err(CloseError::NoSuchChannel(name.clone()));
        };
        let draft = Draft::closed(name.as_str());
        Ok(self.submit(vec![(entry, draft)], EventKind::Closed, None, None).await?)
    }

    async fn submit(
        &self,
        events: Vec<(Arc<ChannelEntry>, Draft)>,
        kind: EventKind,
        key: Option<IdempotencyKey>,
        trace: Option<&Arc<PublishTrace>>,
    ) -> Result<Published, PublishError> {
        let span = trace.map(|trace| OpenSpan::step(trace, Step::Admit));
        let wait_ms = self.0.limits.load().publish.wait_ms;
        let admission = async {
            self.wait_for_shards(&events).await;
            self.acquire_permits(&events).await
        };
        let permits = timeout(Duration::from_millis(wait_ms.into()), admission).await;
        if let Some(span) = span {
            span.end([], permits.is_err().then_some("overloaded"));
        }
        let Ok(permits) = permits else {
            return Err(PublishError::Overloaded { wait_ms });
        };
        let submission = Submission { events, kind, key, permits, trace: trace.cloned() };
        let span = trace.map(|trace| {
            let storage = vec![("visnyk.storage", Value::Word(self.0.log.storage()))];
            OpenSpan::stage(trace, Stage::Append, storage)
        });
        let began = Instant::now();
        let appended = self.0.log.append(submission).await;
        if let Some(span) = span {
            span.end([], appended.as_ref().err().map(AppendError::as_str));
        }
        match appended {
            Ok(committed) => {
                self.0.metrics.append_seconds.observe_time(began.elapsed());
                if committed.replayed {
                    self.0.metrics.publishes_replayed.inc();
                }
                Ok(Published {
                    first: committed.first,
                    last: committed.last,
                    events: committed.events,
                    replayed: committed.replayed,
                })
            }
            Err(AppendError::Closed(name)) => Err(PublishError::Closed(name)),
            Err(AppendError::KeyReused) => Err(PublishError::KeyReused),
            Err(AppendError::QueueFull) => Err(PublishError::Overloaded { wait_ms }),
            Err(AppendError::StorageFull) => Err(PublishError::StorageFull),
            Err(AppendError::BackendAway) => Err(PublishError::BackendAway),
            Err(AppendError::LogClosed) => Err(PublishError::GoingDown),
            Err(AppendError::Unknown) => Err(PublishError::Unknown),
        }
    }

    /// Waits until no shard throttles a channel of these events. It holds no permit meanwhile, so
    /// publishers of other channels do not wait for it.
    async fn wait_for_shards(&self, events: &[(Arc<ChannelEntry>, Draft)]) {
        let throttles = self.0.registry.throttles();
        let channels = || events.iter().map(|(entry, _)| entry.id());
        let Some(released) = throttles.first(channels()) else { return };
        self.0.metrics.publishes_throttled.inc();
        released.wait().await;
        // Meanwhile another channel of the batch, or the same one again, may have been throttled.
        while let Some(released) = throttles.first(channels()) {
            released.wait().await;
        }
    }

    /// Takes the permits of a publish: each channel's share first, in the order of their ids, so
    /// that publishes across channels do not block each other, then the hub's. A publish that costs
    /// more than all permits acquires all of them.
    pub(super) async fn acquire_permits(
        &self,
        events: &[(Arc<ChannelEntry>, Draft)],
    ) -> Vec<OwnedSemaphorePermit> {
        // Most publishes are of one event, whose cost needs no allocation.
        let mut costs: SmallVec<[(&Arc<ChannelEntry>, usize); 1]> = SmallVec::new();
        let mut sorted: SmallVec<[_; 1]> =
            events.iter().map(|(entry, draft)| (entry, cost(draft))).collect();
        sorted.sort_by_key(|(entry, _)| entry.id());
        for (entry, cost) in sorted {
            match costs.last_mut() {
                Some((last, sum)) if last.id() == entry.id() => *sum += cost,
                _ => costs.push((entry, cost)),
            }
        }
        let (all, publish_permits) = {
            let publish = &self.0.limits.load().publish;
            let all = publish.in_flight_max.max(1) as usize;
            (all, (all * usize::from(publish.channel_share_percent) / 100).max(1))
        };
        let total: usize = costs.iter().map(|(_, cost)| cost).sum();
        let mut permits = Vec::with_capacity(costs.len() + 1);
        for (entry, cost) in costs {
            permits.push(acquire(entry.publish_permits(), cost.min(publish_permits)).await);
        }
        permits.push(acquire(self.0.log.permits(), total.min(all)).await);
        permits
    }
}

/// Counts a publish whose future is dropped before it is answered.
struct Unanswered<'a>(Option<&'a Counter>);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        // A panic is not the client's fault.
        if let Some(cancelled) = self.0
            && !std::thread::panicking()
        {
            cancelled.inc();
        }
    }
}

/// The attributes that the span of a traced publish has from its beginning.
fn attributes_of(publication: &Publication) -> Vec<(&'static str, Value)> {
    let mut attributes = vec![
        ("messaging.system", Value::Word("visnyk")),
        ("messaging.operation.name", Value::Word("publish")),
        ("messaging.operation.type", Value::Word("send")),
        ("messaging.batch.message_count", Value::Whole(publication.events.len() as u64)),
    ];
    let mut channels = publication.events.iter().map(|(name, _)| name);
    // If all events go to one.
    if let Some(channel) = channels.next().filter(|first| channels.all(|name| name == *first)) {
        attributes.push(("messaging.destination.name", Value::Text(channel.to_string())));
    }
    attributes
}

fn end_publish(span: OpenSpan<'_>, result: &Result<Published, PublishError>) {
    match result {
        Ok(published) => {
            let id = Value::Text(published.last.to_string());
            let replayed = Value::Flag(published.replayed);
            span.end([("messaging.message.id", id), ("visnyk.replayed", replayed)], None);
        }
        Err(error) => span.end([], Some(error.as_str())),
    }
}

async fn acquire(permits: &Arc<Semaphore>, count: usize) -> OwnedSemaphorePermit {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    Arc::clone(permits).acquire_many_owned(count).await.expect("no permits are ever closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_that_panics_is_not_counted_as_cancelled() {
        let cancelled = Counter::default();
        drop(Unanswered(Some(&cancelled)));
        assert_eq!(cancelled.get(), 1);
        let panicked = std::panic::catch_unwind(|| {
            let _unanswered = Unanswered(Some(&cancelled));
            std::panic::resume_unwind(Box::new("as a fault does"));
        });
        assert!(panicked.is_err());
        assert_eq!(cancelled.get(), 1);
    }
}
