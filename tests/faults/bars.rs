//! What hubs that share a log in Redis cost, and how soon events arrive: two edges and one ingest on one machine.
//! `tests/faults/run --bars` starts it, with an optimised hub.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};
use visnyk_loadtest::{Hub, HubCommand, Publisher, RedisServer, SseClient, SseRequest};

/// 1,000 events a second over 200 channels of 10 subscribers each. Everything arrives; with `VISNYK_FAULTS_STRICT`, on a
/// machine that does nothing else, 99 of 100 within 25 ms.
#[test]
#[ignore = "tests/faults/run --bars starts it"]
fn events_over_many_channels() {
    const CHANNELS: usize = 200;
    const SUBSCRIBERS: usize = 10;
    runtime().block_on(async {
        let fleet = Fleet::start().await;
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

/// Two edges and one ingest on one redis-server.
struct Fleet {
    redis: RedisServer,
    edges: Vec<Hub>,
    ingest: Hub,
}

impl Fleet {
    async fn start() -> Self {
        let redis = RedisServer::start(&[]);
        let program = std::env::var_os("VISNYK_BIN");
        let program = program.map_or(env!("CARGO_BIN_EXE_visnyk").into(), PathBuf::from);
        let url = redis.url();
        let start = async |role: &str| {
            let settings = [("backend.url", url.as_str()), ("shards", "2"), ("role", role)];
            HubCommand::new(&program).settings(&settings).start().await.expect("the hub starts")
        };
        let edges = vec![start("edge").await, start("edge").await];
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
            "{wanted} deliveries in {LASTS:?}; published to received p50 {:.1}, p99 {:.1}, p99.9 {:.1} ms; \
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
