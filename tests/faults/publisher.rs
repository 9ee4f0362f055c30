//! Publishers: every second one repeats what it got no answer to, under an idempotency key, at any
//! hub.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use visnyk_loadtest::Exchange;

use crate::record::{Outcome, Record, Recorder, closing};
use crate::support::ndjson;

/// What all publishers of a run share.
#[derive(Debug)]
pub(crate) struct Publishing {
    hubs: Vec<SocketAddr>,
    recorder: Recorder,
    numbers: AtomicU64,
    calls: AtomicU64,
    answers: AtomicU64,
    acked: AtomicU64,
    mode: watch::Sender<Mode>,
}

/// Whether publishers go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    On,
    /// They begin no publish.
    Idle,
    /// They end.
    Over,
}

impl Publishing {
    /// None is begun yet.
    pub(crate) fn new(hubs: Vec<SocketAddr>, recorder: Recorder) -> Arc<Self> {
        Arc::new(Self {
            hubs,
            recorder,
            numbers: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            mode: watch::Sender::new(Mode::On),
        })
    }

    /// Publishes to one hub alone until it takes that; how long that took.
    pub(crate) async fn recovers(&self, hub: SocketAddr, number: usize) -> Option<Duration> {
        let begun = Instant::now();
        let hubs = [hub];
        for attempt in 0.. {
            let mut link = Link { number: Some(number), ..Link::new(&hubs, 0) };
            let event = format!("{} back {hub} {number}.{attempt}", BUSY[0]);
            let publish = self.publish(&mut link, vec![event], false, Duration::ZERO);
            if matches!(publish.await, Outcome::Acked { .. }) {
                return Some(begun.elapsed());
            }
            if begun.elapsed() >= crate::bed::PATIENCE {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// Changes what publishers do.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many have been sent, and have their last answer.
    pub(crate) fn under_way(&self) -> u64 {
        let answers = self.answers.load(Ordering::Relaxed);
        self.calls.load(Ordering::Relaxed).saturating_sub(answers)
    }

    /// How many have been acknowledged.
    pub(crate) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Publishes until the run is over.
    pub(crate) async fn publish_on(self: Arc<Self>, name: u64, mut rng: fastrand::Rng) {
        let mut mode = self.mode.subscribe();
        // Every other one has keys: each hub gets some of both.
        let mut link = Link::new(&self.hubs, name as usize / 2);
        for number in 0.. {
            match mode.wait_for(|mode| *mode != Mode::Idle).await {
                Ok(mode) if *mode == Mode::On => {}
                _ => return,
            }
            let count = if rng.u8(..4) == 0 { rng.usize(2..6) } else { 1 };
            let events = (0..count).map(|event| {
                let channel = rng.choice(BUSY).expect("there are some");
                let more = if rng.u8(..16) == 0 { rng.usize(..3_000) } else { 0 };
                format!("{channel} p{name} {number}.{event} {}", "x".repeat(more))
            });
            let events: Vec<String> = events.collect();
            let outcome = self.publish(&mut link, events, name.is_multiple_of(2), GIVE_UP).await;
            // So as not to be a load.
            let pause = if matches!(outcome, Outcome::Acked { .. }) { PAUSE } else { AGAIN };
            sleep(pause.mul_f64(0.5 + rng.f64())).await;
        }
    }

    /// Opens a channel and closes it, one after the other. What was closed stays so.
    pub(crate) async fn close_on(self: Arc<Self>) {
        let mut mode = self.mode.subscribe();
        let mut link = Link::new(&self.hubs, 1);
        for number in 0..CLOSED_MAX {
            match mode.wait_for(|mode| *mode != Mode::Idle).await {
                Ok(mode) if *mode == Mode::On => {}
                _ => return,
            }
            let channel = format!("closing{number}");
            let opening = vec![format!("{channel} opens")];
            self.publish(&mut link, opening, true, GIVE_UP).await;
            self.close(&mut link, &channel).await;
            self.publish(&mut link, vec![format!("{channel} late")], false, GIVE_UP).await;
            sleep(AGAIN).await;
        }
    }

    async fn close(&self, link: &mut Link<'_>, channel: &str) {
        let publish = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.recorder.note(Record::Call { publish, events: vec![closing(channel)] });
        let deadline = Instant::now() + GIVE_UP;
        let outcome = loop {
            match link.delete(&format!("/v1/channels/{channel}")).await {
                // An answer can be lost, and the next one says that the channel is closed.
                Ok(answer) if [204, 410].contains(&answer.status()) => break Outcome::Closed,
                // The engine has lost that it was opened.
                Ok(answer) if answer.status() == 404 => break Outcome::Unknown,
                Ok(answer) if !(500..600).contains(&answer.status()) => {
                    let what =
                        format!("a close is answered with {} {}", answer.status(), answer.body);
                    self.recorder.note(Record::Odd { what });
                    break Outcome::Unknown;
                }
                _ if Instant::now() >= deadline => break Outcome::Unknown,
                _ => {}
            }
            link.change();
            sleep(AGAIN).await;
        };
        self.recorder.note(Record::Answer { publish, outcome });
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Publishes once, or until it is acknowledged if it `repeats`.
    pub(crate) async fn publish(
        &self,
        link: &mut Link<'_>,
        events: Vec<String>,
        repeats: bool,
        give_up: Duration,
    ) -> Outcome {
        let publish = self.numbers.fetch_add(1, Ordering::Relaxed);
        let key = format!("key {publish}");
        let mut fields = vec![("Content-Type", "application/x-ndjson")];
        if repeats {
            fields.push(("Idempotency-Key", key.as_str()));
        }
        let lines =
            events.iter().map(|data| (Some(crate::record::channel_of(data)), data.as_str()));
        let body = ndjson(lines);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.recorder.note(Record::Call { publish, events });
        let deadline = Instant::now() + give_up;
        let mut may_be_there = false;
        let outcome = loop {
            let answer = link.post(&fields, &body).await;
            if let Ok(answer) = &answer
                && answer.status() != 201
            {
                let status = answer.status();
                self.recorder
                    .note(Record::Refusal { hub: link.number.unwrap_or(link.hub), status });
            }
            let answer = match answer {
                Err(_) => Outcome::Unknown,
                Ok(answer) => match answer.status() {
                    201 => {
                        let json = answer.json();
                        let first = json["first_id"].as_str().or(json["id"].as_str());
                        Outcome::Acked { first: first.unwrap_or_default().to_owned() }
                    }
                    // 410: the channel is closed.
                    410 | 503 | 507 => Outcome::Refused,
                    // 502 is a balancer's.
                    502 | 504 => Outcome::Unknown,
                    status => {
                        let what = format!("a publish is answered with {status} {}", answer.body);
                        self.recorder.note(Record::Odd { what });
                        Outcome::Unknown
                    }
                },
            };
            may_be_there |= answer == Outcome::Unknown;
            let is_acked = matches!(answer, Outcome::Acked { .. });
            if is_acked || !repeats || Instant::now() >= deadline {
                break if !is_acked && may_be_there { Outcome::Unknown } else { answer };
            }
            link.change();
            sleep(AGAIN).await;
        };
        self.recorder.note(Record::Answer { publish, outcome: outcome.clone() });
        self.answers.fetch_add(1, Ordering::Relaxed);
        if matches!(outcome, Outcome::Acked { .. }) {
            self.acked.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }
}

/// A publisher's connection, to one hub after the other.
#[derive(Debug)]
pub(crate) struct Link<'a> {
    hubs: &'a [SocketAddr],
    hub: usize,
    /// The hub's number among all, if these are not all.
    number: Option<usize>,
    exchange: Exchange,
}

impl<'a> Link<'a> {
    /// Connects with the first publish.
    pub(crate) fn new(hubs: &'a [SocketAddr], first: usize) -> Self {
        let hub = first % hubs.len();
        Self { hubs, hub, number: None, exchange: Exchange::new(hubs[hub]) }
    }

    async fn post(
        &mut self,
        fields: &[(&str, &str)],
        body: &str,
    ) -> std::io::Result<visnyk_loadtest::Answer> {
        let body = body.as_bytes();
        let answer = self.exchange.request("POST", "/v1/events", fields, body, ANSWER_MAX).await;
        if answer.is_err() {
            self.change();
        }
        answer
    }

    async fn delete(&mut self, target: &str) -> std::io::Result<visnyk_loadtest::Answer> {
        let answer = self.exchange.request("DELETE", target, &[], b"", ANSWER_MAX).await;
        if answer.is_err() {
            self.change();
        }
        answer
    }

    fn change(&mut self) {
        self.hub = (self.hub + 1) % self.hubs.len();
        self.exchange = Exchange::new(self.hubs[self.hub]);
    }
}

/// All channels: the last one gets its last event alone.
pub(crate) const CHANNELS: [&str; 4] = ["a", "b", "c", QUIET];
/// Channels that publishers publish to.
pub(crate) const BUSY: [&str; 3] = ["a", "b", "c"];
/// The one for very many subscribers.
pub(crate) const QUIET: &str = "quiet";
/// A hub keeps them, and so does Redis.
const CLOSED_MAX: usize = 200;
/// Between two publishes of one publisher.
const PAUSE: Duration = Duration::from_millis(8);
/// Before what was refused is repeated.
const AGAIN: Duration = Duration::from_millis(60);
/// For one answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// After this a publish that is repeated counts as unknown.
const GIVE_UP: Duration = Duration::from_secs(45);
