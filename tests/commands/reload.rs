//! `visnyk reload`: what it prints, and its exit codes.

use std::fs;

use serde_json::{Value, json};
use visnyk_loadtest::{Hub, HubCommand};

use super::operating::{SECRET, VISNYK, command, output};

async fn reload(hub: &Hub, args: &[&str]) -> (i32, String, String) {
    output(command(&hub.url(), &[&["reload"], args].concat())).await
}

#[tokio::test]
async fn it_prints_what_has_changed_and_fails_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let write = |toml: &str| fs::write(directory.path().join("visnyk.toml"), toml).unwrap();
    write("shards = 1");
    let hub = HubCommand::new(VISNYK).directory(directory.path()).start().await.unwrap();
    let nothing = "changed: none; keys and certificates were read again\n".to_owned();
    assert_eq!(reload(&hub, &[]).await, (0, nothing, String::new()));
    write("shards = 2\nplain_refusals = true\nlog.access = true");
    let printed = "changed: plain_refusals, log.access\nneeds a restart, old values stay: shards\n";
    assert_eq!(reload(&hub, &[]).await, (0, printed.to_owned(), String::new()));
    let (code, stdout, _) = reload(&hub, &["--json"]).await;
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, answer), (0, json!({"changed": [], "needs_restart": ["shards"]})));
    write("shards = 'many'\nlisten = 7");
    let (code, stdout, stderr) = reload(&hub, &[]).await;
    assert_eq!((code, &*stdout), (1, ""), "{stderr}");
    for part in ["nothing has changed: ", "shards = \"many\" (visnyk.toml:1)", "listen = 7"] {
        assert!(stderr.contains(part), "{part:?} is not in {stderr}");
    }
}

#[tokio::test]
async fn it_needs_a_hub_and_admin_and_no_arguments() {
    let hub = HubCommand::new(VISNYK).settings(&[("jwt_secret", SECRET)]).start().await.unwrap();
    let (code, _, stderr) = reload(&hub, &[]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("this needs a token"), "{stderr}");
    assert_eq!(reload(&hub, &["--url", "127.0.0.1:1"]).await.0, 1);
    assert_eq!(reload(&hub, &["now"]).await.0, 2);
}
