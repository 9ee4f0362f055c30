//! What subscribers received over all their connections, held against the log.

use std::collections::BTreeMap;

use super::position::Position;
use super::truth::Truth;
use crate::record::{Line, Record};

/// A subscriber, between two gaps.
struct Subscriber<'a> {
    who: u64,
    channels: &'a [String],
    /// Where it started, or went on behind a gap.
    from: Position,
    /// Where it is.
    at: Position,
    received: Vec<(Position, &'a str)>,
    /// Epochs that it has left.
    left: Vec<String>,
}

/// Reports what a subscriber missed, received again or out of order, gaps that are not true, and
/// whether it reached the end.
pub(super) fn check(lines: &[Line], truth: &Truth, found: &mut Vec<String>) {
    let mut subscribers: BTreeMap<u64, Subscriber<'_>> = BTreeMap::new();
    for Line { record, .. } in lines {
        match record {
            Record::Subscriber { who, channels, start, is_earliest } => {
                let Some(from) = Position::parse(start) else { continue };
                let origin = Position { epoch: from.epoch.clone(), seq: 0 };
                let mut skipped = truth.between(&origin, Some(&from), channels);
                if *is_earliest && let Some((position, data)) = skipped.next() {
                    let what = format!("{data:?} at {position}");
                    found.push(format!("subscriber {who} starts at {from}, behind {what}"));
                }
                let at = from.clone();
                let (received, left) = (Vec::new(), Vec::new());
                let subscriber = Subscriber { who: *who, channels, from, at, received, left };
                subscribers.insert(*who, subscriber);
            }
            Record::Event { who, id, data, .. } => {
                let Some(id) = Position::parse(id) else { continue };
                let subscriber = subscribers.get_mut(who).expect("it has started");
                subscriber.check_move(&id, found);
                if id.epoch == subscriber.at.epoch && id.seq == subscriber.at.seq {
                    found.push(format!("subscriber {who}: {data:?} at {id}, where it was already"));
                }
                subscriber.received.push((id.clone(), data));
                subscriber.at = id;
            }
            Record::Moved { who, id } => {
                let Some(id) = Position::parse(id) else {
                    found.push(format!("subscriber {who}: {id:?} is not a position"));
                    continue;
                };
                let subscriber = subscribers.get_mut(who).expect("it has started");
                subscriber.check_move(&id, found);
                subscriber.at = id;
            }
            Record::Gap { who, reason, requested, oldest } => {
                let subscriber = subscribers.get_mut(who).expect("it has started");
                let Some(oldest) = Position::parse(oldest) else {
                    found.push(format!("subscriber {who}: a gap to {oldest:?}"));
                    continue;
                };
                if *requested != subscriber.at.to_string() {
                    let at = &subscriber.at;
                    found.push(format!(
                        "subscriber {who}: a gap from {requested}, and it is at {at}"
                    ));
                }
                subscriber.check_section(Some(&subscriber.at.clone()), truth, found);
                subscriber.check_gap(reason, &oldest, truth, found);
                if subscriber.left.contains(&oldest.epoch) {
                    found.push(format!(
                        "subscriber {who} comes back to {oldest}, an epoch it has left"
                    ));
                }
                if oldest.epoch != subscriber.at.epoch {
                    subscriber.left.push(subscriber.at.epoch.clone());
                }
                subscriber.from = oldest.clone();
                subscriber.at = oldest;
                subscriber.received.clear();
            }
            Record::Stuck { who, why } => found.push(format!("subscriber {who}: {why}")),
            _ => {}
        }
    }
    for subscriber in subscribers.values() {
        let Subscriber { who, at, .. } = subscriber;
        if at.epoch != truth.epoch {
            found.push(format!("subscriber {who} ends at {at}, the log in {}", truth.epoch));
        }
        subscriber.check_section(None, truth, found);
    }
}

impl Subscriber<'_> {
    /// Positions of one epoch grow, and only a gap changes the epoch.
    fn check_move(&self, to: &Position, found: &mut Vec<String>) {
        let Self { who, at, .. } = self;
        if to.epoch != at.epoch {
            found.push(format!("subscriber {who} goes from {at} to {to} without a gap"));
        } else if to.seq < at.seq {
            found.push(format!("subscriber {who} goes from {at} back to {to}"));
        }
    }

    /// From where it started to where it is, or to the end, it has all events of its channels, each
    /// once.
    fn check_section(&self, to: Option<&Position>, truth: &Truth, found: &mut Vec<String>) {
        let Self { who, from, channels, received, .. } = self;
        let mut has = received.iter().map(|(position, data)| (position, *data));
        for wanted in truth.between(from, to, channels) {
            let next = has.next();
            if next != Some(wanted) {
                let (position, data) = wanted;
                let got =
                    next.map_or("nothing".to_owned(), |(at, data)| format!("{data:?} at {at}"));
                found.push(format!(
                    "subscriber {who} of {channels:?} from {from} has {got}, not {data:?} at \
                     {position}"
                ));
                return;
            }
        }
        if let Some((position, data)) = has.next() {
            found.push(format!("subscriber {who} has {data:?} at {position} behind the end"));
        }
    }

    /// A gap is true if an event is missing, and skips nothing that there is.
    fn check_gap(&self, reason: &str, to: &Position, truth: &Truth, found: &mut Vec<String>) {
        let Self { who, at, channels, .. } = self;
        let what = format!("subscriber {who}: a gap {reason} from {at} to {to}");
        let before = match reason {
            "evicted" if to.epoch == at.epoch => {
                if truth.between(at, Some(to), channels).next().is_none() {
                    return found.push(format!("{what}: no event is missing"));
                }
                at.clone()
            }
            "epoch" if to.epoch != at.epoch => Position { epoch: to.epoch.clone(), seq: 0 },
            _ => return found.push(format!("{what}: it is false")),
        };
        let mut skipped = truth.between(&before, Some(to), channels);
        if let Some((position, data)) = skipped.find(|(position, _)| truth.has(position)) {
            found.push(format!("{what}: it skips {data:?} at {position}, which there is"));
        }
    }
}
