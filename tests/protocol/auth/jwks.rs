//! Keys from an issuer: had, exchanged, out of reach, and asked for at a bounded rate.

use std::time::{Duration, Instant};

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use visnyk_loadtest::{Hub, HubCommand};

use super::{
    SECRET, ask_with,
    authority::Authority,
    issuer::Issuer,
    refused,
    tokens::{Pair, claims, encode, signed},
    wire::{self, Answer, request},
};

const POLL: &str = "/v1/channels/a/poll?timeout=0";

fn grants() -> Value {
    json!({"visnyk": {"subscribe": ["a"]}})
}

/// A hub with the issuer's keys; unknown ones are asked for again after a second.
async fn hub(issuer: &Issuer) -> Hub {
    wire::hub(&[("auth.jwks_url", &issuer.url()), ("auth.jwks_refresh_min_s", "1")]).await
}

async fn poll(hub: &Hub, token: &str) -> Answer {
    ask_with(hub, token, "GET", POLL, "").await
}

/// Polls when the hub is about to have the issuer's keys, or has them: a token waits for the answer
/// that is on its way.
async fn polls(hub: &Hub, issuer: &Issuer, token: &str) {
    if issuer.asked() == 0 {
        issuer.is_asked_again(1).await;
    }
    let answer = poll(hub, token).await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

#[tokio::test]
async fn keys_are_fetched_and_exchanged() {
    let (old, new) = (Pair::new(Algorithm::ES256), Pair::new(Algorithm::EdDSA));
    let issuer = Issuer::start(&[old.jwk("old")]).await;
    let hub = hub(&issuer).await;
    polls(&hub, &issuer, &old.token(Some("old"), grants())).await;
    refused(&poll(&hub, &new.token(Some("old"), grants())).await, "algorithm");
    // The issuer has a new key: a token with its name makes the hub ask, when it may ask again.
    issuer.publishes(&[new.jwk("new")]);
    let (asked, token) = (issuer.asked(), new.token(Some("new"), grants()));
    let deadline = Instant::now() + wire::PATIENCE;
    let answer = loop {
        let answer = poll(&hub, &token).await;
        if issuer.asked() > asked {
            break answer;
        }
        refused(&answer, "unknown_key");
        assert!(Instant::now() < deadline, "it is not asked again");
    };
    assert_eq!(answer.status, 204, "{answer:?}");
    refused(&poll(&hub, &old.token(Some("old"), grants())).await, "unknown_key");
}

#[tokio::test]
async fn a_key_replaced_under_its_name_is_fetched_at_a_bounded_rate() {
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA] {
        let (old, new) = (Pair::new(algorithm), Pair::new(algorithm));
        let issuer = Issuer::start(&[old.jwk("k")]).await;
        let hub = hub(&issuer).await;
        polls(&hub, &issuer, &old.token(Some("k"), grants())).await;
        issuer.publishes(&[new.jwk("k")]);
        // A signature that the known key did not make is a reason to ask again, once a second.
        let (asked, begun) = (issuer.asked(), Instant::now());
        let token = new.token(Some("k"), grants());
        let answer = loop {
            let answer = poll(&hub, &token).await;
            if issuer.asked() > asked {
                break answer;
            }
            refused(&answer, "signature");
            assert!(begun.elapsed() < wire::PATIENCE, "it is not asked again");
        };
        assert_eq!(answer.status, 204, "{answer:?}");
        let (asked, begun) = (issuer.asked(), Instant::now());
        while begun.elapsed() < Duration::from_secs(2) {
            refused(&poll(&hub, &old.token(Some("k"), grants())).await, "signature");
        }
        assert_eq!(poll(&hub, &token).await.status, 204);
        let (asked, seconds) = (issuer.asked() - asked, begun.elapsed().as_secs() as usize);
        assert!(asked <= seconds + 1, "{asked} times in {seconds} s");
    }
}

#[tokio::test]
async fn unknown_keys_are_asked_for_at_a_bounded_rate() {
    let pair = Pair::new(Algorithm::EdDSA);
    let issuer = Issuer::start(&[pair.jwk("k")]).await;
    let settings = [("auth.jwks_url", &*issuer.url()), ("auth.jwks_refresh_min_s", "300")];
    let hub = wire::hub(&settings).await;
    polls(&hub, &issuer, &pair.token(Some("k"), grants())).await;
    let asked = issuer.asked();
    let shown = (0..50).map(|n| {
        let token = pair.token(Some(&format!("unknown-{n}")), grants());
        let hub = &hub;
        async move { poll(hub, &token).await }
    });
    for shown in shown {
        refused(&shown.await, "unknown_key");
    }
    assert_eq!(issuer.asked(), asked, "the first refresh was less than 300 s ago");
    assert_eq!(poll(&hub, &pair.token(Some("k"), grants())).await.status, 204);
}

#[tokio::test]
async fn an_issuer_that_is_out_of_order_is_asked_no_more_often() {
    let pair = Pair::new(Algorithm::EdDSA);
    let (known, outage) = (pair.token(Some("k"), grants()), "503 Service Unavailable");
    // Out of order from the first: there are no keys, and each request asks for them.
    let issuer = Issuer::start(&[]).await;
    issuer.answers(outage, "");
    let settings = [("auth.jwks_url", &*issuer.url()), ("auth.jwks_refresh_min_s", "300")];
    let hub = wire::hub(&settings).await;
    if issuer.asked() == 0 {
        issuer.is_asked_again(1).await;
    }
    for status in all_at_once(&hub, &pair, 20).await {
        assert_eq!(status, 503);
    }
    assert_eq!(poll(&hub, &known).await.status, 503);
    assert_eq!(issuer.asked(), 1, "the first attempt was less than 300 s ago");
    // Out of order later: what was had is kept, and what is unknown is asked for once a second.
    let issuer = Issuer::start(&[pair.jwk("k")]).await;
    let hub = self::hub(&issuer).await;
    polls(&hub, &issuer, &known).await;
    issuer.answers(outage, "");
    let (asked, begun) = (issuer.asked(), Instant::now());
    while begun.elapsed() < Duration::from_secs(3) {
        for status in all_at_once(&hub, &pair, 20).await {
            assert_eq!(status, 401);
        }
        assert_eq!(poll(&hub, &known).await.status, 204);
    }
    let (asked, seconds) = (issuer.asked() - asked, begun.elapsed().as_secs() as usize);
    // One for each second that has begun; the first is that of the last attempt before.
    assert!((1..=seconds + 1).contains(&asked), "{asked} times in {seconds} s");
}

/// Shows so many tokens with unknown keys at once.
async fn all_at_once(hub: &Hub, pair: &Pair, count: usize) -> Vec<u16> {
    let mut polls = JoinSet::new();
    for number in 0..count {
        let authorization =
            super::bearer(&pair.token(Some(&format!("unknown-{number}")), grants()));
        let mut wire = wire::Wire::to(hub).await;
        polls.spawn(async move {
            wire.send(request("GET", POLL, &[("Authorization", &authorization)], "")).await;
            wire.answer().await.status
        });
    }
    polls.join_all().await
}

#[tokio::test]
async fn keys_outlast_their_issuer() {
    let pair = Pair::new(Algorithm::PS256);
    let issuer = Issuer::start(&[pair.jwk("k")]).await;
    let settings = [
        ("auth.jwks_url", &*issuer.url()),
        ("auth.jwks_refresh_min_s", "1"),
        ("auth.jwks_refresh_s", "1"),
    ];
    let hub = wire::hub(&settings).await;
    polls(&hub, &issuer, &pair.token(Some("k"), grants())).await;
    for (status, body) in [
        ("500 Internal Server Error", "{}"),
        ("200 OK", "<html>"),
        ("200 OK", "{\"keys\":[{\"kty\":\"oct\"}]}"),
        ("200 OK", &*format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(300_000))),
        // A set elsewhere is not looked at.
        ("302 Found\r\nLocation: http://127.0.0.1:1/", ""),
    ] {
        issuer.answers(status, body);
        issuer.is_asked_again(2).await;
        assert_eq!(poll(&hub, &pair.token(Some("k"), grants())).await.status, 204, "{status}");
    }
    issuer.goes_away().await;
    refused(&poll(&hub, &pair.token(Some("other"), grants())).await, "unknown_key");
    assert_eq!(poll(&hub, &pair.token(Some("k"), grants())).await.status, 204);
}

#[tokio::test]
async fn an_issuer_may_withdraw_its_last_key() {
    let pair = Pair::new(Algorithm::EdDSA);
    let issuer = Issuer::start(&[pair.jwk("k")]).await;
    let settings = [
        ("auth.jwks_url", &*issuer.url()),
        ("auth.jwks_refresh_min_s", "1"),
        ("auth.jwks_refresh_s", "1"),
    ];
    let mut hub = wire::hub(&settings).await;
    let token = pair.token(Some("k"), grants());
    polls(&hub, &issuer, &token).await;
    issuer.publishes(&[]);
    issuer.is_asked_again(2).await;
    refused(&poll(&hub, &token).await, "unknown_key");
    hub.wait_for_line("the issuer has no keys", wire::PATIENCE).await.unwrap();
    // None of its keys is what it says then, and not what could not be had.
    issuer.publishes(&[pair.jwk("k")]);
    issuer.is_asked_again(2).await;
    assert_eq!(poll(&hub, &token).await.status, 204);
}

#[tokio::test]
async fn without_keys_yet_tokens_are_refused_for_the_time_being() {
    let pair = Pair::new(Algorithm::EdDSA);
    let issuer = Issuer::start(&[]).await;
    issuer.answers("503 Service Unavailable", "");
    let hub = hub(&issuer).await;
    let token = pair.token(Some("k"), grants());
    let answer = poll(&hub, &token).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.has("retry-after"), "{answer:?}");
    let publish = ask_with(&hub, &token, "POST", "/v1/channels/a/events", "x").await;
    assert_eq!(publish.status, 503, "{publish:?}");
    // An EventSource would give up on that, so it gets a reconnection time.
    let authorization = super::bearer(&token);
    let fields = [("Authorization", &*authorization), ("Accept", "text/event-stream")];
    let stream = wire::ask(&hub, request("GET", "/v1/channels/a/events", &fields, "")).await;
    assert_eq!(stream.status, 200, "{stream:?}");
    assert!(stream.text().starts_with(": refused") && stream.text().contains("\nretry: "));
    issuer.publishes(&[pair.jwk("k")]);
    issuer.is_asked_again(1).await;
    polls(&hub, &issuer, &token).await;
}

#[tokio::test]
async fn a_key_set_gives_no_secret_away() {
    let pair = Pair::new(Algorithm::RS256);
    let secret = json!({"kty": "oct", "alg": "HS256", "kid": "s", "k": encode(SECRET)});
    let issuer = Issuer::start(&[secret, pair.jwk("k")]).await;
    let hub = hub(&issuer).await;
    polls(&hub, &issuer, &pair.token(Some("k"), grants())).await;
    let by_secret =
        signed(&json!({"alg": "HS256", "kid": "s"}), &claims(grants()).to_string(), SECRET);
    refused(&poll(&hub, &by_secret).await, "unknown_key");
    // The name of a public key, with its bytes as a secret.
    let header = json!({"alg": "HS256", "kid": "k"});
    let forged = signed(&header, &claims(grants()).to_string(), &pair.public_pem);
    refused(&poll(&hub, &forged).await, "algorithm");
}

#[tokio::test]
async fn an_issuer_is_asked_over_tls_and_only_if_its_certificate_is_trusted() {
    let pair = Pair::new(Algorithm::ES256);
    let (trusted, other) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().unwrap();
    let roots = directory.path().join("roots.pem");
    std::fs::write(&roots, trusted.pem()).unwrap();
    for (authority, name, is_good) in [
        (&trusted, "localhost", true),
        (&trusted, "id.example", false),
        (&other, "localhost", false),
    ] {
        let issuer = Issuer::start_tls(&[pair.jwk("k")], authority, name).await;
        let mut hub = HubCommand::new(env!("CARGO_BIN_EXE_visnyk"))
            .directory(directory.path())
            .env("SSL_CERT_FILE", &roots)
            .env("VISNYK_AUTH__JWKS_URL", issuer.url())
            .start()
            .await
            .unwrap();
        if is_good {
            polls(&hub, &issuer, &pair.token(Some("k"), grants())).await;
            continue;
        }
        hub.wait_for_line("the issuer's keys could not be fetched", wire::PATIENCE).await.unwrap();
        let answer = poll(&hub, &pair.token(Some("k"), grants())).await;
        assert_eq!(answer.status, 503, "{name}: {answer:?}");
        assert_eq!(issuer.asked(), 0, "it received nothing");
    }
}

#[tokio::test]
async fn a_key_set_may_be_a_file() {
    let pair = Pair::new(Algorithm::ES384);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    std::fs::write(&path, json!({"keys": [pair.jwk("k")]}).to_string()).unwrap();
    let hub = wire::hub(&[("auth.jwks_file", path.to_str().unwrap())]).await;
    assert_eq!(poll(&hub, &pair.token(Some("k"), grants())).await.status, 204);
    assert_eq!(poll(&hub, &pair.token(None, grants())).await.status, 204);
    refused(&poll(&hub, &pair.token(Some("../k"), grants())).await, "unknown_key");
}
