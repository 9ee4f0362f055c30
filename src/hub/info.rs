//! What a hub says of itself.

use std::sync::{Arc, atomic::Ordering};

use super::Hub;
use crate::{
    backend::ChannelInfo,
    core::Limits,
    model::{ChannelName, Epoch, Seq},
    telemetry::Metrics,
};

impl Hub {
    /// One channel, if there is such a one.
    pub fn channel(&self, name: &ChannelName) -> Option<ChannelInfo> {
        let backend = &self.shared.backend;
        backend.directory().find(name).map(|entry| backend.info(&entry))
    }

    /// Up to `limit` channels after the name `after`, in the order of their names.
    pub fn channels(&self, after: Option<&str>, limit: usize) -> Vec<ChannelInfo> {
        self.channels_where(after, limit, |_| true)
    }

    /// The same of those channels that are wanted.
    pub fn channels_where(
        &self,
        after: Option<&str>,
        limit: usize,
        wanted: impl Fn(&ChannelName) -> bool,
    ) -> Vec<ChannelInfo> {
        let backend = &self.shared.backend;
        let page = backend.directory().page(after, limit, wanted);
        page.iter().map(|entry| backend.info(entry)).collect()
    }

    /// The limits it runs with.
    pub fn limits(&self) -> &Limits {
        self.shared.limits()
    }

    /// The incarnation of its log.
    pub fn epoch(&self) -> Epoch {
        self.shared.backend.epoch()
    }

    /// The newest event in its log.
    pub fn head(&self) -> Seq {
        self.shared.backend.head()
    }

    /// The hub's clock: milliseconds since 1970 that never go back.
    pub fn now_ms(&self) -> u64 {
        self.shared.clock.now_ms()
    }

    /// Counts a token that a front door has refused, by the word for why.
    pub fn count_refused_token(&self, reason: &'static str) {
        Metrics::count(&self.shared.metrics.tokens_refused, reason);
    }

    /// Its metrics, as Prometheus scrapes them.
    pub fn metrics(&self) -> String {
        self.shared.metrics.render()
    }

    /// What it counts, for the layers around it to count on.
    pub(crate) fn counters(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// How many streams and polls have been admitted and have not ended.
    pub fn connections_admitted(&self) -> u32 {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Whether it takes publishes and subscriptions.
    pub fn is_ready(&self) -> bool {
        !self.shared.is_draining() && self.shared.fatal.borrow().is_none()
    }

    /// Waits until the hub can go on no longer, and says why. Whoever runs it should end the
    /// process and let the service manager start it anew.
    pub async fn failed(&self) -> String {
        let mut fatal = self.shared.fatal.subscribe();
        let why = fatal.wait_for(Option::is_some).await;
        why.ok().and_then(|why| why.clone()).unwrap_or_default()
    }
}
