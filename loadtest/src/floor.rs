//! The floor: a server that does nothing but send, one `send(2)` per delivery in a plain loop.
//!
//! No epoll: a thread accepts, and each publisher has a thread that blocks on its next request.
//! `GET /CHANNEL` is a stream, the body of `POST /CHANNEL` goes to all streams of the channel.
//! Each line of a body is an event; all of one body are one send. `GET /poll/CHANNEL` waits for the
//! next body on a connection that is kept: see [`Polls`].

mod polls;
mod request;

use std::collections::HashMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::net::{RecvFlags, recv};

use polls::Polls;
use request::Request;

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
                streams(&channels, &request.channel).lock().push(io);
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
    streams.lock().retain_mut(|stream| stream.write_all(&frames).is_ok());
}

/// Removes the streams whose client has gone.
fn sweep(channels: &Channels) {
    let all: Vec<_> = channels.lock().values().cloned().collect();
    for streams in all {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        streams.lock().retain(|stream| {
            matches!(
                recv(stream, &mut [0_u8; 1], flags),
                Ok((1.., _)) | Err(rustix::io::Errno::AGAIN)
            )
        });
    }
}

fn streams(channels: &Channels, channel: &str) -> Arc<Mutex<Vec<TcpStream>>> {
    let mut channels = channels.lock();
    if let Some(streams) = channels.get(channel) {
        return Arc::clone(streams);
    }
    Arc::clone(channels.entry(channel.to_owned()).or_default())
}

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n:\n\n";
const ANSWER: &[u8] = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n";
const STALL: Duration = Duration::from_secs(2);
const SWEEP: Duration = Duration::from_secs(1);
