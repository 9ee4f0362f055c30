//! Honest subscribers of one channel that stay, while other things are done to the hub: what they
//! receive in one span of time is measured and checked apart from the next.

use std::time::{Duration, Instant};

use crate::client::{Expect, Group, PublishPlan, Publishing, Receivers};
use crate::failure::Failure;
use crate::machine;
use crate::subject::Subject;

/// The subscribers, all on the thread that calls.
#[derive(Debug)]
pub struct Audience {
    subject: Subject,
    channel: String,
    receivers: Receivers,
    connections: usize,
    /// Events published so far, each of which everyone must have had.
    events: u32,
}

/// What they received in a span of time.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Events published.
    pub events: u32,
    /// Events received, all subscribers together.
    pub deliveries: u64,
    /// From when an event was due until it was received: the median.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl Audience {
    /// Connects so many subscribers to a channel.
    pub fn connect(subject: &Subject, channel: &str, connections: usize) -> Result<Self, Failure> {
        machine::check_connections(connections)?;
        let mut receivers = Receivers::new(subject)?;
        let request = (subject.subscribe)(subject, channel);
        receivers.connect(&[Group::new(request, Expect::all_of(0), connections)], |_| {})?;
        let (subject, channel) = (subject.clone(), channel.to_owned());
        Ok(Self { subject, channel, receivers, connections, events: 0 })
    }

    /// Publishes so many events at a steady rate on a connection that it makes first, calls `begin`
    /// once that stands, and receives until everyone has everything.
    ///
    /// # Errors
    /// Events that are lost, repeated, reordered or changed, and a publish that is refused.
    pub fn receive(
        &mut self,
        events: u32,
        rate: f64,
        begin: impl FnOnce(),
    ) -> Result<Received, Failure> {
        self.receivers.inbox.latency.reset();
        let first = self.receivers.deliveries();
        let deliveries = u64::from(events) * self.connections as u64;
        let range = self.events..self.events + events;
        let plan = PublishPlan::paced(&self.channel, range, rate, PAYLOAD_BYTES);
        let publishing = Publishing::start(&self.subject, plan)?;
        begin();
        let until = Instant::now() + Duration::from_secs_f64(f64::from(events) / rate) + STALL;
        let received = self.receivers.receive_until(STALL, |receivers| {
            let is_done = receivers.deliveries() - first >= deliveries;
            Ok((is_done && publishing.is_finished()) || Instant::now() > until)
        });
        publishing.stop();
        publishing.finish()?;
        received?;
        // What comes too often may come last.
        self.receivers.receive_for(AFTERWARDS)?;
        self.events += events;
        self.receivers.verify(|_| self.events)?;
        let latency = &self.receivers.inbox.latency;
        let at = |quantile| Duration::from_micros(latency.value_at_quantile(quantile));
        Ok(Received {
            events,
            deliveries: self.receivers.deliveries() - first,
            p50: at(0.5),
            p99: at(0.99),
            max: Duration::from_micros(latency.max()),
        })
    }
}

const PAYLOAD_BYTES: usize = 128;
/// Deliveries that have not come when nothing has for so long are lost.
const STALL: Duration = Duration::from_secs(10);
const AFTERWARDS: Duration = Duration::from_millis(50);
