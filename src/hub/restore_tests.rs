//! A log is counted at a start, and most of its events are never made: what comes of it is held
//! against a start that makes them all and shows them one after the other.

use std::{collections::VecDeque, path::Path, sync::Arc};

use fastrand::Rng;

use super::restore::{DiskOptions, RestoreError, restore};
use crate::{
    backend::{ChannelEntry, DirectoryFull, EventStore, Registry},
    core::{ChannelPolicies, ChannelRule, HistoryLimits, IdempotencyKey, Limits},
    disk::{
        DataDir, LogRetention, Recovered, RecoveredEvent, Recovery, RemovedLimits, StoredKey,
        TransientChannels,
    },
    model::{ChannelName, ChannelPattern, Draft, Epoch, Event, EventKind, NewEvent, Position, Seq},
    telemetry::Metrics,
};

#[test]
fn a_log_that_is_counted_leaves_what_one_leaves_whose_events_are_all_shown() {
    let seeds = std::env::var("VISNYK_RESTORE_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let mut seen = Seen::default();
    for seed in 0..seeds.unwrap_or(50) {
        let directory = tempfile::tempdir().expect("a directory");
        check(&mut Rng::with_seed(seed), directory.path(), seed, &mut seen);
    }
    // The logs were of all kinds.
    let Seen { full, unloaded, evicted, closed, skipped, too_old, all_in_memory } = seen;
    let counts = [full, unloaded, evicted, closed, skipped, too_old, all_in_memory];
    assert!(counts.iter().all(|count| *count >= 3), "{counts:?}");
}

/// How many logs had what.
#[derive(Default)]
struct Seen {
    full: u32,
    unloaded: u32,
    evicted: u32,
    closed: u32,
    skipped: u32,
    too_old: u32,
    all_in_memory: u32,
}

fn check(rng: &mut Rng, path: &Path, seed: u64, seen: &mut Seen) {
    let limits = limits(rng);
    let policies = policies(rng, &limits);
    let was_closed = write_log(rng, path, &limits, &policies);
    let now_ms = BEGIN_MS + rng.u64(1..400) * 1_000;

    let registry = || Arc::new(Registry::with_policies(&limits, policies.clone()));
    let wanted = show_all(path, &limits, &policies, registry(), now_ms);
    let options = DiskOptions { segment_bytes: SEGMENT_BYTES, ..DiskOptions::new(path) };
    let metrics = Metrics::new().disk.clone();
    let registry = registry();
    let epoch = Epoch::new(9, 9);
    let restored = restore(&options, &limits, &registry, &policies, &metrics, epoch, now_ms);
    let (wanted, restored) = match (wanted, restored) {
        (Err(_), Err(RestoreError::Channels(_))) => {
            seen.full += 1;
            return;
        }
        (wanted, restored) => (
            wanted.unwrap_or_else(|full| panic!("{seed}: {full}")),
            restored.unwrap_or_else(|error| panic!("{seed}: {error}")),
        ),
    };
    let head = restored.log.report.last;
    let Loader { store: reference, keys, .. } = wanted.finish(&restored.transient, head);
    assert_eq!(restored.keys, keys, "{seed}");
    let names: Vec<_> = (0..CHANNELS).map(name).collect();
    let same = |when: &str| {
        let (found, wanted) = (restored.store.snapshot(&names), reference.snapshot(&names));
        for (line, (found, wanted)) in found.lines().zip(wanted.lines()).enumerate() {
            assert_eq!(found, wanted, "seed {seed}, {when}, line {line}");
        }
        assert_eq!(found, wanted, "seed {seed}, {when}");
    };
    same("after the start");
    seen.unloaded += u32::from(restored.store.unloaded_through() > Seq::ZERO);
    seen.all_in_memory += u32::from(restored.store.unloaded_through() == Seq::ZERO);
    seen.skipped += u32::from(!was_closed);
    let truncated = |entry: &ChannelEntry| entry.events().is_truncated();
    seen.evicted += registry.directory().select(usize::MAX, truncated).len() as u32;
    let closed = |entry: &ChannelEntry| entry.events().is_closed();
    seen.closed += registry.directory().select(usize::MAX, closed).len() as u32;
    seen.too_old += u32::from(registry.directory().len() < CHANNELS as usize / 4);

    // Both go on in the same way.
    let mut seq = head;
    let steps = rng.u64(0..60);
    for step in 0..steps {
        seq = seq.next();
        let (channel, data) = (name(rng.u32(0..CHANNELS)), "y".repeat(rng.usize(0..200)));
        for store in [&restored.store, &reference] {
            let directory = store.registry().directory();
            let Ok(entry) = directory.find_or_create(&channel, now_ms) else { continue };
            if entry.events().is_closed() {
                store.reopen(&entry);
            }
            let event = event(store.epoch(), seq, &channel, now_ms + step, &data);
            store.append(&entry, &Arc::new(event));
            store.commit(seq);
            if step % 7 == 3 {
                while store.evict_due(&entry, now_ms + 20_000) {}
            }
            if step % 11 == 5 {
                store.evict_removed(&channel, Seq(seq.0 / 2), 100);
            }
        }
        if step % 5 == 0 {
            same("later");
        }
    }
    same("at the end");
}

fn limits(rng: &mut Rng) -> Limits {
    let history = HistoryLimits {
        events_max: rng.u32(1..30),
        age_max_s: rng.u32(1..600),
        bytes_max: rng.u64(200..5_000),
        total_bytes_max: rng.u64(300..30_000),
    };
    let mut limits = Limits { history, ..Limits::default() };
    if rng.bool() {
        (limits.history.events_max, limits.history.bytes_max) = (u32::MAX, 1 << 40);
    }
    limits.channels.channels_max = if rng.u8(..4) == 0 { rng.u32(2..8) } else { 100 };
    limits.channels.forgotten_max = rng.u32(0..6);
    limits.channels.tombstones_max = rng.u32(1..4);
    limits.channels.tombstone_s = rng.u32(1..400);
    limits.publish.idempotency_keys_max = rng.u32(1..10);
    limits.publish.idempotency_s = rng.u32(1..400);
    limits
}

fn policies(rng: &mut Rng, limits: &Limits) -> ChannelPolicies {
    let pattern = |text| ChannelPattern::parse(text).expect("a pattern");
    let mut rules = Vec::new();
    if rng.bool() {
        rules.push(ChannelRule {
            events_max: Some(rng.u32(1..60)),
            age_max_s: Some(rng.u32(1..600)),
            ..ChannelRule::new(pattern("odd/*"))
        });
    }
    if rng.bool() {
        let rule = ChannelRule::new(pattern("even/4"));
        rules.push(ChannelRule { durable: Some(false), ..rule });
    }
    ChannelPolicies::new(limits, rules)
}

/// Writes a log in some processes. Whether the last one has closed it.
fn write_log(rng: &mut Rng, path: &Path, limits: &Limits, policies: &ChannelPolicies) -> bool {
    let mut was_closed = true;
    let mut now_ms = BEGIN_MS;
    for _ in 0..rng.u32(1..4) {
        let directory = DataDir::open(path).expect("a directory");
        let identity = directory.identity();
        let recovery = Recovery::start(directory.into_directory(), identity, Epoch::new(1, 1));
        let recovery = recovery.expect("a log");
        let epoch = recovery.epoch();
        let retention = LogRetention {
            bytes_max: 0,
            age_max_ms: 0,
            removed: RemovedLimits {
                channels_max: 4,
                closed_ms: u64::from(limits.channels.tombstone_s) * 1_000,
                closed_max: 3,
                keys_ms: u64::from(limits.publish.idempotency_s) * 1_000,
                keys_max: 5,
            },
        };
        let before = recovery.transient().expect("it can be read");
        let opened = recovery.open(SEGMENT_BYTES, retention, 0, |item| item.recover().map(drop));
        let mut log = opened.expect("it opens");
        let hole = log.report.last;
        let transient = before.start(hole, policies.transient_patterns());
        log.status.note_transient(&transient).expect("noted");
        let mut seq = hole;
        let channels = rng.u32(1..=CHANNELS);
        for _ in 0..rng.u32(0..40) {
            now_ms += rng.u64(0..8_000);
            log.keeper.work(&Seq(seq.0.saturating_sub(rng.u64(0..400))), now_ms).expect("a spare");
            log.writer.begin();
            for _ in 0..rng.u32(1..4) {
                // What was given out to events of transient channels is a hole.
                seq.0 += if rng.u8(..20) == 0 { rng.u64(1..20) } else { 0 };
                log.writer.continue_at(seq.next(), now_ms).expect("written");
                let events = rng.usize(1..3);
                if rng.u8(..4) == 0 {
                    let scope = rng.u64(..).to_le_bytes();
                    log.writer.add_key(&IdempotencyKey::new(&[&scope], &[]), events);
                }
                for _ in 0..events {
                    seq = seq.next();
                    let channel = name(rng.u32(0..channels));
                    let mut event =
                        event(epoch, seq, &channel, now_ms, &"x".repeat(rng.usize(0..200)));
                    if rng.u8(..12) == 0 {
                        event.kind = EventKind::Closed;
                        let draft = Draft::closed(channel.as_str());
                        event.frame = draft.finish(event.position());
                    }
                    log.writer.add(&event);
                }
            }
            log.writer.write(now_ms).expect("written");
        }
        log.keeper.work(&Seq::ZERO, now_ms).expect("a spare");
        was_closed = rng.u8(..3) > 0;
        if was_closed {
            log.writer.close().expect("closed");
        } else {
            log.writer.sync().expect("durable");
        }
    }
    was_closed
}

fn event(epoch: Epoch, seq: Seq, channel: &ChannelName, at_ms: u64, data: &str) -> Event {
    Event::published(Position { epoch, seq }, channel, at_ms, &NewEvent::message(data))
}

fn name(index: u32) -> ChannelName {
    let half = ["even", "odd"][index as usize % 2];
    ChannelName::parse(&format!("{half}/{index}")).expect("a name")
}

/// Reads a log, and changes nothing of it.
fn show_all(
    path: &Path,
    limits: &Limits,
    policies: &ChannelPolicies,
    registry: Arc<Registry>,
    now_ms: u64,
) -> Result<Loader, DirectoryFull> {
    let directory = DataDir::open_existing(path).expect("a directory");
    let identity = directory.identity();
    let recovery = Recovery::start(directory.into_directory(), identity, Epoch::new(9, 9));
    let recovery = recovery.expect("a log");
    let store = EventStore::new(recovery.epoch(), limits.history.total_bytes_max, registry);
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
    };
    let removed = recovery.removed();
    store.registry().directory().restore_losses(removed.lost(), removed.unnamed());
    for (channel, seq, closed_ms) in removed.closed() {
        let closed_ms = closed_ms.min(now_ms);
        if closed_ms + loader.tombstone_ms > now_ms {
            let entry = loader.find_or_create(channel)?;
            store.restore_closed(&entry, seq, closed_ms);
            loader.expire_excess_tombstones();
        }
    }
    for key in removed.keys() {
        loader.key(*key);
    }
    let mut full = None;
    let read = recovery.read(|item| {
        if full.is_none() {
            full = loader.load(item).err();
        }
    });
    read.expect("it is whole");
    full.map_or(Ok(loader), Err)
}

/// Puts the events of a log into the histories, one after the other.
struct Loader {
    store: Arc<EventStore>,
    keys: VecDeque<StoredKey>,
    keys_max: usize,
    tombstone_ms: u64,
    keys_from_ms: u64,
    now_ms: u64,
}

impl Loader {
    /// The log goes on behind `head`.
    fn finish(self, transient: &TransientChannels, head: Seq) -> Self {
        self.store.skip_to(head);
        let lost: Vec<_> =
            transient.lost().map(|(pattern, through)| (pattern.clone(), through)).collect();
        if !lost.is_empty() {
            self.store.lose_transient(lost);
        }
        self
    }

    fn load(&mut self, item: Recovered) -> Result<(), DirectoryFull> {
        let recovered = match item {
            Recovered::Key(key) => {
                self.key(key);
                return Ok(());
            }
            Recovered::Event(event) => event,
        };
        let RecoveredEvent { seq, kind, .. } = recovered;
        // What has a time after now was accepted by a clock that was ahead.
        let time_ms = recovered.time_ms.min(self.now_ms);
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
        let event = Event { accepted_ms: time_ms, ..self.store.restore(recovered) };
        self.store.append(&entry, &Arc::new(event));
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
        event.time_ms.min(self.now_ms) + u64::from(policy.history.age_max_s) * 1_000 <= self.now_ms
    }

    /// Finds or creates the channel. If the directory is full, channels without retained events are
    /// evicted.
    fn find_or_create(&self, name: &ChannelName) -> Result<Arc<ChannelEntry>, DirectoryFull> {
        let directory = self.store.registry().directory();
        match directory.find_or_create(name, self.now_ms) {
            Err(_) => {
                let is_idle =
                    |entry: &ChannelEntry| !entry.events().is_closed() && entry.is_removable();
                for entry in directory.select(usize::MAX, is_idle) {
                    directory.evict(entry);
                }
                directory.find_or_create(name, self.now_ms)
            }
            found => found,
        }
    }

    /// Reopens the channels with the oldest tombstones past the cap, as the hub did before it
    /// ended.
    fn expire_excess_tombstones(&self) {
        for entry in self.store.registry().tombstones().take_excess() {
            self.store.reopen(&entry);
        }
    }

    fn key(&mut self, key: StoredKey) {
        let key = StoredKey { time_ms: key.time_ms.min(self.now_ms), ..key };
        if key.time_ms >= self.keys_from_ms {
            if self.keys.len() >= self.keys_max {
                self.keys.pop_front();
            }
            self.keys.push_back(key);
        }
    }
}

const CHANNELS: u32 = 12;
const SEGMENT_BYTES: u64 = 2_048;
const BEGIN_MS: u64 = 1_000_000;
