//! Every command of the guides, run as it stands there against a hub of its own, with the output
//! that is shown.
use std::{process::Command, time::Duration};

use visnyk_loadtest::HubCommand;

use crate::{
    api_docs::path_with_the_binary,
    readme::{Shown, commands, matches},
};

const SECRET: &str = "VISNYK_JWT_SECRET";

#[tokio::test]
async fn the_guides_do_what_they_say() {
    let guides = [
        ("notifications", include_str!("../../docs/guides/notifications.md"), 7),
        ("job-progress", include_str!("../../docs/guides/job-progress.md"), 6),
        ("token-streams", include_str!("../../docs/guides/token-streams.md"), 4),
        ("moving", include_str!("../../docs/guides/moving.md"), 2),
        ("dashboards", include_str!("../../docs/guides/dashboards.md"), 5),
    ];
    for (name, page, commands_min) in guides {
        let commands = commands(page);
        assert!(commands.len() >= commands_min, "{name} has its commands in `console` blocks");
        run(name, commands).await;
    }
}

/// Runs a page's commands. Those that set a variable or a directory set it for all after them; an
/// exported secret is the hub's too.
async fn run(page: &str, commands: Vec<Shown>) {
    let program = env!("CARGO_BIN_EXE_visnyk");
    let exported = commands.iter().find_map(|shown| {
        shown.command.strip_prefix("export ")?.strip_prefix(SECRET)?.strip_prefix('=')
    });
    let mut hub = HubCommand::new(program);
    if let Some(secret) = exported {
        hub = hub.env(SECRET, secret);
    }
    let mut hub = hub.start().await.unwrap();
    let mut scene = String::new();
    for Shown { command, output } in commands {
        let line = command.replace("127.0.0.1:3000", &hub.address().to_string());
        if sets_the_scene(&line) {
            assert!(output.is_empty(), "{page}: {command}");
            scene += &line;
            scene.push('\n');
            continue;
        }
        let (script, url) = (format!("{scene}{line}"), hub.url());
        let ran = tokio::task::spawn_blocking(move || {
            let mut bash = Command::new("bash");
            bash.arg("-c").arg(script).env("PATH", path_with_the_binary());
            bash.env("VISNYK_URL", url).output().unwrap()
        });
        let ran = tokio::time::timeout(Duration::from_secs(30), ran).await.unwrap().unwrap();
        let printed = String::from_utf8(ran.stdout).unwrap();
        let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
        if output == ["…"] {
            assert!(ran.status.success(), "{page}: {command}\n{errors}");
            continue;
        }
        let printed: Vec<&str> = printed.lines().collect();
        assert_eq!(printed.len(), output.len(), "{page}: {command}\n{printed:#?}\n{errors}");
        for (printed, shown) in printed.iter().zip(&output) {
            assert!(
                matches(printed, shown),
                "{page}: {command}\nprinted {printed}\nshown   {shown}"
            );
        }
    }
    hub.kill().await.unwrap();
}

/// Whether it is `NAME=…`, `export NAME=…` or `cd …`: what holds for all commands after it.
fn sets_the_scene(command: &str) -> bool {
    if command.starts_with("cd ") {
        return true;
    }
    let command = command.strip_prefix("export ").unwrap_or(command);
    let name = command.split('=').next().unwrap_or_default();
    name.len() < command.len() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}
