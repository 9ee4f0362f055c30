//! Planted secrets, and everything that a hub says: none of them is in any of it.

use std::process::Command;

use serde_json::json;
use visnyk_loadtest::HubCommand;

use crate::{
    tokens::{admin, encode, signed, token},
    wire::{Wire, ask, get, request},
};

/// Each is in one place only, so that a leak tells where from.
const SECRET: &str = "planted-secret-of-the-hub-4dd1c1bb";
const METRICS: &str = "planted-metrics-token-9a27e5f0";
/// Whoever knows one can have another's answer repeated.
const KEY: &str = "planted-idempotency-key-77b0";
/// What is published is nobody's business but the subscribers'.
const DATA: &str = "planted-data-of-an-event-51f3";

#[tokio::test]
async fn no_secret_is_in_logs_answers_or_listings() {
    let mut hub = HubCommand::new(env!("CARGO_BIN_EXE_visnyk"))
        .directory(env!("CARGO_TARGET_TMPDIR"))
        .env("VISNYK_JWT_SECRET", SECRET)
        .env("VISNYK_AUTH__METRICS_TOKEN", METRICS)
        .env("VISNYK_AUTH__COOKIE", "session")
        .env("VISNYK_AUTH__COOKIE_ORIGINS", "https://app.example")
        .env("VISNYK_FAULTS", "true")
        .arg("--log-format")
        .arg("json")
        .arg("--log-level")
        .arg("trace")
        .start()
        .await
        .unwrap();
    let header = json!({"alg": "HS256"});
    let sign = |subject: &str| {
        let visnyk = json!({"subscribe": ["**"], "publish": ["**"], "admin": true});
        let claims = json!({"sub": subject, "exp": 99_999_999_999_u64, "visnyk": visnyk});
        signed(&header, &claims.to_string(), SECRET)
    };
    let (in_query, in_header, in_cookie) = (sign("query"), sign("header"), sign("cookie"));
    let forged = signed(&header, "{\"exp\":99999999999}", "planted-forgers-secret-0000000000");
    // Malformed ones may be secrets of another kind, put in the wrong place.
    let misplaced = "planted-password-in-the-wrong-place";
    let mut said = String::new();
    let mut streams = Vec::new();
    for target in [
        format!("/v1/channels/a/events?hello=1&token={in_query}"),
        format!("/v1/events?channel=a&%74oken={in_query}"),
        format!("/events?token={in_query}"),
    ] {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(&target)).await;
        let (head, block) = wire.stream_head().await;
        said += &format!("{head:?}{block}");
        streams.push(wire);
    }
    let authorization = format!("Bearer {in_header}");
    let cookie = format!("session={in_cookie}");
    let mut requests = Vec::new();
    for shown in [&*in_query, &forged, misplaced, METRICS] {
        for path in [
            "/v1/channels/a/events?format=x",
            "/v1/channels/a/poll?timeout=0",
            "/v1/poll?timeout=x",
            "/v1/channels",
            "/v1/connections",
            "/v1/connections/1",
            "/metrics",
            "/nothing",
            "/subscribe?after=!",
            "/faults/x",
        ] {
            let mark = if path.contains('?') { '&' } else { '?' };
            requests.push(get(&format!("{path}{mark}token={shown}")));
            requests.push(get(&format!("{path}{mark}token={shown}&token=x")));
            requests.push(get(&format!("{path}{mark}token=%ff{shown}")));
            let field = format!("Bearer {shown}");
            requests.push(request("GET", path, &[("Authorization", &field)], ""));
            let field = format!("Basic {shown}");
            requests.push(request("GET", path, &[("Authorization", &field)], ""));
            let field = format!("session={shown}; session=x");
            requests.push(request("GET", path, &[("Cookie", &field)], ""));
        }
    }
    for fields in [[("Authorization", &*authorization)], [("Cookie", &*cookie)]] {
        for path in ["/v1/connections", "/v1/connections?state=closed", "/v1/channels", "/metrics"]
        {
            requests.push(request("GET", path, &fields, ""));
        }
        let with_key = [fields[0], ("Idempotency-Key", KEY)];
        for body in [DATA, DATA, "another body under the same key"] {
            requests.push(request("POST", "/v1/channels/a/events", &with_key, body));
        }
        requests.push(request("POST", "/v1/channels/a//events", &with_key, DATA));
        let ndjson = [fields[0], ("Content-Type", "application/x-ndjson")];
        requests.push(request("POST", "/v1/channels/a/events", &ndjson, &format!("{{{DATA}")));
        requests.push(request("GET", "/openapi.json", &fields, ""));
        requests.push(request("POST", "/v1/connections/1/token", &fields, ""));
    }
    for request in &requests {
        let answer = ask(&hub, request).await;
        said += &format!("{:?}{}", answer.fields, String::from_utf8_lossy(&answer.body));
    }
    // A crash says where, and not with what.
    let authorized = [("Authorization", &*authorization)];
    let planted = request("POST", "/faults/connection?channel=a", &authorized, "");
    assert_eq!(ask(&hub, planted).await.status, 202);
    let published = request("POST", "/v1/channels/a/events", &authorized, DATA);
    assert_eq!(ask(&hub, published).await.status, 201);
    hub.wait_for_line("panicked at", crate::wire::PATIENCE).await.unwrap();
    drop(streams);
    let listed = [("Authorization", &*authorization)];
    let connections = ask(&hub, request("GET", "/v1/connections?state=closed", &listed, "")).await;
    said += connections.text();
    hub.terminate().await.unwrap();
    hub.wait(crate::wire::PATIENCE).await.unwrap();
    let logged = hub.stderr();
    assert!(logged.contains("\"level\":\"DEBUG\""), "the log says much: {logged}");
    assert!(logged.contains("a token was refused"), "{logged}");
    let secrets = [SECRET, METRICS, &in_query, &in_header, &in_cookie, &forged, misplaced];
    for secret in secrets.into_iter().chain([KEY, DATA]) {
        // A signature alone is enough of a token to look for.
        for part in [secret, secret.rsplit('.').next().unwrap(), &encode(secret)] {
            for (where_, text) in [("the log", &logged), ("answers", &said)] {
                assert!(!text.contains(part), "{part} is in {where_}");
            }
        }
    }
}

#[test]
fn settings_are_shown_without_their_secrets() {
    let config = |arguments: &[&str], variables: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_visnyk"))
            .current_dir(env!("CARGO_TARGET_TMPDIR"))
            .env_clear()
            .envs(variables.iter().copied())
            .arg("config")
            .args(arguments)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let secrets = [("VISNYK_JWT_SECRET", SECRET), ("VISNYK_AUTH__METRICS_TOKEN", METRICS)];
    let (code, said) = config(&[], &secrets);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("jwt_secret = \"***\" # environment VISNYK_JWT_SECRET"), "{said}");
    assert!(said.contains("metrics_token = \"***\""), "{said}");
    // Nor where they are refused.
    for (variables, code_expected) in [
        (vec![("VISNYK_JWT_SECRET", SECRET), ("VISNYK_LISTEN", "nowhere")], 2),
        (vec![("VISNYK_AUTH__METRICS_TOKEN", METRICS)], 2),
        (vec![("VISNYK_JWT_SECRET", SECRET), ("VISNYK_JWT_SECRET_FILE", "f")], 2),
        (vec![("VISNYK_JWT_SECRETS", SECRET)], 2),
        (vec![("VISNYK_AUTH__JWT_SECRET", SECRET)], 2),
        (vec![("VISNYK_JWT_SECRET", "planted-short"), ("VISNYK_LISTEN", "0.0.0.0:0")], 2),
        (vec![("VISNYK_HMAC", SECRET)], 2),
        (vec![("VISNYK_AUTH__PWD", SECRET)], 2),
        (vec![("VISNYK_AUTH__JWKS_URL", "https://ann:planted-password@id.example/jwks")], 2),
        (vec![("VISNYK_AUTH__JWKS_URL", "https://ann:planted-password?@id.example/jwks")], 2),
        (vec![("VISNYK_AUTH__JWKS_URL", "http://id.example/jwks?key=planted-key")], 2),
        (vec![("VISNYK_AUTH__JWKS_URL", "https://ann:planted-password@id.example/\n")], 2),
        (vec![("VISNYK_AUTH__JWKS_URL", "https://id.example/jwks?key=planted-key")], 0),
    ] {
        let (code, said) = config(&["--check"], &variables);
        assert_eq!(code, Some(code_expected), "{variables:?}: {said}");
        assert!(!said.contains("planted"), "{variables:?}: {said}");
        let (code, said) = config(&[], &variables);
        assert_eq!(code, Some(code_expected));
        assert!(!said.contains("planted"), "{variables:?}: {said}");
    }
    // What was printed is no secret to run with.
    let (code, said) = config(&[], &[("VISNYK_JWT_SECRET", "***")]);
    assert_eq!(code, Some(2), "{said}");
}

#[tokio::test]
async fn a_key_of_tls_is_in_nothing_that_the_hub_says() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let pair = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (own, other) = (pair(), pair());
    let key = own.signing_key.serialize_pem();
    let planted: Vec<&str> = key.lines().filter(|line| !line.starts_with("-----")).collect();
    let says_nothing = |said: &str| {
        for line in &planted {
            assert!(!said.contains(line), "{line} is in {said}");
        }
    };
    let (cert, good) = (file("cert", &own.cert.pem()), file("good", &key));
    let command = |cert: &std::path::Path, key: &std::path::Path| {
        HubCommand::new(env!("CARGO_BIN_EXE_visnyk"))
            .directory(directory.path())
            .arg("--tls-cert")
            .arg(cert)
            .arg("--tls-key")
            .arg(key)
            .arg("--log-level")
            .arg("trace")
            .env("VISNYK_TLS_RELOAD_S", "1")
    };
    let mut hub = command(&cert, &good).start().await.unwrap();
    let mut io = tokio::net::TcpStream::connect(hub.address()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut io, &[0xff; 64]).await.unwrap();
    // Nor what is wrong with it when it has changed.
    file("good", &key.replace("PRIVATE", "PUBLIC"));
    hub.wait_for_line("the old one stays", crate::wire::PATIENCE).await.unwrap();
    hub.terminate().await.unwrap();
    hub.wait(crate::wire::PATIENCE).await.unwrap();
    says_nothing(&hub.stderr());
    for (cert, key) in [
        (file("other", &other.cert.pem()), file("key", &key)),
        (file("key", &key), file("key", &key)),
        (cert.clone(), file("half", &key[..key.len() / 2])),
        (cert.clone(), file("bare", &planted.join("\n"))),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_visnyk"))
            .env_clear()
            .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "trace", "--tls-cert"])
            .args([cert.as_os_str(), "--tls-key".as_ref(), key.as_os_str()])
            .output()
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        says_nothing(&said);
    }
}

#[tokio::test]
async fn metrics_are_for_this_machine_admins_and_their_own_token() {
    let shown = |token: &str| format!("Bearer {token}");
    let ask_metrics = async |hub: &visnyk_loadtest::Hub, fields: &[(&str, &str)]| {
        ask(hub, request("GET", "/metrics", fields, "")).await.status
    };
    let (admin, ann) = (shown(&admin()), shown(&token(json!({"sub": "ann"}))));
    let (own, wrong) = (shown(METRICS), shown("planted-metrics-token-9a27e5f1"));
    let forwarded = ("X-Forwarded-For", "203.0.113.9");
    for (setting, bare, proxied, by_ann) in
        [("loopback", 200, 401, 403), ("token", 401, 401, 403), ("open", 200, 200, 200)]
    {
        let settings = [("auth.metrics", setting), ("auth.metrics_token", METRICS)];
        let hub = crate::hub(&settings).await;
        assert_eq!(ask_metrics(&hub, &[]).await, bare, "{setting}");
        assert_eq!(ask_metrics(&hub, &[forwarded]).await, proxied, "{setting}");
        let with = |value| [forwarded, ("Authorization", value)];
        assert_eq!(ask_metrics(&hub, &with(&ann)).await, by_ann, "{setting}");
        assert_eq!(ask_metrics(&hub, &with(&admin)).await, 200, "{setting}");
        assert_eq!(ask_metrics(&hub, &with(&own)).await, 200, "{setting}");
        let refused = if setting == "open" { 200 } else { 401 };
        assert_eq!(ask_metrics(&hub, &with(&wrong)).await, refused, "{setting}");
    }
}
