//! What a delivery and a connection cost as functions of how many there are.

use std::time::Duration;

use serde::Serialize;

use super::{ManyChannels, Paced, Patterns};
use crate::client::{Expect, Group, PublishPlan, Receivers};
use crate::machine;
use crate::measured::Run;
use crate::{failure::Failure, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `curves`.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct Curves {
    /// Connections in all after each step.
    #[arg(long, value_delimiter = ',', default_values_t = [500, 1_000, 2_000, 5_000, 10_000, 18_000])]
    pub connections: Vec<usize>,
    /// Channels of ten subscribers each.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 30, 100, 300, 1_000])]
    pub channels: Vec<usize>,
    /// Pattern subscriptions.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 10, 100, 1_000, 10_000])]
    pub patterns: Vec<usize>,
    /// Bytes of data in an event.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 256, 1_024, 4_096, 16_384])]
    pub payload: Vec<usize>,
    /// Subscribers that events of each payload go to.
    #[arg(long, default_value_t = 1_000)]
    pub payload_subscribers: usize,
    /// Events of each step.
    #[arg(long, default_value_t = 30)]
    pub events: u32,
}

impl Curves {
    pub(crate) fn run(&self, subject: &Subject, progress: &Progress) -> Result<Outcome, Failure> {
        let mut run = Run::new("curves", self, subject, progress);
        self.connections(&mut run)?;
        let mut points = Points::default();
        for &channels in &self.channels {
            let plan = ManyChannels {
                channels,
                subscribers: 10,
                // The same rate and time for each: only the number of channels differs.
                events: (1_000 * self.events / 10 / channels.max(1) as u32).max(2),
                rate: 1_000.0,
                payload: PAYLOAD,
                publishers: 4,
            };
            self.point(&mut run, plan.run(subject, progress), channels, &mut points)?;
        }
        points.draw(&mut run, "channels", "channels");
        if subject.extras.subscribe_many.is_some() {
            let plan = Patterns {
                patterns: self.patterns.clone(),
                per_connection: 100,
                channels: 10,
                events: self.events,
                rate: 200.0,
                payload: PAYLOAD,
            };
            let outcome = plan.run(subject, progress)?;
            add(&mut run.outcome, &outcome);
            let over_patterns = outcome.series.into_iter().filter(|s| s.x_unit == "patterns");
            run.outcome.series.extend(over_patterns.map(|mut series| {
                series.name += " over patterns";
                series
            }));
            let none = outcome.figures.get("server_cpu_us_per_event_with_0_patterns");
            if let Some(event_us) = none {
                run.figure("server_cpu_us_per_event_without_patterns", *event_us);
            }
        }
        let mut points = Points::default();
        for &payload in &self.payload {
            let subscribers = self.payload_subscribers;
            let plan = Paced { subscribers, events: self.events, rate: 20.0, payload };
            self.point(&mut run, plan.run(subject, progress), payload, &mut points)?;
        }
        points.draw(&mut run, "payload", "bytes");
        progress.end();
        Ok(run.outcome)
    }

    /// More and more subscribers of one channel: memory of each, CPU of a delivery.
    fn connections(&self, run: &mut Run<'_>) -> Result<(), Failure> {
        machine::check_connections(self.connections.iter().copied().max().unwrap_or(0))?;
        let request = (run.subject.subscribe)(run.subject, CHANNEL);
        let mut receivers = Receivers::new(run.subject)?;
        let before = run.sample()?;
        let (mut memory, mut slab, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
        let (mut connected, mut events) = (0, 0);
        for &step in &self.connections {
            let expect = Expect::all_from(0, events);
            let group = Group::new(request.clone(), expect, step.saturating_sub(connected));
            receivers.connect(&[group], |_| {})?;
            connected = connected.max(step);
            receivers.receive_for(SETTLE)?;
            let now = run.sample()?;
            let each = |now: u64, then: u64| (now as f64 - then as f64) / connected.max(1) as f64;
            memory.push((connected as f64, each(now.resident_bytes, before.resident_bytes)));
            slab.push((connected as f64, each(now.slab_bytes, before.slab_bytes)));
            let plan = PublishPlan::paced(CHANNEL, events..events + self.events, 5.0, PAYLOAD);
            run.broadcast(&mut receivers, plan, u64::from(self.events) * connected as u64)?;
            events += self.events;
            let delivery_us = run.outcome.figures.get("server_cpu_us_per_delivery");
            cpu.push((connected as f64, delivery_us.copied().unwrap_or(0.0)));
        }
        let verified = receivers.verify(|_| events)?;
        run.outcome.verified.deliveries += verified.deliveries;
        run.outcome.series.clear();
        run.series("memory of a connection", ("connections", "bytes"), memory);
        let slab_name = "kernel slab of a connection, both ends";
        run.series(slab_name, ("connections", "bytes"), slab);
        run.series("CPU of a delivery over connections", ("connections", "us"), cpu);
        Ok(())
    }

    fn point(
        &self,
        run: &mut Run<'_>,
        outcome: Result<Outcome, Failure>,
        x: usize,
        points: &mut Points,
    ) -> Result<(), Failure> {
        let outcome = outcome?;
        add(&mut run.outcome, &outcome);
        let figure = |name| (x as f64, outcome.figures.get(name).copied().unwrap_or(0.0));
        points.cpu.push(figure("server_cpu_us_per_delivery"));
        points.memory.push(figure("server_resident_bytes"));
        Ok(())
    }
}

/// What was found along one axis.
#[derive(Default)]
struct Points {
    cpu: Vec<(f64, f64)>,
    /// Of the whole server, which all steps of all axes have in common.
    memory: Vec<(f64, f64)>,
}

impl Points {
    fn draw(self, run: &mut Run<'_>, axis: &str, unit: &str) {
        run.series(&format!("CPU of a delivery over {axis}"), (unit, "us"), self.cpu);
        let name = format!("server's resident memory over {axis}");
        run.series(&name, (unit, "bytes"), self.memory);
    }
}

/// What was checked in a part counts for the whole.
fn add(whole: &mut Outcome, part: &Outcome) {
    whole.verified.events += part.verified.events;
    whole.verified.deliveries += part.verified.deliveries;
}

const CHANNEL: &str = "load";
const PAYLOAD: usize = 128;
const SETTLE: Duration = Duration::from_secs(1);
