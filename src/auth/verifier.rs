//! Verifies a token and returns the identity of its holder.

use std::sync::Arc;

use super::{Claims, Identity, Jwks, KeySet, PatternTemplate, Rules, TokenError, token::Parts};

/// The authentication of a hub: keys, rules for tokens, and channels that need no token.
#[derive(Debug)]
pub struct Verifier {
    rules: Rules,
    keys: KeySet,
    jwks: Option<Arc<Jwks>>,
    anonymous: Vec<PatternTemplate>,
}

impl Verifier {
    /// A verifier with `keys`, and with those of `jwks` if there is such a source. The channels in
    /// `anonymous` may be subscribed to without a token.
    pub fn new(
        rules: Rules,
        keys: KeySet,
        jwks: Option<Arc<Jwks>>,
        anonymous: Vec<PatternTemplate>,
    ) -> Self {
        Self { rules, keys, jwks, anonymous }
    }

    /// The identity of a token's holder, at a time in milliseconds since 1970. May wait for the
    /// issuer's keys ([`Jwks::refresh_for_unknown`]). It may be cancelled.
    pub async fn verify(&self, token: &str, now_ms: u64) -> Result<Identity, TokenError> {
        let result = self.verify_with_known(token, now_ms);
        let Some(jwks) = &self.jwks else { return result };
        match result {
            // `Signature` too, since the issuer may have replaced a key without changing its `kid`.
            Err(TokenError::UnknownKey | TokenError::NoKeysYet | TokenError::Signature) => {
                jwks.refresh_for_unknown().await;
                self.verify_with_known(token, now_ms)
            }
            result => result,
        }
    }

    /// As [`verify`](Self::verify), but with the keys that the hub has now.
    pub fn verify_with_known(&self, token: &str, now_ms: u64) -> Result<Identity, TokenError> {
        Identity::of_claims(&self.claims(token, now_ms)?, &self.anonymous)
    }

    /// The claims of a valid token.
    fn claims(&self, token: &str, now_ms: u64) -> Result<Claims, TokenError> {
        let parts = Parts::of(token, self.rules.token_bytes_max)?;
        self.verify_signature(&parts)?;
        // No claim is read before the signature is verified.
        let claims = Claims::parse(&parts.claims)?;
        claims.check(&self.rules, now_ms)?;
        Ok(claims)
    }

    fn verify_signature(&self, parts: &Parts<'_>) -> Result<(), TokenError> {
        let own = self.keys.verify(parts);
        let Some(jwks) = &self.jwks else { return own };
        if own.is_ok() {
            return own;
        }
        let Some(fetched) = jwks.keys() else {
            parts.header.algorithm()?;
            return Err(TokenError::NoKeysYet);
        };
        fetched.verify(parts)
    }

    /// The identity of a request without a token; `None` if nothing is allowed without one.
    pub fn anonymous(&self) -> Option<Identity> {
        let filled = self.anonymous.iter().filter_map(|template| template.fill(None).ok());
        let patterns: Vec<_> = filled.collect();
        (!patterns.is_empty()).then(|| Identity::anonymous(patterns))
    }

    /// The rules that every token must satisfy.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The source of the issuer's keys, if there is one.
    pub fn jwks(&self) -> Option<&Arc<Jwks>> {
        self.jwks.as_ref()
    }

    /// The content of a token, valid or not: for `visnyk token --explain`, and for nothing else.
    pub fn read_unverified(&self, token: &str) -> Result<(UnverifiedHeader, Claims), TokenError> {
        let parts = Parts::of(token, self.rules.token_bytes_max)?;
        let header = UnverifiedHeader {
            algorithm: parts.header.algorithm().ok().map(|algorithm| format!("{algorithm:?}")),
            kid: parts.header.kid.clone(),
        };
        Ok((header, Claims::parse(&parts.claims)?))
    }
}

/// The header of a token whose signature was not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedHeader {
    /// The algorithm, if the hub knows it.
    pub algorithm: Option<String>,
    /// The name of the key.
    pub kid: Option<String>,
}
