//! Looking after a running hub: `status`, `channels`, `connections`, `top`, `close`, `disconnect`
//! and `health`, in pipes and on a terminal.

use std::{
    net::TcpListener,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{process::Command, time::timeout};
use visnyk_loadtest::{Hub, HubCommand, SseClient, SseRequest};

use super::pty::OnATerminal;

pub(crate) const VISNYK: &str = env!("CARGO_BIN_EXE_visnyk");
const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const SECRET: &str = "a secret of these tests alone, 40 bytes.";

async fn hub() -> Hub {
    HubCommand::new(VISNYK).start().await.expect("a hub")
}

pub(crate) fn command(url: &str, args: &[&str]) -> Command {
    let mut command = Command::new(VISNYK);
    command.args(args).env_clear().env("VISNYK_URL", url);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

pub(crate) async fn output(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        timeout(PATIENCE, command.output()).await.expect("it ends").expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("it was not killed"), text(stdout), text(stderr))
}

/// What a command prints that succeeds and says nothing besides.
async fn printed(hub: &Hub, args: &[&str]) -> String {
    let (code, stdout, stderr) = output(command(&hub.url(), args)).await;
    assert_eq!((code, &*stderr), (0, ""), "{args:?}: {stdout}");
    stdout
}

async fn publish(hub: &Hub, channel: &str, data: &str) {
    printed(hub, &["publish", channel, data]).await;
}

async fn stream(hub: &Hub, query: &str) -> SseClient {
    let request = SseRequest::new(&format!("/v1/events?hello=1&{query}"));
    let mut stream = SseClient::connect(hub.address(), &request).await.expect("a stream");
    stream.next_block(PATIENCE).await.expect("a block").expect("the first");
    stream
}

fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split('\t').collect()).collect()
}

#[tokio::test]
async fn status_is_lines_of_name_and_value_in_a_pipe_and_json_on_demand() {
    let hub = hub().await;
    publish(&hub, "a", "x").await;
    let _stream = stream(&hub, "channel=a").await;
    let text = printed(&hub, &["status"]).await;
    let lines = rows(&text);
    for expected in [["version", env!("CARGO_PKG_VERSION")], ["state", "ready"], ["streams", "1"]] {
        assert!(lines.iter().any(|line| line[..] == expected), "{expected:?} is not in {text}");
    }
    let json: Value =
        serde_json::from_str(&printed(&hub, &["status", "--json"]).await).expect("JSON");
    assert_eq!(json["connections"]["streams"], 1);
    assert_eq!(json["since_start"]["events_published"], 1);
}

#[tokio::test]
async fn channels_are_listed_by_prefix_sorted_and_page_by_page() {
    let hub = hub().await;
    for (channel, events) in [("orders/eu", 1), ("orders/us", 3), ("other", 2)] {
        for _ in 0..events {
            publish(&hub, channel, "x").await;
        }
    }
    let text = printed(&hub, &["channels"]).await;
    let lines = rows(&text);
    assert_eq!(lines[0][..4], ["CHANNEL", "SUBSCRIBERS", "POLLERS", "EVENTS"], "{text}");
    let names = |text: &str| -> Vec<String> {
        rows(text)[1..].iter().map(|row| row[0].to_owned()).collect()
    };
    assert_eq!(names(&text), ["orders/eu", "orders/us", "other"]);
    assert_eq!(lines[2][3], "3");
    let text = printed(&hub, &["channels", "orders/"]).await;
    assert_eq!(names(&text), ["orders/eu", "orders/us"]);
    let text = printed(&hub, &["channels", "--sort", "events", "--limit", "2"]).await;
    assert_eq!(names(&text), ["orders/us", "other"]);
    let (code, stdout, stderr) = output(command(&hub.url(), &["channels", "--limit", "1"])).await;
    assert_eq!((code, names(&stdout)), (0, vec!["orders/eu".to_owned()]));
    assert!(stderr.contains("--after orders/eu"), "{stderr}");
    let args = ["channels", "--limit", "1", "--after", "orders/eu", "--json"];
    let json: Value = serde_json::from_str(&printed(&hub, &args).await).expect("JSON");
    assert_eq!(
        (&json["channels"][0]["channel"], &json["next"]),
        (&"orders/us".into(), &"orders/us".into())
    );
}

#[tokio::test]
async fn a_listing_longer_than_a_page_is_whole() {
    let hub = hub().await;
    let lines: String =
        (0..1_203).map(|n| format!("{{\"channel\":\"c{n:04}\",\"data\":{n}}}\n")).collect();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("events.ndjson");
    std::fs::write(&file, lines).expect("written");
    printed(&hub, &["publish", "c", "--file", file.to_str().expect("UTF-8")]).await;
    let text = printed(&hub, &["channels", "--limit", "5000"]).await;
    let names: Vec<&str> = rows(&text)[1..].iter().map(|row| row[0]).collect();
    assert_eq!(names.len(), 1_203);
    assert!(names.is_sorted() && names[1_202] == "c1202", "{names:?}");
}

#[tokio::test]
async fn connections_are_listed_explained_and_ended() {
    let hub = hub().await;
    let mut first = stream(&hub, "channel=a&channel=b/**").await;
    let hello = first.next_block(PATIENCE).await.expect("a block").expect("a hello");
    let hello: Value = serde_json::from_str(&hello.data.expect("data")).expect("JSON");
    let id = hello["connection"].as_str().expect("an id");
    let _second = stream(&hub, "channel=c").await;
    let text = printed(&hub, &["connections"]).await;
    assert_eq!(rows(&text).len(), 3, "{text}");
    let text = printed(&hub, &["connections", "--channel", "a", "--sort", "lag"]).await;
    let lines = rows(&text);
    assert_eq!((lines[1][0], lines[1][1], lines[1][2]), (id, "live", "sse"), "{text}");
    let channels = lines[0].iter().position(|name| *name == "CHANNELS").expect("a column");
    assert_eq!(lines[1][channels], "a b/**", "{text}");
    let explained = printed(&hub, &["connections", id]).await;
    assert!(
        explained.starts_with(&format!("Connection {id} is a stream of a, b/**.\n")),
        "{explained}"
    );
    assert!(explained.contains("It is live: nothing is due to it."), "{explained}");
    let json = printed(&hub, &["connections", id, "--json"]).await;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["id"], id);

    assert_eq!(printed(&hub, &["disconnect", id]).await, "");
    let explained = printed(&hub, &["connections", id]).await;
    assert!(explained.contains("an administrator ended it"), "{explained}");
    let text = printed(&hub, &["connections", "--state", "closed"]).await;
    assert_eq!(rows(&text)[1][1], "closed: ended_by_admin", "{text}");
    for (args, why) in [
        (["disconnect", id], "has ended: ended_by_admin, at 20"),
        (["disconnect", "99999"], "there is no connection `99999`"),
        (["connections", "99999"], "there is no connection `99999`"),
    ] {
        let (code, stdout, stderr) = output(command(&hub.url(), &args)).await;
        assert_eq!((code, &*stdout), (1, ""), "{stderr}");
        assert!(stderr.contains("404 Not Found: ") && stderr.contains(why), "{stderr}");
    }
}

#[tokio::test]
async fn a_reader_that_has_enough_ends_a_listing_quietly() {
    let hub = hub().await;
    publish(&hub, "a", "x").await;
    for args in ["channels", "connections", "status", "top --interval 0.1", "channels --json"] {
        let line = format!("\"$0\" {args} | head -n 1");
        let mut shell = Command::new("sh");
        shell.args(["-c", &line, VISNYK]).env("VISNYK_URL", hub.url());
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (code, stdout, stderr) = output(shell).await;
        assert_eq!((code, stdout.lines().count(), &*stderr), (0, 1, ""), "{args}: {stdout}");
    }
}

#[tokio::test]
async fn top_is_a_line_a_look_in_a_pipe() {
    let hub = hub().await;
    publish(&hub, "a", "x").await;
    let text = printed(&hub, &["top", "--interval", "0.1", "--count", "3"]).await;
    let lines = rows(&text);
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(lines[0][..2], ["uptime_ms", "events_per_s"]);
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
    let uptimes: Vec<u64> = lines[1..].iter().map(|line| line[0].parse().expect("ms")).collect();
    assert!(uptimes.is_sorted() && uptimes[2] >= uptimes[0] + 150, "{text}");
    assert_ne!(lines[1][1], "0.0", "since the start there was an event");
    assert_eq!(lines[3][1], "0.0", "and none between two looks");
}

#[tokio::test]
async fn top_on_a_terminal_draws_until_q_or_ctrl_c_and_restores_it() {
    let hub = hub().await;
    publish(&hub, "orders/eu", "x").await;
    let _stream = stream(&hub, "channel=orders/eu").await;
    let env = [("VISNYK_URL", &*hub.url())];
    for keys in ["q", "\u{3}"] {
        let line = "trap : INT; \"$VISNYK\" top --interval 0.2; echo code $?; stty -a";
        let mut top = OnATerminal::run(line, (90, 20), &env);
        let seen = top.sees("orders/eu").await;
        assert!(seen.contains("\u{1b}[?1049h") && seen.contains("streams 1 "), "{seen:?}");
        assert!(!seen.contains("\u{1b}[?1049l"), "{seen:?}");
        top.types(keys).await;
        let (seen, _) = top.ends().await;
        let (_, after) = seen.split_once("\u{1b}[?1049l").expect("the other screen is left");
        assert!(after.contains("code 0"), "{keys:?}: {after:?}");
        let words: Vec<&str> = after.split([' ', '\n', ';']).collect();
        assert!(words.contains(&"icanon") && words.contains(&"echo"), "{after:?}");
    }
    // A hub that is not there is an error, below what was on the screen before.
    let env = [("VISNYK_URL", "127.0.0.1:1")];
    let (seen, code) = OnATerminal::run("\"$VISNYK\" top", (90, 20), &env).ends().await;
    let (_, after) = seen.split_once("\u{1b}[?1049l").expect("the other screen is left");
    assert!(after.contains("cannot reach the hub") && after.contains("hint: "), "{after:?}");
    assert_eq!(code, 1);
}

#[tokio::test]
async fn a_table_on_a_terminal_is_as_wide_as_that() {
    let hub = hub().await;
    let name = "long/".repeat(30);
    publish(&hub, name.trim_end_matches('/'), "x").await;
    let env = [("VISNYK_URL", &*hub.url())];
    let (seen, code) = OnATerminal::run("\"$VISNYK\" channels", (72, 20), &env).ends().await;
    assert_eq!(code, 0);
    assert!(seen.contains("\u{1b}[1mCHANNEL\u{1b}[0m") && seen.contains('…'), "{seen:?}");
    let env = [("VISNYK_URL", &*hub.url()), ("NO_COLOR", "1")];
    let (seen, _) = OnATerminal::run("\"$VISNYK\" channels", (72, 20), &env).ends().await;
    assert!(!seen.contains('\u{1b}') && !seen.contains('\t'), "{seen:?}");
    assert!(seen.lines().all(|line| line.chars().count() <= 72), "{seen}");
}

#[tokio::test]
async fn close_asks_on_a_terminal_and_not_in_a_pipe() {
    let hub = hub().await;
    let env = [("VISNYK_URL", &*hub.url())];
    publish(&hub, "asked", "x").await;
    for (answer, code) in [("n\n", 1), ("\n", 1), ("y\n", 0)] {
        let mut close = OnATerminal::run("\"$VISNYK\" close asked", (80, 20), &env);
        close.sees("Close `asked`, with 0 subscribers, 0 waiting polls and 1 events? [y/N]").await;
        close.types(answer).await;
        let (seen, ended) = close.ends().await;
        assert_eq!(ended, code, "{seen}");
        let text = printed(&hub, &["channels", "asked"]).await;
        let state = rows(&text)[1][6];
        assert_eq!(state == "closed", code == 0, "{text}");
    }
    publish(&hub, "agreed", "x").await;
    let close = OnATerminal::run("\"$VISNYK\" close agreed --yes", (80, 20), &env);
    assert_eq!(close.ends().await.1, 0);
    publish(&hub, "piped", "x").await;
    assert_eq!(printed(&hub, &["close", "piped"]).await, "");
    let (code, _, stderr) = output(command(&hub.url(), &["publish", "piped", "x"])).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("410 Gone"), "{stderr}");
    let (code, _, stderr) = output(command(&hub.url(), &["close", "none"])).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("404 Not Found"), "{stderr}");
}

#[tokio::test]
async fn health_says_nothing_but_why_not_and_waits_no_longer_than_asked() {
    let hub = hub().await;
    for args in [&["health"][..], &["health", "--ready"]] {
        assert_eq!(printed(&hub, args).await, "");
    }
    // A port with no server, one that accepts and says nothing, and another kind of server.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("its address").to_string();
    for (url, args, reason) in [
        ("127.0.0.1:1", &["health"][..], "cannot reach the hub"),
        (&silent, &["health", "--timeout", "1"], "nothing came for 1.0 s"),
        (&format!("{}/hub", hub.url()), &["health", "--ready"], "404 Not Found"),
    ] {
        let begun = Instant::now();
        let (code, stdout, stderr) = output(command(url, args)).await;
        assert_eq!((code, &*stdout), (1, ""), "{url}: {stderr}");
        assert!(stderr.contains(reason), "{url}: {stderr}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{url}");
    }
    let (code, _, stderr) = output(command("ftp://a", &["health"])).await;
    assert_eq!(code, 2, "{stderr}");
}

#[tokio::test]
async fn health_tells_ready_from_alive() {
    let settings = [("drain_delay_s", "60")];
    let hub = HubCommand::new(VISNYK).settings(&settings).start().await.expect("a hub");
    hub.terminate().expect("it runs");
    let ready = async { while output(command(&hub.url(), &["health", "--ready"])).await.0 == 0 {} };
    timeout(PATIENCE, ready).await.expect("it is not ready");
    assert_eq!(printed(&hub, &["health"]).await, "");
    let (code, _, stderr) = output(command(&hub.url(), &["health", "--ready"])).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("503 Service Unavailable"), "{stderr}");
}

#[tokio::test]
async fn what_a_token_does_not_allow_is_refused_with_a_hint() {
    let hub = HubCommand::new(VISNYK).env("VISNYK_JWT_SECRET", SECRET);
    let hub = hub.start().await.expect("a hub");
    let token = async |args: &[&str]| {
        let mut token = command(&hub.url(), &[&["token"], args].concat());
        token.env("VISNYK_JWT_SECRET", SECRET);
        let (code, stdout, stderr) = output(token).await;
        assert_eq!(code, 0, "{stderr}");
        stdout.trim_end().to_owned()
    };
    let admin = token(&["--admin"]).await;
    let reader = token(&["--subject", "ann", "--subscribe", "**"]).await;
    for args in [&["status"][..], &["top"], &["close", "a"], &["disconnect", "1"]] {
        let (code, stdout, stderr) = output(command(&hub.url(), args)).await;
        assert_eq!((code, &*stdout), (1, ""), "{args:?}: {stderr}");
        let hint = "hint: --token or VISNYK_TOKEN has the token to send";
        assert!(stderr.contains("401 Unauthorized") && stderr.contains(hint), "{args:?}: {stderr}");
        let (code, _, stderr) =
            output(command(&hub.url(), &[args, &["--token", &reader]].concat())).await;
        assert_eq!(code, 1, "{args:?}: {stderr}");
        let hint = "hint: `visnyk token --explain TOKEN`";
        assert!(stderr.contains("403 Forbidden") && stderr.contains(hint), "{args:?}: {stderr}");
    }
    printed(&hub, &["status", "--token", &admin]).await;
    printed(&hub, &["channels", "--token", &reader]).await;
    printed(&hub, &["connections", "--token", &reader]).await;
    // A health check has no token.
    printed(&hub, &["health", "--ready"]).await;
}

#[tokio::test]
async fn subscribe_on_a_terminal_is_for_people() {
    let hub = hub().await;
    publish(&hub, "news", "plain").await;
    printed(&hub, &["publish", "news", "{\"b\":[1,2],\"a\":\"x\"}", "--type", "json"]).await;
    let line = "\"$VISNYK\" subscribe news --from earliest --count 2 --quiet";
    for (columns, data) in [(80, "  {\"b\":[1,2],\"a\":\"x\"}\n"), (30, "\n  {\n    \"b\": [\n")] {
        let env = [("VISNYK_URL", &*hub.url()), ("NO_COLOR", "1")];
        let (seen, code) = OnATerminal::run(line, (columns, 20), &env).ends().await;
        assert_eq!(code, 0);
        assert!(seen.contains("Z  news  plain\n") && seen.contains("Z  news  json"), "{seen:?}");
        assert!(seen.contains(data) && !seen.contains('\u{1b}'), "{seen:?}");
    }
    let env = [("VISNYK_URL", &*hub.url())];
    let (seen, _) = OnATerminal::run(line, (80, 20), &env).ends().await;
    assert!(seen.contains("\u{1b}[36mnews\u{1b}[0m"), "{seen:?}");
    let (seen, _) = OnATerminal::run(&format!("{line} --format data"), (80, 20), &env).ends().await;
    assert!(seen.ends_with("plain\n{\"b\":[1,2],\"a\":\"x\"}\n"), "{seen:?}");
}

#[tokio::test]
async fn each_command_has_examples_in_its_help() {
    let (_, help, _) = output(command("", &["--help"])).await;
    let (_, commands) = help.split_once("Run a hub:").expect("groups of commands");
    let (commands, _) = commands.split_once("Options:").expect("its own options");
    let commands = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    for name in commands {
        let (code, help, _) = output(command("", &[name, "--help"])).await;
        assert_eq!(code, 0);
        assert!(
            help.contains("Examples:") && help.contains(&format!("visnyk {name}"))
                || name == "serve",
            "{help}"
        );
    }
}
