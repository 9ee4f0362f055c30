//! Making tokens, good ones and others.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{
    encoding::AsDer,
    rsa::{KeySize, PrivateDecryptingKey},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, jwk::Jwk};
use serde_json::{Value, json};

use super::SECRET;

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Claims that are good for a minute, with more.
pub(crate) fn claims(more: Value) -> Value {
    let mut claims = json!({"exp": now_s() + 60});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

/// A token of the tests' secret.
pub(crate) fn token(more: Value) -> String {
    signed(&json!({"alg": "HS256", "typ": "JWT"}), &claims(more).to_string(), SECRET)
}

/// A token of the tests' secret with these claims and no others.
pub(crate) fn signed_claims(claims: &Value) -> String {
    signed(&json!({"alg": "HS256", "typ": "JWT"}), &claims.to_string(), SECRET)
}

/// A token for a subject with these patterns.
pub(crate) fn grant(subject: &str, subscribe: &[&str], publish: &[&str]) -> String {
    token(json!({"sub": subject, "visnyk": {"subscribe": subscribe, "publish": publish}}))
}

/// A token that may administer, and nothing else.
pub(crate) fn admin() -> String {
    token(json!({"sub": "root", "visnyk": {"admin": true}}))
}

/// The same, signed with another secret.
pub(crate) fn admin_of(secret: &str) -> String {
    let claims = claims(json!({"sub": "root", "visnyk": {"admin": true}}));
    signed(&json!({"alg": "HS256", "typ": "JWT"}), &claims.to_string(), secret)
}

/// Any header and claims, signed as HS256 with any secret.
pub(crate) fn signed(header: &Value, claims: &str, secret: &str) -> String {
    sign(header, claims, &EncodingKey::from_secret(secret.as_bytes()), Algorithm::HS256)
}

/// Any header and claims, signed with any key.
pub(crate) fn sign(
    header: &Value,
    claims: &str,
    key: &EncodingKey,
    algorithm: Algorithm,
) -> String {
    let message = format!("{}.{}", encode(&header.to_string()), encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

pub(crate) fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A key pair made for one test.
pub(crate) struct Pair {
    pub(crate) algorithm: Algorithm,
    private: EncodingKey,
    /// The public key in PEM.
    pub(crate) public_pem: String,
}

impl Pair {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let (private, public) = match algorithm.family() {
            AlgorithmFamily::Rsa => {
                let pair = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
                let public = pair.public_key();
                let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
                let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> = public.as_der().unwrap();
                (private.as_ref().to_vec(), public.as_ref().to_vec())
            }
            AlgorithmFamily::Ec => {
                let curve = match algorithm {
                    Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
                    _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
                };
                let pair = EcdsaKeyPair::generate(curve).unwrap();
                let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> =
                    pair.public_key().as_der().unwrap();
                (pair.to_pkcs8v1().unwrap().as_ref().to_vec(), public.as_ref().to_vec())
            }
            _ => {
                let pair = Ed25519KeyPair::generate().unwrap();
                let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> =
                    pair.public_key().as_der().unwrap();
                (pair.to_pkcs8v1().unwrap().as_ref().to_vec(), public.as_ref().to_vec())
            }
        };
        let private_pem = pem("PRIVATE KEY", &private);
        let private = match algorithm.family() {
            AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(private_pem.as_bytes()),
            AlgorithmFamily::Ec => EncodingKey::from_ec_pem(private_pem.as_bytes()),
            _ => EncodingKey::from_ed_pem(private_pem.as_bytes()),
        };
        Self { algorithm, private: private.unwrap(), public_pem: pem("PUBLIC KEY", &public) }
    }

    /// A token of this key's, with its name if there is one.
    pub(crate) fn token(&self, kid: Option<&str>, more: Value) -> String {
        let mut header = json!({"alg": format!("{:?}", self.algorithm)});
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        sign(&header, &claims(more).to_string(), &self.private, self.algorithm)
    }

    /// A token that says another algorithm of the same kind than it is signed with.
    pub(crate) fn token_as(&self, algorithm: Algorithm, more: Value) -> String {
        let header = json!({"alg": format!("{algorithm:?}")});
        sign(&header, &claims(more).to_string(), &self.private, algorithm)
    }

    /// The public key as a member of a key set.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let pem = self.public_pem.as_bytes();
        let key = match self.algorithm.family() {
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem),
            AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem),
            _ => DecodingKey::from_ed_pem(pem),
        };
        let jwk = Jwk::from_decoding_key(&key.unwrap(), Some(self.algorithm)).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        jwk
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
