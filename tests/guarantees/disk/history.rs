//! What publishers and followers saw, and whether one log explains it.
//!
//! The log gives all events one order, so checking is comparing, not searching.

use std::collections::HashMap;
use std::time::Duration;

use crate::support::Channels;

/// What is known of one run.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) publishes: Vec<Publish>,
    pub(crate) readings: Vec<Reading>,
    /// Followers that could not go on, one of which went back for instance.
    pub(crate) broken: Vec<String>,
    /// What the log holds at the end. Nothing of it has been removed.
    pub(crate) log: Vec<Entry>,
}

/// One publish, its repetitions under its key included.
#[derive(Debug, Clone)]
pub(crate) struct Publish {
    /// Channel and data; no two events of a run have the same data.
    pub(crate) events: Vec<(String, String)>,
    /// When it was sent first, and when its last answer came, since the begin of the run.
    pub(crate) called: Duration,
    pub(crate) answered: Duration,
    pub(crate) outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// In the log, and its first event at this seq if the answer says so.
    Acked(Option<u64>),
    /// Not in the log.
    Refused,
    /// There was no answer, or one that does not say.
    Unknown,
}

/// What one follower received over all its connections.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) name: String,
    pub(crate) channels: Channels,
    /// The seq that it started behind.
    pub(crate) after: u64,
    pub(crate) received: Vec<(u64, String)>,
    pub(crate) gaps: Vec<String>,
}

/// An event of the log.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) channel: String,
    pub(crate) data: String,
}

impl History {
    /// What cannot have been; empty if all is as promised.
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut found = self.broken.clone();
        for pair in self.log.windows(2).filter(|pair| pair[0].seq >= pair[1].seq) {
            found.push(format!("the log goes from {} to {}", pair[0].seq, pair[1].seq));
        }
        let mut indexes: HashMap<&str, usize> = HashMap::new();
        for (index, entry) in self.log.iter().enumerate() {
            if indexes.insert(&entry.data, index).is_some() {
                found.push(format!("{:?} is in the log twice", entry.data));
            }
        }
        let mut published = 0;
        for publish in &self.publishes {
            published += self.check_publish(publish, &indexes, &mut found);
        }
        if published != indexes.len() {
            let count = indexes.len() - published;
            found.push(format!("{count} events of the log have not been published"));
        }
        self.check_order(&indexes, &mut found);
        for reading in &self.readings {
            self.check_reading(reading, &mut found);
        }
        found
    }

    /// Returns how many events of it are in the log.
    fn check_publish(
        &self,
        publish: &Publish,
        indexes: &HashMap<&str, usize>,
        found: &mut Vec<String>,
    ) -> usize {
        let Publish { events, outcome, .. } = publish;
        let there: Vec<usize> =
            events.iter().filter_map(|(_, data)| indexes.get(data.as_str()).copied()).collect();
        let what = format!("{outcome:?} {:?} of {} events", events[0].1, events.len());
        match outcome {
            Outcome::Acked(_) if there.len() < events.len() => {
                found.push(format!("{what}: only {} are in the log", there.len()));
            }
            Outcome::Refused if !there.is_empty() => found.push(format!("{what}: in the log")),
            Outcome::Unknown if !there.is_empty() && there.len() < events.len() => {
                found.push(format!("{what}: {} are in the log", there.len()));
            }
            Outcome::Acked(Some(first)) if self.log[there[0]].seq != *first => {
                found.push(format!("{what}: at {}", self.log[there[0]].seq));
            }
            _ => {}
        }
        for (index, (channel, _)) in there.iter().zip(events) {
            if self.log[*index].channel != *channel {
                found.push(format!("{what}: in channel {}", self.log[*index].channel));
            }
        }
        if there.windows(2).any(|pair| self.log[pair[0]].seq + 1 != self.log[pair[1]].seq) {
            found.push(format!("{what}: not one behind the other"));
        }
        there.len()
    }

    /// What was acknowledged before another publish was sent is before it in the log.
    fn check_order(&self, indexes: &HashMap<&str, usize>, found: &mut Vec<String>) {
        let index_of = |publish: &Publish| indexes.get(publish.events[0].1.as_str()).copied();
        let mut by_call: Vec<&Publish> = self.publishes.iter().collect();
        by_call.sort_by_key(|publish| publish.called);
        let mut by_answer: Vec<&Publish> = self.publishes.iter().collect();
        by_answer.retain(|publish| matches!(publish.outcome, Outcome::Acked(_)));
        by_answer.sort_by_key(|publish| publish.answered);
        let mut answered = by_answer.into_iter().peekable();
        let mut newest = None;
        for publish in by_call {
            while let Some(before) = answered.next_if(|before| before.answered < publish.called) {
                newest = newest.max(index_of(before));
            }
            if let (Some(newest), Some(index)) = (newest, index_of(publish))
                && index <= newest
            {
                let (data, before) = (&publish.events[0].1, &self.log[newest].data);
                found.push(format!("{data:?} is before {before:?}, which was acknowledged first"));
            }
        }
    }

    fn check_reading(&self, reading: &Reading, found: &mut Vec<String>) {
        let Reading { name, channels, after, received, gaps } = reading;
        if !gaps.is_empty() {
            found.push(format!("{name}: false gaps {gaps:?}"));
        }
        let wanted = self
            .log
            .iter()
            .filter(|entry| entry.seq > *after && channels.contains(&entry.channel))
            .map(|entry| (entry.seq, &entry.data));
        let mut has = received.iter().map(|(seq, data)| (*seq, data));
        for (index, wanted) in wanted.enumerate() {
            let next = has.next();
            if next != Some(wanted) {
                found.push(format!("{name}: has {next:?} at {index}, not {wanted:?}"));
                return;
            }
        }
        if let Some(more) = has.next() {
            found.push(format!("{name}: has {more:?} behind the end"));
        }
    }
}

/// The checker finds what it is there for.
mod tests {
    use super::*;

    /// Two channels, two followers; a batch, a publish whose outcome is not known and one that was
    /// refused.
    fn good() -> History {
        let publish = |events: &[&str], at: u64, outcome| Publish {
            events: events
                .iter()
                .map(|data| (data.split_once(' ').unwrap().0.to_owned(), (*data).to_owned()))
                .collect(),
            called: Duration::from_millis(at),
            answered: Duration::from_millis(at + 5),
            outcome,
        };
        let entry = |seq, data: &str| Entry {
            seq,
            channel: data.split_once(' ').unwrap().0.to_owned(),
            data: data.to_owned(),
        };
        let log = vec![
            entry(1, "a 1"),
            entry(2, "a 2"),
            entry(3, "b 3"),
            entry(1_000, "a 4"),
            entry(1_001, "b 5"),
        ];
        let reading = |name: &str, channels: Channels, after| Reading {
            name: name.to_owned(),
            received: log
                .iter()
                .filter(|entry| entry.seq > after && channels.contains(&entry.channel))
                .map(|entry| (entry.seq, entry.data.clone()))
                .collect(),
            channels,
            after,
            gaps: Vec::new(),
        };
        History {
            publishes: vec![
                publish(&["a 1"], 0, Outcome::Acked(Some(1))),
                publish(&["a 2", "b 3"], 10, Outcome::Acked(Some(2))),
                publish(&["a 4"], 20, Outcome::Unknown),
                publish(&["a lost"], 20, Outcome::Unknown),
                publish(&["a refused"], 20, Outcome::Refused),
                publish(&["b 5"], 30, Outcome::Acked(None)),
            ],
            readings: vec![reading("all", Channels::All, 0), reading("a", Channels::one("a"), 1)],
            broken: Vec::new(),
            log,
        }
    }

    /// Changes the good history, and wants one violation that says this.
    #[track_caller]
    fn assert_found(says: &str, change: impl FnOnce(&mut History)) {
        let mut history = good();
        change(&mut history);
        let found = history.violations();
        assert!(found.iter().any(|text| text.contains(says)), "no {says:?} in {found:#?}");
    }

    #[test]
    fn checker_accepts_what_may_be() {
        assert_eq!(good().violations(), Vec::<String>::new());
    }

    #[test]
    fn checker_reports_a_delivery_that_is_dropped_doubled_or_swapped() {
        for index in 0..5 {
            assert_found("all: has", |history| {
                history.readings[0].received.remove(index);
            });
            assert_found("all: has", |history| {
                let twice = history.readings[0].received[index].clone();
                history.readings[0].received.insert(index, twice);
            });
        }
        for index in 0..4 {
            assert_found("all: has", |history| history.readings[0].received.swap(index, index + 1));
        }
        assert_found("a: has", |history| history.readings[1].received[0].0 += 1);
    }

    #[test]
    fn checker_reports_a_false_gap() {
        assert_found("a: false gaps", |history| history.readings[1].gaps.push("{}".into()));
    }

    #[test]
    fn checker_reports_what_was_acknowledged_and_is_lost_moved_or_taken_back() {
        for (index, says) in [(0, "only 0"), (1, "only 1"), (4, "only 0")] {
            assert_found(says, |history| {
                history.log.remove(index);
            });
        }
        assert_found("at 7", |history| history.log[0].seq = 7);
        assert_found("the log goes from 7 to 2", |history| history.log[0].seq = 7);
        assert_found("in channel b", |history| history.log[0].channel = "b".into());
        assert_found("not one behind the other", |history| history.log[2].seq = 4);
    }

    #[test]
    fn checker_reports_what_is_in_the_log_and_may_not() {
        let entry = |seq, data: &str| Entry { seq, channel: "a".into(), data: data.into() };
        assert_found("in the log twice", |history| history.log.push(entry(1_002, "a 4")));
        assert_found("in the log", |history| history.log.push(entry(1_002, "a refused")));
        assert_found("not been published", |history| history.log.push(entry(1_002, "other")));
    }

    #[test]
    fn checker_reports_an_order_that_publishers_can_disprove() {
        assert_found("acknowledged first", |history| {
            history.publishes[3].outcome = Outcome::Unknown;
            let late = Entry { seq: 0, channel: "a".into(), data: "a lost".into() };
            history.log.insert(0, late);
        });
    }
}
