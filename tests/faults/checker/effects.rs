//! Whether a fault has shown what it has to, and was mended as soon as it has to be.

use crate::record::{Effect, Line, Record};

/// Reports what a fault did not show, and hubs that were not back in time.
pub(super) fn check(lines: &[Line], found: &mut Vec<String>) {
    for (at, line) in lines.iter().enumerate() {
        match &line.record {
            Record::Expected { effect } if !is_shown(effect, at, lines) => {
                found.push(format!("the fault had no effect: there is no {effect:?}"));
            }
            Record::Recovered { hub, ms, ms_max } if ms > ms_max => {
                found.push(format!("hub {hub} takes publishes after {ms} ms, not {ms_max}"));
            }
            _ => {}
        }
    }
}

/// What is expected of a fault is noted before it strikes.
fn is_shown(effect: &Effect, at: usize, lines: &[Line]) -> bool {
    lines[at..].iter().any(|line| match (effect, &line.record) {
        (Effect::Status { hub: wanted, any }, Record::Refusal { hub, status }) => {
            wanted.is_none_or(|wanted| wanted == *hub) && any.contains(status)
        }
        (Effect::Gap { reason: wanted }, Record::Gap { reason, .. }) => reason == wanted,
        (Effect::Broken { by: wanted }, Record::Closed { by, broke: true, .. }) => by == wanted,
        _ => false,
    })
}
