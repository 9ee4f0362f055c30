//! The settings of authentication: the verifier, and where requests may carry tokens.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::auth::{Secret, Verifier};

/// The authentication of HTTP requests; off by default.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Access {
    /// Verifies tokens; without it there is no authentication.
    pub verifier: Option<Arc<Verifier>>,
    /// Whether streams and polls accept a token in the query (`token`).
    pub query_token: bool,
    /// The name of the cookie that may hold a token.
    pub cookie: Option<String>,
    /// Origins other than the hub's own, whose pages may use unsafe methods with the cookie.
    pub cookie_origins: Vec<String>,
    /// Who may read the metrics.
    pub metrics: MetricsAccess,
    /// A token that gives access to the metrics and nothing else.
    pub metrics_token: Secret,
}

/// Who may read the metrics of a hub that authenticates its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MetricsAccess {
    /// Clients on this machine, if their requests came through no proxy. Others need a token, as
    /// with `Token`.
    #[default]
    Loopback,
    /// Clients with an `admin` token or the metrics token.
    Token,
    /// All clients.
    Open,
}
