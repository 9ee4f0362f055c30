//! Rules for channels by pattern, in the real binary.

use crate::wire::{Wire, get, hub, publish};
use serde_json::Value;
use visnyk_loadtest::{Hub, percent_encode};

const RULES: &str = r#"[
    { pattern = "prices/eur", events_max = 4 },
    { pattern = "prices/**", events_max = 2, slow = "skip" },
    { pattern = "typing/*", publish_per_s = 2, age_max_s = 1 },
]"#;

async fn ruled() -> Hub {
    hub(&[("channels.rules", RULES), ("limits.history.events_max", "3")]).await
}

async fn ask(hub: &Hub, target: &str) -> Value {
    let mut wire = Wire::to(hub).await;
    wire.send(get(target)).await;
    wire.answer().await.json()
}

async fn info(hub: &Hub, channel: &str) -> Value {
    ask(hub, &format!("/v1/channels/{}", percent_encode(channel))).await
}

async fn say(hub: &Hub, channel: &str) -> u16 {
    let mut wire = Wire::to(hub).await;
    wire.send(publish(&percent_encode(channel), "x")).await;
    wire.answer().await.status
}

#[tokio::test]
async fn the_first_rule_that_matches_says_how_many_events_a_channel_keeps() {
    let hub = ruled().await;
    for (channel, kept) in
        [("orders", 3), ("prices", 2), ("prices/usd", 2), ("prices/eur", 4), ("prices/eur/spot", 2)]
    {
        for _ in 0..6 {
            assert_eq!(say(&hub, channel).await, 201);
        }
        assert_eq!(info(&hub, channel).await["events_retained"], kept, "{channel}");
    }
}

#[tokio::test]
async fn a_rate_by_rule_is_for_each_channel_and_has_a_burst_of_a_second() {
    let hub = ruled().await;
    let mut refused = 0;
    for _ in 0..100 {
        refused += usize::from(say(&hub, "typing/ann").await == 429);
    }
    assert!(refused > 0, "two a second");
    assert_eq!(say(&hub, "typing/bob").await, 201, "another has its own rate");
    for _ in 0..20 {
        assert_eq!(say(&hub, "typing").await, 201, "no rule is for it");
    }
}

#[tokio::test]
async fn an_age_by_rule_evicts_events_and_not_those_of_other_channels() {
    let hub = ruled().await;
    assert_eq!(say(&hub, "typing/ann").await, 201);
    assert_eq!(say(&hub, "orders").await, 201);
    let deadline = tokio::time::Instant::now() + crate::wire::PATIENCE;
    loop {
        let info = info(&hub, "typing/ann").await;
        // Gone with its last event, it may be removed as well.
        if info["events_retained"] != 1 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{info}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(info(&hub, "orders").await["events_retained"], 1);
}

#[tokio::test]
async fn a_connection_skips_events_only_if_all_its_channels_say_so() {
    let hub = ruled().await;
    for (query, policy) in [
        ("channel=prices/usd", "skip"),
        ("channel=prices/usd&channel=prices/chf", "skip"),
        ("channel=prices/usd&channel=orders", "disconnect"),
        ("channel=prices/usd&channel=prices/*", "disconnect"),
        ("channel=prices/*", "disconnect"),
        ("channel=prices/eur", "disconnect"),
        ("channel=prices/usd&slow=disconnect", "disconnect"),
        ("channel=orders&slow=skip", "skip"),
    ] {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(&format!("/v1/events?{query}&hello=1"))).await;
        let (head, _) = wire.stream_head().await;
        assert_eq!(head.status, 200);
        let all = ask(&hub, "/v1/connections").await;
        let policies: Vec<&Value> =
            all["connections"].as_array().expect("a list").iter().map(|it| &it["policy"]).collect();
        assert!(policies.iter().any(|it| **it == policy), "{query}: {all}");
        drop(wire);
        let deadline = tokio::time::Instant::now() + crate::wire::PATIENCE;
        while ask(&hub, "/v1/connections").await["connections"] != Value::Array(Vec::new()) {
            assert!(tokio::time::Instant::now() < deadline, "{query}: it does not end");
            // A send finds out that it is gone.
            for channel in ["orders", "prices/usd", "prices/eur"] {
                say(&hub, channel).await;
            }
        }
    }
}
