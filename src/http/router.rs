//! All routes as an axum router, for servers of other programs.

use std::{convert::Infallible, future::Future, pin::Pin, task};

use axum::{Router, extract::Request, response::Response};
use tower::Service;

use super::{HttpSettings, dispatch::Dispatcher, route_policy::routes};
use crate::hub::Hub;

/// All routes as a router that any axum or hyper server can run, merged or nested.
///
/// Requests go to the same dispatcher as in the hub's own server. Streams and waiting polls are
/// answered with response bodies.
///
/// If the settings list hosts, `Host` is checked. If they list none, only the hub's own server
/// checks it, on loopback: in another server a request has no
/// [`LocalAddress`](super::LocalAddress), so that the dispatcher does not know where it arrived.
pub fn router(hub: Hub, settings: HttpSettings) -> Router {
    let paths: Vec<_> = routes(&settings).map(|route| route.path).collect();
    let service = Bodies(Dispatcher::new(hub, settings, None));
    let router = paths
        .into_iter()
        .fold(Router::new(), |router, path| router.route_service(path, service.clone()));
    router.fallback_service(service)
}

/// The dispatcher as a service that never hands a socket off.
#[derive(Clone)]
struct Bodies(Dispatcher);

impl Service<Request> for Bodies {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let dispatcher = self.0.clone();
        Box::pin(async move { Ok(dispatcher.respond(request).await) })
    }
}
