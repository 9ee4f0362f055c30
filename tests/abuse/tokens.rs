//! Attacks by tokens: forged, confused, and very many.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    rc::Rc,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rsa::{KeySize, PrivateDecryptingKey},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::target::{Target, request};

/// The secret of the hubs that ask for tokens.
pub(crate) const SECRET: &str = "a-secret-of-these-tests-and-of-no-hub";

/// The public key of those hubs, in PEM.
pub(crate) fn public_key() -> &'static str {
    static KEY: OnceLock<String> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).expect("a key");
        let der: PublicKeyX509Der<'_> = key.public_key().as_der().expect("a public key");
        let lines = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> = lines
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).expect("ASCII"))
            .collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    })
}

/// A good token with these claims besides.
pub(crate) fn good(more: Value) -> String {
    let mut claims = json!({"exp": now_s() + 600});
    claims.as_object_mut().expect("one").extend(more.as_object().expect("one").clone());
    signed(&json!({"alg": "HS256"}), &claims, SECRET.as_bytes())
}

/// Tokens that are forged in every way there is: none may be taken.
pub(crate) async fn forged(target: Target) {
    const ATTACKERS: usize = 8;
    let tokens: Rc<[String]> = forgeries().into();
    let untried = Rc::new(RefCell::new((0..tokens.len()).collect::<BTreeSet<_>>()));
    let act = move |target: Target, number| {
        let (tokens, untried) = (Rc::clone(&tokens), Rc::clone(&untried));
        async move {
            let mut wire = target.connect().await?;
            // Each begins elsewhere, so that together they soon have tried all.
            let first = number * tokens.len() / ATTACKERS;
            for at in (first..tokens.len()).chain(0..first) {
                let token = &tokens[at];
                let fields = format!("Authorization: Bearer {token}\r\n");
                for text in [
                    request("POST", "/v1/channels/smuggled/events", &fields, "x"),
                    request("GET", "/v1/connections", &fields, ""),
                    request("GET", "/v1/channels/secret/poll?timeout=0", &fields, ""),
                ] {
                    let line = text.lines().next().unwrap_or_default().to_owned();
                    wire.send(text).await?;
                    let status = wire.status().await?;
                    target.got_one_of(&[401, 403, 429], status, || format!("{line} with {token}"));
                }
                if untried.borrow_mut().remove(&at) && untried.borrow().is_empty() {
                    target.got("of all tokens tried");
                }
            }
            Ok(())
        }
    };
    target.by_many(ATTACKERS, act).await;
}

/// Good signatures by the thousand: each costs the hub a verification.
pub(crate) async fn verified(target: Target) {
    let act = move |target: Target, number: usize| async move {
        let mut wire = target.connect().await?;
        let token = good(json!({"sub": format!("s{number}"), "visnyk": {"subscribe": ["own/**"]}}));
        let fields = format!("Authorization: Bearer {token}\r\n");
        let many = request("GET", "/v1/channels/own/poll?timeout=0", &fields, "").repeat(20);
        loop {
            wire.send(&many).await?;
            for _ in 0..20 {
                target.got(wire.status().await?.to_string());
            }
        }
    };
    target.by_many(16, act).await;
}

/// What only an administrator may see, without a token or with another's.
pub(crate) async fn admin_routes(target: Target) {
    let act = move |target: Target, _| async move {
        let mut wire = target.connect().await?;
        let token = good(json!({"sub": "eve", "visnyk": {"subscribe": ["own/**"]}}));
        loop {
            for fields in [String::new(), format!("Authorization: Bearer {token}\r\n")] {
                for (method, path) in [
                    ("POST", "/faults/log"),
                    ("DELETE", "/v1/channels/audience"),
                    ("POST", "/v1/channels/audience/events"),
                ] {
                    wire.send(request(method, path, &fields, "")).await?;
                    let status = wire.status().await?;
                    target.got_one_of(&[401, 403, 404, 429], status, || {
                        format!("{method} {path} with {fields:?}")
                    });
                }
                wire.send(request("GET", "/v1/connections", &fields, "")).await?;
                target.got(wire.status().await?.to_string());
            }
        }
    };
    target.by_many(8, act).await;
}

/// Events by one subject as fast as they are taken.
pub(crate) async fn one_subject(target: Target) {
    let token = good(json!({"sub": "eve", "visnyk": {"publish": ["own/**"]}}));
    let fields = format!("Authorization: Bearer {token}\r\n");
    let many: Rc<str> =
        request("POST", "/v1/channels/own%2Fa/events", &fields, &"x".repeat(128)).repeat(20).into();
    let act = move |target: Target, number| {
        let many = Rc::clone(&many);
        async move {
            let mut wire = target.connect_from_many(number).await?;
            loop {
                wire.send(&*many).await?;
                for _ in 0..20 {
                    target.got(wire.status().await?.to_string());
                }
            }
        }
    };
    target.by_many(16, act).await;
}

/// Streams by one subject from many addresses: as many as it may have, and those beyond.
pub(crate) async fn streams_of_one_subject(target: Target) {
    let token = good(json!({"sub": "eve", "visnyk": {"subscribe": ["own/**"]}}));
    let fields = format!("Authorization: Bearer {token}\r\n");
    let act = move |target: Target, number| {
        let request = request("GET", "/v1/channels/own%2Fa/events", &fields, "");
        async move {
            let mut wire = target.connect_from_many(number).await?;
            loop {
                wire.send(&request).await?;
                if wire.first_status().await? == 200 {
                    target.got("streams");
                    target.hold(wire).await;
                    return Ok(());
                }
                target.got(wire.status().await?.to_string());
            }
        }
    };
    target.by_many(100, act).await;
}

fn forgeries() -> Vec<String> {
    let claims = |sub: &str, exp: u64, patterns: &[&str]| {
        json!({"sub": sub, "exp": exp, "visnyk": {
            "publish": patterns, "subscribe": patterns, "admin": patterns == ["**"],
        }})
    };
    let all = claims("eve", now_s() + 600, &["**"]);
    let hs256 = json!({"alg": "HS256"});
    let own = URL_SAFE_NO_PAD.encode("mine");
    let pem = public_key();
    let der =
        STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>());
    let der = der.expect("what was encoded");
    let good = signed(&hs256, &all, SECRET.as_bytes());
    let unsigned = |header: Value| {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", encode(&header), encode(&all))
    };
    let mut tokens = vec![
        // The public key is known to everyone: as a secret it is worth nothing.
        signed(&hs256, &all, pem.as_bytes()),
        signed(&hs256, &all, pem.trim_end().as_bytes()),
        signed(&hs256, &all, &der),
        signed(&json!({"alg": "RS256"}), &all, pem.as_bytes()),
        signed(&json!({"alg": "HS512"}), &all, SECRET.as_bytes()),
        signed(&hs256, &all, b""),
        signed(&hs256, &all, b"mine"),
        signed(&json!({"alg": "HS256", "kid": "../../../../dev/null"}), &all, b""),
        signed(&json!({"alg": "HS256", "kid": "' UNION SELECT 'mine"}), &all, b"mine"),
        signed(&json!({"alg": "HS256", "jwk": {"kty": "oct", "k": own}}), &all, b"mine"),
        signed(&json!({"alg": "HS256", "jku": "http://127.0.0.1:1/keys"}), &all, b"mine"),
        signed(&json!({"alg": "HS256", "x5u": "http://127.0.0.1:1/cert"}), &all, b"mine"),
        signed(&json!({"alg": "HS256", "crit": ["exp"]}), &all, SECRET.as_bytes()),
        signed(&json!({"alg": "HS256", "b64": false}), &all, SECRET.as_bytes()),
        // Past its time and the five seconds by which clocks may differ, by one second.
        signed(&hs256, &claims("eve", now_s() - 6, &["**"]), SECRET.as_bytes()),
        signed(&hs256, &json!({"sub": "eve", "visnyk": {"publish": ["**"]}}), SECRET.as_bytes()),
        // A subject that is a pattern, for `{sub}`.
        signed(&hs256, &claims("**", now_s() + 600, &["{sub}", "{sub}/**"]), SECRET.as_bytes()),
        signed(&hs256, &claims("a/../**", now_s() + 600, &["users/{sub}"]), SECRET.as_bytes()),
        signed(&hs256, &claims("..", now_s() + 600, &["users/{sub}"]), SECRET.as_bytes()),
        format!("{good}x"),
        format!("{good}."),
        good[..good.len() - 1].to_owned(),
        "x".repeat(8_000),
    ];
    for name in ["none", "None", "NONE", "nOnE", ""] {
        tokens.push(unsigned(json!({"alg": name})));
    }
    tokens.push(unsigned(json!({})));
    tokens
}

fn signed(header: &Value, claims: &Value, key: &[u8]) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = EncodingKey::from_secret(key);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    format!("{message}.{}", signature.expect("HMAC takes any key"))
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}
