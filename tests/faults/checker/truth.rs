//! The log, as far as anything observed it: which event a position means.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::position::Position;
use crate::record::{CLOSED, Line, Outcome, Record, channel_of};

/// The log of a run.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// All events of all epochs that were acknowledged, received, or are there at the end.
    events: BTreeMap<Position, String>,
    /// The positions of each event, one an epoch.
    positions: HashMap<String, Vec<Position>>,
    /// What is there at the end.
    log: BTreeMap<Position, String>,
    /// The epoch at the end.
    pub(super) epoch: String,
    /// When the engine may have lost something, and since when that may have been acknowledged.
    losses: Vec<Loss>,
    keeps_all: bool,
    kept_min: usize,
}

#[derive(Debug, Clone, Copy)]
struct Loss {
    at_us: u64,
    since_us: u64,
}

impl Truth {
    /// Collects it, and reports where observations contradict each other.
    pub(super) fn of(lines: &[Line], found: &mut Vec<String>) -> Self {
        let mut truth = Self::default();
        let mut calls: HashMap<u64, &[String]> = HashMap::new();
        let mut epochs = BTreeSet::new();
        let mut noticed = 0;
        let mut logs: BTreeMap<usize, BTreeMap<Position, String>> = BTreeMap::new();
        for Line { at_us, record } in lines {
            match record {
                Record::Scenario { keeps_all, kept_min, .. } => {
                    (truth.keeps_all, truth.kept_min) = (*keeps_all, *kept_min);
                }
                Record::Loss { since_us, must, .. } => {
                    noticed += usize::from(*must);
                    truth.losses.push(Loss { at_us: *at_us, since_us: *since_us });
                }
                Record::Call { publish, events } => {
                    calls.insert(*publish, events);
                }
                Record::Answer { publish, outcome: Outcome::Acked { first } } => {
                    let Some(first) = parse(first, found) else { continue };
                    for (data, index) in calls[publish].iter().zip(0..) {
                        truth.insert(first.plus(index), data, found);
                    }
                    epochs.insert(first.epoch);
                }
                Record::Event { id, channel, data, who } => {
                    let Some(position) = parse(id, found) else { continue };
                    if channel.as_deref().is_some_and(|channel| channel != channel_of(data)) {
                        found.push(format!("subscriber {who}: {data:?} in channel {channel:?}"));
                    }
                    epochs.insert(position.epoch.clone());
                    truth.insert(position, data, found);
                }
                Record::Log { hub, id, channel, data } => {
                    let Some(position) = parse(id, found) else { continue };
                    if channel != channel_of(data) {
                        found.push(format!("the log has {data:?} in channel {channel}"));
                    }
                    epochs.insert(position.epoch.clone());
                    truth.insert(position.clone(), data, found);
                    let log = logs.entry(*hub).or_default();
                    if log.last_key_value().is_some_and(|(last, _)| *last >= position) {
                        found.push(format!("the log of hub {hub} is out of order at {position}"));
                    }
                    log.insert(position, data.clone());
                }
                // A position may be of an epoch that has no event.
                Record::Subscriber { start: id, .. } | Record::Moved { id, .. } => {
                    epochs.extend(parse(id, found).map(|position| position.epoch));
                }
                Record::Gap { oldest, .. } => {
                    epochs.extend(parse(oldest, found).map(|position| position.epoch));
                }
                _ => {}
            }
        }
        let losses = truth.losses.len();
        if epochs.len() < 1 + noticed {
            found.push(format!("only {} epochs after {noticed} losses: {epochs:?}", epochs.len()));
        }
        if epochs.len() > 1 + losses {
            found.push(format!("{} epochs after {losses} losses: {epochs:?}", epochs.len()));
        }
        truth.check_closed(found);
        truth.adopt_logs(logs, found);
        truth
    }

    fn insert(&mut self, position: Position, data: &str, found: &mut Vec<String>) {
        match self.events.get(&position) {
            Some(known) if known == data => return,
            Some(known) => {
                found.push(format!("{position} means {known:?} and {data:?}"));
                return;
            }
            None => {}
        }
        let positions = self.positions.entry(data.to_owned()).or_default();
        if let Some(other) = positions.iter().find(|other| other.epoch == position.epoch) {
            found.push(format!("{data:?} is at {other} and at {position}"));
        }
        positions.push(position.clone());
        self.events.insert(position, data.to_owned());
    }

    /// A channel that was closed takes nothing more in its epoch.
    fn check_closed(&self, found: &mut Vec<String>) {
        let mut closed: HashMap<(&str, &str), &Position> = HashMap::new();
        for (position, data) in &self.events {
            let channel = (position.epoch.as_str(), channel_of(data));
            if let Some(at) = closed.get(&channel) {
                found.push(format!("{data:?} is at {position}, its channel was closed at {at}"));
            }
            if data.ends_with(CLOSED) {
                closed.insert(channel, position);
            }
        }
    }

    /// Takes over what hubs have at the end, which is the same for all.
    fn adopt_logs(
        &mut self,
        logs: BTreeMap<usize, BTreeMap<Position, String>>,
        found: &mut Vec<String>,
    ) {
        // A hub that has not been away has more in memory than one that has.
        let mut logs = logs;
        for (hub, log) in &logs {
            if log.len() < self.kept_min {
                let (has, min) = (log.len(), self.kept_min);
                found.push(format!("hub {hub} has {has} events at the end, and is to keep {min}"));
            }
        }
        if !self.keeps_all {
            let oldest = logs.values().filter_map(|log| log.keys().next().cloned()).max();
            let oldest = oldest.unwrap_or(Position { epoch: String::new(), seq: 0 });
            logs.values_mut().for_each(|log| *log = log.split_off(&oldest));
        }
        let mut logs = logs.into_iter();
        let Some((first, log)) = logs.next() else {
            return found.push("no hub had a log at the end".to_owned());
        };
        for (hub, other) in logs {
            if other != log {
                let lacks = |one: &BTreeMap<Position, String>, has: &BTreeMap<Position, String>| {
                    one.iter()
                        .find(|(position, _)| !has.contains_key(position))
                        .map(|(p, _)| p.clone())
                };
                let (a, b) = (lacks(&log, &other), lacks(&other, &log));
                found.push(format!(
                    "hub {hub} lacks {a:?} of hub {first}, which lacks {b:?} of hub {hub}"
                ));
            }
        }
        self.epoch = log.keys().next_back().map(|last| last.epoch.clone()).unwrap_or_default();
        if let Some((other, _)) = log.iter().find(|(position, _)| position.epoch != self.epoch) {
            found.push(format!("the log at the end has {other} and epoch {}", self.epoch));
        }
        // What was observed in the last epoch is in its log, unless retention has removed it.
        let oldest = log.keys().next().cloned();
        for (position, data) in &self.events {
            let is_removed = !self.keeps_all && oldest.as_ref().is_some_and(|it| position < it);
            if position.epoch == self.epoch && !is_removed && !log.contains_key(position) {
                found.push(format!("{data:?} was at {position} and is not in the log"));
            }
        }
        self.log = log;
    }

    /// The positions of an event.
    pub(super) fn positions(&self, data: &str) -> &[Position] {
        self.positions.get(data).map_or(&[], Vec::as_slice)
    }

    /// All events that were observed.
    pub(super) fn data(&self) -> impl Iterator<Item = &str> {
        self.positions.keys().map(String::as_str)
    }

    /// Where an event is at the end.
    pub(super) fn at_the_end(&self, data: &str) -> Option<&Position> {
        self.positions(data).iter().find(|position| self.log.contains_key(position))
    }

    /// Whether an event that was sent and acknowledged at these times and had this position need
    /// not be there at the end.
    pub(super) fn may_be_gone(
        &self,
        called_us: u64,
        answered_us: u64,
        position: &Position,
    ) -> bool {
        let oldest = self.log.keys().next();
        let is_removed = !self.keeps_all
            && position.epoch == self.epoch
            && oldest.is_some_and(|oldest| position < oldest);
        let is_lost = position.epoch != self.epoch && self.may_be_lost(called_us, answered_us);
        is_removed || is_lost
    }

    /// Whether the engine may have lost what was sent and acknowledged at these times. A loss
    /// brings the state of its `since_us` back: what was acknowledged before that is there, unless
    /// it was lost before that, too.
    fn may_be_lost(&self, called_us: u64, answered_us: u64) -> bool {
        let mut state_us = u64::MAX;
        for loss in self.losses.iter().rev() {
            if loss.at_us >= state_us {
                continue;
            }
            if called_us > loss.at_us {
                return false;
            }
            if answered_us >= loss.since_us {
                return true;
            }
            state_us = loss.since_us;
        }
        false
    }

    /// As [`may_be_gone`](Self::may_be_gone), of an event whose position is unknown.
    pub(super) fn may_be_gone_unseen(&self, called_us: u64, answered_us: u64) -> bool {
        !self.keeps_all || self.may_be_lost(called_us, answered_us)
    }

    /// The events of channels behind a position, up to another one or to the end of its epoch.
    pub(super) fn between<'a>(
        &'a self,
        from: &Position,
        to: Option<&Position>,
        channels: &'a [String],
    ) -> impl Iterator<Item = (&'a Position, &'a str)> + use<'a> {
        let last = to.map_or(u64::MAX, |to| to.seq).max(from.seq.saturating_add(1));
        let is_empty = to.is_some_and(|to| to.seq <= from.seq);
        let first = Position { epoch: from.epoch.clone(), seq: from.seq.saturating_add(1) };
        let last = Position { epoch: from.epoch.clone(), seq: last };
        self.events
            .range(first..=last)
            .filter(move |(_, data)| !is_empty && takes(channels, channel_of(data)))
            .map(|(position, data)| (position, data.as_str()))
    }

    /// Whether an event is there at the end.
    pub(super) fn has(&self, position: &Position) -> bool {
        self.log.contains_key(position)
    }
}

/// Whether a subscription to these channels, one of which may be `**`, takes a channel.
fn takes(channels: &[String], channel: &str) -> bool {
    channels.iter().any(|wanted| wanted == "**" || wanted == channel)
}

fn parse(text: &str, found: &mut Vec<String>) -> Option<Position> {
    let position = Position::parse(text);
    if position.is_none() {
        found.push(format!("{text:?} is not a position"));
    }
    position
}
