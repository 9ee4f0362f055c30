//! Which servers a hub starts on, and what it says of the others.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use visnyk_loadtest::{HubCommand, RedisServer};

use super::hubs::hub_on;
use super::tls::TlsServer;
use crate::support::{PATIENCE, data_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_evicts_is_refused() {
    let server = RedisServer::start(&["--maxmemory-policy", "allkeys-lru"]);
    let error = command(&server).start().await.expect_err("it does not start").to_string();
    assert!(error.contains("the server's maxmemory-policy is allkeys-lru"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_no_sentinel_knows_is_refused() {
    let server = RedisServer::start(&[]);
    let sentinel = server.sentinel("main");
    let url = format!("redis+sentinel://127.0.0.1:{}/other", sentinel.address().port());
    let hub = HubCommand::new(env!("CARGO_BIN_EXE_visnyk")).settings(&[("backend.url", &url)]);
    let error = hub.start().await.expect_err("it does not start").to_string();
    assert!(error.contains("knows no master \"other\""), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_reached_over_tls_if_its_certificate_is_known() {
    let TlsServer { server, port, certificate, .. } = &TlsServer::start(&[]);
    let url = format!("rediss://localhost:{port}");
    let settings = [("backend.url", url.as_str()), ("backend.ca_file", certificate)];
    let hub = hub_on(server, &settings).await;
    let mut stream = hub.stream("channel=a", "now").await;
    hub.publish("a", "1").await;
    assert_eq!(data_of(&mut stream, 1).await, ["1"]);
    // Its address is not in the certificate.
    let url = format!("rediss://127.0.0.1:{port}");
    let hub = HubCommand::new(env!("CARGO_BIN_EXE_visnyk"))
        .settings(&[("backend.url", &url), ("backend.ca_file", certificate)]);
    let starting = timeout(Duration::from_secs(2), hub.start()).await;
    assert!(starting.is_err(), "it waits for another certificate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_read_from_its_file_and_never_shown() {
    let server = RedisServer::start(&["--requirepass", "hunter2"]);
    let directory = tempfile::tempdir().expect("a directory");
    let file = |content: &str| {
        let path = directory.path().join(content);
        std::fs::write(&path, format!("{content}\n")).expect("it is written");
        path.to_str().expect("UTF-8").to_owned()
    };
    for (content, says) in [("hunter3", "WRONGPASS"), ("", "NOAUTH")] {
        let path = if content.is_empty() { String::new() } else { file(content) };
        let command = command(&server).settings(&[("backend.password_file", &path)]);
        let error = command.start().await.expect_err("it does not start").to_string();
        assert!(error.contains(says) && !error.contains("hunter"), "{error}");
    }
    let hub = hub_on(&server, &[("backend.password_file", &file("hunter2"))]).await;
    let mut stream = hub.stream("channel=a", "now").await;
    hub.publish("a", "1").await;
    assert_eq!(data_of(&mut stream, 1).await, ["1"]);
    assert!(!hub.stderr().contains("hunter2"), "{}", hub.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_publishes_a_file_as_to_any_hub() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server, &[]).await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let lines: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    std::fs::write(file.path(), lines.join("\n")).expect("it is written");
    let publishing = tokio::process::Command::new(env!("CARGO_BIN_EXE_visnyk"))
        .args(["publish", "a", "--url", &hub.url(), "--file"])
        .arg(file.path())
        .output();
    let output = timeout(PATIENCE, publishing).await.expect("in time").expect("it runs");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(hub.retained("channel=a", "earliest").await, lines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubs_of_other_namespaces_share_nothing() {
    let server = RedisServer::start(&[]);
    let (a, b) = (hub_on(&server, &[]).await, hub_on(&server, &[("backend.namespace", "b")]).await);
    a.publish("a", "1").await;
    b.publish("a", "2").await;
    assert_eq!(a.retained("channel=a", "earliest").await, ["1"]);
    assert_eq!(b.retained("channel=a", "earliest").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_at_the_start_is_waited_for() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let starting = tokio::spawn({
        let command = command(&server);
        async move { command.start().await }
    });
    sleep(Duration::from_millis(500)).await;
    assert!(!starting.is_finished(), "it waits");
    server.start_again();
    let hub = timeout(PATIENCE, starting).await.expect("in time").expect("it ends");
    hub.expect("it starts");
}

fn command(server: &RedisServer) -> HubCommand {
    let command = HubCommand::new(env!("CARGO_BIN_EXE_visnyk"));
    command.settings(&[("backend.url", &server.url())])
}
