//! A socket on which a test says exactly the bytes it wants, and a hub to say them to.
//!
//! Every wait is bounded by [`PATIENCE`]; a wait that runs out fails the test.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{future::Future, io, net::SocketAddr, ops::Deref, time::Duration};

use serde_json::Value;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};
use visnyk_loadtest::{Framing, Head, Hub, HubCommand};

/// How long a hub on a busy machine may take for what takes it no time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Starts a hub on a free port; the settings are named as in a file, with dots.
pub(crate) async fn hub(settings: &[(&str, &str)]) -> Hub {
    let command = HubCommand::new(env!("CARGO_BIN_EXE_visnyk"))
        .directory(env!("CARGO_TARGET_TMPDIR"))
        .settings(&[("shards", "2")])
        .settings(settings);
    command.start().await.expect("the hub starts")
}

/// An answer, or the head of one.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    head: Head,
    pub(crate) body: Vec<u8>,
}

impl Deref for Answer {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.head
    }
}

impl Answer {
    /// The only field of that name, or an empty text.
    pub(crate) fn field(&self, name: &str) -> &str {
        let mut values = self.fields.iter().filter(|(field, _)| field == name);
        let first = values.next().map_or("", |(_, value)| value);
        assert!(values.next().is_none(), "`{name}` stands twice in {self:?}");
        first
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.head.field(name).is_some()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Checks that this is a well-formed problem document, and gives it.
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(self.field("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        for member in ["type", "title", "detail"] {
            let text = problem[member].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{member} in {self:?}");
        }
        problem
    }

    /// Checks status and field of a refusal.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, field: &str) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        let problem = self.problem();
        assert_eq!(problem["field"], field, "{problem}");
        problem
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Wire {
    wire: visnyk_loadtest::Wire,
    /// What is to come of the chunked stream that it reads, if it reads one.
    stream: Option<Framing>,
    /// What was read of that, without its chunks.
    text: Vec<u8>,
}

impl Wire {
    pub(crate) async fn to(hub: &Hub) -> Self {
        Self::at(hub.address()).await
    }

    pub(crate) async fn at(address: SocketAddr) -> Self {
        Self::over(visnyk_loadtest::Wire::connect(address, None).await.expect("a connection"))
    }

    fn over(wire: visnyk_loadtest::Wire) -> Self {
        Self { wire, stream: None, text: Vec::new() }
    }

    /// From an address of this machine other than 127.0.0.1.
    pub(crate) async fn from_source(hub: &Hub, source: &str) -> Self {
        Self::from_source_to(hub.address(), source).await
    }

    /// The same, to a proxy.
    pub(crate) async fn from_source_to(address: SocketAddr, source: &str) -> Self {
        let connected = within("connecting", Self::connect_from(address, source)).await;
        let wire = connected.and_then(visnyk_loadtest::Wire::over);
        Self::over(wire.expect("a connection"))
    }

    async fn connect_from(address: SocketAddr, source: &str) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source.parse().expect("an address"), 0))?;
        socket.connect(address).await
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the hub still reads");
    }

    /// Sends what a hub may refuse to read.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within("sending", self.wire.write(bytes.as_ref())).await
    }

    /// Ends the sending side only.
    pub(crate) async fn half_close(&mut self) {
        self.wire.half_close().await.expect("an open socket");
    }

    /// Reads one whole answer, interim ones included.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        let mut rest = answer.framing().expect("a body's length");
        if matches!(answer.status, 100..200 | 204 | 304) {
            assert!(!answer.has("content-length") || answer.field("content-length") == "0");
        }
        if rest == Framing::UntilClose {
            answer.body = self.rest().await;
            return answer;
        }
        while rest != Framing::Ended {
            let read = within("reading", self.wire.read_body(&mut rest, &mut answer.body)).await;
            // A refusal that a client of a stream is to survive has no last chunk.
            if read.is_err() && self.stream.is_some() {
                break;
            }
            read.unwrap_or_else(|error| panic!("{error}, {rest:?} to come of {answer:?}"));
        }
        answer
    }

    /// Reads a head: all there is of an answer to HEAD, and what comes before a stream.
    pub(crate) async fn head(&mut self) -> Answer {
        let head = within("reading", self.wire.read_any_head()).await;
        let so_far = String::from_utf8_lossy(self.wire.unread());
        let head = head.unwrap_or_else(|error| panic!("{error} in a head, after {so_far:?}"));
        let framing = head.framing().ok().filter(|framing| matches!(framing, Framing::Chunked(_)));
        let is_stream = head.field("content-type").is_some_and(|t| t.contains("event-stream"));
        self.stream = framing.filter(|_| is_stream);
        Answer { head, body: Vec::new() }
    }

    /// Reads the head of a stream and its first block.
    pub(crate) async fn stream_head(&mut self) -> (Answer, String) {
        let head = self.head().await;
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.field("content-type"), "text/event-stream; charset=utf-8");
        (head, self.block().await)
    }

    /// Reads a block of a stream, its empty line included, or a heartbeat, which has none.
    pub(crate) async fn block(&mut self) -> String {
        let mut block = String::new();
        loop {
            let line = self.through("\n").await;
            block += &line;
            if line == "\n" || block == ":\n" {
                return block;
            }
        }
    }

    /// Whether its stream had a last chunk.
    pub(crate) fn has_ended(&self) -> bool {
        self.stream == Some(Framing::Ended)
    }

    /// Reads what comes next of a chunked stream; false at its end.
    async fn read_stream(&mut self) -> io::Result<bool> {
        let Some(rest) = &mut self.stream else { return Ok(false) };
        Ok(*rest != Framing::Ended && self.wire.read_body(rest, &mut self.text).await.is_ok())
    }

    /// Reads up to and including `end`.
    pub(crate) async fn through(&mut self, end: &str) -> String {
        if self.stream.is_some() {
            loop {
                let found = self.text.windows(end.len()).position(|part| part == end.as_bytes());
                if let Some(at) = found {
                    let text = self.text.drain(..at + end.len()).collect();
                    return String::from_utf8(text).expect("UTF-8");
                }
                let more = within("reading", self.read_stream()).await;
                let so_far = String::from_utf8_lossy(&self.text);
                assert!(
                    matches!(more, Ok(true)),
                    "the stream ends before {end:?}, after {so_far:?}"
                );
            }
        }
        let bytes = within("reading", self.wire.read_until(end.as_bytes(), usize::MAX)).await;
        let so_far = String::from_utf8_lossy(self.wire.unread());
        let bytes =
            bytes.unwrap_or_else(|error| panic!("{error} before {end:?}, after {so_far:?}"));
        String::from_utf8(bytes).expect("UTF-8")
    }

    /// Reads what there is, and waits until there is something.
    pub(crate) async fn some(&mut self) -> Vec<u8> {
        if self.stream.is_some() {
            while self.text.is_empty() {
                let more = within("reading", self.read_stream()).await;
                assert!(matches!(more, Ok(true)), "the stream ends");
            }
            return std::mem::take(&mut self.text);
        }
        if self.wire.unread().is_empty() {
            let more = within("reading", self.wire.read_more()).await;
            assert!(matches!(more, Ok(true)), "{more:?}");
        }
        std::mem::take(self.wire.unread())
    }

    /// Reads to the end of the connection, however it comes about.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        if self.stream.is_some() {
            let all = async { while let Ok(true) = self.read_stream().await {} };
            let ended = timeout(PATIENCE, all).await.is_ok();
            let rest = std::mem::take(&mut self.text);
            assert!(ended, "it goes on after {:?}", String::from_utf8_lossy(&rest));
            return rest;
        }
        let all = async { while let Ok(true) = self.wire.read_more().await {} };
        let ended = timeout(PATIENCE, all).await.is_ok();
        let rest = std::mem::take(self.wire.unread());
        assert!(ended, "it goes on after {:?}", String::from_utf8_lossy(&rest));
        rest
    }

    /// Checks that the connection ends and that nothing comes before.
    #[track_caller]
    pub(crate) fn closed(&mut self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let rest = self.rest().await;
            let rest = String::from_utf8_lossy(&rest);
            assert!(rest.is_empty(), "{rest:?} before the end, at {caller}");
        }
    }
}

/// A request with the fields that every client sends. `Content-Length` comes with a body.
pub(crate) fn request(method: &str, target: &str, fields: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || method == "POST" {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    text + "\r\n" + body
}

pub(crate) fn get(target: &str) -> String {
    request("GET", target, &[], "")
}

pub(crate) fn post(target: &str, body: &str) -> String {
    request("POST", target, &[], body)
}

pub(crate) fn publish(channel: &str, data: &str) -> String {
    post(&format!("/v1/channels/{channel}/events"), data)
}

/// One request on a connection of its own.
pub(crate) async fn ask(hub: &Hub, request: impl AsRef<[u8]>) -> Answer {
    let mut wire = Wire::to(hub).await;
    wire.send(request).await;
    wire.answer().await
}

/// Publishes on a connection of its own and gives the id.
pub(crate) async fn published(hub: &Hub, channel: &str, data: &str) -> String {
    let answer = ask(hub, publish(channel, data)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// The value of a metric, zero when it has not been counted yet; `name` may have labels.
pub(crate) async fn metric(hub: &Hub, name: &str) -> u64 {
    let answer = ask(hub, get("/metrics")).await;
    let line = answer.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().expect("a whole number"))
}

/// Waits until a metric has a value.
pub(crate) async fn metric_is(hub: &Hub, name: &str, value: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = metric(hub, name).await;
        if now == value {
            return;
        }
        assert!(Instant::now() < deadline, "{name} is {now} and not {value}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the hub has taken on so many streams and waiting polls in all. Behind an answered
/// poll the gauge of those that wait says nothing yet: it falls after the answer has gone out.
pub(crate) async fn taken_on(hub: &Hub, count: u64) {
    metric_is(hub, "visnyk_connections_opened_total", count).await;
}

/// Checks that no stream and no poll is left.
pub(crate) async fn nothing_is_left(hub: &Hub) {
    metric_is(hub, "visnyk_streams", 0).await;
    metric_is(hub, "visnyk_pollers", 0).await;
}

/// Whether there is such a channel: what was never published to is not there.
pub(crate) async fn exists(hub: &Hub, channel: &str) -> bool {
    let answer = ask(hub, get(&format!("/v1/channels/{channel}"))).await;
    assert!(matches!(answer.status, 200 | 404), "{answer:?}");
    answer.status == 200
}

async fn within<T>(what: &str, wait: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(PATIENCE, wait).await {
        Ok(result) => result,
        Err(_) => panic!("{what} took longer than {PATIENCE:?}"),
    }
}
