//! Splits a token into its three parts (RFC 7515, section 7.1), before its signature is verified.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::{TokenError, object::Object};

/// The parts of a token.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) header: Header,
    pub(super) claims: Vec<u8>,
    /// The bytes that are signed: the first two parts as they were received.
    pub(super) message: &'a [u8],
    pub(super) signature: &'a str,
}

/// The members of a header that are read. Those that hold or name a key (`jwk`, `jku`, `x5c`,
/// `x5u`) are not: an attacker could use their own key.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    alg: String,
    #[serde(default)]
    pub(super) kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
    #[serde(default, deserialize_with = "present")]
    b64: bool,
}

impl<'a> Parts<'a> {
    /// Splits a token.
    pub(super) fn of(token: &'a str, bytes_max: usize) -> Result<Self, TokenError> {
        if token.len() > bytes_max {
            return Err(TokenError::TooLong { bytes_max });
        }
        let malformed = |what| move || TokenError::Malformed(what);
        let (message, signature) =
            token.rsplit_once('.').ok_or_else(malformed("it has no three parts"))?;
        let (header, claims) =
            message.split_once('.').ok_or_else(malformed("it has no three parts"))?;
        if claims.contains('.') {
            return Err(TokenError::Malformed("it has no three parts"));
        }
        let decode = |part| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| TokenError::Malformed("a part of it is not base64url"))
        };
        let Object(header): Object<Header> =
            serde_json::from_slice(&decode(header)?).map_err(|_| {
                TokenError::Malformed("its header is not JSON of the types that RFC 7515 gives it")
            })?;
        if header.crit || header.b64 {
            return Err(TokenError::Critical);
        }
        if header.kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
            return Err(TokenError::Malformed("its `kid` is too long"));
        }
        let claims = decode(claims)?;
        Ok(Self { header, claims, message: message.as_bytes(), signature })
    }
}

impl Header {
    /// The algorithm. `none` is an error.
    pub(super) fn algorithm(&self) -> Result<Algorithm, TokenError> {
        self.alg.parse().map_err(|_| TokenError::Algorithm)
    }
}

/// Deserializes any value of a member as true: the member is present.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Most bytes of a `kid`, which is only compared with those of the keys.
const KID_BYTES_MAX: usize = 256;
