//! Connections that come and go while events flow, and the server's memory meanwhile.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::client::{PublishPlan, Published, Publishing, Receivers, now_ns, thread_cpu_ns};
use crate::failure::Failure;
use crate::measured::Run;

/// Which connections are replaced, in turn, and how often.
#[derive(Debug, Clone)]
pub(crate) struct Churn {
    pub(crate) connections: Range<usize>,
    pub(crate) per_s: f64,
}

impl Run<'_> {
    /// Publishes the plan, whose channels are numbered as their streams, to its end, replaces
    /// connections meanwhile, and then waits until each connection has its response head. Not for
    /// all deliveries: it is not known what was due to a connection when it was closed.
    pub(crate) fn churn(
        &mut self,
        receivers: &mut Receivers,
        plan: PublishPlan,
        churn: &Churn,
    ) -> Result<Published, Failure> {
        self.progress.begin("coming and going", 0);
        receivers.inbox.latency.reset();
        let first = receivers.deliveries();
        receivers.ticks.start(first);
        let (before, cpu_ns, started_ns) = (self.sample()?, thread_cpu_ns(), now_ns());
        let publishing = Publishing::start(self.subject, plan)?;
        receivers.inbox.sent = Some(publishing.sent());
        let (started, mut replaced) = (Instant::now(), 0_usize);
        let mut memory = vec![(0.0, before.resident_bytes as f64)];
        while !publishing.is_finished() {
            let due = (started.elapsed().as_secs_f64() * churn.per_s) as usize;
            while replaced < due && !churn.connections.is_empty() {
                let number = churn.connections.start + replaced % churn.connections.len();
                receivers.replace(number)?;
                replaced += 1;
            }
            receivers.receive_once(TURN)?;
            if started.elapsed().as_secs() >= memory.len() as u64 {
                let resident = self.sample()?.resident_bytes as f64;
                memory.push((started.elapsed().as_secs_f64(), resident));
            }
        }
        let published = publishing.finish()?;
        let elapsed_s = (now_ns() - started_ns) as f64 / 1e9;
        let after = self.sample()?;
        let came = receivers.deliveries() - first;
        self.figure("replaced_per_s", replaced as f64 / elapsed_s);
        self.figure("elapsed_s", elapsed_s);
        self.figure("deliveries_per_s", came as f64 / elapsed_s);
        self.delivery_figures(&before, &after, thread_cpu_ns() - cpu_ns, came, &published);
        let grown = after.resident_bytes as f64 - before.resident_bytes as f64;
        self.figure("server_resident_bytes_grown", grown);
        self.latency(&receivers.inbox.latency);
        self.series("deliveries a second", ("s", "1/s"), receivers.ticks.points());
        self.series("server's resident memory", ("s", "bytes"), memory);
        self.outcome.verified.events += published.events;
        let all_heads =
            receivers.receive_until(PATIENCE, |receivers| Ok(receivers.all_have_heads()))?;
        if all_heads {
            return Ok(published);
        }
        Err(Failure::Late { what: "response heads after churn".into(), waited: PATIENCE })
    }
}

/// Connections are replaced within this of when they are due.
const TURN: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(20);
