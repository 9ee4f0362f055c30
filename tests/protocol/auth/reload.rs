//! Keys that come and go while the hub runs, by a reload of its settings.

use std::{fs, time::Instant};

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tempfile::TempDir;
use visnyk_loadtest::{Hub, HubCommand};

use super::{
    SECRET, admin_of, ask_with, forbidden,
    issuer::Issuer,
    refused,
    tokens::{Pair, admin, grant},
    wire::{PATIENCE, Wire, ask, request},
};

const POLL: &str = "/v1/channels/a/poll?timeout=0";
const RELOAD: &str = "/v1/reload";

struct KeyHub {
    hub: Hub,
    directory: TempDir,
}

impl KeyHub {
    /// A hub with the tests' secret and more settings.
    async fn start(toml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let command = HubCommand::new(env!("CARGO_BIN_EXE_visnyk")).directory(directory.path());
        fs::write(directory.path().join("visnyk.toml"), with_secret(SECRET, toml)).unwrap();
        Self { hub: command.start().await.unwrap(), directory }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).unwrap();
    }

    /// Reloads with an admin token, and gives what has changed.
    async fn reload(&self, token: &str, toml: &str) -> Value {
        self.write("visnyk.toml", toml);
        let answer = ask_with(&self.hub, token, "POST", RELOAD, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["changed"].clone()
    }

    /// Polls until the keys of an issuer are there.
    async fn polls(&self, token: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.poll(token).await.status != 204 {
            assert!(Instant::now() < deadline, "{}", self.hub.stderr());
        }
    }

    async fn poll(&self, token: &str) -> super::Answer {
        ask_with(&self.hub, token, "GET", POLL, "").await
    }
}

fn with_secret(secret: &str, toml: &str) -> String {
    format!("jwt_secret = '{secret}'\n{toml}")
}

fn claims() -> Value {
    json!({"sub": "ann", "visnyk": {"subscribe": ["a"], "publish": ["a"]}})
}

#[tokio::test]
async fn a_reload_needs_admin() {
    let hub = KeyHub::start("").await;
    assert_eq!(ask(&hub.hub, request("POST", RELOAD, &[], "")).await.status, 401);
    forbidden(&ask_with(&hub.hub, &grant("ann", &["**"], &["**"]), "POST", RELOAD, "").await);
    assert_eq!(ask_with(&hub.hub, &admin(), "POST", RELOAD, "").await.status, 200);
}

#[tokio::test]
async fn a_key_comes_and_goes_and_streams_of_its_tokens_stay_until_these_expire() {
    let hub = KeyHub::start("").await;
    let pair = Pair::new(Algorithm::ES256);
    let (token, file) = (pair.token(None, claims()), "auth.public_key_files = 'ES256:key.pem'");
    refused(&hub.poll(&token).await, "algorithm");
    hub.write("key.pem", &pair.public_pem);
    let with_key = with_secret(SECRET, file);
    assert_eq!(hub.reload(&admin(), &with_key).await, json!(["auth.public_key_files"]));
    assert_eq!(hub.poll(&token).await.status, 204);

    let mut stream = Wire::to(&hub.hub).await;
    stream.send(super::with(&token, "GET", "/v1/channels/a/events", "")).await;
    stream.stream_head().await;
    // The same file with another key: nothing differs in the settings.
    let other = Pair::new(Algorithm::ES256);
    hub.write("key.pem", &other.public_pem);
    assert_eq!(hub.reload(&admin(), &with_key).await, json!([]));
    refused(&hub.poll(&token).await, "signature");
    assert_eq!(hub.poll(&other.token(None, claims())).await.status, 204);
    // A file without a key, and a missing one, change nothing.
    for bad in [Some("no key"), None] {
        match bad {
            Some(text) => hub.write("key.pem", text),
            None => fs::remove_file(hub.directory.path().join("key.pem")).unwrap(),
        }
        let answer = ask_with(&hub.hub, &admin(), "POST", RELOAD, "").await;
        assert_eq!(answer.status, 422, "{answer:?}");
        assert!(answer.text().contains("auth.public_key_files: key.pem cannot be "), "{answer:?}");
        assert_eq!(hub.poll(&other.token(None, claims())).await.status, 204);
    }
    assert_eq!(
        hub.reload(&admin(), &with_secret(SECRET, "")).await,
        json!(["auth.public_key_files"])
    );
    refused(&hub.poll(&token).await, "algorithm");
    // Its stream is there, and receives.
    let publisher = grant("bob", &[], &["a"]);
    let published = ask_with(&hub.hub, &publisher, "POST", "/v1/channels/a/events", "x").await;
    assert_eq!(published.status, 201, "{published:?}");
    assert!(stream.block().await.starts_with("data: x\n"));
}

#[tokio::test]
async fn a_secret_is_exchanged_and_a_stream_ends_with_its_token_of_the_old_one() {
    let hub = KeyHub::start("").await;
    let lasting = super::tokens::signed_claims(
        &json!({"sub": "ann", "exp": super::tokens::now_s() + 3, "visnyk": {"subscribe": ["a"]}}),
    );
    let mut stream = Wire::to(&hub.hub).await;
    stream.send(super::with(&lasting, "GET", "/v1/channels/a/events", "")).await;
    stream.stream_head().await;
    let new = "another-secret-of-these-tests-and-of-no-hub";
    assert_eq!(hub.reload(&admin(), &with_secret(new, "")).await, json!(["jwt_secret"]));
    refused(&ask_with(&hub.hub, &admin(), "POST", RELOAD, "").await, "signature");
    // A token of the new one is good for the next reload.
    assert_eq!(hub.reload(&admin_of(new), &with_secret(new, "")).await, json!([]));
    assert!(stream.block().await.contains("visnyk.token_expired"));
}

#[tokio::test]
async fn authentication_is_not_turned_off_by_a_reload() {
    let hub = KeyHub::start("").await;
    hub.write("visnyk.toml", "");
    let answer = ask_with(&hub.hub, &admin(), "POST", RELOAD, "").await;
    assert_eq!(answer.json(), json!({"changed": [], "needs_restart": ["jwt_secret"]}));
    assert_eq!(ask(&hub.hub, request("GET", POLL, &[], "")).await.status, 401);
}

#[tokio::test]
async fn anonymous_access_and_rules_for_tokens_reload() {
    let hub = KeyHub::start("").await;
    let anonymous = async || ask(&hub.hub, request("GET", POLL, &[], "")).await.status;
    assert_eq!(anonymous().await, 401);
    let toml = with_secret(SECRET, "allow_anonymous = 'a'\n[auth]\nissuer = 'https://id.example'");
    assert_eq!(hub.reload(&admin(), &toml).await, json!(["allow_anonymous", "auth.issuer"]));
    assert_eq!(anonymous().await, 204);
    refused(&hub.poll(&grant("ann", &["a"], &[])).await, "issuer");
}

#[tokio::test]
async fn fetched_keys_stay_with_their_source_and_go_with_it() {
    let pair = Pair::new(Algorithm::ES256);
    let (issuer, other) = (Issuer::start(&[pair.jwk("k")]).await, Issuer::start(&[]).await);
    let url = |issuer: &Issuer| with_secret(SECRET, &format!("auth.jwks_url = '{}'", issuer.url()));
    let hub = KeyHub::start(&format!("auth.jwks_url = '{}'", issuer.url())).await;
    let token = pair.token(Some("k"), claims());
    hub.polls(&token).await;
    // The issuer would give no key now, and is not asked.
    let asked = issuer.asked();
    issuer.answers("500 Internal Server Error", "");
    assert_eq!(hub.reload(&admin(), &url(&issuer)).await, json!([]));
    assert_eq!((hub.poll(&token).await.status, issuer.asked()), (204, asked));
    let seldom = format!("{}\nauth.jwks_refresh_min_s = 60", url(&issuer));
    assert_eq!(hub.reload(&admin(), &seldom).await, json!(["auth.jwks_refresh_min_s"]));
    assert_eq!((hub.poll(&token).await.status, issuer.asked()), (204, asked));
    assert_eq!(
        hub.reload(&admin(), &url(&other)).await,
        json!(["auth.jwks_url", "auth.jwks_refresh_min_s"])
    );
    // A token waits for the first answer of the new source.
    refused(&hub.poll(&token).await, "unknown_key");
}
