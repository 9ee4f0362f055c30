//! The floor: a server that does nothing but send, one `send(2)` per delivery in a plain loop.
//!
//! No epoll: a thread accepts, and each publisher has a thread that blocks on its next request.
//! `GET /CHANNEL` is a stream, the body of `POST /CHANNEL` goes to all streams of the channel.
//! Each line of a body is an event; all of one body are one send. `GET /poll/CHANNEL` waits for the
//! next body on a connection that is kept: see [`Polls`].

mod polls;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, recv};

use polls::Polls;

/// The streams of each channel.
type Channels = Arc<Mutex<HashMap<String, Arc<Mutex<Vec<TcpStream>>>>>>;

/// Serves on loopback until it is killed. Port 0 is any that is free.
pub(crate) fn serve(port: u16) -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    let channels = Channels::default();
    let polls = Polls::start()?;
    let mut swept = Instant::now();
    loop {
        let (mut io, _) = listener.accept()?;
        let _ = io.set_nodelay(true);
        // A client that sends no request, or does not read, delays others no longer than this.
        let _ = io.set_read_timeout(Some(STALL));
        let _ = io.set_write_timeout(Some(STALL));
        let mut unread = Vec::new();
        let Some(request) = Request::read(&mut io, &mut unread) else { continue };
        if let Some(channel) = request.polls() {
            let _ = polls.take(io, channel, &request);
        } else if request.is_stream {
            if io.write_all(STREAM_HEAD).is_ok() {
                locked(&streams(&channels, &request.channel)).push(io);
            }
        } else {
            let (channels, polls) = (Arc::clone(&channels), polls.clone());
            let _ = io.set_read_timeout(None);
            std::thread::spawn(move || publish(&channels, &polls, io, request, unread));
        }
        if swept.elapsed() > SWEEP {
            sweep(&channels);
            swept = Instant::now();
        }
    }
}

/// Serves one publisher until it goes away.
fn publish(
    channels: &Channels,
    polls: &Polls,
    mut io: TcpStream,
    first: Request,
    mut unread: Vec<u8>,
) {
    let mut request = first;
    loop {
        send(&streams(channels, &request.channel), &request.body);
        polls.answer(&request.channel, &request.body);
        if io.write_all(ANSWER).is_err() {
            return;
        }
        match Request::read(&mut io, &mut unread) {
            Some(next) => request = next,
            None => return,
        }
    }
}

/// One send to each stream; those that fail are closed and removed.
fn send(streams: &Mutex<Vec<TcpStream>>, body: &[u8]) {
    let mut frames = Vec::with_capacity(body.len() + 16);
    for line in body.split(|byte| *byte == b'\n') {
        frames.extend_from_slice(b"data: ");
        frames.extend_from_slice(line);
        frames.extend_from_slice(b"\n\n");
    }
    locked(streams).retain_mut(|stream| stream.write_all(&frames).is_ok());
}

/// Removes the streams whose client has gone.
fn sweep(channels: &Channels) {
    let all: Vec<_> = locked(channels).values().cloned().collect();
    for streams in all {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        locked(&streams).retain(|stream| {
            matches!(
                recv(stream, &mut [0_u8; 1], flags),
                Ok((1.., _)) | Err(rustix::io::Errno::AGAIN)
            )
        });
    }
}

fn streams(channels: &Channels, channel: &str) -> Arc<Mutex<Vec<TcpStream>>> {
    let mut channels = locked(channels);
    if let Some(streams) = channels.get(channel) {
        return Arc::clone(streams);
    }
    Arc::clone(channels.entry(channel.to_owned()).or_default())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Request {
    is_stream: bool,
    channel: String,
    /// The number of the last event that a poll's client has.
    after: Option<u64>,
    body: Vec<u8>,
}

impl Request {
    /// The next request; `unread` has what came with the one before. `None` at the end.
    fn read(io: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Self> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some((request, length)) = Self::parse(unread) {
                unread.drain(..length);
                return Some(request);
            }
            match io.read(&mut chunk) {
                Ok(count) if count > 0 && unread.len() < REQUEST_BYTES_MAX => {
                    unread.extend_from_slice(&chunk[..count]);
                }
                _ => return None,
            }
        }
    }

    fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let head_bytes = memchr::memmem::find(bytes, b"\r\n\r\n")?;
        let head = str::from_utf8(&bytes[..head_bytes]).ok()?;
        let mut lines = head.split("\r\n");
        let (method, rest) = lines.next()?.split_once(' ')?;
        let (path, _) = rest.split_once(' ')?;
        let (mut length, mut after) = (0, None);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            } else if name.eq_ignore_ascii_case("last-event-id") {
                after = Some(value.trim().parse().ok()?);
            }
        }
        let body = bytes.get(head_bytes + 4..head_bytes + 4 + length)?;
        let request = Self {
            is_stream: method == "GET",
            channel: path.trim_start_matches('/').to_owned(),
            after,
            body: body.to_vec(),
        };
        Some((request, head_bytes + 4 + length))
    }

    /// The channel whose next event it waits for.
    fn polls(&self) -> Option<&str> {
        self.channel.strip_prefix("poll/").filter(|_| self.is_stream)
    }
}

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n:\n\n";
const ANSWER: &[u8] = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n";
const STALL: Duration = Duration::from_secs(2);
const SWEEP: Duration = Duration::from_secs(1);
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_one_after_the_other_out_of_any_pieces() {
        let text = b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\
            GET /poll/b HTTP/1.1\r\nLast-Event-ID: 7\r\n\r\n";
        let (first, length) = Request::parse(text).expect("it is whole");
        assert_eq!(
            (first.is_stream, first.channel.as_str(), &first.body[..]),
            (false, "a", &b"abc"[..])
        );
        let (second, rest) = Request::parse(&text[length..]).expect("it is whole");
        assert_eq!((second.polls(), second.after), (Some("b"), Some(7)));
        assert_eq!(length + rest, text.len());
        assert!((0..length).all(|cut| Request::parse(&text[..cut]).is_none()));
    }
}
