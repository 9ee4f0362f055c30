//! What publishers were answered, held against the log.

use std::collections::{HashMap, HashSet};

use super::position::Position;
use super::truth::Truth;
use crate::record::{Line, Outcome, Record};

/// A publish, its repetitions under its key included.
struct Publish<'a> {
    events: &'a [String],
    called_us: u64,
    answered_us: u64,
    outcome: &'a Outcome,
}

/// Reports what was acknowledged and is lost, refused and is there, there and was not published,
/// and an order that publishers can disprove.
pub(super) fn check(lines: &[Line], truth: &Truth, found: &mut Vec<String>) {
    let mut calls: HashMap<u64, (u64, &[String])> = HashMap::new();
    let mut publishes = Vec::new();
    for Line { at_us, record } in lines {
        match record {
            Record::Call { publish, events } => {
                calls.insert(*publish, (*at_us, events));
            }
            Record::Answer { publish, outcome } => {
                let (called_us, events) = calls[publish];
                publishes.push(Publish { events, called_us, answered_us: *at_us, outcome });
            }
            _ => {}
        }
    }
    let published: HashSet<&str> =
        calls.values().flat_map(|(_, events)| events.iter().map(String::as_str)).collect();
    for data in truth.data().filter(|data| !published.contains(data)) {
        found.push(format!("{data:?} was not published"));
    }
    for publish in &publishes {
        check_one(publish, truth, found);
    }
    check_order(&mut publishes, truth, found);
}

fn check_one(publish: &Publish<'_>, truth: &Truth, found: &mut Vec<String>) {
    let Publish { events, called_us, answered_us, outcome } = publish;
    let there = events.iter().filter(|data| truth.at_the_end(data).is_some()).count();
    match outcome {
        Outcome::Acked { first } => {
            let Some(first) = Position::parse(first) else { return };
            for (data, index) in events.iter().zip(0..) {
                let position = first.plus(index);
                let is_there = truth.at_the_end(data).is_some();
                if !is_there && !truth.may_be_gone(*called_us, *answered_us, &position) {
                    found.push(format!("{data:?}, acknowledged at {position}, is lost"));
                }
            }
        }
        Outcome::Closed => {
            // What was seen of it, or else any position that is not there at the end.
            let positions = truth.positions(&events[0]);
            let may_be_gone = match positions.first() {
                Some(position) => truth.may_be_gone(*called_us, *answered_us, position),
                None => truth.may_be_gone_unseen(*called_us, *answered_us),
            };
            if there == 0 && !may_be_gone {
                found.push(format!("{:?}, which was acknowledged, is lost", events[0]));
            }
        }
        Outcome::Refused => {
            for data in *events {
                if let Some(position) = truth.positions(data).first() {
                    found.push(format!("{data:?} was refused and is at {position}"));
                }
            }
        }
        Outcome::Unknown => {
            let at: Vec<&Position> =
                events.iter().filter_map(|data| truth.at_the_end(data)).collect();
            let removed = events
                .iter()
                .flat_map(|data| truth.positions(data))
                .filter(|position| truth.may_be_gone(*called_us, *answered_us, position))
                .count();
            if there != 0 && there + removed < events.len() {
                let (first, all) = (&events[0], events.len());
                found.push(format!("{there} of {all} events of {first:?} are in the log"));
            }
            if at.windows(2).any(|pair| pair[0].seq + 1 != pair[1].seq) {
                found.push(format!("the events of {:?} are not one behind the other", events[0]));
            }
        }
    }
}

/// What was acknowledged before another publish was sent has a smaller seq.
fn check_order(publishes: &mut [Publish<'_>], truth: &Truth, found: &mut Vec<String>) {
    let mut acked: Vec<(u64, u64, &str)> = publishes
        .iter()
        .filter_map(|publish| match publish.outcome {
            Outcome::Acked { first } => {
                Some((publish.answered_us, Position::parse(first)?.seq, publish.events[0].as_str()))
            }
            _ => None,
        })
        .collect();
    acked.sort_unstable();
    publishes.sort_by_key(|publish| publish.called_us);
    let mut acked = acked.into_iter().peekable();
    let mut newest: Option<(u64, &str)> = None;
    for publish in publishes {
        while let Some((_, seq, data)) = acked.next_if(|before| before.0 < publish.called_us) {
            newest = newest.max(Some((seq, data)));
        }
        let data = &publish.events[0];
        let own = truth.positions(data).iter().map(|position| position.seq).min();
        if let (Some((newest, before)), Some(own)) = (newest, own)
            && own <= newest
        {
            found.push(format!(
                "{data:?} at {own} is not behind {before:?} at {newest}, which was acknowledged \
                 before it was sent"
            ));
        }
    }
}
