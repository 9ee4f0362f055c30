//! A log with entries of a later format than this version reads, or of an earlier one.

use serde_json::Value;
use tokio::time::sleep;
use visnyk_loadtest::{HubCommand, RedisServer};

use super::hubs::{hub_on, position_at_end, publish_when_back, try_publish};
use crate::support::{PATIENCE, data_of};

/// Appends an entry as a hub of a later version does.
const PLANT: &str = "
    local last = tonumber(redis.call('HGET', KEYS[2], 'last')) + 1
    local previous = redis.call('HGET', KEYS[2], 'nonce')
    local id = string.format('%.0f-0', last)
    local entry = string.char(2) .. 'planted!' .. 'what a later version writes'
    redis.call('XADD', KEYS[1], id, 'e', entry, 'p', previous)
    redis.call('HSET', KEYS[2], 'last', string.format('%.0f', last), 'nonce', 'planted!')
    return redis.status_reply('OK')";

/// Leaves the log as versions before 0.1.0 wrote it: entries do not name the one before them, and
/// no run of the server is noted.
const CUT_LINKS: &str = "
    local found = redis.call('XRANGE', KEYS[1], '-', '+')
    redis.call('DEL', KEYS[1])
    for _, entry in ipairs(found) do redis.call('XADD', KEYS[1], entry[1], 'e', entry[2][2]) end
    redis.call('HDEL', KEYS[2], 'run', 'nonce')
    return redis.status_reply('OK')";

fn change(server: &RedisServer, script: &str) {
    let answer = server.command(&["EVAL", script, "2", "{visnyk}:log", "{visnyk}:meta"]);
    assert!(answer.starts_with("+OK"), "{answer}");
}

/// All that the server has of the log.
fn log_of(server: &RedisServer) -> [String; 2] {
    let dump = |key: &str| server.command(&["DEBUG", "DIGEST-VALUE", key]);
    [dump("{visnyk}:log"), dump("{visnyk}:meta")]
}

/// The keys of hubs' reports of subscribers.
fn reports(server: &RedisServer) -> Vec<String> {
    let keys = server.command(&["KEYS", "{visnyk}:hubs*"]);
    keys.lines().filter(|line| line.starts_with("{visnyk}")).map(str::to_owned).collect()
}

async fn refused_start(server: &RedisServer) -> String {
    let command = HubCommand::new(env!("CARGO_BIN_EXE_visnyk"));
    let command = command.settings(&[("backend.url", &server.url())]);
    command.start().await.expect_err("it does not start").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_a_later_format_stop_hubs_that_cannot_read_them_and_show_nothing_false() {
    let server = RedisServer::start(&["--enable-debug-command", "yes"]);
    let settings = [
        ("limits.publish.wait_ms", "300"),
        ("backend.catch_up_wait_ms", "300"),
        ("backend.counts_interval_ms", "100"),
        ("backend.counts_expiry_ms", "600000"),
    ];
    let hubs = [hub_on(&server, &settings).await, hub_on(&server, &settings).await];
    let mut streams = Vec::new();
    for hub in &hubs {
        streams.push(hub.stream("channel=a", "now").await);
    }
    let readable = hubs[0].publish("a", "1").await;
    for stream in &mut streams {
        assert_eq!(data_of(stream, 1).await, ["1"]);
    }
    for _ in 0..3 {
        change(&server, PLANT);
    }
    let planted = log_of(&server);
    for (hub, stream) in hubs.iter().zip(streams) {
        // Its client goes on at a hub that can read what comes next: without a gap, and from where
        // it was.
        assert_eq!(position_at_end(stream).await, readable);
        while hub.get("/readyz").await.status() != 503 {
            sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(hub.get("/healthz").await.status(), 200, "a restart would not help");
        assert_eq!(hub.metric("visnyk_backend_connected").await, 0.0);
        for target in ["/v1/events?channel=a", "/v1/poll?channel=a&timeout=0"] {
            let fields = [("Last-Event-ID", readable.as_str())];
            let refused = hub.request("GET", target, &fields, "").await;
            assert_eq!(refused.status(), 503, "{target}: {}", refused.body);
        }
        assert_eq!(try_publish(hub, "refused").await.status(), 503);
        let close = hub.request("DELETE", "/v1/channels/a", &[], "").await;
        assert_eq!(close.status(), 503, "{}", close.body);
        let said = hub.stderr();
        assert!(said.contains("was written by a later version of the hub (format 2)"), "{said}");
        assert!(said.contains("Upgrade it; or, if no hub has written the entry"), "{said}");
    }
    // They leave the count of subscribers, which may be in a later format, too.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !reports(&server).is_empty() {
        let found = reports(&server);
        assert!(tokio::time::Instant::now() < deadline, "{found:?}");
        sleep(std::time::Duration::from_millis(20)).await;
    }
    // Neither do they begin another epoch, nor does one that starts.
    let error = refused_start(&server).await;
    assert!(error.contains("was written by a later version of the hub (format 2)"), "{error}");
    assert_eq!(log_of(&server), planted, "the log is as the later version left it");
    assert_eq!(reports(&server), Vec::<String>::new(), "nothing is reported after that");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_the_earlier_format_is_refused_before_anything_is_changed() {
    let mut server = RedisServer::start(&["--enable-debug-command", "yes"]);
    let hub = hub_on(&server, &[]).await;
    hub.publish("a", "1").await;
    hub.publish("a", "2").await;
    drop(hub);
    change(&server, CUT_LINKS);
    // Of another run of the server, too: another epoch would be due.
    server.start_again();
    let before = log_of(&server);
    let begun = tokio::time::Instant::now();
    let error = refused_start(&server).await;
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    for says in ["was written by a version before 0.1.0", "set another backend.namespace"] {
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(log_of(&server), before);
    // As it says.
    let hub = hub_on(&server, &[("backend.namespace", "new")]).await;
    publish_when_back(&hub, "3").await;
    assert_eq!(hub.poll_now("channel=a", "earliest").await["gap"], Value::Null);
}
