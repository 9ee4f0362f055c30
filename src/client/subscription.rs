//! Following channels over connections that break: what the browser's EventSource does, on
//! Server-Sent Events or long-poll, with one position for both.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use serde::Deserialize;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::link::{Link, read_body};
use super::position::Position;
use super::sse::{SseEvent, SseItem, SseParser};
use super::subscribe_error::{Break, SubscribeError};
use super::subscribe_options::{SubscribeOptions, Transport};
use super::update::{Event, Gap, Update};

/// A subscription. It connects when [`next`](Self::next) is called, and reads no further than
/// that asks: a slow reader slows its own connection down, up to the hub's lag policy.
#[derive(Debug)]
pub struct Subscription {
    link: Link,
    options: SubscribeOptions,
    /// The position behind everything that `next` has given out.
    position: Position,
    /// Read but not yet given out. At most what a few pieces of the stream or one answer hold.
    steps: VecDeque<Step>,
    /// Named channels that are not known to be closed.
    open_channels: Vec<String>,
    /// The reconnection time that the hub asked for last.
    retry: Duration,
    backoff: Backoff,
    state: State,
}

/// What one block of a stream, or one event of an answer, comes to.
#[derive(Debug)]
struct Step {
    update: Option<Update>,
    position: Option<Position>,
}

#[derive(Debug)]
enum State {
    /// To connect at this time.
    Waiting(Instant),
    /// A stream is open.
    Streaming(Box<Stream>),
    /// The last poll was answered, the next one may wait at the hub.
    Polling,
    /// Something unrecoverable came after what is still to be given out.
    Failed(SubscribeError),
    /// Nothing more will come.
    Ended,
}

#[derive(Debug)]
struct Stream {
    body: Incoming,
    parser: SseParser,
    items: Vec<SseItem>,
    /// Its first block has come.
    opened: bool,
    /// What the hub said before that: the reason of a refusal.
    comment: Option<String>,
    /// When the silence has become too long.
    silent_at: Instant,
}

impl Subscription {
    /// A subscription that begins at [`SubscribeOptions::from`].
    pub fn new(endpoint: Endpoint, options: SubscribeOptions) -> Self {
        let names = options.channels.iter().filter(|channel| !is_pattern(channel));
        Self {
            link: Link::new(endpoint),
            position: options.from.clone(),
            steps: VecDeque::new(),
            open_channels: names.cloned().collect(),
            retry: RETRY_DEFAULT,
            backoff: Backoff::new(Rng::new()),
            state: State::Waiting(Instant::now()),
            options,
        }
    }

    /// Where another subscription would go on without losing or repeating anything that `next`
    /// has given out.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Whether [`next`](Self::next) gives an update without waiting, since it has been read with
    /// one before.
    pub fn has_next(&self) -> bool {
        self.steps.iter().any(|step| step.update.is_some())
    }

    /// The next update; `None` after the hub said that there is nothing more to follow.
    ///
    /// Fails only for good ([`SubscribeError`]); what passes is [`Update::Reconnecting`]. After an
    /// error there is nothing more either. Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<Option<Update>, SubscribeError> {
        loop {
            while let Some(Step { update, position }) = self.steps.pop_front() {
                if let Some(position) = position {
                    self.position = position;
                }
                if update.is_some() {
                    return Ok(update);
                }
            }
            let result = match &mut self.state {
                State::Ended => return Ok(None),
                State::Failed(_) => return self.fail(),
                // Nothing but time can pass here, so that a cancelled wait goes on where it was.
                State::Waiting(until) if *until > Instant::now() => {
                    tokio::time::sleep_until(*until).await;
                    Ok(())
                }
                State::Waiting(_) => match self.options.transport {
                    Transport::Sse => self.open_stream().await,
                    Transport::Poll => self.poll(Duration::ZERO).await,
                },
                State::Streaming(_) => self.read_stream().await,
                State::Polling => self.poll(self.options.poll_timeout).await,
            };
            match result {
                Ok(()) => {}
                Err(Break::Failed(failure)) => self.reconnect(failure),
                Err(Break::Closed) => self.end(),
                Err(Break::Fatal(error)) => self.state = State::Failed(error),
            }
        }
    }

    /// Waiting → Streaming.
    async fn open_stream(&mut self) -> Result<(), Break> {
        let query = [("format", "envelope")];
        let request = self.request("/v1/events", &query, "text/event-stream");
        let response = self.link.send(request, ANSWER_TIMEOUT).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Err(Break::Closed);
        }
        let content_type = text_header(response.headers(), CONTENT_TYPE.as_str());
        if !content_type.is_some_and(is_event_stream) {
            let content_type = content_type.unwrap_or("without a type").to_owned();
            return Err(SubscribeError::NotAStream(content_type).into());
        }
        self.state = State::Streaming(Box::new(Stream {
            body: response.into_body(),
            parser: SseParser::new(self.options.sse_limits),
            items: Vec::new(),
            opened: false,
            comment: None,
            silent_at: Instant::now() + self.options.silence_max,
        }));
        Ok(())
    }

    /// Streaming → Streaming, with the next pieces of it: a piece is mostly one event, and those
    /// that have come already are read together.
    async fn read_stream(&mut self) -> Result<(), Break> {
        let State::Streaming(stream) = &mut self.state else { return Ok(()) };
        let Ok(frame) = tokio::time::timeout_at(stream.silent_at, stream.body.frame()).await else {
            return Err(Failure::Silence(self.options.silence_max).into());
        };
        let mut bytes = self.read_frame(frame)?;
        while bytes < TOGETHER_BYTES {
            // The task of the connection hands over one piece at a time.
            yield_now().await;
            let State::Streaming(stream) = &mut self.state else { break };
            let body = &mut stream.body;
            let frame = poll_fn(|context| Poll::Ready(Pin::new(&mut *body).poll_frame(context)));
            match frame.await {
                Poll::Ready(frame) => bytes += self.read_frame(frame)?.max(1),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Reads a piece of the stream, or its end; its bytes.
    fn read_frame(
        &mut self,
        frame: Option<Result<Frame<Bytes>, hyper::Error>>,
    ) -> Result<usize, Break> {
        let State::Streaming(stream) = &mut self.state else { return Ok(0) };
        let Some(frame) = frame else {
            let comment = stream.comment.take().filter(|_| !stream.opened);
            let every_channel_closed = self.open_channels.is_empty()
                && !self.options.channels.iter().any(|channel| is_pattern(channel));
            return Err(match comment {
                _ if every_channel_closed => Break::Closed,
                Some(reason) => Failure::RefusedInStream(reason).into(),
                None => Failure::Ended.into(),
            });
        };
        stream.silent_at = Instant::now() + self.options.silence_max;
        let frame = frame.map_err(|error| Failure::Connection(Box::new(error)))?;
        let Ok(piece) = frame.into_data() else { return Ok(0) };
        let result = stream.parser.push(&piece, &mut stream.items);
        for item in std::mem::take(&mut stream.items) {
            self.read_item(item)?;
        }
        result.map_err(SubscribeError::from)?;
        Ok(piece.len())
    }

    fn read_item(&mut self, item: SseItem) -> Result<(), SubscribeError> {
        let State::Streaming(stream) = &mut self.state else { return Ok(()) };
        let id = match &item {
            SseItem::Retry(retry) => {
                self.retry = (*retry).clamp(RETRY_MIN, RETRY_MAX);
                return Ok(());
            }
            SseItem::Comment(comment) => {
                stream.comment = Some(comment.clone());
                return Ok(());
            }
            SseItem::Position(id) => id,
            SseItem::Event(event) => &event.id,
        };
        // An event before any id, as a proxy might invent it, leaves the position alone.
        let position = if id.is_empty() { None } else { Some(parse_position(id)?) };
        if !stream.opened {
            stream.opened = true;
            self.backoff.reset();
            let opened = position.clone().unwrap_or_else(|| self.position.clone());
            self.steps.push_back(Step::only(Update::Opened { position: opened }));
        }
        let update = match item {
            SseItem::Event(event) => self.read_event(event)?,
            _ => None,
        };
        self.steps.push_back(Step { update, position });
        Ok(())
    }

    fn read_event(&mut self, event: SseEvent) -> Result<Option<Update>, SubscribeError> {
        let SseEvent { event_type, data, .. } = event;
        if event_type.starts_with(OWN_TYPE_PREFIX) {
            return self.read_own_event(&event_type, data);
        }
        Ok(Some(Update::Event(parse("an event", &data)?)))
    }

    /// Reads one of the hub's own events. A type of a later version is ignored.
    fn read_own_event(
        &mut self,
        event_type: &str,
        data: String,
    ) -> Result<Option<Update>, SubscribeError> {
        Ok(match event_type {
            "visnyk.gap" => Some(Update::Gap(parse("a gap", &data)?)),
            "visnyk.closed" => {
                self.open_channels.retain(|channel| *channel != data);
                Some(Update::Closed { channel: data })
            }
            _ => None,
        })
    }

    /// Waiting or Polling → Polling.
    async fn poll(&mut self, timeout: Duration) -> Result<(), Break> {
        let (seconds, limit) = (timeout.as_secs().to_string(), self.options.poll_limit.to_string());
        let query = [("timeout", seconds.as_str()), ("limit", limit.as_str())];
        let request = self.request("/v1/poll", &query, "application/json");
        let asked_at = Instant::now();
        let response = self.link.send(request, timeout + ANSWER_TIMEOUT).await?;
        let opening = !matches!(self.state, State::Polling);
        let answer = self.read_answer(response).await?;

        let position = answer.position.as_deref().map(parse_position).transpose()?;
        if opening {
            let position = position.clone().unwrap_or_else(|| self.position.clone());
            self.steps.push_back(Step::only(Update::Opened { position }));
        } else if answer.is_empty() && asked_at.elapsed() < timeout / 2 {
            // A hub that drains answers at once: asking again at once would be a busy loop.
            return Err(Failure::Ended.into());
        }
        self.backoff.reset();
        self.state = State::Polling;
        self.steps.extend(answer.gap.map(|gap| Step::only(Update::Gap(gap))));
        for event in answer.events {
            let position = Some(parse_position(&event.id)?);
            let update = match event.event_type.as_deref() {
                Some(own) if own.starts_with(OWN_TYPE_PREFIX) => {
                    self.read_own_event(own, event.data)?
                }
                _ => Some(Update::Event(event)),
            };
            self.steps.push_back(Step { update, position });
        }
        self.steps.push_back(Step { update: None, position });
        Ok(())
    }

    async fn read_answer(&self, response: Response<Incoming>) -> Result<Answer, Break> {
        if response.status() == StatusCode::NO_CONTENT {
            let position = text_header(response.headers(), "last-event-id").map(str::to_owned);
            return Ok(Answer { position, ..Answer::default() });
        }
        let body = read_body(response, self.options.poll_bytes_max, ANSWER_TIMEOUT).await?;
        Ok(parse("an answer", &String::from_utf8_lossy(&body))?)
    }

    fn request(&self, path: &str, also: &[(&str, &str)], accept: &str) -> Request<Full<Bytes>> {
        let channels = self.options.channels.iter().map(|channel| ("channel", channel.as_str()));
        let types = self.options.types.iter().map(|event_type| ("type", event_type.as_str()));
        // Only before it has a position: from then on it goes on there.
        let last = self.options.last.filter(|_| self.position == Position::NOW);
        let last = last.map(|last| last.to_string());
        let last_pair = last.iter().map(|last| ("last", last.as_str()));
        let query: Vec<_> =
            channels.chain(types).chain(last_pair).chain(also.iter().copied()).collect();
        let mut request = self
            .link
            .request(Method::GET, path, &query)
            .header(ACCEPT, accept)
            .header(CACHE_CONTROL, "no-store");
        if last.is_none() {
            request = request.header("last-event-id", self.position.to_header());
        }
        request.body(Full::default()).expect("the base URL was checked and the rest is encoded")
    }

    /// Any state → Waiting.
    fn reconnect(&mut self, failure: Failure) {
        let wait = self.backoff.next(self.retry, failure.retry_after());
        self.state = State::Waiting(Instant::now() + wait);
        self.steps.push_back(Step::only(Update::Reconnecting { failure, wait }));
    }

    /// Failed → Ended.
    fn fail(&mut self) -> Result<Option<Update>, SubscribeError> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Failed(error) => Err(error),
            _ => Ok(None),
        }
    }

    /// Any state → Ended, with the names of what is closed.
    fn end(&mut self) {
        self.state = State::Ended;
        let closed = self.open_channels.drain(..).map(|channel| Update::Closed { channel });
        self.steps.extend(closed.map(Step::only));
    }
}

impl Step {
    fn only(update: Update) -> Self {
        Self { update: Some(update), position: None }
    }
}

/// The body of a poll's answer.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    events: Vec<Event>,
    position: Option<String>,
    gap: Option<Gap>,
}

impl Answer {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.gap.is_none()
    }
}

fn is_pattern(channel: &str) -> bool {
    channel.contains('*')
}

fn is_event_stream(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("text/event-stream")
}

fn text_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn parse_position(id: &str) -> Result<Position, SubscribeError> {
    Position::parse(id).map_err(|_| malformed("a position", id))
}

fn parse<'a, T: Deserialize<'a>>(what: &'static str, json: &'a str) -> Result<T, SubscribeError> {
    serde_json::from_str(json).map_err(|_| malformed(what, json))
}

fn malformed(what: &'static str, text: &str) -> SubscribeError {
    SubscribeError::Malformed { what, text: text.chars().take(200).collect() }
}

/// No publisher can use such a type.
const OWN_TYPE_PREFIX: &str = "visnyk.";
/// Bytes of a stream after which no further piece is read together with those before.
const TOGETHER_BYTES: usize = 64 * 1024;
/// The reconnection time until the hub names one.
const RETRY_DEFAULT: Duration = Duration::from_secs(3);
/// Bounds on what the hub may name: neither a busy loop nor a client that never comes back.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(600);
/// For the head of an answer, beyond the time that a poll waits on purpose.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
