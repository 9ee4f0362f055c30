//! The settings of the HTTP interface, and the state that all requests share.

use std::sync::Arc;

use super::{Access, Cors, ReloadRequests, Role, foreign_origins::ForeignOrigins};
use crate::{auth::Identity, hub::Hub, telemetry::Tracer};

/// The settings of the HTTP interface.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpSettings {
    /// Whether the quickstart routes and the console are served.
    pub quickstart: bool,
    /// Whether a stream that may be opened later is rejected with 503 or 429, like other requests.
    /// Otherwise the answer is a stream that ends at once, so that an EventSource reconnects.
    pub plain_refusals: bool,
    /// Whether `POST /faults/…` is served, by which tests crash actors.
    pub faults: bool,
    /// Seconds within which the whole body of a request must arrive.
    pub body_read_timeout_s: u32,
    /// Hosts that `Host` may name. On a loopback address the names of this machine are allowed too;
    /// on other addresses an empty list allows any host.
    pub allowed_hosts: Vec<String>,
    /// How clients authenticate.
    pub access: Access,
    /// The other origins whose pages may use the hub.
    pub cors: Cors,
    /// Whether each request has a line in the log (the access log).
    pub access_log: bool,
    /// The `max-age` of `Strict-Transport-Security` in answers over TLS, in seconds; 0 leaves the
    /// field out.
    pub hsts_max_age_s: u32,
    /// The part of this hub among those that share a log, which decides which routes it serves.
    pub role: Role,
    /// The name of this hub among those that share a log.
    pub node: String,
    /// Traces publishes; `None` if none is traced.
    pub tracer: Option<Arc<Tracer>>,
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
            access_log: false,
            hsts_max_age_s: 0,
            role: Role::All,
            node: String::new(),
            tracer: None,
        }
    }
}

/// The state that all requests share. A reload replaces the whole state; a request uses to its end
/// the state that it began with.
#[derive(Debug)]
pub(super) struct HttpState {
    pub(super) hub: Hub,
    pub(super) settings: Arc<HttpSettings>,
    /// The identity of a request without a token. It may do everything on a hub without
    /// authentication, and nothing on a hub with authentication.
    pub(super) default_identity: Arc<Identity>,
    pub(super) foreign_origins: Arc<ForeignOrigins>,
    /// Requests a reload of the settings; `None` in another program, which has its own settings.
    pub(super) reloads: Option<ReloadRequests>,
}

impl HttpState {
    pub(super) fn new(hub: Hub, settings: HttpSettings, reloads: Option<ReloadRequests>) -> Self {
        Self {
            hub,
            default_identity: default_identity(&settings),
            settings: Arc::new(settings),
            foreign_origins: Arc::default(),
            reloads,
        }
    }

    /// The same hub with other settings.
    pub(super) fn with_settings(&self, settings: HttpSettings) -> Self {
        Self {
            hub: self.hub.clone(),
            default_identity: default_identity(&settings),
            settings: Arc::new(settings),
            foreign_origins: Arc::clone(&self.foreign_origins),
            reloads: self.reloads.clone(),
        }
    }

    /// A reconnection time for a rejected client.
    pub(super) fn jittered_retry_ms(&self) -> u32 {
        let limits = self.hub.limits();
        fastrand::u32(limits.connections.retry_min_ms..=limits.connections.retry_max_ms)
    }
}

fn default_identity(settings: &HttpSettings) -> Arc<Identity> {
    Arc::new(match settings.access.verifier {
        None => Identity::unrestricted(),
        Some(_) => Identity::anonymous(Vec::new()),
    })
}
