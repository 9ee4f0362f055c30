//! Why a token is refused.

use thiserror::Error;

use super::template::TemplateError;

/// A token is refused. None of the texts holds anything of the token, so they may go to the client
/// and to logs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is longer than a token may be.
    #[error("the token has more than {bytes_max} bytes")]
    TooLong {
        /// The bound.
        bytes_max: usize,
    },
    /// It is not three parts of base64url, or its header or claims are not what they should be.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// Its header asks for an extension (RFC 7515, section 4.1.11).
    #[error("the token's header marks an extension as critical, and this hub knows none")]
    Critical,
    /// No key is for its algorithm, or it has none.
    #[error("the token's algorithm is not one that this hub's keys are for")]
    Algorithm,
    /// No key has its `kid`.
    #[error("no key of this hub has the token's `kid`")]
    UnknownKey,
    /// The issuer's keys have not been loaded yet. Later the same token may be valid.
    #[error("the keys of the tokens' issuer are not available at the moment")]
    NoKeysYet,
    /// Signature and content do not go together.
    #[error("the token's signature does not match")]
    Signature,
    /// `exp` is missing.
    #[error("the token has no `exp`, and this hub takes none that do not expire")]
    NoExpiry,
    /// `exp` is past.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is to come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `iss` is missing or another one.
    #[error("the token is of another issuer")]
    Issuer,
    /// `aud` is missing or names others.
    #[error("the token is for another audience")]
    Audience,
    /// A pattern of its claims cannot be used.
    #[error("a pattern of the token cannot be used: {0}")]
    Pattern(#[source] TemplateError),
}

impl TokenError {
    /// Whether the same token may be valid later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::NoKeysYet)
    }

    /// The word in metrics.
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
