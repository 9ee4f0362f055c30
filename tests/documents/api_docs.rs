//! Runs the commands of docs/api.md, in order, against the real binary.

use std::fs;
use std::process::Command;

use visnyk_loadtest::HubCommand;

#[test]
fn every_command_of_the_api_page_works() {
    let home = tempfile::tempdir().expect("a temporary directory");
    // curl by itself succeeds with any status: here an error status is an error.
    fs::write(home.path().join(".curlrc"), "fail-with-body\nsilent\nshow-error\n")
        .expect("written");
    let command = HubCommand::new(env!("CARGO_BIN_EXE_visnyk")).directory(home.path());
    let hub = command.start_blocking().expect("the hub starts");
    // The examples with tokens need a hub with authentication.
    let secret = ("VISNYK_JWT_SECRET", "a secret of this test alone, 40 bytes...");
    let asking = command.env(secret.0, secret.1).start_blocking().expect("the hub starts");
    let commands = commands(include_str!("../../docs/api.md"));
    assert!(commands.len() >= 10, "{commands:?}");
    for command in commands {
        assert!(command.contains(TUTORIAL_ADDRESS), "{command}");
        let with_tokens = command.contains("visnyk token");
        let address = if with_tokens { asking.url() } else { hub.url() };
        let output = Command::new("sh")
            .args(["-c", &command.replace(TUTORIAL_ADDRESS, &address)])
            .env("HOME", home.path())
            .env("PATH", path_with_the_binary())
            .env(secret.0, secret.1)
            .current_dir(home.path())
            .output()
            .expect("sh runs");
        let printed = String::from_utf8_lossy(&output.stdout);
        // A stream goes on until its time is up: that is curl's code 28.
        let good = if command.contains("--max-time") { 28 } else { 0 };
        assert_eq!(output.status.code(), Some(good), "{command}\n{output:?}");
        let is_empty = printed.trim().is_empty();
        assert_eq!(is_empty, command.contains("-X DELETE"), "{command}\n{printed}");
        if command.contains("--max-time") {
            assert!(printed.contains("hello"), "{command}\n{printed}");
        }
    }
}

/// The blocks that are marked as shell.
fn commands(page: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut rest = page;
    while let Some((_, block)) = rest.split_once("```sh\n") {
        let (command, after) = block.split_once("```").expect("blocks end");
        commands.push(command.to_owned());
        rest = after;
    }
    commands
}

/// Where a reader has `visnyk`.
pub(crate) fn path_with_the_binary() -> String {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_visnyk"));
    let folder = binary.parent().expect("a folder").display();
    format!("{folder}:{}", std::env::var("PATH").unwrap_or_default())
}

const TUTORIAL_ADDRESS: &str = "http://127.0.0.1:3000";
