//! `visnyk token`, and the client commands with a token.

use std::process::{Command, Output};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use super::{
    SECRET, ask_with, hub,
    tokens::{now_s, signed, token},
};

fn visnyk(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_visnyk"))
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .env_clear()
        .envs(variables.iter().copied())
        .args(arguments)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

pub(crate) fn mint(arguments: &[&str]) -> String {
    let output = visnyk(&[&["token"], arguments].concat(), &[("VISNYK_JWT_SECRET", SECRET)]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_minted_token_opens_what_it_says() {
    let hub = hub(&[]).await;
    let token = mint(&["--subject", "ann", "--subscribe", "users/{sub}/**", "--publish", "in"]);
    let poll = "/v1/poll?timeout=0&channel=users/ann/x";
    assert_eq!(ask_with(&hub, &token, "GET", poll, "").await.status, 204);
    assert_eq!(ask_with(&hub, &token, "POST", "/v1/channels/in/events", "x").await.status, 201);
    assert_eq!(ask_with(&hub, &token, "DELETE", "/v1/channels/in", "").await.status, 403);
    let admin = mint(&["--admin", "--ttl", "30s"]);
    assert_eq!(ask_with(&hub, &admin, "DELETE", "/v1/channels/in", "").await.status, 204);
}

#[test]
fn times_of_a_minted_token_are_whole_seconds() {
    let token = mint(&["--subject", "ann", "--subscribe", "a", "--ttl", "90s"]);
    let claims = token.split('.').nth(1).expect("three parts");
    let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64");
    let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
    let ends_in = claims["exp"].as_u64().expect("a whole number") - now_s();
    assert!((60..=90).contains(&ends_in), "{claims}");
}

#[test]
fn a_minted_token_is_explained() {
    let token = mint(&["--subject", "ann", "--subscribe", "users/{sub}/**", "--ttl", "2h"]);
    let secret = [("VISNYK_JWT_SECRET", SECRET)];
    let output = visnyk(&["token", "--explain", &token], &secret);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for line in [
        "good: its signature holds",
        "algorithm: HS256",
        "subject: \"ann\"",
        "may subscribe to: \"users/ann/**\" (from \"users/{sub}/**\")",
        "may publish to: nothing",
        "may administer: no",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let (_, ttl) = text.split_once(", in ").unwrap();
    let ttl: u64 = ttl.split(' ').next().unwrap().parse().unwrap();
    assert!((7_100..=7_200).contains(&ttl), "{text}");
}

#[test]
fn what_a_token_may_do_is_what_the_settings_make_of_it() {
    let from = now_s() - 60;
    let grants = json!({"subscribe": ["in", "users/{sub}"], "publish": ["out/{sub}/*"]});
    let token = token(json!({"sub": "ann", "nbf": from, "iss": "id", "visnyk": grants}));
    let explain = |token: &str, settings: &[(&str, &str)]| {
        let settings = [&[("VISNYK_JWT_SECRET", SECRET)], settings].concat();
        let output = visnyk(&["token", "--explain", token], &settings);
        (output.status.code(), said(&output))
    };
    let for_all = ("VISNYK_ALLOW_ANONYMOUS", "news/**, users/{sub}/inbox");
    let (code, text) = explain(&token, &[for_all, ("VISNYK_AUTH__ISSUER", "id")]);
    assert_eq!(code, Some(0), "{text}");
    let start = visnyk::model::rfc3339_millis(from * 1_000);
    for line in [
        "may publish to: \"out/ann/*\" (from \"out/{sub}/*\")",
        "may subscribe to: \"in\", \"users/ann\" (from \"users/{sub}\")",
        "may subscribe to, by allow_anonymous: \"news/**\", \"users/ann/inbox\" (from \"users/{sub}/inbox\")",
        "issuer: \"id\"; this hub takes \"id\"",
        &*format!("valid from: {start}"),
    ] {
        assert!(text.lines().any(|it| it == line), "{line} in {text}");
    }
    // Without such a setting a token allows what it says and no more, and not another subject's.
    let (_, text) = explain(&token, &[]);
    assert!(!text.contains("allow_anonymous"), "{text}");
    let (_, text) = explain(&mint(&["--publish", "a"]), &[for_all]);
    let pattern =
        "\"users/{sub}/inbox\" (cannot be used: a pattern with `{sub}` needs a token with `sub`)";
    assert!(text.contains(&format!("by allow_anonymous: \"news/**\", {pattern}\n")), "{text}");
    assert!(text.contains("valid from: any time\n"), "{text}");
    // Nothing may be done with a token that is refused, whatever it says.
    for (settings, lines) in [
        ([("VISNYK_AUTH__ISSUER", "other"), for_all], "issuer: \"id\"; this hub takes \"other\"\n"),
        ([("VISNYK_AUTH__AUDIENCE", "hub"), for_all], "audience: none; this hub takes [\"hub\"]\n"),
    ] {
        let (code, text) = explain(&token, &settings);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(lines) && text.contains("asks to subscribe to: \"in\", "), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("may ")), "{text}");
    }
    // One that is taken although it has expired, since clocks may differ.
    let late = signed(&json!({"alg": "HS256"}), &json!({"exp": now_s() - 1}).to_string(), SECRET);
    let (code, text) = explain(&late, &[("VISNYK_AUTH__LEEWAY_S", "300")]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("expired: ") && text.contains(", less than 300 s ago\n"), "{text}");
    let soon = signed(
        &json!({"alg": "HS256"}),
        &json!({"exp": now_s() + 9_000, "nbf": now_s() + 7_200}).to_string(),
        SECRET,
    );
    let (code, text) = explain(&soon, &[]);
    assert_eq!(code, Some(1), "{text}");
    let (_, left) = text.split_once("valid from: ").unwrap();
    let (_, left) = left.split_once(", in ").unwrap();
    let left: u64 = left.split(' ').next().unwrap().parse().unwrap();
    assert!((7_100..=7_200).contains(&left), "{text}");
}

#[test]
fn a_refused_token_is_explained_with_its_reason() {
    let secret = [("VISNYK_JWT_SECRET", SECRET)];
    let plain = json!({"alg": "HS256"});
    let expired = json!({"sub": "bob", "exp": now_s() - 60}).to_string();
    for (token, reason) in [
        (signed(&plain, &expired, SECRET), "refused: the token has expired"),
        (token(json!({"nbf": now_s() + 60})), "refused: the token is not valid yet"),
        (signed(&plain, &expired, "other"), "refused: the token's signature does not match"),
        ("rubbish".to_owned(), "refused: the token is malformed"),
    ] {
        let output = visnyk(&["token", "--explain", &token], &secret);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(reason), "{}", said(&output));
        assert!(!said(&output).contains(&token), "{}", said(&output));
    }
    // Where the issuer would have to be asked, it says that it was not.
    let url = [("VISNYK_AUTH__JWKS_URL", "https://issuer.invalid/jwks")];
    let output = visnyk(&["token", "--explain", &token(json!({"sub": "ann"}))], &url);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("its signature was not checked"), "{}", said(&output));
    assert!(said(&output).contains("subject: \"ann\""), "{}", said(&output));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let secret = [("VISNYK_JWT_SECRET", SECRET)];
    for (arguments, variables, message) in [
        (&["--subject", "a"][..], &[][..], "there is no secret to sign with"),
        (&["--explain", "x"], &[], "there is no key to check the token with"),
        (&["--subscribe", "a//b"], &secret, "empty segment"),
        (&["--subscribe", "user-{sub}"], &secret, "whole segment"),
        (&["--subscribe", "users/{sub}"], &secret, "needs a token with `sub`"),
        (&["--subscribe", "users/{sub}", "--subject", "**"], &secret, "`sub` cannot stand"),
        (&["--ttl", "soon"], &secret, "is not a time"),
        (&["--explain", "x", "--admin"], &secret, "cannot be used with"),
    ] {
        let output = visnyk(&[&["token"], arguments].concat(), variables);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(message), "{arguments:?}: {}", said(&output));
    }
}

#[tokio::test]
async fn client_commands_show_their_token() {
    let hub = hub(&[]).await;
    let token = mint(&["--publish", "a", "--subscribe", "a"]);
    let url = hub.url();
    let run = async |arguments: &[&str], variables: &[(&str, &str)]| {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let variables: Vec<(String, String)> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let running = tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let variables: Vec<(&str, &str)> =
                variables.iter().map(|(name, value)| (&**name, &**value)).collect();
            visnyk(&arguments, &variables)
        });
        running.await.unwrap()
    };
    let publish = ["publish", "a", "hello", "--url", &url];
    let refused = run(&publish, &[]).await;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("401"), "{}", said(&refused));
    let published = run(&[&publish[..], &["--token", &token]].concat(), &[]).await;
    assert_eq!(published.status.code(), Some(0), "{}", said(&published));
    let subscribe =
        ["subscribe", "a", "--url", &url, "--from", "earliest", "--count", "1", "--quiet"];
    let received = run(&subscribe, &[("VISNYK_TOKEN", &token)]).await;
    assert_eq!(String::from_utf8_lossy(&received.stdout), "hello\n", "{}", said(&received));
}
