//! The subscribers: many thousands of streams on one thread.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::clock::now_ns;
use super::connection::{Connection, REST_BYTES_MAX, State};
use super::dial::dial;
use super::inbox::{Expect, Inbox, LastId};
use super::poller::{Poller, Ready};
use super::publishers::{PublishPlan, Publishing};
use super::ticks::{CaughtUp, Ticks};
use crate::failure::Failure;
use crate::outcome::Verified;
use crate::subject::Subject;

/// Subscribers that ask for the same and must receive the same.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) request: Vec<u8>,
    pub(crate) expect: Expect,
    pub(crate) connections: usize,
    /// False for those that stop to read once they have their response head.
    pub(crate) reads: bool,
}

impl Group {
    pub(crate) fn new(request: Vec<u8>, expect: Expect, connections: usize) -> Self {
        Self { request, expect, connections, reads: true }
    }
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
    /// Response heads so far.
    heads: usize,
    /// Connections made and without a response head.
    in_flight_max: usize,
    /// When the connections of a storm had received everything, where one is timed.
    pub(crate) caught_up: Option<CaughtUp>,
    /// All that came, heads of answers and heartbeats with it.
    pub(crate) received_bytes: u64,
    /// Deliveries over time.
    pub(crate) ticks: Ticks,
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
            heads: 0,
            in_flight_max: IN_FLIGHT_MAX,
            caught_up: None,
            received_bytes: 0,
            ticks: Ticks::default(),
        })
    }

    /// Connects all of these groups and waits until each connection has its response head.
    pub(crate) fn connect(
        &mut self,
        groups: &[Group],
        at: impl FnMut(usize),
    ) -> Result<Connected, Failure> {
        let first_request = self.requests.len();
        self.requests.extend(groups.iter().map(|group| group.request.clone()));
        let total: usize = groups.iter().map(|group| group.connections).sum();
        self.connections.reserve(total);
        let mut due = groups.iter().enumerate().flat_map(|(number, group)| {
            let request = (first_request + number) as u32;
            (0..group.connections).map(move |_| (request, group))
        });
        let dial_next = |receivers: &mut Self, _| match due.next() {
            Some((request, group)) => receivers.dial(request, group),
            None => Ok(()),
        };
        self.establish(total, dial_next, at)
    }

    /// Connects all again, each with a request made from its last id, and waits until each has its
    /// response head. What each must receive goes on from where it was.
    pub(crate) fn resume(
        &mut self,
        request: impl Fn(&LastId) -> Vec<u8>,
        at: impl FnMut(usize),
    ) -> Result<Connected, Failure> {
        let first_request = self.requests.len();
        let ids = self.last_ids.iter().flatten();
        self.requests.extend(ids.map(request));
        let dial_next = |receivers: &mut Self, number: usize| {
            receivers.connections[number].request = (first_request + number) as u32;
            receivers.redial(number)
        };
        self.establish(self.connections.len(), dial_next, at)
    }

    /// Keeps the last id of each connection from here on.
    pub(crate) fn keep_last_ids(&mut self) {
        self.last_ids = Some(vec![LastId::NONE; self.connections.len()]);
    }

    /// Closes all connections.
    pub(crate) fn close_all(&mut self) {
        for connection in &mut self.connections {
            connection.close();
        }
        self.open = 0;
    }

    /// Closes a connection, makes it anew, and lets it receive from wherever the server begins, but
    /// not after what is sent once it has its response head.
    pub(crate) fn replace(&mut self, number: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[number];
        self.open -= usize::from(connection.close());
        connection.expect.begin_anywhere();
        self.redial(number)
    }

    /// How many connections may be made at a time.
    pub(crate) fn set_in_flight_max(&mut self, connections: usize) {
        self.in_flight_max = connections;
    }

    /// Makes `total` connections with a bounded number in flight and waits for all their heads.
    fn establish(
        &mut self,
        total: usize,
        mut dial_next: impl FnMut(&mut Self, usize) -> Result<(), Failure>,
        mut at: impl FnMut(usize),
    ) -> Result<Connected, Failure> {
        let (first, started) = (self.heads, Instant::now());
        let (mut dialled, mut progress) = (0, Instant::now());
        while self.heads < first + total {
            let done = self.heads - first;
            while dialled < total && dialled < done + self.in_flight_max {
                dial_next(self, dialled)?;
                dialled += 1;
            }
            self.turn(STEP)?;
            if self.heads > first + done {
                progress = Instant::now();
            } else if progress.elapsed() > PATIENCE {
                let what = format!("response head {} of {total}", done + 1);
                return Err(Failure::Late { what, waited: PATIENCE });
            }
            at(self.heads - first);
        }
        Ok(Connected { connections: total, elapsed: started.elapsed() })
    }

    /// Waits once, and takes what comes.
    pub(crate) fn receive_once(&mut self, timeout: Duration) -> Result<(), Failure> {
        self.turn(timeout.min(STEP))
    }

    /// Receives until `done`, or until no head and no event has come for `patience`: false.
    pub(crate) fn receive_until(
        &mut self,
        patience: Duration,
        mut done: impl FnMut(&Self) -> Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        let (mut progress, mut came) = (Instant::now(), (0, 0));
        while !done(self)? {
            self.turn(STEP)?;
            let now = (self.heads, self.deliveries());
            if now != came {
                (progress, came) = (Instant::now(), now);
            } else if progress.elapsed() > patience {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Publishes, and receives until each connection has had its streams' last events or none comes
    /// any more.
    pub(crate) fn receive_rest(
        &mut self,
        plan: PublishPlan,
        subject: &Subject,
        events_of: impl Fn(u32) -> u32,
    ) -> Result<(), Failure> {
        let publishing = Publishing::start(subject, plan)?;
        self.receive_until(REST_PATIENCE, |receivers| {
            Ok(receivers.missing(&events_of).next().is_none())
        })?;
        publishing.stop();
        publishing.finish()?;
        self.receive_for(AFTERWARDS)
    }

    /// Whether each connection has its response head.
    pub(crate) fn all_have_heads(&self) -> bool {
        self.connections.iter().all(Connection::has_head)
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
        for missing in self.missing(&events_of).collect::<Vec<_>>() {
            let Missing { connection, stream, due, events } = missing;
            self.inbox.ledger.missing(connection, stream, due, events);
        }
        let (verified, first) = self.inbox.ledger.close();
        if verified.is_clean() { Ok(verified) } else { Err(Failure::Faulty { first, verified }) }
    }

    /// What the connections that read have not had of their streams.
    fn missing(&self, events_of: &impl Fn(u32) -> u32) -> impl Iterator<Item = Missing> {
        let reading = self.connections.iter().enumerate().filter(|(_, one)| one.reads);
        let streams = reading.flat_map(|(number, one)| {
            one.expect.streams().into_iter().map(move |stream| (number as u32, stream))
        });
        streams.filter_map(|(connection, (stream, next))| {
            let events = events_of(stream);
            let due = next.due_of(events);
            (due < events).then_some(Missing { connection, stream, due, events })
        })
    }

    /// Checks what history held: each stream that it held anything of, to its end.
    pub(crate) fn verify_retained(&mut self, events: u32) -> Result<Verified, Failure> {
        for connection in &mut self.connections {
            connection.expect.forget_unseen();
        }
        self.verify(|_| events)
    }

    /// Connections that have not ended.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    pub(crate) fn deliveries(&self) -> u64 {
        self.inbox.ledger.deliveries()
    }

    fn dial(&mut self, request: u32, group: &Group) -> Result<(), Failure> {
        let number = self.connections.len();
        self.connections.push(Connection {
            socket: None,
            request,
            state: State::Dialling,
            reads: group.reads,
            is_caught_up: false,
            expect: group.expect.clone(),
            rest: None,
        });
        self.redial(number)
    }

    fn redial(&mut self, number: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[number];
        let receive_buffer_bytes = (!connection.reads).then_some(UNREAD_BYTES);
        let socket = dial(self.address, number, receive_buffer_bytes)
            .map_err(Failure::io(format!("making connection {}", number + 1)))?;
        self.poller.add(&socket, number as u32).map_err(Failure::io("epoll"))?;
        connection.socket = Some(socket);
        connection.state = State::Dialling;
        self.open += 1;
        Ok(())
    }

    /// One wait, and all that became ready by it.
    fn turn(&mut self, timeout: Duration) -> Result<(), Failure> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.wait(&mut ready, timeout).map_err(Failure::io("epoll"))?;
        for ready in &ready {
            self.step(*ready)?;
        }
        if !ready.is_empty() {
            self.ticks.count(self.inbox.ledger.deliveries());
        }
        self.ready = ready;
        Ok(())
    }

    fn step(&mut self, ready: Ready) -> Result<(), Failure> {
        let Some(connection) = self.connections.get_mut(ready.token as usize) else {
            return Ok(());
        };
        if connection.state == State::Dialling && (ready.writable || ready.closed) {
            connection.ask(&self.requests[connection.request as usize])?;
        }
        if ready.readable && (connection.reads || !connection.has_head()) {
            self.read(ready)?;
        }
        Ok(())
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
                    let had_head = connection.has_head();
                    connection.take(ready.token, rest, bytes, &mut self.inbox, last_id, now_ns)?;
                    self.heads += usize::from(!had_head && connection.has_head());
                    if let Some(caught_up) = &mut self.caught_up {
                        connection.is_caught_up =
                            connection.is_caught_up || caught_up.count(&connection.expect, now_ns);
                    }
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

/// What a connection has not had of a stream.
struct Missing {
    connection: u32,
    stream: u32,
    due: u32,
    events: u32,
}

/// Connections dialled and without a response head: servers listen with a backlog of 128 and more.
const IN_FLIGHT_MAX: usize = 128;
const READ_BYTES: usize = 64 * 1024;
/// What the kernel takes for a client that does not read; it doubles this.
const UNREAD_BYTES: usize = 4 * 1024;
/// No wait is longer, so that what is waited for besides sockets is noticed.
const STEP: Duration = Duration::from_millis(20);
/// Without any progress for so long a run has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Without any delivery for so long, those that are due are lost.
const REST_PATIENCE: Duration = Duration::from_secs(10);
/// A delivery too many follows the last one closely, on one machine.
const AFTERWARDS: Duration = Duration::from_millis(100);
