//! Who may do what: tokens (JWT), their keys, and the permissions they carry.
//!
//! Nothing here knows HTTP or settings: how a token travels, and what a refusal looks like, is the
//! business of the layers above. Nothing of a token is believed before its signature holds, and a
//! token never says which key or algorithm is right: each key is for one algorithm, and a token's
//! header only says which of them to try.

mod claims;
mod containment;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod identity;
mod jwks;
mod jwks_url;
mod keys;
mod mint;
mod object;
mod rules;
mod secret;
mod template;
#[cfg(test)]
mod tests;
mod token;
mod verifier;

pub use claims::{Audience, Claims, GrantClaims};
pub use containment::contains;
pub use error::TokenError;
pub use identity::Identity;
pub use jsonwebtoken::Algorithm;
pub use jwks::{FetchError, Jwks};
pub use jwks_url::{JwksUrl, JwksUrlError, JwksUrlText};
pub use keys::{KEYS_MAX, KeyError, KeySet, VerifyingKey};
pub use mint::mint;
pub use rules::Rules;
pub use secret::{REDACTED, Secret};
pub use template::{PatternTemplate, TemplateError};
pub use verifier::{UnverifiedHeader, Verifier};
