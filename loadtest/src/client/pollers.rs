//! The long-pollers: each waits, is answered, and asks again on the same connection.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use memchr::memmem;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

use super::clock::now_ns;
use super::dial::dial;
use super::head::Head;
use super::inbox::{Expect, Inbox};
use super::poller::{Poller, Ready};
use crate::failure::Failure;
use crate::framing::Framing;
use crate::outcome::Verified;
use crate::subject::{Delivers, LongPoll, Subject};

/// All pollers of one channel.
#[derive(Debug)]
pub(crate) struct Pollers {
    subject: Subject,
    channel: String,
    poll: LongPoll,
    poller: Poller,
    ready: Vec<Ready>,
    waiters: Vec<Waiter>,
    pub(crate) inbox: Inbox,
    /// Answers with events so far.
    answers: u64,
    /// Polls that have been sent at all.
    asking: usize,
    /// Whether an answered poller waits for [`ask_again`](Self::ask_again).
    asks_when_told: bool,
    /// Those that wait for it, with their requests.
    to_ask: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug)]
struct Waiter {
    socket: OwnedFd,
    has_asked: bool,
    expect: Expect,
    /// An answer that has not come whole.
    rest: Vec<u8>,
}

impl Pollers {
    /// Connects so many and lets each ask.
    pub(crate) fn connect(
        subject: &Subject,
        channel: &str,
        waiters: usize,
        at: impl Fn(usize),
    ) -> Result<Self, Failure> {
        let poll = subject
            .extras
            .poll
            .ok_or_else(|| Failure::Unsupported(format!("{} has no long-poll", subject.name)))?;
        let mut pollers = Self {
            subject: subject.clone(),
            channel: channel.to_owned(),
            poll,
            poller: Poller::new().map_err(Failure::io("making an epoll"))?,
            ready: Vec::new(),
            waiters: Vec::with_capacity(waiters),
            inbox: Inbox::new(Delivers::WithinData),
            answers: 0,
            asking: 0,
            asks_when_told: false,
            to_ask: Vec::new(),
        };
        let started = Instant::now();
        while pollers.asking < waiters {
            while pollers.waiters.len() < waiters.min(pollers.asking + IN_FLIGHT_MAX) {
                pollers.dial(subject.address)?;
            }
            pollers.turn()?;
            at(pollers.asking);
            if started.elapsed() > PATIENCE {
                let what = format!("poll {} of {waiters}", pollers.asking);
                return Err(Failure::Late { what, waited: PATIENCE });
            }
        }
        Ok(pollers)
    }

    /// Receives until there were so many answers in all, or none for `patience`: false.
    pub(crate) fn receive_until(
        &mut self,
        answers: u64,
        patience: Duration,
    ) -> Result<bool, Failure> {
        let mut progress = Instant::now();
        while self.answers < answers {
            let before = self.answers;
            self.turn()?;
            if self.answers > before {
                progress = Instant::now();
            } else if progress.elapsed() > patience {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Receives for a time.
    pub(crate) fn receive_for(&mut self, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.turn()?;
        }
        Ok(())
    }

    /// From now on no poller asks again before [`ask_again`](Self::ask_again).
    pub(crate) fn ask_when_told(&mut self) {
        self.asks_when_told = true;
    }

    /// All answered pollers ask again, and from now on each asks as soon as it is answered.
    pub(crate) fn ask_again(&mut self) -> Result<(), Failure> {
        self.asks_when_told = false;
        for (number, request) in std::mem::take(&mut self.to_ask) {
            self.ask(number, &request)?;
        }
        Ok(())
    }

    /// Answers with events so far.
    pub(crate) fn answers(&self) -> u64 {
        self.answers
    }

    /// Checks that each has received all of `events`.
    pub(crate) fn verify(&mut self, events: u32) -> Result<Verified, Failure> {
        for (number, waiter) in self.waiters.iter().enumerate() {
            for (stream, next) in waiter.expect.streams() {
                let due = next.due_of(events);
                if due < events {
                    self.inbox.ledger.missing(number as u32, stream, due, events);
                }
            }
        }
        let (verified, first) = self.inbox.ledger.close();
        if verified.is_clean() { Ok(verified) } else { Err(Failure::Faulty { first, verified }) }
    }

    fn dial(&mut self, address: SocketAddr) -> Result<(), Failure> {
        let number = self.waiters.len();
        let socket = dial(address, number, None)
            .map_err(Failure::io(format!("making connection {}", number + 1)))?;
        self.poller.add(&socket, number as u32).map_err(Failure::io("epoll"))?;
        let (expect, rest) = (Expect::all_of(0), Vec::new());
        self.waiters.push(Waiter { socket, has_asked: false, expect, rest });
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.wait(&mut ready, STEP).map_err(Failure::io("epoll"))?;
        for ready in &ready {
            self.step(*ready)?;
        }
        self.ready = ready;
        Ok(())
    }

    fn step(&mut self, ready: Ready) -> Result<(), Failure> {
        let number = ready.token as usize;
        if !self.waiters[number].has_asked && ready.writable {
            if let Ok(Err(error)) | Err(error) = sockopt::socket_error(&self.waiters[number].socket)
            {
                return Err(Failure::io("connecting")(error.into()));
            }
            let request = (self.poll.request)(&self.subject, &self.channel, &[]);
            self.ask(number, &request)?;
            self.waiters[number].has_asked = true;
            self.asking += 1;
        }
        if ready.readable { self.read(number) } else { Ok(()) }
    }

    fn ask(&self, number: usize, request: &[u8]) -> Result<(), Failure> {
        // The buffer is empty whenever a poll is sent, and takes it at once.
        match send(&self.waiters[number].socket, request, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == request.len() => Ok(()),
            Ok(_) => Err(Failure::Unsupported("a request longer than a buffer".into())),
            Err(error) => Err(Failure::io("sending a poll")(error.into())),
        }
    }

    fn read(&mut self, number: usize) -> Result<(), Failure> {
        let refused = |answer: String| Failure::Refused { request: "a poll".into(), answer };
        let mut buffer = [0; READ_BYTES];
        loop {
            let waiter = &mut self.waiters[number];
            let is_all = match recv(&waiter.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((0, _)) => return Err(refused("an end of the connection".into())),
                Ok((count, _)) => {
                    waiter.rest.extend_from_slice(&buffer[..count]);
                    count < READ_BYTES
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(Failure::io("reading an answer")(error.into())),
            };
            self.take(number)?;
            // A later event is reported anew.
            if is_all {
                return Ok(());
            }
        }
    }

    /// Takes an answer, if it is whole, and asks again.
    fn take(&mut self, number: usize) -> Result<(), Failure> {
        let refused = |answer: String| Failure::Refused { request: "a poll".into(), answer };
        let now_ns = now_ns();
        let waiter = &mut self.waiters[number];
        let Some(head) = Head::parse(&waiter.rest) else { return Ok(()) };
        let head = head.map_err(|bad| refused(bad.0))?;
        let Some(body) = whole_body(&head, &waiter.rest).map_err(refused)? else { return Ok(()) };
        let answer = std::mem::take(&mut waiter.rest);
        match head.status {
            200 => {
                if memmem::find(&body, b"\"gap\":").is_some() {
                    self.inbox.ledger.gap(number as u32);
                }
                self.inbox.read_text(number as u32, &mut waiter.expect, &body, now_ns);
                self.answers += 1;
            }
            204 => {}
            _ => {
                let answer = String::from_utf8_lossy(&answer[..answer.len().min(500)]);
                return Err(refused(answer.into_owned()));
            }
        }
        let request = self.request_after(&answer).ok_or_else(|| {
            refused(format!("an answer without {}", self.poll.position.join(" and ")))
        })?;
        if self.asks_when_told {
            self.to_ask.push((number, request));
            return Ok(());
        }
        self.ask(number, &request)
    }

    fn request_after(&self, answer: &[u8]) -> Option<Vec<u8>> {
        let fields = self.poll.position.iter().map(|name| Head::field(answer, name));
        let after = fields.collect::<Option<Vec<_>>>()?;
        Some((self.poll.request)(&self.subject, &self.channel, &after))
    }
}

/// The body, once all of it is there.
fn whole_body(head: &Head, bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut body = bytes[head.bytes..].to_vec();
    let mut framing = head.framing;
    let decoded = framing.decode(&mut body).map_err(|_| "a bad chunk".to_owned())?;
    if framing != Framing::Ended {
        return Ok(None);
    }
    if decoded.used < body.len() {
        return Err("more than one answer to a poll".into());
    }
    body.truncate(decoded.body);
    Ok(Some(body))
}

const IN_FLIGHT_MAX: usize = 128;
const READ_BYTES: usize = 16 * 1024;
const STEP: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);
