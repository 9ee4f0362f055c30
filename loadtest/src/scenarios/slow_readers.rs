//! Clients that stop reading among others that read: the latency of those.

use serde::Serialize;

use crate::client::{Expect, Group, PublishPlan};
use crate::measured::Run;
use crate::open_streams::check_open;
use crate::server_process::Setting;
use crate::{failure::Failure, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `slow-readers`.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct SlowReaders {
    /// Subscribers that read.
    #[arg(long, default_value_t = 2_000)]
    pub fast: usize,
    /// Subscribers that do not, with a small receive buffer.
    #[arg(long, default_value_t = 2_000)]
    pub slow: usize,
    /// Events without and with the slow ones.
    #[arg(long, default_value_t = 200)]
    pub events: u32,
    /// Events beside the slow ones before that, at a fifth of the rate: they fill what buffers
    /// there are, which costs a send to each.
    #[arg(long, default_value_t = 40)]
    pub filling: u32,
    /// Events a second.
    #[arg(long, default_value_t = 20.0)]
    pub rate: f64,
    /// Bytes of data in each event: together more than any buffer holds.
    #[arg(long, default_value_t = 4_096)]
    pub payload: usize,
    /// The hub's `limits.connections.send_buffer_bytes`, if not its default. What stopped readers
    /// hold in the kernel must stay below what it has for all sockets (`net.ipv4.tcp_mem`).
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_buffer_bytes: Option<u32>,
}

impl SlowReaders {
    pub(crate) fn run(&self, subject: &Subject, progress: &Progress) -> Result<Outcome, Failure> {
        let mut run = Run::new("slow_readers", self, subject, progress);
        let subscribe_slow = subject.extras.subscribe_slow.ok_or_else(|| {
            Failure::Unsupported(format!("{} bears no slow readers", subject.name))
        })?;
        let request = (subject.subscribe)(subject, CHANNEL);
        let fast = Group::new(request, Expect::all_of(0), self.fast);
        let mut receivers = run.connect(&[fast])?;
        let deliveries = u64::from(self.events) * self.fast as u64;
        let plan = |from, events: u32, rate| {
            PublishPlan::paced(CHANNEL, from..from + events, rate, self.payload)
        };
        run.broadcast(&mut receivers, plan(0, self.events, self.rate), deliveries)?;
        let alone_us = run.p99_us();
        run.keep_figure("server_cpu_us_per_delivery", "server_cpu_us_per_delivery_alone");
        let request = subscribe_slow(subject, CHANNEL);
        let slow = Group { reads: false, ..Group::new(request, Expect::all_of(0), self.slow) };
        let before = run.sample()?;
        receivers.connect(&[slow], |_| {})?;
        let filling = plan(self.events, self.filling, self.rate / 5.0);
        let filled = u64::from(self.filling) * self.fast as u64;
        run.broadcast(&mut receivers, filling, filled)?;
        run.quiet(&mut |time| receivers.receive_for(time))?;
        run.outcome.series.clear();
        let beside = plan(self.events + self.filling, self.events, self.rate);
        run.broadcast(&mut receivers, beside, deliveries)?;
        let after = run.sample()?;
        check_open(subject, self.fast + self.slow)?;
        let beside_us = run.p99_us();
        run.figure("latency_p99_us_alone", alone_us);
        run.figure("latency_p99_us_beside_slow", beside_us);
        run.figure("latency_p99_ratio", beside_us / alone_us.max(1.0));
        let grown = after.resident_bytes as f64 - before.resident_bytes as f64;
        run.figure("server_resident_bytes_per_slow_reader", grown / self.slow.max(1) as f64);
        run.figure("server_resident_bytes_beside_slow", after.resident_bytes as f64);
        let buffers = after.tcp_bytes as f64 - before.tcp_bytes as f64;
        run.figure("kernel_tcp_bytes_per_slow_reader", buffers / self.slow.max(1) as f64);
        run.figure("kernel_tcp_bytes_of_all_slow", buffers);
        run.finish(&mut receivers, |_| 2 * self.events + self.filling)
    }

    /// The slow ones are to be there when they are weighed, however long they have taken nothing.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let mut settings = vec![never_stalled()];
        let buffer = self.send_buffer_bytes.map(|bytes| bytes.to_string());
        settings
            .extend(buffer.map(|bytes| ("VISNYK_LIMITS__CONNECTIONS__SEND_BUFFER_BYTES", bytes)));
        settings
    }
}

/// A socket that takes no byte for this long is closed: a day.
pub(super) fn never_stalled() -> Setting {
    ("VISNYK_LIMITS__CONNECTIONS__WRITE_STALL_S", "86400".into())
}

const CHANNEL: &str = "load";
