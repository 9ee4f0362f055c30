//! `visnyk publish` and `visnyk subscribe` against a real hub, both as they are started from a
//! shell.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;
use visnyk_loadtest::{Exchange, Hub, HubCommand, Sequence};

const VISNYK: &str = env!("CARGO_BIN_EXE_visnyk");
const PATIENCE: Duration = Duration::from_secs(30);

/// A hub in an empty directory, which is also where its clients are started.
struct Stage {
    hub: Hub,
    directory: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        Self::with_settings("").await
    }

    async fn with_settings(toml: &str) -> Self {
        let directory = tempfile::tempdir().expect("a writable directory");
        std::fs::write(directory.path().join("visnyk.toml"), toml).expect("a writable directory");
        let hub = HubCommand::new(VISNYK).directory(directory.path()).start().await;
        Self { hub: hub.expect("it starts"), directory }
    }

    fn visnyk(&self, command: &str, args: &[&str]) -> Command {
        let mut visnyk = visnyk(command);
        visnyk.args(args).env("VISNYK_URL", self.hub.url()).current_dir(&self.directory);
        visnyk
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).expect("a writable directory");
        path
    }

    /// Publishes in good order and gives the last position.
    async fn publish(&self, args: &[&str]) -> String {
        let output = finish(self.visnyk("publish", args)).await;
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).trim_end().to_owned()
    }

    /// Publishes `input` by way of a pipe.
    async fn publish_stdin(&self, args: &[&str], input: &str) -> Output {
        let mut publish = self.visnyk("publish", args);
        let mut publish = publish.stdin(Stdio::piped()).spawn().expect("it starts");
        let mut stdin = publish.stdin.take().expect("it is piped");
        stdin.write_all(input.as_bytes()).await.expect("it reads on");
        drop(stdin);
        wait(publish).await
    }

    /// What a subscription to the end prints.
    async fn printed(&self, args: &[&str]) -> String {
        let output = finish(self.visnyk("subscribe", args)).await;
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    }

    async fn subscriber(&self, args: &[&str]) -> Subscriber {
        Subscriber::start(self.visnyk("subscribe", args)).await
    }

    /// Starts another hub where the killed one was.
    async fn restart_hub(&mut self) {
        let again = HubCommand::new(VISNYK).directory(self.directory.path());
        self.hub = again.listen(self.hub.address()).start().await.expect("the port is free");
    }
}

/// A subscription that the hub has registered.
struct Subscriber {
    child: Child,
    notes: Lines<BufReader<ChildStderr>>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Subscriber {
    async fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("it starts");
        let notes = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut subscriber = Self { child, notes, lines };
        subscriber.wait_for_note("subscribed at").await;
        subscriber
    }

    async fn wait_for_note(&mut self, part: &str) -> String {
        let note = async {
            loop {
                let line = self.notes.next_line().await.expect("readable");
                let line = line.unwrap_or_else(|| panic!("it never said {part:?}"));
                if line.contains(part) {
                    return line;
                }
            }
        };
        timeout(PATIENCE, note).await.unwrap_or_else(|_| panic!("it does not say {part:?}"))
    }

    /// The next line it prints.
    async fn next_line(&mut self) -> Option<String> {
        timeout(PATIENCE, self.lines.next_line()).await.expect("it goes on").expect("readable")
    }

    /// What else it prints until it ends in good order.
    async fn rest(mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.next_line().await {
            lines.push(line);
        }
        let output = wait(self.child).await;
        assert!(output.status.success(), "{}", output.status);
        lines
    }
}

fn visnyk(command: &str) -> Command {
    let mut visnyk = Command::new(VISNYK);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VISNYK_") {
            visnyk.env_remove(name);
        }
    }
    visnyk.arg(command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    visnyk.kill_on_drop(true);
    visnyk
}

async fn finish(mut command: Command) -> Output {
    wait(command.spawn().expect("it starts")).await
}

async fn wait(child: Child) -> Output {
    timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").expect("it ran")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn numbered(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("event {n}")).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[tokio::test]
async fn one_event_is_published_and_its_position_resumes_behind_it() {
    let stage = Stage::new().await;
    let first = stage.publish(&["news/kyiv", "one", "--type", "headline"]).await;
    stage.publish(&["news/kyiv", "two\nlines"]).await;
    let printed = stage.printed(&["news/kyiv", "--from", "earliest", "--count", "2"]).await;
    assert_eq!(printed, "one\ntwo\nlines\n");
    for transport in ["sse", "poll"] {
        let args = ["news/*", "--last", "1", "--count", "1", "--transport", transport];
        assert_eq!(stage.printed(&args).await, "two\nlines\n", "{transport}");
    }
    let args = ["news/*", "--from", &first, "--count", "1", "--format", "sse"];
    let printed = stage.printed(&args).await;
    assert!(printed.starts_with("data: two\ndata: lines\nid: "), "{printed}");
    let args = ["**", "--from", "earliest", "--type", "headline", "--count", "1"];
    let printed = stage.printed(&[&args[..], &["--format", "json"]].concat()).await;
    let event: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(event["id"], *first);
    assert_eq!(event["channel"], "news/kyiv");
    assert_eq!(event["type"], "headline");
    assert_eq!(event["data"], "one");
    assert!(event["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{printed}");
}

#[tokio::test]
async fn lines_of_stdin_and_of_a_file_arrive_once_and_in_order_on_both_transports() {
    // As fast as the hub takes them is faster than a poll fetches them.
    let stage = Stage::with_settings("[limits.history]\nevents_max = 10_000").await;
    let lines = numbered(5_000);
    let (half, rest) = lines.split_at(2_345);
    let mut subscribers = Vec::new();
    for transport in ["sse", "poll"] {
        let args = ["lines", "--transport", transport, "--count", "5000"];
        subscribers.push((transport, stage.subscriber(&args).await));
    }
    // Read while it is written: otherwise a full pipe would make the subscriber a slow one.
    let printed: Vec<_> = subscribers
        .into_iter()
        .map(|(transport, subscriber)| (transport, tokio::spawn(subscriber.rest())))
        .collect();
    let output = stage.publish_stdin(&["lines"], &(half.join("\n") + "\n")).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let file = stage.file("rest.txt", rest.join("\r\n"));
    stage.publish(&["lines", "--file", text(&file)]).await;
    for (transport, printed) in printed {
        let printed = printed.await.expect("it does not panic");
        Sequence::new(&lines).assert_received(transport, &printed);
    }
}

#[tokio::test]
async fn envelopes_bring_their_types_and_channels() {
    let stage = Stage::new().await;
    let file = stage.file(
        "day.ndjson",
        concat!(
            r#"{"data":"plain"}"#,
            "\n\n",
            r#"{"data":{"price": 7.50, "of": "tea"},"type":"price"}"#,
            "\n",
            r#"{"data":"elsewhere","channel":"other"}"#,
            "\n"
        ),
    );
    stage.publish(&["shop", "--file", text(&file), "--type", "note"]).await;
    let args = ["shop", "other", "--from", "earliest", "--count", "3", "--format", "json"];
    let printed = stage.printed(&args).await;
    let events: Vec<serde_json::Value> =
        printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let expected = [
        ("shop", "note", "plain"),
        ("shop", "price", r#"{"price":7.50,"of":"tea"}"#),
        ("other", "note", "elsewhere"),
    ];
    for (event, (channel, event_type, data)) in events.iter().zip(expected) {
        let seen = (&event["channel"], &event["type"], &event["data"]);
        assert_eq!(seen, (&channel.into(), &event_type.into(), &data.into()));
    }
    let args = ["shop", "--from", "earliest", "--type", "price", "--count", "1"];
    assert_eq!(stage.printed(&args).await, "{\"price\":7.50,\"of\":\"tea\"}\n");
}

#[tokio::test]
async fn elements_of_an_array_are_events_and_some_can_be_left_out() {
    let stage = Stage::new().await;
    let file = stage.file("rows.json", "[\n  {\"n\": 1},\n  {\"n\": 2},\n  \"three\"\n]\n");
    stage.publish(&["rows", "--json-array", "--skip", "1", "--file", text(&file)]).await;
    let printed = stage.printed(&["rows", "--from", "earliest", "--count", "2"]).await;
    assert_eq!(printed, "{\"n\":2}\nthree\n");
}

#[tokio::test]
async fn lines_of_a_pipe_are_published_as_they_come() {
    let stage = Stage::new().await;
    let mut publish = stage.visnyk("publish", &["live"]);
    let mut publish = publish.stdin(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = publish.stdin.take().expect("it is piped");
    for line in ["one", "two"] {
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("it reads on");
        // The pipe is still open, so this ends only if the line has been published already.
        let args = ["live", "--from", "earliest", "--count", if line == "one" { "1" } else { "2" }];
        assert!(stage.printed(&args).await.ends_with(&format!("{line}\n")));
    }
    drop(stdin);
    assert!(wait(publish).await.status.success());
}

#[tokio::test]
async fn rate_spreads_the_events_over_time() {
    let stage = Stage::new().await;
    let begun = Instant::now();
    let output = stage.publish_stdin(&["ticker", "--rate", "20"], "a\nb\nc\nd\ne\nf\n").await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
    let printed = stage.printed(&["ticker", "--from", "earliest", "--count", "6"]).await;
    assert_eq!(printed, "a\nb\nc\nd\ne\nf\n");
}

#[tokio::test]
async fn both_ends_ride_out_a_restart_of_the_hub() {
    let mut stage = Stage::new().await;
    for transport in ["sse", "poll"] {
        let args = ["a", "--transport", transport, "--count", "2"];
        let mut subscriber = stage.subscriber(&args).await;
        stage.publish(&["a", "before"]).await;
        // An acknowledgement does not wait for the subscribers, and memory history dies with its
        // hub.
        assert_eq!(subscriber.next_line().await.as_deref(), Some("before"));
        stage.hub.kill().await.expect("it runs");
        subscriber.wait_for_note("again in").await;
        let mut publisher = stage.visnyk("publish", &["a", "after"]).spawn().expect("it starts");
        let notes = publisher.stderr.take().expect("it is piped");
        let note = BufReader::new(notes).lines().next_line().await.expect("readable");
        assert!(note.is_some_and(|note| note.contains("cannot reach the hub")));
        stage.restart_hub().await;
        // The history of the first hub is gone, and the subscriber gets a gap.
        subscriber.wait_for_note("events are missing (epoch)").await;
        assert!(wait(publisher).await.status.success());
        assert_eq!(subscriber.rest().await, ["after"]);
    }
}

/// Forwards to the hub, but of the first three connections it swallows the answers: the hub has
/// taken the batch and the publisher cannot know.
async fn swallow_three_answers(hub: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        for count in 0.. {
            let (mut near, _) = listener.accept().await.expect("accepting");
            let mut far = TcpStream::connect(hub).await.expect("the hub runs");
            tokio::spawn(async move {
                if count >= 3 {
                    return tokio::io::copy_bidirectional(&mut near, &mut far).await.map(drop);
                }
                let (mut request, _) = near.split();
                let (answer, mut forward) = far.split();
                tokio::select! {
                    result = tokio::io::copy(&mut request, &mut forward) => result.map(drop),
                    answered = answer.readable() => answered,
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn batch_whose_acknowledgement_is_lost_is_published_once() {
    let stage = Stage::new().await;
    let proxy = swallow_three_answers(stage.hub.address()).await;
    let url = format!("http://{proxy}");
    let lines = numbered(300);
    let file = stage.file("lines.txt", lines.join("\n"));
    let args = ["a", "--file", text(&file), "--url", &url];
    let output = finish(stage.visnyk("publish", &args)).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output).matches("; again in ").count(), 3, "{}", stderr(&output));
    stage.publish(&["a", "mark"]).await;
    let printed = stage.printed(&["a", "--from", "earliest", "--count", "301"]).await;
    let printed: Vec<&str> = printed.lines().collect();
    let expected = lines.iter().map(String::as_str).chain(["mark"]);
    Sequence::new(expected).assert_received("the subscriber", &printed);
}

#[tokio::test]
async fn closed_channel_ends_the_subscription_in_good_order() {
    let stage = Stage::new().await;
    for (channel, transport) in [("a", "sse"), ("b", "poll")] {
        let mut subscriber = stage.subscriber(&[channel, "--transport", transport]).await;
        let target = format!("/v1/channels/{channel}");
        let mut exchange = Exchange::new(stage.hub.address());
        let answer = exchange.request("DELETE", &target, &[], b"", PATIENCE).await;
        assert_eq!(answer.expect("an answer").status(), 204);
        subscriber.wait_for_note(&format!("channel `{channel}` is closed")).await;
        assert!(subscriber.rest().await.is_empty());
        let output = finish(stage.visnyk("publish", &[channel, "late"])).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("410 Gone"), "{}", stderr(&output));
    }
}

#[tokio::test]
async fn bad_line_stops_publishing_and_says_how_many_were_acknowledged() {
    let stage = Stage::new().await;
    let good: String = (1..=1_500).map(|n| format!("{{\"data\":{n}}}\n")).collect();
    for (bad, complaint) in [
        ("{\"data\":1,\"colour\":\"red\"}\n", "line 1501"),
        ("{\"data\":1,\"type\":\"visnyk.own\"}\n", "the hub did not take line 1501 of the input"),
        ("{\"data\":1,\"channel\":\"a//b\"}\n", "the hub did not take line 1501 of the input"),
    ] {
        let file = stage.file("bad.ndjson", good.clone() + bad + "{\"data\":2}\n");
        let output = finish(stage.visnyk("publish", &["a", "--file", text(&file)])).await;
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(&output);
        assert!(said.contains(complaint), "{said}");
        let acknowledged = said
            .lines()
            .find_map(|line| {
                line.strip_prefix("visnyk: ")?.strip_suffix(" events acknowledged, then it stopped")
            })
            .unwrap_or_else(|| panic!("no count in {said}"));
        // What it printed is the position of the last one acknowledged, and that many are there.
        let last = stdout(&output);
        let acknowledged: usize = acknowledged.parse().expect("a number");
        assert!((1_000..=1_500).contains(&acknowledged), "{acknowledged}");
        stage.publish(&["a", "mark"]).await;
        let printed = stage.printed(&["a", "--from", last.trim_end(), "--count", "1"]).await;
        assert_eq!(printed, "mark\n");
    }
}

#[tokio::test]
async fn bad_usage_is_2_and_a_refusal_1() {
    let stage = Stage::new().await;
    let cases: [(&str, &[&str], i32, &str); 14] = [
        ("publish", &[], 2, "CHANNEL"),
        ("publish", &["", "x"], 2, "CHANNEL"),
        ("publish", &["a", "x", "--rate", "5"], 2, "--rate"),
        ("publish", &["a", "--rate", "0"], 2, "events a second"),
        ("publish", &["a", "--ndjson", "--json-array"], 2, "--json-array"),
        ("publish", &["a", "--file", "missing.txt"], 2, "missing.txt"),
        ("publish", &["a", "x", "--url", "ftp://a"], 2, "http://host:port"),
        ("publish", &["a", "x", "--token", "a b"], 2, "token"),
        ("publish", &["a//b", "x"], 1, "400 Bad Request"),
        ("publish", &["a", "x", "--type", "visnyk.own"], 1, "400 Bad Request"),
        ("subscribe", &[], 2, "CHANNEL"),
        ("subscribe", &["a", "--from", "a b"], 2, "is not a position"),
        ("subscribe", &["a", "--count", "0"], 2, "--count"),
        ("subscribe", &["a//b"], 1, "400 Bad Request"),
    ];
    for (command, args, code, complaint) in cases {
        let output = finish(stage.visnyk(command, args)).await;
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{command} {args:?}: {said}");
        assert!(said.contains(complaint), "{command} {args:?}: {said}");
        assert_eq!(stdout(&output), "");
    }
}

#[tokio::test]
async fn credentials_are_neither_in_help_nor_in_refusals() {
    let url = "http://planted-user:planted-password@localhost/hub?key=planted-key";
    for (command, arguments) in [("publish", &["a", "x"][..]), ("subscribe", &["a"])] {
        let mut by_flag = visnyk(command);
        by_flag.args(arguments).args(["--url", url]);
        let mut by_variable = visnyk(command);
        by_variable.args(arguments).env("VISNYK_URL", url);
        for refused in [by_flag, by_variable] {
            let output = finish(refused).await;
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains("`http://***@localhost/hub?***` is not a URL"), "{said}");
            assert!(!said.contains("planted"), "{said}");
        }
        let mut help = visnyk(command);
        help.arg("--help").env("VISNYK_URL", url).env("VISNYK_TOKEN", "planted-token");
        let said = stdout(&finish(help).await);
        assert!(said.contains("VISNYK_URL") && !said.contains("planted"), "{said}");
    }
}

#[tokio::test]
async fn publisher_gives_up_when_there_is_no_hub() {
    let mut publish = visnyk("publish");
    // No process listens on port 1.
    publish.args(["a", "x", "--url", "http://127.0.0.1:1", "--retry-for", "1"]);
    let output = finish(publish).await;
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("because: cannot reach the hub"), "{said}");
}

#[tokio::test]
async fn reader_that_has_enough_ends_the_subscription_quietly() {
    let stage = Stage::new().await;
    let output = stage.publish_stdin(&["a"], &numbered(900).join("\n")).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$0\" subscribe a --from earliest --quiet | head -n 1", VISNYK]);
    shell.env("VISNYK_URL", stage.hub.url()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = finish(shell).await;
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("event 1\n", ""));
}

#[tokio::test]
async fn interrupt_ends_the_subscription_in_good_order() {
    let stage = Stage::new().await;
    let subscriber = stage.subscriber(&["a"]).await;
    let pid = subscriber.child.id().expect("it runs").to_string();
    let kill = Command::new("kill").args(["-INT", &pid]).status().await.expect("it starts");
    assert!(kill.success());
    assert!(subscriber.rest().await.is_empty());
}
