//! A call: a request whose parameters were read, what it asks leave for, and its performance.
//!
//! The dispatcher authorizes the action of each call before it performs it, and no handler does so
//! itself.

use std::sync::Arc;

use axum::http::{Method, request::Parts};

use super::{Problem, authorization::Action, handoff::Outcome, state::HttpState};
use crate::{auth::Identity, hub::Source, model::ClientAddress};

/// A request that was authenticated.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) state: &'a HttpState,
    pub(super) parts: &'a Parts,
    /// The parameter of its path, percent-encoded.
    pub(super) parameter: &'a str,
    pub(super) has_body: bool,
    /// Whether the server can hand its socket off.
    pub(super) can_hand_off: bool,
    pub(super) identity: Arc<Identity>,
    pub(super) client: Option<ClientAddress>,
}

/// What an endpoint does for one request.
pub(super) trait Call: Sized + Send {
    /// What it asks leave for.
    fn action(&self) -> Action<'_>;

    /// Does it, once the action is authorized.
    fn perform(
        self,
        context: &Context<'_>,
    ) -> impl Future<Output = Result<Next<Self>, Problem>> + Send;
}

/// What follows a step of a call.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives for a moment, and a box is an allocation")]
pub(super) enum Next<C> {
    /// The call is over.
    Done(Outcome),
    /// The call goes on, once its next action is authorized: the body of its request named more.
    Authorize(C),
}

impl Context<'_> {
    pub(super) fn is_head(&self) -> bool {
        self.parts.method == Method::HEAD
    }

    /// What the limits count events by: a subject, or an address for clients without one.
    pub(super) fn source(&self) -> Option<Source> {
        match self.identity.subject() {
            Some(subject) => Some(Source::Subject(Arc::clone(subject))),
            None => self.client.map(Source::Client),
        }
    }
}

impl<C> From<Outcome> for Next<C> {
    fn from(outcome: Outcome) -> Self {
        Self::Done(outcome)
    }
}
