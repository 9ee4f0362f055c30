//! The events that the log was given, and which of them must be read back.

use std::{collections::BTreeMap, sync::Arc};

use super::super::{
    Recovered, RecoveredEvent, RecoveryReport, RemovedEvents, RemovedLimits, StoredKey,
};
use crate::model::{Epoch, Event, EventKind, Position, Seq};

/// What is wrong, as a text.
pub(super) type Fault = String;

/// All events that the log was given, as far as it has them or may have them.
#[derive(Default)]
pub(super) struct History {
    written: Vec<Written>,
    /// How many of `written` may have been seen by readers.
    shown: usize,
    /// How many of `written` are durable.
    synced: usize,
    /// All events that readers ever saw, also those that a lying disk has lost.
    seen: BTreeMap<(u64, Seq), Arc<Event>>,
    /// No event from this seq on may have been removed.
    retained_from: Seq,
    /// Whether segments may also be removed for their bytes or age.
    has_limits: bool,
    /// Whether the disk may lose bytes although it has synced them.
    is_lied_to: bool,
}

struct Written {
    event: Arc<Event>,
    /// The key of the publish that this event begins.
    key: Option<StoredKey>,
    is_last_of_batch: bool,
}

/// How the last process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// There was no process before.
    First,
    Crash,
    /// Closing the log failed, so it may be closed or not.
    Unknown,
    Closed,
}

/// The log that a start found.
pub(super) struct Found<'a> {
    pub(super) removed: &'a RemovedEvents,
    pub(super) items: Vec<Recovered>,
    pub(super) report: RecoveryReport,
    pub(super) epoch: Epoch,
    pub(super) now_ms: u64,
    pub(super) limits: RemovedLimits,
}

impl History {
    pub(super) fn new(has_limits: bool, is_lied_to: bool) -> Self {
        Self { has_limits, is_lied_to, ..Self::default() }
    }

    /// Notes an event that the log was given.
    pub(super) fn write(&mut self, event: Arc<Event>, key: Option<StoredKey>, is_last: bool) {
        self.written.push(Written { event, key, is_last_of_batch: is_last });
    }

    /// The events so far form a batch.
    pub(super) fn end_batch(&mut self) {
        if let Some(last) = self.written.last_mut() {
            last.is_last_of_batch = true;
        }
    }

    /// The events from `first` on were not given to the log after all.
    pub(super) fn take_back(&mut self, first: Seq) -> Seq {
        self.written.retain(|written| written.event.seq < first);
        first
    }

    /// All events are durable, and shown.
    pub(super) fn sync(&mut self) -> Result<(), Fault> {
        self.synced = self.written.len();
        self.show()
    }

    /// From now on, events that are not durable may be lost.
    pub(super) fn lose(&mut self) {
        self.shown = self.shown.min(self.synced);
    }

    /// All events are shown.
    pub(super) fn show(&mut self) -> Result<(), Fault> {
        for Written { event, .. } in &self.written[self.shown..] {
            let before = self.seen.insert((event.epoch.to_u64(), event.seq), Arc::clone(event));
            if before.is_some_and(|before| !Arc::ptr_eq(&before, event)) {
                return Err(format!("{} means two events", event.seq.0));
            }
        }
        self.shown = self.written.len();
        Ok(())
    }

    /// Shows an event that is not written, after all events before it.
    pub(super) fn show_transient(&mut self, event: Arc<Event>) -> Result<(), Fault> {
        let (key, seq) = ((event.epoch.to_u64(), event.seq), event.seq.0);
        match self.seen.insert(key, event) {
            None => Ok(()),
            Some(_) => Err(format!("{seq} means two events")),
        }
    }

    /// The last event that the log was given.
    pub(super) fn last(&self) -> Seq {
        self.written.last().map_or(Seq::ZERO, |written| written.event.seq)
    }

    /// Events before `retained_from` may be removed.
    pub(super) fn may_remove(&mut self, retained_from: Seq) {
        self.retained_from = self.retained_from.max(retained_from);
    }

    /// Checks the log that a start found. Its events are durable and shown.
    pub(super) fn check(&mut self, end: End, found: Found<'_>) -> Result<(), Fault> {
        if self.is_lied_to && self.written.first().is_some_and(|w| w.event.epoch != found.epoch) {
            // The directory was lost, and a new log has begun.
            self.written.clear();
            (self.shown, self.synced) = (0, 0);
        }
        let removed = self.count_removed(&found)?;
        let events = found.items.iter().filter(|item| matches!(item, Recovered::Event(_))).count();
        let kept = removed + events;
        if kept > self.written.len() {
            return Err(format!("{events} events were read behind {removed} removed: too many"));
        }
        if !self.is_lied_to {
            if kept < self.shown {
                let lost = self.written[kept].event.seq.0;
                return Err(format!("event {lost} was shown and is lost"));
            }
            if kept > 0 && !self.written[kept - 1].is_last_of_batch {
                return Err("a batch was read in part".into());
            }
            self.check_removed(removed, &found)?;
        }
        let (epoch, report) = (found.epoch.to_u64(), found.report);
        check_items(&self.written[removed..kept], found.items)?;
        self.check_report(end, removed, kept, epoch, &report)?;
        self.written.truncate(kept);
        self.shown = self.shown.min(kept);
        self.sync()
    }

    fn count_removed(&self, found: &Found<'_>) -> Result<usize, Fault> {
        let first_base = found.removed.first_base;
        let removed = self.written.partition_point(|written| written.event.seq < first_base);
        if removed > 0
            && !self.has_limits
            && self.written[removed - 1].event.seq >= self.retained_from
        {
            return Err(format!("removed up to {}, not {}", first_base.0, self.retained_from.0));
        }
        Ok(removed)
    }

    /// Checks what the log remembers of removed events.
    fn check_removed(&self, removed: usize, found: &Found<'_>) -> Result<(), Fault> {
        let Found { limits, now_ms, .. } = *found;
        let (mut lost, mut closed, mut keys) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let mut closed_at_once = 0;
        for Written { event, key, .. } in &self.written[..removed] {
            let channel = event.channel.clone();
            lost.insert(channel.clone(), event.seq);
            match event.kind {
                EventKind::Closed => drop(closed.insert(channel, (event.seq, event.time_ms))),
                EventKind::Published => drop(closed.remove(&channel)),
            }
            closed_at_once = closed_at_once.max(closed.len());
            keys.extend(*key);
        }
        let known: BTreeMap<_, _> =
            found.removed.lost().map(|(channel, seq)| (channel.clone(), seq)).collect();
        if known.len() > limits.channels_max || known.len() < lost.len().min(limits.channels_max) {
            return Err(format!("{} of {} channels' losses are known", known.len(), lost.len()));
        }
        let mut unnamed = Seq::ZERO;
        for (channel, seq) in &lost {
            match known.get(channel) {
                Some(known) if known != seq => {
                    return Err(format!("{channel} has lost {}, not {}", seq.0, known.0));
                }
                Some(_) => {}
                None => unnamed = unnamed.max(*seq),
            }
        }
        if known.keys().any(|channel| !lost.contains_key(channel))
            || found.removed.unnamed() != unnamed
        {
            return Err(format!("unnamed is {:?}, not {unnamed:?}", found.removed.unnamed()));
        }
        let known: BTreeMap<_, _> = found
            .removed
            .closed()
            .map(|(channel, seq, at_ms)| (channel.clone(), (seq, at_ms)))
            .collect();
        if known.iter().any(|(channel, at)| closed.get(channel) != Some(at)) {
            return Err(format!("closed are {closed:?}, not {known:?}"));
        }
        closed.retain(|_, (_, at_ms)| *at_ms + limits.closed_ms > now_ms);
        let missing = closed.keys().filter(|channel| !known.contains_key(*channel)).count();
        if missing > 0 && closed_at_once <= limits.closed_max {
            return Err(format!("closed are {closed:?}, and only {known:?} are known"));
        }
        let known: Vec<StoredKey> = found.removed.keys().copied().collect();
        let mut all = keys.iter();
        if !known.iter().all(|known| all.any(|key| key == known)) {
            return Err(format!("{known:?} are the keys, not among {keys:?}"));
        }
        let newest = &keys[keys.len().saturating_sub(limits.keys_max)..];
        let mut due = newest.iter().filter(|key| key.time_ms + limits.keys_ms > now_ms);
        if known.len() > limits.keys_max || !due.all(|key| known.contains(key)) {
            return Err(format!("{known:?} are the keys, not {newest:?}"));
        }
        Ok(())
    }

    fn check_report(
        &self,
        end: End,
        removed: usize,
        kept: usize,
        epoch: u64,
        report: &RecoveryReport,
    ) -> Result<(), Fault> {
        let last_event =
            self.written[removed..kept].last().map_or(Seq::ZERO, |written| written.event.seq);
        if report.last_event != last_event {
            return Err(format!("the last event is {last_event:?}, not {:?}", report.last_event));
        }
        if let Some(((_, seen), _)) = self.seen.range(..=(epoch, Seq(u64::MAX))).next_back()
            && report.last < *seen
        {
            return Err(format!("it goes on behind {}, and {} was seen", report.last.0, seen.0));
        }
        if self.is_lied_to {
            return Ok(());
        }
        let is_whole = kept == self.written.len() && report.torn_bytes == 0;
        match (report.was_closed, end) {
            (true, End::Closed | End::Unknown) if is_whole => Ok(()),
            (false, End::Crash | End::Unknown | End::First) => Ok(()),
            _ => Err(format!("after {end:?}: {report:?}")),
        }
    }
}

fn check_items(written: &[Written], items: Vec<Recovered>) -> Result<(), Fault> {
    let mut written = written.iter();
    let mut read_key = None;
    for item in items {
        match item {
            Recovered::Key(key) => {
                if read_key.replace(key).is_some() {
                    return Err("a key has no events".into());
                }
            }
            Recovered::Event(event) => {
                let Some(Written { event: expected, key, .. }) = written.next() else {
                    return Err("more events than were counted".into());
                };
                let seq = event.seq.0;
                if read_key.take() != *key || !is_same(event, expected) {
                    return Err(format!("{seq} is not the event {}", expected.seq.0));
                }
            }
        }
    }
    Ok(())
}

fn is_same(read: RecoveredEvent, written: &Event) -> bool {
    let position = Position { epoch: written.epoch, seq: read.seq };
    read.seq == written.seq
        && read.time_ms == written.time_ms
        && read.kind == written.kind
        && read.channel == written.channel
        && read.draft.finish(position).draft_parts() == written.frame.draft_parts()
}
