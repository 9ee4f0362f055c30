//! Follows the log, and shows its events in their order. It skips an event only if the clients are
//! sent a gap.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{
    arguments::BridgeArguments,
    backoff::Backoff,
    loading::{Loader, PAGE_EVENTS_MIN, next_count},
    times::{CHECK_INTERVAL, CHECK_TIME_MAX, FOLLOW_ANSWER_MAX, FOLLOW_WAIT},
};
use crate::{
    actors::{committer::Prepared, seen::Seen, shared_stage::SharedStage, submission::cost},
    backend::LostThrough,
    model::{EventKind, Seq},
    redis::{Entry, Fence, LogState, RedisError, RedisLog},
    telemetry::with_causes,
};

/// The task that follows the log.
pub(super) struct Tail {
    arguments: BridgeArguments,
    stage: Arc<SharedStage>,
    loader: Loader,
}

/// How the log compares with what this hub has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Continuity {
    /// It contains this hub's newest entry.
    Whole,
    /// Entries that this hub has not read were trimmed.
    FellOff,
    /// It lacks an entry that this hub has shown.
    Lost,
    /// Another hub began a later epoch.
    Replaced,
}

/// What the tail does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It reads the next entries.
    Read,
    /// It checks the log: after each reconnect, and whenever there is nothing new, since a server
    /// that was emptied does not report it.
    Check,
    /// The last page was not continuous. It checks the log, and reloads it.
    Reload,
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
        if self.stage.following.has_halted() {
            // An earlier bridge has halted, which is final: subscriptions and publishes are
            // refused.
            return self.end_connections().await;
        }
        let (mut backoff, mut logged) = (Backoff::default(), Vec::new());
        loop {
            let error = match RedisLog::connect(&self.stage.options.redis).await {
                Ok(mut log) => self.follow(&mut log, &mut backoff).await,
                Err(error) => error,
            };
            if error.ends_following() {
                return self.halt(&error).await;
            }
            self.stage.metrics.count_disconnect();
            self.stage.following.go_away();
            if !backoff.has_failed() {
                logged.clear();
            }
            // Log each error of an outage once. The first one often says only that the connection
            // broke, and the next one why a new connection fails. Their numbers, such as seconds
            // since an expiry, differ with each attempt.
            let text = with_causes(&error);
            let text: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
            if !logged.contains(&text) {
                if logged.len() >= LOGGED_MAX {
                    logged.clear();
                }
                logged.push(text);
                tracing::warn!(
                    backend = %self.stage.options.redis.address,
                    error = &error as &dyn std::error::Error,
                    "cannot follow the shared log: open connections stay, and publishes get 503 after \
                     limits.publish.wait_ms; retrying{}",
                    match error.is_permanent() {
                        true => ". Check the server, its ACL and the settings backend.*",
                        false => "",
                    }
                );
            }
            sleep(backoff.next()).await;
        }
    }

    /// Stops following and appending, since the next entry cannot be read, and ends connections so
    /// that clients reconnect to another hub.
    async fn halt(&self, error: &RedisError) {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "cannot read an entry of the shared log: this hub has stopped following it, and is not \
             ready. Upgrade it; or, if no hub has written the entry, remove that and restart the hub"
        );
        self.arguments.lifecycle.become_unready();
        self.stage.halt();
        self.end_connections().await;
    }

    async fn end_connections(&self) {
        loop {
            // Repeat it: a subscription that was admitted earlier may attach late.
            self.arguments.shards.end_all().await;
            sleep(HALTED_PAUSE).await;
        }
    }

    /// Follows until the connection fails.
    async fn follow(&self, log: &mut RedisLog, backoff: &mut Backoff) -> RedisError {
        let mut count = PAGE_EVENTS_MIN;
        let mut next = Next::Check;
        let mut checked = Instant::now();
        loop {
            if next != Next::Read {
                let is_discontinuous = next == Next::Reload;
                if let Err(error) = self.check(log, is_discontinuous).await {
                    return error;
                }
                self.stage.following.resume();
                checked = Instant::now();
            }
            // There is one once the log was checked.
            let Some(fence) = self.stage.following.fence() else {
                return RedisError::Unexpected("the state of the log");
            };
            let entries = match log.follow(fence.seq, count, FOLLOW_WAIT, FOLLOW_ANSWER_MAX).await {
                Ok(entries) => entries,
                Err(error) => return error,
            };
            // Not once the log was checked: a server may answer that and refuse to be read, so
            // attempts would follow each other without growing pauses.
            if backoff.has_failed() {
                tracing::info!("following the shared log again");
                backoff.reset();
            }
            next = if entries.is_empty() {
                Next::Check
            } else {
                count = next_count(&entries, count);
                match self.show(fence, entries).await {
                    true if checked.elapsed() < CHECK_INTERVAL => Next::Read,
                    true => Next::Check,
                    false => Next::Reload,
                }
            };
        }
    }

    /// Compares the log with what this hub has shown, and vouches for it if the server was
    /// restarted and it is whole.
    async fn look(
        &self,
        log: &mut RedisLog,
        seen: &Seen,
    ) -> Result<(LogState, Continuity), RedisError> {
        log.check_role().await?;
        let state = log.state(seen.fence.seq).await?;
        let continuity = continuity(&state, seen);
        if continuity == Continuity::Whole && !state.is_vouched {
            match log.vouch(seen.fence.epoch).await {
                // A server that takes no writes for now can be followed. The next check tries
                // again.
                Err(error @ (RedisError::Refused(_) | RedisError::Full)) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "could not record in Redis that this run has all events; trying again"
                    );
                }
                vouched => vouched?,
            }
        }
        Ok((state, continuity))
    }

    /// Compares the log with what this hub has shown. Reloads it if they differ, or if the last
    /// page was not continuous (`is_discontinuous`).
    async fn check(&self, log: &mut RedisLog, is_discontinuous: bool) -> Result<(), RedisError> {
        // If the previous load failed, load again; clients may have received what it loaded.
        let is_loaded = self.stage.following.fence().is_some();
        let seen = self.stage.seen();
        let (state, continuity) = match timeout(CHECK_TIME_MAX, self.look(log, &seen)).await {
            Ok(looked) => looked?,
            Err(_) => return Err(RedisError::timed_out(CHECK_TIME_MAX)),
        };
        match continuity {
            Continuity::Whole if is_loaded && !is_discontinuous => {
                self.stage.set_followed_run(log.run());
                return Ok(());
            }
            // The previous load failed; it was logged when it began.
            Continuity::Whole if !is_loaded => {}
            Continuity::Whole => {
                tracing::warn!(
                    "an entry of the shared log does not name the one before it: reloading the log; all \
                     clients reconnect"
                );
            }
            Continuity::FellOff => {
                if is_loaded {
                    self.stage.metrics.count_change("fell_off");
                }
                tracing::warn!(
                    "entries that this hub had not read were trimmed from the shared log: reloading it; \
                     all clients reconnect, and get a gap where events may be lost. Raise \
                     backend.events_max or backend.bytes_max, or find out why this hub is slow"
                );
            }
            Continuity::Replaced => {
                self.stage.metrics.count_change("epoch");
                tracing::warn!(
                    "the shared log has a new epoch: reloading it; all clients reconnect and get a gap"
                );
            }
            Continuity::Lost => {
                self.loader.begin_epoch(log, state.epoch, Some(seen)).await?;
                self.stage.metrics.count_change("epoch");
                tracing::error!(
                    "Redis has lost events of the shared log: beginning a new epoch; all clients \
                     reconnect and get a gap"
                );
            }
        }
        // Without an entry to compare, a restart of the server is treated as a loss.
        let is_lost = match continuity {
            Continuity::Whole => false,
            Continuity::FellOff => !state.is_vouched,
            Continuity::Replaced | Continuity::Lost => true,
        };
        self.reload(log, seen, is_lost).await
    }

    /// Ends all connections, whose clients reconnect with their positions, and loads the log.
    async fn reload(
        &self,
        log: &mut RedisLog,
        seen: Seen,
        is_lost: bool,
    ) -> Result<(), RedisError> {
        self.stage.begin_loading(is_lost);
        self.stage.set_followed_run(log.run());
        let store = &self.loader.store;
        self.loader.begin(log, Some(seen)).await?;
        // From here every read reports a loss. Positions sent until the connections end still have
        // the old epoch: one of the new epoch would claim events that are not loaded yet.
        let lost_through = seen.highest.next();
        store.reset(seen.fence.epoch, LostThrough::any(lost_through), lost_through);
        self.arguments.shards.end_all().await;
        #[cfg(test)]
        self.stage.loading_held().await;
        let fence =
            self.loader.load(log, Some(seen), |fence| self.stage.note_loaded(fence)).await?;
        if fence.epoch < seen.fence.epoch || fence.seq < seen.highest {
            // The next check finds that, too, and begins another epoch.
            return Err(RedisError::Unexpected("the numbers of the shared log went back"));
        }
        // End connections that attached during the load: they read a half-loaded history and would
        // silently skip the rest.
        self.arguments.shards.end_all().await;
        self.stage.note_shown(fence);
        Ok(())
    }

    /// Shows entries that follow `fence`; false if one does not follow.
    async fn show(&self, mut fence: Fence, entries: Vec<(Seq, Entry)>) -> bool {
        let mut prepared = Prepared::default();
        let mut costs = 0;
        let mut entries = entries.into_iter().peekable();
        while let Some((seq, entry)) = entries.next() {
            // Each entry names the one before it, so a log that was replaced under a living
            // connection is noticed.
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
            // A channel may be reopened right after its close, so show the close first.
            if is_closing || is_last || prepared.events.len() >= SHOWN_EVENTS_MAX {
                let permit = self.stage.show_permit(costs).await;
                let mut prepared = std::mem::take(&mut prepared);
                prepared.now = self.arguments.clock.now();
                // The publishers' permits are released once they are answered.
                let permits;
                (prepared.answers, permits) = self.stage.answers_through(seq);
                prepared.permits = vec![permit];
                if !self.arguments.log.show_prepared(prepared) {
                    return false;
                }
                drop(permits);
                self.stage.note_shown(fence);
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
        // The server has an older copy of the log, or a hub that had seen no later epoch began this
        // one.
        Some(epoch) if epoch < fence.epoch || state.last < seen.highest => return Continuity::Lost,
        Some(epoch) if epoch != fence.epoch => return Continuity::Replaced,
        Some(_) => {}
    }
    let is_cut = state.first.is_some_and(|first| first > fence.seq.next());
    match (fence.nonce, state.nonce) {
        // The log has no entry of this seq to compare with. `show` checks the link of the next
        // entry.
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

/// Errors of one outage that are logged.
const LOGGED_MAX: usize = 8;
/// How often a halted hub ends its connections again.
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
            unindexed: None,
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
        // A load that failed half way, in an epoch that begins above all earlier ones.
        let half = Seen { highest: Seq(10), ..seen };
        assert_eq!(continuity(&state, &half), Continuity::Lost);
        let seen = Seen { fence: Fence { nonce: None, ..fence }, ..seen };
        let first = |first| LogState { nonce: None, first, ..state };
        assert_eq!(continuity(&first(None), &seen), Continuity::Whole);
        assert_eq!(continuity(&first(Some(Seq(9))), &seen), Continuity::Whole);
        assert_eq!(continuity(&first(Some(Seq(10))), &seen), Continuity::FellOff);
    }
}
