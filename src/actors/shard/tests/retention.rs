//! A naive model of retention: what history must hold, event by event.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use crate::{
    core::HistoryLimits,
    model::{Event, EventKind},
};

/// The events that retention leaves, by channel.
#[derive(Debug)]
pub(super) struct Retention {
    limits: HistoryLimits,
    channels: BTreeMap<String, VecDeque<Arc<Event>>>,
    retained: HashSet<u64>,
    /// Closing events, by channel.
    closed: HashMap<String, u64>,
    evicted: HashSet<String>,
    forgotten_max: usize,
    /// Whether what evicted channels have lost is known for all of them together only.
    vague: bool,
}

impl Retention {
    pub(super) fn new(limits: HistoryLimits, forgotten_max: usize) -> Self {
        Self {
            limits,
            channels: BTreeMap::new(),
            retained: HashSet::new(),
            closed: HashMap::new(),
            evicted: HashSet::new(),
            forgotten_max,
            vague: false,
        }
    }

    /// A batch was committed.
    pub(super) fn commit(&mut self, events: &[Arc<Event>]) {
        for event in events {
            let name = event.channel.as_str().to_owned();
            if event.kind == EventKind::Closed {
                self.closed.insert(name.clone(), event.seq.0);
            }
            let kept = self.channels.entry(name).or_default();
            kept.push_back(Arc::clone(event));
            self.retained.insert(event.seq.0);
            let bytes = |kept: &VecDeque<Arc<Event>>| -> u64 {
                kept.iter().map(|event| event.bytes().len() as u64).sum()
            };
            while kept.len() > 1
                && (kept.len() > self.limits.events_max as usize
                    || bytes(kept) > self.limits.bytes_max)
            {
                let gone = kept.pop_front().unwrap();
                self.retained.remove(&gone.seq.0);
            }
        }
        // The ceiling takes the oldest events of the hub, whichever channel they are in.
        while self.cost() > self.limits.total_bytes_max {
            let oldest = self.channels.values_mut().filter(|kept| !kept.is_empty());
            let Some(oldest) = oldest.min_by_key(|kept| kept[0].seq) else { break };
            let gone = oldest.pop_front().unwrap();
            self.retained.remove(&gone.seq.0);
        }
    }

    /// Time has passed.
    pub(super) fn age(&mut self, now_ms: u64) {
        let oldest_ms = now_ms - u64::from(self.limits.age_max_s) * 1_000;
        for kept in self.channels.values_mut() {
            while kept.front().is_some_and(|event| event.accepted_ms < oldest_ms) {
                let gone = kept.pop_front().unwrap();
                self.retained.remove(&gone.seq.0);
            }
        }
    }

    /// A channel's history was dropped.
    pub(super) fn drop_all(&mut self, name: &str) {
        for gone in self.channels.remove(name).unwrap_or_default() {
            self.retained.remove(&gone.seq.0);
        }
    }

    /// The directory no longer has a channel.
    pub(super) fn evict(&mut self, name: &str) {
        self.drop_all(name);
        self.closed.remove(name);
        self.evicted.insert(name.to_owned());
        self.vague |= self.evicted.len() > self.forgotten_max;
    }

    /// Events of a channel.
    pub(super) fn of(&self, name: &str) -> Vec<u64> {
        self.channels.get(name).into_iter().flatten().map(|event| event.seq.0).collect()
    }

    pub(super) fn holds(&self, seq: u64) -> bool {
        self.retained.contains(&seq)
    }

    /// The closing event of a channel that is closed.
    pub(super) fn closed(&self, name: &str) -> Option<u64> {
        self.closed.get(name).copied()
    }

    /// Whether a gap may be reported although nothing is missing.
    pub(super) fn is_vague(&self) -> bool {
        self.vague
    }

    /// Bytes in all channels, bookkeeping included.
    pub(super) fn cost(&self) -> u64 {
        let events = self.channels.values().flatten();
        events.map(|event| event.bytes().len() as u64 + Event::OVERHEAD_BYTES).sum()
    }
}
