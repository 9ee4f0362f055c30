//! Opens the log that several hubs share, and restores the histories from it.

use std::{error::Error, sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{
    actors::{BackendOptions, Clock, Loader, SharedStage},
    backend::{EventStore, Registry},
    core::Limits,
    model::Epoch,
    redis::{BackendTarget, Fence, RedisError, RedisLog, Run},
    telemetry::{BackendMetrics, with_causes},
};

/// Loads the log. Retries while the storage server cannot be reached; fails at once on a permanent
/// error.
pub(super) async fn open_shared(
    options: BackendOptions,
    limits: &Limits,
    (registry, clock): (Arc<Registry>, Clock),
    metrics: Arc<BackendMetrics>,
    epoch: Epoch,
) -> Result<(Arc<EventStore>, Arc<SharedStage>), String> {
    let address = options.redis.address.clone();
    // The loader replaces this epoch with that of the log.
    let store = Arc::new(EventStore::new(epoch, limits.history.total_bytes_max, registry));
    let closed_ms = u64::from(limits.channels.tombstone_s) * 1_000;
    let loader = Loader { store: Arc::clone(&store), clock, closed_ms };
    let mut attempts = 0_u32;
    let (fence, run) = loop {
        match load(&options, &loader).await {
            Ok(loaded) => break loaded,
            Err(error) if error.is_permanent() => {
                return Err(format!("{address}: {}", with_causes(&error)));
            }
            Err(error) => {
                if attempts.is_multiple_of(WARNED_EVERY) {
                    tracing::warn!(
                        backend = %address,
                        error = &error as &dyn Error,
                        "cannot load the shared log; the hub starts once its server can be used; \
                         retrying"
                    );
                }
                attempts += 1;
                sleep(fastrand::u32(50..=100) * AGAIN / 100).await;
            }
        }
    };
    tracing::info!(
        backend = %address,
        namespace = options.redis.namespace,
        head = %store.position(fence.seq),
        bytes = store.bytes(),
        "the shared log is loaded"
    );
    let loaded = (fence, run);
    let stage = SharedStage::new(options, &limits.publish, &limits.channels, metrics, loaded);
    Ok((store, Arc::new(stage)))
}

async fn load(options: &BackendOptions, loader: &Loader) -> Result<(Fence, Run), RedisError> {
    let mut log = RedisLog::connect(&options.redis).await?;
    let fence = loader.load(&mut log, None, |_| {}).await?;
    let replicas = log.unguarded_replicas();
    // A master of a cluster that is cut off from the others stops by itself.
    let is_cluster = matches!(options.redis.address.target, BackendTarget::Cluster { .. });
    if replicas > 0 && !is_cluster {
        tracing::warn!(
            replicas,
            "Redis has replicas and takes writes without them: if one takes over while this master is \
             cut off, what both acknowledge meanwhile is lost at one of them. Set \
             min-replicas-to-write and min-replicas-max-lag in Redis (docs/scaling.md)"
        );
    }
    Ok((fence, Run::clone(log.run())))
}

/// The longest pause between two attempts to reach the server.
const AGAIN: Duration = Duration::from_millis(500);
/// One attempt in this many is logged.
const WARNED_EVERY: u32 = 20;
