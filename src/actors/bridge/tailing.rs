//! Follows the log, and shows its events in their order. What it shows is continuous: it never skips an
//! event without the clients' being sent a gap.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    arguments::BridgeArguments,
    backoff::Backoff,
    loading::{Loader, PAGE_EVENTS_MIN, next_count},
    times::{FOLLOW_ANSWER_MAX, FOLLOW_WAIT},
};
use crate::{
    actors::{
        committer::Prepared,
        seen::Seen,
        shared_stage::{Condition, SharedStage},
        submission::cost,
    },
    model::{EventKind, Seq},
    redis::{Entry, Fence, LogState, RedisError, RedisLog},
};

/// What follows the log.
pub(super) struct Tail {
    arguments: BridgeArguments,
    stage: Arc<SharedStage>,
    loader: Loader,
}

/// What has become of the log since it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Continuity {
    /// It goes on where this hub has it.
    Whole,
    /// What comes next for this hub has been removed.
    FellOff,
    /// It has lost what this hub has shown.
    Lost,
    /// Another hub has found that, and begun a later epoch.
    Replaced,
}

impl Tail {
    pub(super) fn new(arguments: BridgeArguments, stage: Arc<SharedStage>) -> Self {
        let loader = Loader {
            store: Arc::clone(arguments.log.store()),
            clock: arguments.clock,
            closed_ms: stage.append_limits.closed_ms,
        };
        Self { arguments, stage, loader }
    }

    /// Follows, over one connection after the other.
    pub(super) async fn follow_forever(self) {
        if self.stage.has_halted() {
            // In a bridge before this one, and for good: subscriptions and publishes are refused.
            return self.end_connections().await;
        }
        let (mut backoff, mut logged) = (Backoff::default(), String::new());
        loop {
            let error = match RedisLog::connect(&self.stage.options.redis).await {
                Ok(mut log) => self.follow(&mut log, &mut backoff).await,
                Err(error) => error,
            };
            if error.ends_following() {
                return self.halt(&error).await;
            }
            self.stage.metrics.count_disconnect();
            self.stage.go_away();
            // A permanent error later in an outage is another one than what it began with.
            let text = error.to_string();
            if backoff.is_first() || error.is_permanent() && text != logged {
                logged = text;
                tracing::warn!(
                    backend = %self.stage.options.redis.address,
                    error = &error as &dyn std::error::Error,
                    "the log that hubs share is away; clients stay, and publishes wait and are then \
                     refused"
                );
            }
            sleep(backoff.next()).await;
        }
    }

    /// Shows and appends nothing more: what comes next cannot be read. Clients go on at a hub that can.
    async fn halt(&self, error: &RedisError) {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "this hub follows the shared log no further, and is not ready; replace it by a version \
             that can read it"
        );
        self.arguments.lifecycle.become_unready();
        self.stage.halt();
        self.end_connections().await;
    }

    async fn end_connections(&self) {
        loop {
            // Again and again: a subscription that was admitted before may attach late.
            self.arguments.shards.end_all().await;
            sleep(HALTED_PAUSE).await;
        }
    }

    /// Follows until the connection is of no use.
    async fn follow(&self, log: &mut RedisLog, backoff: &mut Backoff) -> RedisError {
        let mut count = PAGE_EVENTS_MIN;
        // After each reconnect, and whenever there is nothing new: a server that was emptied says nothing
        // by itself.
        let (mut is_due, mut is_torn) = (true, false);
        loop {
            if is_due {
                if let Err(error) = self.check(log, is_torn).await {
                    return error;
                }
                if !backoff.is_first() {
                    tracing::info!("the log that hubs share is back");
                    backoff.reset();
                }
                self.stage.set_condition(Condition::Following);
            }
            // There is one once the log was looked at.
            let Some(fence) = self.stage.fence() else {
                return RedisError::Unexpected("the state of the log");
            };
            (is_due, is_torn) =
                match log.follow(fence.seq, count, FOLLOW_WAIT, FOLLOW_ANSWER_MAX).await {
                    Ok(entries) if entries.is_empty() => (true, false),
                    Ok(entries) => {
                        count = next_count(&entries, count);
                        let is_torn = !self.show(fence, entries).await;
                        (is_torn, is_torn)
                    }
                    Err(error) => return error,
                };
        }
    }

    /// Looks whether the log goes on where this hub has it; if it does not, or if what came last did not
    /// follow, loads it anew.
    async fn check(&self, log: &mut RedisLog, is_torn: bool) -> Result<(), RedisError> {
        // A load that broke off is begun again. What it had loaded counts as what was shown.
        let is_loaded = self.stage.fence().is_some();
        let seen = self.stage.seen();
        let state = log.state(seen.fence.seq).await?;
        let continuity = continuity(&state, &seen);
        if continuity == Continuity::Whole && !state.is_vouched {
            match log.vouch(seen.fence.epoch).await {
                // A server that takes no writes for now can be followed. The next look tries again.
                Err(error @ (RedisError::Refused(_) | RedisError::Full)) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "not vouched for");
                }
                vouched => vouched?,
            }
        }
        match continuity {
            Continuity::Whole if is_loaded && !is_torn => {
                self.stage.follows(log.run());
                return Ok(());
            }
            // A load that broke off, which was logged when it began.
            Continuity::Whole if !is_loaded => {}
            Continuity::Whole => {
                tracing::warn!(
                    "an entry of the shared log does not follow the one before it; this hub loads the \
                     log again, and its clients reconnect"
                );
            }
            Continuity::FellOff => {
                if is_loaded {
                    self.stage.metrics.count_change("fell_off");
                }
                tracing::warn!(
                    "entries that this hub had not read were removed from the shared log; its clients \
                     reconnect and get a gap: raise backend.events_max or backend.bytes_max, or find \
                     out why this hub is slow"
                );
            }
            Continuity::Replaced => {
                self.stage.metrics.count_change("epoch");
                tracing::warn!(
                    "the shared log has another epoch; this hub's clients reconnect and get a gap"
                );
            }
            Continuity::Lost => {
                self.loader.begin_epoch(log, state.epoch, Some(seen)).await?;
                self.stage.metrics.count_change("epoch");
                tracing::error!(
                    "the server of the shared log has lost events; it goes on in another epoch, \
                     and clients get a gap"
                );
            }
        }
        // Where nothing can be compared, a start of the server counts as a loss.
        let is_lost = match continuity {
            Continuity::Whole => false,
            Continuity::FellOff => !state.is_vouched,
            Continuity::Replaced | Continuity::Lost => true,
        };
        self.load_anew(log, seen, is_lost).await
    }

    /// Ends all connections, whose clients then come back with their positions, and loads the log.
    async fn load_anew(
        &self,
        log: &mut RedisLog,
        seen: Seen,
        is_lost: bool,
    ) -> Result<(), RedisError> {
        self.stage.begin_loading(is_lost);
        self.stage.follows(log.run());
        let store = &self.loader.store;
        self.loader.begin(log, Some(seen)).await?;
        // A reader finds from now on that events are lost, at any position. What it is sent is a position of
        // the epoch that was: one of the new epoch would claim what is loaded below it.
        let lost_through = seen.highest.next();
        store.reset(seen.fence.epoch, lost_through, lost_through);
        self.arguments.shards.end_all().await;
        #[cfg(test)]
        self.stage.loading_held().await;
        let fence = self.loader.load(log, Some(seen), |fence| self.stage.has_loaded(fence)).await?;
        if fence.epoch < seen.fence.epoch || fence.seq < seen.highest {
            // The next look finds that, and another epoch begins.
            return Err(RedisError::Unexpected("the numbers of the shared log went back"));
        }
        // A subscription that was admitted before has attached while the log was half loaded; it would go
        // on at the next event that is shown.
        self.arguments.shards.end_all().await;
        self.stage.has_shown(fence);
        Ok(())
    }

    /// Shows entries that follow `fence`; false if they do not.
    async fn show(&self, mut fence: Fence, entries: Vec<(Seq, Entry)>) -> bool {
        let mut prepared = Prepared::default();
        let mut costs = 0;
        let mut entries = entries.into_iter().peekable();
        while let Some((seq, entry)) = entries.next() {
            // Each entry names the one before it: so another log below a living connection is noticed.
            if seq != fence.seq.next() || entry.previous != fence.nonce {
                return false;
            }
            if let Some(traced) = self.stage.found(&entry.nonce, fence.epoch, seq) {
                prepared.trace.get_or_insert_default().publishes.push(traced);
            }
            costs += cost(&entry.draft);
            fence = Fence { seq, nonce: Some(entry.nonce), ..fence };
            let is_closing = entry.kind == EventKind::Closed;
            let (entry, event) = self.loader.event(fence.epoch, seq, entry, false);
            prepared.events.push((entry, Arc::new(event)));
            let follows =
                |(next, entry): &(Seq, Entry)| *next == seq.next() && entry.previous == fence.nonce;
            let is_last = !entries.peek().is_some_and(follows);
            // A channel may be open again right behind its close, which is shown by then.
            if is_closing || is_last || prepared.events.len() >= SHOWN_EVENTS_MAX {
                let permit = self.stage.show_permit(costs).await;
                let mut prepared = std::mem::take(&mut prepared);
                prepared.now = self.arguments.clock.now();
                // Those of publishers are free again with their answers.
                let permits;
                (prepared.answers, permits) = self.stage.answers_through(seq);
                prepared.permits = vec![permit];
                if !self.arguments.log.show_prepared(prepared) {
                    return false;
                }
                drop(permits);
                self.stage.has_shown(fence);
                costs = 0;
            }
        }
        true
    }
}

fn continuity(state: &LogState, seen: &Seen) -> Continuity {
    let fence = &seen.fence;
    match state.epoch {
        None => return Continuity::Lost,
        // An older copy, or a hub that knew of no other epoch has begun that one.
        Some(epoch) if epoch < fence.epoch || state.last < seen.highest => return Continuity::Lost,
        Some(epoch) if epoch != fence.epoch => return Continuity::Replaced,
        Some(_) => {}
    }
    let is_cut = state.first.is_some_and(|first| first > fence.seq.next());
    match (fence.nonce, state.nonce) {
        // No event has that seq: what comes next is continuous, or is not.
        (None, _) if is_cut => Continuity::FellOff,
        (None, _) => Continuity::Whole,
        (Some(own), Some(found)) if own == found => Continuity::Whole,
        (Some(_), Some(_)) => Continuity::Lost,
        (Some(_), None) if state.first.is_some_and(|first| first > fence.seq) => {
            Continuity::FellOff
        }
        (Some(_), None) => Continuity::Lost,
    }
}

/// Between two times that all connections of a hub that follows no further are ended.
const HALTED_PAUSE: Duration = Duration::from_secs(1);
/// Events shown at once.
const SHOWN_EVENTS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Epoch;

    #[test]
    fn a_log_goes_on_only_where_its_entry_is_the_same() {
        let epoch = Epoch::new(2, 1);
        let nonce = |n: u8| Some([n; 8]);
        let fence = Fence { epoch, seq: Seq(8), nonce: nonce(8) };
        let seen = Seen { fence, highest: Seq(8) };
        let state = LogState {
            epoch: Some(epoch),
            last: Seq(9),
            first: Some(Seq(3)),
            nonce: nonce(8),
            is_vouched: true,
        };
        for (state, expected) in [
            (state, Continuity::Whole),
            (LogState { nonce: nonce(7), ..state }, Continuity::Lost),
            (LogState { nonce: None, ..state }, Continuity::Lost),
            (LogState { nonce: None, first: Some(Seq(8)), ..state }, Continuity::Lost),
            (LogState { nonce: None, first: Some(Seq(9)), ..state }, Continuity::FellOff),
            (LogState { last: Seq(7), nonce: None, ..state }, Continuity::Lost),
            (LogState { nonce: None, first: None, ..state }, Continuity::Lost),
            (LogState { epoch: Some(Epoch::new(3, 1)), ..state }, Continuity::Replaced),
            (LogState { epoch: Some(Epoch::new(3, 1)), last: Seq(7), ..state }, Continuity::Lost),
            (LogState { epoch: Some(Epoch::new(1, 1)), ..state }, Continuity::Lost),
            (LogState { epoch: None, ..state }, Continuity::Lost),
        ] {
            assert_eq!(continuity(&state, &seen), expected, "{state:?}");
        }
        // Half loaded, in an epoch that begins above all before.
        let half = Seen { highest: Seq(10), ..seen };
        assert_eq!(continuity(&state, &half), Continuity::Lost);
        let seen = Seen { fence: Fence { nonce: None, ..fence }, ..seen };
        let first = |first| LogState { nonce: None, first, ..state };
        assert_eq!(continuity(&first(None), &seen), Continuity::Whole);
        assert_eq!(continuity(&first(Some(Seq(9))), &seen), Continuity::Whole);
        assert_eq!(continuity(&first(Some(Seq(10))), &seen), Continuity::FellOff);
    }
}
