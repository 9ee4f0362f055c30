//! Keys that verify the signatures of tokens. Each key is for one algorithm, and the header of a
//! token only chooses among the keys.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use thiserror::Error;

use super::{Secret, TokenError, token::Parts};

/// A key with its one algorithm, and its `kid` if it has one.
#[derive(Clone)]
pub struct VerifyingKey {
    algorithm: Algorithm,
    kid: Option<String>,
    key: DecodingKey,
}

/// Keys that are tried one after the other.
#[derive(Debug, Clone, Default)]
pub struct KeySet(Vec<VerifyingKey>);

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no such algorithm.
    #[error("there is no algorithm of this name for tokens")]
    Algorithm,
    /// The key is of another kind than the algorithm needs.
    #[error("this algorithm takes another kind of key")]
    Kind,
    /// The file is not a public key in PEM, or its key is of another kind than the algorithm needs.
    #[error("it is not a public key in PEM of the kind that the algorithm needs")]
    Pem,
    /// The secret has no bytes.
    #[error("the secret is empty")]
    EmptySecret,
    /// The text is not a key set.
    #[error("it is not a JSON Web Key Set")]
    KeySet,
    /// No key of a set can be used.
    #[error("none of its keys is a public key for signatures that this hub can use")]
    NoKey,
}

impl VerifyingKey {
    /// A shared secret for one of the HMAC algorithms.
    pub fn from_secret(secret: &Secret, algorithm: Algorithm) -> Result<Self, KeyError> {
        if algorithm.family() != AlgorithmFamily::Hmac {
            return Err(KeyError::Kind);
        }
        if secret.is_empty() {
            return Err(KeyError::EmptySecret);
        }
        let key = DecodingKey::from_secret(secret.expose());
        Ok(Self { algorithm, kid: None, key })
    }

    /// A public key in PEM, for one algorithm.
    pub fn from_pem(pem: &[u8], algorithm: Algorithm) -> Result<Self, KeyError> {
        let key = match algorithm.family() {
            AlgorithmFamily::Hmac => return Err(KeyError::Kind),
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem),
            AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem),
            AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem),
        };
        // A private key could verify too, but it should not be on the machine of a hub.
        let is_private = pem.windows(PRIVATE.len()).any(|window| window == PRIVATE);
        let key = key.ok().filter(|_| !is_private).ok_or(KeyError::Pem)?;
        Ok(Self { algorithm, kid: None, key })
    }

    /// A key of a set, if it is a public key for signatures. A key without `alg` is only for the
    /// most usual algorithm of its kind.
    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        let signs = common.public_key_use.as_ref().is_none_or(|u| *u == PublicKeyUse::Signature);
        let operations = common.key_operations.as_ref();
        let verifies = operations.is_none_or(|all| all.contains(&KeyOperations::Verify));
        let usual = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => Algorithm::ES256,
                EllipticCurve::P384 => Algorithm::ES384,
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                Algorithm::EdDSA
            }
            // A secret (`oct`) is not used: a set is public.
            _ => return None,
        };
        let algorithm = match common.key_algorithm {
            None => usual,
            Some(named) => Algorithm::try_from(named).ok()?,
        };
        let fits = match algorithm.family() {
            AlgorithmFamily::Rsa => usual == Algorithm::RS256,
            _ => algorithm == usual,
        };
        let key = DecodingKey::from_jwk(jwk).ok().filter(|_| fits && signs && verifies)?;
        Some(Self { algorithm, kid: common.key_id.clone(), key })
    }
}

impl KeySet {
    /// A set of the first [`KEYS_MAX`] of these keys.
    pub fn new(keys: impl IntoIterator<Item = VerifyingKey>) -> Self {
        Self(keys.into_iter().take(KEYS_MAX).collect())
    }

    /// Parses a JSON Web Key Set (RFC 7517, section 5). Keys of other kinds and uses are ignored.
    /// An empty set is valid.
    ///
    /// # Errors
    /// It is not a set, or it has keys of which none can be used.
    pub fn from_jwks(json: &[u8]) -> Result<Self, KeyError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(json).map_err(|_| KeyError::KeySet)?;
        if set.keys.is_empty() {
            return Ok(Self::default());
        }
        let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        let keys = Self::new(keys.filter_map(|jwk| VerifyingKey::from_jwk(&jwk)));
        if keys.is_empty() { Err(KeyError::NoKey) } else { Ok(keys) }
    }

    /// Adds the keys of another set, and keeps the first [`KEYS_MAX`] of all.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
        self.0.truncate(KEYS_MAX);
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Verifies the signature of a token with the keys of its algorithm. If the token has a `kid`,
    /// only keys with this `kid` or without one are tried. At most [`KEYS_MAX`] keys are tried.
    pub(super) fn verify(&self, parts: &Parts<'_>) -> Result<(), TokenError> {
        let algorithm = parts.header.algorithm()?;
        let kid = parts.header.kid.as_deref();
        let may_be_named = |key: &&VerifyingKey| match (kid, &key.kid) {
            (Some(named), Some(kid)) => named == kid,
            // A token without `kid` may be signed with any key, and a key without one may be meant
            // by any `kid`.
            _ => true,
        };
        let mut candidates = self.0.iter().filter(may_be_named).peekable();
        if candidates.peek().is_none() {
            return Err(TokenError::UnknownKey);
        }
        let mut result = Err(TokenError::Algorithm);
        for key in candidates.filter(|key| key.algorithm == algorithm) {
            let verified =
                jsonwebtoken::crypto::verify(parts.signature, parts.message, &key.key, algorithm);
            if verified == Ok(true) {
                return Ok(());
            }
            result = Err(TokenError::Signature);
        }
        result
    }
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("VerifyingKey");
        shown.field("algorithm", &self.algorithm).field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Most keys of one set: a token may need a verification with each.
pub const KEYS_MAX: usize = 32;
const PRIVATE: &[u8] = b"PRIVATE KEY-----";
