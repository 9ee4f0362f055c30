//! Client commands with a hub under TLS.

use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use super::certificate::{Certificate, TlsHub};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a command that trusts this certificate alone.
async fn run(hub: &TlsHub, trusted: &Path, args: &[&str]) -> Output {
    let mut visnyk = Command::new(env!("CARGO_BIN_EXE_visnyk"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VISNYK_") {
            visnyk.env_remove(name);
        }
    }
    let address = hub.hub.address();
    visnyk.args(args).args(["--url", &format!("https://{address}")]);
    visnyk.env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR");
    visnyk.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    timeout(PATIENCE, visnyk.output()).await.expect("it ends").expect("it ran")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[tokio::test]
async fn published_and_subscribed_by_a_certificate_that_is_trusted() {
    let hub = TlsHub::start(&[]).await;
    let published = run(&hub, &hub.cert_file(), &["publish", "news", "hello"]).await;
    assert!(published.status.success(), "{}", stderr(&published));
    let args = ["subscribe", "news", "--from", "earliest", "--count", "1"];
    let received = run(&hub, &hub.cert_file(), &args).await;
    assert!(received.status.success(), "{}", stderr(&received));
    assert!(String::from_utf8_lossy(&received.stdout).contains("hello"));
}

#[tokio::test]
async fn hub_with_another_certificate_is_shown_nothing_and_named() {
    let hub = TlsHub::start(&[]).await;
    let directory = tempfile::tempdir().expect("a directory");
    let another = directory.path().join("another.pem");
    std::fs::write(&another, Certificate::new().cert_pem).expect("it is written");
    let args = ["publish", "news", "hello", "--token", "secret", "--retry-for", "0"];
    let refused = run(&hub, &another, &args).await;
    assert!(!refused.status.success());
    let said = stderr(&refused);
    assert!(said.contains("certificate"), "{said}");
    let published = run(&hub, &hub.cert_file(), &["publish", "news", "first"]).await;
    assert!(published.status.success(), "{}", stderr(&published));
    let args = ["subscribe", "news", "--from", "earliest", "--count", "1"];
    let received = run(&hub, &hub.cert_file(), &args).await;
    assert!(String::from_utf8_lossy(&received.stdout).contains("first"), "nothing came before");
}

#[tokio::test]
async fn without_any_root_a_command_says_so() {
    let hub = TlsHub::start(&[]).await;
    let none = Path::new("/nonexistent/roots.pem");
    let refused = run(&hub, none, &["publish", "news", "hello"]).await;
    assert_eq!(refused.status.code(), Some(2));
    let said = stderr(&refused);
    assert!(said.contains("root certificates cannot be read"), "{said}");
}

#[tokio::test]
async fn the_hubs_own_certificate_can_be_the_only_root() {
    let hub = TlsHub::start(&[]).await;
    let none = Path::new("/nonexistent/roots.pem");
    let cert = hub.cert_file();
    let cert = cert.to_str().expect("UTF-8");
    for args in [&["health"][..], &["health", "--ready"], &["status", "--json"], &["channels"]] {
        let trusted = run(&hub, none, &[args, &["--ca-cert", cert]].concat()).await;
        assert!(trusted.status.success(), "{args:?}: {}", stderr(&trusted));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let another = directory.path().join("another.pem");
    std::fs::write(&another, Certificate::new().cert_pem).expect("it is written");
    let another = another.to_str().expect("UTF-8");
    let refused = run(&hub, none, &["health", "--ca-cert", another]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("certificate is not accepted"), "{}", stderr(&refused));
    for file in [directory.path().join("missing.pem"), directory.path().join("empty.pem")] {
        if file.ends_with("empty.pem") {
            std::fs::write(&file, "no certificate").expect("it is written");
        }
        let file = file.to_str().expect("UTF-8");
        let refused = run(&hub, none, &["health", "--ca-cert", file]).await;
        assert_eq!(refused.status.code(), Some(2));
        let said = stderr(&refused);
        assert!(said.contains("--ca-cert: ") && said.contains(file), "{said}");
    }
    // Plain HTTP to a port that speaks TLS.
    let url = format!("http://{}", hub.hub.address());
    let mut plain = Command::new(env!("CARGO_BIN_EXE_visnyk"));
    plain.args(["health", "--url", &url]).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    let plain = timeout(PATIENCE, plain.output()).await.expect("it ends").expect("it ran");
    assert_eq!(plain.status.code(), Some(1));
    assert!(stderr(&plain).contains("TLS"), "{}", stderr(&plain));
}
