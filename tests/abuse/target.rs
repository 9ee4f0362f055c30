//! What attackers share: the hub's address, a deadline, a count of what they got, and findings.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    process::Command,
    rc::Rc,
    time::Duration,
};

use crate::processor::Processor;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::LocalSet,
    time::{Instant, sleep, timeout, timeout_at},
};

/// The hub under attack.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    until: Instant,
    seen: Rc<RefCell<Seen>>,
}

/// What attackers saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// What they got, by its name.
    pub(crate) got: BTreeMap<String, u64>,
    /// How they failed to get anything: the kinds of errors of their connections.
    pub(crate) errors: BTreeMap<String, u64>,
    /// What must not be.
    pub(crate) faults: BTreeSet<String>,
}

/// An attack as it runs.
pub(crate) type Running = Pin<Box<dyn Future<Output = ()>>>;

impl Target {
    /// Runs an attack for a time on this thread, which `gives_way` at once to all that want the
    /// processor. Attackers are on machines of their own: what is looked at is what the hub does
    /// about them, not who gets the processor; where latency is not judged they run like all
    /// others. Gives what they saw, and what they had of the processors.
    pub(crate) fn suffer(
        address: SocketAddr,
        time: Duration,
        gives_way: bool,
        attack: impl FnOnce(Self) -> Running,
    ) -> (Seen, Processor) {
        if gives_way {
            run_when_idle();
        }
        (Self::seen_by(address, time, attack), Processor::of_this_thread())
    }

    fn seen_by(address: SocketAddr, time: Duration, attack: impl FnOnce(Self) -> Running) -> Seen {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let seen = Rc::default();
        runtime.block_on(async {
            let target = Self { address, until: Instant::now() + time, seen: Rc::clone(&seen) };
            let until = target.until;
            // Whatever it still holds then is let go.
            let _ = timeout_at(until, LocalSet::new().run_until(attack(target))).await;
        });
        drop(runtime);
        seen.take()
    }

    /// Counts something that an attacker got.
    pub(crate) fn got(&self, what: impl Into<String>) {
        *self.seen.borrow_mut().got.entry(what.into()).or_default() += 1;
    }

    /// Counts a status that an attacker got, which must be one of these.
    pub(crate) fn got_one_of(&self, may_be: &[u16], status: u16, asked: impl FnOnce() -> String) {
        self.got(status.to_string());
        if !may_be.contains(&status) {
            self.found(format!("{status} for {}", asked()));
        }
    }

    /// Notes something that must not be; it fails the run.
    pub(crate) fn found(&self, what: String) {
        let faults = &mut self.seen.borrow_mut().faults;
        if faults.len() < FAULTS_MAX {
            faults.insert(what);
        }
    }

    /// Lets so many attackers do the same over and over, each with its number.
    pub(crate) async fn by_many<F: Future<Output = io::Result<()>> + 'static>(
        &self,
        attackers: usize,
        act: impl Fn(Self, usize) -> F + Clone + 'static,
    ) {
        let tasks: Vec<_> = (0..attackers)
            .map(|number| {
                let (target, act) = (self.clone(), act.clone());
                tokio::task::spawn_local(async move {
                    let _watched = Watched(target.clone());
                    while Instant::now() < target.until {
                        if let Err(error) = act(target.clone(), number).await {
                            target.failed(&error);
                            // A rejected attacker does not spin.
                            sleep(SHUT_OUT).await;
                        }
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            // One that panicked has left its fault.
            let _ = task.await;
        }
    }

    fn failed(&self, error: &io::Error) {
        let kind = error.kind().to_string();
        *self.seen.borrow_mut().errors.entry(kind).or_default() += 1;
    }

    /// A connection from the attackers' one address.
    pub(crate) async fn connect(&self) -> io::Result<Wire> {
        self.connect_from(self.one_address(), None).await
    }

    /// Another with each hub: thousands of ports that an earlier attack has left are looked through
    /// for each new one at the same address, which took all the time that an attack has.
    fn one_address(&self) -> Ipv4Addr {
        let [high, low] = self.address.port().to_be_bytes();
        Ipv4Addr::new(127, 7, high, low)
    }

    /// A connection from one of many addresses.
    pub(crate) async fn connect_from_many(&self, number: usize) -> io::Result<Wire> {
        let address = Ipv4Addr::new(127, 8, (number >> 8) as u8, number as u8);
        self.connect_from(address, None).await
    }

    /// A connection that takes little before it is read.
    pub(crate) async fn connect_narrow(&self) -> io::Result<Wire> {
        self.connect_from(self.one_address(), Some(4_096)).await
    }

    async fn connect_from(
        &self,
        source: Ipv4Addr,
        receive_buffer_bytes: Option<u32>,
    ) -> io::Result<Wire> {
        let socket = TcpSocket::new_v4()?;
        socket.set_nodelay(true)?;
        if let Some(bytes) = receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        // A port that was left a moment ago will do.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((source, 0)))?;
        let connected = timeout(PATIENCE, socket.connect(self.address));
        Ok(Wire { io: connected.await.map_err(|_| io::ErrorKind::TimedOut)??, read: Vec::new() })
    }

    /// Holds on to something until the attack is over.
    pub(crate) async fn hold<T>(&self, what: T) {
        tokio::time::sleep_until(self.until).await;
        drop(what);
    }
}

/// Leaves a fault if it is dropped by a panic: a task's panic reaches only the task that joins it,
/// and the end of an attack joins none.
struct Watched(Target);

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.found("an attacker panicked, see above".to_owned());
        }
    }
}

/// An attacker's end of a connection.
pub(crate) struct Wire {
    pub(crate) io: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.io.write_all(bytes.as_ref()).await
    }

    /// The status of the next answer whose length is said; its body is passed over. An attacker
    /// waits for it no longer than is decent.
    pub(crate) async fn status(&mut self) -> io::Result<u16> {
        timeout(PATIENCE, self.answer()).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    async fn answer(&mut self) -> io::Result<u16> {
        loop {
            let head = self.read.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = head {
                let text = String::from_utf8_lossy(&self.read[..end]).to_ascii_lowercase();
                let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
                let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
                if self.read.len() >= end + 4 + length {
                    self.read.drain(..end + 4 + length);
                    return Ok(status);
                }
            }
            if self.io.read_buf(&mut self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The status of an answer that goes on and on, from its first line, which is left to be read.
    pub(crate) async fn first_status(&mut self) -> io::Result<u16> {
        let first = async {
            while self.read.len() < STATUS_END {
                if self.io.read_buf(&mut self.read).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            let status = std::str::from_utf8(&self.read[STATUS_END - 3..STATUS_END]).ok();
            Ok(status.and_then(|status| status.parse().ok()).unwrap_or(0))
        };
        timeout(PATIENCE, first).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Reads and drops so many bytes, or all there are.
    pub(crate) async fn drop_bytes(&mut self, bytes: usize) -> io::Result<usize> {
        let mut count = self.read.len();
        self.read.clear();
        while count < bytes {
            let mut piece = [0; 16 * 1024];
            match timeout(PATIENCE, self.io.read(&mut piece)).await {
                Ok(Ok(0)) => break,
                Ok(read) => count += read?,
                Err(_) => break,
            }
        }
        Ok(count)
    }

    /// Whether the hub has ended it, of a wire on which nothing was asked.
    pub(crate) fn is_shut_out(&self) -> bool {
        match self.io.try_read(&mut [0; 1]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Ends it with a reset.
    pub(crate) fn reset(self) {
        let _ = socket2::SockRef::from(&self.io).set_linger(Some(Duration::ZERO));
    }
}

/// A request with the fields that are needed.
pub(crate) fn request(method: &str, target: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    let length =
        if method == "POST" { format!("Content-Length: {length}\r\n") } else { String::new() };
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}{length}\r\n{body}")
}

pub(crate) fn get(target: &str) -> String {
    request("GET", target, "", "")
}

/// Gives this thread only processor time that no other thread wants (SCHED_IDLE, sched(7)). The
/// lowest priority is not enough: such a thread may keep a processor for a slice of some
/// milliseconds while the hub is ready to run.
fn run_when_idle() {
    schedule("--idle");
}

/// Gives this thread its part of the processors again.
pub(crate) fn run_like_others() {
    schedule("--other");
}

fn schedule(policy: &str) {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let set = Command::new("chrt").args([policy, "--pid", "0", &thread]).status();
    assert!(set.is_ok_and(|status| status.success()), "chrt of util-linux sets the policy");
}

const PATIENCE: Duration = Duration::from_secs(5);
const SHUT_OUT: Duration = Duration::from_millis(20);
/// Where the status in the first line of an answer ends.
const STATUS_END: usize = "HTTP/1.1 200".len();
/// Faults of one attack that are reported.
const FAULTS_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

    fn seen(attack: impl FnOnce(Target) -> Running) -> Seen {
        Target::seen_by(NOWHERE, Duration::from_millis(200), attack)
    }

    #[test]
    fn what_attackers_find_is_a_fault_while_others_go_on() {
        let seen = seen(|target| {
            Box::pin(async move {
                let act = |target: Target, number| async move {
                    let status = if number == 7 { 200 } else { 401 };
                    target.got_one_of(&[401], status, || "a token".to_owned());
                    target.hold(()).await;
                    Ok(())
                };
                target.by_many(10, act).await;
            })
        });
        assert_eq!(seen.got, BTreeMap::from([("200".to_owned(), 1), ("401".to_owned(), 9)]));
        assert_eq!(seen.faults, BTreeSet::from(["200 for a token".to_owned()]));
    }

    #[test]
    fn an_attacker_that_panics_is_a_fault_though_the_first_are_not_through() {
        let seen = seen(|target| {
            Box::pin(async move {
                let act = |target: Target, number| async move {
                    assert_ne!(number, 7, "this is what is tested");
                    target.hold(()).await;
                    Ok(())
                };
                target.by_many(10, act).await;
            })
        });
        assert_eq!(seen.faults.len(), 1, "{seen:?}");
    }

    #[test]
    fn a_client_without_permission_gets_nothing() {
        let seen = seen(|target| {
            Box::pin(async move {
                let act = |_, _| async { Err(io::ErrorKind::ConnectionRefused.into()) };
                target.by_many(2, act).await;
            })
        });
        assert!(seen.got.is_empty() && seen.errors["connection refused"] >= 2, "{seen:?}");
    }
}
