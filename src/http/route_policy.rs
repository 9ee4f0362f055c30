//! The table of routes: path, methods, access and exposure of each. The dispatcher, the request
//! checks and CORS all read the row that a request matches; no other code compares paths.
//!
//! The classifications:
//! - [`AccessPolicy`]: the token that a route requires.
//! - [`Exposure`]: the web pages that may use a route; [`CorsClass`] follows from it. With the
//!   `Origin` of a request it gives the `Sharing` of the answer (`cors.rs`).
//! - [`RouteClass`]: the label of an [`Endpoint`] in metrics and logs; it decides nothing.
//!
//! | [`Exposure`] | routes | requests of pages of other origins | [`CorsClass`]: who may read answers | `Host` is checked |
//! |---|---|---|---|---|
//! | `Api` | `/v1/…`, paths without a route | rejected, unless in `cors_origins` or `cookie_origins` | `Listed` | yes |
//! | `Operations` | `/v1/reload`, `/metrics`, `/faults/…` | rejected, unless in `cookie_origins` | `Closed` | yes |
//! | `Status` | `/healthz`, `/readyz`, `/openapi.json` | served | `Listed` | no |
//! | `Assets` | `/`, `/console/…`, `/favicon.svg`, `/visnyk.js`, `/visnyk.d.ts` | served | `Closed` | yes |
//! | `Quickstart` | `/publish`, `/subscribe`, `/events` | served | `All` | yes |
//!
//! The handlers of `/openapi.json`, `/visnyk.js` and `/visnyk.d.ts` themselves let pages of all
//! origins read their answers.

use std::ops::Range;

use axum::http::Method;

use super::{HttpSettings, cors::CorsClass};
use crate::telemetry::RouteClass;

/// One resource.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Its path. A parameter such as `{channel}` stands for one percent-encoded segment.
    pub path: &'static str,
    /// Its methods, as in an `Allow` field.
    pub allow: &'static str,
    /// Whether it is served only if the quickstart is turned on.
    pub quickstart: bool,
    /// The access it requires.
    pub access: AccessPolicy,
    /// Which web pages may use it.
    pub exposure: Exposure,
    /// What its path has before the parameter; all of it without one.
    before: &'static str,
    /// What its path has behind the parameter, if it has one.
    after: Option<&'static str>,
    get: Option<Endpoint>,
    post: Option<Endpoint>,
    delete: Option<Endpoint>,
}

/// The access that a route requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessPolicy {
    /// None: the route neither shows nor changes data of clients.
    Open,
    /// A token, or anonymous access; safe methods accept a token in the query too.
    Subscribers,
    /// A token, or anonymous access for safe methods.
    Clients,
    /// A token with `admin`.
    Admins,
    /// As the settings `auth.metrics` and `auth.metrics_token` say.
    Metrics,
}

/// Which web pages may send requests to a route, and which may read its answers. A path without a
/// route is treated as [`Api`](Self::Api).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exposure {
    /// Pages of the hub's own origin and of origins in `cors_origins` may send requests and read
    /// answers.
    Api,
    /// Only pages of the hub's own origin may send requests and read answers.
    Operations,
    /// All pages may send requests, and those of origins in `cors_origins` may read the answers,
    /// which contain no events and nothing about clients.
    Status,
    /// Files of the console: all pages may send requests, but only those of the hub's own origin
    /// may read the answers.
    Assets,
    /// All pages may send requests and read answers, without credentials.
    Quickstart,
}

/// One method of one route. `dispatch` has a handler for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Stream,
    StreamMany,
    Poll,
    PollMany,
    Publish,
    PublishMany,
    ListChannels,
    ShowChannel,
    CloseChannel,
    ListConnections,
    ShowConnection,
    EndConnection,
    RenewToken,
    Healthz,
    Readyz,
    Metrics,
    OpenApi,
    BrowserClient,
    BrowserClientTypes,
    QuickstartEvents,
    QuickstartSubscribe,
    QuickstartPublish,
    ConsolePage,
    ConsoleFile,
    ConsoleIcon,
    PlantFault,
    Status,
    Samples,
    Reload,
}

impl Endpoint {
    /// Its label in metrics and logs.
    pub(super) fn class(self) -> RouteClass {
        match self {
            Self::Stream | Self::StreamMany | Self::QuickstartEvents => RouteClass::Stream,
            Self::Poll | Self::PollMany | Self::QuickstartSubscribe => RouteClass::Poll,
            Self::Publish | Self::PublishMany | Self::QuickstartPublish => RouteClass::Publish,
            Self::ListChannels | Self::ShowChannel | Self::CloseChannel => RouteClass::Channels,
            Self::ListConnections
            | Self::ShowConnection
            | Self::EndConnection
            | Self::RenewToken => RouteClass::Connections,
            Self::Healthz | Self::Readyz | Self::Status | Self::Samples | Self::Reload => {
                RouteClass::Health
            }
            Self::Metrics => RouteClass::Metrics,
            Self::OpenApi
            | Self::BrowserClient
            | Self::BrowserClientTypes
            | Self::ConsolePage
            | Self::ConsoleFile
            | Self::ConsoleIcon => RouteClass::Assets,
            Self::PlantFault => RouteClass::Faults,
        }
    }
}

/// The route of a request.
#[derive(Debug, Clone)]
pub(super) struct Matched {
    pub(super) route: &'static Route,
    /// The range of the parameter in the path; empty for a route without one.
    pub(super) parameter: Range<usize>,
}

impl Exposure {
    /// Whether requests of foreign pages are rejected: pages that are neither of the hub's own
    /// origin nor of one that the settings list.
    pub(super) fn rejects_foreign_pages(self) -> bool {
        match self {
            Self::Api | Self::Operations => true,
            Self::Status | Self::Assets | Self::Quickstart => false,
        }
    }

    /// Whether `Host` is checked. It is not for the health checks, since the probes of load
    /// balancers and orchestrators name an IP address there.
    pub(super) fn checks_host(self) -> bool {
        self != Self::Status
    }

    /// The origins that CORS lets read the answers.
    pub(super) fn cors_class(self) -> CorsClass {
        match self {
            Self::Api | Self::Status => CorsClass::Listed,
            Self::Operations | Self::Assets => CorsClass::Closed,
            Self::Quickstart => CorsClass::All,
        }
    }
}

impl Route {
    const fn new(path: &'static str, access: AccessPolicy, exposure: Exposure) -> Self {
        let (get, post, delete) = (None, None, None);
        let (before, after) = around_parameter(path);
        Self {
            path,
            allow: "",
            quickstart: false,
            access,
            exposure,
            before,
            after,
            get,
            post,
            delete,
        }
    }

    const fn get(self, endpoint: Endpoint) -> Self {
        Self { get: Some(endpoint), ..self }.with_allow()
    }

    const fn post(self, endpoint: Endpoint) -> Self {
        Self { post: Some(endpoint), ..self }.with_allow()
    }

    const fn delete(self, endpoint: Endpoint) -> Self {
        Self { delete: Some(endpoint), ..self }.with_allow()
    }

    const fn of_quickstart(self) -> Self {
        Self { quickstart: true, ..self }
    }

    /// With the methods of the endpoints. `RequestChecks` answers `OPTIONS` on every route.
    const fn with_allow(mut self) -> Self {
        self.allow = match (self.get.is_some(), self.post.is_some(), self.delete.is_some()) {
            (true, false, false) => "GET, HEAD, OPTIONS",
            (true, true, false) => "GET, HEAD, POST, OPTIONS",
            (true, false, true) => "GET, HEAD, DELETE, OPTIONS",
            (false, true, false) => "POST, OPTIONS",
            _ => panic!("name this set of methods"),
        };
        self
    }

    /// The endpoint of a method.
    pub(super) fn endpoint(&self, method: &Method) -> Option<Endpoint> {
        match *method {
            Method::GET | Method::HEAD => self.get,
            Method::POST => self.post,
            Method::DELETE => self.delete,
            _ => None,
        }
    }

    /// The label of a request with this method in metrics and logs.
    pub(super) fn class(&self, method: &Method) -> RouteClass {
        self.endpoint(method).map_or(RouteClass::Other, Endpoint::class)
    }

    /// Whether the answer may wait for events, so that even its time of arrival reveals something.
    pub(super) fn waits_for_events(&self) -> bool {
        self.access == AccessPolicy::Subscribers
    }

    /// The range of the parameter in `path`, if the path matches this route. A path that ends with
    /// an empty parameter does not match; an empty parameter elsewhere matches, and the endpoint
    /// rejects it with a reason.
    fn parameter(&self, path: &str) -> Option<Range<usize>> {
        let rest = path.strip_prefix(self.before)?;
        let Some(after) = self.after else { return rest.is_empty().then_some(0..0) };
        let parameter = rest.strip_suffix(after)?;
        let is_part = !parameter.as_bytes().contains(&b'/') && (parameter, after) != ("", "");
        is_part.then(|| self.before.len()..self.before.len() + parameter.len())
    }
}

/// Divides the path of a route at its parameter.
const fn around_parameter(path: &'static str) -> (&'static str, Option<&'static str>) {
    let (bytes, mut begin) = (path.as_bytes(), 0);
    while begin < bytes.len() && bytes[begin] != b'{' {
        begin += 1;
    }
    let (before, rest) = path.split_at(begin);
    let mut end = begin;
    while end < bytes.len() {
        end += 1;
        if bytes[end - 1] == b'}' {
            return (before, Some(rest.split_at(end - begin).1));
        }
    }
    (before, None)
}

/// The route of a path, among those that are served with these settings.
pub(super) fn route_of(path: &str, settings: &HttpSettings) -> Option<Matched> {
    let enabled = routes(settings);
    enabled
        .into_iter()
        .find_map(|route| route.parameter(path).map(|parameter| Matched { route, parameter }))
}

/// The path that the client probably meant, if a `/` in a channel's name was not percent-encoded.
pub(super) fn encoded_path(path: &str) -> Option<String> {
    let of_channels = ROUTES.iter().filter_map(|route| route.path.split_once("{channel}"));
    let fits = |(before, after): (&str, &str)| {
        let name = path.strip_prefix(before)?.strip_suffix(after)?.trim_matches('/');
        name.contains('/').then(|| format!("{before}{}{after}", name.replace('/', "%2F")))
    };
    // The route with the longest suffix after the name, which leaves the shortest name.
    of_channels.filter_map(fits).min_by_key(|fitting| fitting.matches("%2F").count())
}

/// The routes that are served with these settings.
pub(super) fn routes(settings: &HttpSettings) -> impl Iterator<Item = &'static Route> {
    let quickstart = settings.quickstart;
    let faults: &[Route] = if settings.faults { &[FAULTS] } else { &[] };
    ROUTES.iter().filter(move |route| quickstart || !route.quickstart).chain(faults)
}

/// All routes except [`FAULTS`].
pub const ROUTES: &[Route] = &[
    Route::new("/v1/channels/{channel}/events", AccessPolicy::Subscribers, Exposure::Api)
        .get(Endpoint::Stream)
        .post(Endpoint::Publish),
    Route::new("/v1/events", AccessPolicy::Subscribers, Exposure::Api)
        .get(Endpoint::StreamMany)
        .post(Endpoint::PublishMany),
    Route::new("/v1/channels/{channel}/poll", AccessPolicy::Subscribers, Exposure::Api)
        .get(Endpoint::Poll),
    Route::new("/v1/poll", AccessPolicy::Subscribers, Exposure::Api).get(Endpoint::PollMany),
    Route::new("/v1/channels", AccessPolicy::Clients, Exposure::Api).get(Endpoint::ListChannels),
    Route::new("/v1/channels/{channel}", AccessPolicy::Clients, Exposure::Api)
        .get(Endpoint::ShowChannel)
        .delete(Endpoint::CloseChannel),
    Route::new("/v1/channel", AccessPolicy::Clients, Exposure::Api)
        .get(Endpoint::ShowChannel)
        .delete(Endpoint::CloseChannel),
    Route::new("/v1/connections", AccessPolicy::Clients, Exposure::Api)
        .get(Endpoint::ListConnections),
    Route::new("/v1/connections/{id}", AccessPolicy::Clients, Exposure::Api)
        .get(Endpoint::ShowConnection)
        .delete(Endpoint::EndConnection),
    Route::new("/v1/connections/{id}/token", AccessPolicy::Clients, Exposure::Api)
        .post(Endpoint::RenewToken),
    Route::new("/v1/status", AccessPolicy::Clients, Exposure::Api).get(Endpoint::Status),
    Route::new("/v1/samples", AccessPolicy::Clients, Exposure::Api).get(Endpoint::Samples),
    Route::new("/v1/reload", AccessPolicy::Admins, Exposure::Operations).post(Endpoint::Reload),
    Route::new("/healthz", AccessPolicy::Open, Exposure::Status).get(Endpoint::Healthz),
    Route::new("/readyz", AccessPolicy::Open, Exposure::Status).get(Endpoint::Readyz),
    Route::new("/metrics", AccessPolicy::Metrics, Exposure::Operations).get(Endpoint::Metrics),
    Route::new("/openapi.json", AccessPolicy::Open, Exposure::Status).get(Endpoint::OpenApi),
    Route::new("/visnyk.js", AccessPolicy::Open, Exposure::Assets).get(Endpoint::BrowserClient),
    Route::new("/visnyk.d.ts", AccessPolicy::Open, Exposure::Assets)
        .get(Endpoint::BrowserClientTypes),
    Route::new("/publish", AccessPolicy::Clients, Exposure::Quickstart)
        .post(Endpoint::QuickstartPublish)
        .of_quickstart(),
    Route::new("/subscribe", AccessPolicy::Subscribers, Exposure::Quickstart)
        .get(Endpoint::QuickstartSubscribe)
        .of_quickstart(),
    Route::new("/events", AccessPolicy::Subscribers, Exposure::Quickstart)
        .get(Endpoint::QuickstartEvents)
        .of_quickstart(),
    Route::new("/", AccessPolicy::Open, Exposure::Assets)
        .get(Endpoint::ConsolePage)
        .of_quickstart(),
    Route::new("/console/{file}", AccessPolicy::Open, Exposure::Assets)
        .get(Endpoint::ConsoleFile)
        .of_quickstart(),
    Route::new("/favicon.svg", AccessPolicy::Open, Exposure::Assets)
        .get(Endpoint::ConsoleIcon)
        .of_quickstart(),
];

/// The fault hook for tests, served only with `HttpSettings::faults`.
const FAULTS: Route = Route::new("/faults/{kind}", AccessPolicy::Admins, Exposure::Operations)
    .post(Endpoint::PlantFault);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_matches_part_by_part() {
        let settings = HttpSettings::default();
        let find = |path: &str| {
            let found = route_of(path, &settings)?;
            Some((found.route.path, path[found.parameter].to_owned()))
        };
        for (path, route, parameter) in [
            ("/", "/", ""),
            ("/v1/events", "/v1/events", ""),
            ("/v1/channels/a%2Fb/events", "/v1/channels/{channel}/events", "a%2Fb"),
            ("/v1/channels/poll/poll", "/v1/channels/{channel}/poll", "poll"),
            ("/v1/channels/events", "/v1/channels/{channel}", "events"),
            ("/v1/connections/17/token", "/v1/connections/{id}/token", "17"),
        ] {
            assert_eq!(find(path), Some((route, parameter.to_owned())), "{path}");
        }
        for path in ["", "*", "//", "/v1", "/v1/events/", "/v1//events", "/v1/channels/"] {
            assert_eq!(find(path), None, "{path}");
        }
        assert_eq!(find("/v1/channels//poll"), Some(("/v1/channels/{channel}/poll", "".into())));
        for path in ["/v1/channels//", "/V1/events", "/faults/log", "/v1/channels/a/b/c"] {
            assert_eq!(find(path), None, "{path}");
        }
        let settings = HttpSettings { faults: true, quickstart: false, ..settings };
        assert!(route_of("/faults/log", &settings).is_some());
        assert!(route_of("/publish", &settings).is_none() && route_of("/", &settings).is_none());
    }

    #[test]
    fn a_name_that_was_not_encoded_is_found() {
        for (path, meant) in [
            ("/v1/channels/a/b/events", Some("/v1/channels/a%2Fb/events")),
            ("/v1/channels/a/b/c/poll", Some("/v1/channels/a%2Fb%2Fc/poll")),
            ("/v1/channels/a/b", Some("/v1/channels/a%2Fb")),
            ("/v1/channels/a/", None),
            ("/v1/connections/a/b", None),
            ("/v2/channels/a/b/events", None),
        ] {
            assert_eq!(encoded_path(path).as_deref(), meant, "{path}");
        }
    }

    #[test]
    fn an_endpoint_answers_one_method() {
        let settings = HttpSettings { faults: true, ..HttpSettings::default() };
        let rows: Vec<_> = routes(&settings).collect();
        let methods = [
            rows.iter().filter_map(|row| row.get).collect::<Vec<_>>(),
            rows.iter().filter_map(|row| row.post).collect(),
            rows.iter().filter_map(|row| row.delete).collect(),
        ];
        for (at, endpoints) in methods.iter().enumerate() {
            for endpoint in methods[..at].iter().flatten() {
                assert!(!endpoints.contains(endpoint), "{endpoint:?} answers two methods");
            }
        }
        for row in rows {
            for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::PUT] {
                let is_allowed = row.allow.split(", ").any(|allowed| allowed == method);
                assert_eq!(row.endpoint(&method).is_some(), is_allowed, "{method} {}", row.path);
            }
        }
    }
}
