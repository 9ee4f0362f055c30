//! Forged and confused tokens.

use serde_json::json;

use super::{
    SECRET, ask_with, hub, refused,
    tokens::{claims, encode, now_s, signed, token},
    wire::{self, ask, get, metric},
};

const POLL: &str = "/v1/channels/a/poll?timeout=0";

#[tokio::test]
async fn forged_tokens_are_refused_with_their_reason() {
    let hub = hub(&[]).await;
    let all = claims(json!({"sub": "ann", "visnyk": {"subscribe": ["**"], "admin": true}}));
    let good = all.to_string();
    let unsigned =
        |alg: &str| format!("{}.{}.", encode(&json!({"alg": alg}).to_string()), encode(&good));
    let cut = |token: String| token.rsplit_once('.').unwrap().0.to_owned() + ".";
    let head = |more: serde_json::Value| {
        let mut header = json!({"alg": "HS256"});
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        header
    };
    let other = "another-secret-of-the-same-length-37!";
    let expired = json!({"exp": now_s() - 6, "visnyk": {"subscribe": ["**"]}}).to_string();
    let future = json!({"exp": now_s() + 99, "nbf": now_s() + 60}).to_string();
    let twice = format!(r#"{{"exp":{0},"exp":{0},"visnyk":{{"subscribe":["**"]}}}}"#, now_s() + 60);
    let stars = claims(json!({"sub": "**", "visnyk": {"subscribe": ["users/{sub}"]}})).to_string();
    let plain = json!({"alg": "HS256"});
    let own = json!({"kty": "oct", "alg": "HS256", "k": encode(other)});
    for (what, token, reason) in [
        ("another secret", signed(&plain, &good, other), "signature"),
        ("no signature", cut(signed(&plain, &good, SECRET)), "signature"),
        ("none", unsigned("none"), "algorithm"),
        ("nOnE", unsigned("nOnE"), "algorithm"),
        ("another hash", signed(&json!({"alg": "HS512"}), &good, SECRET), "algorithm"),
        ("RS256", signed(&json!({"alg": "RS256"}), &good, SECRET), "algorithm"),
        ("its own jwk", signed(&head(json!({"jwk": own})), &good, other), "signature"),
        (
            "its own jku",
            signed(&head(json!({"jku": "http://127.0.0.1:9/keys"})), &good, other),
            "signature",
        ),
        (
            "its own x5u",
            signed(&head(json!({"x5u": "http://127.0.0.1:9/keys"})), &good, other),
            "signature",
        ),
        (
            "kid as a path",
            signed(&head(json!({"kid": "../../../../dev/null"})), &good, ""),
            "signature",
        ),
        ("kid as SQL", signed(&head(json!({"kid": "' UNION SELECT 'x"})), &good, "x"), "signature"),
        ("kid not a text", signed(&head(json!({"kid": 7})), &good, SECRET), "malformed"),
        ("critical", signed(&head(json!({"crit": ["b64"]})), &good, SECRET), "critical"),
        ("not encoded", signed(&head(json!({"b64": false})), &good, SECRET), "critical"),
        ("expired", signed(&plain, &expired, SECRET), "expired"),
        ("not yet", signed(&plain, &future, SECRET), "not_yet_valid"),
        ("for ever", signed(&plain, "{}", SECRET), "no_expiry"),
        ("a claim twice", signed(&plain, &twice, SECRET), "malformed"),
        ("claims in an array", signed(&plain, "[]", SECRET), "malformed"),
        ("stars for a subject", signed(&plain, &stars, SECRET), "pattern"),
        ("three words", "a.b.c".to_owned(), "malformed"),
        ("too long", "x".repeat(8_193), "too_long"),
        ("five parts", format!("{}.a.b", signed(&plain, &good, SECRET)), "malformed"),
    ] {
        let answer = ask_with(&hub, &token, "GET", POLL, "").await;
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        assert_eq!(answer.problem()["reason"], reason, "{what}");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!text.contains(&token), "{what}: {text}");
    }
    assert_eq!(metric(&hub, "visnyk_tokens_refused_total{reason=\"expired\"}").await, 1);
    // The same claims with the right secret are good.
    let answer = ask_with(&hub, &signed(&plain, &good, SECRET), "GET", POLL, "").await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

#[tokio::test]
async fn a_bit_changed_anywhere_spoils_a_token() {
    let hub = hub(&[]).await;
    let good = token(json!({"visnyk": {"subscribe": ["**"]}}));
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let bad = String::from_utf8(bytes).unwrap();
        let answer = ask_with(&hub, &bad, "GET", POLL, "").await;
        assert_eq!(answer.status, 401, "at {at}: {answer:?}");
    }
}

#[tokio::test]
async fn what_settings_ask_for_is_enforced() {
    let settings = [("auth.issuer", "https://id.example"), ("auth.audience", "hub,spare")];
    let hub = hub(&settings).await;
    let check = async |more: serde_json::Value| {
        let mut claims =
            json!({"iss": "https://id.example", "aud": "hub", "visnyk": {"subscribe": ["a"]}});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ask_with(&hub, &token(claims), "GET", POLL, "").await
    };
    assert_eq!(check(json!({})).await.status, 204);
    assert_eq!(check(json!({"aud": ["x", "spare"]})).await.status, 204);
    refused(&check(json!({"iss": "https://id.example/"})).await, "issuer");
    refused(&check(json!({"iss": null})).await, "issuer");
    refused(&check(json!({"aud": "other"})).await, "audience");
    refused(&check(json!({"aud": null})).await, "audience");
}

#[tokio::test]
async fn the_leeway_is_a_setting() {
    let lax = hub(&[("auth.leeway_s", "30"), ("auth.expiry_required", "false")]).await;
    let plain = json!({"alg": "HS256"});
    let late = json!({"exp": now_s() - 20, "visnyk": {"subscribe": ["a"]}}).to_string();
    let late = ask_with(&lax, &signed(&plain, &late, SECRET), "GET", POLL, "").await;
    assert_eq!(late.status, 204, "{late:?}");
    let lasting = json!({"visnyk": {"subscribe": ["a"]}}).to_string();
    let lasting = ask_with(&lax, &signed(&plain, &lasting, SECRET), "GET", POLL, "").await;
    assert_eq!(lasting.status, 204, "{lasting:?}");
    let strict = hub(&[("auth.leeway_s", "0")]).await;
    let late = json!({"exp": now_s() - 1, "visnyk": {"subscribe": ["a"]}}).to_string();
    refused(&ask_with(&strict, &signed(&plain, &late, SECRET), "GET", POLL, "").await, "expired");
}

#[tokio::test]
async fn a_hub_without_a_key_has_no_authentication() {
    let hub = wire::hub(&[]).await;
    for token in ["not.a.token", "x"] {
        assert_eq!(ask_with(&hub, token, "GET", POLL, "").await.status, 204);
    }
    assert_eq!(ask(&hub, get(&format!("{POLL}&token=x"))).await.status, 204);
}
