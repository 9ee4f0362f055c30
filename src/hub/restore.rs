//! Opens the log on disk and restores the histories from it.

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::log_counter::{Counted, LogCounter};
use crate::{
    actors::ReadLimits,
    backend::{DirectoryFull, EventStore, LoadError, Registry},
    core::{ChannelPolicies, Limits},
    disk::{
        DataDir, LocalDirectory, LogRetention, OpenError, OpenLog, Recovery, RemovedLimits,
        StoredKey, SyncPolicy, TransientChannels,
    },
    model::Epoch,
    telemetry::DiskMetrics,
};

/// The log of a hub on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskOptions {
    /// Its directory, which is created if it does not exist.
    pub directory: PathBuf,
    /// When events are fsynced.
    pub sync: SyncPolicy,
    /// Bytes of one segment.
    pub segment_bytes: u64,
    /// Bytes of all segments, above which the oldest are removed; 0 means unlimited.
    pub bytes_max: u64,
    /// The longest time that a segment is kept; zero is without limit.
    pub age_max: Duration,
    /// The limits of readers of history that is not in memory.
    pub reads: ReadLimits,
}

impl DiskOptions {
    /// The default options for a directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            sync: SyncPolicy::Always,
            segment_bytes: 64 << 20,
            bytes_max: 10 << 30,
            age_max: Duration::ZERO,
            reads: ReadLimits::default(),
        }
    }
}

/// An open log, and what was read from it.
pub(super) struct Restored {
    pub(super) store: Arc<EventStore>,
    pub(super) log: OpenLog<LocalDirectory>,
    /// The idempotency keys of its events.
    pub(super) keys: VecDeque<StoredKey>,
    /// The transient channels, of this process and of earlier ones.
    pub(super) transient: TransientChannels,
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum RestoreError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot note which channels are transient: {0}")]
    Transient(#[from] io::Error),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("its channels do not fit: {0}; raise limits.channels.channels_max")]
    Channels(#[from] DirectoryFull),
}

/// Opens the log, and reads all of it. Its events are counted; the newest ones, up to the ceiling
/// of memory, are then read once more and stay there. Blocks.
pub(super) fn restore(
    options: &DiskOptions,
    limits: &Limits,
    registry: &Arc<Registry>,
    policies: &ChannelPolicies,
    metrics: &DiskMetrics,
    new_epoch: Epoch,
    now_ms: u64,
) -> Result<Restored, RestoreError> {
    let started = Instant::now();
    let directory = DataDir::open(&options.directory)?;
    if let Some(doubt) = directory.doubtful_file_system() {
        tracing::warn!("data_dir is on {doubt}");
    }
    let identity = directory.identity();
    let recovery = Recovery::start(directory.into_directory(), identity, new_epoch)?;
    let bytes_max = limits.history.total_bytes_max;
    let store = EventStore::new(recovery.epoch(), bytes_max, Arc::clone(registry));
    let store = Arc::new(store.on_disk_from(recovery.first()));
    if policies.transient_patterns().next().is_some() {
        store.expect_transient();
    }
    let mut counter = LogCounter::new(&store, limits, now_ms);
    let before = recovery.transient()?;
    counter.begin_with(recovery.removed())?;
    let retention = LogRetention {
        bytes_max: options.bytes_max,
        age_max_ms: options.age_max.as_millis() as u64,
        removed: RemovedLimits {
            // Channels that are open have lost events too.
            channels_max: limits.channels.forgotten_max as usize
                + limits.channels.channels_max as usize,
            closed_ms: u64::from(limits.channels.tombstone_s) * 1_000,
            closed_max: limits.channels.tombstones_max as usize,
            keys_ms: u64::from(limits.publish.idempotency_s) * 1_000,
            keys_max: limits.publish.idempotency_keys_max as usize,
        },
    };
    let log =
        recovery.open(options.segment_bytes, retention, now_ms, |item| counter.count(&item))?;
    let Counted { outlines, keys, events, last_hole } = counter.finish(log.report.last)?;
    outlines.load(&log.reader, log.report.last, now_ms)?;
    let transient = before.clone().start(last_hole, policies.transient_patterns());
    if transient != before {
        log.status.note_transient(&transient)?;
    }
    let lost: Vec<_> =
        transient.lost().map(|(pattern, through)| (pattern.clone(), through)).collect();
    if !lost.is_empty() {
        store.lose_transient(lost);
    }
    let took = started.elapsed();
    metrics.observe_recovery(took, events, log.report.torn_bytes);
    tracing::info!(
        events,
        segments = log.report.segments,
        bytes = log.report.bytes,
        torn_bytes = log.report.torn_bytes,
        was_closed = log.report.was_closed,
        ms = took.as_millis() as u64,
        "the log was read"
    );
    Ok(Restored { store, log, keys, transient })
}
