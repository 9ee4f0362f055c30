//! Starting a hub.

use std::sync::Arc;

use ractor::Actor;
use thiserror::Error;

use super::{ChannelCreator, Hub, Quotas};
use crate::{
    actors::{Clock, HubState, Root},
    backend::MemoryBackend,
    core::Limits,
    model::Epoch,
    telemetry::Metrics,
};

/// What a hub is made of.
#[derive(Debug, Clone, Default)]
pub struct HubBuilder {
    limits: Limits,
    shards: usize,
}

/// The hub did not start.
#[derive(Debug, Error)]
#[error("the hub did not start: {0}")]
pub struct StartError(String);

impl Hub {
    /// A hub with the default limits and a shard per core.
    pub fn builder() -> HubBuilder {
        HubBuilder::default()
    }
}

impl HubBuilder {
    /// Sets the limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the number of shards, each a thread; 0 is one per core.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// Starts the actors. Needs a tokio runtime.
    pub async fn start(self) -> Result<Hub, StartError> {
        let shards = match self.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        };
        let clock = Clock::start();
        let epoch = Epoch::new(clock.now_ms(), fastrand::u16(..));
        let quotas = Arc::new(Quotas::new(&self.limits));
        let channel_creator = Arc::new(ChannelCreator::new(&self.limits));
        let backend = MemoryBackend::new(epoch, self.limits);
        let shared = HubState::new(backend, Metrics::new(), clock, shards);
        let (root, ended) = Root::spawn(None, Root, shared.clone())
            .await
            .map_err(|error| StartError(error.to_string()))?;
        shared.refs.lock().root = Some(root);
        // Without its root a hub is no hub, whatever the root died of.
        let watched = shared.clone();
        tokio::spawn(async move {
            let _ = ended.await;
            watched.stop_log();
            watched.fatal.send_if_modified(|why| {
                let unexpected = why.is_none() && !watched.is_draining();
                if unexpected {
                    *why = Some("the root of the actors ended".to_owned());
                }
                unexpected
            });
        });
        Ok(Hub { shared, quotas, channel_creator, logs: Arc::default() })
    }
}
