//! Dispatches requests, in this order: find the route, check the request, authenticate the client,
//! parse the parameters into a call, authorize the call, perform it.
//!
//! Every request is dispatched here, in the hub's own server and in the router for other servers.
//! No future is boxed (docs/adr/029-one-dispatcher.md).

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::{
    body::HttpBody as _,
    extract::Request,
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};

use super::{
    HttpSettings, Problem, RejectionWriter, ReloadRequests,
    authentication::authenticate,
    authorization::{Action, authorize},
    call::{Call, Context, Next},
    console, faults,
    handoff::Outcome,
    head_body::without_body,
    health,
    logged_body::log_answer,
    openapi, quickstart,
    request_checks::RequestChecks,
    request_span::RequestSpan,
    role_check::check_role,
    route_policy::{Endpoint, Matched, encoded_path, route_of},
    state::HttpState,
    v1,
};
use crate::{
    hub::Hub,
    telemetry::{AccessRecord, RouteClass},
};

/// Dispatches requests to the routes of a hub.
#[derive(Debug, Clone)]
pub(crate) struct Dispatcher(Arc<ArcSwap<HttpState>>);

impl Dispatcher {
    /// A dispatcher for this hub. Without `reloads` the route for reloads answers 501.
    pub(crate) fn new(hub: Hub, settings: HttpSettings, reloads: Option<ReloadRequests>) -> Self {
        let state = HttpState::new(hub, settings, reloads);
        Self(Arc::new(ArcSwap::from_pointee(state)))
    }

    /// Serves new requests with these settings, in all clones. Requests under way keep the settings
    /// of their start.
    pub(crate) fn set_settings(&self, settings: HttpSettings) {
        self.0.rcu(|state| state.with_settings(settings.clone()));
    }

    /// The writer of answers to connections that are rejected before their requests are dispatched.
    pub(crate) fn rejection_writer(&self) -> RejectionWriter {
        let state = self.0.load();
        let limits = state.hub.limits();
        let retry_ms = limits.connections.retry_min_ms..=limits.connections.retry_max_ms;
        RejectionWriter::of_shared(Arc::clone(&state.settings), retry_ms)
    }

    /// Serves a request for a server that can hand off the socket.
    pub(crate) async fn dispatch(&self, request: Request) -> Outcome {
        self.outcome(request, true).await
    }

    /// Serves a request for a server that cannot hand off sockets. Streams and waiting polls are
    /// answered with response bodies.
    pub(super) async fn respond(&self, request: Request) -> Response {
        match self.outcome(request, false).await {
            Outcome::Response(response) => response,
            Outcome::Reply(reply) => reply.into_response(),
            Outcome::Handoff(_) => unreachable!("`can_hand_off` is false"),
        }
    }

    async fn outcome(&self, request: Request, can_hand_off: bool) -> Outcome {
        // `load_full`, not `load`: a poll that is answered as a body keeps the state while it
        // waits, and a guard of arc-swap is for short use only.
        let state = &*self.0.load_full();
        let matched = route_of(request.uri().path(), &state.settings);
        let class = class_of(matched.as_ref(), request.method());
        // Over HTTP/1 hyper itself sends no body in answer to HEAD, but over HTTP/2 it would.
        let is_head = *request.method() == Method::HEAD;
        let strip_body_if_head = |response| if is_head { without_body(response) } else { response };
        let checks =
            RequestChecks::of(state, &request, matched.as_ref().map(|found| found.route), class);
        let request_span = RequestSpan::of(&checks, &request);
        let mut record = state.settings.access_log.then(|| {
            let (method, target) = (request.method(), request.uri());
            let client = checks.client.map(|client| client.ip());
            let id = checks.request_id.to_string();
            let mut record = AccessRecord::new(method, class, target, id, client);
            record.set_trace(checks.trace_id());
            Box::new(record)
        });
        if let Some(mut answer) = checks.early_answer(state, &request) {
            checks.request_id.add_header(answer.headers_mut());
            checks.add_headers(answer.headers_mut());
            state.hub.counters().http_responses.count(class, answer.status().as_u16());
            request_span.end(answer.status());
            return logged(record, Outcome::Response(strip_body_if_head(answer)));
        }
        let outcome = match matched {
            Some(matched) => {
                serve(state, matched, request, &checks, can_hand_off, record.as_deref_mut()).await
            }
            None => Err(not_found(request.uri().path())),
        };
        let outcome = match outcome {
            Ok(Outcome::Response(response)) => Outcome::Response(strip_body_if_head(response)),
            Ok(outcome) => outcome,
            Err(problem) => {
                let response = checks.with_ids(problem).into_response();
                Outcome::Response(strip_body_if_head(response))
            }
        };
        let outcome = checks.complete(&state.hub, outcome);
        state.hub.counters().http_responses.count(class, outcome.status().as_u16());
        request_span.end(outcome.status());
        logged(record, outcome)
    }
}

/// Attaches the access log record of a request to its outcome. The line is written when the answer
/// has ended.
fn logged(record: Option<Box<AccessRecord>>, outcome: Outcome) -> Outcome {
    let Some(record) = record else { return outcome };
    match outcome {
        Outcome::Response(response) => Outcome::Response(log_answer(record, response)),
        Outcome::Reply(reply) => Outcome::Response(log_answer(record, reply.into_response())),
        Outcome::Handoff(mut handoff) => {
            handoff.subscriber.record = Some(record);
            Outcome::Handoff(handoff)
        }
    }
}

/// The label of a request in metrics and logs.
fn class_of(matched: Option<&Matched>, method: &Method) -> RouteClass {
    match matched {
        _ if *method == Method::OPTIONS => RouteClass::Options,
        Some(found) => found.route.class(method),
        None => RouteClass::Other,
    }
}

/// Authenticates a request, parses it into the call of its endpoint, and runs the call.
async fn serve(
    state: &HttpState,
    Matched { route, parameter }: Matched,
    mut request: Request,
    checks: &RequestChecks,
    can_hand_off: bool,
    record: Option<&mut AccessRecord>,
) -> Result<Outcome, Problem> {
    // Authentication comes before the 405, whose `Allow` reveals the methods of the route.
    let identity = match authenticate(state, route, &checks.request_id, &mut request).await {
        Ok(identity) => identity,
        Err(response) => return Ok(Outcome::Response(*response)),
    };
    if let Some(record) = record {
        record.set_subject(identity.subject().cloned());
    }
    let endpoint =
        route.endpoint(request.method()).ok_or_else(|| Problem::method_not_allowed(route.allow))?;
    check_role(state.settings.role, endpoint)?;
    let (parts, body) = request.into_parts();
    let context = &Context {
        state,
        parts: &parts,
        parameter: &parts.uri.path()[parameter],
        has_body: !body.is_end_stream(),
        can_hand_off,
        request_id: &checks.request_id,
        identity,
        client: checks.client,
        trace: checks.trace.as_ref().and_then(|trace| trace.publish.as_ref()),
    };
    let in_path = Some(context.parameter);
    match endpoint {
        Endpoint::Stream => run(context, v1::stream::open(context, in_path)?).await,
        Endpoint::StreamMany => run(context, v1::stream::open(context, None)?).await,
        Endpoint::Poll => run(context, v1::poll::open(context, in_path)?).await,
        Endpoint::PollMany => run(context, v1::poll::open(context, None)?).await,
        Endpoint::Publish => run(context, v1::publish::channel(context, body)?).await,
        Endpoint::PublishMany => run(context, v1::publish::many(context, body)?).await,
        Endpoint::ListChannels => run(context, v1::channels::List::of(context)?).await,
        Endpoint::ShowChannel => run(context, v1::channels::Show::of(context)?).await,
        Endpoint::CloseChannel => run(context, v1::channels::Close::of(context)?).await,
        Endpoint::ListConnections => run(context, v1::connections::List::of(context)?).await,
        Endpoint::ShowConnection => run(context, v1::connections::Show::of(context)?).await,
        Endpoint::EndConnection => run(context, v1::connections::End::of(context)?).await,
        Endpoint::Status => run(context, v1::status::Show::of(context)?).await,
        Endpoint::Samples => run(context, v1::samples::List::of(context)?).await,
        Endpoint::Reload => run(context, v1::reload::Reload::of(context)?).await,
        Endpoint::RenewToken => run(context, v1::renew::Renew::of(context)?).await,
        Endpoint::QuickstartEvents => run(context, quickstart::events(context)?).await,
        Endpoint::QuickstartSubscribe => run(context, quickstart::Subscribe::of(context)?).await,
        Endpoint::QuickstartPublish => run(context, quickstart::Publish::of(body)).await,
        Endpoint::Metrics => run(context, health::Metrics).await,
        Endpoint::PlantFault => run(context, faults::Plant::of(context)?).await,
        Endpoint::Healthz => run(context, Prepared(health::healthz())).await,
        Endpoint::Readyz => run(context, Prepared(health::readyz(state))).await,
        Endpoint::OpenApi => run(context, Prepared(openapi::document())).await,
        Endpoint::BrowserClient => run(context, Prepared(console::client(&parts.headers))).await,
        Endpoint::BrowserClientTypes => {
            run(context, Prepared(console::client_types(&parts.headers))).await
        }
        Endpoint::ConsolePage => run(context, Prepared(console::page(&parts.headers))).await,
        Endpoint::ConsoleFile => {
            let file = console::file(context.parameter, &parts.headers);
            let file = file.ok_or_else(|| not_found(parts.uri.path()))?;
            run(context, Prepared(file)).await
        }
        Endpoint::ConsoleIcon => run(context, Prepared(console::icon(&parts.headers))).await,
    }
}

/// Performs the steps of a call. Each is authorized before it is performed.
async fn run<C: Call>(context: &Context<'_>, mut call: C) -> Result<Outcome, Problem> {
    loop {
        authorize(&context.identity, call.action()).await?;
        match call.perform(context).await? {
            Next::Done(outcome) => return Ok(outcome),
            Next::Authorize(next) => call = next,
        }
    }
}

/// A call whose answer is ready, and needs no authorization.
struct Prepared(Response);

impl Call for Prepared {
    fn action(&self) -> Action<'_> {
        Action::Open
    }

    async fn perform(self, _: &Context<'_>) -> Result<Next<Self>, Problem> {
        Ok(Outcome::Response(self.0).into())
    }
}

fn not_found(path: &str) -> Problem {
    let mut detail = format!("there is nothing at {path}");
    if let Some(meant) = encoded_path(path) {
        detail += &format!("; a `/` in a channel's name is written %2F: {meant}");
    }
    Problem::new(StatusCode::NOT_FOUND, detail)
}
