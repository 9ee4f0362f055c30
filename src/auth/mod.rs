//! Authentication and permissions: tokens (JWT), their keys, and what they allow.
//!
//! This layer knows neither HTTP nor settings: the layers above take the token from a request and
//! write the refusal. No claim is used before the signature is verified. A token cannot choose how
//! a key is used: each key is for one algorithm, and the header of a token only says which keys to
//! try.

pub(crate) mod bounded_file;
mod claims;
mod containment;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod https;
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
pub(crate) use https::{HttpsClient, https_client};
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
