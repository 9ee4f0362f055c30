//! A call: the parsed parameters of a request, the action to be authorized, and how it is
//! performed.
//!
//! The dispatcher authorizes the action of a call before it performs the call. Handlers never
//! authorize.

use std::sync::Arc;

use axum::{
    http::{Method, request::Parts},
    response::IntoResponse,
};

use super::{
    Problem, authorization::Action, handoff::Outcome, request_id::RequestId, state::HttpState,
};
use crate::{auth::Identity, hub::Source, model::ClientAddress, telemetry::PublishTrace};

/// An authenticated request.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) state: &'a HttpState,
    pub(super) parts: &'a Parts,
    /// The parameter of its path, percent-encoded.
    pub(super) parameter: &'a str,
    pub(super) has_body: bool,
    /// Whether the server can hand off the socket.
    pub(super) can_hand_off: bool,
    pub(super) request_id: &'a RequestId,
    pub(super) identity: Arc<Identity>,
    pub(super) client: Option<ClientAddress>,
    /// The trace of a publish, if it is traced.
    pub(super) trace: Option<&'a Arc<PublishTrace>>,
}

/// What an endpoint does for one request.
pub(super) trait Call: Sized + Send {
    /// The action that must be authorized before the next step.
    fn action(&self) -> Action<'_>;

    /// Performs the next step, after its action was authorized.
    fn perform(
        self,
        context: &Context<'_>,
    ) -> impl Future<Output = Result<Next<Self>, Problem>> + Send;
}

/// The result of a step of a call.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives for a moment, and a box is an allocation")]
pub(super) enum Next<C> {
    /// The call is over.
    Done(Outcome),
    /// The call has a further step, whose action must be authorized first: the body of the request
    /// names more channels.
    Authorize(C),
}

impl Context<'_> {
    pub(super) fn is_head(&self) -> bool {
        self.parts.method == Method::HEAD
    }

    /// The key under which rate limits count the events of this client: its subject, or its address
    /// if it has none.
    pub(super) fn source(&self) -> Option<Source> {
        match self.identity.subject() {
            Some(subject) => Some(Source::Subject(Arc::clone(subject))),
            None => self.client.map(Source::Client),
        }
    }
}

impl<C> Next<C> {
    /// The call is over, with this response.
    pub(super) fn response(response: impl IntoResponse) -> Self {
        Self::Done(Outcome::Response(response.into_response()))
    }
}

impl<C> From<Outcome> for Next<C> {
    fn from(outcome: Outcome) -> Self {
        Self::Done(outcome)
    }
}
