//! Long-polls of all front doors: answered at once, or handed off to a shard that waits for events.

use axum::{body::Body, response::Response};
use tokio::time::Instant;

use super::{
    Problem,
    authorization::Action,
    call::{Call, Context, Next},
    event_headers::poll_headers,
    handoff::{Handoff, Outcome, poll_response},
    params,
};
use crate::{
    hub::{PollNow, PollRequest},
    model::{PollAnswer, PollReply},
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
            PollNow::Answer(answer) => return Ok(answered(request.encoding.encode(&answer))),
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
            return Ok(answered(request.encoding.encode(&answer)));
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
    Outcome::Response(poll_response(poll_headers(), reply))
}
