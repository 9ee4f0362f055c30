//! All publishers and subscribers of a scenario.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::bed::{Bed, PATIENCE};
use crate::publisher::{BUSY, CHANNELS, Link, Mode, Publishing};
use crate::record::{Line, Outcome, Record};
use crate::subscriber::{END, Start, Subscriber, Subscription, Transport};

/// Publishers and subscribers under way.
#[derive(Debug)]
pub(crate) struct Traffic {
    publishing: Arc<Publishing>,
    publishers: JoinSet<()>,
    subscribers: JoinSet<()>,
    subscribers_started: u64,
    give_up: watch::Sender<Option<Instant>>,
    hubs: Vec<std::net::SocketAddr>,
    recorder: crate::record::Recorder,
    rng: fastrand::Rng,
    /// So that the end of a drain is not waited for in vain.
    pub(crate) has_first_hub_restarted: bool,
}

impl Traffic {
    /// Starts them, and waits until all subscribers have connected.
    pub(crate) async fn start(bed: &Bed, seed: u64) -> Self {
        let (hubs, recorder) = (bed.fronts(), bed.recorder.clone());
        let publishing = Publishing::new(hubs.clone(), recorder.clone());
        let mut traffic = Self {
            publishing,
            publishers: JoinSet::new(),
            subscribers: JoinSet::new(),
            subscribers_started: 0,
            give_up: watch::Sender::new(None),
            hubs,
            recorder,
            rng: fastrand::Rng::with_seed(seed),
            has_first_hub_restarted: false,
        };
        for channels in [&["**"][..], &["a"], &["a", "b"]] {
            for transport in [Transport::Stream, Transport::Poll] {
                traffic.subscribe(channels, transport, Start::Now);
            }
        }
        traffic.connected().await;
        for name in 0..PUBLISHERS {
            let rng = traffic.rng.fork();
            let publishing = Arc::clone(&traffic.publishing);
            traffic.publishers.spawn(publishing.publish_on(name, rng));
        }
        traffic.publishers.spawn(Arc::clone(&traffic.publishing).close_on());
        traffic
    }

    /// Starts so many more, by streams of a channel, and waits until they have connected.
    pub(crate) async fn subscribe_streams(&mut self, channel: &str, count: usize) {
        for _ in 0..count {
            self.subscribe(&[channel], Transport::Stream, Start::Now);
        }
        self.connected().await;
    }

    fn subscribe(&mut self, channels: &[&str], transport: Transport, start: Start) {
        let who = self.subscribers_started;
        self.subscribers_started += 1;
        let channels = channels.iter().map(|&name| name.to_owned()).collect();
        let subscription = Subscription { who, channels, transport, start };
        let (hubs, recorder) = (self.hubs.clone(), self.recorder.clone());
        let subscriber = Subscriber::new(subscription, hubs, recorder, self.rng.fork());
        self.subscribers.spawn(subscriber.run(self.give_up.subscribe()));
    }

    /// Waits until all subscribers know where they start.
    async fn connected(&self) {
        let deadline = Instant::now() + PATIENCE;
        let count = || {
            let is_start = |line: &&Line| matches!(line.record, Record::Subscriber { .. });
            self.recorder.with_lines(|lines| lines.iter().filter(is_start).count())
        };
        while (count() as u64) < self.subscribers_started {
            assert!(Instant::now() < deadline, "subscribers connect");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many publishes have been acknowledged.
    pub(crate) fn acked(&self) -> u64 {
        self.publishing.acked()
    }

    /// The position of the newest acknowledgement.
    pub(crate) fn last_acked(&self) -> Option<String> {
        let first = |line: &Line| match &line.record {
            Record::Answer { outcome: Outcome::Acked { first }, .. } => Some(first.clone()),
            _ => None,
        };
        self.recorder.with_lines(|lines| lines.iter().rev().find_map(first))
    }

    /// How many publishes have been sent and have no answer.
    pub(crate) fn under_way(&self) -> u64 {
        self.publishing.under_way()
    }

    /// Waits for so many more acknowledgements; false if they do not come.
    pub(crate) async fn acknowledged(&self, more: u64) -> bool {
        let (wanted, deadline) = (self.acked() + more, Instant::now() + PATIENCE);
        while self.acked() < wanted {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// Notes how soon each hub, from the `first` on, takes publishes again.
    pub(crate) async fn recover(&self, bed: &Bed, first: usize, ms_max: u64) {
        let hubs = bed.hubs.iter().enumerate().skip(first).filter(|(_, node)| node.is_up());
        let back = hubs.map(async |(hub, node)| {
            let address = node.front.address();
            match self.publishing.recovers(address, hub).await {
                Some(took) => {
                    let ms = took.as_millis() as u64;
                    self.recorder.note(Record::Recovered { hub, ms, ms_max });
                }
                None => {
                    let what = format!("hub {hub} takes no publish in {PATIENCE:?}");
                    self.recorder.note(Record::Odd { what });
                }
            }
        });
        all_of(back.collect()).await;
    }

    /// Lets publishers pause, and waits until nothing is under way.
    pub(crate) async fn idle(&self) {
        self.publishing.set(Mode::Idle);
        let deadline = Instant::now() + PATIENCE;
        while self.under_way() > 0 {
            assert!(Instant::now() < deadline, "publishes are under way");
            sleep(Duration::from_millis(5)).await;
        }
        // Deliveries are.
        sleep(Duration::from_millis(100)).await;
    }

    /// Lets publishers go on.
    pub(crate) fn go_on(&self) {
        self.publishing.set(Mode::On);
    }

    /// Publishes much, to one of the hubs at first.
    pub(crate) async fn publish_backlog(&self, hub: usize, event_bytes: usize) {
        let mut link = Link::new(&self.hubs, hub);
        for batch in 0..BACKLOG_BATCHES {
            let event =
                |n: usize| format!("{} backlog {hub}.{batch}.{n} {n:0>event_bytes$}", BUSY[n % 3]);
            let events = (0..BACKLOG_BATCH).map(event).collect();
            let outcome = self.publishing.publish(&mut link, events, true, PATIENCE).await;
            assert!(matches!(outcome, Outcome::Acked { .. }), "{outcome:?}");
        }
    }

    /// How many gaps subscribers have received.
    pub(crate) fn gaps(&self) -> usize {
        let is_gap = |line: &&Line| matches!(line.record, Record::Gap { .. });
        self.recorder.with_lines(|lines| lines.iter().filter(is_gap).count())
    }

    /// Waits until they have received so many.
    pub(crate) async fn await_gaps(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.gaps() < count {
            assert!(Instant::now() < deadline, "subscribers receive gaps");
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until a poll has brought an event: its client goes on over a connection that it has an
    /// answer of.
    pub(crate) async fn await_polled(&self) {
        let polled = |lines: &[Line]| {
            let is_poller = |wanted: u64| {
                let is = |record: &Record| matches!(record, Record::Connect { who, by, .. } if *who == wanted && *by == Transport::Poll.name());
                lines.iter().any(|line| is(&line.record))
            };
            lines
                .iter()
                .any(|line| matches!(&line.record, Record::Event { who, .. } if is_poller(*who)))
        };
        let deadline = Instant::now() + PATIENCE;
        while !self.recorder.with_lines(polled) {
            assert!(Instant::now() < deadline, "polls bring events");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until a hub has refused a publish with this status.
    pub(crate) async fn await_refusal(&self, hub: usize, status: u16) {
        let wanted = Record::Refusal { hub, status };
        let deadline = Instant::now() + PATIENCE;
        while !self.recorder.with_lines(|lines| lines.iter().any(|line| line.record == wanted)) {
            assert!(Instant::now() < deadline, "hub {hub} refuses with {status}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts subscribers from the oldest event, and waits until one is in the middle of it.
    pub(crate) async fn replay(&mut self) {
        let before = self.subscribers_started;
        for channels in [&["**"][..], &["a", "b"], &["c"]] {
            for transport in [Transport::Stream, Transport::Poll] {
                self.subscribe(channels, transport, Start::Earliest);
            }
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let received = self.recorder.with_lines(|lines| {
                let is_theirs =
                    |record: &Record| matches!(record, Record::Event { who, .. } if *who >= before);
                lines.iter().filter(|line| is_theirs(&line.record)).count()
            });
            if received > 20 {
                return;
            }
            assert!(Instant::now() < deadline, "subscribers receive what was published before");
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends publishers, publishes a last event to each channel, and waits until subscribers have
    /// these. The last events. If no hub takes a publish, `is_alive` is false, and nothing is
    /// waited for.
    pub(crate) async fn finish(mut self, is_alive: bool) -> Vec<String> {
        self.publishing.set(Mode::Over);
        let ends: Vec<String> = CHANNELS.iter().map(|channel| format!("{channel}{END}")).collect();
        if !is_alive {
            self.publishers.shutdown().await;
            self.subscribers.shutdown().await;
            return ends;
        }
        while let Some(ended) = self.publishers.join_next().await {
            ended.expect("a publisher does not fail");
        }
        let mut link = Link::new(&self.hubs, 0);
        for end in &ends {
            let outcome =
                self.publishing.publish(&mut link, vec![end.clone()], true, PATIENCE).await;
            if !matches!(outcome, Outcome::Acked { .. }) {
                let what = format!("the last event is not acknowledged in 30 s: {outcome:?}");
                self.recorder.note(Record::Odd { what });
            }
        }
        self.give_up.send_replace(Some(Instant::now() + PATIENCE));
        while let Some(ended) = self.subscribers.join_next().await {
            ended.expect("a subscriber does not fail");
        }
        ends
    }
}

/// Waits for all of them at the same time.
async fn all_of<F: Future<Output = ()>>(futures: Vec<F>) {
    let mut futures: Vec<_> = futures.into_iter().map(|it| Some(Box::pin(it))).collect();
    std::future::poll_fn(|context| {
        for slot in &mut futures {
            if slot.as_mut().is_some_and(|future| future.as_mut().poll(context).is_ready()) {
                *slot = None;
            }
        }
        match futures.iter().all(Option::is_none) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
}

const PUBLISHERS: u64 = 4;
const BACKLOG_BATCHES: usize = 8;
const BACKLOG_BATCH: usize = 250;
