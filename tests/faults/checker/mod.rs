//! Whether one log explains what all publishers and subscribers of a run observed.
//!
//! The log gives events one order, so checking is sorting and comparing, not searching. A run may
//! have more than one epoch: each loss that the scenario caused permits one more, and most of them
//! demand it. What an epoch held that was lost is known from acknowledgements and deliveries; of
//! the last one, the log at the end has all.

mod effects;
mod position;
mod publishes;
mod subscribers;
#[cfg(test)]
mod tests;
mod truth;

use truth::Truth;

use crate::record::{Line, Record};

/// What cannot have been; empty if all is as promised.
pub(crate) fn violations(lines: &[Line]) -> Vec<String> {
    let mut found: Vec<String> = lines
        .iter()
        .filter_map(|line| match &line.record {
            Record::Odd { what } => Some(what.clone()),
            _ => None,
        })
        .collect();
    effects::check(lines, &mut found);
    let truth = Truth::of(lines, &mut found);
    publishes::check(lines, &truth, &mut found);
    subscribers::check(lines, &truth, &mut found);
    found
}
