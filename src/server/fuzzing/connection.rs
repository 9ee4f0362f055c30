//! Fuzz target of a whole connection: the real server in this process, a real socket, any bytes in
//! any pieces, polls and streams among them.
//!
//! HTTP never contains the byte 0xFF, so it marks a command, which is the byte after it. `P`
//! publishes to the channels `a` and `default`, which answers polls; `C` shuts down the client's
//! sending side; `X` resets the connection; any other byte is a short pause, so that the server
//! reads the bytes before it as one piece. An input that begins with the command `K` is sent to a
//! server with a key, where everyone may read channel `a` and everything else needs a token:
//! [`TOKEN`] is valid.
//!
//! Checks, by a second parser of HTTP: every answer has the framing that its head announces; each
//! request gets one answer, in order; bytes that are not a request get no answer, so a body is
//! never parsed as a request. On the server with a key nothing is published without the valid
//! token. Afterwards the hub has no more connections than before.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{LazyLock, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::reference::{self, Answer, Request, Tail};
use crate::{
    auth::{PatternTemplate, Secret},
    server::{Settings, run::run_until},
};

/// One connection to the server of this process.
pub(super) fn connection(data: &[u8]) {
    // One input at a time, so that a connection left open belongs to this input.
    static OPEN: LazyLock<Mutex<Server>> = LazyLock::new(|| Mutex::new(Server::start(false)));
    static AUTHENTICATED: LazyLock<Mutex<Server>> =
        LazyLock::new(|| Mutex::new(Server::start(true)));
    let (server, data) = match data.strip_prefix(&[COMMAND, b'K']) {
        Some(rest) => (&*AUTHENTICATED, rest),
        None => (&*OPEN, data),
    };
    let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((sent, received)) = server.exchange(data) else { return server.is_left_by_all() };
    if server.has_key && !contains(&sent, TOKEN.as_bytes()) {
        let published =
            contains(&received, b"HTTP/1.1 201") || contains(&received, b"HTTP/1.0 201");
        assert!(!published, "without a token: {}\n{}", shown(&sent), shown(&received));
    }
    // The second parser does not know HTTP/2.
    if !sent.starts_with(b"PRI * HTTP/2.0") {
        check(&sent, &received);
    }
    server.is_left_by_all();
}

struct Server {
    address: SocketAddr,
    has_key: bool,
    /// A connection of our own, for publishing and for metrics.
    own: TcpStream,
}

impl Server {
    fn start(has_key: bool) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = free.local_addr().expect("it is bound");
        drop(free);
        let mut settings = Settings {
            listen: vec![address.to_string().parse().expect("an address")],
            shards: 1,
            ..Settings::default()
        };
        if has_key {
            settings.jwt_secret = Secret::new(SECRET);
            settings.allow_anonymous = vec![PatternTemplate::parse("a").expect("a pattern")];
        }
        settings.limits.channels.channels_max = 1_000;
        settings.limits.channels.idle_s = 1;
        settings.limits.history.events_max = 8;
        thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let never = async || std::future::pending().await;
            runtime
                .expect("a runtime")
                .block_on(run_until(settings.into(), never))
                .expect("it runs");
        });
        let deadline = Instant::now() + PATIENCE;
        let own = loop {
            match connect(address) {
                Ok(own) => break own,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            thread::sleep(Duration::from_millis(5));
        };
        Self { address, has_key, own }
    }

    /// Executes the input; returns the bytes sent and received. `None` after a reset.
    fn exchange(&mut self, data: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut io = connect(self.address).expect("it listens");
        let mut pieces = data.split(|&byte| byte == COMMAND);
        let mut sent = pieces.next().unwrap_or_default().to_vec();
        // A write may fail, since the server may have closed the connection.
        let mut is_open = io.write_all(&sent).is_ok();
        for piece in pieces.take(COMMANDS_MAX) {
            let (command, piece) =
                piece.split_first().map_or((b' ', piece), |(c, rest)| (*c, rest));
            thread::sleep(PAUSE);
            match command {
                b'P' => self.publish(),
                b'C' => break,
                b'X' => {
                    socket2::SockRef::from(&io).set_linger(Some(Duration::ZERO)).expect("a socket");
                    return None;
                }
                _ => {}
            }
            is_open = is_open && io.write_all(piece).is_ok();
            sent.extend_from_slice(piece);
        }
        if contains(&sent, b"poll") || contains(&sent, b"subscribe") {
            thread::sleep(PAUSE);
            self.publish();
            thread::sleep(PAUSE);
        }
        let _ = io.shutdown(Shutdown::Write);
        let mut received = Vec::new();
        match io.read_to_end(&mut received) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection does not end: {error}\n{}", shown(&received)),
        }
        Some((sent, received))
    }

    fn publish(&mut self) {
        let body =
            "{\"channel\":\"a\",\"data\":\"x\"}\n{\"channel\":\"default\",\"data\":\"{}\"}\n";
        let head = "Content-Type: application/x-ndjson\r\n";
        let status = self.ask("POST /v1/events", head, body).status;
        // An earlier input may have closed the channel.
        assert!(matches!(status, 201 | 410), "{status}");
    }

    /// Waits until our own connection is the only one and the hub holds no memory for another.
    fn is_left_by_all(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = self.ask("GET /metrics", "", "").body;
            let metrics = String::from_utf8(metrics).expect("text");
            let is = |name: &str, wanted: &str| {
                let value =
                    |line: &str| Some(line.strip_prefix(name)?.strip_prefix(' ')? == wanted);
                metrics.lines().find_map(value).unwrap_or(false)
            };
            let is_left = is("visnyk_http_connections", "1")
                && is("visnyk_streams", "0")
                && is("visnyk_pollers", "0")
                && is("visnyk_body_bytes", "0")
                && is("visnyk_unsent_bytes", "0");
            let panicked = |line: &&str| line.contains("reason=\"panicked\"");
            let panics = metrics.lines().find(panicked);
            assert!(panics.is_some_and(|line| line.ends_with(" 0")), "{panics:?}");
            if is_left {
                return;
            }
            assert!(Instant::now() < deadline, "something is left:\n{metrics}");
            thread::sleep(PAUSE);
        }
    }

    fn ask(&mut self, line: &str, head: &str, body: &str) -> Answer {
        let (host, length) = (self.address, body.len());
        let request = format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n{head}\
             Content-Length: {length}\r\n\r\n{body}"
        );
        self.own.write_all(request.as_bytes()).expect("it is there");
        let (mut received, mut piece) = (Vec::new(), [0; 16 * 1024]);
        loop {
            let count = match self.own.read(&mut piece) {
                // libFuzzer's timer ends a read that has a timeout.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.expect("an answer"),
            };
            received.extend_from_slice(&piece[..count]);
            assert!(count > 0, "{}", shown(&received));
            if let Some((answer, rest)) = Answer::read(&received, "GET").expect("an answer") {
                assert!(rest.is_empty(), "{}", shown(rest));
                return answer;
            }
        }
    }
}

/// Compares the answers with the requests.
fn check(sent: &[u8], received: &[u8]) {
    let (requests, tail) = reference::requests(sent);
    let said = || format!("{requests:?}, then {tail:?}\n{}\n{}", shown(sent), shown(received));
    let mut rest = received;
    for at in 0.. {
        let request = requests.get(at);
        let method = request.map_or("GET", |request| request.method.as_str());
        let answer = match Answer::read(rest, method) {
            Ok(Some((answer, after))) => {
                rest = after;
                answer
            }
            Ok(None) => {
                // A head that is cut short is the end of a reset connection; no answer is an end
                // too.
                assert!(rest.is_empty() || is_unread(&requests, tail), "cut short: {}", said());
                return is_answered(&requests, tail, at, &said);
            }
            Err(_) => panic!("answer {at} is malformed: {}", said()),
        };
        match request {
            Some(request) => {
                let is_get = request.method == "GET";
                let is_stream =
                    answer.field("content-type").is_some_and(|t| t.contains("event-stream"));
                assert!(
                    answer.status != 201 || request.method == "POST",
                    "answer {at}: {}",
                    said()
                );
                assert!(
                    !is_stream || is_get || request.method == "HEAD",
                    "answer {at}: {}",
                    said()
                );
                if answer.status == 201 {
                    assert!(request.is_whole, "answer {at} comes too early: {}", said());
                }
            }
            None => {
                assert!(tail != Tail::Nothing, "answer {at} to no request: {}", said());
                assert!(answer.status >= 400, "answer {at} to no request: {}", said());
                assert!(rest.is_empty(), "answers go on after a refusal: {}", said());
                return;
            }
        }
        if answer.is_last {
            assert!(rest.is_empty(), "something follows the last answer: {}", said());
            return;
        }
    }
}

/// Whether the requests from `at` on may be unanswered: the client shut down its side while one
/// waited, or the hub closed the connection without reading a body to its end.
fn is_answered(requests: &[Request], tail: Tail, at: usize, said: &dyn Fn() -> String) {
    let Some(next) = requests.get(at) else { return };
    let waits = next.target.contains("poll") || next.target.contains("subscribe");
    let is_refused_body = at > 0 && requests[at - 1].has_body;
    let excused = waits || !next.is_whole || is_refused_body || tail == Tail::Malformed;
    assert!(excused, "request {at} has no answer: {}", said());
}

fn is_unread(requests: &[Request], tail: Tail) -> bool {
    tail != Tail::Nothing || requests.iter().any(|request| request.has_body)
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let io = TcpStream::connect(address)?;
    io.set_nodelay(true)?;
    io.set_read_timeout(Some(PATIENCE))?;
    io.set_write_timeout(Some(PATIENCE))?;
    Ok(io)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// The key of the server that has one, and a token of it for all channels, good until the year
/// 2100.
const SECRET: &str = "the-secret-of-a-hub-that-is-fuzzed";
const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjQxMDI0NDQ4MDAsInN1YiI6ImZ1enoiLCJ2aXNueWsiOnsicHVibGlzaCI\
    6WyIqKiJdLCJzdWJzY3JpYmUiOlsiYSIsImEvKioiLCJkZWZhdWx0Il19fQ.6E_AlnkAYDZfV9bd6bbmmJRGiRlr\
    jXvH_OP3PwrYN5k";
/// The byte that begins a command.
const COMMAND: u8 = 0xFF;
const COMMANDS_MAX: usize = 16;
/// The pause after which the server has read a piece.
const PAUSE: Duration = Duration::from_micros(300);
/// After this time the server hangs: all its timeouts are shorter, or end when the client shuts
/// down its side.
const PATIENCE: Duration = Duration::from_secs(20);
