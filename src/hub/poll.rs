//! Long-polls: answered from history at once, or admitted to wait on a shard.

use std::{mem, sync::Arc, time::Duration};

use tokio::{
    task::yield_now,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    channel_creation::CreatedBy, error::SubscribeError, handle::Hub, subscribe::AdmissionRequest,
};
use crate::{
    actors::{Form, Holder, ReadFailure, ReadsBusy, Subscriber},
    backend::{ChannelEntry, LastSearch, LogRead, Piece, SeqRange, StartFound, StartRequest},
    core::{NotInMemory, Subscription},
    model::{ClientAddress, Event, PollAnswer, PollEncoding, PollReply, Position, Start},
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
    /// Has it wait from a position, for what is left of its wait since it has begun.
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
                return found;
            }
        }
    }

    async fn look(&self, request: &PollRequest) -> Result<PollNow, SubscribeError> {
        let backend = &self.0.store;
        let subscription = &request.subscription;
        let subject = request.holder.as_ref().and_then(|holder| holder.subject.as_ref());
        let created_by = CreatedBy { subject, client: request.client };
        // The head is read first, so every event up to it is found below.
        let head = backend.head();
        let mut named: Vec<Arc<ChannelEntry>> = Vec::new();
        let mut open = !subscription.patterns().is_empty();
        for name in subscription.names() {
            let now_ms = self.0.clock.now_ms();
            let entry = self.0.channel_creator.find_or_create(name, created_by, now_ms);
            let entry = entry.map_err(|why| {
                let error = SubscribeError::from(why);
                self.log_if_client_limit(&error, request.client);
                self.refused(error)
            })?;
            open |= !entry.events().is_closed();
            named.push(entry);
        }
        let patterns = subscription.patterns();
        let starts_with_history = matches!(request.start, Start::Earliest | Start::Last(_));
        let asked = StartRequest {
            start: &request.start,
            types: subscription.types(),
            truncated: starts_with_history,
        };
        let mut resume = backend.resume(patterns, named.iter(), asked, head);
        let until = Instant::now() + LOG_READ_TIME_MAX;
        while resume.reader.is_searching_start() {
            if let Some(search) = resume.reader.take_search() {
                resume.reader.go_on(self.search_log(search, until).await?);
            }
            match backend.search_start(patterns, named.iter(), &mut resume.reader) {
                Some(StartFound { cursor, gap, truncated }) => {
                    (resume.cursor, resume.gap, resume.truncated) = (cursor, gap, truncated);
                }
                None => yield_now().await,
            }
        }
        let limit = request.limit.max(1) as usize;
        let types = subscription.types();
        // Without a type filter whatever is read is answered with.
        let events_max = if types.is_empty() { limit } else { usize::MAX };
        let mut through = resume.cursor;
        let mut events: Vec<Arc<Event>> = Vec::new();
        // The next poll would go on with all that is behind its position, and not with the last events of
        // each channel, so they come in one answer if they fit.
        let gathers = matches!(request.start, Start::Last(_)) && backend.is_on_disk();
        let pages_max = if gathers { GATHERED_PAGES_MAX } else { POLL_PAGES_MAX };
        let mut bytes = 0;
        let mut is_disk_slow = false;
        // A type filter may skip many events. A few pages are read here; a shard reads the rest in
        // pieces. What does not move on is a look at some channels: it is made to its end, since the
        // next poll would begin it anew.
        let (mut pages, mut is_first) = (0, true);
        while pages < pages_max {
            if !mem::take(&mut is_first) {
                // Reading a page takes long if the patterns match few of its events.
                yield_now().await;
            }
            let range = SeqRange {
                after: through,
                // If events were lost during the search for the start, the start may be after the
                // head that was read before it.
                through: resume.head.max(through),
                events_max: events_max.saturating_sub(events.len()).clamp(1, POLL_PAGE_EVENTS),
                bytes_max: POLL_BYTES_MAX - bytes,
            };
            let page = match backend.read(patterns, named.iter(), &mut resume.reader, &range) {
                Err(NotInMemory::OnDisk(to)) => {
                    let (named, reader) = (named.iter(), &mut resume.reader);
                    let read = backend.log_read(patterns, named, reader, &range, to);
                    let time_max = match (gathers, request.wait.is_zero()) {
                        (true, _) => until.saturating_duration_since(Instant::now()),
                        (_, true) => LOG_READ_TIME_MAX,
                        _ => request.wait.min(LOG_READ_SOON),
                    };
                    match self.read_log(read, time_max).await? {
                        LogPage::Read(page) => Some(page),
                        LogPage::FellOff => None,
                        // There may be events, so 204 would be wrong, and a shard would read all that is behind
                        // the position instead of the last events.
                        LogPage::Slow
                            if events.is_empty() && (gathers || request.wait.is_zero()) =>
                        {
                            return Err(self.refused(SubscribeError::HistoryBusy));
                        }
                        LogPage::Slow => {
                            is_disk_slow = true;
                            None
                        }
                    }
                }
                page => page.ok(),
            };
            // Events were evicted after the search for the start: the shard finds that too and
            // answers with a gap. It reads on from a slow disk as well.
            let Some(mut page) = page else { break };
            page.more = page.through < range.through;
            pages += usize::from(page.through > through);
            through = page.through;
            let more = page.more;
            page.events.retain(|event| Subscription::wants(types, event));
            bytes += page.events.iter().map(|event| event.bytes().len()).sum::<usize>();
            events.append(&mut page.events);
            if events.len() > limit {
                events.truncate(limit);
                through = events.last().map_or(through, |event| event.seq);
            }
            let is_full = events.len() >= limit || bytes >= POLL_BYTES_MAX;
            let continues = gathers && !is_full && Instant::now() < until;
            if !more || !continues && !events.is_empty() {
                break;
            }
        }
        let position = backend.position(through);
        // Read last: what was evicted before its first event was read counts too.
        let truncated = resume.truncated
            || starts_with_history && named.iter().any(|entry| entry.events().is_truncated());
        if let Some(gap) = &resume.gap {
            self.0.metrics.gaps.count(gap.reason.as_str());
        }
        if events.is_empty() && resume.gap.is_none() {
            if !open && !is_disk_slow {
                return Err(self.refused(SubscribeError::Closed));
            }
            if request.wait.is_zero() {
                self.note_answer(position);
            }
            return Ok(PollNow::Wait(PollWait { position, truncated }));
        }
        self.note_answer(position);
        Ok(PollNow::Answer(PollAnswer { events, position, truncated, gap: resume.gap }))
    }

    /// Makes a turn of a search on disk. Cancelling it cancels the turn.
    async fn search_log(
        &self,
        search: LastSearch,
        until: Instant,
    ) -> Result<LastSearch, SubscribeError> {
        let unreadable = || self.refused(SubscribeError::HistoryUnreadable);
        let reads = self.0.log_reads.as_ref().ok_or_else(unreadable)?;
        let busy = || self.refused(SubscribeError::HistoryBusy);
        let pending = reads.search(search).map_err(|ReadsBusy| busy())?;
        match timeout_at(until, pending).await {
            Ok(Ok(search)) => Ok(search),
            Ok(Err(ReadFailure::Closed)) => Err(self.refused(SubscribeError::GoingDown)),
            Ok(Err(_)) => Err(unreadable()),
            // Where it starts is not known, so it can neither be answered nor wait on a shard.
            Err(_) => Err(busy()),
        }
    }

    /// Notes that a poll is answered with the events up to a position.
    fn note_answer(&self, position: Position) {
        let is_complete = position.seq >= self.0.store.head();
        self.0.poll_times.answered(is_complete, self.0.clock.now_ms());
    }

    /// Reads a piece from disk within a time. Cancelling it cancels the read.
    async fn read_log(&self, read: LogRead, time_max: Duration) -> Result<LogPage, SubscribeError> {
        let reads = self.0.log_reads.as_ref();
        let pending = match reads.map(|reads| reads.read(read)) {
            Some(Ok(pending)) => pending,
            Some(Err(ReadsBusy)) => return Err(self.refused(SubscribeError::HistoryBusy)),
            None => return Ok(LogPage::FellOff),
        };
        match timeout(time_max, pending).await {
            Ok(Ok(piece)) => Ok(LogPage::Read(piece.into_piece())),
            Ok(Err(ReadFailure::FellOff)) => Ok(LogPage::FellOff),
            Ok(Err(ReadFailure::Closed)) => Err(self.refused(SubscribeError::GoingDown)),
            Ok(Err(ReadFailure::Unreadable)) => {
                Err(self.refused(SubscribeError::HistoryUnreadable))
            }
            Err(_) => Ok(LogPage::Slow),
        }
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

    /// Looks once more for a poll that a draining hub will not let wait; nothing unless it drains. Events that
    /// are only in memory are all shown by then, so a poll that is refused has missed none.
    ///
    /// # Errors
    /// [`SubscribeError::GoingDown`] if the hub drains and there is nothing.
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
    /// From where.
    pub position: Position,
    /// Whether it starts with history, and a channel has lost events before its oldest.
    pub truncated: bool,
}

/// A page of a poll's events that are on disk.
enum LogPage {
    Read(Piece),
    /// It has been evicted.
    FellOff,
    /// It is not read yet: the disk is slow, or has much to read.
    Slow,
}

/// How long a poll that does not wait for events waits for the disk, and every poll for a search there;
/// then it is refused for a while.
const LOG_READ_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a poll that waits for events waits for the disk here, where it has a request's permit;
/// then it is handed to a shard, which reads it until its wait is over.
const LOG_READ_SOON: Duration = Duration::from_secs(1);
/// How long a poll whose shard has ended waits before it is handed to another.
const RESTART_PAUSE: Duration = Duration::from_millis(20);
/// Events read for one page, and pages that `poll_now` reads at most.
const POLL_PAGE_EVENTS: usize = 1_000;
const POLL_PAGES_MAX: usize = 4;
/// Pages that one answer with the last events of channels is gathered from: a page from disk has those
/// of 32 blocks.
const GATHERED_PAGES_MAX: usize = 64;
/// Frame bytes after which a poll's answer holds no more events.
const POLL_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use tokio::task::JoinHandle;

    use super::*;
    use crate::{
        core::Limits,
        hub::{Fault, Publication},
        model::{ChannelName, ChannelSelector, EnvelopeAnswers, NewEvent, Seq},
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
                        std::future::poll_fn(|context| Poll::Ready(poll.as_mut().poll(context)))
                            .await
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
}
