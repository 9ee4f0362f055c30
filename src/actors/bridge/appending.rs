//! Appends publishes of this hub to the shared log: one append at a time, while the next publishes
//! gather.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::backoff::Backoff;
use crate::{
    actors::{shared_stage::SharedStage, submission::AppendError},
    redis::{Appended, RedisError, RedisLog},
};

/// Appends, over one connection after the other.
pub(super) async fn append_forever(stage: Arc<SharedStage>) {
    let mut backoff = Backoff::default();
    stage.queue.end_append();
    loop {
        let error = match RedisLog::connect(&stage.options.redis).await {
            Ok(mut log) => append_on(&stage, &mut log, &mut backoff).await,
            Err(error) => error,
        };
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "cannot append to the shared log; publishes wait; reconnecting"
        );
        sleep(backoff.next()).await;
    }
}

/// Appends until the connection fails, or should no longer be used.
async fn append_on(stage: &SharedStage, log: &mut RedisLog, backoff: &mut Backoff) -> RedisError {
    // A server that lost power, or whose network is cut, does not close the connection. So watch
    // for outages of the connection that follows the log.
    let mut outages = stage.following.outages();
    loop {
        let has_work = async {
            stage.following.wait_for_fence().await;
            stage.queue.filled().await;
        };
        tokio::select! {
            biased;
            _ = outages.changed() => {
                return RedisError::Unexpected("the connection that follows the log has broken");
            }
            error = log.ended() => return error,
            () = has_work => {}
        }
        if !stage.is_followed(log.run()) {
            return RedisError::Unexpected("a server other than the one that is followed");
        }
        let Some(fence) = stage.following.fence() else { continue };
        let mut batch = stage.take_batch();
        if batch.is_empty() {
            continue;
        }
        let new: Vec<_> =
            batch.iter_mut().map(|publish| std::mem::take(&mut publish.new)).collect();
        let began = Instant::now();
        let result = log.append(&fence, &stage.append_limits, &new).await;
        let events: usize = new.iter().map(|new| new.entries.len()).sum();
        for (publish, new) in batch.iter_mut().zip(new) {
            publish.new = new;
        }
        let error = match &result {
            Ok(Appended::Done { .. }) => None,
            Ok(Appended::Fenced) => Some("fenced"),
            Err(RedisError::Full) => Some("full"),
            Err(_) => Some("unavailable"),
        };
        let times = (began, Instant::now());
        let server = &stage.options.redis.address;
        batch.iter().for_each(|publish| publish.trace_append(server, times, events, error));
        match result {
            Ok(Appended::Done { outcomes, last, kept, kept_bytes }) => {
                stage.metrics.observe_append(events, began.elapsed());
                stage.metrics.observe_kept(kept, kept_bytes);
                stage.resolve(batch, (fence.epoch, log.run()), outcomes, last);
                if !stage.is_followed(log.run()) {
                    return RedisError::Unexpected("a server other than the one that is followed");
                }
                backoff.reset();
            }
            // The tail finds out why. It may have left this server for another one.
            Ok(Appended::Fenced) => {
                stage.put_back(batch);
                return RedisError::Unexpected("another state of the log");
            }
            Err(RedisError::Full) => stage.refuse(batch, &AppendError::StorageFull),
            Err(error) if error.leaves_outcome_open() => {
                stage.leave_unresolved(batch);
                return error;
            }
            Err(error) => {
                stage.put_back(batch);
                return error;
            }
        }
    }
}
