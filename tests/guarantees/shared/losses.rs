//! The server loses events, or a hub misses some: clients are sent a gap, and never silence.

use rustix::process::Signal;
use tokio::time::Instant;
use visnyk_loadtest::RedisServer;

use super::hubs::{gap_of, hub_on, position_at_end, publish_when_back, try_publish};
use crate::support::{PATIENCE, data_of, seq};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_emptied_changes_the_epoch() {
    let server = RedisServer::start(&[]);
    let hubs = [hub_on(&server, &[]).await, hub_on(&server, &[]).await];
    let mut streams = Vec::new();
    for hub in &hubs {
        streams.push(hub.stream("channel=a", "now").await);
    }
    let before = hubs[0].publish("a", "1").await;
    for stream in &mut streams {
        assert_eq!(data_of(stream, 1).await, ["1"]);
    }
    server.command(&["FLUSHALL"]);
    let mut epochs = Vec::new();
    for (hub, stream) in hubs.iter().zip(streams) {
        let position = position_at_end(stream).await;
        assert_eq!(position, before);
        let (gap, _) = gap_of(hub, &position).await;
        assert_eq!((&gap["reason"], &gap["requested"]), (&"epoch".into(), &before.as_str().into()));
        epochs
            .push(gap["oldest"].as_str().expect("a position").split('-').next().map(str::to_owned));
    }
    assert_eq!(epochs[0], epochs[1], "they agree on the new epoch");
    let after = publish_when_back(&hubs[0], "2").await;
    assert!(seq(&after) > seq(&before), "numbers never go back: {before} {after}");
    hubs[1].wait_for_channel("a", |info| info["last_id"] == after.as_str()).await;
    assert_eq!(hubs[1].retained("channel=a", "earliest").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_server_changes_the_epoch_and_what_it_has_is_replayed() {
    let mut server = RedisServer::start(&[]);
    let hub = hub_on(&server, &[]).await;
    hub.publish("a", "1").await;
    server.back_up();
    let mut stream = hub.stream("channel=a", "now").await;
    let lost = hub.publish("a", "2").await;
    assert_eq!(data_of(&mut stream, 1).await, ["2"]);
    server.put_back();
    // Published before the hub has noticed: it is not appended behind what is lost.
    let after = publish_when_back(&hub, "3").await;
    assert_ne!(after.split('-').next(), lost.split('-').next(), "another epoch: {lost} {after}");
    assert_eq!(position_at_end(stream).await, lost);
    let (gap, mut stream) = gap_of(&hub, &lost).await;
    assert_eq!(gap["reason"], "epoch");
    assert_eq!(data_of(&mut stream, 2).await, ["1", "3"]);
    let changes = hub.metric(r#"visnyk_backend_changes_total{reason="epoch"}"#).await;
    assert_eq!(changes, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_loads_the_log_anew_is_not_ready_until_it_has_it() {
    let server = RedisServer::start(&[]);
    let settings = [("backend.events_max", "20000"), ("limits.history.events_max", "100000")];
    let (a, b) = (hub_on(&server, &settings).await, hub_on(&server, &settings).await);
    let before = a.publish("a", "seen").await;
    b.signal(Signal::STOP).expect("it runs");
    let lines: Vec<String> = (0..250).map(|n| n.to_string()).collect();
    let mut last = String::new();
    for _ in 0..120 {
        last = a.publish_all("a", &lines).await;
    }
    b.signal(Signal::CONT).expect("it is stopped");
    let deadline = Instant::now() + PATIENCE;
    // Thousands of events are read meanwhile.
    for status in [503, 200] {
        while b.get("/readyz").await.status() != status {
            assert!(Instant::now() < deadline, "/readyz is never {status}: {}", b.stderr());
        }
        assert_eq!(a.get("/readyz").await.status(), 200, "the other hub has all");
    }
    assert_eq!(b.metric(r#"visnyk_backend_changes_total{reason="fell_off"}"#).await, 1.0);
    assert_eq!(b.channel("a").await["last_id"], last.as_str(), "ready means that it has the log");
    assert_eq!(b.poll_now("channel=a", &before).await["gap"]["reason"], "evicted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_fell_off_the_stream_sends_its_clients_a_gap() {
    let server = RedisServer::start(&[]);
    let settings = [("backend.events_max", "100")];
    let (a, b) = (hub_on(&server, &settings).await, hub_on(&server, &settings).await);
    let mut stream = b.stream("channel=a", "now").await;
    let before = a.publish("a", "seen").await;
    assert_eq!(data_of(&mut stream, 1).await, ["seen"]);
    b.signal(Signal::STOP).expect("it runs");
    let lines: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let mut last = String::new();
    for _ in 0..20 {
        last = a.publish_all("a", &lines).await;
    }
    b.signal(Signal::CONT).expect("it is stopped");
    // What the server had sent it before is delivered still.
    let position = position_at_end(stream).await;
    assert!(seq(&position) >= seq(&before) && seq(&position) < seq(&last) - 200, "{position}");
    let (gap, mut stream) = gap_of(&b, &position).await;
    assert_eq!(gap["reason"], "evicted");
    let first = seq(gap["oldest"].as_str().expect("a position"));
    assert!(first > seq(&position), "{gap}");
    // Everything that is kept, in order.
    let rest = data_of(&mut stream, (seq(&last) - first) as usize).await;
    assert_eq!(rest.last().map(String::as_str), Some("99"));
    assert!(b.metric(r#"visnyk_backend_changes_total{reason="fell_off"}"#).await >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_meets_a_later_format_stops_and_skips_nothing() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server, &[("limits.publish.wait_ms", "300")]).await;
    let mut stream = hub.stream("channel=a", "now").await;
    let before = hub.publish("a", "1").await;
    let id = format!("{}-0", seq(&before) + 1);
    let added =
        server.command(&["XADD", "{visnyk}:log", &id, "e", "\u{2}of a later version", "p", ""]);
    assert!(added.starts_with('$'), "{added}");
    server.command(&["HSET", "{visnyk}:meta", "last", &(seq(&before) + 1).to_string()]);
    assert_eq!(data_of(&mut stream, 1).await, ["1"]);
    while hub.get("/readyz").await.status() != 503 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // Its subscribers go to a hub that can read it, and so do its publishers.
    assert_eq!(position_at_end(stream).await, before);
    let refused = try_publish(&hub, "2").await;
    assert_eq!(refused.status(), 503, "{}", refused.body);
    let kept = server.command(&["XLEN", "{visnyk}:log"]);
    assert!(kept.starts_with(":2\r\n"), "nothing was published: {kept}");
    let refused = hub.get("/v1/poll?timeout=0&channel=a&last_event_id=earliest").await;
    assert_eq!(refused.status(), 503, "it shows nothing, rather than nothing behind it");
    // A thread of its own writes the log.
    while !hub.stderr().contains("a later version of the hub") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_log_below_a_living_connection_changes_the_epoch() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server, &[]).await;
    let mut stream = hub.stream("channel=a", "now").await;
    let shown = hub.publish("a", "1").await;
    assert_eq!(data_of(&mut stream, 1).await, ["1"]);
    // As after a failover by an address that moves: the same seq is another event, and the next one
    // is there at once, so that no read finds nothing new.
    let script = "
        local log, meta = '{visnyk}:log', '{visnyk}:meta'
        local old = redis.call('XRANGE', log, '-', '+')[1]
        local other = string.sub(old[2][2], 1, 1) .. 'another!' .. string.sub(old[2][2], 10)
        local seq = string.match(old[1], '^%d+')
        local next = string.format('%.0f', tonumber(seq) + 1)
        redis.call('DEL', log)
        redis.call('XADD', log, old[1], 'e', other, 'p', '')
        redis.call('XADD', log, next .. '-0', 'e', old[2][2], 'p', 'another!')
        redis.call('HSET', meta, 'last', next, 'nonce', string.sub(old[2][2], 2, 9))
        return 'done'";
    assert!(server.command(&["EVAL", script, "0"]).contains("done"));
    assert_eq!(position_at_end(stream).await, shown, "nothing of the other log is sent");
    let (gap, mut stream) = gap_of(&hub, &shown).await;
    assert_eq!(gap["reason"], "epoch", "{gap}");
    assert_eq!(data_of(&mut stream, 2).await, ["1", "1"]);
}
