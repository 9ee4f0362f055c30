//! The quickstart routes: they publish to the channel `default` and read it, in the JSON format of
//! well-known tutorials.

use std::time::Duration;

use axum::{Json, body::Body, http::StatusCode, response::IntoResponse};
use serde_json::{Value, json};

use super::{
    Problem,
    authentication::holder,
    authorization::Action,
    body::read_body,
    call::{Call, Context, Next},
    handoff::Outcome,
    params::{Query, STREAM_PARAMETERS},
    poll::OpenPoll,
    stream::OpenStream,
};
use crate::{
    core::Subscription,
    hub::{PollRequest, Publication, StreamRequest},
    model::{
        ChannelName, ChannelSelector, Epoch, Event, EventEncoding, EventType, NewEvent, PollAnswer,
        PollEncoding, PollReply, Position, Seq, Start, rfc3339_millis,
    },
};

/// `POST /publish` with `{"message":"…"}`.
pub(super) struct Publish {
    channel: ChannelName,
    body: Body,
}

impl Publish {
    pub(super) fn of(body: Body) -> Self {
        Self { channel: default_channel(), body }
    }
}

impl Call for Publish {
    fn action(&self) -> Action<'_> {
        Action::Publish(&self.channel)
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        let Self { channel, body } = self;
        let (body, _room) = read_body(context.state, &context.parts.headers, body, 0).await?;
        let message = match read_message(&body) {
            Ok(message) => message,
            Err(error) => {
                let error = Json(json!({ "error": error }));
                let response = (StatusCode::BAD_REQUEST, error).into_response();
                return Ok(Outcome::Response(response).into());
            }
        };
        let source = context.source();
        let event = NewEvent::message(&*message);
        let publication = Publication { source, ..Publication::one(channel, event) };
        context.state.hub.publish_traced(publication, context.trace).await?;
        let answer = Json(json!({"status": "Message sent", "message": message}));
        Ok(Outcome::Response(answer.into_response()).into())
    }
}

/// The message in a body, or an error text, which the tutorials' clients show.
fn read_message(body: &str) -> Result<String, String> {
    // A byte order mark is passed over (RFC 8259, section 8.1).
    let body = body.strip_prefix('\u{feff}').unwrap_or(body);
    if body.trim().is_empty() {
        return Err("Message is required".into());
    }
    let body: Value = serde_json::from_str(body).map_err(|error| format!("Not JSON: {error}"))?;
    match body.get("message") {
        None | Some(Value::Null) => Err("Message is required".into()),
        Some(Value::String(message)) if message.is_empty() => Err("Message is required".into()),
        Some(Value::String(message)) => Ok(message.clone()),
        Some(_) => Err("Message must be a string".into()),
    }
}

/// `GET /subscribe`: the next event.
pub(super) struct Subscribe(OpenPoll);

impl Subscribe {
    pub(super) fn of(context: &Context<'_>) -> Result<Self, Problem> {
        let hub = &context.state.hub;
        let query = Query::of(&context.parts.uri)?;
        // Checked even if `after` replaces it: the author of a page wrote it.
        let other = query.start(&context.parts.headers, true)?;
        // An empty one does not count, as with other positions.
        let start = match query.one("after")?.filter(|after| !after.is_empty()) {
            Some(after) => match after.parse::<u64>() {
                // The `id` of an event in a tutorial answer.
                Ok(id) => start_after(id, hub.epoch(), hub.head()),
                Err(_) => Start::parse(after)
                    .map_err(|error| Problem::field("after", error.to_string()))?,
            },
            None => other,
        };
        let poll = PollRequest {
            subscription: default_subscription(),
            start,
            encoding: &TutorialAnswers,
            wait: Duration::from_secs(hub.limits().poll.timeout_s.into()),
            limit: 1,
            holder: holder(context.state, &context.identity),
            client: context.client,
        };
        OpenPoll::new(context, poll).map(Self)
    }
}

impl Call for Subscribe {
    fn action(&self) -> Action<'_> {
        self.0.action()
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        self.0.answer(context).await.map(Next::Done)
    }
}

/// Where a client continues that has received the event with this `id`. An id of another log starts
/// at the oldest event: events are better repeated than missed. An id little above the head is from
/// another hub of a shared log, whose events this hub is about to show: the client waits for them.
fn start_after(id: u64, epoch: Epoch, head: Seq) -> Start {
    match id.checked_sub(epoch.opened_unix_us()).map(Seq) {
        Some(seq) if seq.0 <= head.0.saturating_add(AHEAD_MAX) => {
            Start::At(Position { epoch, seq })
        }
        _ => Start::Earliest,
    }
}

/// How many events a hub may be behind another hub of the same log: ids up to so far ahead are
/// waited for.
const AHEAD_MAX: u64 = 100_000;

/// `GET /events`: the stream.
pub(super) fn events(context: &Context<'_>) -> Result<OpenStream, Problem> {
    let query = Query::of(&context.parts.uri)?;
    let mut stream = StreamRequest::new(default_subscription());
    stream.holder = holder(context.state, &context.identity);
    stream.client = context.client;
    stream.start = query.start(&context.parts.headers, false)?;
    stream.framing = Some(&TutorialEncoding);
    stream.retry_ms = Some(RETRY_MS);
    stream.comment = query.near_miss_comment(&STREAM_PARAMETERS);
    OpenStream::new(context, stream)
}

/// The quickstart channel.
pub(crate) fn default_channel() -> ChannelName {
    ChannelName::parse("default").expect("a valid name")
}

fn default_subscription() -> Subscription {
    Subscription::new([ChannelSelector::Name(default_channel())], [], 1).expect("one channel")
}

/// An event in the tutorials' JSON format.
fn tutorial_json(event: &Event) -> Value {
    let text = event.data();
    json!({
        // The id also grows from one run of the hub to the next, unless a run has more than a
        // million events a second. It is below 2^53, the limit of exact integers in JavaScript.
        "id": event.epoch.opened_unix_us() + event.seq.0,
        "text": text,
        "message": text,
        "timestamp": rfc3339_millis(event.time_ms),
    })
}

struct TutorialEncoding;

impl EventEncoding for TutorialEncoding {
    fn name(&self) -> &'static str {
        "tutorial"
    }

    fn encode(&self, event: &Event, out: &mut Vec<u8>) {
        if event.event_type() != EventType::DEFAULT {
            out.extend_from_slice(format!("event: {}\n", event.event_type()).as_bytes());
        }
        out.extend_from_slice(format!("data: {}\nid: ", tutorial_json(event)).as_bytes());
        event.position().write_to(out);
        out.extend_from_slice(b"\n\n");
    }
}

struct TutorialAnswers;

impl PollEncoding for TutorialAnswers {
    fn name(&self) -> &'static str {
        "tutorial"
    }

    // An answer without an event has no new position. The client would repeat the same poll for
    // ever.
    fn shows_gaps(&self) -> bool {
        false
    }

    fn encode(&self, answer: &PollAnswer) -> PollReply {
        let body = match answer.events.first() {
            Some(event) => tutorial_json(event),
            None => json!({"message": "No new data, please re-poll."}),
        };
        PollReply {
            status: 200,
            position: answer.position,
            content_type: Some("application/json"),
            body: body.to_string().into(),
        }
    }
}

/// The reconnection time of the tutorial stream, in milliseconds.
const RETRY_MS: u32 = 5_000;
