//! A server that passes events on as a hub does, but for one fault.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// What happens to one event on its way to the second subscriber, if it is not said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Lose,
    LoseLast,
    Repeat,
    RepeatLast,
    /// It comes after the next one.
    Reorder,
    /// One of its bytes is another.
    Change,
    /// All events come, and before one of them it is said that some do not.
    Gap,
    /// Each subscriber after the first three has all but the first event that it was due.
    LoseFirst,
    /// No fault: the second subscriber has every event, in order, but this much later.
    Late,
}

/// The number of the event that the fault is done to.
const AT: usize = 4;
const LATE: Duration = Duration::from_millis(600);

struct Subscriber {
    socket: TcpStream,
    number: usize,
    /// Events that it was due.
    events: usize,
}

/// The server; its threads end with the test.
pub(crate) struct FaultyServer {
    address: SocketAddr,
}

impl FaultyServer {
    /// `events` is how many there will be.
    pub(crate) fn start(fault: Fault, events: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let subscribers: Arc<Mutex<Vec<Subscriber>>> = Arc::default();
        let connected = Arc::new(AtomicUsize::new(0));
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (subscribers, connected) = (Arc::clone(&subscribers), Arc::clone(&connected));
                std::thread::spawn(move || {
                    serve(socket, &subscribers, &connected, fault, events);
                });
            }
        });
        Self { address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn serve(
    mut socket: TcpStream,
    subscribers: &Mutex<Vec<Subscriber>>,
    connected: &AtomicUsize,
    fault: Fault,
    events: usize,
) {
    let (mut unread, mut number, mut held) = (Vec::new(), 0, None);
    let late = LateWriter::start();
    while let Some((is_stream, body)) = next_request(&mut socket, &mut unread) {
        let mut subscribers = subscribers.lock().expect("no thread panics with it");
        if is_stream {
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: hello\n\n";
            socket.write_all(head).expect("the client reads");
            let number = connected.fetch_add(1, Ordering::Relaxed);
            subscribers.push(Subscriber { socket, number, events: 0 });
            return;
        }
        subscribers.retain_mut(|subscriber| {
            let bodies = match subscriber.number {
                1 => with_fault(fault, number, events, &body, &mut held),
                3.. if fault == Fault::LoseFirst && subscriber.events == 0 => vec![],
                _ => vec![body.clone()],
            };
            subscriber.events += 1;
            bodies.into_iter().all(|body| {
                let mut frame = [b"data: ", &body[..], b"\n\n"].concat();
                if fault == Fault::Gap && subscriber.number == 1 && number == AT {
                    frame.splice(..0, *b"event: visnyk.gap\ndata: {}\n\n");
                }
                if fault == Fault::Late && subscriber.number == 1 {
                    late.write(subscriber.socket.try_clone().expect("a socket more"), frame);
                    return true;
                }
                // A client that went away is removed.
                subscriber.socket.write_all(&frame).is_ok()
            })
        });
        number += 1;
        let answer = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}";
        socket.write_all(answer).expect("the client reads");
    }
}

/// Writes frames `LATE` after their time, in their order.
struct LateWriter(mpsc::Sender<(Instant, TcpStream, Vec<u8>)>);

impl LateWriter {
    fn start() -> Self {
        let (frames, waiting) = mpsc::channel::<(Instant, TcpStream, Vec<u8>)>();
        std::thread::spawn(move || {
            for (due, mut socket, frame) in waiting {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let _ = socket.write_all(&frame);
            }
        });
        Self(frames)
    }

    fn write(&self, socket: TcpStream, frame: Vec<u8>) {
        let _ = self.0.send((Instant::now() + LATE, socket, frame));
    }
}

/// What becomes of event `number` of `events`.
fn with_fault(
    fault: Fault,
    number: usize,
    events: usize,
    body: &[u8],
    held: &mut Option<Vec<u8>>,
) -> Vec<Vec<u8>> {
    let body = body.to_vec();
    let is_last = number + 1 == events;
    match fault {
        Fault::Lose if number == AT => vec![],
        Fault::LoseLast if is_last => vec![],
        Fault::Repeat if number == AT => vec![body.clone(), body],
        Fault::RepeatLast if is_last => vec![body.clone(), body],
        Fault::Reorder if number == AT => {
            *held = Some(body);
            vec![]
        }
        Fault::Change if number == AT => {
            let mut changed = body;
            let last = changed.last_mut().expect("an event has bytes");
            *last = if *last == b'a' { b'b' } else { b'a' };
            vec![changed]
        }
        _ => std::iter::once(body).chain(held.take()).collect(),
    }
}

/// Whether it is a GET, and its body.
fn next_request(socket: &mut TcpStream, unread: &mut Vec<u8>) -> Option<(bool, Vec<u8>)> {
    let mut chunk = [0; 4096];
    loop {
        let head_end = unread.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        if let Some(head_end) = head_end {
            let head = String::from_utf8_lossy(&unread[..head_end]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(0, |length| length.trim().parse().expect("a number"));
            if unread.len() >= head_end + length {
                let body = unread[head_end..head_end + length].to_vec();
                unread.drain(..head_end + length);
                return Some((head.starts_with("get"), body));
            }
        }
        match socket.read(&mut chunk) {
            Ok(count) if count > 0 => unread.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
    }
}
