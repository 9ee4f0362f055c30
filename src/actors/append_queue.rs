//! Publishes that wait until the bridge appends them to the shared log, in order.
//!
//! Bounded by the permits of publishes in flight, in events and in bytes.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::pending_append::PendingAppend;
use crate::telemetry::BackendMetrics;

/// The queue, and the append that is under way.
pub(super) struct AppendQueue {
    state: Mutex<State>,
    arrived: Notify,
    batch_events_max: usize,
    metrics: Arc<BackendMetrics>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<PendingAppend>,
    /// Publishes of the append under way.
    appending: usize,
    has_stopped: bool,
    /// A test holds back the next append.
    #[cfg(test)]
    is_held: bool,
}

impl AppendQueue {
    /// An empty queue. An append takes up to `batch_events_max` events, or one publish.
    pub(super) fn new(batch_events_max: u32, metrics: Arc<BackendMetrics>) -> Self {
        let batch_events_max = batch_events_max as usize;
        Self { state: Mutex::default(), arrived: Notify::new(), batch_events_max, metrics }
    }

    /// Queues a publish; returns it if the queue has stopped.
    pub(super) fn push(&self, publish: PendingAppend) -> Option<PendingAppend> {
        let mut state = self.state.lock();
        if state.has_stopped {
            return Some(publish);
        }
        state.queue.push_back(publish);
        self.metrics.observe_queued(state.queue.len());
        drop(state);
        self.arrived.notify_one();
        None
    }

    /// Waits for publishes. Cancelling it has no effect.
    pub(super) async fn filled(&self) {
        loop {
            if self.state.lock().has_work() {
                return;
            }
            self.arrived.notified().await;
        }
    }

    /// Begins an append: takes as many of the next publishes as one append takes.
    pub(super) fn take_batch(&self) -> Vec<PendingAppend> {
        let mut state = self.state.lock();
        let (mut batch, mut events, mut bytes) = (Vec::new(), 0, 0);
        while state.has_work()
            && let Some(next) = state.queue.front()
        {
            events += next.new.entries.len();
            bytes += next.bytes;
            if !batch.is_empty() && (events > self.batch_events_max || bytes > APPEND_BYTES_MAX) {
                break;
            }
            batch.extend(state.queue.pop_front());
        }
        state.appending = batch.len();
        self.metrics.observe_queued(state.queue.len());
        batch
    }

    /// Notes that no append is under way.
    pub(super) fn end_append(&self) {
        self.state.lock().appending = 0;
    }

    /// Ends an append that did not happen: its publishes are the next ones. Returns them if the
    /// queue has stopped.
    pub(super) fn put_back(&self, batch: Vec<PendingAppend>) -> Vec<PendingAppend> {
        let mut state = self.state.lock();
        state.appending = 0;
        if state.has_stopped {
            return batch;
        }
        for publish in batch.into_iter().rev() {
            state.queue.push_front(publish);
        }
        self.metrics.observe_queued(state.queue.len());
        Vec::new()
    }

    /// Removes the publishes that have waited for `wait_max`.
    pub(super) fn take_expired(&self, wait_max: Duration) -> Vec<PendingAppend> {
        let now = Instant::now();
        let mut expired = Vec::new();
        let mut state = self.state.lock();
        while let Some(first) = state.queue.front()
            && now.duration_since(first.queued_at) >= wait_max
        {
            expired.extend(state.queue.pop_front());
        }
        if !expired.is_empty() {
            self.metrics.observe_queued(state.queue.len());
        }
        expired
    }

    /// Takes no publish from now on; returns those that wait.
    pub(super) fn stop(&self) -> VecDeque<PendingAppend> {
        let mut state = self.state.lock();
        state.has_stopped = true;
        self.metrics.observe_queued(0);
        mem::take(&mut state.queue)
    }

    /// Whether nothing waits and no append is under way.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.queue.is_empty() && state.appending == 0
    }

    #[cfg(test)]
    pub(super) fn hold(&self, is_held: bool) {
        self.state.lock().is_held = is_held;
        self.arrived.notify_one();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state.lock().queue.len()
    }
}

impl State {
    fn has_work(&self) -> bool {
        #[cfg(test)]
        if self.is_held {
            return false;
        }
        !self.queue.is_empty()
    }
}

/// Bytes of one append; a larger publish is an append by itself.
const APPEND_BYTES_MAX: usize = 256 << 10;
