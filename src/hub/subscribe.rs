//! Admits subscriptions: turns a request into a [`Subscriber`], which a shard serves.

use std::sync::Arc;

use super::{channel_creation::CreatedBy, error::SubscribeError, handle::Hub};
use crate::{
    actors::{CountedEntry, EventBody, Form, Holder, Shape, StreamOpening, Subscriber},
    core::{SlowPolicy, Subscription},
    model::{
        ChannelPattern, ChannelSelector, ClientAddress, Framing, SelectorError, Start,
        TransferCoding,
    },
};

/// A stream to open.
#[derive(Clone)]
pub struct StreamRequest {
    /// Channels, patterns, types.
    pub subscription: Subscription,
    /// The position it starts from.
    pub start: Start,
    /// Another framing than plain server-sent events.
    pub framing: Option<&'static dyn Framing>,
    /// The slow-reader policy; `None` takes that of its channels.
    pub policy: Option<SlowPolicy>,
    /// Whether the stream begins with an event that has the connection's id.
    pub hello: bool,
    /// A reconnection time other than the jittered one, in milliseconds.
    pub retry_ms: Option<u32>,
    /// A comment in its first block, for people who read the stream.
    pub comment: Option<Arc<str>>,
    /// The client's subject and token expiry, with authentication; the stream ends with the token.
    pub holder: Option<Holder>,
    /// The address of its client, if that is known.
    pub client: Option<ClientAddress>,
}

impl StreamRequest {
    /// A plain stream of a channel or pattern, from now on.
    ///
    /// # Errors
    /// A text that is neither a channel's name nor a pattern.
    pub fn channel(selector: &str) -> Result<Self, SelectorError> {
        let selector = ChannelSelector::parse(selector)?;
        Ok(Self::new(Subscription::new([selector], [], 1).expect("one selector of at most one")))
    }

    /// A plain stream from now on.
    pub fn new(subscription: Subscription) -> Self {
        Self {
            subscription,
            start: Start::Now,
            framing: None,
            policy: None,
            hello: false,
            retry_ms: None,
            comment: None,
            holder: None,
            client: None,
        }
    }
}

impl Hub {
    /// Admits a stream. It receives nothing yet: hand the subscriber to a shard
    /// ([`LocalShard::attach`](crate::actors::LocalShard::attach)) or open it as a body
    /// ([`open`](Self::open)).
    pub fn admit_stream(&self, request: StreamRequest) -> Result<Subscriber, SubscribeError> {
        let form = request.framing.map_or(Form::Frames, Form::Framed);
        let age_max_s = self.0.limits.load().connections.age_max_s;
        // A random age, so that streams that were opened together do not all end together.
        let age_max_ms = u64::from(age_max_s) * 1_000;
        let age_max_ms =
            (age_max_s > 0).then(|| fastrand::u64(age_max_ms - age_max_ms / 5..=age_max_ms));
        let StreamRequest { hello, retry_ms, comment, .. } = request;
        let opening = (hello || retry_ms.is_some() || comment.is_some())
            .then(|| Box::new(StreamOpening { hello, retry_ms, comment }));
        self.admit(AdmissionRequest {
            subscription: request.subscription,
            start: request.start,
            form,
            policy: request.policy,
            ends_after_ms: age_max_ms,
            opening,
            holder: request.holder,
            client: request.client,
        })
    }

    /// Opens a stream as an HTTP body, for a handler that sends it as `text/event-stream`. Dropping
    /// the body ends the stream. A body that is not read buffers at most 16 KiB and one send, and
    /// then lags like any slow client.
    ///
    /// # Errors
    /// As [`admit_stream`](Self::admit_stream).
    pub async fn stream(&self, request: StreamRequest) -> Result<EventBody, SubscribeError> {
        let permit = self.replay_permit(&request.start).await?;
        let mut subscriber = self.admit_stream(request)?;
        subscriber.replay = permit;
        self.open(subscriber).await
    }

    /// Opens a stream as an HTTP body, served by some shard. Dropping the body ends it.
    pub async fn open(&self, subscriber: Subscriber) -> Result<EventBody, SubscribeError> {
        let body = self.0.shards.attach(subscriber).await;
        body.ok_or_else(|| self.refused(SubscribeError::GoingDown))
    }

    pub(super) fn admit(&self, asked: AdmissionRequest) -> Result<Subscriber, SubscribeError> {
        let client = asked.client;
        self.try_admit(asked).map_err(|error| {
            self.log_if_client_limit(&error, client);
            self.refused(error)
        })
    }

    pub(super) fn log_if_client_limit(
        &self,
        error: &SubscribeError,
        client: Option<ClientAddress>,
    ) {
        if error.is_client_limit() {
            let client = client.map(|client| client.ip());
            self.0.throttled_logs.over_limit(error.as_str(), client);
        }
    }

    pub(super) fn refused(&self, error: SubscribeError) -> SubscribeError {
        self.0.metrics.subscriptions_refused.count(error.as_str());
        error
    }

    fn try_admit(&self, asked: AdmissionRequest) -> Result<Subscriber, SubscribeError> {
        if self.0.lifecycle.is_draining() {
            return Err(SubscribeError::GoingDown);
        }
        let AdmissionRequest {
            subscription,
            start,
            form,
            policy,
            ends_after_ms,
            opening,
            holder,
            client,
        } = asked;
        let subject = holder.as_ref().and_then(|holder| holder.subject.as_ref());
        let created_by = CreatedBy { subject, client };
        let client_info = self.0.quotas.count_connection(client, subject)?;
        let limits = self.0.limits.load();
        let connections = &limits.connections;
        let connections_max = connections.connections_max;
        let admission = self.0.connections.take();
        let admission = admission.ok_or(SubscribeError::TooManyConnections { connections_max })?;
        let now_ms = self.0.clock.now_ms();
        let shape =
            self.0.connections.intern(Shape { form, types: subscription.types().to_vec().into() });
        let mut named = Vec::with_capacity(subscription.names().len());
        for name in subscription.names() {
            let entry = self.0.channel_creator.find_or_create(name, created_by, now_ms)?;
            entry.touch(now_ms);
            named.push(CountedEntry::new(entry, shape.transport()));
        }
        if subscription.patterns().is_empty()
            && named.iter().all(|counted| self.nothing_left_in(counted, &start))
        {
            return Err(SubscribeError::Closed);
        }
        let has_patterns = !subscription.patterns().is_empty();
        let default = connections.slow_policy;
        let policy = policy.unwrap_or_else(|| policy_of(&named, has_patterns, default));
        let transport = shape.transport();
        let pattern_counts = self.0.registry.pattern_counts();
        let watch = |pattern: &ChannelPattern| pattern_counts.count(pattern, transport);
        let id = self.0.connections.next_id();
        let lease = holder.map(|holder| Box::new(self.0.connections.lease(id, holder)));
        Ok(Subscriber {
            id,
            counted_patterns: subscription.patterns().iter().map(watch).collect(),
            named,
            patterns: subscription.into_patterns(),
            shape,
            coding: TransferCoding::None,
            start,
            policy,
            ends_after_ms,
            opening,
            lease,
            client_info,
            record: None,
            replay: None,
            admission,
        })
    }

    /// Whether the channel is closed and has no event after `start`. A client that asks for history
    /// gets what is retained, up to the closing event.
    fn nothing_left_in(&self, counted: &CountedEntry, start: &Start) -> bool {
        let Some(closed) = counted.entry().events().closed_seq() else { return false };
        match start {
            Start::Now => true,
            Start::At(at) => at.epoch == self.0.store.epoch() && at.seq >= closed,
            Start::Earliest | Start::Last(_) | Start::Unknown(_) => false,
        }
    }
}

/// The slow-reader policy of a connection that does not ask for one: `Skip` only if that is the
/// policy of all its channels. Patterns count with the hub's default policy.
fn policy_of(named: &[CountedEntry], has_patterns: bool, default: SlowPolicy) -> SlowPolicy {
    let of_names = named.iter().map(|counted| counted.entry().policy().slow);
    let of_patterns = has_patterns.then_some(default);
    match of_names.chain(of_patterns).all(|policy| policy == SlowPolicy::Skip) {
        true => SlowPolicy::Skip,
        false => SlowPolicy::Disconnect,
    }
}

/// The common part of a stream's and a poll's request.
pub(super) struct AdmissionRequest {
    pub(super) subscription: Subscription,
    pub(super) start: Start,
    pub(super) form: Form,
    pub(super) policy: Option<SlowPolicy>,
    pub(super) ends_after_ms: Option<u64>,
    pub(super) opening: Option<Box<StreamOpening>>,
    pub(super) holder: Option<Holder>,
    pub(super) client: Option<ClientAddress>,
}
