//! The claims of a token (RFC 7519), and whether they are valid at a time. `keys` verifies the
//! signature.

use serde::{Deserialize, Serialize, Serializer};

use super::{
    TokenError,
    object::{self, Object},
    rules::Rules,
};

/// The claims that the hub reads; it ignores others. A token that has a claim twice is refused:
/// another reader could use the other value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// The issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// The subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
    /// When the token expires, in seconds since 1970; a fraction is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "numeric_date")]
    pub exp: Option<f64>,
    /// When the token becomes valid.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "numeric_date")]
    pub nbf: Option<f64>,
    /// When the token was issued. Not checked.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "numeric_date")]
    pub iat: Option<f64>,
    /// The permissions of the holder.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "object::optional"
    )]
    pub visnyk: Option<GrantClaims>,
}

/// The claim `visnyk`. A token with an unknown member in it is refused: the member may be a
/// restriction of a later version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantClaims {
    /// Channels that may be published to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<String>,
    /// Channels that may be subscribed to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<String>,
    /// Whether the hub may be administered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub admin: bool,
}

/// One audience or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Claims {
    /// Parses the JSON in the second part of a token.
    pub(super) fn parse(json: &[u8]) -> Result<Self, TokenError> {
        let Object(claims): Object<Self> = serde_json::from_slice(json).map_err(|_| {
            TokenError::Malformed("its claims are not JSON of the types that RFC 7519 gives them")
        })?;
        for time in [claims.exp, claims.nbf].into_iter().flatten() {
            if !(0.0..=SECONDS_MAX).contains(&time) {
                return Err(TokenError::Malformed("a time of its claims is out of range"));
            }
        }
        let grants = claims.visnyk.iter();
        let too_many = grants
            .flat_map(|grants| [&grants.publish, &grants.subscribe])
            .any(|patterns| patterns.len() > PATTERNS_MAX);
        if too_many {
            return Err(TokenError::Malformed("a list of its patterns has more than 100"));
        }
        Ok(claims)
    }

    /// Checks that the claims are valid at a time, in milliseconds since 1970.
    pub(super) fn check(&self, rules: &Rules, now_ms: u64) -> Result<(), TokenError> {
        let leeway_ms = u64::from(rules.leeway_s) * 1_000;
        match self.expires_ms() {
            None if rules.expiry_required => return Err(TokenError::NoExpiry),
            Some(expires_ms) if now_ms >= expires_ms.saturating_add(leeway_ms) => {
                return Err(TokenError::Expired);
            }
            _ => {}
        }
        let valid_from_ms = self.valid_from_ms().unwrap_or(0);
        if now_ms.saturating_add(leeway_ms) < valid_from_ms {
            return Err(TokenError::NotYetValid);
        }
        if rules.issuer.as_ref().is_some_and(|issuer| self.iss.as_ref() != Some(issuer)) {
            return Err(TokenError::Issuer);
        }
        if !rules.audience.is_empty() {
            let named: &[String] = match &self.aud {
                None => &[],
                Some(Audience::One(one)) => std::slice::from_ref(one),
                Some(Audience::Many(many)) => many,
            };
            if !named.iter().any(|audience| rules.audience.contains(audience)) {
                return Err(TokenError::Audience);
            }
        }
        Ok(())
    }

    /// When the token expires, in milliseconds since 1970.
    pub fn expires_ms(&self) -> Option<u64> {
        self.exp.map(milliseconds)
    }

    /// When the token becomes valid, in milliseconds since 1970.
    pub fn valid_from_ms(&self) -> Option<u64> {
        self.nbf.map(milliseconds)
    }
}

fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1_000.0) as u64
}

/// Most patterns in one list of a token.
pub(super) const PATTERNS_MAX: usize = 100;
/// The latest time, in the year 5138. A later one is a mistake, such as milliseconds for seconds.
const SECONDS_MAX: f64 = 100_000_000_000.0;

/// Writes whole seconds without a fraction. RFC 7519, section 2, allows fractions, but many
/// libraries do not accept them.
fn numeric_date<S: Serializer>(seconds: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match seconds {
        Some(seconds) if seconds.fract() == 0.0 => serializer.serialize_i64(*seconds as i64),
        seconds => seconds.serialize(serializer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, rules: &Rules, now_s: u64) -> Result<(), TokenError> {
        Claims::parse(json.as_bytes())?.check(rules, now_s * 1_000)
    }

    #[test]
    fn the_leeway_counts_to_the_millisecond() {
        let rules = Rules { leeway_s: 5, ..Rules::default() };
        let claims = Claims::parse(br#"{"exp":100}"#).expect("claims");
        assert_eq!(claims.check(&rules, 104_999), Ok(()));
        assert_eq!(claims.check(&rules, 105_000), Err(TokenError::Expired));
        let claims = Claims::parse(br#"{"exp":100,"nbf":50.5}"#).expect("claims");
        assert_eq!(claims.check(&rules, 45_500), Ok(()));
        assert_eq!(claims.check(&rules, 45_499), Err(TokenError::NotYetValid));
    }

    #[test]
    fn what_is_configured_is_enforced() {
        let rules = Rules {
            issuer: Some("https://id".into()),
            audience: vec!["hub".into(), "other".into()],
            ..Rules::default()
        };
        let check = |json| check(json, &rules, 0);
        assert_eq!(check(r#"{"exp":9,"iss":"https://id","aud":"hub"}"#), Ok(()));
        assert_eq!(check(r#"{"exp":9,"iss":"https://id","aud":["x","other"]}"#), Ok(()));
        assert_eq!(check(r#"{"exp":9,"aud":"hub"}"#), Err(TokenError::Issuer));
        assert_eq!(check(r#"{"exp":9,"iss":"https://id/","aud":"hub"}"#), Err(TokenError::Issuer));
        assert_eq!(check(r#"{"exp":9,"iss":"https://id"}"#), Err(TokenError::Audience));
        assert_eq!(check(r#"{"exp":9,"iss":"https://id","aud":[]}"#), Err(TokenError::Audience));
        assert_eq!(check(r#"{"iss":"https://id","aud":"hub"}"#), Err(TokenError::NoExpiry));
        let lax = Rules { expiry_required: false, ..Rules::default() };
        assert_eq!(Claims::parse(b"{}").expect("claims").check(&lax, u64::MAX), Ok(()));
    }

    #[test]
    fn claims_that_could_mean_two_things_are_refused() {
        for json in [
            r#"{"exp":1,"exp":2}"#,
            r#"{"sub":"a","sub":"b"}"#,
            r#"{"visnyk":{},"visnyk":{"admin":true}}"#,
            r#"{"visnyk":{"admin":true,"admin":false}}"#,
            r#"{"visnyk":[["**"],["**"],true]}"#,
            r#"{"visnyk":{"publish":"**"}}"#,
            r#"{"visnyk":{"admin":"yes"}}"#,
            r#"{"visnyk":{"only_on":"mondays"}}"#,
            r#"{"exp":"100"}"#,
            r#"{"exp":-1}"#,
            r#"{"exp":1e300}"#,
            r#"{"exp":1700000000000}"#,
            r#"{"sub":7}"#,
            "[]",
            "",
        ] {
            assert!(Claims::parse(json.as_bytes()).is_err(), "{json}");
        }
    }
}
