//! `--demo`: publishes events to 20 channels and reads slowly, so that the console has something to
//! show.
//!
//! There are some ten events a second, and a burst of [`BURST_EVENTS`] every ten seconds. The
//! memory of a demo does not grow: the channels are always the same, and the settings limit their
//! histories.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use http_body::Body;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::{
    core::SlowPolicy,
    http::default_channel,
    hub::{EventBody, Hub, Publication, PublishError, StreamRequest},
    model::{ChannelName, EventType, NewEvent},
};

/// Publishes and reads slowly, until it is dropped.
pub(super) async fn run(hub: Hub) {
    tokio::join!(publish(&hub), read_slowly(&hub));
}

/// The steps of the demo, [`STEP`] apart.
async fn publish(hub: &Hub) {
    let mut every = interval(STEP);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut scene = Scene::new();
    let mut has_failed = false;
    for step in 0.. {
        every.tick().await;
        for (channel, events) in scene.step(step) {
            // A slow reader takes the events of one publish all at once. It falls behind only if a
            // burst comes in several publishes.
            for piece in events.chunks(PIECE_EVENTS) {
                let events = piece.iter().map(|event| (channel.clone(), event.clone())).collect();
                let published = hub.publish(Publication { events, ..Publication::default() }).await;
                match published {
                    // A user may close a channel of the demo.
                    Ok(_) | Err(PublishError::Closed(_)) => has_failed = false,
                    Err(error) => {
                        if !has_failed {
                            tracing::warn!(%error, %channel, "an event of the demo was not published");
                        }
                        has_failed = true;
                    }
                }
            }
        }
    }
}

/// Subscribes to the bursts, and reads some bytes every few seconds.
async fn read_slowly(hub: &Hub) {
    loop {
        let mut request = StreamRequest::channel(BURSTS).expect("a channel's name");
        request.policy = Some(SlowPolicy::Skip);
        if let Ok(body) = hub.stream(request).await {
            let mut body = pin!(body);
            while take(&mut body).await {
                sleep(SLOW_READ).await;
            }
        }
        // The channel was closed, or a limit of connections is reached.
        sleep(SLOW_READ).await;
    }
}

/// Reads [`SLOW_READ_BYTES`] or a little more, and waits for them; false at the end of the stream.
async fn take(body: &mut Pin<&mut EventBody>) -> bool {
    let mut bytes = 0;
    while bytes < SLOW_READ_BYTES {
        let next = std::future::poll_fn(|context| body.as_mut().poll_frame(context));
        let Some(Ok(frame)) = next.await else { return false };
        bytes += frame.data_ref().map_or(0, |data| data.len());
    }
    true
}

/// The figures that the events report.
struct Scene {
    updates: u64,
    /// In hundredths of a unit.
    prices: [i64; SYMBOLS.len()],
    /// In tenths of a degree.
    temperatures: [i64; ROOMS.len()],
    progress: [u64; JOBS],
    orders: u64,
}

impl Scene {
    fn new() -> Self {
        Self {
            updates: 0,
            prices: [10_000; SYMBOLS.len()],
            temperatures: [200; ROOMS.len()],
            progress: [0; JOBS],
            orders: 0,
        }
    }

    /// The events of a step, by channel.
    fn step(&mut self, step: u64) -> Vec<(ChannelName, Vec<NewEvent>)> {
        let every = |steps: u64| step.is_multiple_of(steps);
        let nth = |steps: u64, count: usize| (step / steps) as usize % count;
        let mut due = Vec::new();
        if every(12) {
            self.updates += 1;
            due.push((
                default_channel(),
                NewEvent::message(format!("Demo update #{}", self.updates)),
            ));
        }
        let symbol = nth(1, SYMBOLS.len());
        self.prices[symbol] = (self.prices[symbol] + fastrand::i64(-50..=50)).clamp(1, 100_000);
        let price = self.prices[symbol] as f64 / 100.0;
        let name = SYMBOLS[symbol];
        due.push((
            channel(&format!("prices/{name}")),
            event("tick", &json!({"symbol": name, "price": price})),
        ));
        if every(2) {
            let room = nth(2, ROOMS.len());
            self.temperatures[room] =
                (self.temperatures[room] + fastrand::i64(-3..=3)).clamp(-200, 400);
            let celsius = self.temperatures[room] as f64 / 10.0;
            let reading = json!({"room": ROOMS[room], "celsius": celsius});
            due.push((channel(&format!("sensors/{}", ROOMS[room])), event("reading", &reading)));
            let job = nth(2, JOBS);
            self.progress[job] = (self.progress[job] + fastrand::u64(1..=9)).min(100);
            let percent = self.progress[job];
            let event_type = if percent == 100 { "done" } else { "progress" };
            let progress = json!({"job": job + 1, "percent": percent});
            due.push((channel(&format!("jobs/{}", job + 1)), event(event_type, &progress)));
            self.progress[job] %= 100;
        }
        if every(3) {
            let region = nth(3, REGIONS.len());
            let stage = nth(9, STAGES.len());
            self.orders += u64::from(stage == 0);
            let order = json!({
                "order": self.orders,
                "region": REGIONS[region],
                "items": [{"sku": "tea-250", "count": fastrand::u8(1..9)}],
            });
            let name = channel(&format!("orders/{}", REGIONS[region]));
            due.push((name, event(STAGES[stage], &order)));
        }
        if every(20) {
            due.push((channel("chat"), NewEvent::message(SAYINGS[nth(20, SAYINGS.len())])));
        }
        let mut due: Vec<_> = due.into_iter().map(|(name, event)| (name, vec![event])).collect();
        if every(40) {
            let line = |number| {
                let filler = "x".repeat(200);
                event("line", &json!({"burst": step / 40, "line": number, "filler": filler}))
            };
            due.push((channel(BURSTS), (1..=BURST_EVENTS).map(line).collect()));
        }
        due
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).expect("a channel's name")
}

fn event(event_type: &str, data: &serde_json::Value) -> NewEvent {
    let event_type = EventType::parse(event_type).expect("a type");
    NewEvent { event_type: Some(event_type), ..NewEvent::message(data.to_string()) }
}

const STEP: Duration = Duration::from_millis(250);
/// Events of a burst, which are published as fast as the hub accepts them.
const BURST_EVENTS: u32 = 300;
/// Most events of one publish.
const PIECE_EVENTS: usize = 10;
const BURSTS: &str = "bursts";
/// Pause of the slow reader, and the bytes that it reads then. A burst has more, so the reader
/// falls behind; but it reads often enough that its stream is not closed for a write stall.
const SLOW_READ: Duration = Duration::from_secs(5);
const SLOW_READ_BYTES: usize = 16 * 1024;
const SYMBOLS: [&str; 6] = ["UAH", "EUR", "USD", "GBP", "JPY", "CHF"];
const ROOMS: [&str; 4] = ["kitchen", "cellar", "attic", "garden"];
const REGIONS: [&str; 3] = ["eu", "us", "asia"];
const STAGES: [&str; 3] = ["created", "paid", "shipped"];
const JOBS: usize = 4;
const SAYINGS: [&str; 3] =
    ["Good morning!", "Has anybody seen the cat?\nIt was here.", "Good night."];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::hub::{ConnectionCursor, ConnectionFilter};

    #[test]
    fn there_are_twenty_channels_and_an_update_every_three_seconds() {
        let mut scene = Scene::new();
        let (mut names, mut types) = (BTreeSet::new(), BTreeSet::new());
        let mut updates = Vec::new();
        for step in 0..400 {
            for (name, events) in scene.step(step) {
                if name == default_channel() {
                    updates.push((step, events[0].data.clone()));
                }
                types.extend(events.iter().filter_map(|event| event.event_type.clone()));
                assert!(events.len() <= BURST_EVENTS as usize);
                names.insert(name);
            }
        }
        assert_eq!(names.len(), 20, "{names:?}");
        assert!(types.len() >= 7, "{types:?}");
        assert_eq!(updates[..2], [(0, "Demo update #1".into()), (12, "Demo update #2".into())]);
        assert_eq!(12 * STEP, Duration::from_secs(3));
    }

    #[tokio::test]
    async fn the_slow_reader_falls_behind_in_a_burst_and_catches_up() {
        let hub = Hub::builder().shards(1).start().await.expect("a hub");
        let request = StreamRequest::channel(BURSTS).expect("a channel");
        let mut body = pin!(hub.stream(request).await.expect("room"));
        let is_behind = async |expected: bool| {
            let filter = ConnectionFilter { behind: Some(expected), ..ConnectionFilter::default() };
            let first = ConnectionCursor::default();
            let found = async {
                while hub.connections(&filter, first, 1, 1).await.connections.is_empty() {}
            };
            let found = tokio::time::timeout(Duration::from_secs(20), found).await;
            found.unwrap_or_else(|_| panic!("behind: {expected} does not come"));
        };
        let burst = Scene::new().step(0).into_iter().find(|(_, events)| events.len() > 1);
        let (name, events) = burst.expect("a burst");
        for piece in events.chunks(PIECE_EVENTS) {
            let events = piece.iter().map(|event| (name.clone(), event.clone())).collect();
            let piece = Publication { events, ..Publication::default() };
            hub.publish(piece).await.expect("published");
        }
        is_behind(true).await;
        // A burst is five times that and a little.
        for _ in 0..4 {
            let taken = tokio::time::timeout(Duration::from_secs(20), take(&mut body)).await;
            assert_eq!(taken, Ok(true));
        }
        is_behind(false).await;
    }
}
