//! Settings that are read again while the hub runs: what changes, what needs a restart, and what a
//! bad file does.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{process::Command, task::JoinSet};
use visnyk_loadtest::{Answer, Exchange, HubCommand, SseClient};

use super::{
    auth::admin_of,
    support::{PATIENCE, TestHub, data_of},
    wire,
};

/// A hub with a settings file.
struct FileHub {
    hub: TestHub,
    directory: TempDir,
}

const ORIGIN: &str = "https://app.example";

impl FileHub {
    async fn start(toml: &str) -> Self {
        Self::start_with(|_| toml.to_owned()).await
    }

    async fn start_with(toml: impl FnOnce(&Path) -> String) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let toml = toml(directory.path());
        fs::write(directory.path().join("visnyk.toml"), toml).expect("it is written");
        let command = HubCommand::new(env!("CARGO_BIN_EXE_visnyk")).directory(directory.path());
        Self { hub: TestHub::start_with(command).await, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, toml: &str) {
        fs::write(self.path("visnyk.toml"), toml).expect("it is written");
    }

    async fn ask(&self) -> Answer {
        self.hub.request("POST", "/v1/reload", &[], "").await
    }

    /// Reloads, and gives what has changed and what needs a restart.
    async fn reload(&self, toml: &str) -> Value {
        self.write(toml);
        let answer = self.ask().await;
        assert_eq!(answer.status(), 200, "{}", answer.body);
        answer.json()
    }

    async fn reloads(&self, result: &str) -> f64 {
        self.hub.metric(&format!("visnyk_reloads_total{{result=\"{result}\"}}")).await
    }

    async fn last(&self, result: &str) -> f64 {
        self.hub.metric(&format!("visnyk_reload_last_seconds{{result=\"{result}\"}}")).await
    }

    /// Whether pages of [`ORIGIN`] may use the hub.
    async fn admits_origin(&self) -> bool {
        let fields = [("Origin", ORIGIN)];
        let answer = self.hub.request("POST", "/v1/channels/x/events", &fields, "x").await;
        assert!([201, 403].contains(&answer.status()), "{}", answer.body);
        answer.status() == 201
    }
}

async fn streams(hub: &TestHub, count: usize) -> Vec<SseClient> {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(hub.stream("channel=a", "now").await);
    }
    streams
}

#[tokio::test]
async fn sighup_applies_what_has_changed_and_names_what_needs_a_restart() {
    let mut hub = FileHub::start("shards = 1").await;
    hub.hub.signal(Signal::HUP).expect("it runs");
    hub.hub
        .wait_for_line("were read again by=\"SIGHUP\" changed=\"\"", PATIENCE)
        .await
        .expect("a line");
    assert!(!hub.admits_origin().await);
    hub.write(&format!("shards = 2\nlisten = '127.0.0.1:1'\ncors_origins = '{ORIGIN}'"));
    assert!(!hub.admits_origin().await, "the file is read on demand alone");
    hub.hub.signal(Signal::HUP).expect("it runs");
    hub.hub.wait_for_line("changed=\"cors_origins\"", PATIENCE).await.expect("a line");
    // Not `listen`: the flag of the start wins over the file.
    let line = "need a restart; the old values stay settings=\"shards\"";
    hub.hub.wait_for_line(line, PATIENCE).await.expect("a line");
    assert!(hub.admits_origin().await);
    assert_eq!((hub.reloads("applied").await, hub.reloads("refused").await), (2.0, 0.0));
    assert!(hub.hub.metric("visnyk_reload_last_seconds{result=\"applied\"}").await > 1e9);
    assert_eq!(hub.hub.metric("visnyk_reload_last_seconds{result=\"refused\"}").await, 0.0);
}

#[tokio::test]
async fn a_file_that_is_wrong_gone_or_unreadable_changes_nothing_and_says_why() {
    let mut hub = FileHub::start("log.level = 'info'").await;
    let good = format!("cors_origins = '{ORIGIN}'\n");
    for (n, (bad, reason)) in [
        (
            "cors_orgins = 1",
            "unknown setting cors_orgins = 1 (visnyk.toml:2): did you mean cors_origins?",
        ),
        ("body_read_timeout_s = 0", "body_read_timeout_s = 0 (visnyk.toml:2) is refused"),
        ("quickstart = ", "visnyk.toml:2:14 is not TOML"),
        (
            "cors.credentials = true\nauth.issuer = 'x'",
            "auth.issuer (visnyk.toml:3) restricts nothing",
        ),
        ("jwt_secret_file = 'absent'\nlisten = '127.0.0.1:1'\nshards = 5000", "shards = 5000"),
    ]
    .into_iter()
    .enumerate()
    {
        hub.write(&(good.clone() + bad));
        let answer = hub.ask().await;
        assert_eq!(answer.status(), 422, "{}", answer.body);
        let problem = answer.json();
        let reasons = problem["reasons"].as_array().expect("reasons");
        assert!(reasons.iter().any(|said| said.as_str().unwrap().contains(reason)), "{problem}");
        assert!(
            problem["detail"].as_str().unwrap().starts_with("nothing has changed: "),
            "{problem}"
        );
        hub.hub.wait_for_line(reason, PATIENCE).await.expect("the same in the log");
        assert!(!hub.admits_origin().await);
        assert_eq!(
            (hub.reloads("applied").await, hub.reloads("refused").await),
            (0.0, n as f64 + 1.0)
        );
    }
    fs::remove_file(hub.path("visnyk.toml")).expect("it was there");
    assert!(hub.ask().await.body.contains("which does not exist"));
    // Reading it fails for every user.
    symlink(Path::new("/proc/self/mem"), hub.path("visnyk.toml")).expect("a link");
    let answer = hub.ask().await;
    assert!(answer.body.contains("visnyk.toml cannot be read: "), "{}", answer.body);
    assert!(hub.last("refused").await > hub.last("applied").await, "an alert compares these");
    fs::remove_file(hub.path("visnyk.toml")).expect("it was there");
    assert_eq!(hub.reload(&good).await["changed"], json!(["cors_origins"]));
    assert!(hub.admits_origin().await);
}

#[tokio::test]
async fn what_reloads_is_in_force_for_the_next_request() {
    let hub = FileHub::start("").await;
    let status =
        async |method, target, fields| hub.hub.request(method, target, fields, "x").await.status();
    // A list of hosts keeps others away.
    let by_host = async |host| {
        let get = format!("GET /v1/channels HTTP/1.1\r\nHost: {host}\r\n\r\n");
        wire::ask(&hub.hub, get).await.status
    };
    assert_eq!(by_host("hub.example").await, 421);
    let reloaded = hub.reload("allowed_hosts = 'hub.example'").await;
    assert_eq!(reloaded["changed"], json!(["allowed_hosts"]));
    assert_eq!(by_host("hub.example").await, 200);

    assert_eq!(status("GET", "/console/console.js", &[]).await, 200);
    hub.reload("quickstart = false").await;
    assert_eq!(status("GET", "/console/console.js", &[]).await, 404);
    assert_eq!(by_host("hub.example").await, 421, "what a file leaves out is the default");

    // A rule for channels, also for those that are here.
    for n in 0..5 {
        hub.hub.publish("a", &n.to_string()).await;
    }
    let rules = "[[channels.rules]]\npattern = 'a'\nevents_max = 2";
    assert_eq!(hub.reload(rules).await["changed"], json!(["quickstart", "channels.rules"]));
    hub.hub.publish("a", "last").await;
    assert_eq!(hub.hub.channel("a").await["events_retained"], 2);

    // Limits that each request reads.
    let limits =
        "[limits.poll]\nlimit = 1\n[limits.publish]\nbody_bytes_max = 2\nbatch_events_max = 1";
    let changed = json!([
        "channels.rules",
        "limits.publish.body_bytes_max",
        "limits.publish.batch_events_max",
        "limits.poll.limit"
    ]);
    assert_eq!(hub.reload(limits).await["changed"], changed);
    let answer =
        hub.hub.request("GET", "/v1/channels/a/poll?last_event_id=earliest", &[], "").await;
    assert_eq!(answer.json()["events"].as_array().map(Vec::len), Some(1), "{}", answer.body);
    let publish = async |data| hub.hub.request("POST", "/v1/channels/b/events", &[], data).await;
    assert_eq!((publish("xx").await.status(), publish("xxx").await.status()), (201, 413));

    // The client that a proxy names.
    hub.reload("trusted_proxies = '127.0.0.1'").await;
    let mut follower = hub.hub.stream("channel=a", "now").await;
    let forwarded: &[(&str, &str)] = &[("X-Forwarded-For", "192.0.2.7")];
    let _ = hub.reload("trusted_proxies = '127.0.0.1'\nlog.access = true").await;
    assert_eq!(status("GET", "/v1/channels", forwarded).await, 200);
    let mut hub = hub;
    hub.hub.wait_for_line("192.0.2.7", PATIENCE).await.expect("the access log names the client");

    hub.reload("log.level = 'visnyk::server=debug'").await;
    hub.reload("log.level = 'error'").await;
    hub.hub.signal(Signal::USR1).expect("it runs");
    hub.reload("log.level = 'info'").await;
    hub.hub.publish("a", "still here").await;
    assert_eq!(data_of(&mut follower, 1).await, ["still here"]);
    assert!(!hub.hub.stderr().contains("SIGUSR1"), "{}", hub.hub.stderr());
}

#[tokio::test]
async fn streams_stay_open_and_are_sent_every_event_while_settings_change() {
    const STREAMS: usize = 100;
    const ROUNDS: usize = 20;
    let hub = FileHub::start("").await;
    let mut streams = streams(&hub.hub, STREAMS).await;
    let mut expected = Vec::new();
    for n in 0..ROUNDS {
        let data = n.to_string();
        hub.hub.publish("a", &data).await;
        expected.push(data);
        let rules = format!("[[channels.rules]]\npattern = '**'\nevents_max = {}", 100 + n);
        let toml = format!("cors_origins = 'https://{n}.example'\n{rules}");
        if n % 3 == 2 {
            hub.write("bad");
            assert_eq!(hub.ask().await.status(), 422);
        } else {
            let changed = &hub.reload(&toml).await["changed"];
            assert_eq!(changed, &json!(["cors_origins", "channels.rules"]));
        }
    }
    for stream in &mut streams {
        assert_eq!(data_of(stream, ROUNDS).await, expected);
    }
    assert_eq!(hub.hub.metric("visnyk_streams").await, STREAMS as f64);
    assert_eq!(hub.hub.metric("visnyk_connections_opened_total").await, STREAMS as f64);
}

#[tokio::test]
async fn two_reloads_at_once_take_place_one_after_the_other() {
    let hub = FileHub::start("").await;
    hub.write(&format!("cors_origins = '{ORIGIN}'"));
    let (one, other) = tokio::join!(hub.ask(), hub.ask());
    let changed = [&one, &other].map(|answer| answer.json()["changed"].as_array().unwrap().len());
    assert_eq!(changed.iter().sum::<usize>(), 1, "{changed:?}");
    assert_eq!(hub.reloads("applied").await, 2.0);
}

#[tokio::test]
async fn a_file_that_does_not_answer_holds_up_nothing_but_reloads_and_few_of_those_wait() {
    const WAITING_MAX: usize = 8;
    let secret = "x".repeat(40);
    let mut hub = FileHub::start_with(|directory| {
        let file = directory.join("secret");
        fs::write(&file, "x".repeat(40)).expect("it is written");
        format!("jwt_secret_file = '{}'\nauth.metrics = 'open'", file.display())
    })
    .await;
    let file = hub.path("secret");
    fs::remove_file(&file).expect("it was there");
    let made = Command::new("mkfifo").arg(&file).status().await;
    assert!(made.expect("it runs").success());
    hub.hub.signal(Signal::HUP).expect("it runs");
    hub.hub.wait_for_line("reading the settings again", PATIENCE).await.expect("a line");
    let mut waiting = JoinSet::new();
    for _ in 0..=WAITING_MAX {
        let mut exchange = Exchange::new(hub.hub.address());
        let bearer = format!("Bearer {}", admin_of(&secret));
        waiting.spawn(async move {
            let fields = [("Authorization", &*bearer)];
            exchange.request("POST", "/v1/reload", &fields, b"", PATIENCE).await.expect("an answer")
        });
    }
    let first = waiting.join_next().await.expect("nine").expect("an answer");
    assert_eq!(first.status(), 503, "{}", first.body);
    assert!(first.body.contains("too many reloads wait"), "{}", first.body);
    // Metrics are served meanwhile.
    assert_eq!(hub.reloads("applied").await, 0.0);
    for n in 1..=WAITING_MAX + 1 {
        // Each reload opens the file again, and reads until its writer has closed it.
        let (file, secret) = (file.clone(), secret.clone());
        let fed = tokio::task::spawn_blocking(move || fs::write(&file, secret)).await;
        fed.expect("no panic").expect("it is read");
        let applied = "visnyk_reloads_total{result=\"applied\"}";
        hub.hub.wait_for_metric(applied, |applied| applied == n as f64).await;
    }
    while let Some(answer) = waiting.join_next().await {
        let answer = answer.expect("an answer");
        assert_eq!((answer.status(), &answer.json()["changed"]), (200, &json!([])));
    }
}

#[tokio::test]
async fn a_hub_that_drains_reads_no_settings_and_one_before_it_takes_the_window() {
    let mut hub = FileHub::start("drain_window_s = 0").await;
    let reloaded = hub.reload("drain_window_s = 600").await;
    assert_eq!(reloaded["changed"], json!(["drain_window_s"]));
    let _streams = streams(&hub.hub, 50).await;
    hub.hub.terminate().expect("it runs");
    hub.hub.wait_for_line("window_s=600", PATIENCE).await.expect("the window of the reload");
    let answer = hub.ask().await;
    assert_eq!(answer.status(), 503, "{}", answer.body);
    assert!(answer.body.contains("the hub is ending"), "{}", answer.body);
    hub.hub.signal(Signal::HUP).expect("it runs");
    hub.hub
        .wait_for_line("ignoring the reload: the hub is draining by=\"SIGHUP\"", PATIENCE)
        .await
        .expect("a line");
    hub.hub.terminate().expect("it cuts the drain short");
    assert_eq!(hub.hub.wait(PATIENCE).await.expect("it ends").code(), Some(0));
}

#[tokio::test]
async fn a_reload_within_the_delay_before_a_drain_changes_that_delay() {
    let mut hub = FileHub::start("drain_delay_s = 600").await;
    hub.hub.terminate().expect("it runs");
    hub.hub.wait_for_line("not ready", PATIENCE).await.expect("a line");
    let reloaded = hub.reload("drain_delay_s = 500\ndrain_window_s = 7").await;
    assert_eq!(reloaded["changed"], json!(["drain_delay_s", "drain_window_s"]));
    assert_eq!(hub.hub.get("/readyz").await.status(), 503);
    hub.hub.publish("a", "still served").await;
    hub.write("drain_delay_s = 0\ndrain_window_s = 7");
    hub.hub.signal(Signal::HUP).expect("it runs");
    hub.hub.wait_for_line("window_s=7", PATIENCE).await.expect("the drain begins");
    assert_eq!(hub.hub.wait(PATIENCE).await.expect("it ends").code(), Some(0));
}
