//! The quickstart routes: the channel `default`, in the shape that tutorial clients expect.

use std::time::Duration;

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    Problem, authorization,
    body::read_body,
    params::Query,
    poll,
    routes::HttpState,
    stream::{self, ResponseContext},
};
use crate::{
    core::Subscription,
    hub::{PollNow, PollRequest, Publication, StreamRequest},
    model::{
        ChannelName, ChannelSelector, Event, EventEncoding, EventType, NewEvent, PollAnswer,
        PollEncoding, PollReply, Position, Seq, Start, rfc3339_millis,
    },
};

/// `POST /publish` with `{"message":"…"}`.
pub(super) async fn publish(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Response, Problem> {
    let identity = authorization::identity(&state, request.extensions())?;
    authorization::authorize_publish(&identity, &default_channel())?;
    let source = authorization::source(&identity, request.extensions());
    let (body, _room) = read_body(&state, request.into_body()).await?;
    let message = serde_json::from_str::<Value>(&body)
        .ok()
        .and_then(|value| value.get("message").and_then(Value::as_str).map(str::to_owned))
        .filter(|message| !message.is_empty());
    let Some(message) = message else {
        let error = Json(json!({"error": "Message is required"}));
        return Ok((StatusCode::BAD_REQUEST, error).into_response());
    };
    let event = NewEvent::message(&*message);
    let publication = Publication { source, ..Publication::one(default_channel(), event) };
    state.hub.publish(publication).await?;
    Ok(Json(json!({"status": "Message sent", "message": message})).into_response())
}

/// `GET /subscribe`: the next event.
pub(super) async fn subscribe(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Response, Problem> {
    let context = ResponseContext::of(&request)?;
    let subscription = default_subscription();
    let identity = authorization::identity(&state, request.extensions())?;
    authorization::authorize_subscribe(&identity, &subscription)?;
    let query = Query::of(request.uri())?;
    let start = match query.one("after")? {
        Some(after) => match after.parse::<u64>() {
            // The number of an event, as its `id` gives it.
            Ok(seq) => {
                let position = Position { epoch: state.hub.epoch(), seq: Seq(seq) };
                // A number from before a restart: better twice than not at all.
                if seq <= state.hub.head().0 { Start::At(position) } else { Start::Earliest }
            }
            Err(_) => {
                Start::parse(after).map_err(|error| Problem::field("after", error.to_string()))?
            }
        },
        None => query.start(request.headers(), true)?,
    };
    let mut request = PollRequest {
        subscription,
        start,
        encoding: &TutorialAnswers,
        wait: Duration::from_secs(state.hub.limits().poll.timeout_s.into()),
        limit: 1,
        holder: authorization::holder(&state, &identity),
        client: context.client,
    };
    // A gap has no place in these answers: without an event behind it, the poll waits for one. To
    // answer at once would set the client, which has no new position, off on a loop.
    if !context.is_head
        && let PollNow::Answer(answer) = state.hub.poll_now(&request).await?
        && answer.events.is_empty()
    {
        request.start = Start::At(answer.position);
    }
    poll::respond(&state, &context, request).await
}

/// `GET /events`: the stream.
pub(super) async fn events(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Response, Problem> {
    let context = ResponseContext::of(&request)?;
    let query = Query::of(request.uri())?;
    let mut stream = StreamRequest::new(default_subscription());
    let identity = authorization::identity(&state, request.extensions())?;
    authorization::authorize_subscribe(&identity, &stream.subscription)?;
    stream.holder = authorization::holder(&state, &identity);
    stream.client = context.client;
    stream.start = query.start(request.headers(), false)?;
    stream.encoding = Some(&TutorialEncoding);
    stream.retry_ms = Some(RETRY_MS);
    Ok(stream::respond(&state, &context, stream).await)
}

/// The quickstart channel.
pub(crate) fn default_channel() -> ChannelName {
    ChannelName::parse("default").expect("a valid name")
}

fn default_subscription() -> Subscription {
    Subscription::new([ChannelSelector::Name(default_channel())], [], 1).expect("one channel")
}

/// An event as the tutorial clients read it.
fn tutorial_json(event: &Event) -> Value {
    let text = event.data();
    json!({
        "id": event.seq.0,
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
