//! The subscribers: many thousands of streams on one thread.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

use super::clock::now_ns;
use super::dial::dial;
use super::framing::Framing;
use super::head::Head;
use super::inbox::{Expect, Inbox, LastId};
use super::poller::{Poller, Ready};
use crate::failure::Failure;
use crate::outcome::Verified;
use crate::subject::Subject;

/// Subscribers that ask for the same and must receive the same.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) request: Vec<u8>,
    pub(crate) expect: Expect,
    pub(crate) connections: usize,
}

/// All subscribers of this process.
#[derive(Debug)]
pub(crate) struct Receivers {
    address: SocketAddr,
    poller: Poller,
    ready: Vec<Ready>,
    connections: Vec<Connection>,
    requests: Vec<Vec<u8>>,
    /// `Some` where a scenario resumes: one for each connection.
    last_ids: Option<Vec<LastId>>,
    pub(crate) inbox: Inbox,
    /// What was read last, of whichever connection, behind room for what it left over before.
    buffer: Vec<u8>,
    open: usize,
    /// All that came, heads of answers and heartbeats with it.
    pub(crate) received_bytes: u64,
    /// Deliveries in each [`TICK`] since the start.
    pub(crate) ticks: Ticks,
}

/// One subscriber, in 72 bytes.
#[derive(Debug)]
struct Connection {
    socket: Option<OwnedFd>,
    request: u32,
    state: State,
    expect: Expect,
    /// The part of a line or head that came last.
    rest: Option<Box<[u8]>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Dialling,
    Head,
    Body(Framing),
}

/// Deliveries over time.
#[derive(Debug, Default)]
pub(crate) struct Ticks {
    started_ns: u64,
    counted: u64,
    counts: Vec<u64>,
}

/// What connecting took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Connected {
    pub(crate) connections: usize,
    /// From the first connect until every one had its response head.
    pub(crate) elapsed: Duration,
}

impl Receivers {
    pub(crate) fn new(subject: &Subject) -> Result<Self, Failure> {
        Ok(Self {
            address: subject.address,
            poller: Poller::new().map_err(Failure::io("making an epoll"))?,
            ready: Vec::new(),
            connections: Vec::new(),
            requests: Vec::new(),
            last_ids: None,
            inbox: Inbox::new(subject.delivers),
            buffer: vec![0; REST_BYTES_MAX + READ_BYTES],
            open: 0,
            received_bytes: 0,
            ticks: Ticks::default(),
        })
    }

    /// Connects all of these groups and waits until each connection has its response head.
    pub(crate) fn connect(
        &mut self,
        groups: &[Group],
        mut at: impl FnMut(usize),
    ) -> Result<Connected, Failure> {
        let first_request = self.requests.len();
        self.requests.extend(groups.iter().map(|group| group.request.clone()));
        let total: usize = groups.iter().map(|group| group.connections).sum();
        let (first, started) = (self.connections.len(), Instant::now());
        let last = first + total;
        self.connections.reserve(total);
        let mut due = groups.iter().enumerate().flat_map(|(number, group)| {
            let request = (first_request + number) as u32;
            (0..group.connections).map(move |_| (request, group.expect.clone()))
        });
        let (mut waiting, mut progress) = (first, Instant::now());
        while waiting < last {
            let room = (waiting + IN_FLIGHT_MAX).saturating_sub(self.connections.len());
            for (request, expect) in due.by_ref().take(room) {
                self.dial(request, expect)?;
            }
            if self.turn(STEP)? > 0 {
                progress = Instant::now();
            } else if progress.elapsed() > PATIENCE {
                let what = format!("response head {} of {total}", waiting - first + 1);
                return Err(Failure::Late { what, waited: PATIENCE });
            }
            while waiting < self.connections.len() && self.connections[waiting].has_head() {
                waiting += 1;
            }
            at(waiting - first);
        }
        Ok(Connected { connections: total, elapsed: started.elapsed() })
    }

    /// Receives until `done`, or until nothing has come for `patience`: false.
    pub(crate) fn receive_until(
        &mut self,
        patience: Duration,
        mut done: impl FnMut(&Self) -> Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        let mut progress = Instant::now();
        while !done(self)? {
            if self.turn(STEP)? > 0 {
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
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.turn(left.min(STEP))?;
        }
        Ok(())
    }

    /// Compares what came with the events of each stream, and fails the run if that differs.
    pub(crate) fn verify(&mut self, events_of: impl Fn(u32) -> u32) -> Result<Verified, Failure> {
        for (number, connection) in self.connections.iter().enumerate() {
            for (stream, next) in connection.expect.streams() {
                let events = events_of(stream);
                if next < events {
                    self.inbox.ledger.missing(number as u32, stream, next, events);
                }
            }
        }
        let (verified, first) = self.inbox.ledger.close();
        if verified.is_clean() { Ok(verified) } else { Err(Failure::Faulty { first, verified }) }
    }

    /// Connections that have not ended.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    pub(crate) fn deliveries(&self) -> u64 {
        self.inbox.ledger.deliveries()
    }

    fn dial(&mut self, request: u32, expect: Expect) -> Result<(), Failure> {
        let number = self.connections.len();
        let socket = dial(self.address, number)
            .map_err(Failure::io(format!("making connection {}", number + 1)))?;
        self.poller.add(&socket, number as u32).map_err(Failure::io("epoll"))?;
        let state = State::Dialling;
        self.connections.push(Connection {
            socket: Some(socket),
            request,
            state,
            expect,
            rest: None,
        });
        self.open += 1;
        Ok(())
    }

    /// One wait, and all that became ready by it; how many that were.
    fn turn(&mut self, timeout: Duration) -> Result<usize, Failure> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.wait(&mut ready, timeout).map_err(Failure::io("epoll"))?;
        for ready in &ready {
            self.step(*ready)?;
        }
        if !ready.is_empty() {
            self.ticks.count(self.inbox.ledger.deliveries());
        }
        self.ready = ready;
        Ok(self.ready.len())
    }

    fn step(&mut self, ready: Ready) -> Result<(), Failure> {
        let Some(connection) = self.connections.get_mut(ready.token as usize) else {
            return Ok(());
        };
        if connection.state == State::Dialling && (ready.writable || ready.closed) {
            connection.ask(&self.requests[connection.request as usize])?;
        }
        if ready.readable { self.read(ready) } else { Ok(()) }
    }

    fn read(&mut self, ready: Ready) -> Result<(), Failure> {
        let connection = &mut self.connections[ready.token as usize];
        loop {
            let Some(socket) = &connection.socket else { return Ok(()) };
            match recv(socket, &mut self.buffer[REST_BYTES_MAX..], RecvFlags::empty()) {
                Ok((count, _)) if count > 0 => {
                    let now_ns = now_ns();
                    self.received_bytes += count as u64;
                    let rest = connection.rest.take().map_or(0, |rest| {
                        let from = REST_BYTES_MAX - rest.len();
                        self.buffer[from..REST_BYTES_MAX].copy_from_slice(&rest);
                        rest.len()
                    });
                    let bytes = &mut self.buffer[REST_BYTES_MAX - rest..REST_BYTES_MAX + count];
                    let last_id = self.last_ids.as_mut().map(|ids| &mut ids[ready.token as usize]);
                    connection.take(ready.token, rest, bytes, &mut self.inbox, last_id, now_ns)?;
                    if count < READ_BYTES && !ready.closed {
                        return Ok(());
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                ended => {
                    let why = ended.map_or_else(|error| error.to_string(), |_| "end".into());
                    self.inbox.ledger.say(|| {
                        format!("connection {} was ended by the server: {why}", ready.token)
                    });
                    connection.socket = None;
                    self.open -= 1;
                    return match connection.state {
                        State::Body(_) => Ok(()),
                        _ => Err(Failure::Refused { request: "a GET".into(), answer: why }),
                    };
                }
            }
        }
    }
}

impl Connection {
    fn has_head(&self) -> bool {
        matches!(self.state, State::Body(_))
    }

    /// Sends the request, now that there is a connection.
    fn ask(&mut self, request: &[u8]) -> Result<(), Failure> {
        let Some(socket) = &self.socket else { return Ok(()) };
        match sockopt::socket_error(socket) {
            Ok(Ok(())) => {}
            Ok(Err(error)) | Err(error) => return Err(Failure::io("connecting")(error.into())),
        }
        // A new connection's buffer takes any request of ours at once.
        match send(socket, request, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == request.len() => self.state = State::Head,
            Ok(_) => return Err(Failure::Unsupported("a request longer than a buffer".into())),
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(Failure::io("sending a request")(error.into())),
        }
        Ok(())
    }

    /// Takes what came: `rest` bytes of `bytes` were left over before.
    fn take(
        &mut self,
        number: u32,
        mut rest: usize,
        mut bytes: &mut [u8],
        inbox: &mut Inbox,
        last_id: Option<&mut LastId>,
        now_ns: u64,
    ) -> Result<(), Failure> {
        if !self.has_head() {
            let refused = |bytes: &[u8]| Failure::Refused {
                request: "a GET".into(),
                answer: String::from_utf8_lossy(&bytes[..bytes.len().min(500)]).into_owned(),
            };
            match Head::parse(bytes) {
                None => return self.leave(bytes),
                Some(Ok(head)) if head.status == 200 => {
                    self.state = State::Body(head.framing);
                    bytes = &mut bytes[head.bytes..];
                    rest = 0;
                }
                Some(_) => return Err(refused(bytes)),
            }
        }
        let State::Body(framing) = &mut self.state else { return Ok(()) };
        let decoded = framing.decode(&mut bytes[rest..]).map_err(|_| Failure::Refused {
            request: "a GET".into(),
            answer: "a body that is not chunked as its head says".into(),
        })?;
        let body = &bytes[..rest + decoded.body];
        let used = inbox.read_lines(number, &mut self.expect, last_id, body, now_ns);
        self.leave(&body[used..])
    }

    #[inline]
    fn leave(&mut self, rest: &[u8]) -> Result<(), Failure> {
        if rest.len() > REST_BYTES_MAX {
            return Err(Failure::Refused {
                request: "a GET".into(),
                answer: format!("a line of more than {REST_BYTES_MAX} bytes"),
            });
        }
        if !rest.is_empty() {
            self.rest = Some(rest.into());
        }
        Ok(())
    }
}

impl Ticks {
    /// Counts from here.
    pub(crate) fn start(&mut self, deliveries: u64) {
        *self = Self { started_ns: now_ns(), counted: deliveries, counts: Vec::new() };
    }

    fn count(&mut self, deliveries: u64) {
        let new = deliveries - self.counted;
        if new == 0 || self.started_ns == 0 {
            return;
        }
        self.counted = deliveries;
        let tick = ((now_ns() - self.started_ns) / TICK.as_nanos() as u64) as usize;
        if tick >= self.counts.len() && tick < TICKS_MAX {
            self.counts.resize(tick + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(tick) {
            *count += new;
        }
    }

    /// Seconds since the start, deliveries a second from then on.
    pub(crate) fn points(&self) -> Vec<(f64, f64)> {
        let tick_s = TICK.as_secs_f64();
        let point = |(tick, count): (usize, &u64)| (tick as f64 * tick_s, *count as f64 / tick_s);
        self.counts.iter().enumerate().map(point).collect()
    }
}

/// Connections dialled and without a response head: servers listen with a backlog of 128 and more.
const IN_FLIGHT_MAX: usize = 128;
const READ_BYTES: usize = 64 * 1024;
/// The longest line or head that may come in pieces.
const REST_BYTES_MAX: usize = 128 * 1024;
/// No wait is longer, so that what is waited for besides sockets is noticed.
const STEP: Duration = Duration::from_millis(20);
/// Without any progress for so long a run has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(100);
const TICKS_MAX: usize = 100_000;
