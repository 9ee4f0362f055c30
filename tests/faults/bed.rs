//! The processes of one scenario: hubs, what keeps their log, and proxies in front of each.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, timeout};
use visnyk_loadtest::{Exchange, Hub, HubCommand, PollClient, RedisCluster, RedisServer};

use crate::balancer::Balancer;
use crate::fragile::FragileDisk;
use crate::proxy::{Direction, Flow, Proxy};
use crate::record::{Record, Recorder, closing};
pub(crate) use crate::support::PATIENCE;
use crate::support::{clock_off_by, fake_time, tracer};
use crate::version::Version;

/// What keeps the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// Two hubs on a redis-server.
    Redis,
    /// One hub with a log on disk.
    Disk,
}

/// What else a bed has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Setup {
    /// A replica of the redis-server.
    pub(crate) has_replica: bool,
    /// A cluster in place of the redis-server.
    pub(crate) has_cluster: bool,
    /// The log keeps this many events at most, beside those of the last step of removal.
    pub(crate) events_max: Option<u32>,
    /// All clients connect to an nginx.
    pub(crate) has_balancer: bool,
    /// One client at a time reads what was published before it came, at each hub.
    pub(crate) has_one_replay: bool,
    /// The clock of the second hub is ten seconds behind (libfaketime).
    pub(crate) has_clock_behind: bool,
    /// The version of the hubs at first.
    pub(crate) version: Version,
    /// The log is on a file system whose power can be cut.
    pub(crate) has_fragile_disk: bool,
    /// How long an fsync takes there.
    pub(crate) sync_time: Duration,
    /// For strace: what is injected into the hub's first process.
    pub(crate) inject: Option<&'static str>,
}

/// The processes of one scenario, all of which end when it is dropped.
pub(crate) struct Bed {
    pub(crate) hubs: Vec<Node>,
    pub(crate) redis: Option<RedisServer>,
    pub(crate) cluster: Option<RedisCluster>,
    pub(crate) replica: Option<RedisServer>,
    /// Between the redis-server and its replica.
    pub(crate) replica_link: Option<Proxy>,
    balancer: Option<Balancer>,
    pub(crate) recorder: Recorder,
    /// What was acknowledged before this time is not lost by the fault, in microseconds since the
    /// begin of the run.
    pub(crate) kept_us: u64,
    /// Behind the hub, which has files open there.
    pub(crate) fragile: Option<FragileDisk>,
    _directory: TempDir,
}

/// A hub that comes and goes, at one address.
#[derive(Debug)]
pub(crate) struct Node {
    command: HubCommand,
    listen: String,
    hub: Option<Hub>,
    /// In front of it, for clients.
    pub(crate) front: Proxy,
    /// Between it and the redis-server.
    pub(crate) engine: Option<Proxy>,
    /// What former processes of it wrote to stderr.
    said: String,
}

impl Bed {
    /// Starts everything.
    pub(crate) async fn start(engine: Engine, setup: Setup, seed: u64, recorder: Recorder) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let cluster =
            setup.has_cluster.then(|| block_in_place(|| RedisCluster::start("{visnyk}:log")));
        let redis = (engine == Engine::Redis && cluster.is_none())
            .then(|| block_in_place(|| RedisServer::start(&[])));
        let (mut replica, mut replica_link) = (None, None);
        if let (true, Some(redis)) = (setup.has_replica, &redis) {
            let link = Proxy::start(redis.address(), seed).await;
            let port = link.address().port().to_string();
            replica =
                Some(block_in_place(|| RedisServer::start(&["--replicaof", "127.0.0.1", &port])));
            replica_link = Some(link);
        }
        let fragile = setup.has_fragile_disk.then(|| FragileDisk::try_mount(seed).expect("FUSE"));
        let data_dir = match &fragile {
            Some(fragile) => {
                fragile.set_sync_time(setup.sync_time);
                fragile.path().join("data")
            }
            None => directory.path().join("data"),
        };
        let mut hubs = Vec::new();
        for number in 0..if engine == Engine::Redis { 2 } else { 1 } {
            let is_behind = setup.has_clock_behind && number == 1;
            let clock = is_behind.then(|| fake_time().expect("libfaketime"));
            let paths = (directory.path(), &*data_dir);
            // One node does for an address, but for that it may be killed.
            let url = cluster.as_ref().map(|cluster| cluster.url(&[0, 1, 2]));
            let start = Node::start(redis.as_ref(), url, &setup, clock, paths, seed + number);
            hubs.push(start.await);
        }
        let mut balancer = None;
        if setup.has_balancer {
            let hubs: Vec<String> = hubs.iter().map(|node| node.listen.clone()).collect();
            balancer = Some(Balancer::start(&hubs).await);
        }
        let bed = Self {
            hubs,
            redis,
            cluster,
            replica,
            replica_link,
            balancer,
            recorder,
            kept_us: 0,
            fragile,
            _directory: directory,
        };
        if bed.replica.is_some() {
            bed.await_replica().await;
        }
        bed
    }

    /// Where clients connect.
    pub(crate) fn fronts(&self) -> Vec<SocketAddr> {
        match &self.balancer {
            Some(balancer) => vec![balancer.address()],
            None => self.hubs.iter().map(|node| node.front.address()).collect(),
        }
    }

    /// Notes a step of the fault.
    pub(crate) fn note(&self, what: &str) {
        self.recorder.note(Record::Fault { what: what.to_owned() });
    }

    /// Changes the connections of all hubs to the redis-server.
    pub(crate) fn engine_flow(&self, direction: Direction, flow: Flow) {
        for link in self.hubs.iter().filter_map(|node| node.engine.as_ref()) {
            link.set(direction, flow);
        }
    }

    /// Changes the connections of all clients.
    pub(crate) fn front_flow(&self, direction: Direction, flow: Flow) {
        for node in &self.hubs {
            node.front.set(direction, flow);
        }
    }

    /// The redis-server.
    ///
    /// # Panics
    /// The log is on disk.
    pub(crate) fn redis(&self) -> &RedisServer {
        self.redis.as_ref().expect("a scenario of Redis")
    }

    /// Performs a command of the redis-server.
    ///
    /// # Panics
    /// It is refused: a fault that does not happen shows nothing.
    pub(crate) fn command(&self, parts: &[&str]) -> String {
        let answer = block_in_place(|| self.redis().command(parts));
        assert!(!answer.starts_with('-'), "{parts:?}: {answer}");
        answer
    }

    /// Copies the files of the redis-server, which may be put back later.
    pub(crate) fn back_up(&mut self) {
        self.kept_us = self.recorder.now_us();
        block_in_place(|| self.redis().back_up());
    }

    /// Waits until the replica has what the redis-server has.
    async fn await_replica(&self) {
        let deadline = Instant::now() + PATIENCE;
        let replica = self.replica.as_ref().expect("a scenario with one");
        while !block_in_place(|| replica.command(&["INFO", "replication"]))
            .contains("master_link_status:up")
        {
            assert!(Instant::now() < deadline, "the replica does not connect");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Notes what all hubs have, once they have the last event of each channel, or after a time.
    pub(crate) async fn note_logs(&self, ends: &[String], patience: Duration) {
        for (hub, node) in self.hubs.iter().enumerate() {
            let odd = |what: &str| {
                self.recorder.note(Record::Odd { what: format!("hub {hub} {what} at the end") });
            };
            let Some(running) = &node.hub else {
                odd("does not run");
                continue;
            };
            let deadline = Instant::now() + patience;
            loop {
                let log = log_of(running.address()).await;
                let has = |end| log.iter().flatten().any(|(_, _, data)| data == end);
                if ends.iter().all(has) || Instant::now() >= deadline {
                    match log {
                        Err(error) => odd(&format!("does not give its log ({error})")),
                        Ok(log) if log.is_empty() => odd("has an empty log"),
                        Ok(log) => log.into_iter().for_each(|(id, channel, data)| {
                            self.recorder.note(Record::Log { hub, id, channel, data });
                        }),
                    }
                    break;
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// What all processes of hubs wrote to stderr.
    pub(crate) fn stderr(&self) -> String {
        let of = |(number, node): (usize, &Node)| {
            let now = node.hub.as_ref().map(|hub| hub.stderr()).unwrap_or_default();
            format!("== hub {number}\n{}{now}", node.said)
        };
        self.hubs.iter().enumerate().map(of).collect()
    }
}

impl Node {
    async fn start(
        redis: Option<&RedisServer>,
        cluster_url: Option<String>,
        setup: &Setup,
        clock: Option<&str>,
        (directory, data_dir): (&Path, &Path),
        seed: u64,
    ) -> Self {
        // An address of its own: a client that tries to reach a hub which is away could get its
        // port, and be connected to itself.
        let part = || fastrand::u8(1..255);
        let listen = format!("127.{}.{}.{}:0", part(), part(), part());
        let program = Version::Present.program().expect("the hub under test");
        let engine = match redis {
            Some(redis) => Some(Proxy::start(redis.address(), seed).await),
            None => None,
        };
        let command_of = |program: &Path| {
            let mut command = HubCommand::new(program).settings(SETTINGS);
            let url = engine.as_ref().map(|link| format!("redis://{}", link.address()));
            command = match url.as_ref().or(cluster_url.as_ref()) {
                Some(url) => command.settings(&[("backend.url", url)]),
                None => command.arg("--data-dir").arg(data_dir),
            };
            if setup.has_balancer {
                let (delay, window) = (DRAIN_DELAY_S.to_string(), DRAIN_WINDOW_S.to_string());
                command = command.settings(&[
                    ("drain_delay_s", &delay),
                    ("drain_window_s", &window),
                    ("trusted_proxies", "127.0.0.1"),
                ]);
            }
            if setup.has_one_replay {
                command = command.settings(&[("limits.connections.replays_max", "1")]);
            }
            if let Some(library) = clock {
                for (name, value) in clock_off_by(library, "-10s") {
                    command = command.env(name, value);
                }
            }
            match setup.events_max {
                Some(count) => command.settings(&[("backend.events_max", &count.to_string())]),
                None => command,
            }
        };
        let command = setup.version.of(command_of(&program));
        let first = match setup.inject {
            Some(inject) => command_of(&tracer(&program, inject, directory)),
            None => command.clone(),
        };
        let hub = first.listen(&listen).start().await.expect("the hub starts");
        let listen = hub.address().to_string();
        let front = Proxy::start(hub.address(), seed + 100).await;
        Self { command, listen, hub: Some(hub), front, engine, said: String::new() }
    }

    /// Whether it is to run.
    pub(crate) fn is_up(&self) -> bool {
        self.hub.is_some()
    }

    /// What its `/readyz` says; none if it does not answer.
    pub(crate) async fn readiness(&self) -> Option<u16> {
        let mut exchange = Exchange::new(self.hub.as_ref()?.address());
        let answer = exchange.request("GET", "/readyz", &[], b"", PATIENCE).await;
        answer.ok().map(|answer| answer.status())
    }

    /// Whether its `/readyz` says so.
    pub(crate) async fn is_ready(&self) -> bool {
        self.readiness().await == Some(200)
    }

    /// One of its metrics, 0 if that is not there yet; none if the hub does not answer.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let mut exchange = Exchange::new(self.hub.as_ref()?.address());
        let answer = exchange.request("GET", "/metrics", &[], b"", PATIENCE).await.ok()?;
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        (answer.status() == 200).then(|| answer.body.lines().find_map(value).unwrap_or_default())
    }

    /// Whether it has something to send to a client that comes with this position, and says that
    /// events are missing.
    pub(crate) async fn gap_reason(&self, from: &str) -> Option<String> {
        let hub = self.hub.as_ref()?;
        let target = "/v1/poll?channel=**&timeout=0&limit=1";
        let answer = PollClient::new(hub.address(), target).from(from).next(PATIENCE).await.ok()?;
        answer.gap["reason"].as_str().map(str::to_owned)
    }

    /// Kills it.
    pub(crate) async fn kill(&mut self) {
        if let Some(mut hub) = self.hub.take() {
            hub.kill().await.expect("it is killed");
            self.said += &hub.stderr();
        }
    }

    /// Cuts the power of its disk, and ends it.
    pub(crate) async fn cut_power(&mut self, disk: &FragileDisk, recorder: &Recorder) {
        if let Some(mut hub) = self.hub.take() {
            let lost = disk.cut_power(&mut hub).await;
            recorder.note(Record::Fault { what: format!("the power cut took {lost:?}") });
            self.said += &hub.stderr();
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(hub) = &self.hub {
            hub.signal(signal).expect("it runs");
        }
    }

    /// Waits for its end; its exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let mut hub = self.hub.take()?;
        let status = hub.wait(PATIENCE).await;
        self.said += &hub.stderr();
        status.ok()?.code()
    }

    /// Lets it be of another version when it is started again.
    pub(crate) fn change_version(&mut self, version: Version) {
        self.command = version.of(self.command.clone());
    }

    /// Starts it again where it was.
    pub(crate) async fn start_again(&mut self, recorder: &Recorder) {
        let deadline = Instant::now() + PATIENCE;
        let command = self.command.clone().listen(&self.listen);
        loop {
            match timeout(PATIENCE, command.start()).await {
                Ok(Ok(hub)) => return self.hub = Some(hub),
                Ok(Err(error)) if Instant::now() >= deadline => {
                    return recorder.note(Record::Odd { what: format!("a hub: {error}") });
                }
                Err(_) => {
                    let what = "a hub does not start in 30 s".to_owned();
                    return recorder.note(Record::Odd { what });
                }
                Ok(Err(_)) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Starts another process that takes its sockets and log over; the exit code of the first.
    pub(crate) async fn take_over(&mut self) -> Option<i32> {
        let command = self.command.clone().listen(&self.listen).arg("--take-over");
        let next = command.start().await.expect("it takes over");
        let code = self.ended().await;
        self.hub = Some(next);
        code
    }
}

/// Position, channel and data of all events that a hub has.
async fn log_of(address: SocketAddr) -> std::io::Result<Vec<(String, String, String)>> {
    let target = "/v1/poll?channel=**&timeout=0&limit=1000";
    let mut client = PollClient::new(address, target).from("earliest");
    let mut log = Vec::new();
    loop {
        let answer = client.next(PATIENCE).await?;
        match answer.answer.status() {
            200 => {}
            204 => return Ok(log),
            status => return Err(std::io::Error::other(status.to_string())),
        }
        log.extend(answer.events.into_iter().map(|event| {
            let data = match event.event_type.as_str() {
                "visnyk.closed" => closing(&event.data),
                _ => event.data,
            };
            (event.id, event.channel, data)
        }));
    }
}

/// Of all hubs: clients come back soon, and nothing is removed.
const SETTINGS: &[(&str, &str)] = &[
    ("shards", "2"),
    ("drain_window_s", "1"),
    ("limits.connections.heartbeat_s", "1"),
    ("limits.connections.retry_min_ms", "50"),
    ("limits.connections.retry_max_ms", "300"),
    ("limits.publish.wait_ms", "500"),
    ("limits.publish.outcome_wait_ms", "3000"),
    ("limits.history.events_max", "1000000"),
    ("limits.history.bytes_max", "200000000"),
    ("log.segment_bytes", "131072"),
];

/// Of hubs behind a balancer.
pub(crate) const DRAIN_DELAY_S: u64 = 1;
pub(crate) const DRAIN_WINDOW_S: u64 = 1;
