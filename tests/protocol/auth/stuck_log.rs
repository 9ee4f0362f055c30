//! A log that nothing reads: stderr is a full pipe.

use std::{
    fs::OpenOptions,
    io::{self, BufRead, BufReader, ErrorKind, PipeReader, PipeWriter, Write},
    net::SocketAddr,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    process::Stdio,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::{SECRET, commands::mint, refused, with};
use crate::wire::{Answer, PATIENCE, Wire, get, request};

/// A hub whose stderr has been read up to its address, and then filled.
struct StuckHub {
    process: Child,
    address: SocketAddr,
    stderr: BufReader<PipeReader>,
    _writer: PipeWriter,
}

impl StuckHub {
    fn start(settings: &[(&str, &str)]) -> Self {
        let (reader, writer) = io::pipe().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_visnyk"));
        command.args(["serve", "--listen", "127.0.0.1:0"]).kill_on_drop(true);
        command.current_dir(env!("CARGO_TARGET_TMPDIR"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer.try_clone().unwrap());
        command.env("VISNYK_JWT_SECRET", SECRET).env("VISNYK_SHARDS", "2");
        command.env("VISNYK_LOG__LEVEL", "debug").env("VISNYK_DRAIN_WINDOW_S", "1");
        let process = command.envs(settings.iter().copied()).spawn().unwrap();
        let mut stderr = BufReader::new(reader);
        let address = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it ends");
            if let Some(address) = line.trim_end().strip_prefix("listening on http://") {
                break address.parse().unwrap();
            }
        };
        fill(&writer);
        Self { process, address, stderr, _writer: writer }
    }

    async fn answer(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut wire = Wire::at(self.address).await;
        wire.send(request).await;
        wire.answer().await
    }

    async fn metric(&self, name: &str) -> u64 {
        let metrics = self.answer(get("/metrics")).await;
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        metrics.text().lines().find_map(value).unwrap_or(0)
    }

    /// Lets a connection panic, which has lines of its own.
    async fn make_panic(&self, token: &str) {
        let mut stream = Wire::at(self.address).await;
        stream.send(with(token, "GET", "/v1/channels/p/events", "")).await;
        stream.stream_head().await;
        let planted = with(token, "POST", "/faults/connection?channel=p", "");
        assert_eq!(self.answer(planted).await.status, 202);
        let deadline = Instant::now() + PATIENCE;
        while self.metric(r#"visnyk_connections_closed_total{reason="panicked"}"#).await == 0 {
            assert!(Instant::now() < deadline);
            let publish = with(token, "POST", "/v1/channels/p/events", "x");
            assert_eq!(self.answer(publish).await.status, 201);
        }
    }

    /// Lets clients do what leaves a line in the log.
    async fn make_noise(&self, token: &str) {
        for _ in 0..50 {
            let bad = [("Authorization", "Bearer bad")];
            refused(&self.answer(request("GET", "/v1/channels", &bad, "")).await, "malformed");
            let mut stream = Wire::at(self.address).await;
            stream.send(with(token, "GET", "/v1/channels/a/events", "")).await;
            stream.stream_head().await;
        }
    }

    async fn signal(&self, name: &str) {
        let (signal, pid) = (format!("-{name}"), self.process.id().unwrap().to_string());
        assert!(Command::new("kill").args([signal, pid]).status().await.unwrap().success());
    }

    async fn terminate(mut self) -> Option<i32> {
        self.signal("TERM").await;
        let ended = timeout(PATIENCE, self.process.wait()).await;
        ended.expect("SIGTERM ends it").unwrap().code()
    }
}

/// Writes into a pipe until it takes no more, by an end of its own: those of others still wait.
fn fill(writer: &PipeWriter) {
    let mut options = OpenOptions::new();
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let mut end = options.write(true).custom_flags(O_NONBLOCK).open(path).unwrap();
    for piece in [4_096, 1] {
        loop {
            match end.write(&vec![b'.'; piece]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                written => drop(written.unwrap()),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nothing_reads_delays_no_delivery_and_not_the_end() {
    const SUBSCRIBERS: usize = 1_000;
    let settings = [("VISNYK_LOG__QUEUE_BYTES_MAX", "4096"), ("VISNYK_FAULTS", "true")];
    let hub = StuckHub::start(&settings);
    let token = mint(&["--publish", "**", "--subscribe", "**", "--admin"]);
    let mut streams = Vec::new();
    for _ in 0..SUBSCRIBERS {
        let mut stream = Wire::at(hub.address).await;
        stream.send(with(&token, "GET", "/v1/channels/a/events", "")).await;
        stream.stream_head().await;
        streams.push(stream);
    }
    hub.make_panic(&token).await;
    for number in 0..4 {
        hub.make_noise(&token).await;
        let begun = Instant::now();
        let publish = with(&token, "POST", "/v1/channels/a/events", &number.to_string());
        assert_eq!(hub.answer(publish).await.status, 201);
        for stream in &mut streams {
            assert!(stream.block().await.starts_with(&format!("data: {number}\n")));
        }
        assert!(begun.elapsed() < LATE, "delivered after {:?}", begun.elapsed());
    }
    assert!(hub.metric(DROPPED).await > 0, "what does not fit is counted");
    drop(streams);
    assert_eq!(hub.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_read_again_goes_on_and_says_what_it_lacks() {
    let hub = StuckHub::start(&[("VISNYK_LOG__QUEUE_BYTES_MAX", "4096")]);
    let token = mint(&["--subscribe", "a"]);
    while hub.metric(DROPPED).await == 0 {
        hub.make_noise(&token).await;
    }
    let (lines, log) = mpsc::channel();
    let StuckHub { stderr, .. } = &hub;
    let stderr = BufReader::new(stderr.get_ref().try_clone().unwrap());
    thread::spawn(move || stderr.lines().try_for_each(|line| lines.send(line.unwrap())));
    for part in ["log lines were dropped", "draining", "stopped"] {
        if part == "draining" {
            hub.signal("TERM").await;
        }
        let found = || log.recv_timeout(PATIENCE).expect(part).contains(part);
        tokio::task::block_in_place(|| while !found() {});
    }
}

const DROPPED: &str = "visnyk_log_lines_dropped_total";
/// What an event may take on a machine that does other things.
const LATE: Duration = Duration::from_secs(5);
/// Linux's flag of a file that never waits.
const O_NONBLOCK: i32 = 0o4000;
