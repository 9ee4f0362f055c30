//! A small hub on a simulated disk: it publishes, closes channels, removes segments, and is
//! stopped.

use std::sync::Arc;

use super::{
    super::{
        LogRetention, OpenError, OpenLog, Recovery, RemovedLimits, StoredKey, WriteError,
        planted::{self, Planted},
        simulated::{EIO, ENOSPC, Faults, SimulatedDisk, Stop, Swallowed},
    },
    history::{End, Fault, Found, History},
};
use crate::{
    core::IdempotencyKey,
    model::{ChannelName, Draft, Epoch, Event, EventKind, NewEvent, Position, Seq},
};

/// A mistake of the log, or of the disk in addition to the usual faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    /// The disk answers these calls and does not do them.
    Swallowed(Swallowed),
    /// The mistake is in the code.
    Planted(Planted),
    /// The mistake is in the code, and shows on a disk that lies.
    PlantedOnLyingDisk(Planted),
    /// During one process the disk lies about syncs, against which the log is powerless.
    LyingDisk,
}

impl Mistake {
    fn is_lie(self) -> bool {
        matches!(self, Self::LyingDisk | Self::PlantedOnLyingDisk(_))
    }
}

/// What happened in a run, so that a test can verify that it happened.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) events: u64,
    pub(super) starts: u64,
    pub(super) torn: u64,
    pub(super) closed: u64,
    pub(super) refused_starts: u64,
    pub(super) removals: u64,
    pub(super) full: u64,
    pub(super) room_again: u64,
    pub(super) transient: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.starts += other.starts;
        self.torn += other.torn;
        self.closed += other.closed;
        self.refused_starts += other.refused_starts;
        self.removals += other.removals;
        self.full += other.full;
        self.room_again += other.room_again;
        self.transient += other.transient;
    }
}

/// Runs this many processes one after the other, with chance from `seed`.
pub(super) fn run(
    seed: u64,
    generations: u32,
    mistake: Mistake,
    is_traced: bool,
) -> Result<Counts, Fault> {
    // For the seeds of segments.
    fastrand::seed(seed);
    planted::plant(match mistake {
        Mistake::Planted(planted) | Mistake::PlantedOnLyingDisk(planted) => Some(planted),
        _ => None,
    });
    let mut machine = Machine::new(seed, mistake);
    if is_traced {
        machine.disk.trace();
    }
    let mut end = End::First;
    let lying = machine.rng.u32(..generations);
    for generation in 0..generations {
        let Some(log) = machine.start(&mut end)? else {
            break;
        };
        if mistake.is_lie() {
            machine.disk.swallow((generation == lying).then_some(Swallowed::AllSyncs));
        }
        end = machine.process(log)?;
    }
    // The log that the last process left must be right too.
    machine.has_faults = false;
    machine.start(&mut end)?;
    planted::plant(None);
    Ok(machine.counts)
}

struct Machine {
    rng: fastrand::Rng,
    disk: SimulatedDisk,
    mistake: Mistake,
    has_faults: bool,
    history: History,
    counts: Counts,
    segment_bytes: u64,
    retention: LogRetention,
    has_little_room: bool,
    /// Events are shown once they are written, as with an interval between fsyncs.
    shows_at_once: bool,
    now_ms: u64,
    newest_ms: u64,
    retained_from: Seq,
    next: Seq,
    epoch: Epoch,
    starts: u16,
    keys: u64,
}

/// Why a process ended before its time.
enum Trouble {
    /// The log failed.
    Log(String),
    /// A check of the log failed.
    Fault(Fault),
}

impl From<WriteError> for Trouble {
    fn from(error: WriteError) -> Self {
        Self::Log(error.to_string())
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Machine {
    fn new(seed: u64, mistake: Mistake) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let disk = SimulatedDisk::new(rng.u64(..));
        let segment_bytes = rng.u64(500..4_000);
        let has_little_room = rng.u8(..4) == 0;
        if has_little_room {
            disk.limit_room((8 << 20) + segment_bytes * rng.u64(4..8));
        }
        if let Mistake::Swallowed(calls) = mistake {
            disk.swallow(Some(calls));
        }
        let shows_at_once = rng.u8(..4) == 0;
        let mut limit = |max: u64| if rng.bool() { 0 } else { rng.u64(1..max) };
        let retention = LogRetention {
            bytes_max: limit(8 * segment_bytes),
            age_max_ms: limit(2_000),
            removed: RemovedLimits {
                channels_max: rng.usize(1..8),
                closed_ms: rng.u64(1..2_000),
                closed_max: rng.usize(1..8),
                keys_ms: rng.u64(1..2_000),
                keys_max: rng.usize(1..20),
            },
        };
        let has_limits = retention.bytes_max > 0 || retention.age_max_ms > 0;
        let history = History::new(has_limits, mistake.is_lie());
        Self {
            rng,
            disk,
            mistake,
            has_faults: true,
            history,
            counts: Counts::default(),
            segment_bytes,
            retention,
            has_little_room,
            shows_at_once,
            now_ms: 1_000_000,
            newest_ms: 1_000_000,
            retained_from: Seq::ZERO,
            next: Seq(1),
            epoch: Epoch::new(1, 0),
            starts: 0,
            keys: 0,
        }
    }

    /// Starts until it succeeds; `None` if a lying disk prevents it.
    fn start(&mut self, end: &mut End) -> Result<Option<OpenLog<SimulatedDisk>>, Fault> {
        for attempt in 0..4 {
            if self.has_faults && attempt < 3 && self.rng.u8(..3) == 0 {
                self.plan_fault(60);
            }
            self.starts += 1;
            self.counts.starts += 1;
            match self.open(*end) {
                Ok(log) => return log.map(Some),
                Err(_) if self.disk.has_failed() => {}
                Err(OpenError::Damaged { .. } | OpenError::Foreign { .. })
                    if self.mistake.is_lie() =>
                {
                    self.counts.refused_starts += 1;
                    return Ok(None);
                }
                Err(error) => return Err(format!("it does not open: {error}")),
            }
            *end = match end {
                End::Closed | End::Unknown => End::Unknown,
                End::First | End::Crash => End::Crash,
            };
            self.reboot();
        }
        Err("it does not open without faults".into())
    }

    fn open(&mut self, end: End) -> Result<Result<OpenLog<SimulatedDisk>, Fault>, OpenError> {
        let recovery = Recovery::start(self.disk.clone(), 7, Epoch::new(1, self.starts))?;
        self.epoch = recovery.epoch();
        let removed = recovery.removed().clone();
        let mut items = Vec::new();
        let log = recovery.open(self.segment_bytes, self.retention, self.newest_ms, |item| {
            item.recover().map(|item| items.push(item))
        })?;
        self.counts.torn += u64::from(log.report.torn_bytes > 0);
        let found = Found {
            removed: &removed,
            items,
            report: log.report,
            epoch: self.epoch,
            now_ms: self.newest_ms,
            limits: self.retention.removed,
        };
        self.next = log.report.last.next();
        // Waits end with an error: the simulation has one thread.
        log.status.stop();
        Ok(self.history.check(end, found).map(|()| log))
    }

    /// One process, from its start to its end.
    fn process(&mut self, mut log: OpenLog<SimulatedDisk>) -> Result<End, Fault> {
        self.disk.plan(Faults::default());
        if self.rng.u8(..4) > 0 {
            self.plan_fault(400);
        }
        for _ in 0..self.rng.u32(1..30) {
            match self.step(&mut log) {
                Ok(()) => {}
                Err(Trouble::Log(_)) if self.disk.has_failed() => {
                    return self.end_after_failure(log);
                }
                Err(Trouble::Log(error)) => return Err(format!("without a fault: {error}")),
                Err(Trouble::Fault(fault)) => return Err(fault),
            }
        }
        if self.rng.bool() {
            drop(log);
            self.reboot();
            return Ok(End::Crash);
        }
        let end = match log.writer.close() {
            Ok(()) => {
                self.history.sync()?;
                self.counts.closed += 1;
                // On a full disk, the file that marks a clean end cannot be written.
                if self.has_little_room || self.disk.has_failed() {
                    End::Unknown
                } else {
                    End::Closed
                }
            }
            Err(_) if self.disk.has_failed() => End::Unknown,
            Err(error) => return Err(format!("it does not close: {error}")),
        };
        self.reboot();
        Ok(end)
    }

    /// After a failure no call may say that something is durable.
    fn end_after_failure(&mut self, mut log: OpenLog<SimulatedDisk>) -> Result<End, Fault> {
        self.disk.plan(Faults::default());
        let mut end = End::Crash;
        match self.rng.u8(..3) {
            0 if log.writer.sync().is_ok() => self.history.sync()?,
            1 if log.writer.close().is_ok() => {
                self.history.sync()?;
                end = End::Unknown;
            }
            _ => {}
        }
        self.reboot();
        Ok(end)
    }

    fn step(&mut self, log: &mut OpenLog<SimulatedDisk>) -> Result<(), Trouble> {
        match self.rng.u8(..32) {
            0 => self.now_ms += 1_000,
            1 => self.now_ms -= 500,
            2..8 => self.now_ms += self.rng.u64(..50),
            8..12 if self.history.last() > self.retained_from => {
                self.retained_from =
                    Seq(self.rng.u64(self.retained_from.0..=self.history.last().0));
            }
            12..16 => {
                log.writer.sync()?;
                self.history.sync()?;
            }
            // A start skips only a number of seqs, which a lying disk may exceed.
            16..20 if !self.mistake.is_lie() && !self.has_little_room => {
                self.publish_transient(log)?;
            }
            _ => {}
        }
        self.newest_ms = self.newest_ms.max(self.now_ms);
        let was_full = log.status.is_full();
        self.remove(log)?;
        // The hub refuses publishes then; here a write would wait for a keeper that does not run.
        if log.status.is_full() {
            self.counts.full += 1;
            self.retained_from = self.retained_from.max(self.history.last());
            return Ok(());
        }
        self.counts.room_again += u64::from(was_full);
        self.publish(log)?;
        if self.shows_at_once {
            self.history.show()?;
        }
        if self.rng.u8(..4) > 0 {
            log.writer.sync()?;
            self.history.sync()?;
        }
        Ok(())
    }

    fn remove(&mut self, log: &mut OpenLog<SimulatedDisk>) -> Result<(), Trouble> {
        self.history.may_remove(self.retained_from);
        let (before, _) = log.status.sealed();
        log.keeper
            .work(&self.retained_from, self.now_ms)
            .map_err(|error| Trouble::Log(error.to_string()))?;
        let (after, bytes) = log.status.sealed();
        self.counts.removals += (before - after) as u64;
        let bytes_max = self.retention.bytes_max;
        let is_too_much = bytes_max > 0 && bytes > bytes_max && after > 1;
        if is_too_much && before < 8 && !self.disk.has_failed() {
            return Err(Trouble::Fault(format!("{after} segments of {bytes} bytes are kept")));
        }
        Ok(())
    }

    /// Writes a batch of a few publishes.
    fn publish(&mut self, log: &mut OpenLog<SimulatedDisk>) -> Result<(), Trouble> {
        log.writer.begin();
        let mut first = self.next;
        let publishes = self.rng.u32(1..4);
        for publish in 0..publishes {
            if publish > 0 && !self.mistake.is_lie() && self.rng.u8(..8) == 0 {
                // Between two batches there may be a publish to transient channels.
                self.next = Seq(self.next.0 + self.rng.u64(1..4));
                self.history.end_batch();
                let mut result = log.writer.continue_at(self.next, self.now_ms);
                if matches!(result, Err(WriteError::Stopped)) {
                    let prepared = self.remove(log);
                    result = log.writer.continue_at(self.next, self.now_ms);
                    if matches!(result, Err(WriteError::Stopped)) {
                        self.next = self.history.take_back(first);
                        return prepared;
                    }
                }
                result?;
                first = self.next;
            }
            let events = self.rng.u32(1..4);
            let mut key = self.rng.bool().then(|| {
                self.keys += 1;
                let mut bytes = [0; IdempotencyKey::BYTES];
                bytes[..8].copy_from_slice(&self.keys.to_le_bytes());
                let key = IdempotencyKey::from_bytes(&bytes).expect("enough bytes");
                StoredKey { key, first: self.next, events, time_ms: self.now_ms }
            });
            if let Some(key) = &key {
                log.writer.add_key(&key.key, events as usize);
            }
            for event in 0..events {
                let is_last = publish + 1 == publishes && event + 1 == events;
                let event = self.event();
                log.writer.add(&event);
                self.history.write(event, key.take(), is_last);
                self.counts.events += 1;
            }
        }
        let mut result = log.writer.write(self.now_ms);
        if matches!(result, Err(WriteError::Stopped)) {
            // A batch that is larger than a segment waits for the keeper to allocate more.
            let prepared = self.remove(log);
            result = log.writer.write(self.now_ms);
            if matches!(result, Err(WriteError::Stopped)) {
                // The wait would last for ever.
                self.next = self.history.take_back(first);
                return prepared;
            }
        }
        Ok(result?)
    }

    /// Gives seqs to events that are not written, and shows the last of them.
    fn publish_transient(&mut self, log: &mut OpenLog<SimulatedDisk>) -> Result<(), Trouble> {
        // The events before them are durable by then.
        log.writer.sync()?;
        self.history.sync()?;
        self.next = Seq(self.next.0 + self.rng.u64(..2_000));
        let event = self.event();
        log.writer.give_out(event.seq)?;
        self.history.show_transient(event)?;
        self.counts.transient += 1;
        Ok(())
    }

    fn event(&mut self) -> Arc<Event> {
        let channel = format!("c{}", self.rng.u8(..10).min(self.rng.u8(..10)));
        let position = Position { epoch: self.epoch, seq: self.next };
        self.next = self.next.next();
        let len = match self.rng.u8(..40) {
            0 => 0,
            // A write on a disk without room for it would wait.
            1 if !self.has_little_room => self.rng.usize(..2 * self.segment_bytes as usize),
            2..8 => self.rng.usize(..400),
            _ => self.rng.usize(..40),
        };
        let (kind, draft) = if self.rng.u8(..20) == 0 {
            (EventKind::Closed, Draft::closed(&channel))
        } else {
            let mut data = format!("{}:", self.rng.u32(..));
            data.extend(std::iter::repeat_n('x', len));
            data.truncate(len);
            (EventKind::Published, Draft::new(&NewEvent::message(data)))
        };
        Arc::new(Event {
            seq: position.seq,
            epoch: position.epoch,
            time_ms: self.now_ms,
            accepted_ms: self.now_ms,
            channel: ChannelName::parse(&channel).expect("a name"),
            kind,
            frame: draft.finish(position),
        })
    }

    fn plan_fault(&mut self, calls: u64) {
        let below = self.rng.u64(1..=calls);
        let call = self.rng.u64(..below);
        let (stop_at, fail_at) = match self.rng.u8(..6) {
            0 => (None, Some((call, ENOSPC))),
            1 | 2 => (None, Some((call, EIO))),
            _ => (Some(call), None),
        };
        self.disk.plan(Faults { stop_at, fail_at });
    }

    fn reboot(&mut self) {
        if self.mistake.is_lie() {
            self.disk.swallow(None);
        }
        let stop = if self.rng.bool() { Stop::Kill } else { Stop::PowerCut };
        if stop == Stop::PowerCut {
            self.history.lose();
        }
        self.disk.reboot(stop);
    }
}
