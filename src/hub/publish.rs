//! Publishing: admission, the log, the answer.
//!
//! Only the publisher's own task ever waits, and no longer than the publish wait time.

use std::{future::poll_fn, mem, sync::Arc, task::Poll, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};

use super::{CloseError, Hub, PublishError, Source, channel_creation::CreatedBy};
use crate::{
    actors::{CommitError, Submission, cost},
    backend::ChannelEntry,
    core::IdempotencyKey,
    model::{ChannelName, ChannelNameError, Draft, EventKind, NewEvent, Position},
    telemetry::Metrics,
};

/// Events to publish together: accepted whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Publication {
    /// The events, each with its channel, in the order they are to have.
    pub events: Vec<(ChannelName, NewEvent)>,
    /// Names the publish, so that a retry publishes nothing.
    pub key: Option<IdempotencyKey>,
    /// Who publishes, if that is to be counted.
    pub source: Option<Source>,
}

impl Publication {
    /// One plain message to a channel by name.
    ///
    /// # Errors
    /// A text that is no channel's name.
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
    /// Waits up to the publish wait time for room. Cancelling it (dropping the future) leaves open
    /// whether the events are accepted; an idempotency key makes a retry safe.
    pub async fn publish(&self, publication: Publication) -> Result<Published, PublishError> {
        let client = match &publication.source {
            Some(Source::Client(client)) => Some(client.ip()),
            _ => None,
        };
        let result = self.try_publish(publication).await;
        if let Err(error) = &result {
            let reason = match error {
                PublishError::Overloaded { .. } => "overloaded",
                PublishError::DirectoryFull(_) => "too_many_channels",
                PublishError::GoingDown => "going_down",
                PublishError::KeyReused => "key_reused",
                PublishError::TooFast { rate, .. } => rate.as_str(),
                PublishError::OverBurst { .. } => "over_burst",
                PublishError::TooManyNewChannels { .. } => "too_many_new_channels",
                _ => return result,
            };
            Metrics::count(&self.shared.metrics.publishes_refused, reason);
            if matches!(
                error,
                PublishError::TooFast { .. }
                    | PublishError::OverBurst { .. }
                    | PublishError::TooManyNewChannels { .. }
            ) {
                self.log_over_limit(reason, client);
            }
        }
        result
    }

    async fn try_publish(&self, publication: Publication) -> Result<Published, PublishError> {
        let events_max = self.shared.limits().publish.batch_events_max as usize;
        if publication.events.is_empty() {
            return Err(PublishError::Empty);
        }
        if publication.events.len() > events_max {
            return Err(PublishError::TooMany { events_max });
        }
        self.quotas.check_rates(publication.source.as_ref(), &publication.events)?;
        let now_ms = self.shared.clock.now_ms();
        let created_by = CreatedBy::of(publication.source.as_ref());
        let mut events: Vec<(Arc<ChannelEntry>, Draft)> =
            Vec::with_capacity(publication.events.len());
        for (name, event) in &publication.events {
            let entry = match events.last() {
                Some((last, _)) if last.name() == name => Arc::clone(last),
                _ => self.find_or_create(name, created_by, now_ms)?,
            };
            events.push((entry, Draft::new(event)));
        }
        self.submit(events, EventKind::Published, publication.key).await
    }

    /// Closes a channel: its subscribers are told in log order, and it takes no more events until
    /// its tombstone expires.
    pub async fn close_channel(&self, name: &ChannelName) -> Result<Published, CloseError> {
        let Some(entry) = self.shared.backend.directory().find(name) else {
            return Err(CloseError::NoSuchChannel(name.clone()));
        };
        let draft = Draft::closed(name.as_str());
        Ok(self.submit(vec![(entry, draft)], EventKind::Closed, None).await?)
    }

    async fn submit(
        &self,
        events: Vec<(Arc<ChannelEntry>, Draft)>,
        kind: EventKind,
        key: Option<IdempotencyKey>,
    ) -> Result<Published, PublishError> {
        let wait_ms = self.shared.limits().publish.wait_ms;
        let admission =
            timeout(Duration::from_millis(wait_ms.into()), self.acquire_permits(&events));
        let Ok(permits) = admission.await else {
            return Err(PublishError::Overloaded { wait_ms });
        };
        let (reply, answer) = oneshot::channel();
        let submission = Submission { events, kind, key, permits, reply };
        let Ok(queued) = self.shared.enqueue(submission) else {
            // Every submission in the queue holds a permit, and the queue has room for each.
            return Err(PublishError::Overloaded { wait_ms });
        };
        // Publishers whose requests came together are committed together.
        yield_once().await;
        drop(queued);
        match answer.await {
            Ok(Ok(committed)) => Ok(Published {
                first: committed.first,
                last: committed.last,
                events: committed.events,
                replayed: committed.replayed,
            }),
            Ok(Err(CommitError::Closed(name))) => Err(PublishError::Closed(name)),
            Ok(Err(CommitError::KeyReused)) => Err(PublishError::KeyReused),
            Err(_) => Err(PublishError::GoingDown),
        }
    }

    /// Takes the permits of a publish: each channel's share first, in the order of their ids, so
    /// that publishes across channels do not block each other, then the hub's. A publish larger
    /// than all permits takes all.
    pub(super) async fn acquire_permits(
        &self,
        events: &[(Arc<ChannelEntry>, Draft)],
    ) -> Vec<OwnedSemaphorePermit> {
        let mut costs: Vec<(&Arc<ChannelEntry>, usize)> = Vec::new();
        let mut sorted: Vec<_> = events.iter().map(|(entry, draft)| (entry, cost(draft))).collect();
        sorted.sort_by_key(|(entry, _)| entry.id());
        for (entry, cost) in sorted {
            match costs.last_mut() {
                Some((last, sum)) if last.id() == entry.id() => *sum += cost,
                _ => costs.push((entry, cost)),
            }
        }
        let publish = &self.shared.limits().publish;
        let all = publish.in_flight_max.max(1) as usize;
        let publish_permits = (all * usize::from(publish.channel_share_percent) / 100).max(1);
        let total: usize = costs.iter().map(|(_, cost)| cost).sum();
        let mut permits = Vec::with_capacity(costs.len() + 1);
        for (entry, cost) in costs {
            permits.push(acquire(entry.publish_permits(), cost.min(publish_permits)).await);
        }
        permits.push(acquire(&self.shared.permits, total.min(all)).await);
        permits
    }
}

/// Yields once to the tasks that are ready now.
async fn yield_once() {
    let mut is_first = true;
    poll_fn(|context| {
        if mem::take(&mut is_first) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

async fn acquire(permits: &Arc<Semaphore>, count: usize) -> OwnedSemaphorePermit {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    Arc::clone(permits).acquire_many_owned(count).await.expect("no permits are ever closed")
}
