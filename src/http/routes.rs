//! The table of routes, and the router made of it.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, get, post},
};

use super::{
    Access, AccessPolicy, Cors, Problem, authorization, console, dispatch::Endpoint, faults,
    health, openapi, quickstart, request_checks, v1,
};
use crate::{auth::Identity, hub::Hub};

/// How the HTTP surface behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpSettings {
    /// Whether the quickstart routes and the console are there.
    pub quickstart: bool,
    /// Whether temporary rejections of streams are plain status codes.
    pub plain_refusals: bool,
    /// Whether tests may plant faults.
    pub faults: bool,
    /// How long a request body may take, in seconds.
    pub body_read_timeout_s: u32,
    /// Hosts that requests may name: on a loopback address besides names of this machine; on others
    /// these alone, or any if there are none.
    pub allowed_hosts: Vec<String>,
    /// Who may do what.
    pub access: Access,
    /// Which other origins' pages may use the hub.
    pub cors: Cors,
    /// Seconds for which browsers are told over TLS to ask over nothing else; 0: they are not told.
    pub hsts_max_age_s: u32,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            quickstart: true,
            plain_refusals: false,
            faults: false,
            body_read_timeout_s: 30,
            allowed_hosts: Vec::new(),
            access: Access::default(),
            cors: Cors::default(),
            hsts_max_age_s: 0,
        }
    }
}

/// What every handler has.
#[derive(Debug, Clone)]
pub(super) struct HttpState {
    pub(super) hub: Hub,
    pub(super) settings: Arc<HttpSettings>,
    /// The identity of all requests of a hub without authentication; it has no authorization layers
    /// either, so that requests do not pay for them.
    pub(super) default_identity: Option<Arc<Identity>>,
}

impl HttpState {
    /// A reconnection time for a refused client.
    pub(super) fn jittered_retry_ms(&self) -> u32 {
        let limits = &self.hub.limits().connections;
        fastrand::u32(limits.retry_min_ms..=limits.retry_max_ms)
    }
}

/// One resource.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Its path, with `{channel}` for one percent-encoded part.
    pub path: &'static str,
    /// Its methods, as in an `Allow` header.
    pub allow: &'static str,
    /// Whether it belongs to the quickstart.
    pub quickstart: bool,
    /// What a request needs for it.
    pub access: AccessPolicy,
    methods: fn() -> MethodRouter<HttpState>,
    /// What the hub's own server calls without the router: the same handlers as in `methods`.
    pub(super) get_endpoint: Option<Endpoint>,
    pub(super) post_endpoint: Option<Endpoint>,
}

impl Route {
    const fn endpoints(mut self, get: Option<Endpoint>, post: Option<Endpoint>) -> Self {
        (self.get_endpoint, self.post_endpoint) = (get, post);
        self
    }

    /// Whether a path is one of its.
    pub(super) fn matches(&self, path: &str) -> bool {
        let mut parts_of_path = parts(path);
        let is_part =
            |own: &[u8], part: &[u8]| own == part || own.first() == Some(&b'{') && !part.is_empty();
        parts(self.path).all(|own| parts_of_path.next().is_some_and(|part| is_part(own, part)))
            && parts_of_path.next().is_none()
    }
}

/// The parts of a path, as bytes: to look for a character in a text costs more, and each request is
/// looked up.
fn parts(path: &str) -> impl Iterator<Item = &[u8]> {
    path.as_bytes().split(|byte| *byte == b'/')
}

/// Every resource there is. The fault hook is not one: it is there for tests alone.
pub const ROUTES: &[Route] = &[
    route("/v1/channels/{channel}/events", "GET, HEAD, POST", AccessPolicy::Subscribers, || {
        get(v1::stream::channel).post(v1::publish::channel)
    })
    .endpoints(Some(Endpoint::Stream), Some(Endpoint::Publish)),
    route("/v1/events", "GET, HEAD, POST", AccessPolicy::Subscribers, || {
        get(v1::stream::many).post(v1::publish::many)
    })
    .endpoints(Some(Endpoint::Streams), Some(Endpoint::PublishMany)),
    route("/v1/channels/{channel}/poll", "GET, HEAD", AccessPolicy::Subscribers, || {
        get(v1::poll::channel)
    })
    .endpoints(Some(Endpoint::Poll), None),
    route("/v1/poll", "GET, HEAD", AccessPolicy::Subscribers, || get(v1::poll::many))
        .endpoints(Some(Endpoint::Polls), None),
    route("/v1/channels", "GET, HEAD", AccessPolicy::Clients, || get(v1::channels::list)),
    route("/v1/channels/{channel}", "GET, HEAD, DELETE", AccessPolicy::Clients, || {
        get(v1::channels::show).merge(delete(v1::channels::close))
    }),
    route("/v1/connections", "GET, HEAD", AccessPolicy::Clients, || get(v1::connections::list)),
    route("/v1/connections/{id}", "GET, HEAD", AccessPolicy::Clients, || {
        get(v1::connections::show)
    }),
    route("/v1/connections/{id}/token", "POST", AccessPolicy::Clients, || post(v1::renew::renew)),
    route("/healthz", "GET, HEAD", AccessPolicy::Open, || get(health::healthz)),
    route("/readyz", "GET, HEAD", AccessPolicy::Open, || get(health::readyz)),
    route("/metrics", "GET, HEAD", AccessPolicy::Metrics, || get(health::metrics)),
    route("/openapi.json", "GET, HEAD", AccessPolicy::Open, || get(openapi::document)),
    route("/visnyk.js", "GET, HEAD", AccessPolicy::Open, || get(console::client)),
    quickstart("/publish", "POST, OPTIONS", AccessPolicy::Clients, || post(quickstart::publish))
        .endpoints(None, Some(Endpoint::QuickstartPublish)),
    quickstart("/subscribe", "GET, HEAD, OPTIONS", AccessPolicy::Subscribers, || {
        get(quickstart::subscribe)
    })
    .endpoints(Some(Endpoint::QuickstartSubscribe), None),
    quickstart("/events", "GET, HEAD, OPTIONS", AccessPolicy::Subscribers, || {
        get(quickstart::events)
    })
    .endpoints(Some(Endpoint::QuickstartEvents), None),
    quickstart("/", "GET, HEAD", AccessPolicy::Open, || get(console::page)),
    quickstart("/console.css", "GET, HEAD", AccessPolicy::Open, || get(console::style)),
    quickstart("/console.js", "GET, HEAD", AccessPolicy::Open, || get(console::script)),
    quickstart("/favicon.svg", "GET, HEAD", AccessPolicy::Open, || get(console::icon)),
];

/// The whole surface as a router that any axum or hyper server can run, merged or nested.
///
/// Streams and polls are bodies there. The check of `Host` on loopback is for the hub's own server,
/// which knows the address of a connection ([`LocalAddress`](super::LocalAddress)); hosts that the
/// settings name are all there are in any server.
pub fn router(hub: Hub, settings: HttpSettings) -> Router {
    router_of(&state_of(hub, settings))
}

pub(super) fn state_of(hub: Hub, settings: HttpSettings) -> HttpState {
    let default_identity =
        settings.access.verifier.is_none().then(|| Arc::new(Identity::unrestricted()));
    HttpState { hub, settings: Arc::new(settings), default_identity }
}

pub(super) fn router_of(state: &HttpState) -> Router {
    let mut router = Router::new();
    for route in ROUTES.iter().filter(|route| state.settings.quickstart || !route.quickstart) {
        let allow = route.allow;
        let methods =
            (route.methods)().fallback(move || async move { Problem::method_not_allowed(allow) });
        router = router.route(route.path, with_authorization(methods, state, route.access));
    }
    if state.settings.faults {
        router = router.route(
            "/faults/{kind}",
            with_authorization(post(faults::plant), state, AccessPolicy::Admins),
        );
    }
    router
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(state.clone(), request_checks::check))
        .with_state(state.clone())
}

fn with_authorization(
    methods: MethodRouter<HttpState>,
    state: &HttpState,
    access: AccessPolicy,
) -> MethodRouter<HttpState> {
    if access == AccessPolicy::Open || state.default_identity.is_some() {
        return methods;
    }
    methods
        .layer(middleware::from_fn_with_state((state.clone(), access), authorization::middleware))
}

async fn not_found(State(_): State<HttpState>, request: Request) -> Response {
    let detail = format!("there is nothing at {}", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, detail).into_response()
}

const fn route(
    path: &'static str,
    allow: &'static str,
    access: AccessPolicy,
    methods: fn() -> MethodRouter<HttpState>,
) -> Route {
    Route {
        path,
        allow,
        quickstart: false,
        access,
        methods,
        get_endpoint: None,
        post_endpoint: None,
    }
}

const fn quickstart(
    path: &'static str,
    allow: &'static str,
    access: AccessPolicy,
    methods: fn() -> MethodRouter<HttpState>,
) -> Route {
    Route { quickstart: true, ..route(path, allow, access, methods) }
}
