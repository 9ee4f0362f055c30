//! What a hub's user of the server may do.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use visnyk_loadtest::{HubCommand, RedisServer};

use super::hubs::{hub_on, publish_when_back};
use crate::support::{PATIENCE, data_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_the_commands_that_the_docs_name_is_enough() {
    let server = RedisServer::start(&[]);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("password");
    std::fs::write(&path, "hunter2").expect("it is written");
    let settings =
        [("backend.user", "visnyk"), ("backend.password_file", path.to_str().expect("UTF-8"))];
    set_user(&server, &COMMANDS);
    let hub = hub_on(&server, &settings).await;
    let mut stream = hub.stream("channel=a", "now").await;
    hub.publish("a", "1").await;
    assert_eq!(data_of(&mut stream, 1).await, ["1"]);
    assert_eq!(hub.request("DELETE", "/v1/channels/a", &[], "").await.status(), 204);
    // Of each that the script may call behind its first write, a hub says at its start that it is
    // missing.
    for missing in ["hset", "xadd", "xtrim", "rpush", "lpop", "hdel", "zadd", "zpopmin", "zscore"] {
        let others: Vec<_> =
            COMMANDS.iter().copied().filter(|command| *command != missing).collect();
        set_user(&server, &others);
        let command = HubCommand::new(env!("CARGO_BIN_EXE_visnyk"))
            .settings(&[("backend.url", &server.url())])
            .settings(&settings);
        let error = command.start().await.expect_err("it does not start").to_string();
        assert!(error.contains(&missing.to_uppercase()), "{missing}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_may_not_count_over_all_hubs_is_not_tried_again_and_again() {
    let server = RedisServer::start(&[]);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("password");
    std::fs::write(&path, "hunter2").expect("it is written");
    for missing in ["hgetall", "pexpire", "unlink"] {
        let others: Vec<_> =
            COMMANDS.iter().copied().filter(|command| *command != missing).collect();
        set_user(&server, &others);
        let settings =
            [("backend.user", "visnyk"), ("backend.password_file", path.to_str().expect("UTF-8"))];
        let hub = hub_on(&server, &settings).await;
        let failed = r#"visnyk_backend_reports_total{reason="failed"}"#;
        let deadline = Instant::now() + PATIENCE;
        while hub.metric(failed).await < 1.0 {
            assert!(Instant::now() < deadline, "{missing}: {}", hub.stderr());
            sleep(Duration::from_millis(10)).await;
        }
        // The pauses of an outage are half a second at most.
        sleep(Duration::from_millis(1_500)).await;
        assert_eq!(hub.metric(failed).await, 1.0, "{missing}");
        assert_eq!(hub.stderr().matches("subscribers are not counted over all hubs").count(), 1);
        // All else is as it was.
        hub.publish("a", "1").await;
        let info = hub.channel("a").await;
        assert_eq!(info["counted"]["reason"], "backend_away", "{missing}: {info}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_may_no_longer_read_is_tried_with_growing_pauses_and_logged_once() {
    let server = RedisServer::start(&[]);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("password");
    std::fs::write(&path, "hunter2").expect("it is written");
    let settings =
        [("backend.user", "visnyk"), ("backend.password_file", path.to_str().expect("UTF-8"))];
    set_user(&server, &COMMANDS);
    let hub = hub_on(&server, &settings).await;
    // All that a connection begins with is permitted.
    let others: Vec<_> = COMMANDS.iter().copied().filter(|command| *command != "xread").collect();
    set_user(&server, &others);
    let disconnects = "visnyk_backend_disconnects_total";
    hub.wait_for_metric(disconnects, |disconnects| disconnects >= 1.0).await;
    sleep(Duration::from_secs(2)).await;
    let attempts = hub.metric(disconnects).await;
    assert!(attempts <= 15.0, "{attempts}");
    let logged = hub.stderr().matches("cannot follow the shared log").count();
    assert!((1..=2).contains(&logged), "{}", hub.stderr());
    set_user(&server, &COMMANDS);
    hub.wait_for_metric("visnyk_backend_connected", |connected| connected == 1.0).await;
    publish_when_back(&hub, "1").await;
}

pub(super) fn set_user(server: &RedisServer, commands: &[&str]) {
    let allowed: Vec<String> = commands.iter().map(|command| format!("+{command}")).collect();
    let mut parts = vec!["ACL", "SETUSER", "visnyk", "reset", "on", ">hunter2", "~{visnyk}:*"];
    parts.extend(allowed.iter().map(String::as_str));
    assert_eq!(server.command(&parts).lines().next(), Some("+OK"));
}

/// As in docs/scaling.md.
pub(super) const COMMANDS: [&str; 27] = [
    "info",
    "script|load",
    "evalsha",
    "time",
    "xadd",
    "xlen",
    "xread",
    "xrange",
    "xrevrange",
    "xtrim",
    "hset",
    "hget",
    "hmget",
    "hlen",
    "hdel",
    "hscan",
    "rpush",
    "lpop",
    "lindex",
    "zadd",
    "zcard",
    "zpopmin",
    "zrange",
    "zscore",
    "hgetall",
    "pexpire",
    "unlink",
];
