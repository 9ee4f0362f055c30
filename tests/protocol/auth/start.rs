//! What a hub with authentication says at its start, and what it does not start with.

use std::process::Command;

use super::{
    SECRET, ask_with,
    tokens::grant,
    wire::{self, PATIENCE},
};

/// Runs `visnyk serve` with settings that it refuses.
fn refusal(settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_visnyk"))
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .env_clear()
        .envs(settings.iter().map(|(name, value)| {
            (format!("VISNYK_{}", name.replace('.', "__").to_ascii_uppercase()), *value)
        }))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn settings_that_contradict_each_other_are_refused_with_a_remedy() {
    let key = ("jwt_secret", SECRET);
    for (settings, reason, remedy) in [
        (&[("allow_anonymous", "a")][..], "restricts nothing", "set VISNYK_JWT_SECRET"),
        (&[("auth.issuer", "x")], "restricts nothing", "set VISNYK_JWT_SECRET"),
        (&[("auth.audience", "x")], "restricts nothing", "set VISNYK_JWT_SECRET"),
        (&[("auth.metrics", "token")], "restricts nothing", "set VISNYK_JWT_SECRET"),
        (&[("auth.metrics_token", "x")], "restricts nothing", "set VISNYK_JWT_SECRET"),
        (&[key, ("jwt_secret_file", "x")], "there is only one secret", "remove one"),
        (
            &[("auth.jwks_url", "http://id.example/jwks")],
            "keys over plain http",
            "give the issuer's https:// address",
        ),
        (&[("auth.jwks_url", "id.example")], "not a URL", "give the issuer's https:// address"),
        (&[key, ("auth.cookie", "s")], "names no page", "name the origins"),
        (
            &[key, ("auth.cookie_origins", "https://a.example")],
            "has no effect without auth.cookie",
            "name the cookie",
        ),
        (&[("hsts_max_age_s", "1")], "has no effect without", "let the proxy in front send it"),
        (
            &[("cors.credentials", "true")],
            "has no effect without cors_origins",
            "name the origins of your own",
        ),
        (
            &[("cors.credentials", "true"), ("cors_origins", "*, https://app.example")],
            "any page could read and publish as its visitor",
            "name the origins of your own",
        ),
        (
            &[("cors.credentials", "true"), ("cors_origins", "https://*.com")],
            "every owner of a name there could read and publish",
            "name the origins of your own",
        ),
        (&[key, ("auth.jwks_refresh_s", "5")], "less often than the clock does", "lower the first"),
    ] {
        let (code, said) = refusal(settings);
        assert_eq!(code, Some(2), "{settings:?}: {said}");
        assert!(said.contains(reason) && said.contains(remedy), "{settings:?}: {said}");
    }
}

#[test]
fn values_that_no_setting_has_are_refused() {
    for (name, value) in [
        ("allow_anonymous", "a//b"),
        ("allow_anonymous", "a*"),
        ("allow_anonymous", "user-{sub}"),
        ("auth.secret_algorithm", "none"),
        ("auth.secret_algorithm", "RS256"),
        ("auth.public_key_files", "HS256:key.pem"),
        ("auth.public_key_files", "none:key.pem"),
        ("auth.public_key_files", "key.pem"),
        ("auth.cookie", "a b"),
        ("auth.cookie", "a=b"),
        ("auth.cookie_origins", "*"),
        ("auth.cookie_origins", "https://*.example"),
        ("auth.cookie_origins", "app.example"),
        ("auth.cookie_origins", "https://app.example/"),
        ("auth.cookie_origins", "https://APP.example"),
        ("auth.cookie_origins", "https://app.example:443"),
        ("cors_origins", "app.example"),
        ("cors_origins", "null"),
        ("cors_origins", "https://*"),
        ("cors_origins", "https://app.*"),
        ("cors_origins", "https://app.example/"),
        ("cors.max_age_s", "86401"),
        ("auth.leeway_s", "301"),
        ("auth.token_bytes_max", "255"),
        ("auth.metrics", "closed"),
    ] {
        let (code, said) = refusal(&[(name, value)]);
        assert_eq!(code, Some(2), "{name} = {value}: {said}");
        assert!(said.contains("is refused: allowed is"), "{name} = {value}: {said}");
    }
}

#[test]
fn key_files_that_are_none_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let missing = directory.path().join("none").to_str().unwrap().to_owned();
    let (empty, text) = (file("empty", "\n"), file("text", "no key"));
    let private = file("private", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let set = file("set", "{\"keys\":[]}");
    for (name, value, reason) in [
        ("jwt_secret_file", missing.clone(), "cannot be read"),
        ("jwt_secret_file", empty, "the secret is empty"),
        ("auth.public_key_files", format!("RS256:{missing}"), "cannot be read"),
        ("auth.public_key_files", format!("RS256:{text}"), "not a public key in PEM"),
        ("auth.public_key_files", format!("RS256:{private}"), "not a public key in PEM"),
        ("auth.jwks_file", text, "not a JSON Web Key Set"),
        ("auth.jwks_file", set, "none of its keys"),
    ] {
        let (code, said) = refusal(&[(name, &value)]);
        assert_eq!(code, Some(1), "{name} = {value}: {said}");
        assert!(said.contains(reason), "{name} = {value}: {said}");
        assert!(!said.contains("listening on"), "{said}");
    }
}

#[tokio::test]
async fn a_secret_may_be_in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    let hub = wire::hub(&[("jwt_secret_file", path.to_str().unwrap())]).await;
    let ann = grant("ann", &["a"], &[]);
    let answer = ask_with(&hub, &ann, "GET", "/v1/channels/a/poll?timeout=0", "").await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

#[tokio::test]
async fn a_hub_says_what_it_protects() {
    let mut hub = wire::hub(&[("jwt_secret", "short"), ("allow_anonymous", "news/*")]).await;
    for words in
        ["clients need a token to publish; without one they may subscribe to news/*", "WEAK SECRET"]
    {
        hub.wait_for_line(words, PATIENCE).await.unwrap();
    }
    assert!(!hub.stderr().contains("short\n"), "{}", hub.stderr());
}

#[test]
fn beyond_loopback_a_secret_has_32_bytes() {
    let check = |secret: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_visnyk"))
            .current_dir(env!("CARGO_TARGET_TMPDIR"))
            .env_clear()
            .env("VISNYK_JWT_SECRET", secret)
            .args(["config", "--check", "--listen", "0.0.0.0:0"])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = check(&"x".repeat(31));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("can be found by trying; make a longer one"), "{said}");
    assert_eq!(check(&"x".repeat(32)).0, Some(0), "it needs no --insecure");
}
