//! Publishers under way, and the record of what was acknowledged to them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use visnyk_loadtest::{Publisher, Sequence, percent_encode};

use super::hub::ndjson;
use super::{PATIENCE, seq};

/// Which channels a client receives.
#[derive(Debug, Clone)]
pub(crate) enum Channels {
    /// These.
    Named(Vec<String>),
    /// All below this first segment: `prefix/*`.
    Below(String),
    /// All: `**`.
    All,
}

impl Channels {
    /// One channel.
    pub(crate) fn one(name: &str) -> Self {
        Self::Named(vec![name.to_owned()])
    }

    /// The query that asks for them.
    pub(crate) fn query(&self) -> String {
        let parameter = |text: &String| format!("channel={}", percent_encode(text));
        match self {
            Self::Named(names) => names.iter().map(parameter).collect::<Vec<_>>().join("&"),
            Self::Below(prefix) => format!("channel={}/*", percent_encode(prefix)),
            Self::All => "channel=**".to_owned(),
        }
    }

    /// Whether a channel is one of them.
    pub(crate) fn contains(&self, channel: &str) -> bool {
        match self {
            Self::Named(names) => names.iter().any(|name| name == channel),
            Self::Below(prefix) => {
                channel.split_once('/').is_some_and(|(first, _)| first == prefix)
            }
            Self::All => true,
        }
    }
}

/// The acknowledged events with their seqs.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Vec<Acked>>);

#[derive(Debug, Clone)]
struct Acked {
    seq: u64,
    channel: String,
    data: String,
}

impl Ledger {
    /// Notes the events of one acknowledgement; those of a batch follow each other in the log.
    pub(crate) fn note<'a>(&self, first: u64, events: impl Iterator<Item = (&'a str, &'a str)>) {
        let acked = events.zip(first..).map(|((channel, data), seq)| Acked {
            seq,
            channel: channel.to_owned(),
            data: data.to_owned(),
        });
        self.0.lock().extend(acked);
    }

    /// How many events there are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// How many events a channel has, and the seq of its last one.
    pub(crate) fn count(&self, channel: &str) -> (usize, Option<u64>) {
        let events = self.0.lock();
        let seqs = events.iter().filter(|acked| acked.channel == channel).map(|acked| acked.seq);
        (seqs.clone().count(), seqs.max())
    }

    /// What a client of these channels is to receive after a seq, in log order.
    pub(crate) fn sequence(&self, channels: &Channels, after: u64) -> Sequence {
        let mut events = self.0.lock().clone();
        events.sort_unstable_by_key(|acked| acked.seq);
        let twice = events.windows(2).find(|pair| pair[0].seq == pair[1].seq);
        assert!(twice.is_none(), "one seq was given twice: {twice:?}");
        let wanted = events
            .into_iter()
            .filter(|acked| acked.seq > after && channels.contains(&acked.channel));
        Sequence::new(wanted.map(|acked| acked.data))
    }
}

/// What publishers do.
#[derive(Debug, Clone)]
pub(crate) struct LoadPlan {
    /// To which channels.
    pub(crate) channels: Vec<String>,
    /// How many publishers.
    pub(crate) publishers: usize,
    /// Requests of each; they stop earlier when the load is ended.
    pub(crate) requests_max: usize,
    /// Between two requests of one publisher.
    pub(crate) pause: Duration,
    /// Their choices follow from it.
    pub(crate) seed: u64,
}

/// Publishers under way: single events, batches to one channel and batches across channels, each
/// under an idempotency key and repeated under it when an answer stays away.
pub(crate) struct Load {
    address: SocketAddr,
    channels: Vec<String>,
    /// What was acknowledged.
    pub(crate) ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    publishers: JoinSet<()>,
}

impl Load {
    /// Starts publishing.
    pub(crate) fn start(address: SocketAddr, plan: &LoadPlan) -> Self {
        let (ledger, stop) = (Arc::<Ledger>::default(), Arc::<AtomicBool>::default());
        let mut publishers = JoinSet::new();
        for number in 0..plan.publishers {
            let publisher = LoadPublisher {
                name: format!("p{number}"),
                publisher: Publisher::new(address),
                plan: plan.clone(),
                rng: fastrand::Rng::with_seed(plan.seed.wrapping_add(number as u64)),
                ledger: Arc::clone(&ledger),
                events: 0,
            };
            publishers.spawn(publisher.run(Arc::clone(&stop)));
        }
        Self { address, channels: plan.channels.clone(), ledger, stop, publishers }
    }

    /// Waits until so many events are acknowledged, as long as it goes on at all.
    pub(crate) async fn wait_for(&self, events: usize) {
        let (mut acknowledged, mut deadline) = (0, Instant::now() + PATIENCE);
        while self.ledger.len() < events {
            if self.ledger.len() > acknowledged {
                (acknowledged, deadline) = (self.ledger.len(), Instant::now() + PATIENCE);
            }
            assert!(Instant::now() < deadline, "only {acknowledged} of {events} events");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Lets the publishers finish, those that have requests left too, and publishes an end mark
    /// to every channel.
    pub(crate) async fn end(self) -> Arc<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        self.finish().await
    }

    /// Waits until every publisher has made all its requests, and publishes an end mark to every
    /// channel.
    pub(crate) async fn finish(mut self) -> Arc<Ledger> {
        while let Some(ended) = self.publishers.join_next().await {
            ended.expect("a publisher does not fail");
        }
        let mut publisher = Publisher::new(self.address);
        for channel in &self.channels {
            let data = format!("{END}{channel}");
            let id = publisher.publish_acked(channel, &data).await.expect("an end mark");
            self.ledger.note(seq(&id), [(channel.as_str(), data.as_str())].into_iter());
        }
        self.ledger
    }
}

/// What the data of an end mark begins with.
pub(crate) const END: &str = "end of ";

struct LoadPublisher {
    name: String,
    publisher: Publisher,
    plan: LoadPlan,
    rng: fastrand::Rng,
    ledger: Arc<Ledger>,
    events: usize,
}

impl LoadPublisher {
    async fn run(mut self, stop: Arc<AtomicBool>) {
        for request in 0..self.plan.requests_max {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            self.request(request).await;
            if !self.plan.pause.is_zero() {
                sleep(self.plan.pause).await;
            }
        }
    }

    async fn request(&mut self, request: usize) {
        let key = format!("{}-{request}", self.name);
        let channel = self.channel();
        let mut events = Vec::new();
        let (target, media_type, body);
        match self.rng.u8(..4) {
            0 | 1 => {
                events.push((channel.clone(), self.data(&channel)));
                body = events[0].1.clone();
                (target, media_type) = (path(&channel), "text/plain");
            }
            2 => {
                for _ in 0..self.rng.usize(1..8) {
                    events.push((channel.clone(), self.data(&channel)));
                }
                body = ndjson(events.iter().map(|(_, data)| (None, data.as_str())));
                (target, media_type) = (path(&channel), "application/x-ndjson");
            }
            _ => {
                for _ in 0..self.rng.usize(1..8) {
                    let channel = self.channel();
                    let data = self.data(&channel);
                    events.push((channel, data));
                }
                let lines = events.iter().map(|(name, data)| (Some(name.as_str()), data.as_str()));
                body = ndjson(lines);
                (target, media_type) = ("/v1/events".to_owned(), "application/x-ndjson");
            }
        }
        let fields = [("Content-Type", media_type), ("Idempotency-Key", key.as_str())];
        // Refusals are part of the load, and on a machine that is busy most attempts may meet one.
        let deadline = Instant::now() + 4 * PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "{key} is not accepted");
            let answer = match self.publisher.post(&target, &fields, &body).await {
                Ok(answer) => answer,
                Err(_) => {
                    // Its connection is gone: under the key it may be repeated.
                    sleep(Duration::from_millis(5)).await;
                    continue;
                }
            };
            match answer.status() {
                201 => {
                    let json = answer.json();
                    let first = json["first_id"].as_str().or(json["id"].as_str());
                    let first = seq(first.expect("a position"));
                    if let Some(last) = json["last_id"].as_str() {
                        assert_eq!(seq(last) - first + 1, events.len() as u64, "{}", answer.body);
                    }
                    let events = events.iter().map(|(name, data)| (name.as_str(), data.as_str()));
                    return self.ledger.note(first, events);
                }
                503 => sleep(Duration::from_millis(20)).await,
                status => panic!("{key}: {status} {}", answer.body),
            }
        }
    }

    fn channel(&mut self) -> String {
        let index = self.rng.usize(..self.plan.channels.len());
        self.plan.channels[index].clone()
    }

    /// Data that nothing else has; now and then long, or of several lines.
    fn data(&mut self, channel: &str) -> String {
        self.events += 1;
        let data = format!("{channel} {} {}", self.name, self.events);
        match self.rng.u8(..16) {
            0 => format!("{data} {}", "x".repeat(self.rng.usize(..4_000))),
            1 => format!("{data}\n\nthird line: ї"),
            _ => data,
        }
    }
}

fn path(channel: &str) -> String {
    format!("/v1/channels/{}/events", percent_encode(channel))
}
