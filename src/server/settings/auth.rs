//! The settings of authentication.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    auth::{Algorithm, JwksUrlText, Secret},
    core::with_defaults,
    http::MetricsAccess,
};

with_defaults! {
    /// Keys other than `jwt_secret`, the rules for tokens, and where requests carry tokens.
    pub struct AuthSettings {
        /// The algorithm of the secret. A token that names another one is refused.
        pub secret_algorithm: Algorithm = Algorithm::HS256,
        /// Public keys: the algorithm, a colon, and a file in PEM.
        pub public_key_files: Vec<PublicKeyFile> = Vec::new(),
        /// A file with a JSON Web Key Set.
        pub jwks_file: String = String::new(),
        /// The URL of an issuer's JSON Web Key Set.
        pub jwks_url: JwksUrlText = JwksUrlText::default(),
        /// Seconds between two refreshes of the set at the URL.
        pub jwks_refresh_s: u32 = 300,
        /// The shortest time in seconds between two refreshes that tokens with unknown keys cause.
        pub jwks_refresh_min_s: u32 = 10,
        /// The issuer (`iss`) that a token must have; not checked if empty.
        pub issuer: String = String::new(),
        /// A token must be for one of these audiences (`aud`); not checked if empty.
        pub audience: Vec<String> = Vec::new(),
        /// Whether a token must have an expiry (`exp`).
        pub expiry_required: bool = true,
        /// Seconds by which the clocks of the hub and the issuer may differ.
        pub leeway_s: u32 = 5,
        /// Most bytes of a token.
        pub token_bytes_max: u32 = 8_192,
        /// Whether streams and polls accept a token in the query.
        pub query_token: bool = true,
        /// The name of the cookie that may hold a token; empty if none may.
        pub cookie: String = String::new(),
        /// Origins whose pages may publish with the cookie.
        pub cookie_origins: Vec<String> = Vec::new(),
        /// Who may read the metrics.
        pub metrics: MetricsAccess = MetricsAccess::Loopback,
        /// A token that gives access to the metrics and nothing else. It is not a JWT.
        pub metrics_token: Secret = Secret::default(),
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

    /// The algorithm of the key. A token that names another one is refused.
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

/// The algorithms that use a secret.
pub(super) const SECRET_ALGORITHMS: &[&str] = &["HS256", "HS384", "HS512"];
/// The shortest secret, in bytes. With a single token a shorter one can be found by trying. RFC
/// 7518, section 3.2, requires as many bytes as the hash has.
pub(crate) const SECRET_BYTES_MIN: usize = 32;
