//! Subscribing: what is asked for becomes an admitted [`Subscriber`], which a shard serves.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http_body_util::BodyExt;
use tokio::{sync::oneshot, task::yield_now};

use super::{Hub, SubscribeError, births::Creator};
use crate::{
    actors::{
        Admission, CountedEntry, EventBody, Form, Holder, Lease, Shape, ShardMsg, Subscriber,
    },
    backend::{Begun, ChannelEntry, Span},
    core::{SlowPolicy, Subscription},
    model::{
        ChannelPattern, ChannelSelector, ClientAddress, EventEncoding, PollAnswer, PollEncoding,
        SelectorError, Start,
    },
    telemetry::Metrics,
};

/// A stream to open.
#[derive(Clone)]
pub struct StreamRequest {
    /// Channels, patterns, types.
    pub subscription: Subscription,
    /// Where it starts.
    pub start: Start,
    /// Another form than the plain one.
    pub encoding: Option<&'static dyn EventEncoding>,
    /// What happens when it lags; `None` takes the hub's setting.
    pub policy: Option<SlowPolicy>,
    /// Whether it begins with its connection's id.
    pub hello: bool,
    /// A reconnection time other than the jittered one, in milliseconds.
    pub retry_ms: Option<u32>,
    /// Whose it is, where clients are authenticated; it ends with the holder's token.
    pub holder: Option<Holder>,
    /// Where its client is, if that is known.
    pub client: Option<ClientAddress>,
}

impl StreamRequest {
    /// A plain stream of a channel or pattern, of what comes from now on.
    ///
    /// # Errors
    /// A text that is neither a channel's name nor a pattern.
    pub fn channel(selector: &str) -> Result<Self, SelectorError> {
        let selector = ChannelSelector::parse(selector)?;
        Ok(Self::new(Subscription::new([selector], [], 1).expect("one selector of at most one")))
    }

    /// A plain stream of what comes from now on.
    pub fn new(subscription: Subscription) -> Self {
        Self {
            subscription,
            start: Start::Now,
            encoding: None,
            policy: None,
            hello: false,
            retry_ms: None,
            holder: None,
            client: None,
        }
    }
}

/// A long-poll.
#[derive(Clone)]
pub struct PollRequest {
    /// Channels, patterns, types.
    pub subscription: Subscription,
    /// Where it starts.
    pub start: Start,
    /// The form of its answer.
    pub encoding: &'static dyn PollEncoding,
    /// How long it waits.
    pub wait: Duration,
    /// Events at most; 0 counts as 1.
    pub limit: u32,
    /// Whose it is, where clients are authenticated; it waits no longer than the holder's token
    /// lasts.
    pub holder: Option<Holder>,
    /// Where its client is, if that is known.
    pub client: Option<ClientAddress>,
}

impl Hub {
    /// Admits a stream. It receives nothing yet: hand the subscriber to a shard
    /// ([`LocalShard::attach`](crate::actors::LocalShard::attach)) or open it as a body
    /// ([`open`](Self::open)).
    pub fn admit_stream(&self, request: StreamRequest) -> Result<Subscriber, SubscribeError> {
        let form = request.encoding.map_or(Form::Frames, Form::Encoded);
        let age_max_s = self.shared.limits().connections.age_max_s;
        // Not all at the same age: those that came together should not leave together.
        let age_max_ms = u64::from(age_max_s) * 1_000;
        let age_max_ms =
            (age_max_s > 0).then(|| fastrand::u64(age_max_ms - age_max_ms / 5..=age_max_ms));
        self.admit(Admitting {
            subscription: request.subscription,
            start: request.start,
            form,
            policy: request.policy,
            ends_after_ms: age_max_ms,
            hello: request.hello,
            retry_ms: request.retry_ms,
            holder: request.holder,
            client: request.client,
        })
    }

    /// Opens a stream as an HTTP body for a handler of one's own, which sends it as
    /// `text/event-stream`. Dropping the body ends the stream; one that is not read holds at most
    /// 16 KiB and a send, and then lags as a slow client does.
    ///
    /// # Errors
    /// As [`admit_stream`](Self::admit_stream).
    pub async fn stream(&self, request: StreamRequest) -> Result<EventBody, SubscribeError> {
        let turn = self.replay_turn(&request.start).await?;
        let mut subscriber = self.admit_stream(request)?;
        subscriber.replay = turn;
        self.open(subscriber).await
    }

    /// Admits a long-poll that is to wait.
    pub fn admit_poll(&self, request: PollRequest) -> Result<Subscriber, SubscribeError> {
        self.admit(Admitting {
            subscription: request.subscription,
            start: request.start,
            form: Form::Poll { encoding: request.encoding, limit: request.limit.max(1) },
            policy: None,
            ends_after_ms: Some(request.wait.as_millis() as u64),
            hello: false,
            retry_ms: None,
            holder: request.holder,
            client: request.client,
        })
    }

    /// What a long-poll finds without waiting; `None` when it has to wait.
    ///
    /// The position of a poll that starts now is fixed by this call: wait with
    /// [`Start::At`] its answer's position, as [`PollNow::Wait`] gives it. A poll by patterns from
    /// before the journal lets others go ahead between looks at the hub's channels; cancelling it has
    /// no effect.
    pub async fn poll_now(&self, request: &PollRequest) -> Result<PollNow, SubscribeError> {
        let backend = &self.shared.backend;
        let subscription = &request.subscription;
        let subject = request.holder.as_ref().and_then(|holder| holder.subject.as_ref());
        let creator = Creator { subject, client: request.client };
        // Read first: an event up to it is found below.
        let head = backend.head();
        let mut named: Vec<Arc<ChannelEntry>> = Vec::new();
        let mut open = !subscription.patterns().is_empty();
        for name in subscription.names() {
            let now_ms = self.shared.clock.now_ms();
            let entry = self.find_or_create(name, creator, now_ms).map_err(|why| {
                let error = SubscribeError::from(why);
                self.say_if_of_one_client(&error, request.client);
                self.refused(error)
            })?;
            open |= !entry.is_closed();
            named.push(entry);
        }
        let patterns = subscription.patterns();
        let mut resume = backend.resume(patterns, named.iter(), &request.start, head);
        while resume.reading.is_looking_back() {
            match backend.look_back(patterns, named.iter(), &mut resume.reading) {
                Some(Begun { cursor, gap }) => (resume.cursor, resume.gap) = (cursor, gap),
                None => yield_now().await,
            }
        }
        let limit = request.limit.max(1) as usize;
        let types = subscription.types();
        let mut through = resume.cursor;
        let mut events = Vec::new();
        // A filter may pass over much: a few pages here, the rest in turns by a shard.
        for page in 0..POLL_PAGES_MAX {
            if page > 0 {
                // Patterns that fit little make a page long.
                yield_now().await;
            }
            let span = Span {
                after: through,
                through: resume.head,
                events_max: POLL_PAGE_EVENTS,
                bytes_max: POLL_BYTES_MAX,
            };
            let page = backend.read(patterns, named.iter(), &mut resume.reading, &span);
            // What was evicted between the two looks, the shard finds out and tells.
            let Ok(page) = page else { break };
            through = page.through;
            let more = page.more;
            events = page.events;
            events.retain(|event| Subscription::wants(types, event));
            if events.len() > limit {
                events.truncate(limit);
                through = events.last().map_or(through, |event| event.seq);
            }
            if !more || !events.is_empty() {
                break;
            }
        }
        let position = backend.position(through);
        if let Some(gap) = &resume.gap {
            Metrics::count(&self.shared.metrics.gaps, gap.reason.as_str());
        }
        if events.is_empty() && resume.gap.is_none() {
            if !open {
                return Err(self.refused(SubscribeError::Closed));
            }
            return Ok(PollNow::Wait(Start::At(position)));
        }
        Ok(PollNow::Answer(PollAnswer { events, position, gap: resume.gap }))
    }

    /// Opens a stream as an HTTP body, served by some shard. Dropping the body ends it.
    pub async fn open(&self, subscriber: Subscriber) -> Result<EventBody, SubscribeError> {
        let shards = self.shared.shards() as u32;
        let first = self.shared.next_shard.fetch_add(1, Ordering::Relaxed);
        let mut subscriber = Box::new(subscriber);
        for offset in 0..shards {
            let index = (first.wrapping_add(offset) % shards) as usize;
            let Some(shard) = self.shared.refs.lock().shards[index].clone() else { continue };
            let (reply, body) = oneshot::channel();
            match shard.cast(ShardMsg::Attach(subscriber, reply)) {
                Ok(()) => return body.await.map_err(|_| SubscribeError::GoingDown),
                Err(ractor::MessagingErr::SendErr(ShardMsg::Attach(back, _))) => subscriber = back,
                Err(_) => break,
            }
        }
        Err(SubscribeError::GoingDown)
    }

    /// Waits for a poll's answer without a socket of the hub's own: for servers that embed it.
    pub async fn poll(&self, request: PollRequest) -> Result<PollAnswer, SubscribeError> {
        let until_ms = request.holder.as_ref().and_then(|holder| holder.until_ms);
        let lasts_ms = until_ms.map_or(u64::MAX, |at| at.saturating_sub(self.now_ms()));
        let wait = request.wait.min(Duration::from_millis(lasts_ms));
        let deadline = tokio::time::Instant::now() + wait;
        let mut request = request;
        loop {
            match self.poll_now(&request).await? {
                PollNow::Answer(answer) => return Ok(answer),
                PollNow::Wait(start) => request.start = start,
            }
            // A stream is the alarm; what there is, `poll_now` says.
            let mut stream = StreamRequest::new(request.subscription.clone());
            stream.start = request.start.clone();
            stream.client = request.client;
            stream.holder =
                request.holder.clone().map(|holder| Holder { until_ms: None, ..holder });
            let subscriber = self.admit_stream(stream)?;
            let mut body = self.open(subscriber).await?;
            let _first_block = body.frame().await;
            if tokio::time::timeout_at(deadline, body.frame()).await.is_err() {
                let Start::At(position) = request.start else {
                    return Err(SubscribeError::GoingDown);
                };
                return Ok(PollAnswer { events: Vec::new(), position, gap: None });
            }
        }
    }

    fn admit(&self, asked: Admitting) -> Result<Subscriber, SubscribeError> {
        let client = asked.client;
        self.try_admit(asked).map_err(|error| {
            self.say_if_of_one_client(&error, client);
            self.refused(error)
        })
    }

    fn say_if_of_one_client(&self, error: &SubscribeError, client: Option<ClientAddress>) {
        if error.is_of_one_client() {
            self.say_over_limit(error.as_str(), client.map(|client| client.ip()));
        }
    }

    /// Says at a bounded rate that clients are refused for what is theirs.
    pub(super) fn say_over_limit(&self, limit: &str, client: Option<IpAddr>) {
        if let Some(times) = self.over_limit.due() {
            let client = client.map(tracing::field::display);
            tracing::warn!(limit, client, times, "refusing clients that are over a limit");
        }
    }

    pub(super) fn refused(&self, error: SubscribeError) -> SubscribeError {
        Metrics::count(&self.shared.metrics.subscriptions_refused, error.as_str());
        error
    }

    fn try_admit(&self, asked: Admitting) -> Result<Subscriber, SubscribeError> {
        if self.shared.is_draining() {
            return Err(SubscribeError::GoingDown);
        }
        let Admitting {
            subscription,
            start,
            form,
            policy,
            ends_after_ms,
            hello,
            retry_ms,
            holder,
            client,
        } = asked;
        let subject = holder.as_ref().and_then(|holder| holder.subject.as_ref());
        let creator = Creator { subject, client };
        let origin = self.quotas.origin(client, subject)?;
        let connections = &self.shared.limits().connections;
        let connections_max = connections.connections_max;
        let admission = Admission::take(&self.shared.connections, connections_max)
            .ok_or(SubscribeError::TooManyConnections { connections_max })?;
        let now_ms = self.shared.clock.now_ms();
        let shape = self.shared.intern(Shape { form, types: subscription.types().to_vec().into() });
        let mut named = Vec::with_capacity(subscription.names().len());
        for name in subscription.names() {
            let entry = self.find_or_create(name, creator, now_ms)?;
            entry.touch(now_ms);
            named.push(CountedEntry::new(entry, shape.transport()));
        }
        if subscription.patterns().is_empty()
            && named.iter().all(|counted| self.has_all_of_closed(counted, &start))
        {
            return Err(SubscribeError::Closed);
        }
        let transport = shape.transport();
        let watchers = self.shared.backend.watchers();
        let watch = |pattern: &ChannelPattern| watchers.count(pattern, transport);
        let id = self.shared.connection_ids.fetch_add(1, Ordering::Relaxed) + 1;
        let lease = holder.map(|holder| Box::new(Lease::new(id, holder, &self.shared.leases)));
        Ok(Subscriber {
            id,
            watched: subscription.patterns().iter().map(watch).collect(),
            named,
            subscription,
            shape,
            start,
            policy: policy.unwrap_or(connections.slow_policy),
            ends_after_ms,
            hello,
            retry_ms,
            lease,
            origin,
            replay: None,
            admission,
        })
    }

    /// Whether the channel is closed and a client that starts there has nothing more to come. One
    /// that asks for history gets what is left of it, to the closing event.
    fn has_all_of_closed(&self, counted: &CountedEntry, start: &Start) -> bool {
        let Some(closed) = counted.entry().closed_seq() else { return false };
        match start {
            Start::Now => true,
            Start::At(at) => at.epoch == self.shared.backend.epoch() && at.seq >= closed,
            Start::Earliest | Start::Unknown(_) => false,
        }
    }
}

/// What a poll finds.
#[derive(Debug)]
pub enum PollNow {
    /// An answer.
    Answer(PollAnswer),
    /// Nothing yet; wait from here.
    Wait(Start),
}

struct Admitting {
    subscription: Subscription,
    start: Start,
    form: Form,
    policy: Option<SlowPolicy>,
    ends_after_ms: Option<u64>,
    hello: bool,
    retry_ms: Option<u32>,
    holder: Option<Holder>,
    client: Option<ClientAddress>,
}

/// Events looked at in one piece by a poll that does not wait, and pieces of one poll.
const POLL_PAGE_EVENTS: usize = 1_000;
const POLL_PAGES_MAX: usize = 4;
/// Frame bytes after which a poll's answer holds no more events.
const POLL_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hub::Publication,
        model::{ChannelName, EnvelopeAnswers, NewEvent},
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_poll_that_does_not_wait_misses_no_channel_born_meanwhile() {
        let hub = Hub::builder().shards(1).start().await.expect("a hub");
        let publisher = hub.clone();
        let publishing = tokio::spawn(async move {
            for n in 0..BIRTHS {
                let name = ChannelName::parse(&format!("c/{n}")).expect("a name");
                let publication = Publication::one(name, NewEvent::message("born"));
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
        while received < BIRTHS {
            let position = match hub.poll_now(&request).await.expect("an answer") {
                PollNow::Answer(answer) => {
                    received += answer.events.len() as u64;
                    answer.position
                }
                PollNow::Wait(Start::At(position)) => position,
                PollNow::Wait(other) => panic!("{other:?}"),
            };
            assert_eq!(position.seq.0, received, "every event of the log is one of its own");
            request.start = Start::At(position);
        }
        publishing.await.expect("all published");
    }

    const BIRTHS: u64 = 2_000;

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
}
