//! Very many clients that stopped reading, against the real binary: what they keep in memory has a
//! ceiling, and those that read notice nothing.

use crate::support::{PATIENCE, TestHub, data_of};
use visnyk_loadtest::{SseClient, SseRequest};

const STOPPED: usize = 2_000;
const EVENT_BYTES: usize = 16 * 1024;
/// Less than a third of what they would hold.
const CEILING_BYTES: u64 = 8 * 1024 * 1024;
/// What slices of 64 sends on two shards may add before the ceiling is looked at.
const SLICES_BYTES: u64 = 2 * 3 * 64 * (EVENT_BYTES as u64 + 100);

#[tokio::test]
async fn two_thousand_clients_that_stopped_reading_stay_under_the_ceiling() {
    let ceiling = CEILING_BYTES.to_string();
    let hub = TestHub::start(&[
        ("SHARDS", "2"),
        ("LIMITS__CONNECTIONS__SEND_BUFFER_BYTES", "1"),
        ("LIMITS__CONNECTIONS__UNSENT_BYTES_MAX", &ceiling),
    ])
    .await;
    let mut reader = hub.stream("channel=a", "now").await;
    let request = SseRequest::new("/v1/events?channel=a&slow=skip").receive_buffer_bytes(1);
    let mut stopped: Vec<SseClient> = Vec::new();
    for _ in 0..STOPPED {
        stopped.push(hub.open(&request).await);
    }
    hub.wait_for_metric("visnyk_streams", |streams| streams == STOPPED as f64 + 1.0).await;
    let resident = hub.resident_bytes().expect("it runs");
    let mut highest: f64 = 0.0;
    for number in 0..20 {
        let data = format!("{number} {}", "x".repeat(EVENT_BYTES));
        hub.publish("a", &data).await;
        assert!(data_of(&mut reader, 1).await == [data], "event {number}");
        highest = highest.max(hub.metric("visnyk_unsent_bytes").await);
    }
    let reason = r#"visnyk_connections_closed_total{reason="unsent_ceiling"}"#;
    let closed = hub.wait_for_metric(reason, |closed| closed > 0.0).await;
    let grown = hub.resident_bytes().expect("it runs").saturating_sub(resident);
    println!("unsent bytes at most {highest}, {closed} closed, {grown} bytes of memory more");
    let left = hub.wait_for_metric("visnyk_unsent_bytes", |b| b <= CEILING_BYTES as f64).await;
    assert!(highest <= (CEILING_BYTES + SLICES_BYTES) as f64, "{highest}");
    // No more than is needed: what is left is nearly what there may be.
    assert!(left > CEILING_BYTES as f64 / 2.0, "{left}");
    assert!(closed < STOPPED as f64 && closed > STOPPED as f64 / 2.0, "{closed}");
    assert!(grown < 2 * (CEILING_BYTES + SLICES_BYTES), "{grown}");
    // Those that are left read on when they come to it.
    let mut read_on = 0;
    for client in &mut stopped {
        if let Ok(Some(_)) = client.next_event(PATIENCE).await {
            read_on += 1;
        }
        if read_on > 3 {
            return;
        }
    }
    panic!("no client is left");
}
