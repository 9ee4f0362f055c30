//! The checker finds what it is there for.

use super::violations;
use crate::record::{Effect, Line, Outcome, Record};

/// Two channels, a subscriber of each and one of both; a batch, a publish whose outcome is unknown,
/// one that was refused, one that was neither.
fn good() -> Vec<Line> {
    let mut lines =
        vec![Record::Scenario { name: "good".into(), seed: 1, keeps_all: true, kept_min: 0 }];
    for (who, channels) in [(0, vec!["**"]), (1, vec!["a"]), (2, vec!["a", "b"])] {
        lines.push(subscriber(who, &channels, "e-0"));
    }
    let acked = |first: &str| Outcome::Acked { first: first.into() };
    lines.extend(publish(0, &["a 1"], acked("e-1")));
    lines.extend(publish(1, &["a 2", "b 3"], acked("e-2")));
    lines.extend(publish(2, &["a 4", "a 5"], Outcome::Unknown));
    lines.extend(publish(3, &["a lost"], Outcome::Unknown));
    lines.extend(publish(4, &["a refused"], Outcome::Refused));
    lines.extend(publish(5, &["b 6"], acked("e-9")));
    let log = [("e-1", "a 1"), ("e-2", "a 2"), ("e-3", "b 3"), ("e-4", "a 4"), ("e-5", "a 5")];
    let log = [&log[..], &[("e-9", "b 6")]].concat();
    for who in 0..3 {
        let takes = |data: &str| who != 1 || data.starts_with('a');
        lines.extend(log.iter().filter(|event| takes(event.1)).map(|event| received(who, *event)));
        lines.push(Record::Moved { who, id: "e-9".into() });
    }
    for hub in 0..2 {
        lines.extend(log.iter().map(|event| logged(hub, *event)));
    }
    timed(lines)
}

/// The engine loses `a 2` and goes on in another epoch, in which a publish is repeated.
fn good_loss() -> Vec<Line> {
    let acked = |first: &str| Outcome::Acked { first: first.into() };
    let mut lines = vec![
        Record::Scenario { name: "loss".into(), seed: 1, keeps_all: true, kept_min: 0 },
        subscriber(0, &["a"], "e-0"),
        subscriber(1, &["a"], "e-0"),
    ];
    lines.extend(publish(0, &["a 1"], acked("e-1")));
    lines.extend(publish(1, &["a 2"], acked("e-2")));
    lines.push(Record::Call { publish: 2, events: vec!["a 3".into()] });
    lines.push(received(0, ("e-1", "a 1")));
    lines.push(received(0, ("e-2", "a 2")));
    lines.push(received(0, ("e-3", "a 3")));
    lines.push(received(1, ("e-1", "a 1")));
    lines.push(Record::Loss { what: "an older copy".into(), since_us: 5, must: true });
    lines.push(Record::Answer { publish: 2, outcome: acked("f-10") });
    lines.extend(publish(3, &["a 4"], acked("f-11")));
    for (who, at) in [(0, "e-3"), (1, "e-1")] {
        lines.push(gap(who, "epoch", at, "f-0"));
        for event in [("f-1", "a 1"), ("f-10", "a 3"), ("f-11", "a 4")] {
            lines.push(received(who, event));
        }
    }
    for event in [("f-1", "a 1"), ("f-10", "a 3"), ("f-11", "a 4")] {
        lines.push(logged(0, event));
    }
    timed(lines)
}

/// The log keeps two events, and a subscriber was away for longer.
fn good_removal() -> Vec<Line> {
    let mut lines = vec![
        Record::Scenario { name: "removal".into(), seed: 1, keeps_all: false, kept_min: 2 },
        subscriber(0, &["a"], "e-0"),
        received(0, ("e-1", "a 1")),
    ];
    for n in 1..=4 {
        let (first, data) = (format!("e-{n}"), format!("a {n}"));
        lines.extend(publish(n, &[&data], Outcome::Acked { first }));
    }
    lines.push(gap(0, "evicted", "e-1", "e-2"));
    lines.push(received(0, ("e-3", "a 3")));
    lines.push(received(0, ("e-4", "a 4")));
    lines.extend([("e-3", "a 3"), ("e-4", "a 4")].map(|event| logged(0, event)));
    timed(lines)
}

fn timed(records: Vec<Record>) -> Vec<Line> {
    records.into_iter().zip(0..).map(|(record, at_us)| Line { at_us, record }).collect()
}

fn subscriber(who: u64, channels: &[&str], start: &str) -> Record {
    let channels = channels.iter().map(|&channel| channel.to_owned()).collect();
    Record::Subscriber { who, channels, start: start.into(), is_earliest: true }
}

fn publish(publish: u64, events: &[&str], outcome: Outcome) -> [Record; 2] {
    let events = events.iter().map(|&data| data.to_owned()).collect();
    [Record::Call { publish, events }, Record::Answer { publish, outcome }]
}

fn received(who: u64, (id, data): (&str, &str)) -> Record {
    Record::Event { who, id: id.into(), channel: None, data: data.into() }
}

fn logged(hub: usize, (id, data): (&str, &str)) -> Record {
    Record::Log { hub, id: id.into(), channel: data[..1].into(), data: data.into() }
}

fn gap(who: u64, reason: &str, requested: &str, oldest: &str) -> Record {
    let (reason, requested, oldest) = (reason.into(), requested.into(), oldest.into());
    Record::Gap { who, reason, requested, oldest }
}

/// Changes a good history, and wants a violation that says this.
#[track_caller]
fn assert_found(says: &str, mut lines: Vec<Line>, change: impl FnOnce(&mut Vec<Line>)) {
    assert_eq!(violations(&lines), Vec::<String>::new());
    change(&mut lines);
    let found = violations(&lines);
    assert!(found.iter().any(|text| text.contains(says)), "no {says:?} in {found:#?}");
}

/// The indexes of a subscriber's events.
fn events_of(lines: &[Line], wanted: u64) -> Vec<usize> {
    let is_event =
        |line: &Line| matches!(&line.record, Record::Event { who, .. } if *who == wanted);
    (0..lines.len()).filter(|index| is_event(&lines[*index])).collect()
}

#[test]
fn checker_accepts_what_may_be() {
    for lines in [good(), good_loss(), good_removal()] {
        assert_eq!(violations(&lines), Vec::<String>::new());
    }
}

#[test]
fn a_history_is_read_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    for lines in [good(), good_loss(), good_removal()] {
        let path = directory.path().join("history.jsonl");
        crate::record::write(&path, &lines).unwrap();
        assert_eq!(crate::record::read(&path).unwrap(), lines);
    }
}

#[test]
fn checker_reports_a_delivery_that_is_dropped_doubled_or_swapped() {
    for history in [good, good_loss] {
        let events = events_of(&history(), 0);
        for (n, &index) in events.iter().enumerate() {
            // What subscriber 1 was never sent and nothing acknowledged has gone without a trace.
            let is_trace = history().iter().any(|line| {
                line.at_us as usize != index && {
                    let id = match &history()[index].record {
                        Record::Event { id, .. } => id.clone(),
                        _ => unreachable!(),
                    };
                    match &line.record {
                        Record::Event { id: other, .. } | Record::Log { id: other, .. } => {
                            *other == id
                        }
                        Record::Answer { outcome: Outcome::Acked { first }, .. } => *first == id,
                        _ => false,
                    }
                }
            });
            if is_trace {
                assert_found("subscriber 0", history(), |lines| drop(lines.remove(index)));
            }
            assert_found("where it was already", history(), |lines| {
                let twice = lines[index].clone();
                lines.insert(index, twice);
            });
            if n > 0 && events[n - 1] + 1 == index {
                assert_found("back to", history(), |lines| lines.swap(index - 1, index));
            }
        }
    }
    // By a subscriber of two channels, one of them.
    let events = events_of(&good(), 2);
    assert_found("not \"b 3\" at e-3", good(), |lines| drop(lines.remove(events[2])));
}

#[test]
fn checker_reports_a_subscriber_that_did_not_reach_the_end() {
    let last = *events_of(&good(), 0).last().unwrap();
    assert_found("has nothing, not \"b 6\"", good(), |lines| drop(lines.remove(last)));
    assert_found("gave up", good(), |lines| {
        lines.push(Line { at_us: 99, record: Record::Stuck { who: 0, why: "gave up".into() } });
    });
    assert_found("ends at e-3, the log in f", good_loss(), |lines| {
        let is_last = |line: &Line| match &line.record {
            Record::Gap { who, .. } => *who == 0,
            Record::Event { who, id, .. } => *who == 0 && id.starts_with('f'),
            _ => false,
        };
        lines.retain(|line| !is_last(line));
    });
}

#[test]
fn checker_reports_a_false_gap() {
    let end = good().iter().position(|line| matches!(line.record, Record::Moved { .. })).unwrap();
    for (reason, says) in [("evicted", "no event is missing"), ("slow", "it is false")] {
        assert_found(says, good(), |lines| {
            lines.insert(end, Line { at_us: 0, record: gap(0, reason, "e-9", "e-9") });
        });
    }
    // It skips what there is.
    let events = events_of(&good(), 0);
    assert_found("which there is", good(), |lines| {
        lines[events[2]].record = gap(0, "evicted", "e-2", "e-3");
    });
    assert_found("which there is", good_loss(), |lines| {
        let at = |from: &str| gap(0, "epoch", "e-3", from);
        let index = lines.iter().position(|line| line.record == at("f-0")).unwrap();
        lines[index].record = at("f-1");
        lines.remove(index + 1);
    });
    // Back, and forth again.
    assert_found("an epoch it has left", good_loss(), |lines| {
        let index = lines.iter().position(|l| l.record == gap(0, "epoch", "e-3", "f-0")).unwrap();
        let gaps = [gap(0, "epoch", "f-0", "e-3"), gap(0, "epoch", "e-3", "f-0")];
        for (record, behind) in gaps.into_iter().zip(1..) {
            lines.insert(index + behind, Line { at_us: 50, record });
        }
    });
    // Not from where the subscriber was.
    assert_found("a gap from e-2", good_loss(), |lines| {
        let index = lines.iter().position(|l| l.record == gap(0, "epoch", "e-3", "f-0")).unwrap();
        lines[index].record = gap(0, "epoch", "e-2", "f-0");
    });
}

#[test]
fn checker_reports_a_gap_that_was_not_sent() {
    assert_found("without a gap", good_loss(), |lines| {
        let sent = gap(1, "epoch", "e-1", "f-0");
        lines.retain(|line| line.record != sent);
    });
    assert_found("has \"a 3\" at e-3, not \"a 2\"", good_removal(), |lines| {
        lines.retain(|line| !matches!(line.record, Record::Gap { .. }));
    });
}

#[test]
fn checker_reports_a_subscriber_that_starts_behind_the_oldest_event() {
    assert_found("starts at e-1, behind \"a 1\" at e-1", good(), |lines| {
        let index = lines.iter().position(|l| l.record == subscriber(1, &["a"], "e-0")).unwrap();
        lines[index].record = subscriber(1, &["a"], "e-1");
        lines.remove(events_of(lines, 1)[0]);
    });
}

#[test]
fn checker_reports_what_was_acknowledged_and_is_lost_or_moved() {
    let without = |data: &'static str| {
        move |lines: &mut Vec<Line>| {
            lines.retain(|line| match &line.record {
                Record::Log { data: it, .. } | Record::Event { data: it, .. } => it != data,
                _ => true,
            });
        }
    };
    for data in ["a 1", "a 2", "b 3", "b 6"] {
        assert_found("is lost", good(), without(data));
    }
    // Sent after the engine had lost what it lost.
    assert_found("is lost", good_loss(), without("a 4"));
    assert_found("1 of 2 events", good(), without("a 5"));
    assert_found("at e-3 and at e-7", good(), |lines| {
        lines.push(Line { at_us: 99, record: logged(1, ("e-7", "b 3")) });
    });
    // What was lost may only have been so if there was a loss.
    assert_found("2 epochs after 0 losses", good_loss(), |lines| {
        lines.retain(|line| !matches!(line.record, Record::Loss { .. }));
    });
}

#[test]
fn checker_reports_what_is_in_the_log_and_may_not() {
    let also = |data: &'static str| {
        move |lines: &mut Vec<Line>| {
            let at_us = 99;
            lines.push(Line { at_us, record: logged(0, ("e-12", data)) });
            lines.push(Line { at_us, record: logged(1, ("e-12", data)) });
        }
    };
    assert_found("was refused and is at e-12", good(), also("a refused"));
    assert_found("was not published", good(), also("a other"));
    assert_found("is at e-4 and at e-12", good(), also("a 4"));
    // Seen by a subscriber alone: something that was taken back.
    assert_found("was refused and is at e-12", good(), |lines| {
        lines.push(Line { at_us: 99, record: received(0, ("e-12", "a refused")) });
    });
    assert_found("is not in the log", good(), |lines| {
        lines.push(Line { at_us: 99, record: received(0, ("e-12", "a lost")) });
    });
    assert_found("e-9 means", good(), |lines| {
        lines.push(Line { at_us: 99, record: received(0, ("e-9", "a lost")) });
    });
    assert_found("hub 1 lacks", good(), |lines| {
        let missing = logged(1, ("e-4", "a 4"));
        lines.retain(|line| line.record != missing);
    });
    assert_found("in channel", good(), |lines| {
        let Record::Event { channel, .. } = &mut lines[events_of(&good(), 0)[0]].record else {
            unreachable!()
        };
        *channel = Some("b".into());
    });
}

#[test]
fn checker_reports_a_close_that_is_lost_or_has_events_behind_it() {
    let with_close = |is_there: bool| {
        let mut lines = good();
        let records = publish(6, &["d closed"], Outcome::Closed);
        lines.extend(timed(records.into()));
        if is_there {
            lines.push(Line { at_us: 99, record: received(0, ("e-10", "d closed")) });
            for hub in 0..2 {
                lines.push(Line { at_us: 99, record: logged(hub, ("e-10", "d closed")) });
            }
        }
        lines
    };
    assert_eq!(violations(&with_close(true)), Vec::<String>::new());
    let found = violations(&with_close(false));
    assert!(found[0].contains("\"d closed\", which was acknowledged, is lost"), "{found:?}");
    assert_found("its channel was closed at e-10", with_close(true), |lines| {
        let acked = Outcome::Acked { first: "e-11".into() };
        lines.extend(timed(publish(7, &["d late"], acked).into()));
        for hub in 0..2 {
            lines.push(Line { at_us: 99, record: logged(hub, ("e-11", "d late")) });
        }
    });
}

#[test]
fn checker_reports_an_order_that_publishers_can_disprove() {
    assert_found("not behind", good(), |lines| {
        // The last one is before the first one.
        for line in lines.iter_mut() {
            match &mut line.record {
                Record::Answer { publish: 5, outcome } => {
                    *outcome = Outcome::Acked { first: "e-0".into() };
                }
                Record::Log { id, .. } | Record::Event { id, .. } if id == "e-9" => {
                    *id = "e-0".into();
                }
                _ => {}
            }
        }
    });
}

#[test]
fn checker_reports_a_loss_of_what_was_acknowledged_before_the_copy() {
    // The copy is of line 5, behind the acknowledgement of `a 1`.
    let is_answer = |line: &Line| matches!(line.record, Record::Answer { publish: 0, .. });
    assert!(good_loss().iter().position(is_answer).is_some_and(|at| at < 5));
    assert_found("\"a 1\", acknowledged at e-1, is lost", good_loss(), |lines| {
        lines.retain(|line| match &line.record {
            Record::Log { id, .. } | Record::Event { id, .. } => id != "f-1",
            _ => true,
        });
    });
    // `a 2` was acknowledged behind it, and may be lost: unless there is a later copy that has it.
    assert_found("\"a 2\", acknowledged at e-2, is lost", good_loss(), |lines| {
        let at_us = lines.iter().find(|l| matches!(l.record, Record::Loss { .. })).unwrap().at_us;
        for line in lines {
            if let Record::Loss { since_us, .. } = &mut line.record {
                *since_us = at_us;
            }
        }
    });
}

#[test]
fn a_copy_of_before_another_loss_brings_back_what_that_one_lost() {
    let loss = |since_us, at_us| Line {
        at_us,
        record: Record::Loss { what: "twice".into(), since_us, must: false },
    };
    // Emptied, and then the copy of line 5 is put back: `a 1` has to be there.
    let mut lines = good_loss();
    let at = lines.iter().position(|line| matches!(line.record, Record::Loss { .. })).unwrap();
    let at_us = lines[at].at_us;
    lines.insert(at, loss(0, at_us));
    assert_eq!(violations(&lines), Vec::<String>::new());
    lines.retain(|line| match &line.record {
        Record::Log { id, .. } | Record::Event { id, .. } => id != "f-1",
        _ => true,
    });
    let found = violations(&lines);
    assert!(found.iter().any(|text| text.contains("is lost")), "{found:?}");
    // The other way round nothing has to.
    let mut lines = good_loss();
    lines.insert(at + 1, loss(0, at_us));
    lines.retain(|line| match &line.record {
        Record::Log { id, .. } | Record::Event { id, .. } => id != "f-1",
        _ => true,
    });
    assert_eq!(violations(&lines), Vec::<String>::new());
}

#[test]
fn checker_reports_a_fault_without_effect() {
    let with = |effect: Effect, shown: Option<Record>| {
        let mut lines = good();
        // Before it strikes it shows nothing.
        let early = shown.clone();
        lines.splice(1..1, early.map(|record| Line { at_us: 0, record }));
        lines.push(Line { at_us: 90, record: Record::Expected { effect } });
        lines.extend(shown.map(|record| Line { at_us: 91, record }));
        lines
    };
    let refusal = Record::Refusal { hub: 1, status: 507 };
    let closed = |by: &str, broke: bool| Record::Closed { who: 0, by: by.into(), broke };
    let broken = Effect::Broken { by: "Stream".into() };
    // One that has all, or whose hub drains, shows nothing of a fault, and another transport not
    // this one.
    for record in [closed("Stream", false), closed("Poll", true)] {
        let found = violations(&with(broken.clone(), Some(record)));
        assert!(found[0].contains("the fault had no effect"), "{found:?}");
    }
    for (effect, shown) in [
        (Effect::Status { hub: None, any: vec![503, 507] }, refusal),
        (broken, closed("Stream", true)),
    ] {
        assert_found("the fault had no effect", with(effect.clone(), Some(shown)), |lines| {
            lines.pop();
        });
        let found = violations(&with(effect, None));
        assert!(found[0].contains("the fault had no effect"), "{found:?}");
    }
    let at_first = Effect::Status { hub: Some(0), any: vec![503] };
    let refused = |hub, status| with(at_first.clone(), Some(Record::Refusal { hub, status }));
    assert_eq!(violations(&refused(0, 503)), [""; 0]);
    // Another status, and the hub beside the one that is broken.
    for wrong in [refused(0, 507), refused(1, 503)] {
        assert!(violations(&wrong)[0].contains("the fault had no effect"));
    }
    let expected = Record::Expected { effect: Effect::Gap { reason: "epoch".into() } };
    let mut lines = good_loss();
    lines.insert(1, Line { at_us: 0, record: expected });
    assert_found("the fault had no effect", lines, |lines| {
        lines.retain(|line| !matches!(line.record, Record::Gap { .. }));
    });
    // A loss that no hub has noticed.
    assert_found("only 1 epochs after 1 losses", good_loss(), |lines| {
        lines.retain(|line| match &line.record {
            Record::Event { id, .. } | Record::Log { id, .. } => !id.starts_with('f'),
            Record::Answer { outcome: Outcome::Acked { first }, .. } => !first.starts_with('f'),
            Record::Gap { .. } => false,
            _ => true,
        });
    });
}

#[test]
fn checker_reports_a_hub_that_is_not_back_in_time() {
    assert_found("hub 1 takes publishes after 2001 ms, not 2000", good(), |lines| {
        for (hub, ms) in [(0, 2_000), (1, 2_001)] {
            let record = Record::Recovered { hub, ms, ms_max: 2_000 };
            lines.push(Line { at_us: 99, record });
        }
    });
}

#[test]
fn checker_reports_removal_of_what_is_to_be_kept() {
    // A gap that covers everything, and a log of one event.
    assert_found("hub 0 has 1 events at the end, and is to keep 2", good_removal(), |lines| {
        lines.retain(|line| match &line.record {
            Record::Log { id, .. } | Record::Event { id, .. } => id != "e-3",
            _ => true,
        });
        for line in lines {
            if let Record::Gap { oldest, .. } = &mut line.record {
                *oldest = "e-3".into();
            }
        }
    });
}
