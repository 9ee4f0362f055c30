//! Subscribers: by a stream, as a browser's EventSource does it, or by long-polls, from one hub to
//! another.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use visnyk_loadtest::{Block, PollAnswer, PollClient, SseClient, SseRequest};

use crate::publisher::CHANNELS;
use crate::record::{Record, Recorder, channel_of, closing};

/// How a subscriber receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Stream,
    Poll,
}

impl Transport {
    /// As in histories.
    pub(crate) fn name(self) -> String {
        format!("{self:?}")
    }
}

/// Where it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Now,
    Earliest,
}

/// What a subscriber is.
#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    pub(crate) who: u64,
    pub(crate) channels: Vec<String>,
    pub(crate) transport: Transport,
    pub(crate) start: Start,
}

/// A subscriber under way.
#[derive(Debug)]
pub(crate) struct Subscriber {
    subscription: Subscription,
    hubs: Vec<SocketAddr>,
    recorder: Recorder,
    rng: fastrand::Rng,
    hub: usize,
    position: Option<String>,
    /// What the hub has set for reconnections.
    retry: Duration,
    ends: BTreeSet<String>,
}

impl Subscriber {
    /// One that has not connected.
    pub(crate) fn new(
        subscription: Subscription,
        hubs: Vec<SocketAddr>,
        recorder: Recorder,
        rng: fastrand::Rng,
    ) -> Self {
        // Streams and polls take turns: each hub gets some of both.
        let hub = subscription.who as usize / 2 % hubs.len();
        Self {
            subscription,
            hubs,
            recorder,
            rng,
            hub,
            position: None,
            retry: Duration::from_millis(100),
            ends: BTreeSet::new(),
        }
    }

    /// Receives until it has the last event of each of its channels, or until a time that is set in
    /// the end.
    pub(crate) async fn run(mut self, mut give_up: watch::Receiver<Option<Instant>>) {
        let given_up = async move {
            let at = give_up.wait_for(Option::is_some).await.ok().and_then(|at| *at);
            sleep_until(at.unwrap_or_else(Instant::now)).await;
        };
        tokio::pin!(given_up);
        while !self.is_done() {
            let is_over = tokio::select! {
                () = self.connection() => false,
                () = &mut given_up => true,
            };
            if is_over {
                let at = self.position.as_deref().unwrap_or("no position");
                let why = format!("by {:?} it got to {at} only", self.subscription.transport);
                return self.recorder.note(Record::Stuck { who: self.who(), why });
            }
            // Jitter of its own beside that of the hub.
            sleep(self.retry.mul_f64(0.5 + self.rng.f64())).await;
            if self.rng.bool() {
                self.hub = (self.hub + 1) % self.hubs.len();
            }
        }
    }

    fn who(&self) -> u64 {
        self.subscription.who
    }

    fn is_done(&self) -> bool {
        let wanted = &self.subscription.channels;
        let all = if wanted[0] == "**" { CHANNELS.len() } else { wanted.len() };
        self.ends.len() == all
    }

    /// One connection, until it is over. How it ended is noted: only the fault breaks one, while a
    /// subscriber that has all and a hub that drains end theirs in good order.
    async fn connection(&mut self) {
        let (who, hub) = (self.who(), self.hub);
        let by = self.subscription.transport.name();
        self.recorder.note(Record::Connect { who, by: by.clone(), hub });
        let ended = match self.subscription.transport {
            Transport::Stream => self.stream().await,
            Transport::Poll => self.polls().await,
        };
        self.recorder.note(Record::Closed { who, by, broke: ended.is_err() });
    }

    fn query(&self) -> String {
        let channels = self.subscription.channels.iter().map(|name| format!("channel={name}"));
        channels.collect::<Vec<_>>().join("&")
    }

    fn from(&self) -> Option<&str> {
        let start = (self.subscription.start == Start::Earliest).then_some("earliest");
        self.position.as_deref().or(start)
    }

    /// Fails if it breaks once it is there.
    async fn stream(&mut self) -> io::Result<()> {
        let mut request = SseRequest::new(&format!("/v1/events?{}", self.query()));
        if let Some(from) = self.from() {
            request = request.from(from);
        }
        let connect = SseClient::connect(self.hubs[self.hub], &request);
        let Ok(Ok(mut client)) = timeout(SILENCE_MAX, connect).await else { return Ok(()) };
        match client.head().status {
            200 => {}
            502..=504 => return Ok(()),
            status => {
                self.note_odd(format!("a stream is answered with {status}"));
                return Ok(());
            }
        }
        while !self.is_done() {
            let Some(block) = client.next_block(SILENCE_MAX).await? else { break };
            self.take(block);
        }
        Ok(())
    }

    fn take(&mut self, block: Block) {
        if let Some(retry_ms) = block.retry_ms {
            self.retry = Duration::from_millis(retry_ms);
        }
        match (block.event.as_deref(), block.data, block.id) {
            (None, Some(data), Some(id)) => self.take_event(id, None, data),
            (Some("visnyk.closed"), Some(channel), Some(id)) => {
                self.take_event(id, None, closing(&channel));
            }
            (Some("visnyk.gap"), Some(data), Some(id)) => {
                let gap = serde_json::from_str(&data).unwrap_or_default();
                self.take_gap(&gap);
                self.move_to(id);
            }
            (None, None, Some(id)) => self.move_to(id),
            (None, None, None) => {}
            (event, data, id) => self.note_odd(format!("a block {event:?} {data:?} {id:?}")),
        }
    }

    /// Fails if one that was sent has no answer, behind one that had.
    async fn polls(&mut self) -> io::Result<()> {
        // The first one is only for where it starts.
        let wait_s = if self.from().is_none() { 0 } else { 2 };
        let limit = self.rng.u32(20..200);
        let target = format!("/v1/poll?timeout={wait_s}&limit={limit}&{}", self.query());
        let mut client = PollClient::new(self.hubs[self.hub], &target);
        if let Some(from) = self.from() {
            client = client.from(from);
        }
        let mut is_there = false;
        while !self.is_done() {
            let polled = match client.next(SILENCE_MAX).await {
                Ok(polled) => polled,
                Err(error) if is_there => return Err(error),
                Err(_) => break,
            };
            match polled.answer.status() {
                200 | 204 => {}
                429 | 502..=504 => break,
                status => {
                    let body = &polled.answer.body;
                    self.note_odd(format!("a poll is answered with {status} {body}"));
                    break;
                }
            }
            is_there = true;
            let had_none = self.from().is_none();
            self.take_answer(polled);
            if had_none {
                break;
            }
        }
        Ok(())
    }

    fn take_answer(&mut self, polled: PollAnswer) {
        if !polled.gap.is_null() {
            self.take_gap(&polled.gap);
        }
        for event in polled.events {
            if self.position.is_none() {
                // From `earliest`, in a log of which nothing has been removed.
                let (epoch, _) = event.id.split_once('-').unwrap_or_default();
                self.move_to(format!("{epoch}-0"));
            }
            match event.event_type.as_str() {
                "message" => self.take_event(event.id, Some(event.channel), event.data),
                "visnyk.closed" => {
                    self.take_event(event.id, Some(event.channel), closing(&event.data));
                }
                other => self.note_odd(format!("an event of type {other}")),
            }
        }
        match polled.answer.head.field("last-event-id") {
            Some(id) => self.move_to(id.to_owned()),
            None => self.note_odd("an answer of a poll without a position".to_owned()),
        }
    }

    fn take_event(&mut self, id: String, channel: Option<String>, data: String) {
        if self.position.is_none() {
            return self.note_odd(format!("the event {data:?} before any position"));
        }
        if data.ends_with(END) {
            self.ends.insert(channel_of(&data).to_owned());
        }
        self.recorder.note(Record::Event { who: self.who(), id: id.clone(), channel, data });
        self.position = Some(id);
    }

    fn take_gap(&mut self, gap: &Value) {
        let member = |name: &str| gap[name].as_str().unwrap_or_default().to_owned();
        let (reason, requested, oldest) = (member("reason"), member("requested"), member("oldest"));
        self.position = Some(oldest.clone());
        self.recorder.note(Record::Gap { who: self.who(), reason, requested, oldest });
    }

    /// Its position without an event; the first one is where it starts.
    fn move_to(&mut self, id: String) {
        let who = self.who();
        match &self.position {
            Some(at) if *at == id => return,
            Some(_) => self.recorder.note(Record::Moved { who, id: id.clone() }),
            None => {
                let channels = self.subscription.channels.clone();
                let (start, is_earliest) = (id.clone(), self.subscription.start == Start::Earliest);
                self.recorder.note(Record::Subscriber { who, channels, start, is_earliest });
            }
        }
        self.position = Some(id);
    }

    fn note_odd(&self, what: String) {
        let what = format!("subscriber {}: {what}", self.who());
        self.recorder.note(Record::Odd { what });
    }
}

/// What the last event of a channel ends with.
pub(crate) const END: &str = " end";
/// Three heartbeats and a half: a client that hears nothing for so long connects anew.
const SILENCE_MAX: Duration = Duration::from_millis(3_500);
