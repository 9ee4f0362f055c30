//! Subscriptions that start some events back, and whether they find channels truncated.

use super::*;
use crate::model::LastEvents;

fn last(each: u32) -> Start {
    Start::Last(LastEvents::new(each).expect("within its bounds"))
}

fn of_type(pattern: &str, event_type: &str) -> Subscription {
    let selector = ChannelSelector::parse(pattern).expect("a pattern");
    let event_type = EventType::parse(event_type).expect("a type");
    Subscription::new([selector], [event_type], 1).expect("a subscription")
}

/// What a subscription reads from its start to the head.
fn read(log: &Log, subscription: &Subscription, start: &Start) -> Vec<u64> {
    let mut resume = log.begin(subscription, start, log.0.head());
    assert_eq!(resume.gap, None);
    log.rest(subscription, &mut resume.reader, resume.cursor)
}

#[test]
fn each_channel_starts_with_its_own_last_events() {
    let log = log_of(&["a", "b", "a", "a", "c", "b"]);
    for (each, seqs) in [
        (1, &[4, 5, 6, 26][..]),
        (2, &[2, 3, 4, 5, 6, 25, 26]),
        // The newest events, as many as a subscription may start with over all its channels.
        (1_000, &[15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26]),
    ] {
        assert_eq!(read(&log, &subscription("**"), &last(each)), seqs, "{each}");
    }
    assert_eq!(read(&log, &subscription("a/**"), &last(2)), [3, 4]);
    assert!(read(&log, &subscription("other/*"), &last(2)).is_empty());
}

#[test]
fn only_events_of_the_wanted_types_count() {
    let log = Log::new();
    for n in 0..20 {
        log.say_typed("a", if n == 3 || n == 4 { "rare" } else { "often" });
        log.say_typed("b", if n == 7 { "rare" } else { "often" });
    }
    let rare = of_type("*", "rare");
    let mut resume = log.begin(&rare, &last(1), log.0.head());
    assert_eq!(resume.cursor, Seq(8));
    let read = log.rest(&rare, &mut resume.reader, resume.cursor);
    // Those of other types are passed over where they are sent.
    assert_eq!(read[0], 9);
    assert!(read.contains(&16) && !read.contains(&14), "{read:?}");
}

#[test]
fn an_eviction_of_what_was_not_asked_for_is_no_loss() {
    for pattern in ["**", "z"] {
        let log = log_of(&["a", "b"]);
        let z = log.entry("z");
        let all = subscription(pattern);
        let named: Vec<_> = if pattern == "z" { vec![&z] } else { vec![] };
        let (start, head) = (last(2), log.0.head());
        let patterns = all.patterns();
        let asked = StartRequest::at(&start);
        let mut resume = log.0.resume(patterns, named.iter().copied(), asked, head);
        while resume.reader.is_searching_start() {
            let found = log.0.search_start(patterns, named.iter().copied(), &mut resume.reader);
            if let Some(found) = found {
                resume.cursor = found.cursor;
            }
        }
        // All events of `z` but its last two.
        z.events().with_history(|history| history.evict_through(Seq(20)));
        log.say("z");
        let mut range = SeqRange { after: resume.cursor, through: log.0.head(), ..RANGE };
        let mut seqs = Vec::new();
        loop {
            let piece = log.0.read(patterns, named.iter().copied(), &mut resume.reader, &range);
            let piece = piece.expect("nothing that it wants is lost");
            seqs.extend(piece.events.iter().map(|event| event.seq.0));
            range.after = piece.through;
            if !piece.more {
                break;
            }
        }
        let due: &[u64] = if pattern == "z" { &[21, 22, 23] } else { &[1, 2, 21, 22, 23] };
        assert_eq!(seqs, due, "{pattern}");
    }
}

#[test]
fn what_was_asked_for_and_is_evicted_before_it_is_read_is_a_loss() {
    let log = log_of(&["a", "b"]);
    let all = subscription("**");
    let mut resume = log.begin(&all, &last(2), log.0.head());
    log.0.evict_all(&log.entry("b"));
    assert_eq!(log.until_loss(&all, &mut resume.reader, resume.cursor), Seq(1));
}

#[test]
fn a_start_with_history_tells_whether_a_channel_of_its_patterns_has_lost_events() {
    let names = ["a/1", "a/2", "a/3", "b/1", "b/2", "b/3", "b/4"];
    for in_journal in [true, false] {
        let log = Log::new();
        let truncated = |pattern, start: &Start| {
            log.begin(&subscription(pattern), start, log.0.head()).truncated
        };
        names.iter().for_each(|name| log.say(name));
        if !in_journal {
            (0..20).for_each(|_| log.say("z"));
        }
        assert!(!truncated("**", &Start::Earliest), "nothing is gone yet");
        log.0.evict_all(&log.entry("b/3"));
        for (pattern, is_truncated) in [("**", true), ("b/*", true), ("a/*", false), ("c/*", false)]
        {
            for start in [Start::Earliest, last(1)] {
                assert_eq!(truncated(pattern, &start), is_truncated, "{pattern} {start:?}");
            }
        }
        assert!(!truncated("**", &Start::Now), "it wants no history");
        // A channel that has been evicted itself counts too.
        log.evict("b/3");
        assert!(truncated("b/*", &Start::Earliest));
        assert!(!truncated("a/*", &Start::Earliest));
    }
}
