//! Long-polls of all front doors: answered at once, or handed off to a shard that waits for events.

use std::{
    cell::RefCell,
    sync::{Arc, Weak},
};

use axum::{body::Body, response::Response};
use tokio::time::Instant;

use super::{
    Problem,
    authorization::Action,
    call::{Call, Context, Next},
    event_headers::poll_headers,
    handoff::{Handoff, Outcome, Reply},
    params,
};
use crate::{
    hub::{PollNow, PollRequest},
    model::{Event, PollAnswer, PollEncoding, PollReply, Position},
};

/// A poll that is to be answered.
pub(super) struct OpenPoll(pub(super) PollRequest);

impl OpenPoll {
    /// Rejects a request that has a body.
    pub(super) fn new(context: &Context<'_>, poll: PollRequest) -> Result<Self, Problem> {
        params::refuse_body(context.has_body)?;
        Ok(Self(poll))
    }

    /// Answers the poll at once, or lets a shard answer it.
    pub(super) async fn answer(self, context: &Context<'_>) -> Result<Outcome, Problem> {
        let (hub, Self(mut request)) = (&context.state.hub, self);
        if context.is_head() {
            let mut response = Response::new(Body::empty());
            *response.headers_mut() = poll_headers();
            return Ok(Outcome::Response(response));
        }
        let begun = Instant::now();
        match hub.poll_now(&request).await? {
            PollNow::Answer(answer) => {
                return Ok(answered(reply_to(request.encoding, &answer)));
            }
            PollNow::Wait(wait) if request.wait.is_zero() => {
                let nothing = PollAnswer::nothing(wait.position);
                return Ok(answered(request.encoding.encode(&nothing)));
            }
            PollNow::Wait(wait) => request.wait_from(&wait, begun),
        }
        hub.wait_for_capacity().await;
        if !context.can_hand_off {
            return Ok(answered(hub.wait_for_reply(request).await?));
        }
        if let Some(answer) = hub.look_before_refusal(&request).await? {
            return Ok(answered(reply_to(request.encoding, &answer)));
        }
        Ok(Outcome::Handoff(Handoff::new(hub.admit_poll(request)?, true)))
    }
}

impl Call for OpenPoll {
    fn action(&self) -> Action<'_> {
        Action::Subscribe(&self.0.subscription)
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        self.answer(context).await.map(Next::Done)
    }
}

fn answered(reply: PollReply) -> Outcome {
    Outcome::Reply(Reply::new(reply))
}

/// Encodes an answer. When thousands of polls come back for the same event, they find it one after
/// another: each thread keeps its latest small reply for the next one.
fn reply_to(encoding: &dyn PollEncoding, answer: &PollAnswer) -> PollReply {
    thread_local! {
        static LAST: RefCell<Option<LastReply>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| {
        if let Some(last) = last.as_ref().filter(|last| last.fits(encoding, answer)) {
            return last.reply.clone();
        }
        let reply = encoding.encode(answer);
        let is_kept = answer.gap.is_none() && reply.body.len() <= KEPT_BYTES_MAX;
        *last = is_kept.then(|| LastReply {
            encoding: encoding.name(),
            events: answer.events.iter().map(Arc::downgrade).collect(),
            position: answer.position,
            truncated: answer.truncated,
            reply: reply.clone(),
        });
        reply
    })
}

/// A reply, with the parts of the answer that it encodes.
struct LastReply {
    encoding: &'static str,
    /// Weak, so that they do not keep evicted events in memory. They are compared by address, which
    /// distinguishes events of other hubs too.
    events: Vec<Weak<Event>>,
    position: Position,
    truncated: bool,
    reply: PollReply,
}

impl LastReply {
    fn fits(&self, encoding: &dyn PollEncoding, answer: &PollAnswer) -> bool {
        let is_same =
            |(own, other): (&Weak<Event>, &Arc<Event>)| own.as_ptr() == Arc::as_ptr(other);
        self.position == answer.position
            && self.truncated == answer.truncated
            && answer.gap.is_none()
            && self.events.len() == answer.events.len()
            && self.events.iter().zip(&answer.events).all(is_same)
            && self.encoding == encoding.name()
    }
}

/// Bytes of the largest body that a thread keeps.
const KEPT_BYTES_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChannelName, EnvelopeAnswers, Epoch, NewEvent, Seq};

    fn event(seq: u64, data: &str) -> Arc<Event> {
        let position = Epoch::new(0, 10).at(Seq(seq));
        Arc::new(Event::published(
            position,
            &ChannelName::parse("a").expect("a name"),
            0,
            &NewEvent::message(data),
        ))
    }

    fn answer(events: &[&Arc<Event>]) -> PollAnswer {
        let events: Vec<_> = events.iter().map(|event| Arc::clone(event)).collect();
        PollAnswer { events, ..PollAnswer::nothing(Epoch::new(0, 10).at(Seq(9))) }
    }

    #[test]
    fn polls_in_a_row_that_find_the_same_share_one_reply() {
        let (one, two) = (event(1, "x"), event(2, "y"));
        let first = reply_to(&EnvelopeAnswers, &answer(&[&one, &two]));
        let second = reply_to(&EnvelopeAnswers, &answer(&[&one, &two]));
        assert_eq!(first.body.as_ptr(), second.body.as_ptr());
        let same_seqs = answer(&[&event(1, "x"), &event(2, "z")]);
        let of_another_hub = reply_to(&EnvelopeAnswers, &same_seqs);
        assert_eq!(of_another_hub, EnvelopeAnswers.encode(&same_seqs));
        let truncated = PollAnswer { truncated: true, ..answer(&[&one, &two]) };
        let further = PollAnswer { position: Epoch::new(0, 10).at(Seq(10)), ..answer(&[&one]) };
        for other in [answer(&[&one]), answer(&[&two]), answer(&[&two, &one]), truncated, further] {
            reply_to(&EnvelopeAnswers, &answer(&[&one, &two]));
            assert_eq!(reply_to(&EnvelopeAnswers, &other), EnvelopeAnswers.encode(&other));
        }
    }

    #[test]
    fn a_large_reply_is_not_kept() {
        for (bytes, is_kept) in [(KEPT_BYTES_MAX / 2, true), (KEPT_BYTES_MAX, false)] {
            let large = event(1, &"x".repeat(bytes));
            let first = reply_to(&EnvelopeAnswers, &answer(&[&large]));
            let second = reply_to(&EnvelopeAnswers, &answer(&[&large]));
            assert_eq!(first.body.as_ptr() == second.body.as_ptr(), is_kept, "{bytes}");
        }
    }
}
