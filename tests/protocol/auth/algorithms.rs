//! Each algorithm, with keys made here; and keys taken for what they are not.

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{
    SECRET, ask_with, hub, refused,
    tokens::{Pair, claims, sign, signed},
    wire,
};

const GRANT: &str = r#"{"subscribe":["a"]}"#;

fn grants() -> serde_json::Value {
    json!({"visnyk": serde_json::from_str::<serde_json::Value>(GRANT).unwrap()})
}

#[tokio::test]
async fn a_token_of_each_public_key_algorithm_is_good_with_its_key_alone() {
    let directory = tempfile::tempdir().unwrap();
    for algorithm in [
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ] {
        let pair = Pair::new(algorithm);
        let path = directory.path().join(format!("{algorithm:?}.pem"));
        std::fs::write(&path, &pair.public_pem).unwrap();
        let files = format!("{algorithm:?}:{}", path.display());
        let hub = wire::hub(&[("auth.public_key_files", &files)]).await;
        let poll = "/v1/channels/a/poll?timeout=0";
        let good = ask_with(&hub, &pair.token(None, grants()), "GET", poll, "").await;
        assert_eq!(good.status, 204, "{algorithm:?}: {good:?}");
        let other = Pair::new(algorithm);
        refused(&ask_with(&hub, &other.token(None, grants()), "GET", poll, "").await, "signature");
        // The oldest trick: the public key, which everyone may have, as an HMAC secret.
        let header = json!({"alg": "HS256"});
        let forged = signed(&header, &claims(grants()).to_string(), &pair.public_pem);
        refused(&ask_with(&hub, &forged, "GET", poll, "").await, "algorithm");
        // The right key, and another algorithm of its kind.
        let sibling = match algorithm {
            Algorithm::RS256 => Some(Algorithm::PS256),
            Algorithm::PS256 => Some(Algorithm::RS256),
            _ => None,
        };
        if let Some(sibling) = sibling {
            let confused = pair.token_as(sibling, grants());
            refused(&ask_with(&hub, &confused, "GET", poll, "").await, "algorithm");
        }
    }
}

#[tokio::test]
async fn the_secret_is_for_the_one_algorithm_of_the_settings() {
    let algorithms = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
    for set in algorithms {
        let hub = hub(&[("auth.secret_algorithm", &format!("{set:?}"))]).await;
        for shown in algorithms {
            let header = json!({"alg": format!("{shown:?}")});
            let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
            let token = sign(&header, &claims(grants()).to_string(), &key, shown);
            let answer = ask_with(&hub, &token, "GET", "/v1/channels/a/poll?timeout=0", "").await;
            match shown == set {
                true => assert_eq!(answer.status, 204, "{answer:?}"),
                false => refused(&answer, "algorithm"),
            }
        }
    }
}
