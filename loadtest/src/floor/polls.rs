//! The floor's long-polls: one thread on one epoll reads requests, one `send(2)` answers each.
//!
//! A channel keeps its last event only: a poll that comes after it is answered with it at once.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use super::request::Request;

/// All polls that wait, and their connections.
#[derive(Debug, Clone)]
pub(super) struct Polls {
    epoll: Arc<std::os::fd::OwnedFd>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// By their number, which is their token in the epoll; empty where a client went away.
    connections: Vec<Option<TcpStream>>,
    channels: HashMap<String, Channel>,
}

#[derive(Debug, Default)]
struct Channel {
    waiting: Vec<u64>,
    /// How many events there were.
    events: u64,
    /// The answer with the last of them.
    answer: Vec<u8>,
}

impl Polls {
    /// Reads the requests from now on.
    pub(super) fn start() -> std::io::Result<Self> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let polls = Self { epoll, state: Arc::default() };
        let reader = polls.clone();
        std::thread::spawn(move || reader.read());
        Ok(polls)
    }

    /// Takes a connection whose first request is this.
    pub(super) fn take(
        &self,
        io: TcpStream,
        channel: &str,
        request: &Request,
    ) -> std::io::Result<()> {
        io.set_nonblocking(true)?;
        let mut state = self.state.lock();
        let number = state.connections.len() as u64;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &io, epoll::EventData::new_u64(number), flags)?;
        state.connections.push(Some(io));
        state.wait(number, channel, request.after);
        Ok(())
    }

    /// Answers all polls of a channel with an event.
    pub(super) fn answer(&self, channel: &str, body: &[u8]) {
        let mut state = self.state.lock();
        let channel = state.channels.entry(channel.to_owned()).or_default();
        channel.events += 1;
        channel.answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nlast-event-id: {}\r\n\r\n",
            body.len(),
            channel.events
        )
        .into_bytes();
        channel.answer.extend_from_slice(body);
        let (answer, waiting) = (channel.answer.clone(), std::mem::take(&mut channel.waiting));
        for number in waiting {
            state.send(number, &answer);
        }
    }

    fn read(&self) {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return eprintln!("polls are not read any more: {error}"),
            }
            for event in &events {
                let data = event.data;
                self.state.lock().read(data.u64());
            }
        }
    }
}

impl State {
    /// The next request of a connection. It comes whole or, from clients of this tool, not at all.
    fn read(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(number as usize) else { return };
        let mut bytes = [0; REQUEST_BYTES_MAX];
        let read = match connection.as_mut().map(|io| io.read(&mut bytes)) {
            Some(Ok(count)) if count > 0 => Request::parse(&bytes[..count]),
            Some(Err(error)) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            _ => None,
        };
        match read.as_ref().and_then(|(request, _)| Some((request.polls()?, request.after))) {
            Some((channel, after)) => self.wait(number, channel, after),
            None => *connection = None,
        }
    }

    /// Answers at once what waits for an event that is there.
    fn wait(&mut self, number: u64, name: &str, after: Option<u64>) {
        if !self.channels.contains_key(name) {
            self.channels.insert(name.to_owned(), Channel::default());
        }
        let Some(channel) = self.channels.get_mut(name) else { return };
        if after.is_some_and(|after| after < channel.events) {
            let answer = channel.answer.clone();
            return self.send(number, &answer);
        }
        channel.waiting.push(number);
    }

    fn send(&mut self, number: u64, answer: &[u8]) {
        let Some(connection) = self.connections.get_mut(number as usize) else { return };
        if connection.as_mut().is_none_or(|io| io.write_all(answer).is_err()) {
            *connection = None;
        }
    }
}

const EVENTS_MAX: usize = 256;
const REQUEST_BYTES_MAX: usize = 2 * 1024;
