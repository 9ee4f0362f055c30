//! Transient channels (`durable = false`) over restarts of either kind.

use serde_json::Value;
use visnyk_loadtest::{SseClient, SseRequest};

use super::disk_hub::DiskHub;
use crate::support::{PATIENCE, TestHub, data_of, seq, with_seq};

const RULES: &str = r#"[{ pattern = "prices/**", durable = false }]"#;

fn disk() -> DiskHub {
    DiskHub::new().set("channels.rules", RULES)
}

async fn end(hub: TestHub, is_killed: bool) {
    let mut hub = hub;
    match is_killed {
        true => hub.kill().await.unwrap(),
        false => {
            hub.terminate().unwrap();
            assert_eq!(hub.wait(PATIENCE).await.unwrap().code(), Some(0), "{}", hub.stderr());
        }
    }
}

fn gap(polled: &Value) -> &Value {
    &polled["gap"]["reason"]
}

#[tokio::test]
async fn transient_events_have_the_logs_order_and_are_gone_after_a_restart_with_a_true_gap() {
    let mut disk = disk();
    let mut hub = disk.start().await;
    let before = hub.publish("orders", "o0").await;
    let mut newest = seq(&before);
    let mut kept = vec![];
    for (run, is_killed) in [true, false, true, false].into_iter().enumerate() {
        let mut stream = hub.stream("channel=orders&channel=prices/eur", "now").await;
        let mut positions = Vec::new();
        for n in 0..3 {
            positions.push(hub.publish("orders", &format!("o{run}.{n}")).await);
            kept.push(format!("o{run}.{n}"));
            positions.push(hub.publish("prices/eur", &format!("p{run}.{n}")).await);
        }
        for position in &positions {
            assert!(seq(position) > newest, "{position} is given out again");
            newest = seq(position);
        }
        let seen = data_of(&mut stream, 6).await;
        let order = ["o", "p", "o", "p", "o", "p"].map(|kind| kind.to_owned());
        assert_eq!(seen.iter().map(|data| data[..1].to_owned()).collect::<Vec<_>>(), order);
        drop(stream);
        end(hub, is_killed).await;
        hub = disk.start().await;

        // Durable channels have everything, and no gap.
        let polled = hub.poll_now("channel=orders", &before).await;
        assert_eq!(gap(&polled), &Value::Null, "{polled}");
        assert_eq!(hub.retained("channel=orders", &before).await, kept);
        let polled = hub.poll_now("channel=orders/**&channel=other", &positions[0]).await;
        assert_eq!(
            gap(&polled),
            &Value::Null,
            "by a pattern that no transient channel fits: {polled}"
        );
        // A client that has not had the last price is sent a gap.
        for query in ["channel=prices/eur", "channel=prices/**", "channel=*/eur", "channel=**"] {
            let polled = hub.poll_now(query, &positions[4]).await;
            assert_eq!(gap(&polled), "evicted", "{query}: {polled}");
        }
        let both = hub.poll_now("channel=orders&channel=prices/eur", &positions[1]).await;
        assert_eq!(gap(&both), "evicted", "{both}");
        let data: Vec<&Value> =
            both["events"].as_array().unwrap().iter().map(|e| &e["data"]).collect();
        assert_eq!(data, [&format!("o{run}.1"), &format!("o{run}.2")], "orders go on");
        if !is_killed {
            // It was the newest event of all, and the hub knows that it was.
            let polled = hub.poll_now("channel=prices/eur", &positions[5]).await;
            assert_eq!(polled, Value::Null, "it had everything");
        }
        assert_eq!(hub.channel("prices/eur").await["events_retained"], 0);
    }
    end(hub, true).await;
}

#[tokio::test]
async fn a_hub_that_publishes_only_to_transient_channels_gives_out_no_seq_twice() {
    let mut disk = disk();
    let mut newest = 0;
    for is_killed in [true, true, false, true, false, false, true] {
        let hub = disk.start().await;
        for n in 0..5 {
            let position = hub.publish("prices/eur", &n.to_string()).await;
            assert!(seq(&position) > newest, "{position} is given out again");
            newest = seq(&position);
        }
        end(hub, is_killed).await;
    }
}

#[tokio::test]
async fn a_publish_across_both_is_on_disk_whole_and_its_key_is_known() {
    let mut disk = disk();
    let hub = disk.start().await;
    let start = hub.publish("orders", "first").await;
    let lines = "{\"channel\":\"orders\",\"data\":\"a\"}\n{\"channel\":\"prices/eur\",\"data\":\"b\"}\n\
                 {\"channel\":\"orders\",\"data\":\"c\"}\n";
    let fields = [("Content-Type", "application/x-ndjson"), ("Idempotency-Key", "k")];
    let first = hub.request("POST", "/v1/events", &fields, lines).await;
    assert_eq!(first.status(), 201, "{}", first.body);
    end(hub, true).await;
    let hub = disk.start().await;
    assert_eq!(hub.retained("channel=orders", &start).await, ["a", "c"]);
    let again = hub.request("POST", "/v1/events", &fields, lines).await;
    assert_eq!(again.json(), first.json());
    assert_eq!(again.head.field("idempotent-replayed"), Some("true"));
    end(hub, true).await;
}

#[tokio::test]
async fn a_closed_transient_channel_is_closed_after_a_restart() {
    let mut disk = disk();
    let hub = disk.start().await;
    hub.publish("prices/eur", "1").await;
    assert_eq!(hub.request("DELETE", "/v1/channels/prices%2Feur", &[], "").await.status(), 204);
    end(hub, true).await;
    let hub = disk.start().await;
    let answer = hub.request("POST", "/v1/channels/prices%2Feur/events", &[], "2").await;
    assert_eq!(answer.status(), 410, "{}", answer.body);
}

#[tokio::test]
async fn a_channel_that_is_durable_again_still_owes_a_gap_for_what_it_lost_before() {
    let mut disk = disk();
    let hub = disk.start().await;
    let first = hub.publish("prices/eur", "1").await;
    hub.publish("prices/eur", "2").await;
    end(hub, true).await;
    let mut durable = disk.set("channels.rules", "[]");
    for _ in 0..2 {
        let hub = durable.start().await;
        for query in ["channel=prices/eur", "channel=prices/*"] {
            assert_eq!(gap(&hub.poll_now(query, &first).await), "evicted", "{query}");
        }
        let third = hub.publish("prices/eur", "3").await;
        let before_third = with_seq(&third, seq(&third) - 1);
        end(hub, true).await;
        let hub = durable.start().await;
        assert_eq!(hub.retained("channel=prices/eur", &before_third).await, ["3"]);
        end(hub, true).await;
    }
}

#[tokio::test]
async fn what_a_transient_channel_has_no_room_for_in_memory_is_a_gap() {
    let mut disk = disk().set("limits.history.bytes_max", "150000");
    disk = disk.set("limits.history.total_bytes_max", "150000");
    let hub = disk.start().await;
    let first = hub.publish("prices/eur", "first").await;
    let data: Vec<String> = (0..300).map(|n| format!("{n:0>1000}")).collect();
    hub.publish_all("prices/eur", &data).await;
    let polled = hub.poll_now("channel=prices/eur", &first).await;
    assert_eq!(gap(&polled), "evicted", "{polled}");
    end(hub, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_channels_have_more_history_than_memory_beside_transient_ones() {
    let mut disk = disk().set("limits.history.total_bytes_max", "100000");
    let mut hub = disk.start().await;
    let mut kept = Vec::new();
    for is_killed in [true, false] {
        for _ in 0..4 {
            let orders: Vec<String> =
                (kept.len()..kept.len() + 250).map(|n| format!("{n:0>500}")).collect();
            hub.publish_all("orders", &orders).await;
            kept.extend(orders);
            let prices: Vec<String> = (0..100).map(|n| format!("p{n:0>500}")).collect();
            hub.publish_all("prices/eur", &prices).await;
        }
        let info = hub.channel("orders").await;
        assert_eq!(
            (&info["events_retained"], &info["truncated"]),
            (&kept.len().into(), &false.into())
        );
        let info = hub.channel("prices/eur").await;
        assert!(info["events_retained"].as_u64().is_some_and(|n| 0 < n && n < 200), "{info}");
        assert!(hub.metric("visnyk_history_bytes").await <= 100_000.0);
        for restarts in [false, true] {
            if restarts {
                end(hub, is_killed).await;
                hub = disk.start().await;
            }
            for query in ["channel=orders", "channel=orders&channel=prices/eur", "channel=**"] {
                let target = format!("/v1/events?{query}&last_event_id=earliest");
                let mut stream = hub.open(&SseRequest::new(&target)).await;
                for order in &kept {
                    let next = next_order(&mut stream).await;
                    assert_eq!(next, *order, "{query}");
                }
            }
        }
    }
    end(hub, true).await;
}

/// The next event that is not a price.
async fn next_order(stream: &mut SseClient) -> String {
    loop {
        let event = stream.next_event(PATIENCE).await.unwrap().expect("it goes on");
        assert_eq!(event.event, None, "no gap");
        let data = event.data.expect("data");
        if !data.starts_with('p') {
            return data;
        }
    }
}
