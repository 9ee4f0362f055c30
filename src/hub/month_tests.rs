//! A month of writes in simulated time: what is in the directory and in memory stays within bounds
//! that follow from the settings alone. `VISNYK_MONTHS` is another number of months.

use std::{collections::BTreeMap, sync::Arc};

use super::log_counter::{Counted, LogCounter};
use crate::{
    actors::StoredHistories,
    backend::{EventStore, Registry},
    core::{ChannelPolicies, ChannelRule, HistoryLimits, IdempotencyKey, Limits},
    disk::{
        LogRetention, LogSearch, OpenLog, Planted, Recovery, RemovedLimits, SimulatedDisk, Stop,
        plant,
    },
    model::{ChannelName, ChannelPattern, Draft, Epoch, Event, EventKind, NewEvent, Position, Seq},
};

#[test]
fn a_month_of_writes_under_a_limit_of_age_stays_within_its_bounds() {
    run(Kept { age_max_h: 48, bytes_max: 0 }, None).unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn a_month_of_writes_under_a_limit_of_bytes_stays_within_its_bounds() {
    let kept = Kept { age_max_h: 0, bytes_max: 100_000 };
    run(kept, None).unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn segments_that_stay_are_found_within_the_month() {
    find(Planted::SegmentsStay, "segments");
}

#[test]
fn indexes_that_stay_are_found_within_the_month() {
    find(Planted::IndexesStay, "indexes without a segment");
}

#[test]
fn a_losses_file_that_grows_is_found_within_the_month() {
    find(Planted::LossesGrow, "losses file");
}

fn find(mistake: Planted, excess: &str) {
    for kept in [Kept { age_max_h: 48, bytes_max: 0 }, Kept { age_max_h: 0, bytes_max: 100_000 }] {
        let fault = run(kept, Some(mistake)).expect_err("a fault");
        assert!(fault.contains(excess), "{fault}");
    }
}

/// What the log as a whole keeps; 0 is without limit.
#[derive(Clone, Copy)]
struct Kept {
    age_max_h: u64,
    bytes_max: u64,
}

/// Runs hour by hour, with a start of the hub now and then. The fault is the first size beyond its
/// bound.
fn run(kept: Kept, mistake: Option<Planted>) -> Result<(), String> {
    fastrand::seed(1);
    plant(mistake);
    let months = std::env::var("VISNYK_MONTHS").ok().and_then(|months| months.parse().ok());
    let hours = 30 * 24 * months.unwrap_or(1_u64);
    let mut month = Month::new(kept);
    let mut process = month.start()?;
    for hour in 0..hours {
        month.write(&mut process, hour);
        month.upkeep(&process);
        month.check(&process, hour)?;
        if hour % HOURS_BETWEEN_STARTS == HOURS_BETWEEN_STARTS - 1 {
            month.stop(process, hour / HOURS_BETWEEN_STARTS);
            process = month.start()?;
        }
    }
    plant(None);
    month.check_growth(hours)
}

struct Month {
    disk: SimulatedDisk,
    limits: Limits,
    policies: ChannelPolicies,
    kept: Kept,
    now_ms: u64,
    starts: u16,
    keys: u64,
    /// The largest value of each size, by day.
    peaks: BTreeMap<&'static str, Vec<usize>>,
}

/// A hub between two starts.
struct Process {
    store: Arc<EventStore>,
    histories: StoredHistories,
    log: OpenLog<SimulatedDisk>,
    last: Seq,
}

impl Month {
    fn new(kept: Kept) -> Self {
        let mut limits = Limits {
            history: HistoryLimits {
                events_max: 1_000,
                age_max_s: 12 * 3_600,
                bytes_max: 1 << 20,
                total_bytes_max: MEMORY_BYTES,
            },
            ..Limits::default()
        };
        limits.channels.channels_max = CHANNELS_MAX as u32;
        limits.channels.forgotten_max = FORGOTTEN_MAX as u32;
        limits.channels.tombstone_s = 12 * 3_600;
        limits.channels.tombstones_max = TOMBSTONES_MAX as u32;
        limits.publish.idempotency_keys_max = KEYS_MAX as u32;
        limits.publish.idempotency_s = 12 * 3_600;
        let rule = |pattern| ChannelRule::new(ChannelPattern::parse(pattern).expect("a pattern"));
        let year = Some(365 * 86_400);
        let rules = vec![
            ChannelRule { age_max_s: Some(6 * 3_600), ..rule("age/*") },
            ChannelRule { events_max: Some(40), age_max_s: year, ..rule("count/*") },
            ChannelRule { bytes_max: Some(8_192), age_max_s: year, ..rule("bytes/*") },
            // What is never used again, and whose own limits it never comes to.
            ChannelRule { age_max_s: year, ..rule("left/*") },
        ];
        let policies = ChannelPolicies::new(&limits, rules);
        let (now_ms, starts, keys) = (1_700_000_000_000, 0, 0);
        let (disk, peaks) = (SimulatedDisk::new(1), BTreeMap::new());
        Self { disk, limits, policies, kept, now_ms, starts, keys, peaks }
    }

    fn start(&mut self) -> Result<Process, String> {
        self.starts += 1;
        let epoch = Epoch::new(1, self.starts);
        let recovery = Recovery::start(self.disk.clone(), 7, epoch).expect("a log");
        let registry = Arc::new(Registry::with_policies(&self.limits, self.policies.clone()));
        let store = EventStore::new(recovery.epoch(), MEMORY_BYTES, registry);
        let store = Arc::new(store.on_disk_from(recovery.first()));
        let mut counter = LogCounter::new(&store, &self.limits, self.now_ms);
        counter.begin_with(recovery.removed()).expect("room for the channels");
        let retention = LogRetention {
            bytes_max: self.kept.bytes_max,
            age_max_ms: self.kept.age_max_h * HOUR_MS,
            removed: RemovedLimits {
                channels_max: LOST_MAX,
                closed_ms: u64::from(self.limits.channels.tombstone_s) * 1_000,
                closed_max: TOMBSTONES_MAX,
                keys_ms: u64::from(self.limits.publish.idempotency_s) * 1_000,
                keys_max: KEYS_MAX,
            },
        };
        let log = recovery
            .open(SEGMENT_BYTES, retention, self.now_ms, |item| counter.count(&item))
            .expect("it opens");
        // What would wait fails: there is one thread here.
        log.status.stop();
        log.reader.keep_in_memory(CACHE_BYTES as u64);
        let last = log.report.last;
        let Counted { outlines, keys, .. } = counter.finish(last).expect("room for the channels");
        let [channels, order] = outlines.sizes();
        let in_memory = MEMORY_BYTES as usize / Event::OVERHEAD_BYTES as usize;
        within("channels that are counted", channels, CHANNELS_MAX)?;
        within("events in the order of a start", order, 2 * in_memory + 9)?;
        within("idempotency keys", keys.len(), KEYS_MAX)?;
        outlines.load(&log.reader, last, self.now_ms).expect("it can be read");
        let histories = StoredHistories(Arc::clone(&store));
        Ok(Process { store, histories, log, last })
    }

    fn stop(&self, mut process: Process, count: u64) {
        match count % 3 {
            0 => process.log.writer.close().expect("it closes"),
            _ => process.log.writer.sync().expect("durable"),
        }
        self.disk.reboot(if count % 3 == 1 { Stop::PowerCut } else { Stop::Kill });
    }

    /// One hour: a batch every quarter of it.
    fn write(&mut self, process: &mut Process, hour: u64) {
        let day = hour / 24;
        for quarter in 0..4 {
            self.now_ms += HOUR_MS / 4;
            let mut events = Vec::new();
            for kind in ["age", "count", "bytes"] {
                for index in 0..3 {
                    let name = format!("{kind}/{index}");
                    events.extend([name.clone(), name].map(|name| (name, EventKind::Published)));
                }
            }
            match quarter {
                0 => events.push((format!("once/{hour}"), EventKind::Published)),
                1 => events.push((format!("day/{day}"), EventKind::Published)),
                2 if hour.is_multiple_of(3) => events.extend([
                    (format!("closed/{hour}"), EventKind::Published),
                    (format!("closed/{hour}"), EventKind::Closed),
                ]),
                3 if hour % 24 == 23 => events.push((format!("day/{day}"), EventKind::Closed)),
                2 if hour % 24 == 1 => events.push((format!("left/{day}"), EventKind::Published)),
                _ => {}
            }
            self.publish(process, events);
        }
        let first = process.log.reader.search(
            &LogSearch {
                after: Seq(process.last.0.saturating_sub(1 + 97 * (hour % 20))),
                through: process.last,
                events_max: 20,
                bytes_max: 8_192,
                channels: None,
                seqs: None,
            },
            |_, channel| ChannelName::parse(channel).ok(),
        );
        assert!(!first.expect("it can be read").events.is_empty());
    }

    /// Publishes a batch under one key, as the stages of a commit do.
    fn publish(&mut self, process: &mut Process, events: Vec<(String, EventKind)>) {
        let Process { store, histories, log, last } = process;
        log.keeper.work(histories, self.now_ms).expect("a spare");
        self.keys += 1;
        let key = IdempotencyKey::new(&[&self.keys.to_le_bytes()], &[]);
        log.writer.begin();
        log.writer.add_key(&key, events.len());
        let mut appended = Vec::with_capacity(events.len());
        for (channel, kind) in events {
            *last = last.next();
            let position = Position { epoch: store.epoch(), seq: *last };
            let draft = match kind {
                EventKind::Closed => Draft::closed(&channel),
                EventKind::Published => Draft::new(&NewEvent::message("x".repeat(100))),
            };
            let event = Arc::new(Event {
                seq: *last,
                epoch: position.epoch,
                time_ms: self.now_ms,
                accepted_ms: self.now_ms,
                channel: ChannelName::parse(&channel).expect("a name"),
                kind,
                frame: draft.finish(position),
            });
            log.writer.add(&event);
            appended.push(event);
        }
        let bytes = log.writer.batch_bytes();
        assert!((BATCH_BYTES_MIN..BATCH_BYTES_MAX).contains(&bytes), "{bytes}");
        log.writer.write(self.now_ms).expect("written");
        log.writer.sync().expect("durable");
        for event in &appended {
            let directory = store.registry().directory();
            let entry = directory.find_or_create(&event.channel, self.now_ms).expect("room");
            entry.touch(self.now_ms);
            store.append(&entry, event);
        }
        store.commit(*last);
    }

    /// What the channels' actors do.
    fn upkeep(&self, process: &Process) {
        let (store, now_ms) = (&process.store, self.now_ms);
        let channels = &self.limits.channels;
        let registry = store.registry();
        drop(registry.tombstones().take_excess());
        for entry in registry.directory().select(usize::MAX, |_| true) {
            while store.evict_due(&entry, now_ms) {}
            let tombstone_ms = u64::from(channels.tombstone_s) * 1_000;
            if entry.events().closed_ms().is_some_and(|at_ms| at_ms + tombstone_ms <= now_ms) {
                while store.evict_closed(&entry) {}
                store.reopen(&entry);
            }
            let idle_ms = u64::from(channels.idle_s) * 1_000;
            let is_idle = entry.used_ms() + idle_ms <= now_ms && !entry.events().is_closed();
            if is_idle && entry.is_removable() {
                registry.directory().evict(entry);
            }
        }
    }

    /// Compares each size with its bound.
    fn check(&mut self, process: &Process, hour: u64) -> Result<(), String> {
        let day = (hour / 24) as usize;
        let mut sizes = self.disk_sizes();
        sizes.extend(process.log.keeper.sizes());
        sizes.extend(process.store.sizes());
        for (what, size) in sizes {
            within(what, size, self.bound_of(what))
                .map_err(|fault| format!("hour {hour}: {fault}"))?;
            let days = self.peaks.entry(what).or_default();
            days.resize(day + 1, 0);
            days[day] = days[day].max(size);
        }
        Ok(())
    }

    fn disk_sizes(&self) -> Vec<(&'static str, usize)> {
        let files = self.disk.files();
        let ending = |end: &'static str| files.iter().filter(move |(name, _)| name.ends_with(end));
        let bytes = |end| ending(end).map(|(_, len)| *len as usize).sum::<usize>();
        let has_segment = |index: &str| files.contains_key(&index.replace(".index", ".log"));
        let of = |name: &str| files.get(name).copied().unwrap_or_default() as usize;
        let is_other = |name: &str| !name.ends_with(".log") && !name.ends_with(".index");
        let others = || files.iter().filter(|(name, _)| is_other(name));
        let small =
            others().filter(|(name, _)| !["spare", "reserve", "losses"].contains(&name.as_str()));
        vec![
            ("bytes of segments", bytes(".log")),
            ("segments", ending(".log").count()),
            ("bytes of indexes", bytes(".index")),
            (
                "indexes without a segment",
                ending(".index").filter(|(name, _)| !has_segment(name)).count(),
            ),
            ("bytes of the losses file", of("losses")),
            ("bytes of the reserve", of("reserve")),
            ("bytes of the spare segment", of("spare")),
            ("other files", others().count()),
            ("bytes of small files", small.map(|(_, len)| *len as usize).sum()),
        ]
    }

    /// None of these depends on how long the hub has been in use.
    fn bound_of(&self, what: &str) -> usize {
        // What is due goes with the next batch, and the segment that is written to is never
        // removed.
        let segments_bytes = match self.kept {
            Kept { age_max_h: 0, bytes_max } => bytes_max as usize + 3 * SEGMENT_BYTES as usize,
            Kept { age_max_h, .. } => {
                (age_max_h as usize + 2) * 4 * BATCH_BYTES_MAX + 2 * SEGMENT_BYTES as usize
            }
        };
        // A full one has room for less than a batch; each start begins another.
        let full = SEGMENT_BYTES as usize - BATCH_BYTES_MAX;
        let starts = self.hours_kept(segments_bytes) / HOURS_BETWEEN_STARTS as usize;
        let segments = segments_bytes / full + starts + 3;
        match what {
            "bytes of segments" => segments_bytes,
            "segments" | "sealed segments" => segments,
            "bytes of indexes" => segments * SEGMENT_BYTES as usize / 4,
            // A name takes at most 16 bytes, and numbers beside it 17; a key takes 52 bytes.
            "bytes of the losses file" => 64 + 33 * (LOST_MAX + TOMBSTONES_MAX) + 52 * KEYS_MAX,
            "bytes of the reserve" => 8 << 20,
            "bytes of the spare segment" => SEGMENT_BYTES as usize,
            "other files" => 8,
            "bytes of small files" => 512,
            "channels in the losses file" => LOST_MAX,
            "closed channels in the losses file" => TOMBSTONES_MAX,
            "keys in the losses file" => KEYS_MAX,
            "indexes without a segment" | "files to be removed" => 0,
            // Those of the batch that was written last.
            "indexes to be saved" => 1,
            "cached segments" => 32,
            "cached indexes" => segments,
            // Each has a batch at least.
            "cached blocks" => CACHE_BYTES / BATCH_BYTES_MIN + 1,
            // Nine that stay, one an hour and one each three hours for 12 hours, today's and
            // yesterday's, and those that were left as long as the log has their event.
            "channels" => 9 + 13 + 5 + 2 + self.hours_kept(segments_bytes) / 24 + 1,
            "names of evicted channels" => 2 * FORGOTTEN_MAX + 17,
            "tombstones" => TOMBSTONES_MAX,
            "channels in the ranking" => 2 * CHANNELS_MAX + 1_024 + 1,
            "events in the journal" => 16,
            "bytes of events in memory" => MEMORY_BYTES as usize,
            _ => unreachable!("{what} has no bound"),
        }
    }

    /// How many hours of writes fit into so many bytes at most.
    fn hours_kept(&self, bytes: usize) -> usize {
        bytes / (4 * BATCH_BYTES_MIN) + 1
    }

    /// The last week is like the second one.
    fn check_growth(&self, hours: u64) -> Result<(), String> {
        let last = (hours / 24) as usize - 7;
        for (what, days) in &self.peaks {
            let peak = |days: &[usize]| days.iter().max().copied().unwrap_or_default();
            let (early, late) = (peak(&days[7..14]), peak(&days[last..]));
            println!("{what}: {early}, then {late}; bound {}", self.bound_of(what));
            within(&format!("{what} in the last week"), late, early + early / 10 + 4)?;
        }
        Ok(())
    }
}

fn within(what: &str, size: usize, bound: usize) -> Result<(), String> {
    match size <= bound {
        true => Ok(()),
        false => Err(format!("{what}: {size}, and the bound is {bound}")),
    }
}

const HOUR_MS: u64 = 3_600_000;
const HOURS_BETWEEN_STARTS: u64 = 61;
const SEGMENT_BYTES: u64 = 16 << 10;
/// Of one quarter of an hour.
const BATCH_BYTES_MAX: usize = 3_000;
const BATCH_BYTES_MIN: usize = 2_500;
const MEMORY_BYTES: u64 = 64 << 10;
const CACHE_BYTES: usize = 32 << 10;
const CHANNELS_MAX: usize = 40;
const FORGOTTEN_MAX: usize = 20;
const TOMBSTONES_MAX: usize = 4;
const LOST_MAX: usize = 30;
const KEYS_MAX: usize = 12;
