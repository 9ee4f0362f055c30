//! Receivers in a process of their own: the time they spend does not delay connections timed
//! elsewhere.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Expect, Group, Receivers};
use crate::failure::Failure;
use crate::machine;
use crate::outcome::Verified;
use crate::subject::{Delivers, Extras, Subject};

/// The receivers, as the process that wants them sees them.
#[derive(Debug)]
pub(crate) struct Apart {
    child: Child,
    said: BufReader<ChildStdout>,
}

/// The order for the other process, as one line of JSON.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Order {
    address: SocketAddr,
    request: String,
    within_data: bool,
    connections: usize,
    events: u32,
}

/// What they received.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Received {
    pub(crate) verified: Verified,
    /// From when all were connected until they had everything.
    pub(crate) elapsed_s: f64,
}

impl Apart {
    /// Connects so many in a child process and waits until all have their response head. They
    /// will expect stream 0.
    pub(crate) fn start(
        subject: &Subject,
        request: &[u8],
        connections: usize,
        events: u32,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(Failure::io("finding this program"))?;
        let order = Order {
            address: subject.address,
            request: String::from_utf8_lossy(request).into_owned(),
            within_data: subject.delivers == Delivers::WithinData,
            connections,
            events,
        };
        let mut child = Command::new(program)
            .arg("receive")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Failure::io("starting the receivers' process"))?;
        let line = serde_json::to_string(&order).unwrap_or_default();
        // Its input stays open: when it ends, so does the child.
        let mut input = child.stdin.as_ref().expect("stdin is piped");
        writeln!(input, "{line}").map_err(Failure::io("telling the receivers"))?;
        let said = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut apart = Self { child, said };
        match apart.line()?.as_str() {
            CONNECTED => Ok(apart),
            other => {
                Err(Failure::Refused { request: "receivers apart".into(), answer: other.into() })
            }
        }
    }

    /// What they received, once they have everything or nothing more comes.
    pub(crate) fn finish(mut self) -> Result<Received, Failure> {
        let line = self.line()?;
        let received: Received = serde_json::from_str(&line).map_err(|_| Failure::Refused {
            request: "receivers apart".into(),
            answer: line.clone(),
        })?;
        if received.verified.is_clean() {
            return Ok(received);
        }
        let (first, verified) = ("in the process of the receivers".into(), received.verified);
        Err(Failure::Faulty { first, verified })
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.said.read_line(&mut line).map_err(Failure::io("hearing from the receivers"))?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other process: `visnyk-loadtest receive`, with its order on stdin. It ends with its input.
pub fn receive_apart() -> Result<(), Failure> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(Failure::io("reading the order"))?;
    let order: Order = serde_json::from_str(&line)
        .map_err(|error| Failure::Unsupported(format!("not an order: {error}")))?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    machine::check_connections(order.connections)?;
    let subject = Subject {
        name: "apart".into(),
        address: order.address,
        pids: Vec::new(),
        subscribe: |_, _| Vec::new(),
        publish: |_, _, _| Vec::new(),
        publish_batch: None,
        publish_ok: 200..=299,
        delivers: if order.within_data { Delivers::WithinData } else { Delivers::Data },
        extras: Extras::default(),
        restart: None,
    };
    let mut receivers = Receivers::new(&subject)?;
    let request = order.request.into_bytes();
    receivers.connect(&[Group::new(request, Expect::all_of(0), order.connections)], |_| {})?;
    println!("{CONNECTED}");
    let connected = Instant::now();
    let due = order.connections as u64 * u64::from(order.events);
    receivers.receive_until(STALL, |receivers| Ok(receivers.deliveries() >= due))?;
    let elapsed_s = connected.elapsed().as_secs_f64();
    receivers.receive_for(AFTERWARDS)?;
    let verified = match receivers.verify(|_| order.events) {
        Ok(verified) | Err(Failure::Faulty { verified, .. }) => verified,
        Err(failure) => return Err(failure),
    };
    println!("{}", serde_json::to_string(&Received { verified, elapsed_s }).unwrap_or_default());
    // Connections stay until the other side has what it wants.
    loop {
        receivers.receive_for(STALL)?;
    }
}

const CONNECTED: &str = "connected";
/// From connecting to the first event, and between events.
const STALL: Duration = Duration::from_secs(60);
const AFTERWARDS: Duration = Duration::from_millis(100);
