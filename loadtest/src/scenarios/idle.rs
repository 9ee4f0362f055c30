//! Subscribers that wait: what each costs, and how fast they connect.

use std::time::Duration;

use serde::Serialize;

use crate::client::{Expect, Group, Receivers, thread_cpu_ns};
use crate::machine;
use crate::measured::Run;
use crate::{failure::Failure, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `idle`.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct Idle {
    /// Subscribers in all after each step.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 18_000])]
    pub connections: Vec<usize>,
    /// How long they are left idle before memory is read.
    #[arg(long, default_value_t = 2)]
    pub settle_s: u64,
}

impl Idle {
    pub(crate) fn run(&self, subject: &Subject, progress: &Progress) -> Result<Outcome, Failure> {
        let mut run = Run::new("idle", self, subject, progress);
        let most = self.connections.iter().copied().max().unwrap_or(0);
        machine::check_connections(most)?;
        let request = (subject.subscribe)(subject, "load");
        let mut receivers = Receivers::new(subject)?;
        let before = run.sample()?;
        let (mut memory, mut slab, mut rate) = (Vec::new(), Vec::new(), Vec::new());
        let mut connected = 0;
        for &step in &self.connections {
            let group =
                Group::new(request.clone(), Expect::all_of(0), step.saturating_sub(connected));
            progress.begin("connecting", step as u64);
            let (sample, cpu_ns) = (run.sample()?, thread_cpu_ns());
            let took =
                receivers.connect(&[group], |count| progress.at((connected + count) as u64))?;
            connected += took.connections;
            let new = took.connections.max(1) as f64;
            let connect_cpu_us = run.sample()?.cpu_ns_since(&sample) as f64 / 1_000.0 / new;
            run.figure("server_cpu_us_per_connect", connect_cpu_us);
            run.figure(
                "client_cpu_us_per_connect",
                (thread_cpu_ns() - cpu_ns) as f64 / 1_000.0 / new,
            );
            let per_s = took.connections as f64 / took.elapsed.as_secs_f64();
            rate.push((connected as f64, per_s));
            run.figure("connects_per_s", per_s);

            progress.begin("idle", 0);
            let (sample, cpu_ns) = (run.sample()?, thread_cpu_ns());
            receivers.receive_for(Duration::from_secs(self.settle_s))?;
            let after = run.sample()?;
            let idle_s = self.settle_s.max(1) as f64;
            run.figure(
                "server_idle_cpu_ms_per_s",
                after.cpu_ns_since(&sample) as f64 / 1e6 / idle_s,
            );
            run.figure(
                "client_idle_cpu_ms_per_s",
                (thread_cpu_ns() - cpu_ns) as f64 / 1e6 / idle_s,
            );
            let each = |now: u64, then: u64| (now as f64 - then as f64) / connected.max(1) as f64;
            let resident = each(after.resident_bytes, before.resident_bytes);
            run.figure("server_resident_bytes_per_connection", resident);
            let anonymous = each(after.anonymous_bytes, before.anonymous_bytes);
            run.figure("server_anonymous_bytes_per_connection", anonymous);
            let kernel = each(after.slab_bytes, before.slab_bytes);
            run.figure("kernel_slab_bytes_per_connection_both_ends", kernel);
            let buffers = each(after.tcp_bytes, before.tcp_bytes);
            run.figure("kernel_tcp_bytes_per_connection_both_ends", buffers);
            memory.push((connected as f64, resident));
            slab.push((connected as f64, kernel));
        }
        run.figure("connections", connected as f64);
        run.figure("connections_open_at_end", receivers.open() as f64);
        run.series("memory per connection", ("connections", "bytes"), memory);
        run.series("kernel slab per connection, both ends", ("connections", "bytes"), slab);
        run.series("connects a second", ("connections", "1/s"), rate);
        if receivers.open() < connected {
            let (_, said) = receivers.inbox.ledger.close();
            return Err(Failure::Refused { request: "idle streams".into(), answer: said });
        }
        run.finish(&mut receivers, |_| 0)
    }
}
