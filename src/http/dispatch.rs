//! Dispatches the requests of the hub's own server: to the router, and past it what is asked for
//! most.
//!
//! Streams, polls and publishes go from the checks straight to their handlers. The router would box
//! a future and clone a service for each layer between them, which costs as much as the handler
//! does (docs/adr/024-plain-requests.md). The checks and the handlers are the router's own.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::Method,
    response::{IntoResponse, Response},
};
use tower::ServiceExt;

use super::{
    AccessPolicy, HttpSettings, ROUTES, authorization, quickstart,
    request_checks::RequestChecks,
    routes::{HttpState, router_of, state_of},
    v1,
};
use crate::hub::Hub;

/// All routes of a hub.
#[derive(Debug, Clone)]
pub(crate) struct Dispatcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    router: Router,
    state: HttpState,
}

/// A handler that is called without the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Stream,
    Streams,
    Poll,
    Polls,
    Publish,
    PublishMany,
    QuickstartEvents,
    QuickstartSubscribe,
    QuickstartPublish,
}

impl Dispatcher {
    /// For a hub.
    pub(crate) fn new(hub: Hub, settings: HttpSettings) -> Self {
        let state = state_of(hub, settings);
        Self(Arc::new(Inner { router: router_of(&state), state }))
    }

    /// The answer to a request.
    pub(crate) async fn dispatch(&self, mut request: Request) -> Response {
        let Inner { router, state } = &*self.0;
        let Some((endpoint, access)) = Endpoint::of(&request, state.settings.quickstart) else {
            let Ok(response) = router.clone().oneshot(request).await;
            return response;
        };
        let checked = RequestChecks::of(state, &request);
        if let Some(refusal) = checked.refusal(state, &request) {
            return checked.mark(refusal);
        }
        let response = match authorization::authorize(state, access, &mut request).await {
            Some(refusal) => refusal,
            None => endpoint.call(state.clone(), request).await,
        };
        checked.answer(&state.hub, response)
    }
}

impl Endpoint {
    /// The handler of a request and the access it needs, if it is called without the router.
    fn of(request: &Request, has_quickstart: bool) -> Option<(Self, AccessPolicy)> {
        let is_get = *request.method() == Method::GET;
        if !is_get && *request.method() != Method::POST {
            return None;
        }
        let path = request.uri().path();
        let route = ROUTES.iter().find(|route| route.matches(path))?;
        let endpoint = if is_get { route.get_endpoint } else { route.post_endpoint };
        endpoint
            .filter(|_| has_quickstart || !route.quickstart)
            .map(|endpoint| (endpoint, route.access))
    }

    async fn call(self, state: HttpState, request: Request) -> Response {
        let state = State(state);
        let answer = match self {
            Self::Stream => v1::stream::channel(state, request).await,
            Self::Streams => v1::stream::many(state, request).await,
            Self::Poll => v1::poll::channel(state, request).await,
            Self::Polls => v1::poll::many(state, request).await,
            Self::Publish => v1::publish::channel(state, request).await,
            Self::PublishMany => v1::publish::many(state, request).await,
            Self::QuickstartEvents => quickstart::events(state, request).await,
            Self::QuickstartSubscribe => quickstart::subscribe(state, request).await,
            Self::QuickstartPublish => quickstart::publish(state, request).await,
        };
        answer.into_response()
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, HttpBody as _},
        http::header,
    };
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn an_endpoint_is_a_method_of_its_route() {
        let mut endpoints = Vec::new();
        for route in ROUTES {
            for (method, endpoint) in [("GET", route.get_endpoint), ("POST", route.post_endpoint)] {
                let allows = route.allow.split(", ").any(|allowed| allowed == method);
                assert!(endpoint.is_none() || allows, "{method} {}", route.path);
                endpoints.extend(endpoint);
            }
        }
        for (at, endpoint) in endpoints.iter().enumerate() {
            assert!(!endpoints[..at].contains(endpoint), "{endpoint:?} is one handler");
        }
        assert_eq!(endpoints.len(), 9);
    }

    /// The answer as anyone sees it. The router says the length of each body; the server does where
    /// it was not said.
    async fn seen(response: Response) -> String {
        let (mut parts, body) = response.into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        let body = match body.size_hint().exact() {
            Some(_) => body.collect().await.expect("a body").to_bytes(),
            None => "a stream".into(),
        };
        let mut seen = format!("{} {:?} {body:?}", parts.status, parts.headers);
        // Each publish moves the positions on.
        seen.retain(|letter| !letter.is_ascii_digit());
        format!("{} {seen}", parts.status)
    }

    #[tokio::test]
    async fn it_answers_as_the_router_does() {
        let hub = Hub::builder().shards(1).start().await.expect("a hub");
        let settings = HttpSettings {
            allowed_hosts: vec!["hub.example".into()],
            hsts_max_age_s: 60,
            ..HttpSettings::default()
        };
        let dispatcher = Dispatcher::new(hub, settings);
        let paths = [
            "/v1/channels/a/events",
            "/v1/channels//events",
            "/v1/channels/a%20b/events",
            "/v1/channels/a/events/",
            "/v1/events",
            "/v1/events?channel=a&channel=b",
            "/v1/channels/a/poll?timeout=0",
            "/v1/channels/a/poll?timeout=x",
            "/v1/poll?channel=a&timeout=0",
            "/events",
            "/subscribe?after=%20",
            "/publish",
            "/healthz",
            "/nothing",
        ];
        let fields: [&[(&str, &str)]; 5] = [
            &[("host", "hub.example")],
            &[("host", "evil.example")],
            &[("host", "hub.example"), ("origin", "https://evil.example")],
            &[("host", "hub.example"), ("sec-fetch-site", "cross-site")],
            &[("host", "hub.example"), ("last-event-id", "?")],
        ];
        for method in ["GET", "HEAD", "POST", "PUT", "OPTIONS"] {
            for path in paths {
                for fields in fields {
                    let request = || {
                        let mut request = Request::builder().method(method).uri(path);
                        for (name, value) in fields {
                            request = request.header(*name, *value);
                        }
                        request.body(Body::empty()).expect("a request")
                    };
                    let endpoint = seen(dispatcher.dispatch(request()).await).await;
                    let Ok(routed) = dispatcher.0.router.clone().oneshot(request()).await;
                    assert_eq!(endpoint, seen(routed).await, "{method} {path} {fields:?}");
                }
            }
        }
    }
}
