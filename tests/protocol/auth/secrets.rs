//! Planted secrets, and everything that a hub says: none of them is in any of it.

use std::process::Command;

use serde_json::json;
use visnyk_loadtest::{
    Hub, HubCommand,
    http2_frames::{self, frame},
};

use super::{
    tokens::{admin, encode, signed, token},
    wire::{Wire, ask, get, post, request},
};

/// Each is used once only, so that a leak tells its source.
const SECRET: &str = "planted-secret-of-the-hub-4dd1c1bb";
const METRICS: &str = "planted-metrics-token-9a27e5f0";
/// A client that knows one can have another's answer repeated.
const KEY: &str = "planted-idempotency-key-77b0";
/// Data is for the channel's subscribers only.
const DATA: &str = "planted-data-of-an-event-51f3";

#[tokio::test]
async fn no_secret_is_in_logs_answers_or_listings() {
    let mut hub = talkative()
        .env("VISNYK_JWT_SECRET", SECRET)
        .env("VISNYK_AUTH__METRICS_TOKEN", METRICS)
        .env("VISNYK_AUTH__COOKIE", "session")
        .env("VISNYK_AUTH__COOKIE_ORIGINS", "https://app.example")
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
    // Malformed ones may be secrets of another kind, put into the wrong field.
    let misplaced = "planted-password-in-the-wrong-place";
    let (streams, mut said) = streams_with(&hub, &in_query).await;
    let authorization = format!("Bearer {in_header}");
    let cookie = format!("session={in_cookie}");
    let mut requests = Vec::new();
    for shown in [&*in_query, &forged, misplaced, METRICS] {
        requests.extend(requests_with(shown));
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
    hub.wait_for_line("panicked at", super::wire::PATIENCE).await.unwrap();
    drop(streams);
    let listed = [("Authorization", &*authorization)];
    let connections = ask(&hub, request("GET", "/v1/connections?state=closed", &listed, "")).await;
    said += connections.text();
    hub.terminate().unwrap();
    hub.wait(super::wire::PATIENCE).await.unwrap();
    let logged = hub.stderr();
    assert!(logged.contains("\"level\":\"DEBUG\""), "the log says much: {logged}");
    assert!(logged.contains("a token was refused"), "{logged}");
    let secrets = [SECRET, METRICS, &in_query, &in_header, &in_cookie, &forged, misplaced];
    for secret in secrets.into_iter().chain([KEY, DATA]) {
        is_nowhere(secret, &[("the log", &logged), ("answers", &said)]);
    }
}

#[tokio::test]
async fn a_hub_without_a_key_does_not_mention_tokens() {
    let mut hub = talkative().start().await.unwrap();
    // Pages that show a token to every hub do so to this one too.
    let claims = json!({"sub": "ann", "exp": 99_999_999_999_u64});
    let token = signed(&json!({"alg": "HS256"}), &claims.to_string(), SECRET);
    let (streams, mut said) = streams_with(&hub, &token).await;
    // A poll that waits is listed as a stream is.
    let mut polling = Wire::to(&hub).await;
    polling.send(get(&format!("/v1/channels/a/poll?token={token}"))).await;
    super::wire::taken_on(&hub, 4).await;
    let misplaced = "planted-password-in-the-wrong-place";
    let mut requests: Vec<String> =
        [&token, misplaced].into_iter().flat_map(requests_with).collect();
    requests.push(post(&format!("/v1/channels/b/events?token={token}"), DATA));
    requests.push(post(&format!("/v1/channels/b/events?retry=x&token={token}"), DATA));
    requests.push(request("DELETE", &format!("/v1/channels/b?token={token}"), &[], ""));
    requests.push(get("/v1/connections?state=closed"));
    requests.push(post(&format!("/faults/connection?channel=a&token={token}"), ""));
    for request in &requests {
        let answer = ask(&hub, request).await;
        said += &format!("{:?}{}", answer.fields, String::from_utf8_lossy(&answer.body));
    }
    assert!(said.contains("\"subscribers\":") && said.contains("visnyk_streams 3"), "{said}");
    let published = ask(&hub, post("/v1/channels/a/events", DATA)).await;
    assert_eq!(published.status, 201, "{published:?}");
    hub.wait_for_line("panicked at", super::wire::PATIENCE).await.unwrap();
    drop((streams, polling));
    said += ask(&hub, get("/v1/connections?state=closed")).await.text();
    hub.terminate().unwrap();
    hub.wait(super::wire::PATIENCE).await.unwrap();
    let logged = hub.stderr();
    assert!(logged.contains("\"level\":\"DEBUG\""), "the log says much: {logged}");
    for secret in [&token, misplaced] {
        is_nowhere(secret, &[("the log", &logged), ("answers", &said)]);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_not_logged_either() {
    let planted = "planted-token-of-no-request-6a01";
    for has_key in [false, true] {
        let mut command = HubCommand::new(env!("CARGO_BIN_EXE_visnyk"))
            .directory(env!("CARGO_TARGET_TMPDIR"))
            .arg("--log-level")
            .arg("trace,h2=trace,hyper=trace");
        if has_key {
            command = command.env("VISNYK_JWT_SECRET", SECRET);
        }
        let mut hub = command.start().await.unwrap();
        let mut said = Vec::new();
        let good = format!("/v1/channels/a/poll?timeout=0&token={planted}");
        let host = "localhost";
        for (scheme, authority, path, fields) in [
            ("http", host, &*good, &[][..]),
            ("http", host, &*format!("/v1/events?channel=a b&token={planted}"), &[]),
            ("http", host, &format!("/v1/events?token={planted}\u{7f}"), &[]),
            ("http", host, &format!("v1/events?token={planted}"), &[]),
            ("http", &format!("ann:{planted} @localhost"), &good, &[]),
            (&format!("{planted} http"), host, &good, &[]),
            ("http", host, &good, &[("te", planted)]),
            ("http", host, &good, &[("content-length", planted)]),
            ("http", host, &good, &[("connection", planted)]),
            ("http", host, &good, &[(":status", planted)]),
            ("http", host, &good, &[("Authorization", planted)]),
            ("http", host, &good, &[("authorization", &format!("{planted}\n"))]),
        ] {
            let mut wire = Wire::to(&hub).await;
            let head = http2_head(scheme, authority, path, fields);
            // What debug data there is in the goodbye of a client is not shown either.
            let goodbye = [&[0; 8], planted.as_bytes()].concat();
            for frame in [frame(4, 0, 0, &[]), frame(1, 5, 1, &head), frame(7, 0, 0, &goodbye)] {
                let beginning: &[u8] = if frame[3] == 4 { http2_frames::PREFACE } else { &[] };
                // It may be gone at the first that it cannot read.
                let _ = wire.try_send([beginning, &frame].concat()).await;
            }
            let _ = wire.half_close().await;
            said.extend(wire.rest().await);
        }
        for target in [
            format!("/v1/events?channel=a b&token={planted}"),
            format!("/v1/events?token={planted}\t"),
            format!("/v1/events?token={planted}\u{7f}"),
            format!("/v1/events?token={planted}\u{e9}\""),
            format!("v1/events?token={planted}"),
            format!("http://ann:{planted}@/v1/events"),
            format!("http://ann:{planted}@localhost/v1/events?token={planted} "),
            format!("*?token={planted}"),
        ] {
            for version in ["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9", ""] {
                let mut wire = Wire::to(&hub).await;
                let request = get(&target).replacen("HTTP/1.1", version, 1);
                wire.send(request.replacen("\r\n", "\r\nConnection: close\r\n", 1)).await;
                wire.half_close().await;
                said.extend(wire.rest().await);
            }
        }
        // It was there for all of them.
        assert_eq!(ask(&hub, get("/healthz")).await.status, 200);
        hub.terminate().unwrap();
        hub.wait(super::wire::PATIENCE).await.unwrap();
        let (logged, said) = (hub.stderr(), String::from_utf8_lossy(&said).into_owned());
        for words in
            ["an HTTP/2 connection ended with an error", "a connection ended with an error"]
        {
            assert!(logged.contains(words), "the log says much: {logged}");
        }
        is_nowhere(planted, &[("the log", &logged), ("answers", &said)]);
    }
}

/// A hub that logs all that it can, and in which faults can be planted.
fn talkative() -> HubCommand {
    HubCommand::new(env!("CARGO_BIN_EXE_visnyk"))
        .directory(env!("CARGO_TARGET_TMPDIR"))
        .env("VISNYK_FAULTS", "true")
        .env("VISNYK_LIMITS__CONNECTIONS__HEARTBEAT_S", "1")
        .arg("--log-format")
        .arg("json")
        .arg("--log-level")
        .arg("trace")
        .arg("--access-log")
}

/// Streams that show a token in their query, and what the hub says to them.
async fn streams_with(hub: &Hub, token: &str) -> (Vec<Wire>, String) {
    let (mut streams, mut said) = (Vec::new(), String::new());
    for target in [
        format!("/v1/channels/a/events?hello=1&token={token}"),
        format!("/v1/events?channel=a&%74oken={token}"),
        format!("/events?token={token}"),
    ] {
        let mut wire = Wire::to(hub).await;
        wire.send(get(&target)).await;
        let (head, block) = wire.stream_head().await;
        said += &format!("{head:?}{block}");
        streams.push(wire);
    }
    (streams, said)
}

/// Requests that show something as a token everywhere, in ways that are right and that are not.
fn requests_with(shown: &str) -> Vec<String> {
    let mut requests = Vec::new();
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
    requests
}

/// Looks for a secret, for what it ends with, and for how it is written elsewhere.
#[track_caller]
fn is_nowhere(secret: &str, texts: &[(&str, &str)]) {
    // A signature alone is enough of a token to look for.
    for part in [secret, secret.rsplit('.').next().unwrap(), &encode(secret)] {
        for (where_, text) in texts {
            assert!(!text.contains(part), "{part} is in {where_}: {text}");
        }
    }
}

/// The head of a GET of HTTP/2: literals without a table or Huffman's code (RFC 7541, section
/// 6.2.2).
fn http2_head(scheme: &str, authority: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo =
        [(":method", "GET"), (":scheme", scheme), (":authority", authority), (":path", path)];
    let mut block = Vec::new();
    for (name, value) in pseudo.iter().chain(fields) {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 0x7f, "of more, the length would take two bytes");
            block.push(text.len() as u8);
            block.extend(text.bytes());
        }
    }
    block
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
    // The printed `***` is not a secret to run with.
    let (code, said) = config(&[], &[("VISNYK_JWT_SECRET", "***")]);
    assert_eq!(code, Some(2), "{said}");
}

/// What is formatted for debugging ends up in logs and in messages of tests.
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
    hub.wait_for_line("the old one stays", super::wire::PATIENCE).await.unwrap();
    hub.terminate().unwrap();
    hub.wait(super::wire::PATIENCE).await.unwrap();
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
        let hub = super::hub(&settings).await;
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
