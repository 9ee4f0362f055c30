//! Attacks by publishing, polling, and asking too much at once.

use std::rc::Rc;

use crate::target::{Target, get, request, run_like_others};

/// Events to one channel as fast as they are taken.
pub(crate) async fn to_one_channel(target: Target) {
    pipelined(target, 16, request("POST", "/v1/channels/attacked/events", "", &"x".repeat(128)))
        .await;
}

/// Batches of ten thousand events.
pub(crate) async fn batches(target: Target) {
    batches_of(target, 10_000).await;
}

/// As many at once as a setting may allow. It has to hurt: on a machine with other things to do it
/// might else not come about.
pub(crate) async fn batches_of_a_million(target: Target) {
    run_like_others();
    batches_of(target, 1_000_000).await;
}

async fn batches_of(target: Target, events: usize) {
    let fields = "Content-Type: application/x-ndjson\r\n";
    let batch = "{\"data\":1,\"channel\":\"attacked\"}\n".repeat(events);
    let batch: Rc<str> = request("POST", "/v1/events", fields, &batch).into();
    let act = move |target: Target, _| {
        let batch = Rc::clone(&batch);
        async move {
            let mut wire = target.connect().await?;
            loop {
                wire.send(&*batch).await?;
                target.got("batches");
                target.got(wire.status().await?.to_string());
            }
        }
    };
    target.by_many(8, act).await;
}

/// Polls that need not wait.
pub(crate) async fn polls(target: Target) {
    pipelined(target, 16, get("/v1/channels/attacked/poll?timeout=0")).await;
}

/// Polls that wait, whose clients leave at once.
pub(crate) async fn abandoned_polls(target: Target) {
    let act = |target: Target, number| async move {
        let mut wire = target.connect_from_many(number).await?;
        wire.send(get("/v1/channels/attacked/poll?timeout=60")).await?;
        wire.reset();
        target.got("polls");
        Ok(())
    };
    target.by_many(64, act).await;
}

/// The cheapest request, thousands at once on each connection.
pub(crate) async fn requests(target: Target) {
    pipelined(target, 16, get("/healthz")).await;
}

/// Requests that are refused, as cheap for the attacker as any.
pub(crate) async fn refused(target: Target) {
    pipelined(target, 16, get("/v1/channels/a%2F%2Fb/poll?timeout=x&limit=9999999")).await;
}

/// Sends so many at once, reads the answers, and goes on.
async fn pipelined(target: Target, attackers: usize, one: String) {
    let many: Rc<str> = one.repeat(AT_ONCE).into();
    let act = move |target: Target, _| {
        let many = Rc::clone(&many);
        async move {
            let mut wire = target.connect().await?;
            loop {
                wire.send(&*many).await?;
                for _ in 0..AT_ONCE {
                    target.got(wire.status().await?.to_string());
                }
            }
        }
    };
    target.by_many(attackers, act).await;
}

const AT_ONCE: usize = 50;
