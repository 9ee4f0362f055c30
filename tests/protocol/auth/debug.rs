//! What holds a secret does not show it when it is formatted for debugging.

use std::{fmt::Debug, sync::Arc, time::Duration};

use jsonwebtoken::Algorithm;
use serde_json::json;
use visnyk::{
    auth::{Jwks, JwksUrl, JwksUrlText, KeySet, Secret, VerifyingKey},
    client::{Endpoint, Publisher, PublisherOptions},
    http::{HttpSettings, RejectionWriter},
    server::{
        settings::{Settings, Sources},
        signing_secret, verifier,
    },
};

use super::tokens::{encode, signed};

#[tokio::test]
async fn debug_output_has_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let in_file = directory.path().join("secret");
    std::fs::write(&in_file, "planted-secret-of-a-file-0000000000\n").unwrap();
    let sources = |variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        Sources::in_directory(directory.path()).environment(variables.collect::<Vec<_>>())
    };
    let url = "https://id.example/jwks?key=planted-key-of-a-url";
    let good = sources(&[
        ("VISNYK_JWT_SECRET", "planted-secret-of-a-variable-000000"),
        ("VISNYK_AUTH__METRICS_TOKEN", "planted-token-of-metrics"),
        ("VISNYK_AUTH__JWKS_URL", url),
    ])
    .flag("--cors-origin", "cors_origins", "https://app.example");
    let by_file = sources(&[("VISNYK_JWT_SECRET_FILE", in_file.to_str().unwrap())]);
    let bad_url = "https://planted-user:planted-password@id.example/jwks?key=planted-key";
    let bad = sources(&[
        ("VISNYK_JWT_SECRET", "planted-short"),
        ("VISNYK_AUTH__METRICS_TOKEN", "planted-token"),
        ("VISNYK_AUTH__JWKS_URL", bad_url),
        ("VISNYK_AUTH__SECRETS", "planted-misplaced"),
        ("VISNYK_LISTEN", "0.0.0.0:0"),
    ])
    .flag("--jwt-secret", "jwt_secret", "planted-of-a-flag");
    let mut shown = Vec::new();
    let mut show = |what: &'static str, it: &dyn Debug| {
        shown.push((what, format!("{it:?}")));
        shown.push((what, format!("{it:#?}")));
    };
    for sources in [&good, &by_file, &bad] {
        show("Sources", sources);
    }
    let mut settings = HttpSettings::default();
    for sources in [&good, &by_file] {
        let effective = Settings::load(sources).unwrap();
        show("Effective", &effective);
        show("Entry", &effective.entries());
        show("Settings", effective.settings());
        show("signing_secret", &signing_secret(effective.settings()).unwrap());
        // The roots of the system are not needed for it.
        let mut without_url = effective.settings().clone();
        without_url.auth.jwks_url = JwksUrlText::default();
        let verifier = verifier(&without_url).unwrap().unwrap();
        show("Verifier", &verifier);
        let auth = &effective.settings().auth;
        settings.access.verifier = Some(Arc::new(verifier));
        settings.access.metrics_token = auth.metrics_token.clone();
        show("Access", &settings.access);
        show("HttpSettings", &settings);
        show("RejectionWriter", &RejectionWriter::new(&settings, 1..=2));
    }
    show("SettingsErrors", &Settings::load(&bad).unwrap_err());
    show("JwksUrlText", &[JwksUrlText::new(url), JwksUrlText::new(bad_url)]);
    let loopback = JwksUrl::parse(&url.replace("https://id.example", "http://[::1]")).unwrap();
    show("JwksUrl", &loopback);
    show("Jwks", &Jwks::new(loopback, Duration::from_secs(1)).unwrap());
    let secret = Secret::new("planted-secret-of-a-variable-000000");
    let key = VerifyingKey::from_secret(&secret, Algorithm::HS256).unwrap();
    show("KeySet", &KeySet::new(vec![key]));
    show("Secret", &secret);
    let endpoint = Endpoint::parse("http://localhost").unwrap();
    let endpoint = endpoint.with_token("planted-token-of-a-client").unwrap();
    show("Endpoint", &endpoint);
    show("Publisher", &Publisher::new(endpoint.clone(), PublisherOptions::default()));
    show("EndpointError", &endpoint.with_token("planted token with blanks").unwrap_err());
    for url in ["http://planted:planted@localhost", "http://localhost?key=planted", "planted@b"] {
        let error = Endpoint::parse(url).unwrap_err();
        show("EndpointError", &error);
        show("EndpointError", &error.to_string());
    }
    let asked = json!({"sub": "ann", "exp": 99_999_999_999_u64}).to_string();
    let token = signed(&json!({"alg": "HS256"}), &asked, "planted-forgers-secret-0000000000");
    let verifier = settings.access.verifier.clone().unwrap();
    show("TokenError", &verifier.verify(&token, 0).await.unwrap_err());
    let hub = visnyk::hub::Hub::builder().shards(1).start().await.unwrap();
    show("Hub", &hub);
    show("Router", &visnyk::http::router(hub, settings));
    for (what, text) in &shown {
        assert!(!text.contains("planted"), "{what}: {text}");
        assert!(!text.contains(&encode("planted")[..9]), "{what}: {text}");
        // Nor as the numbers of its bytes.
        let bytes = format!("{:?}", &b"planted"[..]);
        let squeezed: String = text.split_whitespace().collect();
        let numbers: String = bytes.trim_matches(['[', ']']).split_whitespace().collect();
        assert!(!squeezed.contains(&numbers), "{what}: {text}");
    }
    assert!(shown.iter().any(|(_, text)| text.contains("***")), "what is not shown is marked");
}
