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

use super::{Problem, console, cors, faults, guard, health, openapi, quickstart, v1};
use crate::hub::Hub;

/// How the HTTP surface behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpSettings {
    /// Whether the quickstart routes and the console are there.
    pub quickstart: bool,
    /// Whether temporary refusals of streams are plain status codes.
    pub plain_refusals: bool,
    /// Whether tests may plant faults.
    pub faults: bool,
    /// How long a request body may take, in seconds.
    pub body_read_timeout_s: u32,
    /// Hosts besides loopback ones that requests on a loopback address may name.
    pub allowed_hosts: Vec<String>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            quickstart: true,
            plain_refusals: false,
            faults: false,
            body_read_timeout_s: 30,
            allowed_hosts: Vec::new(),
        }
    }
}

/// What every handler has.
#[derive(Debug, Clone)]
pub(super) struct HttpState {
    pub(super) hub: Hub,
    pub(super) settings: Arc<HttpSettings>,
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
    methods: fn() -> MethodRouter<HttpState>,
}

/// Every resource there is. The fault hook is not one: it is there for tests alone.
pub const ROUTES: &[Route] = &[
    route("/v1/channels/{channel}/events", "GET, HEAD, POST", || {
        get(v1::stream::channel).post(v1::publish::channel)
    }),
    route("/v1/events", "GET, HEAD, POST", || get(v1::stream::many).post(v1::publish::many)),
    route("/v1/channels/{channel}/poll", "GET, HEAD", || get(v1::poll::channel)),
    route("/v1/poll", "GET, HEAD", || get(v1::poll::many)),
    route("/v1/channels", "GET, HEAD", || get(v1::channels::list)),
    route("/v1/channels/{channel}", "GET, HEAD, DELETE", || {
        get(v1::channels::show).merge(delete(v1::channels::close))
    }),
    route("/v1/connections", "GET, HEAD", || get(v1::connections::list)),
    route("/v1/connections/{id}", "GET, HEAD", || get(v1::connections::show)),
    route("/healthz", "GET, HEAD", || get(health::healthz)),
    route("/readyz", "GET, HEAD", || get(health::readyz)),
    route("/metrics", "GET, HEAD", || get(health::metrics)),
    route("/openapi.json", "GET, HEAD", || get(openapi::document)),
    route("/visnyk.js", "GET, HEAD", || get(console::client)),
    quickstart("/publish", "POST, OPTIONS", || post(quickstart::publish)),
    quickstart("/subscribe", "GET, HEAD, OPTIONS", || get(quickstart::subscribe)),
    quickstart("/events", "GET, HEAD, OPTIONS", || get(quickstart::events)),
    quickstart("/", "GET, HEAD", || get(console::page)),
    quickstart("/console.css", "GET, HEAD", || get(console::style)),
    quickstart("/console.js", "GET, HEAD", || get(console::script)),
    quickstart("/favicon.svg", "GET, HEAD", || get(console::icon)),
];

/// The whole surface as a router that any axum or hyper server can run, merged or nested.
///
/// Streams and polls are bodies there. The check of `Host` on loopback is for the hub's own
/// server, which knows the address of a connection ([`LocalAddress`](super::LocalAddress)).
pub fn router(hub: Hub, settings: HttpSettings) -> Router {
    let state = HttpState { hub, settings: Arc::new(settings) };
    let mut router = Router::new();
    for route in ROUTES.iter().filter(|route| state.settings.quickstart || !route.quickstart) {
        let allow = route.allow;
        let methods =
            (route.methods)().fallback(move || async move { Problem::method_not_allowed(allow) });
        let methods = match route.path {
            "/publish" | "/subscribe" | "/events" => {
                methods.layer(middleware::from_fn(cors::open_to_all))
            }
            _ => methods,
        };
        router = router.route(route.path, methods);
    }
    if state.settings.faults {
        router = router.route("/faults/{kind}", post(faults::plant));
    }
    router
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(state.clone(), guard::check))
        .with_state(state)
}

async fn not_found(State(_): State<HttpState>, request: Request) -> Response {
    let detail = format!("there is nothing at {}", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, detail).into_response()
}

const fn route(
    path: &'static str,
    allow: &'static str,
    methods: fn() -> MethodRouter<HttpState>,
) -> Route {
    Route { path, allow, quickstart: false, methods }
}

const fn quickstart(
    path: &'static str,
    allow: &'static str,
    methods: fn() -> MethodRouter<HttpState>,
) -> Route {
    Route { path, allow, quickstart: true, methods }
}
