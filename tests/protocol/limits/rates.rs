//! How fast events may be published: of an address, to a channel.

use visnyk_loadtest::Hub;

use super::{
    counted,
    wire::{Answer, Wire, hub, metric, post, publish, request},
};

fn refused(reason: &str) -> String {
    format!("visnyk_publishes_refused_total{{reason=\"{reason}\"}}")
}

async fn send_from(hub: &Hub, source: &str, bytes: String) -> Answer {
    let mut wire = Wire::from_source(hub, source).await;
    wire.send(bytes).await;
    wire.answer().await
}

fn batch(target: &str, channels: &[&str]) -> String {
    let line = |channel: &&str| format!("{{\"data\":\"x\",\"channel\":\"{channel}\"}}\n");
    let lines: String = channels.iter().map(line).collect();
    request("POST", target, &[("Content-Type", "application/x-ndjson")], &lines)
}

/// Sends the same again until it is refused: on a slow machine, time gives something back
/// meanwhile.
async fn until_refused(hub: &Hub, source: &str, bytes: String) -> Answer {
    for _ in 0..500 {
        let answer = send_from(hub, source, bytes.clone()).await;
        if !matches!(answer.status, 200 | 201) {
            return answer;
        }
    }
    panic!("it is never refused");
}

#[track_caller]
fn too_fast(answer: &Answer, whose: &str) {
    assert_eq!(answer.status, 429, "{answer:?}");
    let wait_s: u32 = answer.field("retry-after").parse().unwrap();
    assert!((1..=10).contains(&wait_s), "{answer:?}");
    assert!(answer.problem()["detail"].as_str().unwrap().contains(whose), "{answer:?}");
}

/// So slow a rate that nothing comes back while a test runs.
const SLOW: [(&str, &str); 2] =
    [("limits.per_address.events_per_s", "1"), ("limits.per_address.events_burst", "10")];

#[tokio::test]
async fn an_address_publishes_so_many_events_and_a_batch_counts_as_its_events() {
    let hub = hub(&counted(&SLOW)).await;
    let over = send_from(&hub, "127.0.0.2", batch("/v1/events", &["a"; 11])).await;
    let problem = over.refuses(413, "body");
    assert_eq!(problem["events_max"], 10, "it would never pass");
    assert_eq!(metric(&hub, &refused("over_burst")).await, 1);
    let all = send_from(&hub, "127.0.0.2", batch("/v1/events", &["a"; 10])).await;
    assert_eq!(all.status, 201, "at the burst, of which the refusal took nothing: {all:?}");
    let refused_one = until_refused(&hub, "127.0.0.2", batch("/v1/events", &["a", "b"])).await;
    too_fast(&refused_one, "this address");
    assert!(metric(&hub, &refused("address_rate")).await >= 1);
    let other = send_from(&hub, "127.0.0.3", publish("a", "x")).await;
    assert_eq!(other.status, 201);
    // The quickstart's publishes count as well.
    let quick = until_refused(&hub, "127.0.0.3", post("/publish", "{\"message\":\"x\"}")).await;
    too_fast(&quick, "this address");
}

#[tokio::test]
async fn this_machine_publishes_as_fast_as_it_can() {
    let hub = hub(&SLOW).await;
    for _ in 0..3 {
        let answer = send_from(&hub, "127.0.0.2", batch("/v1/events", &["a"; 11])).await;
        assert_eq!(answer.status, 201);
    }
}

#[tokio::test]
async fn a_channel_takes_so_many_events_from_all_together() {
    let settings = [("limits.channels.events_per_s", "1"), ("limits.channels.events_burst", "4")];
    let hub = hub(&settings).await;
    let over =
        send_from(&hub, "127.0.0.2", batch("/v1/events", &["a", "b", "a", "a", "a", "a"])).await;
    assert_eq!(over.refuses(413, "body")["events_max"], 4, "five of one channel");
    let both = ["a", "b", "a", "b", "a", "b", "a", "b"];
    let all = send_from(&hub, "127.0.0.2", batch("/v1/events", &both)).await;
    assert_eq!(all.status, 201, "each channel has its own: {all:?}");
    too_fast(&until_refused(&hub, "127.0.0.3", publish("a", "x")).await, "the channel");
    assert_eq!(metric(&hub, &refused("channel_rate")).await, 1);
    assert_eq!(send_from(&hub, "127.0.0.3", publish("c", "x")).await.status, 201);
}

#[tokio::test]
async fn a_client_over_its_rate_goes_on_after_its_retry_time() {
    let settings = [("limits.channels.events_per_s", "2"), ("limits.channels.events_burst", "2")];
    let hub = hub(&settings).await;
    let mut wire = Wire::to(&hub).await;
    let mut refused = None;
    for _ in 0..50 {
        wire.send(publish("a", "x")).await;
        let answer = wire.answer().await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let wait_s: u64 = refused.unwrap().field("retry-after").parse().unwrap();
    assert_eq!(wait_s, 1, "half a second, in whole ones");
    tokio::time::sleep(std::time::Duration::from_secs(wait_s)).await;
    wire.send(publish("a", "x")).await;
    assert_eq!(wire.answer().await.status, 201);
}
