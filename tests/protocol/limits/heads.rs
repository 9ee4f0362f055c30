//! What the head of a request may have.

use super::{
    refused_requests,
    wire::{Wire, ask, get, hub, metric, metric_is, request},
};

#[tokio::test]
async fn a_target_may_have_its_bound_and_no_byte_more() {
    let settings = [("limits.requests.target_bytes_max", "300"), ("auth.token_bytes_max", "300")];
    let hub = hub(&settings).await;
    let target = |bytes: usize| {
        let start = "/v1/poll?channel=a&timeout=0&x=";
        format!("{start}{}", "x".repeat(bytes - start.len()))
    };
    for (bytes, status) in [(299, 204), (300, 204), (301, 414), (8_000, 414)] {
        let answer = ask(&hub, get(&target(bytes))).await;
        assert_eq!(answer.status, status, "{bytes}");
        if status == 414 {
            assert_eq!(answer.refuses(414, "target")["bytes_max"], 300);
        }
    }
    // A refused one has not been read as two, and the connection goes on.
    let mut wire = Wire::to(&hub).await;
    wire.send(get(&target(1_000)) + &get("/healthz")).await;
    assert_eq!(wire.answer().await.status, 414);
    assert_eq!(wire.answer().await.text(), "ok\n");
    assert_eq!(metric(&hub, &refused_requests("target_too_long")).await, 3);
    // What the HTTP server itself takes for too long.
    let mut wire = Wire::to(&hub).await;
    wire.send(get(&format!("/{}", "x".repeat(70_000)))).await;
    let status = wire.answer().await.status;
    assert!(matches!(status, 414 | 431), "{status}");
    wire.closed().await;
    metric_is(&hub, &refused_requests("head_too_large"), 1).await;
}

#[tokio::test]
async fn the_default_takes_the_longest_token_in_a_query() {
    let hub = hub(&[]).await;
    let token = "x".repeat(8_192);
    let answer = ask(&hub, get(&format!("/v1/poll?channel=a&timeout=0&token={token}"))).await;
    assert_eq!(answer.status, 204);
}

#[tokio::test]
async fn a_head_may_have_its_bound_as_it_is_set() {
    for max in [8_192, 100_000] {
        let hub = hub(&[
            ("limits.requests.head_bytes_max", &*max.to_string()),
            ("limits.requests.target_bytes_max", "8192"),
        ])
        .await;
        let around = "/healthz".len() + "HostlocalhostX".len();
        for (bytes, status) in [(max - 1, 200), (max, 200), (max + 1, 431), (4 * max, 431)] {
            let x = "x".repeat(bytes - around);
            let mut wire = Wire::to(&hub).await;
            wire.send(request("GET", "/healthz", &[("X", &*x)], "")).await;
            assert_eq!(wire.answer().await.status, status, "{bytes} of {max}");
        }
        // One by the routes, and the largest by the HTTP server itself.
        metric_is(&hub, &refused_requests("head_too_large"), 2).await;
    }
}

#[tokio::test]
async fn a_head_may_have_so_many_fields_as_are_set() {
    let hub = hub(&[("limits.requests.fields_max", "10")]).await;
    // `Host` is one.
    for (more, status) in [(8, 200), (9, 200), (10, 431)] {
        let fields = vec![("X", "y"); more];
        let answer = ask(&hub, request("GET", "/healthz", &fields, "")).await;
        assert_eq!(answer.status, status, "{more}");
        if status == 431 {
            answer.refuses(431, "head");
        }
    }
    metric_is(&hub, &refused_requests("too_many_fields"), 1).await;
    // hyper has that bound too, and tells it from the size of a head no more.
    let fields = [&[("X", "y"); 9][..], &[("TE", "trailers")]].concat();
    assert_eq!(ask(&hub, request("GET", "/healthz", &fields, "")).await.status, 431);
    metric_is(&hub, &refused_requests("head_too_large"), 1).await;
}
