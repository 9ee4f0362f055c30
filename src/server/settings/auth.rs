//! The settings of authentication.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    auth::{Algorithm, JwksUrlText, Secret},
    http::MetricsAccess,
};

/// Keys besides the one secret, the rules for tokens, and where requests carry them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AuthSettings {
    /// The one algorithm that the secret is for.
    pub secret_algorithm: Algorithm,
    /// Public keys: the algorithm, a colon, and a file in PEM.
    pub public_key_files: Vec<PublicKeyFile>,
    /// A file with a JSON Web Key Set.
    pub jwks_file: String,
    /// The URL of an issuer's JSON Web Key Set.
    pub jwks_url: JwksUrlText,
    /// Seconds between two refreshes of the set.
    pub jwks_refresh_s: u32,
    /// Shortest time in seconds between two refreshes, if tokens with unknown keys cause them.
    pub jwks_refresh_min_s: u32,
    /// The issuer that a token must be of; empty: not checked.
    pub issuer: String,
    /// Audiences of which a token must name one; none: not checked.
    pub audience: Vec<String>,
    /// Whether a token must expire.
    pub expiry_required: bool,
    /// Seconds that clocks may differ by when a token is shown.
    pub leeway_s: u32,
    /// Bytes of a token.
    pub token_bytes_max: u32,
    /// Whether streams and polls take a token from the query.
    pub query_token: bool,
    /// The cookie that may hold a token; empty: none.
    pub cookie: String,
    /// Origins whose pages may publish with the cookie.
    pub cookie_origins: Vec<String>,
    /// Who may read the metrics.
    pub metrics: MetricsAccess,
    /// A token for the metrics alone; no JWT.
    pub metrics_token: Secret,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            secret_algorithm: Algorithm::HS256,
            public_key_files: Vec::new(),
            jwks_file: String::new(),
            jwks_url: JwksUrlText::default(),
            jwks_refresh_s: 300,
            jwks_refresh_min_s: 10,
            issuer: String::new(),
            audience: Vec::new(),
            expiry_required: true,
            leeway_s: 5,
            token_bytes_max: 8_192,
            query_token: true,
            cookie: String::new(),
            cookie_origins: Vec::new(),
            metrics: MetricsAccess::Loopback,
            metrics_token: Secret::default(),
        }
    }
}

/// A public key's algorithm and file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKeyFile {
    algorithm: Algorithm,
    path: String,
}

impl PublicKeyFile {
    /// Reads `RS256:/path/to/key.pem`.
    pub fn parse(text: &str) -> Option<Self> {
        let (algorithm, path) = text.split_once(':')?;
        let algorithm = algorithm.parse().ok()?;
        let is_secret = SECRET_ALGORITHMS.contains(&format!("{algorithm:?}").as_str());
        (!path.is_empty() && !is_secret).then(|| Self { algorithm, path: path.to_owned() })
    }

    /// The one algorithm that the key is for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The file.
    pub fn path(&self) -> &Path {
        Path::new(&self.path)
    }
}

impl TryFrom<String> for PublicKeyFile {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not ALGORITHM:FILE")
    }
}

impl From<PublicKeyFile> for String {
    fn from(file: PublicKeyFile) -> Self {
        format!("{:?}:{}", file.algorithm, file.path)
    }
}

/// What a secret may be for.
pub(super) const SECRET_ALGORITHMS: &[&str] = &["HS256", "HS384", "HS512"];
/// A shorter secret can be found by trying, from one token on (RFC 7518, section 3.2, asks for as
/// much as the hash has; RFC 2104 for the same).
pub(crate) const SECRET_BYTES_MIN: usize = 32;
