//! Why a token is refused.

use thiserror::Error;

use super::template::TemplateError;

/// Why a token is refused. No text contains any part of the token, so the texts may be logged and
/// sent to the client.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The token is too long.
    #[error("the token has more than {bytes_max} bytes")]
    TooLong {
        /// The bound.
        bytes_max: usize,
    },
    /// The token does not consist of three parts in base64url, or its header or claims are
    /// malformed.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// The header requires an extension (RFC 7515, section 4.1.11).
    #[error("the token's header marks an extension as critical, and this hub knows none")]
    Critical,
    /// The hub has no key for the algorithm of the token, or the token has none.
    #[error("the token's algorithm is not one that this hub's keys are for")]
    Algorithm,
    /// No key has the `kid` of the token.
    #[error("no key of this hub has the token's `kid`")]
    UnknownKey,
    /// The issuer's keys have not been fetched yet. The same token may be valid later.
    #[error("the keys of the tokens' issuer are not available at the moment")]
    NoKeysYet,
    /// The signature does not match the content.
    #[error("the token's signature does not match")]
    Signature,
    /// `exp` is missing.
    #[error("the token has no `exp`, and this hub takes none that do not expire")]
    NoExpiry,
    /// The time in `exp` is over.
    #[error("the token has expired")]
    Expired,
    /// The time in `nbf` has not come yet.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `iss` is missing, or names another issuer.
    #[error("the token is of another issuer")]
    Issuer,
    /// `aud` is missing, or names only other audiences.
    #[error("the token is for another audience")]
    Audience,
    /// A pattern in the claims cannot be used.
    #[error("a pattern of the token cannot be used: {0}")]
    Pattern(#[source] TemplateError),
}

impl TokenError {
    /// Whether the same token may be valid later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::NoKeysYet)
    }

    /// The metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too_long",
            Self::Malformed(_) => "malformed",
            Self::Critical => "critical",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::NoKeysYet => "no_keys_yet",
            Self::Signature => "signature",
            Self::NoExpiry => "no_expiry",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Pattern(_) => "pattern",
        }
    }
}
