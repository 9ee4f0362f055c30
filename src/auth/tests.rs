//! Valid, forged, and malformed tokens, against a verifier.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

use super::*;

const NOW_MS: u64 = 1_700_000_000_000;
const NOW_S: u64 = NOW_MS / 1_000;

fn secret() -> Secret {
    Secret::new("an HMAC secret of this test alone, 40 by")
}

fn verifier(keys: impl IntoIterator<Item = VerifyingKey>) -> Verifier {
    Verifier::new(Rules::default(), KeySet::new(keys), None, Vec::new())
}

fn hs256() -> Verifier {
    verifier([VerifyingKey::from_secret(&secret(), Algorithm::HS256).expect("a key")])
}

/// A token with any header and claims, signed as HS256 with any bytes.
fn forge(header: &Value, claims: &str, key: &[u8]) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", encode(&header.to_string()), encode(claims));
    let key = EncodingKey::from_secret(key);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    format!("{message}.{}", signature.expect("a signature"))
}

fn good(claims: &Value) -> String {
    forge(&json!({"alg": "HS256", "typ": "JWT"}), &claims.to_string(), secret().expose())
}

fn lasting(extra: Value) -> Value {
    let mut claims = json!({"exp": NOW_S + 60});
    claims.as_object_mut().expect("one").extend(extra.as_object().expect("one").clone());
    claims
}

#[test]
fn a_minted_token_says_who_and_what() {
    let claims = Claims {
        sub: Some("ann".into()),
        exp: Some(NOW_S as f64 + 60.0),
        visnyk: Some(GrantClaims {
            publish: vec!["users/{sub}/out".into()],
            subscribe: vec!["users/{sub}/**".into(), "news".into()],
            admin: false,
        }),
        ..Claims::default()
    };
    let token = mint(&claims, &secret(), Algorithm::HS256).expect("a token");
    let identity = hs256().verify_with_known(&token, NOW_MS).expect("good");
    let name = |text| crate::model::ChannelName::parse(text).expect("a name");
    assert_eq!(identity.subject().map(|subject| &**subject), Some("ann"));
    assert_eq!(identity.expires_ms(), Some(NOW_MS + 60_000));
    assert!(identity.may_publish(&name("users/ann/out")));
    assert!(!identity.may_publish(&name("users/bob/out")));
    assert!(identity.may_subscribe(&name("users/ann/x/y")));
    assert!(identity.may_subscribe(&name("news")));
    assert!(!identity.may_subscribe(&name("users/bob")));
    assert!(!identity.is_admin());
}

#[test]
fn a_token_without_grants_may_do_nothing() {
    let identity = hs256().verify_with_known(&good(&lasting(json!({}))), NOW_MS).expect("good");
    let name = crate::model::ChannelName::parse("a").expect("a name");
    assert!(!identity.may_publish(&name) && !identity.may_subscribe(&name));
    assert!(!identity.is_admin() && !identity.is_unrestricted());
}

#[test]
fn forged_tokens_are_refused() {
    let claims = lasting(json!({"visnyk": {"admin": true}})).to_string();
    let key = secret();
    let key = key.expose();
    let header = |extra: Value| {
        let mut header = json!({"alg": "HS256"});
        header.as_object_mut().expect("one").extend(extra.as_object().expect("one").clone());
        header
    };
    let own = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode("mine")});
    let stripped = {
        let token = forge(&header(json!({})), &claims, key);
        token.rsplit_once('.').expect("parts").0.to_owned() + "."
    };
    let unsigned = |algorithm: &str| {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.", encode(&json!({"alg": algorithm}).to_string()), encode(&claims))
    };
    for (what, token, expected) in [
        ("another key", forge(&header(json!({})), &claims, b"mine"), TokenError::Signature),
        ("no signature", stripped, TokenError::Signature),
        ("none", unsigned("none"), TokenError::Algorithm),
        ("None", unsigned("None"), TokenError::Algorithm),
        ("NONE", unsigned("NONE"), TokenError::Algorithm),
        ("empty algorithm", unsigned(""), TokenError::Algorithm),
        (
            "its own key",
            forge(&header(json!({"jwk": own})), &claims, b"mine"),
            TokenError::Signature,
        ),
        (
            "a key elsewhere",
            forge(&header(json!({"jku": "http://127.0.0.1:1/"})), &claims, b"mine"),
            TokenError::Signature,
        ),
        ("critical", forge(&header(json!({"crit": ["exp"]})), &claims, key), TokenError::Critical),
        (
            "critical null",
            forge(&header(json!({"crit": null})), &claims, key),
            TokenError::Critical,
        ),
        ("not encoded", forge(&header(json!({"b64": false})), &claims, key), TokenError::Critical),
        ("another hash", forge(&json!({"alg": "HS512"}), &claims, key), TokenError::Algorithm),
    ] {
        assert_eq!(hs256().verify_with_known(&token, NOW_MS), Err(expected), "{what}");
    }
}

#[test]
fn malformed_tokens_are_refused() {
    let token = good(&lasting(json!({})));
    let cut = &token[..token.len() - 1];
    for bad in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "a.b",
        &format!("{token}.x"),
        &format!("{token}="),
        &token.replace('.', " ."),
        &token.replacen('.', "..", 1),
        cut,
    ] {
        assert!(hs256().verify_with_known(bad, NOW_MS).is_err(), "{bad}");
    }
    for header in [r#"{"alg":"HS256","alg":"none"}"#, r#"{"alg":7}"#, r#"["HS256"]"#, "{}"] {
        let raw: Box<serde_json::value::RawValue> =
            serde_json::from_str(header).expect("JSON of a kind");
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let bad = format!("{}.{}.", encode(raw.get()), encode("{}"));
        let refused = hs256().verify_with_known(&bad, NOW_MS);
        assert!(matches!(refused, Err(TokenError::Malformed(_))), "{header}: {refused:?}");
    }
}

#[test]
fn the_length_is_bounded_before_anything_is_decoded() {
    let long = "x".repeat(8_193);
    let refused = hs256().verify_with_known(&long, NOW_MS);
    assert_eq!(refused, Err(TokenError::TooLong { bytes_max: 8_192 }));
    let refused = hs256().verify_with_known(&long[1..], NOW_MS);
    assert!(matches!(refused, Err(TokenError::Malformed(_))));
}

#[test]
fn times_are_checked_after_the_signature() {
    let check = |claims: Value| hs256().verify_with_known(&good(&claims), NOW_MS).err();
    assert_eq!(check(json!({"exp": NOW_S - 4})), None);
    assert_eq!(check(json!({"exp": NOW_S - 5})), Some(TokenError::Expired));
    assert_eq!(check(json!({"exp": NOW_S + 9, "nbf": NOW_S + 5})), None);
    assert_eq!(check(json!({"exp": NOW_S + 9, "nbf": NOW_S + 6})), Some(TokenError::NotYetValid));
    assert_eq!(check(json!({})), Some(TokenError::NoExpiry));
    let forged = forge(&json!({"alg": "HS256"}), r#"{"exp":1}"#, b"another");
    assert_eq!(hs256().verify_with_known(&forged, NOW_MS), Err(TokenError::Signature));
}

#[test]
fn claims_that_come_twice_are_refused() {
    let header = json!({"alg": "HS256"});
    let claims = format!(r#"{{"exp":{0},"exp":{0}}}"#, NOW_S + 60);
    let refused = hs256().verify_with_known(&forge(&header, &claims, secret().expose()), NOW_MS);
    assert!(matches!(refused, Err(TokenError::Malformed(_))), "{refused:?}");
}

#[test]
fn a_subject_that_is_no_segment_fits_no_template() {
    for subject in ["**", "*", "a/b", "..", "", "a\u{7}b"] {
        let claims = lasting(json!({
            "sub": subject, "visnyk": {"subscribe": ["users/{sub}/**"]}
        }));
        let refused = hs256().verify_with_known(&good(&claims), NOW_MS);
        let expected = TokenError::Pattern(TemplateError::BadSubject);
        assert_eq!(refused, Err(expected), "{subject:?}");
        // Without a template `{sub}` is only a name.
        let claims = lasting(json!({"sub": subject, "visnyk": {"subscribe": ["news"]}}));
        assert!(hs256().verify_with_known(&good(&claims), NOW_MS).is_ok(), "{subject:?}");
    }
}

#[test]
fn scopes_of_subjects_never_meet() {
    let scope = |claims: Value| {
        hs256().verify_with_known(&good(&lasting(claims)), NOW_MS).expect("good").scope()
    };
    let scopes = [
        scope(json!({"sub": "a"})),
        scope(json!({"sub": "a /v1"})),
        scope(json!({"sub": "1:a"})),
        scope(json!({"sub": ""})),
        scope(json!({})),
        Identity::anonymous(Vec::new()).scope(),
    ];
    let distinct: std::collections::BTreeSet<_> = scopes.iter().collect();
    assert_eq!(distinct.len(), scopes.len(), "{scopes:?}");
}

#[test]
fn a_set_of_keys_holds_no_secret_and_no_key_for_other_uses() {
    let oct = json!({"kty": "oct", "kid": "a", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode("k")});
    let set = |keys: Value| KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes());
    assert_eq!(set(json!([oct])).err(), Some(KeyError::NoKey));
    let ed = json!({
        "kty": "OKP", "crv": "Ed25519", "kid": "b",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    });
    let keys = set(json!([oct, {"kty": "new"}, 7, ed])).expect("one key");
    assert_eq!(keys.len(), 1);
    for (member, value) in [
        ("use", json!("enc")),
        ("key_ops", json!(["sign"])),
        ("alg", json!("HS256")),
        ("alg", json!("RS256")),
        ("alg", json!("RSA-OAEP")),
        ("crv", json!("P-256")),
    ] {
        let mut other = ed.clone();
        other[member] = value;
        assert_eq!(set(json!([other])).err(), Some(KeyError::NoKey), "{member}");
    }
    assert_eq!(KeySet::from_jwks(b"{}").err(), Some(KeyError::KeySet));
    // A set that lists no keys is valid.
    assert!(set(json!([])).expect("a set").is_empty());
    // If there are more keys than the bound, the first ones count.
    let many: Vec<Value> = (0..40).map(|_| ed.clone()).collect();
    assert_eq!(set(json!(many)).expect("keys").len(), KEYS_MAX);
}

#[test]
fn an_unknown_key_is_told_from_a_bad_signature() {
    let ed = json!({"keys": [{
        "kty": "OKP", "crv": "Ed25519", "kid": "b",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    }]});
    let keys = KeySet::from_jwks(ed.to_string().as_bytes()).expect("keys");
    let verifier = Verifier::new(Rules::default(), keys, None, Vec::new());
    let claims = lasting(json!({})).to_string();
    for (kid, algorithm, expected) in [
        ("c", "EdDSA", TokenError::UnknownKey),
        ("../../etc/passwd", "EdDSA", TokenError::UnknownKey),
        ("b", "EdDSA", TokenError::Signature),
        // The public key's own bytes as a secret.
        ("b", "HS256", TokenError::Algorithm),
        ("b", "ES256", TokenError::Algorithm),
    ] {
        let token = forge(&json!({"alg": algorithm, "kid": kid}), &claims, b"any");
        assert_eq!(verifier.verify_with_known(&token, NOW_MS), Err(expected), "{kid} {algorithm}");
    }
}
