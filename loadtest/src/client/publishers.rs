//! The publishers: kept connections on a thread of their own, each with a schedule.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::clock::{now_ns, thread_cpu_ns};
use super::dial::dial_and_wait;
use super::head::Head;
use super::latency::latencies;
use super::poller::{Poller, Ready};
use super::stamp::Stamp;
use crate::failure::Failure;
use crate::framing::Framing;
use crate::subject::Subject;

/// What is to be published, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct PublishPlan {
    /// The names that items refer to.
    pub(crate) channels: Vec<String>,
    /// For each connection what it publishes, in that order.
    pub(crate) lanes: Vec<Vec<Item>>,
    /// Bytes of data in each event.
    pub(crate) payload: usize,
    /// Requests that a connection may have sent and not seen answered.
    pub(crate) unanswered_max: usize,
}

impl PublishPlan {
    /// Events `from..to` of stream 0 to one channel on one connection, at a steady rate.
    pub(crate) fn paced(
        channel: &str,
        events: std::ops::Range<u32>,
        rate: f64,
        payload: usize,
    ) -> Self {
        let first = events.start;
        let item = |seq: u32| Item {
            at_ns: Some((f64::from(seq - first) / rate * 1e9) as u64),
            channel: 0,
            stream: 0,
            first_seq: seq,
            events: 1,
        };
        Self {
            channels: vec![channel.to_owned()],
            lanes: vec![events.map(item).collect()],
            payload,
            unanswered_max: 1,
        }
    }
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    /// When it is due, after the start; `None` as soon as the connection may send. An event says
    /// when it was due; without a time, that is when it was sent.
    pub(crate) at_ns: Option<u64>,
    pub(crate) channel: u32,
    pub(crate) stream: u32,
    pub(crate) first_seq: u32,
    /// Events in the request; more than one needs a subject that takes batches.
    pub(crate) events: u32,
}

/// Publishing under way.
#[derive(Debug)]
pub(crate) struct Publishing {
    thread: JoinHandle<Result<Published, Failure>>,
    stop: Arc<AtomicBool>,
    sent: Sent,
}

/// How many events have been sent to each channel so far, or are about to be: whatever is not among
/// them is published later than this is asked.
#[derive(Debug, Clone)]
pub(crate) struct Sent(Arc<[AtomicU32]>);

impl Sent {
    fn none(channels: usize) -> Self {
        Self((0..channels).map(|_| AtomicU32::new(0)).collect())
    }

    /// Of the stream with the number of its channel in the plan.
    pub(crate) fn of(&self, channel: u32) -> u32 {
        self.0.get(channel as usize).map_or(0, |events| events.load(Ordering::Acquire))
    }

    fn set(&self, channel: u32, events: u32) {
        if let Some(sent) = self.0.get(channel as usize) {
            sent.store(events, Ordering::Release);
        }
    }

    #[cfg(test)]
    pub(crate) fn so_far(channels: &[u32]) -> Self {
        Self(channels.iter().map(|events| AtomicU32::new(*events)).collect())
    }
}

/// What publishing took.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) events: u64,
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    /// From when a request was due until its answer, in microseconds.
    pub(crate) answer_us: Histogram<u64>,
    /// CPU time of this thread.
    pub(crate) cpu_ns: u64,
    /// Its connections, still open: a server that has a thread for each keeps it until then, and
    /// with it the account of what it spent.
    sockets: Vec<OwnedFd>,
}

impl Publishing {
    /// Connects, and begins to publish on a thread of its own.
    pub(crate) fn start(subject: &Subject, plan: PublishPlan) -> Result<Self, Failure> {
        let thread = Thread::connect(subject, plan)?;
        let (stop, sent) = (Arc::clone(&thread.stop), thread.sent.clone());
        let thread = std::thread::Builder::new()
            .name("publish".into())
            .spawn(move || thread.run())
            .map_err(Failure::io("starting a thread"))?;
        Ok(Self { thread, stop, sent })
    }

    /// What it has sent, as it goes on.
    pub(crate) fn sent(&self) -> Sent {
        self.sent.clone()
    }

    /// Whether all is published, or failed.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end.
    pub(crate) fn finish(self) -> Result<Published, Failure> {
        self.thread.join().unwrap_or_else(|_| Err(Failure::Unsupported("a panic".into())))
    }

    /// Ends it before it has published everything.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Thread {
    subject: Subject,
    channels: Vec<String>,
    payload: usize,
    unanswered_max: usize,
    poller: Poller,
    lanes: Vec<Lane>,
    stop: Arc<AtomicBool>,
    sent: Sent,
    published: Published,
}

/// One connection.
struct Lane {
    socket: OwnedFd,
    items: Vec<Item>,
    next: usize,
    /// What could not be sent at once.
    unsent: VecDeque<u8>,
    /// When each unanswered request was due.
    unanswered: VecDeque<u64>,
    answers: Answers,
}

/// Answers as they come.
#[derive(Default)]
struct Answers {
    bytes: Vec<u8>,
    /// The body that is under way.
    body: Option<Framing>,
}

impl Thread {
    fn connect(subject: &Subject, plan: PublishPlan) -> Result<Self, Failure> {
        let poller = Poller::new().map_err(Failure::io("making an epoll"))?;
        let mut lanes = Vec::new();
        for (number, items) in plan.lanes.into_iter().enumerate() {
            let socket =
                dial_and_wait(subject.address).map_err(Failure::io("connecting a publisher"))?;
            poller.add(&socket, number as u32).map_err(Failure::io("epoll"))?;
            lanes.push(Lane {
                socket,
                items,
                next: 0,
                unsent: VecDeque::new(),
                unanswered: VecDeque::new(),
                answers: Answers::default(),
            });
        }
        Ok(Self {
            subject: subject.clone(),
            sent: Sent::none(plan.channels.len()),
            channels: plan.channels,
            payload: plan.payload,
            unanswered_max: plan.unanswered_max.max(1),
            poller,
            lanes,
            stop: Arc::default(),
            published: Published {
                events: 0,
                requests: 0,
                elapsed: Duration::ZERO,
                answer_us: latencies(),
                cpu_ns: 0,
                sockets: Vec::new(),
            },
        })
    }

    fn run(mut self) -> Result<Published, Failure> {
        let (cpu_ns, started_ns) = (thread_cpu_ns(), now_ns());
        let mut progress_ns = started_ns;
        let mut ready = Vec::new();
        let mut touched: Vec<Ready> = Vec::new();
        let mut wake_ns = 0;
        while !self.stop.load(Ordering::Relaxed) && !self.lanes.iter().all(Lane::is_done) {
            // Of many connections only those that got an answer have anything to do, until
            // something is due by the clock.
            if now_ns() >= wake_ns {
                for number in 0..self.lanes.len() {
                    self.publish_due(number, started_ns)?;
                }
                let due = self.lanes.iter().filter_map(|lane| lane.due_ns(self.unanswered_max));
                wake_ns = due.min().map_or(u64::MAX, |due| started_ns + due);
            } else {
                for ready in &touched {
                    self.publish_due(ready.token as usize, started_ns)?;
                    let due = self.lanes[ready.token as usize].due_ns(self.unanswered_max);
                    wake_ns = wake_ns.min(due.map_or(u64::MAX, |due| started_ns + due));
                }
            }
            let timeout = Duration::from_nanos(wake_ns.saturating_sub(now_ns())).min(STEP);
            self.poller.wait(&mut ready, timeout).map_err(Failure::io("epoll"))?;
            std::mem::swap(&mut ready, &mut touched);
            for ready in &touched {
                progress_ns = now_ns();
                self.step(*ready)?;
            }
            let waiting = self.lanes.iter().any(|lane| !lane.unanswered.is_empty());
            if waiting && now_ns() - progress_ns > PATIENCE.as_nanos() as u64 {
                let what = format!("an answer to request {}", self.published.requests);
                return Err(Failure::Late { what, waited: PATIENCE });
            }
            if !waiting {
                progress_ns = now_ns();
            }
        }
        self.published.elapsed = Duration::from_nanos(now_ns() - started_ns);
        self.published.cpu_ns = thread_cpu_ns() - cpu_ns;
        self.published.sockets = self.lanes.into_iter().map(|lane| lane.socket).collect();
        Ok(self.published)
    }

    /// Sends what is due on one connection.
    fn publish_due(&mut self, number: usize, started_ns: u64) -> Result<(), Failure> {
        let lane = &mut self.lanes[number];
        let now = now_ns();
        let mut requests = Vec::new();
        while lane.unanswered.len() < self.unanswered_max
            && let Some(item) = lane.items.get(lane.next)
            && item.at_ns.is_none_or(|at| started_ns + at <= now)
        {
            let due_ns = item.at_ns.map_or(now, |at| started_ns + at);
            let request = request(&self.subject, &self.channels, self.payload, item, due_ns);
            requests.extend_from_slice(&request);
            lane.unanswered.push_back(due_ns);
            lane.next += 1;
            self.sent.set(item.channel, item.first_seq + item.events);
            self.published.events += u64::from(item.events);
            self.published.requests += 1;
        }
        lane.send(&requests).map_err(Failure::io("publishing"))
    }

    fn step(&mut self, ready: Ready) -> Result<(), Failure> {
        let lane = &mut self.lanes[ready.token as usize];
        if ready.writable && !lane.unsent.is_empty() {
            lane.send(&[]).map_err(Failure::io("publishing"))?;
        }
        if !ready.readable {
            return Ok(());
        }
        loop {
            let mut buffer = [0; READ_BYTES];
            match recv(&lane.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((0, _)) => {
                    let answer = "an end of the connection".into();
                    return Err(Failure::Refused { request: "a POST".into(), answer });
                }
                Ok((count, _)) => {
                    let statuses = lane.answers.take(&buffer[..count])?;
                    for status in statuses {
                        if !self.subject.publish_ok.contains(&status) {
                            let answer = format!("status {status}");
                            return Err(Failure::Refused { request: "a POST".into(), answer });
                        }
                        if let Some(due_ns) = lane.unanswered.pop_front() {
                            let waited_us = now_ns().saturating_sub(due_ns) / 1_000;
                            self.published.answer_us.saturating_record(waited_us);
                        }
                    }
                    if count < READ_BYTES && !ready.closed {
                        return Ok(());
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Failure::io("reading an answer")(error.into())),
            }
        }
    }
}

impl Lane {
    fn is_done(&self) -> bool {
        self.next == self.items.len() && self.unanswered.is_empty()
    }

    /// When it has something to send by the clock, if not by an answer.
    fn due_ns(&self, unanswered_max: usize) -> Option<u64> {
        let item = self.items.get(self.next)?;
        (self.unanswered.len() < unanswered_max).then_some(item.at_ns.unwrap_or(0))
    }

    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.unsent.is_empty() {
            let sent = send_some(&self.socket, bytes)?;
            self.unsent.extend(&bytes[sent..]);
            return Ok(());
        }
        self.unsent.extend(bytes);
        while !self.unsent.is_empty() {
            let sent = send_some(&self.socket, self.unsent.as_slices().0)?;
            if sent == 0 {
                break;
            }
            self.unsent.drain(..sent);
        }
        Ok(())
    }
}

impl Answers {
    /// The statuses of the answers that came to their end.
    fn take(&mut self, bytes: &[u8]) -> Result<Vec<u16>, Failure> {
        self.bytes.extend_from_slice(bytes);
        let refused = |answer| Failure::Refused { request: "a POST".into(), answer };
        let (mut statuses, mut at) = (Vec::new(), 0);
        loop {
            if let Some(framing) = &mut self.body {
                let decoded = framing
                    .decode(&mut self.bytes[at..])
                    .map_err(|_| refused("a body that is not chunked as its head says".into()))?;
                at += decoded.used;
                if *framing != Framing::Ended {
                    break;
                }
                self.body = None;
                continue;
            }
            let Some(head) = Head::parse(&self.bytes[at..]) else { break };
            let head = head.map_err(|bad| refused(bad.0))?;
            at += head.bytes;
            self.body = Some(head.framing);
            if head.status >= 200 {
                statuses.push(head.status);
            }
        }
        self.bytes.drain(..at);
        Ok(statuses)
    }
}

fn request(
    subject: &Subject,
    channels: &[String],
    payload: usize,
    item: &Item,
    due_ns: u64,
) -> Vec<u8> {
    let channel = &channels[item.channel as usize];
    let body = |seq| {
        let mut body = Vec::with_capacity(payload);
        Stamp { stream: item.stream, seq, due_ns }.write(payload, &mut body);
        body
    };
    match subject.publish_batch {
        Some(publish_batch) if item.events > 1 => {
            let bodies: Vec<_> = (0..item.events).map(|n| body(item.first_seq + n)).collect();
            publish_batch(subject, channel, &bodies)
        }
        _ => (subject.publish)(subject, channel, &body(item.first_seq)),
    }
}

fn send_some(socket: &OwnedFd, bytes: &[u8]) -> std::io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match send(socket, &bytes[sent..], SendFlags::NOSIGNAL) {
            Ok(count) => sent += count,
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sent)
}

const READ_BYTES: usize = 16 * 1024;
/// No wait is longer, so that a stop is noticed.
const STEP: Duration = Duration::from_millis(100);
/// An answer that takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(20);
