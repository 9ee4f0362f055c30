//! The hub goes down and comes back behind nginx, which stays.

use tokio::{task::JoinSet, time::sleep};
use visnyk_loadtest::{Hub, HubCommand, SseClient, SseRequest};

use super::{
    clients::Client,
    nginx::{Nginx, Setup},
    wire::{PATIENCE, Wire, hub, metric_is, published, request, taken_on},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_loses_nothing_and_clients_come_back_after_their_retry_time() {
    const CLIENTS: usize = 30;
    const EVENTS: usize = 20;
    let settings = [("trusted_proxies", "127.0.0.1"), ("drain_window_s", "1")];
    let mut first = hub(&settings).await;
    let nginx = Nginx::start(Setup::Documented, first.address()).await;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let client = Client::connect(nginx.address()).await;
        // One that reads on, comes back after its reconnection time, and is done with the last
        // event.
        clients.spawn(client.follow("the last"));
    }
    taken_on(&first, CLIENTS as u64).await;
    for number in 0..EVENTS {
        published(&first, "a", &format!("before {number}")).await;
    }
    first.terminate().unwrap();
    assert_eq!(first.wait(PATIENCE).await.unwrap().code(), Some(0), "{}", first.stderr());

    // The hub is away. A browser must not be given a status that makes it give up.
    let mut wire = Wire::at(nginx.address()).await;
    wire.send(request("GET", "/v1/events?channel=a", &[("Accept", "text/event-stream")], "")).await;
    let away = wire.answer().await;
    assert_eq!(away.status, 200, "{away:?}");
    assert_eq!(away.field("content-type"), "text/event-stream");
    let retry = away.text().lines().find_map(|line| line.strip_prefix("retry: "));
    let retry: u64 = retry.unwrap().parse().unwrap();
    assert!((2_000..=4_000).contains(&retry), "{retry}");
    wire.send(request("GET", "/v1/poll?channel=a", &[], "")).await;
    let away = wire.answer().await;
    assert_eq!((away.status, away.has("retry-after")), (503, true), "{away:?}");

    let second = again(&first, &settings).await;
    taken_on(&second, CLIENTS as u64).await;
    for number in 0..EVENTS {
        published(&second, "a", &format!("after {number}")).await;
    }
    published(&second, "a", "the last").await;
    let numbered = |when: &str| (0..EVENTS).map(|n| format!("{when} {n}")).collect::<Vec<_>>();
    let expected = [numbered("before"), numbered("after"), vec!["the last".to_owned()]].concat();
    for client in clients.join_all().await {
        assert_eq!(client.events, expected);
        assert_eq!(client.gaps, 1, "that the hub is another one is said, once");
        assert!(client.connects >= 2);
    }
}

#[tokio::test]
async fn what_the_hub_says_when_it_goes_down_comes_through() {
    for setup in [Setup::Documented, Setup::Bare] {
        let settings = [("trusted_proxies", "127.0.0.1"), ("drain_window_s", "1")];
        let mut hub = hub(&settings).await;
        let nginx = Nginx::start(setup, hub.address()).await;
        let position = published(&hub, "a", "before").await;
        let request_of_stream = SseRequest::new("/v1/events?channel=a").from("earliest");
        let mut stream = SseClient::connect(nginx.address(), &request_of_stream).await.unwrap();
        let first = stream.next_block(PATIENCE).await.unwrap().unwrap();
        assert!(first.retry_ms.is_some(), "{setup:?} {first:?}");
        let event = stream.next_block(PATIENCE).await.unwrap().unwrap();
        assert_eq!(event.data.as_deref(), Some("before"), "{setup:?} {event:?}");
        let mut polling = Wire::at(nginx.address()).await;
        let fields = [("Last-Event-ID", &*position)];
        polling.send(request("GET", "/v1/poll?channel=a&timeout=60", &fields, "")).await;
        metric_is(&hub, "visnyk_pollers", 1).await;
        hub.terminate().unwrap();
        // A hub that just went away would be an end without it, and 502 or 503.
        let answer = polling.answer().await;
        assert_eq!(answer.status, 204, "{setup:?} {answer:?}");
        assert_eq!(answer.field("last-event-id"), position, "{setup:?}: where to go on");
        let last = stream.next_block(PATIENCE).await.unwrap().expect("a block before the end");
        let retry = last.retry_ms.unwrap_or_else(|| panic!("{setup:?} {last:?}"));
        assert!((2_000..=4_000).contains(&retry), "{setup:?} {last:?}");
        assert_eq!(last.data, None, "{setup:?} {last:?}");
        let end = stream.next_block(PATIENCE).await.expect("an end in good order");
        assert_eq!(end, None, "{setup:?}");
        assert_eq!(stream.position(), Some(&*position), "{setup:?}: where to go on");
        assert_eq!(hub.wait(PATIENCE).await.unwrap().code(), Some(0), "{}", hub.stderr());
    }
}

/// A hub where another was.
async fn again(first: &Hub, settings: &[(&str, &str)]) -> Hub {
    let command = HubCommand::new(env!("CARGO_BIN_EXE_visnyk"))
        .listen(first.address())
        .settings(&[("shards", "2")])
        .settings(settings);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match command.start().await {
            Ok(hub) => return hub,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        sleep(std::time::Duration::from_millis(50)).await;
    }
}
