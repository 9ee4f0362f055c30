//! Long-polls: answered from history at once, or admitted to wait on a shard.

mod look;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{error::SubscribeError, handle::Hub, subscribe::AdmissionRequest};
use crate::{
    actors::{Form, Holder, Subscriber},
    core::Subscription,
    model::{ClientAddress, PollAnswer, PollEncoding, PollReply, Position, Start},
};

/// A long-poll.
#[derive(Clone)]
pub struct PollRequest {
    /// Channels, patterns, types.
    pub subscription: Subscription,
    /// The position it starts from.
    pub start: Start,
    /// How its answer is encoded.
    pub encoding: &'static dyn PollEncoding,
    /// How long it waits.
    pub wait: Duration,
    /// Events at most; 0 counts as 1.
    pub limit: u32,
    /// The client's subject and token expiry, with authentication; the poll ends with the token.
    pub holder: Option<Holder>,
    /// The address of its client, if that is known.
    pub client: Option<ClientAddress>,
}

impl PollRequest {
    /// Makes the poll wait from a position, for the rest of its wait time since `begun`.
    pub(crate) fn wait_from(&mut self, wait: &PollWait, begun: Instant) {
        self.start = Start::At(wait.position);
        if wait.truncated {
            self.encoding = self.encoding.of_truncated().unwrap_or(self.encoding);
        }
        self.wait = self.wait.saturating_sub(begun.elapsed());
    }
}

impl Hub {
    /// Admits a long-poll that is to wait.
    pub fn admit_poll(&self, request: PollRequest) -> Result<Subscriber, SubscribeError> {
        self.admit(AdmissionRequest {
            subscription: request.subscription,
            start: request.start,
            form: Form::Poll { encoding: request.encoding, limit: request.limit.max(1) },
            policy: None,
            ends_after_ms: Some(request.wait.as_millis() as u64),
            opening: None,
            holder: request.holder,
            client: request.client,
        })
    }

    /// Reads what a long-poll finds without waiting; [`PollNow::Wait`] if it has to wait.
    ///
    /// The position of a poll that starts now is fixed by this call: wait from the position that
    /// [`PollNow::Wait`] gives. A poll by patterns yields to other tasks between looks at the
    /// journal and the hub's channels; cancelling it has no effect.
    pub async fn poll_now(&self, request: &PollRequest) -> Result<PollNow, SubscribeError> {
        loop {
            // Before the wait: a load that begins behind it makes the results invalid, too.
            let resets = self.0.store.resets();
            self.catch_up(&request.start).await?;
            let found = self.look(request).await;
            // The histories were loaded anew meanwhile, so the results from before are invalid.
            if self.0.store.resets() == resets {
                match &found {
                    Ok(found) => self.count_found(found, request.wait.is_zero()),
                    Err(error) => self.log_if_client_limit(error, request.client),
                }
                return found.map_err(|error| self.refused(error));
            }
        }
    }

    /// Counts what a poll is answered with; one that waits is counted by its shard.
    fn count_found(&self, found: &PollNow, never_waits: bool) {
        let position = match found {
            PollNow::Answer(answer) => {
                if let Some(gap) = &answer.gap {
                    self.0.metrics.gaps.count(gap.reason.as_str());
                }
                self.0.metrics.deliveries.inc_by(answer.events.len() as u64);
                answer.position
            }
            PollNow::Wait(wait) if never_waits => wait.position,
            PollNow::Wait(_) => return,
        };
        let is_complete = position.seq >= self.0.store.head();
        self.0.poll_times.answered(is_complete, self.0.clock.now_ms());
    }

    /// Answers a poll with a value: at once, on the first event, or when its wait is over. Dropping
    /// the future ends the wait.
    ///
    /// # Errors
    /// As [`poll_now`](Self::poll_now) and [`admit_poll`](Self::admit_poll), and
    /// [`SubscribeError::GoingDown`] if no shard runs until its wait is over.
    pub async fn poll(&self, mut request: PollRequest) -> Result<PollReply, SubscribeError> {
        let begun = Instant::now();
        match self.poll_now(&request).await? {
            PollNow::Answer(answer) => return Ok(request.encoding.encode(&answer)),
            PollNow::Wait(PollWait { position, .. }) if request.wait.is_zero() => {
                return Ok(request.encoding.encode(&PollAnswer::nothing(position)));
            }
            PollNow::Wait(wait) => request.wait_from(&wait, begun),
        }
        self.wait_for_reply(request).await
    }

    /// Looks once more for events for a poll that may not wait, since the hub drains; `None` unless
    /// the hub drains. All events that are only in memory are shown by then, so a poll that is
    /// refused has missed none.
    ///
    /// # Errors
    /// [`SubscribeError::GoingDown`] if the hub drains and there are no events.
    pub(crate) async fn look_before_refusal(
        &self,
        request: &PollRequest,
    ) -> Result<Option<PollAnswer>, SubscribeError> {
        if !self.0.lifecycle.is_draining() {
            return Ok(None);
        }
        match self.poll_now(request).await? {
            PollNow::Answer(answer) => Ok(Some(answer)),
            PollNow::Wait(_) => Err(self.refused(SubscribeError::GoingDown)),
        }
    }

    /// Lets a poll that starts at a position wait on some shard for its answer, and on another one
    /// for the rest of its wait if that shard ends. Dropping the future ends the wait.
    pub(crate) async fn wait_for_reply(
        &self,
        mut request: PollRequest,
    ) -> Result<PollReply, SubscribeError> {
        let until = Instant::now() + request.wait;
        loop {
            if let Some(answer) = self.look_before_refusal(&request).await? {
                return Ok(request.encoding.encode(&answer));
            }
            let subscriber = self.admit_poll(request.clone())?;
            if let Some(reply) = self.0.shards.wait_for_reply(subscriber).await {
                return Ok(reply);
            }
            request.wait = until.saturating_duration_since(Instant::now());
            if request.wait.is_zero() {
                return Err(self.refused(SubscribeError::GoingDown));
            }
            // The shard is started again in a moment.
            sleep(RESTART_PAUSE.min(request.wait)).await;
        }
    }
}

/// The result of [`Hub::poll_now`].
#[derive(Debug)]
pub enum PollNow {
    /// An answer.
    Answer(PollAnswer),
    /// Nothing yet.
    Wait(PollWait),
}

/// How a poll that found nothing is to wait.
#[derive(Debug, Clone, Copy)]
pub struct PollWait {
    /// The position to wait from.
    pub position: Position,
    /// Whether the poll starts with history of a channel that has lost events before its oldest
    /// one.
    pub truncated: bool,
}

/// How long a poll whose shard has ended waits before it is handed to another.
const RESTART_PAUSE: Duration = Duration::from_millis(20);
