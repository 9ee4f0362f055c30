//! What attackers have in common: where the hub is, until when they may, and a count of what they got.

use std::{
    cell::RefCell,
    collections::BTreeMap,
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
    got: Rc<RefCell<BTreeMap<String, u64>>>,
}

/// An attack as it runs.
pub(crate) type Running = Pin<Box<dyn Future<Output = ()>>>;

impl Target {
    /// Runs an attack for a time on this thread, which gives way at once to all that want the processor.
    /// Attackers are on machines of their own: what is looked at is what the hub does about them, not
    /// who gets the processor. Gives what they got, by its name, and what they had of the processors.
    pub(crate) fn suffer(
        address: SocketAddr,
        time: Duration,
        attack: impl FnOnce(Self) -> Running,
    ) -> (BTreeMap<String, u64>, Processor) {
        run_when_idle();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let got = Rc::default();
        runtime.block_on(async {
            let target = Self { address, until: Instant::now() + time, got: Rc::clone(&got) };
            let until = target.until;
            // Whatever it still holds then is let go.
            let _ = timeout_at(until, LocalSet::new().run_until(attack(target))).await;
        });
        drop(runtime);
        (got.take(), Processor::of_this_thread())
    }

    /// Counts something that an attacker got.
    pub(crate) fn got(&self, what: impl Into<String>) {
        *self.got.borrow_mut().entry(what.into()).or_default() += 1;
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
                    while Instant::now() < target.until {
                        if let Err(error) = act(target.clone(), number).await {
                            target.got(format!("{}", error.kind()));
                            // Who is shut out does not spin.
                            sleep(SHUT_OUT).await;
                        }
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            let _ = task.await;
        }
    }

    /// A connection from the attackers' one address.
    pub(crate) async fn connect(&self) -> io::Result<Wire> {
        self.connect_from(self.one_address(), None).await
    }

    /// Another with each hub: thousands of ports that an earlier attack has left are looked through for
    /// each new one at the same address, which took all the time that an attack has.
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

/// An attacker's end of a connection.
pub(crate) struct Wire {
    pub(crate) io: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.io.write_all(bytes.as_ref()).await
    }

    /// The status of the next answer whose length is said; its body is passed over. An attacker waits
    /// for it no longer than is decent.
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

/// Gives this thread what nobody else wants of the processors (SCHED_IDLE, sched(7)). The lowest
/// priority is not enough: such a thread may keep a processor for a slice of some milliseconds while
/// the hub is ready to run.
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
