//! Takes a sample of the hub's figures every five seconds.
//!
//! Parent: the root. Children: none. Mailbox: ticks of one timer, which ends with it. A crash costs
//! the sample under way; those taken stay.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{clock::Clock, messages::SamplerMsg};
use crate::telemetry::{Metrics, Reading, Sample, Samples};

/// The actor.
pub(super) struct Sampler;

/// What it is started with.
#[derive(Debug, Clone)]
pub(crate) struct SamplerArguments {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) samples: Arc<Samples>,
    pub(crate) clock: Clock,
}

impl SamplerArguments {
    fn read(&self) -> Reading {
        let now = self.clock.now();
        Reading::take(&self.metrics, now.wall_ms, now.ms)
    }
}

/// Its state.
pub(super) struct SamplerState {
    arguments: SamplerArguments,
    /// The counters at the last sample.
    last: Reading,
}

impl Actor for Sampler {
    type Msg = SamplerMsg;
    type State = SamplerState;
    type Arguments = SamplerArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<SamplerMsg>,
        arguments: SamplerArguments,
    ) -> Result<SamplerState, ActorProcessingErr> {
        myself.send_interval(Samples::INTERVAL, || SamplerMsg::Tick);
        let last = arguments.read();
        Ok(SamplerState { arguments, last })
    }

    async fn handle(
        &self,
        _: ActorRef<SamplerMsg>,
        msg: SamplerMsg,
        state: &mut SamplerState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            SamplerMsg::Tick => {
                let SamplerArguments { metrics, samples, .. } = &state.arguments;
                let now = state.arguments.read();
                samples.push(Sample::between(&state.last, &now, metrics));
                state.last = now;
                Ok(())
            }
            SamplerMsg::Panic => panic!("planted fault in the sampler"),
        }
    }
}
