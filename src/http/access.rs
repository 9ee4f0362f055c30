//! The settings of authentication: keys, and where requests carry tokens.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::auth::{Secret, Verifier};

/// The authentication of the HTTP surface; off by default.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Access {
    /// Verifies tokens; without it there is no authentication.
    pub verifier: Option<Arc<Verifier>>,
    /// Whether streams and polls take a token from the query (`token`).
    pub query_token: bool,
    /// The cookie that may hold a token.
    pub cookie: Option<String>,
    /// Origins besides the hub's own whose pages may change things with the cookie.
    pub cookie_origins: Vec<String>,
    /// Who may read the metrics.
    pub metrics: MetricsAccess,
    /// A token for the metrics alone.
    pub metrics_token: Secret,
}

/// Who may read the metrics of a hub that authenticates its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MetricsAccess {
    /// Requests from this machine and not by way of a proxy; others as with `Token`.
    #[default]
    Loopback,
    /// Admins, and holders of the metrics' token.
    Token,
    /// Everyone.
    Open,
}
