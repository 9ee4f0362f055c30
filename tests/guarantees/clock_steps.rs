//! A wall clock that steps while the hub runs, by libfaketime.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;
use visnyk::model::rfc3339_millis;
use visnyk_loadtest::PollClient;

use crate::support::{PATIENCE, TestHub, fake_time};

#[tokio::test]
async fn the_time_of_events_follows_the_wall_clock_and_deadlines_do_not() {
    let Some(library) = fake_time() else {
        return println!("skipped: no libfaketime here");
    };
    let directory = tempfile::tempdir().expect("a directory");
    let offset = directory.path().join("offset");
    let set_clock = |text: &str| {
        // At once: the library may read it at any time.
        let new = directory.path().join("new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, &offset)).expect("a file");
    };
    set_clock("+0");
    let env = [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", offset.to_str().expect("a path")),
        ("FAKETIME_NO_CACHE", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let hub = TestHub::start_with_env(&env).await;
    let start = hub.publish("a", "before").await;
    let mut stream = hub.stream("channel=a", &start).await;
    for (step, ahead_s) in [("+3h", 3 * 3_600), ("-3h", -3 * 3_600)] {
        let waiting = Instant::now();
        let target = "/v1/channels/b/poll?timeout=2";
        let mut poll = PollClient::new(hub.address(), target);
        let poll = tokio::spawn(async move { poll.next(PATIENCE).await.expect("an answer") });
        hub.wait_for_metric("visnyk_pollers", |pollers| pollers == 1.0).await;
        set_clock(step);
        let id = hub.publish("a", step).await;
        let block = stream.next_block(PATIENCE).await.expect("a block").expect("the event");
        assert_eq!(block.id.as_deref(), Some(&*id));
        let events = hub.poll_now("channel=a", "earliest").await["events"].clone();
        let events = events.as_array().expect("events");
        assert_eq!(events[0]["data"], "before", "it has not aged by hours");
        let shown = events.last().expect("the event")["time"].as_str().expect("a time").to_owned();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let around = |more_s: i64| rfc3339_millis((now as i64 + ahead_s + more_s) as u64 * 1_000);
        assert!(around(-120) < shown && shown < around(120), "{step}: {shown}");
        assert_eq!(poll.await.expect("it ends").answer.status(), 204);
        let waited = waiting.elapsed();
        assert!(waited >= Duration::from_secs(2) && waited < PATIENCE, "{step}: {waited:?}");
        let status = hub.get("/v1/status").await.json();
        let now = status["now"].as_str().expect("a time");
        assert!(&*around(-120) < now && now < &*around(120), "{status}");
        assert!(status["uptime_ms"].as_u64().expect("a number") < 600_000, "{status}");
    }
    // So do samples; what they span does not.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let back = rfc3339_millis((now - 2 * 3_600) * 1_000);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let samples = hub.get("/v1/samples").await.json()["samples"].clone();
        let samples = samples.as_array().expect("samples").clone();
        for sample in &samples {
            assert!(sample["interval_ms"].as_u64().expect("a number") < 600_000, "{sample}");
        }
        if samples.last().is_some_and(|last| last["at"].as_str().expect("a time") < &*back) {
            break;
        }
        assert!(Instant::now() < deadline, "{samples:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
