//! Every command of the README's tour, run as it stands there, with the output it promises.
use std::{process::Command, time::Duration};

use visnyk_loadtest::HubCommand;

/// A command and the lines the README shows below it.
pub(crate) struct Shown {
    pub(crate) command: String,
    pub(crate) output: Vec<String>,
}

#[tokio::test]
async fn the_tour_does_what_it_says() {
    let tour = commands(include_str!("../../README.md"));
    assert!(tour.len() >= 9, "the tour has its commands in `console` blocks");
    let program = env!("CARGO_BIN_EXE_visnyk");
    let mut hub = HubCommand::new(program).start().await.unwrap();
    for Shown { command, output } in tour {
        let line = command
            .replace("127.0.0.1:3000", &hub.address().to_string())
            .replace("target/release/visnyk", program);
        let url = hub.url();
        let ran = tokio::task::spawn_blocking(move || {
            Command::new("bash").arg("-c").arg(line).env("VISNYK_URL", url).output().unwrap()
        });
        let ran = tokio::time::timeout(Duration::from_secs(30), ran).await.unwrap().unwrap();
        let printed = String::from_utf8(ran.stdout).unwrap();
        let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
        let printed: Vec<&str> = printed.lines().collect();
        if output == ["…"] {
            continue;
        }
        assert_eq!(printed.len(), output.len(), "{command}\n{printed:#?}\n{errors}");
        for (printed, shown) in printed.iter().zip(&output) {
            assert!(matches(printed, shown), "{command}\nprinted {printed}\nshown   {shown}");
        }
    }
    hub.kill().await.unwrap();
}

/// The commands of `console` blocks: lines after `$ `, each with what follows as its output.
pub(crate) fn commands(markdown: &str) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    let mut inside = false;
    for line in markdown.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match (line.strip_prefix("$ "), shown.last_mut()) {
                (Some(command), _) => {
                    shown.push(Shown { command: command.to_owned(), output: Vec::new() });
                }
                (None, Some(last)) => last.output.push(line.to_owned()),
                (None, None) => panic!("output before any command: {line}"),
            },
        }
    }
    shown
}

/// Whether a line is as shown, `…` standing for anything.
pub(crate) fn matches(printed: &str, shown: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = printed.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut exact = true;
    for part in parts {
        exact = part.is_empty();
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    if shown.contains('…') { exact || rest.is_empty() } else { rest.is_empty() }
}

#[test]
fn an_ellipsis_stands_for_anything_and_nothing_else_does() {
    assert!(matches("a-1-b", "a-…-b"));
    assert!(!matches("a-1-c", "a-…-b"));
    assert!(!matches("a-1-b!", "a-…-b"));
    assert!(matches("abc", "a…"));
    assert!(!matches("abcd", "abc"));
}
