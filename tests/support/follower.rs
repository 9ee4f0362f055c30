//! A client that follows channels until it has their end marks, over whatever transport, however
//! often its connection is cut, from one position to the next.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use visnyk_loadtest::{Exchange, PollClient, SseClient, SseRequest};

use super::load::{Channels, END, Ledger};
use super::{PATIENCE, seq};

/// How a follower receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transports {
    /// A stream.
    Sse,
    /// Long-polls.
    Poll,
    /// Either, and the other one after each cut.
    Both,
}

/// A client under way.
#[derive(Debug)]
pub(crate) struct Follower {
    /// Who it is, in messages.
    pub(crate) name: String,
    address: SocketAddr,
    /// What it follows.
    pub(crate) channels: Channels,
    transports: Transports,
    /// Longest time between two cuts.
    cuts: Option<Duration>,
    rng: fastrand::Rng,
    on_stream: bool,
    link: Option<Link>,
    /// The seq that it started behind.
    pub(crate) started_after: u64,
    position: String,
    /// The seqs of what it received.
    pub(crate) seqs: Vec<u64>,
    /// The data of what it received.
    pub(crate) received: Vec<String>,
    /// The gaps it received.
    pub(crate) gaps: Vec<String>,
    /// How often it has connected.
    pub(crate) connects: usize,
    ends: usize,
}

#[derive(Debug)]
enum Link {
    Stream(Box<SseClient>),
    Poll(Box<PollClient>),
}

impl Follower {
    /// Follows channels from now on: it is connected, and has a position, when this returns.
    pub(crate) async fn start(
        name: impl Into<String>,
        address: SocketAddr,
        channels: Channels,
        transports: Transports,
        seed: u64,
    ) -> Self {
        let mut follower = Self {
            name: name.into(),
            address,
            channels,
            transports,
            cuts: None,
            rng: fastrand::Rng::with_seed(seed),
            on_stream: transports != Transports::Poll,
            link: None,
            started_after: 0,
            position: String::new(),
            seqs: Vec::new(),
            received: Vec::new(),
            gaps: Vec::new(),
            connects: 0,
            ends: 0,
        };
        if follower.on_stream {
            follower.connect().await;
            let Some(Link::Stream(client)) = &mut follower.link else { panic!("no stream") };
            let first = client.next_block(PATIENCE).await.expect("a block").expect("a first block");
            follower.position = first.id.expect("the position it starts from");
        } else {
            let target = format!("/v1/poll?timeout=0&{}", follower.channels.query());
            let answer = Exchange::new(address).request("GET", &target, &[], b"", PATIENCE).await;
            let answer = answer.expect("an answer");
            assert_eq!(answer.status(), 204, "{}", answer.body);
            follower.position = answer.head.field("last-event-id").expect("a position").to_owned();
        }
        follower.started_after = seq(&follower.position);
        follower
    }

    /// Its connections will be cut, each within this time at most.
    pub(crate) fn cut_within(mut self, time: Duration) -> Self {
        self.cuts = Some(time);
        self
    }

    /// Whether it receives by a stream alone.
    pub(crate) fn is_stream(&self) -> bool {
        self.transports == Transports::Sse
    }

    /// Where it stands.
    pub(crate) fn position(&self) -> &str {
        &self.position
    }

    /// Receives until it has the end marks of so many channels, as long as it gets on at all.
    pub(crate) async fn run(mut self, ends: usize) -> Self {
        let mut deadline = Instant::now() + STANDSTILL_MAX;
        // Cuts in a row that came before anything else did: each leaves the next connection more
        // time, else a busy machine would get nowhere.
        let mut in_vain = 0;
        while self.ends < ends {
            let received = self.received.len();
            let until = match self.cuts {
                None => deadline,
                Some(most) => Instant::now() + (most * (1 + in_vain)).mul_f64(self.rng.f64()),
            };
            while self.ends < ends {
                let before = self.received.len();
                match timeout_at(until.min(deadline), self.receive()).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(_) if Instant::now() >= deadline => {
                        panic!("{} has {} of {ends} end marks", self.name, self.ends);
                    }
                    Err(_) => {
                        self.cut();
                        break;
                    }
                }
                if self.received.len() > before {
                    deadline = Instant::now() + STANDSTILL_MAX;
                }
            }
            in_vain = if self.received.len() > received { 0 } else { in_vain + 1 };
        }
        self
    }

    /// Holds what it received against what was acknowledged.
    #[track_caller]
    pub(crate) fn assert_exact(&self, ledger: &Ledger) {
        assert!(self.gaps.is_empty(), "{} received gaps: {:?}", self.name, self.gaps);
        let expected = ledger.sequence(&self.channels, self.started_after);
        let who = format!(
            "{} ({:?} of {:?}, connected {} times)",
            self.name, self.transports, self.channels, self.connects
        );
        expected.assert_received(&who, &self.received);
    }

    /// Takes in what comes next; false when the connection is over.
    async fn receive(&mut self) -> bool {
        match &mut self.link {
            None => {
                self.connect().await;
                true
            }
            Some(Link::Stream(client)) => {
                let Ok(Some(block)) = client.next_block(STANDSTILL_MAX).await else {
                    self.link = None;
                    return false;
                };
                if let Some(id) = &block.id {
                    self.advance(id.clone());
                }
                match (block.event.as_deref(), block.data) {
                    (_, None) => {}
                    (None, Some(data)) => self.take(data),
                    (Some("visnyk.gap"), Some(data)) => self.gaps.push(data),
                    (Some("visnyk.closed"), Some(name)) => self.take_closing(&name),
                    (event, data) => panic!("{}: {event:?} {data:?}", self.name),
                }
                true
            }
            Some(Link::Poll(client)) => {
                let Ok(answer) = client.next(STANDSTILL_MAX).await else {
                    self.link = None;
                    sleep(AGAIN).await;
                    return false;
                };
                match answer.answer.status() {
                    200 | 204 => {}
                    503 => {
                        self.link = None;
                        sleep(AGAIN).await;
                        return false;
                    }
                    status => panic!("{}: {status} {}", self.name, answer.answer.body),
                }
                if !answer.gap.is_null() {
                    self.gaps.push(answer.gap.to_string());
                }
                for event in answer.events {
                    self.advance(event.id);
                    match event.event_type.as_str() {
                        "visnyk.closed" => self.take_closing(&event.data),
                        _ => self.take(event.data),
                    }
                }
                let position = answer.answer.head.field("last-event-id").expect("a position");
                self.advance(position.to_owned());
                true
            }
        }
    }

    /// Connects at its position; until it does, for no longer than is decent.
    async fn connect(&mut self) {
        if self.transports == Transports::Both && self.connects > 0 {
            self.on_stream = !self.on_stream;
        }
        self.connects += 1;
        let query = self.channels.query();
        if !self.on_stream {
            let limit = self.rng.u32(1..200);
            let target = format!("/v1/poll?timeout=5&limit={limit}&{query}");
            let client = PollClient::new(self.address, &target).from(&self.position);
            self.link = Some(Link::Poll(Box::new(client)));
            return;
        }
        let mut request = SseRequest::new(&format!("/v1/events?{query}"));
        if !self.position.is_empty() {
            request = request.from(&self.position);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match SseClient::connect(self.address, &request).await {
                // The hub goes down.
                Ok(client) if client.head().status == 503 && Instant::now() < deadline => {
                    sleep(AGAIN).await;
                }
                Ok(client) => {
                    assert_eq!(client.head().status, 200, "{}", self.name);
                    self.link = Some(Link::Stream(Box::new(client)));
                    return;
                }
                Err(error) if Instant::now() >= deadline => panic!("{}: {error}", self.name),
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    fn cut(&mut self) {
        let cut = match self.link.take() {
            None => Ok(()),
            Some(Link::Stream(client)) => client.cut(),
            Some(Link::Poll(mut client)) => client.cut(),
        };
        cut.expect("a socket can be closed");
    }

    /// Positions never go back.
    #[track_caller]
    fn advance(&mut self, position: String) {
        let (from, to) = (&self.position, &position);
        assert!(from.is_empty() || seq(from) <= seq(to), "{} goes from {from} to {to}", self.name);
        self.position = position;
    }

    fn take(&mut self, data: String) {
        if data.starts_with(END) {
            self.ends += 1;
        }
        self.seqs.push(seq(&self.position));
        self.received.push(data);
    }

    /// A channel was closed.
    fn take_closing(&mut self, name: &str) {
        self.take(format!("{CLOSED}{name}"));
    }
}

/// Lets followers receive until each has so many end marks.
pub(crate) fn run_all(followers: Vec<(Follower, usize)>) -> JoinSet<Follower> {
    followers.into_iter().map(|(follower, ends)| follower.run(ends)).collect()
}

/// Waits for followers and holds each against what was acknowledged.
pub(crate) async fn assert_exact(mut followers: JoinSet<Follower>, ledger: &Ledger) {
    while let Some(follower) = followers.join_next().await {
        follower.expect("a follower does not fail").assert_exact(ledger);
    }
}

/// What stands for a closing event in what it received.
pub(crate) const CLOSED: &str = "closed: ";
/// How long a follower may receive nothing.
const STANDSTILL_MAX: Duration = Duration::from_secs(120);
/// Before it tries again what was refused.
const AGAIN: Duration = Duration::from_millis(20);
