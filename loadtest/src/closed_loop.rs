//! Publishers in a closed loop on one channel: each sends its next request when the last one is
//! answered.

use crate::client::{Expect, Group, Item, PublishPlan, Published, Publishing, Receivers};
use crate::failure::Failure;
use crate::measured::Run;

/// How many publish what to one channel.
#[derive(Debug, Clone)]
pub(crate) struct ClosedLoop {
    pub(crate) channel: String,
    /// Kept connections.
    pub(crate) publishers: usize,
    /// Bytes of data in each event.
    pub(crate) payload: usize,
    /// Events in a request.
    pub(crate) batch: u32,
    /// Requests of each publisher.
    pub(crate) requests: u32,
}

impl ClosedLoop {
    /// Publishes all of it, and checks the end of it that history still holds. Gives the server's
    /// CPU time for the publishes, in nanoseconds, too.
    pub(crate) fn run(&self, run: &mut Run<'_>) -> Result<(Published, u64), Failure> {
        if self.batch > 1 && run.subject.publish_batch.is_none() {
            return Err(Failure::Unsupported(format!("{} takes no batches", run.subject.name)));
        }
        run.progress.begin(&self.channel, 0);
        let before = run.sample()?;
        let published = Publishing::start(run.subject, self.plan())?.finish()?;
        let cpu_ns = run.sample()?.cpu_ns_since(&before);
        run.outcome.verified.events += published.events;
        self.check_history(run)?;
        Ok((published, cpu_ns))
    }

    fn plan(&self) -> PublishPlan {
        let item = |lane: usize, number: u32| Item {
            at_ns: None,
            channel: 0,
            stream: lane as u32,
            first_seq: number * self.batch,
            events: self.batch,
        };
        let lane = |lane| (0..self.requests).map(|number| item(lane, number)).collect();
        PublishPlan {
            channels: vec![self.channel.clone()],
            lanes: (0..self.publishers).map(lane).collect(),
            payload: self.payload,
            unanswered_max: 1,
        }
    }

    /// What history still holds must be the end of each publisher's stream, without a hole.
    fn check_history(&self, run: &mut Run<'_>) -> Result<(), Failure> {
        let Some(resume) = run.subject.extras.resume else { return Ok(()) };
        let mut expect = Expect::all_of_many(0..self.publishers as u32);
        expect.begin_anywhere();
        let group = Group::new(resume(run.subject, &self.channel, "earliest"), expect, 1);
        let mut receivers = Receivers::new(run.subject)?;
        receivers.connect(&[group], |_| {})?;
        run.quiet(&mut |time| receivers.receive_for(time))?;
        let verified = receivers.verify_retained(self.requests * self.batch)?;
        run.outcome.verified.deliveries += verified.deliveries;
        Ok(())
    }
}
