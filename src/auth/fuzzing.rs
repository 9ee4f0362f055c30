//! Fuzz targets of tokens and permissions.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::Value;

use super::{KeySet, PatternTemplate, Rules, Secret, Verifier, VerifyingKey, contains};
use crate::model::{ChannelName, ChannelPattern};

/// The bytes as a token: it is always refused, since the fuzzer cannot guess the secret. Then the
/// same bytes as the header and the claims, a line each, of a token with a valid signature: it is
/// accepted only if a second reader of its JSON agrees.
pub(crate) fn tokens(data: &[u8]) {
    static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
        let key = VerifyingKey::from_secret(&Secret::new(SECRET), Algorithm::HS256);
        let keys = KeySet::new([key.expect("a secret is a key")]);
        let anonymous = PatternTemplate::parse("open/**").expect("a pattern");
        Verifier::new(Rules::default(), keys, None, vec![anonymous])
    });
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert!(VERIFIER.verify_with_known(text, NOW_MS).is_err());
    let _ = VERIFIER.read_unverified(text);

    let Some((header, claims)) = text.split_once('\n') else { return };
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let sign = |key: &[u8]| {
        let key = EncodingKey::from_secret(key);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
        format!("{message}.{}", signature.expect("HMAC takes any key"))
    };
    for forged in [sign(b""), sign(b"another secret"), format!("{message}.")] {
        assert!(VERIFIER.verify_with_known(&forged, NOW_MS).is_err());
    }
    let Ok(identity) = VERIFIER.verify_with_known(&sign(SECRET.as_bytes()), NOW_MS) else { return };
    let read = |text: &str| serde_json::from_str::<Value>(text).expect("what was taken is JSON");
    let (header, claims) = (read(header), read(claims));
    assert_eq!(header["alg"], "HS256");
    assert!(header.get("crit").is_none() && header.get("b64").is_none());
    let expires_s = claims["exp"].as_f64().expect("it expires");
    assert!(expires_s * 1_000.0 + 5_000.0 > NOW_MS as f64);
    assert_eq!(identity.subject().map(|subject| &**subject), claims["sub"].as_str());
    let granted = &claims["visnyk"];
    assert_eq!(identity.is_admin(), granted["admin"] == true);
    let is_given = |list: &str| granted[list].as_array().is_some_and(|list| !list.is_empty());
    let name = ChannelName::parse("a/b").expect("a name");
    assert!(!identity.may_publish(&name) || is_given("publish"));
    assert!(!identity.may_subscribe(&name) || is_given("subscribe"));
    let own = claims["sub"].as_str().unwrap_or_default();
    for list in ["publish", "subscribe"] {
        for pattern in granted[list].as_array().into_iter().flatten() {
            let pattern = pattern.as_str().expect("a text");
            assert!(!pattern.contains("{sub}") || !own.contains(['/', '*']), "{own}");
        }
    }
}

/// Whether one pattern contains another, against all names of up to seven segments over three
/// letters. Bytes choose the segments; the first says how many belong to the first pattern.
pub(crate) fn containment(data: &[u8]) {
    let Some((&split, segments)) = data.split_first() else { return };
    if segments.len() < 2 || segments.len() > 6 {
        return;
    }
    let words: Vec<&str> =
        segments.iter().map(|byte| ["a", "b", "*", "**"][usize::from(byte % 4)]).collect();
    let (granted, requested) = words.split_at(1 + usize::from(split) % (words.len() - 1));
    let pattern = |words: &[&str]| ChannelPattern::parse(&words.join("/")).expect("a pattern");
    let (wide, narrow) = (pattern(granted), pattern(requested));
    let expected = NAMES.iter().all(|name| !narrow.matches(name) || wide.matches(name));
    assert_eq!(contains(&wide, &narrow), expected, "{wide} holds {narrow}");
}

static NAMES: LazyLock<Vec<ChannelName>> = LazyLock::new(|| {
    let mut names = vec![String::new()];
    let mut from = 0;
    for _ in 0..6 {
        let to = names.len();
        for at in from..to {
            let longer = ["a/", "b/", "c/"].map(|segment| names[at].clone() + segment);
            names.extend(longer);
        }
        from = to;
    }
    let parse = |name: &String| ChannelName::parse(name.trim_end_matches('/')).expect("a name");
    names[1..].iter().map(parse).collect()
});

const SECRET: &str = "a secret that no input of a fuzzer holds";
const NOW_MS: u64 = 1_700_000_000_000;
