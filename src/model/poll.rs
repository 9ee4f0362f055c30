//! The answer to a long-poll.

use std::sync::Arc;

use bytes::Bytes;

use super::{Event, Gap, Position, encoding::write_envelope};

/// The content of an answer, before a front door gives it a form.
#[derive(Debug, Clone)]
pub struct PollAnswer {
    /// The events, in log order.
    pub events: Vec<Arc<Event>>,
    /// Where the next poll goes on.
    pub position: Position,
    /// Whether a channel has lost events before its oldest, for a poll that starts with history.
    pub truncated: bool,
    /// Events that are gone.
    pub gap: Option<Gap>,
}

impl PollAnswer {
    /// The answer of a poll that found nothing.
    pub fn nothing(position: Position) -> Self {
        Self { events: Vec::new(), position, truncated: false, gap: None }
    }
}

/// An answer in its wire form. The owner of the transport renders it: as the bytes of a response,
/// as a response of an HTTP server, or as a value. Clones share the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollReply {
    /// The HTTP status: 200 or 204.
    pub status: u16,
    /// Where the next poll goes on.
    pub position: Position,
    /// `Content-Type`, none without a body.
    pub content_type: Option<&'static str>,
    /// The body.
    pub body: Bytes,
}

/// How a route answers polls. Waiting polls with the same encoding share the bytes.
pub trait PollEncoding: Send + Sync + 'static {
    /// The name of the encoding: two encodings with one name are the same.
    fn name(&self) -> &'static str;

    /// Writes an answer; one without events and gap is a poll that timed out.
    fn encode(&self, answer: &PollAnswer) -> PollReply;

    /// Whether its answers have gaps. If not, a poll that finds a gap and no event waits for one.
    fn shows_gaps(&self) -> bool {
        true
    }

    /// The encoding for a poll that starts with history and waits, if a channel has lost events
    /// before its oldest: its answers are all truncated. `None` if this encoding does not show
    /// that.
    fn of_truncated(&self) -> Option<&'static dyn PollEncoding> {
        None
    }
}

/// The native answer: `{"events":[envelope…],"position","truncated"?,"gap"?}`, or 204.
#[derive(Debug, Clone, Copy)]
pub struct EnvelopeAnswers;

impl PollEncoding for EnvelopeAnswers {
    fn name(&self) -> &'static str {
        "envelopes"
    }

    fn encode(&self, answer: &PollAnswer) -> PollReply {
        if answer.events.is_empty() && answer.gap.is_none() {
            let position = answer.position;
            return PollReply { status: 204, position, content_type: None, body: Bytes::new() };
        }
        let mut body = Vec::with_capacity(64 + 256 * answer.events.len());
        body.extend_from_slice(b"{\"events\":[");
        for (i, event) in answer.events.iter().enumerate() {
            if i > 0 {
                body.push(b',');
            }
            write_envelope(event, &mut body);
        }
        body.extend_from_slice(b"],\"position\":\"");
        answer.position.write_to(&mut body);
        body.push(b'"');
        if answer.truncated {
            body.extend_from_slice(b",\"truncated\":true");
        }
        if let Some(gap) = &answer.gap {
            body.extend_from_slice(b",\"gap\":");
            body.extend_from_slice(gap.to_json().as_bytes());
        }
        body.push(b'}');
        PollReply {
            status: 200,
            position: answer.position,
            content_type: Some("application/json"),
            body: body.into(),
        }
    }

    fn of_truncated(&self) -> Option<&'static dyn PollEncoding> {
        Some(&TruncatedEnvelopeAnswers)
    }
}

/// The native answer to a poll that starts with history, of which it was known that events are gone
/// before it began to wait.
#[derive(Debug, Clone, Copy)]
struct TruncatedEnvelopeAnswers;

impl PollEncoding for TruncatedEnvelopeAnswers {
    fn name(&self) -> &'static str {
        "truncated envelopes"
    }

    fn encode(&self, answer: &PollAnswer) -> PollReply {
        EnvelopeAnswers.encode(&PollAnswer { truncated: true, ..answer.clone() })
    }
}
