//! Large answers that clients do not take, by their address.

use super::{
    counted,
    wire::{Wire, ask, get, hub, metric, metric_is, publish},
};

#[tokio::test]
async fn answers_that_one_address_does_not_read_leave_room_for_others() {
    let settings = [
        ("limits.connections.answers_bytes_max", "4194304"),
        ("limits.per_address.answers_bytes_max", "2097152"),
        ("limits.connections.write_stall_s", "600"),
        ("limits.connections.send_buffer_bytes", "1"),
    ];
    let hub = hub(&counted(&settings)).await;
    assert_eq!(ask(&hub, publish("a", &"x".repeat(900_000))).await.status, 201);
    let poll = get("/v1/channels/a/poll?last_event_id=earliest");
    let mut clients = Vec::new();
    // Two have room at an address, and four in all.
    for (source, status) in [
        ("127.0.0.2", 200),
        ("127.0.0.2", 200),
        ("127.0.0.2", 503),
        ("127.0.0.3", 200),
        ("127.0.0.3", 200),
        ("127.0.0.3", 503),
        ("127.0.0.4", 503),
    ] {
        let mut client = Wire::from_source(&hub, source).await;
        client.send(&poll).await;
        let head = client.head().await;
        assert_eq!((head.status, head.has("retry-after")), (status, status == 503), "{source}");
        clients.push(client);
    }
    assert_eq!(metric(&hub, "visnyk_answers_refused_total").await, 3);
    drop(clients);
    metric_is(&hub, "visnyk_answer_bytes", 0).await;
    let mut again = Wire::from_source(&hub, "127.0.0.2").await;
    again.send(&poll).await;
    assert_eq!(again.head().await.status, 200);
}
