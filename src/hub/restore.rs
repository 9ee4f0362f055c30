//! Opens the log on disk and restores the histories from it.

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    actors::ReadLimits,
    backend::{ChannelEntry, DirectoryFull, EventStore, Registry},
    core::{ChannelPolicies, Limits},
    disk::{
        DataDir, LocalDirectory, LogRetention, OpenError, OpenLog, Recovered, RecoveredEvent,
        Recovery, RemovedLimits, StoredKey, SyncPolicy, TransientChannels,
    },
    model::{ChannelName, Epoch, EventKind, Seq},
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
    /// Bytes of all segments; past it the oldest are removed; 0 is without limit.
    pub bytes_max: u64,
    /// How long a segment is kept at most; zero is without limit.
    pub age_max: Duration,
    /// What readers of history that is not in memory may cost.
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
    /// Which channels are transient, and were.
    pub(super) transient: TransientChannels,
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum RestoreError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot note which channels are transient: {0}")]
    Transient(#[from] io::Error),
    #[error("its channels do not fit: {0}; raise limits.channels.channels_max")]
    Channels(#[from] DirectoryFull),
}

/// Opens the log, and reads all of it: the newest events, up to the ceiling of memory, stay there.
/// Blocks.
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
    let mut loader = Loader {
        store: Arc::clone(&store),
        keys: VecDeque::new(),
        keys_max: limits.publish.idempotency_keys_max as usize,
        tombstone_ms: u64::from(limits.channels.tombstone_s) * 1_000,
        keys_from_ms: now_ms.saturating_sub(u64::from(limits.publish.idempotency_s) * 1_000),
        now_ms,
        events: 0,
        last: Seq::ZERO,
        last_hole: Seq::ZERO,
    };
    let before = recovery.transient()?;
    let removed = recovery.removed();
    registry.directory().restore_losses(removed.lost(), removed.unnamed());
    for (channel, seq, closed_ms) in removed.closed() {
        if closed_ms + loader.tombstone_ms > now_ms {
            let entry = loader.find_or_create(channel)?;
            store.restore_closed(&entry, seq, closed_ms);
            loader.expire_excess_tombstones();
        }
    }
    for key in removed.keys() {
        loader.key(*key);
    }
    let retention = LogRetention {
        bytes_max: options.bytes_max,
        age_max_ms: options.age_max.as_millis() as u64,
        removed: RemovedLimits {
            // Channels that are open have lost events too.
            channels_max: limits.channels.forgotten_max as usize
                + limits.channels.channels_max as usize,
            closed_ms: loader.tombstone_ms,
            closed_max: limits.channels.tombstones_max as usize,
            keys_ms: u64::from(limits.publish.idempotency_s) * 1_000,
            keys_max: limits.publish.idempotency_keys_max as usize,
        },
    };
    let mut full = None;
    let log = recovery.open(options.segment_bytes, retention, |item| {
        let item = item.recover()?;
        if full.is_none() {
            full = loader.load(item).err();
        }
        Some(())
    })?;
    if let Some(full) = full {
        return Err(full.into());
    }
    store.skip_to(log.report.last);
    loader.come_to(log.report.last.next());
    let transient = before.clone().start(loader.last_hole, policies.transient_patterns());
    if transient != before {
        log.status.note_transient(&transient)?;
    }
    let lost: Vec<_> =
        transient.lost().map(|(pattern, through)| (pattern.clone(), through)).collect();
    if !lost.is_empty() {
        store.lose_transient(lost);
    }
    let took = started.elapsed();
    metrics.observe_recovery(took, loader.events, log.report.torn_bytes);
    tracing::info!(
        events = loader.events,
        segments = log.report.segments,
        bytes = log.report.bytes,
        torn_bytes = log.report.torn_bytes,
        was_closed = log.report.was_closed,
        ms = took.as_millis() as u64,
        "the log was read"
    );
    Ok(Restored { store, log, keys: loader.keys, transient })
}

/// Puts the events of the log into the histories.
struct Loader {
    store: Arc<EventStore>,
    /// The latest keys, at most `keys_max`.
    keys: VecDeque<StoredKey>,
    keys_max: usize,
    tombstone_ms: u64,
    keys_from_ms: u64,
    now_ms: u64,
    events: u64,
    last: Seq,
    /// The last seq that is given out and not in the log.
    last_hole: Seq,
}

impl Loader {
    /// The next event has this seq.
    fn come_to(&mut self, seq: Seq) {
        if seq.0 > self.last.0 + 1 {
            self.last_hole = Seq(seq.0 - 1);
        }
        self.last = seq;
    }

    fn load(&mut self, item: Recovered) -> Result<(), DirectoryFull> {
        let recovered = match item {
            Recovered::Key(key) => {
                self.key(key);
                return Ok(());
            }
            Recovered::Event(event) => event,
        };
        self.events += 1;
        self.come_to(recovered.seq);
        let RecoveredEvent { seq, time_ms, kind, .. } = recovered;
        let directory = self.store.registry().directory();
        let is_tombstone = kind == EventKind::Closed && time_ms + self.tombstone_ms > self.now_ms;
        if directory.find(&recovered.channel).is_none() && self.is_too_old(&recovered) {
            // Retention would evict the event at once, so its channel is not created for it.
            directory.restore_losses([(&recovered.channel, seq)], Seq::ZERO);
            if is_tombstone {
                let entry = self.find_or_create(&recovered.channel)?;
                self.store.restore_closed(&entry, seq, time_ms);
                self.expire_excess_tombstones();
            }
            return Ok(());
        }
        let entry = self.find_or_create(&recovered.channel)?;
        if entry.events().is_closed() {
            // An event after the close: the channel had been created again.
            self.store.reopen(&entry);
        }
        // Its events share the channel's name.
        let recovered = RecoveredEvent { channel: entry.name().clone(), ..recovered };
        self.store.append(&entry, &Arc::new(self.store.restore(recovered)));
        self.store.commit(seq);
        if is_tombstone {
            self.expire_excess_tombstones();
        } else if kind == EventKind::Closed {
            self.store.reopen(&entry);
        }
        Ok(())
    }

    /// Whether the event is older than its channel's retention.
    fn is_too_old(&self, event: &RecoveredEvent) -> bool {
        let policy = self.store.registry().directory().policy_of(&event.channel);
        event.time_ms + u64::from(policy.history.age_max_s) * 1_000 <= self.now_ms
    }

    /// Finds or creates the channel. If the directory is full, channels without retained events are
    /// evicted.
    fn find_or_create(&self, name: &ChannelName) -> Result<Arc<ChannelEntry>, DirectoryFull> {
        let directory = self.store.registry().directory();
        match directory.find_or_create(name, self.now_ms) {
            Err(_) => {
                let is_idle =
                    |entry: &ChannelEntry| !entry.events().is_closed() && entry.is_removable();
                for entry in directory.select(EVICTED_AT_ONCE, is_idle) {
                    directory.evict(entry);
                }
                directory.find_or_create(name, self.now_ms)
            }
            found => found,
        }
    }

    /// Reopens the channels with the oldest tombstones past the cap, as the hub did before it ended.
    fn expire_excess_tombstones(&self) {
        for entry in self.store.registry().tombstones().take_excess() {
            self.store.reopen(&entry);
        }
    }

    fn key(&mut self, key: StoredKey) {
        if key.time_ms >= self.keys_from_ms {
            if self.keys.len() >= self.keys_max {
                self.keys.pop_front();
            }
            self.keys.push_back(key);
        }
    }
}

/// Channels that are evicted at once when the directory is full.
const EVICTED_AT_ONCE: usize = 4_096;
