//! Publishers, some of which repeat under a key what they got no answer to, and followers, while
//! the hub comes and goes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use visnyk_loadtest::{PollClient, Publisher, percent_encode};

use super::history::{Entry, History, Outcome, Publish, Reading};
use crate::support::{CLOSED, Channels, END, Follower, PATIENCE, TestHub, Transports, ndjson, seq};

/// Publishers and followers under way.
pub(crate) struct Traffic {
    address: SocketAddr,
    record: Arc<Record>,
    publishers: JoinSet<()>,
    followers: JoinSet<Follower>,
}

/// What was published.
struct Record {
    began: Instant,
    has_stopped: AtomicBool,
    publishes: Mutex<Vec<Publish>>,
}

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowd {
    pub(crate) publishers: u64,
    pub(crate) followers: u64,
    /// Between two publishes of one publisher.
    pub(crate) pause: Duration,
}

impl Traffic {
    /// Starts followers and publishers. Every second publisher repeats under a key.
    pub(crate) async fn start(address: SocketAddr, crowd: Crowd, seed: u64) -> Self {
        let mut followers = JoinSet::new();
        for number in 0..crowd.followers {
            let channels = match number % 4 {
                0 => Channels::one(CHANNELS[number as usize / 4 % CHANNELS.len()]),
                1 => Channels::Named(CHANNELS.map(str::to_owned).to_vec()),
                2 => Channels::Below("c".to_owned()),
                _ => Channels::All,
            };
            let transports = match number % 3 {
                0 => Transports::Sse,
                1 => Transports::Poll,
                _ => Transports::Both,
            };
            let ends = CHANNELS.iter().filter(|name| channels.contains(name)).count();
            let name = format!("follower {number}");
            let follower = Follower::start(name, address, channels, transports, seed + number);
            followers.spawn(follower.await.run(ends));
        }
        let record = Arc::new(Record {
            began: Instant::now(),
            has_stopped: AtomicBool::new(false),
            publishes: Mutex::default(),
        });
        let mut publishers = JoinSet::new();
        for number in 0..crowd.publishers {
            let source = Source {
                name: format!("p{number}"),
                publisher: Publisher::new(address),
                repeats: number % 2 == 0,
                pause: crowd.pause,
                rng: fastrand::Rng::with_seed(seed.wrapping_add(1_000 + number)),
                record: Arc::clone(&record),
            };
            publishers.spawn(source.run());
        }
        publishers.spawn(close_channels(address, Arc::clone(&record)));
        Self { address, record, publishers, followers }
    }

    /// How many publishes have been acknowledged.
    pub(crate) fn acked(&self) -> usize {
        let publishes = self.record.publishes.lock();
        publishes.iter().filter(|publish| matches!(publish.outcome, Outcome::Acked(_))).count()
    }

    /// Waits for so many more acknowledgements.
    pub(crate) async fn go_on(&self, more: usize) {
        let (wanted, deadline) = (self.acked() + more, Instant::now() + 2 * PATIENCE);
        while self.acked() < wanted {
            assert!(Instant::now() < deadline, "only {} of {wanted} publishes", self.acked());
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends publishing, waits until followers have reached the end, and checks all of it.
    pub(crate) async fn check(self, hub: &TestHub) -> History {
        let history = self.finish(hub).await;
        let found = history.violations();
        assert!(
            found.is_empty(),
            "{} violations: {:#?}",
            found.len(),
            &found[..found.len().min(9)]
        );
        let mut publisher = Publisher::new(hub.address());
        for (channel, data) in history.publishes.iter().flat_map(|publish| &publish.events) {
            if data.starts_with(CLOSED) {
                let status = publisher.publish(channel, "late").await.unwrap().status();
                assert_eq!(status, 410, "{channel} is closed");
            }
        }
        history
    }

    /// Ends publishing, and waits until followers have reached the end.
    pub(crate) async fn finish(mut self, hub: &TestHub) -> History {
        self.record.has_stopped.store(true, Ordering::Relaxed);
        while let Some(ended) = self.publishers.join_next().await {
            ended.unwrap();
        }
        let mut publisher = Publisher::new(self.address);
        for channel in CHANNELS {
            let called = self.record.began.elapsed();
            let data = format!("{END}{channel}");
            let id = publisher.publish_acked(channel, &data).await.expect("an end mark");
            let events = vec![(channel.to_owned(), data)];
            self.record.note(events, called, Outcome::Acked(Some(seq(&id))));
        }
        let (mut readings, mut broken) = (Vec::new(), Vec::new());
        while let Some(follower) = self.followers.join_next().await {
            match follower {
                Ok(follower) => readings.push(follower.into_reading()),
                Err(error) => broken.push(format!("a follower: {error}")),
            }
        }
        let publishes = std::mem::take(&mut *self.record.publishes.lock());
        History { publishes, readings, broken, log: log_of(hub).await }
    }
}

impl Record {
    fn note(&self, events: Vec<(String, String)>, called: Duration, outcome: Outcome) {
        let answered = self.began.elapsed();
        self.publishes.lock().push(Publish { events, called, answered, outcome });
    }

    fn has_stopped(&self) -> bool {
        self.has_stopped.load(Ordering::Relaxed)
    }
}

impl History {
    /// In words, for the output of a test.
    pub(crate) fn summary(&self) -> String {
        let count = |wanted: fn(&Outcome) -> bool| {
            self.publishes.iter().filter(|publish| wanted(&publish.outcome)).count()
        };
        format!(
            "{} publishes acknowledged, {} refused, {} unknown; {} events; {} followers",
            count(|outcome| matches!(outcome, Outcome::Acked(_))),
            count(|outcome| *outcome == Outcome::Refused),
            count(|outcome| *outcome == Outcome::Unknown),
            self.log.len(),
            self.readings.len()
        )
    }
}

impl Follower {
    fn into_reading(self) -> Reading {
        Reading {
            name: self.name,
            channels: self.channels,
            after: self.started_after,
            received: self.seqs.into_iter().zip(self.received).collect(),
            gaps: self.gaps,
        }
    }
}

/// One publisher.
struct Source {
    name: String,
    publisher: Publisher,
    repeats: bool,
    pause: Duration,
    rng: fastrand::Rng,
    record: Arc<Record>,
}

impl Source {
    async fn run(mut self) {
        for number in 0.. {
            if self.record.has_stopped() {
                return;
            }
            self.publish(number).await;
            sleep(self.pause).await;
        }
    }

    async fn publish(&mut self, number: usize) {
        let count = if self.rng.u8(..4) == 0 { self.rng.usize(2..8) } else { 1 };
        let events: Vec<(String, String)> = (0..count)
            .map(|event| {
                let channel = CHANNELS[self.rng.usize(..CHANNELS.len())];
                let more = if self.rng.u8(..8) == 0 { self.rng.usize(..4_000) } else { 0 };
                let data = format!("{} {number} {event} {}", self.name, "x".repeat(more));
                (channel.to_owned(), data)
            })
            .collect();
        let lines = events.iter().map(|(channel, data)| (Some(channel.as_str()), data.as_str()));
        let body = ndjson(lines);
        let key = format!("{}-{number}", self.name);
        let mut fields = vec![("Content-Type", "application/x-ndjson")];
        if self.repeats {
            fields.push(("Idempotency-Key", &key));
        }
        let called = self.record.began.elapsed();
        let deadline = Instant::now() + 4 * PATIENCE;
        loop {
            let outcome = match self.publisher.post("/v1/events", &fields, &body).await {
                // It was not sent.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    Outcome::Refused
                }
                Err(_) => Outcome::Unknown,
                Ok(answer) => match answer.status() {
                    201 => {
                        let json = answer.json();
                        let first = json["first_id"].as_str().or(json["id"].as_str());
                        Outcome::Acked(Some(seq(first.expect("a position"))))
                    }
                    503 | 507 => Outcome::Refused,
                    504 => Outcome::Unknown,
                    status => panic!("{key}: {status} {}", answer.body),
                },
            };
            let is_acked = matches!(outcome, Outcome::Acked(_));
            if is_acked || !self.repeats {
                self.record.note(events, called, outcome);
                if !is_acked {
                    sleep(AGAIN).await;
                }
                return;
            }
            assert!(Instant::now() < deadline, "{key} is not accepted: {outcome:?}");
            sleep(AGAIN).await;
        }
    }
}

/// Opens and closes one channel after the other; what was closed stays so.
async fn close_channels(address: SocketAddr, record: Arc<Record>) {
    let mut publisher = Publisher::new(address);
    for number in 0..CLOSED_MAX {
        let channel = format!("closing/{number}");
        let target = format!("/v1/channels/{}", percent_encode(&channel));
        let opening = vec![(channel.clone(), format!("{channel} is open"))];
        let key = [("Idempotency-Key", channel.as_str()), ("Content-Type", "text/plain")];
        let called = record.began.elapsed();
        let first = loop {
            if record.has_stopped() {
                return record.note(opening, called, Outcome::Unknown);
            }
            match publisher.post(&format!("{target}/events"), &key, &opening[0].1).await {
                Ok(answer) if answer.status() == 201 => {
                    break seq(answer.json()["id"].as_str().expect("a position"));
                }
                _ => sleep(AGAIN).await,
            }
        };
        record.note(opening, called, Outcome::Acked(Some(first)));
        let called = record.began.elapsed();
        let closing = vec![(channel.clone(), format!("{CLOSED}{channel}"))];
        // Until it is known, however long that takes: an answer can be lost, and the next one says
        // that the channel is closed.
        let outcome = loop {
            match visnyk_loadtest::Exchange::new(address)
                .request("DELETE", &target, &[], b"", PATIENCE)
                .await
            {
                Ok(answer) if [204, 410].contains(&answer.status()) => break Outcome::Acked(None),
                // The event that opened it is lost, which the history says of that.
                Ok(answer) if answer.status() == 404 => break Outcome::Unknown,
                _ => sleep(AGAIN).await,
            }
        };
        record.note(closing, called, outcome);
        sleep(Duration::from_millis(50)).await;
    }
}

/// All that the log holds.
pub(crate) async fn log_of(hub: &TestHub) -> Vec<Entry> {
    let target = "/v1/poll?channel=**&timeout=0&limit=1000";
    let mut client = PollClient::new(hub.address(), target).from("earliest");
    let mut log = Vec::new();
    loop {
        let answer = client.next(PATIENCE).await.unwrap();
        match answer.answer.status() {
            200 => assert!(answer.gap.is_null(), "{}", answer.gap),
            204 => return log,
            status => panic!("{status} {}", answer.answer.body),
        }
        for event in answer.events {
            let data = match event.event_type.as_str() {
                "visnyk.closed" => format!("{CLOSED}{}", event.data),
                _ => event.data,
            };
            log.push(Entry { seq: seq(&event.id), channel: event.channel, data });
        }
    }
}

/// What is published to.
pub(crate) const CHANNELS: [&str; 4] = ["a", "b", "c/d", "c/e"];
const CLOSED_MAX: usize = 1_000;
/// Before what was refused is tried again.
const AGAIN: Duration = Duration::from_millis(10);
