//! What hubs that share a log in Redis cost, and how soon events arrive: two edges and one ingest
//! on one machine; and what each further edge costs. `tests/faults/run --bars` starts it, with an
//! optimised hub.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};
use visnyk_loadtest::{Hub, HubCommand, Publisher, RedisServer, SseClient, SseRequest};

/// 1,000 events a second over 200 channels of 10 subscribers each. Everything arrives; with
/// `VISNYK_FAULTS_STRICT`, on a machine that does nothing else, 99 of 100 within 25 ms.
#[test]
#[ignore = "tests/faults/run --bars starts it"]
fn events_over_many_channels() {
    const CHANNELS: usize = 200;
    const SUBSCRIBERS: usize = 10;
    runtime().block_on(async {
        let fleet = Fleet::start(2).await;
        let began = Instant::now();
        let latencies: Arc<Mutex<Vec<u64>>> = Arc::default();
        let mut streams = JoinSet::new();
        for number in 0..CHANNELS * SUBSCRIBERS {
            let edge = &fleet.edges[number % fleet.edges.len()];
            let channel = (number / SUBSCRIBERS).to_string();
            let stream = open(edge, &channel).await;
            streams.spawn(receive(stream, began, Arc::clone(&latencies)));
        }
        let before = fleet.cpu();
        let published = publish(&fleet.ingest, began, CHANNELS).await;
        let wanted = published * SUBSCRIBERS;
        await_all(&latencies, wanted).await;
        fleet.report(before, &latencies, wanted);
    });
}

/// 20,000 events a second in batches of 100, and one follower of `**` at each edge. Nothing is lost
/// or repeated; with `VISNYK_FAULTS_STRICT` the rate is kept, too.
#[test]
#[ignore = "tests/faults/run --bars starts it"]
fn batches_with_a_follower_of_everything_at_each_edge() {
    runtime().block_on(async {
        let fleet = Fleet::start(2).await;
        let began = Instant::now();
        let followers: Vec<_> = fleet.edges.iter().map(|edge| Follower::start(edge, began)).collect();
        for follower in &followers {
            follower.has_received(0, 0).await;
        }
        let before = fleet.cpu();
        let (published, took) = publish_batches(&fleet.ingest, began, 200).await;
        for follower in &followers {
            follower.has_received(published, 1).await;
        }
        let caught_up = began.elapsed();
        let latencies = Mutex::new(Vec::new());
        for follower in followers {
            let counted = follower.counted.lock();
            let seqs = counted.last_seq - counted.first_seq + 1;
            assert_eq!((counted.events, seqs), (published, published), "each once, in one row");
            latencies.lock().extend_from_slice(&counted.latencies);
        }
        let rate = published as f64 / took.as_secs_f64();
        println!("{rate:.0} events a second were published, all received {caught_up:.1?} behind the begin");
        let batches = latencies.lock().len();
        fleet.report(before, &latencies, batches);
        if std::env::var_os("VISNYK_FAULTS_STRICT").is_some() {
            assert!(rate > 19_000.0, "{rate:.0} events a second");
        }
    });
}

/// What each further hub costs Redis: one edge, then nine, each with a follower of all channels, at
/// 5,000 events a second.
#[test]
#[ignore = "tests/faults/run --bars starts it"]
fn what_each_edge_costs() {
    runtime().block_on(async {
        let mut of_redis = Vec::new();
        for count in [1, 9] {
            let fleet = Fleet::start(count).await;
            let began = Instant::now();
            let followers: Vec<_> =
                fleet.edges.iter().map(|edge| Follower::start(edge, began)).collect();
            for follower in &followers {
                follower.has_received(0, 0).await;
            }
            let before = fleet.cpu();
            let (published, _) = publish_batches(&fleet.ingest, began, 50).await;
            for follower in &followers {
                follower.has_received(published, 1).await;
            }
            let used: Vec<u64> = fleet.cpu().iter().zip(before).map(|(now, then)| now - then).collect();
            let us = |ticks: u64| ticks as f64 * 10_000.0 / published as f64;
            let (redis, ingest) = (us(used[count + 1]), us(used[count]));
            let edge = us(used[..count].iter().sum()) / count as f64;
            println!(
                "{count} edges, {published} events: {edge:.2} us of an edge for each event, {ingest:.2} of the ingest, \
                 {redis:.2} of Redis"
            );
            of_redis.push(redis);
        }
        println!("each edge costs Redis {:.2} us for each event", (of_redis[1] - of_redis[0]) / 8.0);
    });
}

/// A follower of all channels, which counts what it receives and parses next to nothing: on a
/// thread of its own, over HTTP/1.0, whose answers have no chunks.
struct Follower {
    counted: Arc<Mutex<Counted>>,
}

#[derive(Default)]
struct Counted {
    is_open: bool,
    events: u64,
    first_seq: u64,
    last_seq: u64,
    /// Of the first event of each batch, in microseconds.
    latencies: Vec<u64>,
}

impl Follower {
    fn start(edge: &Hub, began: Instant) -> Self {
        let counted = Arc::<Mutex<Counted>>::default();
        let (address, shared) = (edge.address(), Arc::clone(&counted));
        std::thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(address).expect("the edge accepts");
            let request = format!("GET /v1/events?channel=** HTTP/1.0\r\nHost: {address}\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("it is sent");
            let mut lines = BufReader::with_capacity(256 << 10, stream);
            let mut line = Vec::new();
            // Until the edge ends.
            while lines.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                shared.lock().take(&line, began);
                line.clear();
            }
        });
        Self { counted }
    }

    /// Whether it is open, and how many events it has received.
    fn so_far(&self) -> (bool, u64) {
        let counted = self.counted.lock();
        (counted.is_open, counted.events)
    }

    /// Waits until it has received so many events, and at least `least` of them.
    async fn has_received(&self, events: u64, least: u64) {
        let deadline = Instant::now() + 4 * LASTS;
        loop {
            let (is_open, has) = self.so_far();
            if is_open && has >= events.max(least) {
                return;
            }
            assert!(Instant::now() < deadline, "{has} of {events} events are received");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Counted {
    fn take(&mut self, line: &[u8], began: Instant) {
        if let Some(data) = line.strip_prefix(b"data: ") {
            self.events += 1;
            // The first one of a batch.
            if let Some(sent) = data.strip_prefix(b"@") {
                let sent_us = number(sent.split(|byte| *byte == b' ').next().unwrap_or_default());
                let now_us = began.elapsed().as_micros() as u64;
                self.latencies.push(now_us.saturating_sub(sent_us));
            }
        } else if let Some(id) = line.strip_prefix(b"id: ") {
            let seq =
                number(id.rsplit(|byte| *byte == b'-').next().unwrap_or_default().trim_ascii());
            if self.events == 1 {
                self.first_seq = seq;
            }
            self.last_seq = seq;
            // Its position before the first event.
            self.is_open = true;
        }
    }
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit.wrapping_sub(b'0')))
}

/// Publishes so many batches of 100 events a second by 8 publishers; how many events there were,
/// and how long it took.
async fn publish_batches(ingest: &Hub, began: Instant, batches_per_s: u64) -> (u64, Duration) {
    const PUBLISHERS: u64 = 8;
    const BATCH: usize = 100;
    let mut publishers = JoinSet::new();
    for number in 0..PUBLISHERS {
        let address = ingest.address();
        publishers.spawn(async move {
            let mut publisher = Publisher::new(address);
            let mut ticks = interval(Duration::from_millis(1_000 * PUBLISHERS / batches_per_s));
            let filler = format!("{{\"data\":\"{}\"}}\n", "x".repeat(100)).repeat(BATCH - 1);
            let channel = format!("batches/{number}");
            let batches = LASTS.as_secs() * batches_per_s / PUBLISHERS;
            for _ in 0..batches {
                let due = ticks.tick().await;
                let us = due.duration_since(began).as_micros();
                let lines = format!("{{\"data\":\"@{us} {}\"}}\n{filler}", "x".repeat(90));
                let answer = publisher.publish_batch(&channel, &lines, None).await;
                let answer = answer.expect("an answer");
                assert_eq!(answer.status(), 201, "{}", answer.body);
            }
            batches * BATCH as u64
        });
    }
    let start = Instant::now();
    let published = publishers.join_all().await.into_iter().sum();
    (published, start.elapsed())
}

/// Edges and one ingest on one redis-server.
struct Fleet {
    redis: RedisServer,
    edges: Vec<Hub>,
    ingest: Hub,
}

impl Fleet {
    async fn start(count: usize) -> Self {
        let redis = RedisServer::start(&[]);
        let program = std::env::var_os("VISNYK_BIN");
        let program = program.map_or(env!("CARGO_BIN_EXE_visnyk").into(), PathBuf::from);
        let url = redis.url();
        let start = async |role: &str| {
            let settings = [("backend.url", url.as_str()), ("shards", "2"), ("role", role)];
            HubCommand::new(&program).settings(&settings).start().await.expect("the hub starts")
        };
        let mut edges = vec![start("edge").await];
        for _ in 1..count {
            edges.push(start("edge").await);
        }
        let ingest = start("ingest").await;
        Self { redis, edges, ingest }
    }

    /// Processor time of each process so far, in ticks of 10 ms.
    fn cpu(&self) -> Vec<u64> {
        let info = self.redis.command(&["INFO", "server"]);
        let pid = info.lines().find_map(|line| line.strip_prefix("process_id:"));
        let redis: u32 = pid.expect("its id").trim().parse().expect("a number");
        let hubs = self.edges.iter().chain([&self.ingest]).map(Hub::pid);
        hubs.chain([redis]).map(ticks).collect()
    }

    fn report(&self, before: Vec<u64>, latencies: &Mutex<Vec<u64>>, wanted: usize) {
        let mut latencies = latencies.lock().clone();
        assert_eq!(latencies.len(), wanted, "each event arrives once at each of its subscribers");
        latencies.sort_unstable();
        let at = |part: usize| latencies[(latencies.len() - 1) * part / 1_000] as f64 / 1_000.0;
        let cpu = self.cpu();
        let used = cpu.iter().zip(before).map(|(after, before)| (after - before) as f64 / 100.0);
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!(
            "{wanted} deliveries measured; published to received p50 {:.1}, p99 {:.1}, p99.9 {:.1} ms; \
             processor seconds of edge, edge, ingest, Redis: {:.2?}; load of the machine {}",
            at(500),
            at(990),
            at(999),
            used.collect::<Vec<_>>(),
            load.split(' ').next().unwrap_or_default(),
        );
        if std::env::var_os("VISNYK_FAULTS_STRICT").is_some() {
            assert!(at(990) < 25.0, "p99 is {} ms", at(990));
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime")
}

async fn open(edge: &Hub, channel: &str) -> SseClient {
    let request = SseRequest::new(&format!("/v1/events?channel={channel}"));
    let stream = SseClient::connect(edge.address(), &request).await.expect("a stream");
    assert_eq!(stream.head().status, 200);
    stream
}

/// Notes how long each event took, which begins with the time at which it was to be published.
async fn receive(mut stream: SseClient, began: Instant, latencies: Arc<Mutex<Vec<u64>>>) {
    while let Ok(Some(block)) = stream.next_event(2 * LASTS).await {
        let now_us = began.elapsed().as_micros() as u64;
        let data = block.data.unwrap_or_default();
        let sent_us = data.split(' ').next().and_then(|text| text.parse().ok());
        latencies.lock().push(now_us.saturating_sub(sent_us.expect("a time")));
    }
}

/// Publishes 1,000 events a second by 16 publishers; how many there were.
async fn publish(ingest: &Hub, began: Instant, channels: usize) -> usize {
    const PUBLISHERS: usize = 16;
    let mut publishers = JoinSet::new();
    for number in 0..PUBLISHERS {
        let address = ingest.address();
        publishers.spawn(async move {
            let mut publisher = Publisher::new(address);
            let mut ticks = interval(Duration::from_millis(PUBLISHERS as u64));
            let until = Instant::now() + LASTS;
            let mut published = 0;
            while Instant::now() < until {
                // The time at which it is due: one that is late is not counted as early.
                let due = ticks.tick().await;
                let us = due.duration_since(began).as_micros();
                let channel = (published * PUBLISHERS + number) % channels;
                let data = format!("{us} {}", "x".repeat(100));
                let acked = publisher.publish_acked(&channel.to_string(), &data).await;
                acked.expect("it is acknowledged");
                published += 1;
            }
            published
        });
    }
    publishers.join_all().await.into_iter().sum()
}

async fn await_all(latencies: &Mutex<Vec<u64>>, wanted: usize) {
    let all = async {
        while latencies.lock().len() < wanted {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = timeout(2 * LASTS, all).await;
}

fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, rest) = stat.rsplit_once(") ").expect("its fields");
    rest.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum()
}

const LASTS: Duration = Duration::from_secs(15);
