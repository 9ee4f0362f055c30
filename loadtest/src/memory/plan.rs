//! The scenario: connect in steps, broadcast, burst, wait, drain; and what each of it took.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use visnyk::core::Limits;
use visnyk::hub::{Hub, Publication};

use super::crowd::{Crowd, CrowdFront, CrowdPlan};
use super::peer::MemoryPeer;
use super::scan;
use crate::failure::Failure;
use crate::outcome::{Build, Machine, Outcome, Series};
use crate::progress::Progress;
use crate::server_figures::ServerSample;

/// Connects peers in memory to a hub in this process, and broadcasts to all of them.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[group(id = "memory_plan")]
pub struct Memory {
    /// Connections in the end.
    #[arg(long, default_value_t = 1_000_000)]
    pub connections: usize,
    /// Channels, with as many connections each.
    #[arg(long, default_value_t = 1)]
    pub channels: usize,
    /// Each connection names a second, silent channel too.
    #[arg(long)]
    pub mixed: bool,
    /// Events broadcast one by one at each step, each after the one before has come to all.
    #[arg(long, default_value_t = 5)]
    pub broadcasts: u32,
    /// Events published back to back in the end.
    #[arg(long, default_value_t = 100)]
    pub burst: u32,
    /// One connection in so many takes a little at a time; 0: all are fast.
    #[arg(long, default_value_t = 100)]
    pub slow_every: usize,
    /// Bytes that a slow one takes at a time.
    #[arg(long, default_value_t = 512)]
    pub slow_bytes: usize,
    /// Seconds without events, in which heartbeats come.
    #[arg(long, default_value_t = 20)]
    pub idle_s: u64,
    /// Seconds between heartbeats.
    #[arg(long, default_value_t = 15)]
    pub heartbeat_s: u32,
    /// Threads of the hub; 0 is one a core.
    #[arg(long, default_value_t = 0)]
    pub shards: usize,
}

impl Memory {
    /// Runs it to its end. Blocks; gives up when nothing moves any more.
    ///
    /// # Errors
    ///
    /// A delivery that is lost, repeated or changed, a hub that refuses or hangs.
    pub fn run(&self, progress: &Progress) -> Result<Outcome, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()
            .map_err(Failure::io("starting a runtime"))?;
        runtime.block_on(self.drive(progress))
    }

    async fn drive(&self, progress: &Progress) -> Result<Outcome, Failure> {
        visnyk::server::prepare();
        let mut run = Run::start(self, progress).await?;
        let steps = STEPS.iter().copied().filter(|step| *step < self.connections);
        for connections in steps.chain([self.connections]) {
            run.grow(connections).await?;
            run.broadcast(connections).await?;
        }
        run.burst().await?;
        run.idle().await?;
        run.drain().await?;
        run.finish()
    }
}

/// A run under way.
struct Run<'a> {
    plan: &'a Memory,
    progress: &'a Progress,
    hub: Hub,
    crowd: Arc<Crowd>,
    empty: ServerSample,
    allocated_when_empty: Option<u64>,
    outcome: Outcome,
    curves: Curves,
}

/// Points over the number of connections.
#[derive(Default)]
struct Curves {
    resident: Vec<(f64, f64)>,
    cpu_per_delivery: Vec<(f64, f64)>,
    cpu_per_attach: Vec<(f64, f64)>,
}

impl<'a> Run<'a> {
    async fn start(plan: &'a Memory, progress: &'a Progress) -> Result<Self, Failure> {
        let mut limits = Limits::default();
        limits.connections.connections_max = u32::try_from(plan.connections).unwrap_or(u32::MAX);
        limits.connections.heartbeat_s = plan.heartbeat_s;
        let shards = match plan.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        };
        let hub = Hub::builder().limits(limits).shards(shards).start().await;
        let hub = hub.map_err(|error| Failure::Unsupported(error.to_string()))?;
        let crowd = Crowd::new(
            hub.clone(),
            CrowdPlan {
                shards,
                channels: plan.channels.max(1),
                mixed: plan.mixed,
                slow_every: plan.slow_every,
                slow_bytes: plan.slow_bytes.max(1),
            },
        );
        hub.serve(Arc::new(CrowdFront(Arc::clone(&crowd))));
        let parameters = match serde_json::to_value(plan) {
            Ok(Value::Object(fields)) => fields.into_iter().collect(),
            _ => Default::default(),
        };
        let outcome = Outcome {
            scenario: "memory".to_owned(),
            subject: "visnyk".to_owned(),
            round: 1,
            started_at: jiff::Timestamp::now().to_string(),
            machine: Machine::here(),
            build: Build::here(),
            parameters,
            ..Outcome::default()
        };
        let (empty, allocated) = (sample()?, allocated_bytes());
        Ok(Self {
            plan,
            progress,
            hub,
            crowd,
            empty,
            allocated_when_empty: allocated,
            outcome,
            curves: Curves::default(),
        })
    }

    /// Connects up to so many, each with its first block.
    async fn grow(&mut self, connections: usize) -> Result<(), Failure> {
        self.progress.begin("connecting", connections as u64);
        let (before, had, started) = (sample()?, self.attached(), Instant::now());
        self.crowd.grow_to(connections);
        let wanted = connections as u64;
        self.wait("connections", wanted, Self::attached).await?;
        self.wait("first blocks", wanted, |run| run.crowd.sum(|counts| &counts.started)).await?;
        let (after, elapsed) = (sample()?, started.elapsed());
        let more = (self.attached() - had).max(1) as f64;
        let cpu_us = after.cpu_ns_since(&before) as f64 / 1e3 / more;
        let each = |bytes: u64, empty: u64| bytes.saturating_sub(empty) as f64 / wanted as f64;
        let resident = each(after.resident_bytes, self.empty.resident_bytes);
        self.curves.resident.push((wanted as f64, resident));
        self.curves.cpu_per_attach.push((wanted as f64, cpu_us));
        self.figure("connections", wanted as f64);
        self.pause("attach_longest_pause_ms");
        self.figure("attaches_per_s", more / elapsed.as_secs_f64());
        self.figure("cpu_us_per_attach", cpu_us);
        self.figure("resident_bytes_per_connection", resident);
        self.figure("peer_bytes_of_these", size_of::<MemoryPeer>() as f64);
        if let Some((allocated, empty)) = allocated_bytes().zip(self.allocated_when_empty) {
            self.figure("allocated_bytes_per_connection", each(allocated, empty));
        }
        Ok(())
    }

    /// Publishes one event after the other, each when all have the one before.
    async fn broadcast(&mut self, connections: usize) -> Result<(), Failure> {
        self.progress.begin("broadcasting", u64::from(self.plan.broadcasts));
        let mut times_ms = Vec::new();
        let before = sample()?;
        for done in 0..self.plan.broadcasts {
            let started = Instant::now();
            self.publish(1).await?;
            times_ms.push(started.elapsed().as_secs_f64() * 1e3);
            self.progress.at(u64::from(done) + 1);
        }
        times_ms.sort_by(f64::total_cmp);
        let Some(&median_ms) = times_ms.get(times_ms.len() / 2) else { return Ok(()) };
        let deliveries = times_ms.len() * connections;
        let cpu_us = sample()?.cpu_ns_since(&before) as f64 / 1e3 / deliveries as f64;
        self.curves.cpu_per_delivery.push((connections as f64, cpu_us));
        self.pause("broadcast_longest_pause_ms");
        self.figure("broadcast_once_ms", median_ms);
        self.figure("broadcast_once_cpu_us_per_delivery", cpu_us);
        Ok(())
    }

    async fn burst(&mut self) -> Result<(), Failure> {
        let deliveries = u64::from(self.plan.burst) * self.attached();
        self.progress.begin("delivering a burst", deliveries);
        let (before, started) = (sample()?, Instant::now());
        self.publish(self.plan.burst).await?;
        let elapsed_s = started.elapsed().as_secs_f64();
        let cpu_us = sample()?.cpu_ns_since(&before) as f64 / 1e3;
        self.pause("burst_longest_pause_ms");
        self.figure("burst_elapsed_s", elapsed_s);
        self.figure("burst_deliveries_per_s", deliveries as f64 / elapsed_s);
        self.figure("burst_cpu_us_per_delivery", cpu_us / deliveries.max(1) as f64);
        self.figure("resident_bytes_after_burst", sample()?.resident_bytes as f64);
        Ok(())
    }

    async fn idle(&mut self) -> Result<(), Failure> {
        if self.plan.idle_s == 0 {
            return Ok(());
        }
        self.progress.begin("idle", 0);
        let (before, had) = (sample()?, self.heartbeats());
        tokio::time::sleep(Duration::from_secs(self.plan.idle_s)).await;
        let cpu_us = sample()?.cpu_ns_since(&before) as f64 / 1e3;
        let heartbeats = self.heartbeats() - had;
        self.pause("idle_longest_pause_ms");
        self.figure("heartbeats", heartbeats as f64);
        if heartbeats > 0 {
            self.figure("idle_cpu_us_per_heartbeat", cpu_us / heartbeats as f64);
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), Failure> {
        self.progress.begin("draining", 0);
        let (before, started, all) = (sample()?, Instant::now(), self.attached());
        self.hub.drain(DRAIN_WINDOW).await;
        self.wait("ended connections", all, |run| run.crowd.sum(|counts| &counts.ended)).await?;
        let after = sample()?;
        self.pause("drain_longest_pause_ms");
        self.figure("drain_elapsed_s", started.elapsed().as_secs_f64());
        let cpu_us = after.cpu_ns_since(&before) as f64 / 1e3;
        self.figure("drain_cpu_us_per_connection", cpu_us / all.max(1) as f64);
        self.figure("resident_bytes_after_drain", after.resident_bytes as f64);
        self.hub.shut_down().await;
        Ok(())
    }

    fn finish(mut self) -> Result<Outcome, Failure> {
        self.progress.end();
        self.figure("writes_refused_by_slow", self.crowd.sum(|counts| &counts.refused) as f64);
        let curves = std::mem::take(&mut self.curves);
        self.series("resident memory of a connection", "bytes", curves.resident);
        self.series("CPU of a delivery, one event at a time", "us", curves.cpu_per_delivery);
        self.series("CPU of an attach", "us", curves.cpu_per_attach);
        let verified = self.crowd.verified();
        self.outcome.verified = verified;
        let owed = self.outcome.figures.get("deliveries_owed").copied().unwrap_or(0.0);
        if verified.is_clean() && verified.deliveries as f64 == owed {
            return Ok(self.outcome);
        }
        Err(Failure::Faulty { first: format!("{owed} deliveries were owed"), verified })
    }

    /// Publishes so many events to each channel and waits until all connections have them.
    async fn publish(&mut self, events: u32) -> Result<(), Failure> {
        let owed = u64::from(events) * self.attached();
        let all = self.deliveries() + owed;
        for _ in 0..events {
            let data = scan::data(self.crowd.next_event());
            for channel in 0..self.plan.channels.max(1) {
                let event = Publication::message(&Crowd::channel(channel), data.clone());
                let published = self.hub.publish(event.expect("a channel's name")).await;
                published.map_err(|error| Failure::Refused {
                    request: "a publish".to_owned(),
                    answer: error.to_string(),
                })?;
            }
        }
        self.wait("deliveries", all, Self::deliveries).await?;
        *self.outcome.figures.entry("deliveries_owed".to_owned()).or_default() += owed as f64;
        Ok(())
    }

    /// Waits until `count` is `wanted`; gives up when it stands still.
    async fn wait(
        &self,
        what: &str,
        wanted: u64,
        count: impl Fn(&Self) -> u64,
    ) -> Result<(), Failure> {
        let (mut last, mut moved) = (count(self), Instant::now());
        loop {
            let now = count(self);
            if now >= wanted {
                return Ok(());
            }
            if now != last {
                (last, moved) = (now, Instant::now());
            }
            let verified = self.crowd.verified();
            if !verified.is_clean() {
                let first = format!("while waiting for {wanted} {what}");
                return Err(Failure::Faulty { first, verified });
            }
            if self.crowd.refused() > 0 || moved.elapsed() > PATIENCE {
                let refused = self.crowd.refused();
                let what = format!("{now} of {wanted} {what}, {refused} refused");
                return Err(Failure::Late { what, waited: moved.elapsed() });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn attached(&self) -> u64 {
        self.crowd.sum(|counts| &counts.attached)
    }

    fn heartbeats(&self) -> u64 {
        self.crowd.sum(|counts| &counts.heartbeats)
    }

    fn deliveries(&self) -> u64 {
        self.crowd.sum(|counts| &counts.deliveries)
    }

    fn figure(&mut self, name: &str, value: f64) {
        self.outcome.figures.insert(name.to_owned(), value);
    }

    /// The longest that a shard let another task wait in the part of the run that ends here.
    fn pause(&mut self, name: &str) {
        let pause_us = self.crowd.take_pause_us();
        self.figure(name, pause_us as f64 / 1e3);
    }

    fn series(&mut self, name: &str, unit: &str, points: Vec<(f64, f64)>) {
        self.outcome.series.push(Series {
            name: name.to_owned(),
            x_unit: "connections".to_owned(),
            y_unit: unit.to_owned(),
            points,
        });
    }
}

fn sample() -> Result<ServerSample, Failure> {
    ServerSample::take(&[std::process::id()])
}

/// What the allocator has given out, where it says.
#[cfg(feature = "jemalloc")]
fn allocated_bytes() -> Option<u64> {
    use tikv_jemalloc_ctl::{epoch, stats};

    epoch::advance().ok()?;
    stats::allocated::read().ok().map(|bytes| bytes as u64)
}

#[cfg(not(feature = "jemalloc"))]
fn allocated_bytes() -> Option<u64> {
    None
}

/// Connections at which it stops to measure.
const STEPS: [usize; 4] = [1_000, 10_000, 100_000, 300_000];
/// Threads beside the hub's shards.
const WORKERS: usize = 2;
/// Between two looks at the counts.
const LOOK: Duration = Duration::from_millis(1);
/// How long nothing may move.
const PATIENCE: Duration = Duration::from_secs(30);
const DRAIN_WINDOW: Duration = Duration::from_secs(2);
