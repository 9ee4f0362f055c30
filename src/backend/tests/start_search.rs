//! What comes and goes while the start of a reader is searched, or reads what it has found, is
//! received or reported as lost.

use std::rc::Rc;

use super::*;

/// What a resume at `start` finds when `meanwhile` happens after `looks` steps of the search.
fn resumed(
    log: &Log,
    pattern: &str,
    start: &Start,
    looks: usize,
    meanwhile: impl FnOnce(&Log),
) -> (Subscription, Resume) {
    let subscription = subscription(pattern);
    let patterns = subscription.patterns();
    let mut resume = log.0.resume(patterns, [].iter(), StartRequest::at(start), log.0.head());
    assert!(resume.reader.is_searching_start(), "one look is not enough");
    let mut meanwhile = Some(meanwhile);
    for nth in 0.. {
        if nth == looks
            && let Some(meanwhile) = meanwhile.take()
        {
            meanwhile(log);
        }
        if let Some(begun) = log.0.search_start(patterns, [].iter(), &mut resume.reader) {
            (resume.cursor, resume.gap) = (begun.cursor, begun.gap);
            break;
        }
    }
    assert!(meanwhile.is_none(), "it was over before");
    (subscription, resume)
}

#[test]
fn a_loss_that_the_first_step_does_not_reach_is_found_before_the_start() {
    for is_lost_meanwhile in [false, true] {
        let log = Log::new();
        log.say("a");
        (0..12).for_each(|n| log.say(&format!("c/{}", n % 2)));
        log.say("x");
        let start = Start::At(log.0.position(Seq(1)));
        if !is_lost_meanwhile {
            log.evict("x");
        }
        let (all, mut resume) = resumed(&log, "*", &start, 1, |log| {
            if is_lost_meanwhile {
                log.evict("x");
            }
        });
        let gap = resume.gap.expect("a gap");
        assert_eq!((gap.reason, gap.oldest.seq), (GapReason::Evicted, log.0.head()));
        log.say("a");
        assert_eq!(log.rest(&all, &mut resume.reader, resume.cursor), [15]);
    }
}

#[test]
fn a_start_search_that_the_journal_overtakes_goes_on_in_the_channels() {
    for (from, is_lost) in [(None, false), (Some(1), false), (Some(1), true)] {
        let log = Log::new();
        (0..12).for_each(|n| log.say(&format!("c/{}", n % 2)));
        log.say("x");
        let at = |seq| Start::At(log.0.position(Seq(seq)));
        let start = from.map_or(Start::Earliest, at);
        let (all, mut resume) = resumed(&log, "*", &start, 1, |log| {
            (0..20).for_each(|_| log.say("z/z"));
            if is_lost {
                log.evict("x");
            }
            log.say("y");
        });
        let head = log.0.head();
        let seqs = log.rest(&all, &mut resume.reader, resume.cursor);
        match is_lost {
            false => assert_eq!((seqs, resume.gap), (vec![13, head.0], None)),
            true => {
                let gap = resume.gap.expect("a gap");
                assert_eq!((gap.reason, gap.oldest.seq.next()), (GapReason::Evicted, head));
                assert_eq!(seqs, [head.0]);
            }
        }
    }
}

#[test]
fn a_channel_evicted_during_a_start_search_is_a_loss_at_any_step() {
    // The steps look at the named channels, then at the names, three at a time, then at evicted
    // channels.
    for (looks, forgets) in (0..5).flat_map(|looks| [(looks, false), (looks, true)]) {
        let log = log_of(&["a", "b", "c", "d", "e", "f", "g", "h"]);
        let start = Start::At(log.0.position(Seq(1)));
        let (all, mut resume) = resumed(&log, "**", &start, looks, |log| match forgets {
            true => log.evict("h"),
            false => log.0.evict_all(&log.entry("h")),
        });
        if forgets || looks < 4 {
            let gap = resume.gap.expect("a gap");
            assert_eq!((gap.reason, gap.oldest.seq), (GapReason::Evicted, Seq(1)));
            let seqs = log.rest(&all, &mut resume.reader, Seq(1));
            assert_eq!(seqs[..7], [2, 3, 4, 5, 6, 7, 9]);
        } else {
            assert!(resume.gap.is_none());
            // The merge ends there, and the channels are collected again.
            assert_eq!(log.until_loss(&all, &mut resume.reader, Seq(1)), Seq(4));
        }
    }
}

#[test]
fn a_channel_evicted_and_created_again_during_a_start_search_is_not_missed() {
    for looks in 0..3 {
        let log = log_of(&["a", "b", "c", "d", "e", "f", "g", "h"]);
        let start = Start::At(log.0.position(Seq(1)));
        let (_, resume) = resumed(&log, "**", &start, looks, |log| {
            log.evict("h");
            log.entry("h");
        });
        assert_eq!(resume.gap.expect("a gap").reason, GapReason::Evicted);
    }
}

#[test]
fn when_all_that_was_found_is_evicted_during_a_start_search_what_is_behind_it_is_received() {
    for looks in 0..5 {
        let log = log_of(&["a", "b", "c", "d", "e", "f", "g", "h"]);
        let (all, mut resume) = resumed(&log, "**", &Start::Earliest, looks, |log| {
            // These are all that a merge holds here.
            ["a", "b", "c"].iter().for_each(|name| log.0.evict_all(&log.entry(name)));
        });
        assert_eq!((resume.cursor, &resume.gap), (Seq(3), &None));
        let seqs = log.rest(&all, &mut resume.reader, resume.cursor);
        assert_eq!(seqs, (4..=28).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_evicted_during_a_replay_is_received_or_a_loss() {
    let patterns = subscription("c/*");
    let mut losses = 0;
    // The eviction happens before each hold of a history's lock, one after the other.
    for looks in 0.. {
        let log = Rc::new(log_of(&["c/a", "c/b"].repeat(3)));
        let start = Start::At(log.0.position(Seq(0)));
        let head = log.0.head();
        let mut resume = log.begin(&patterns, &start, head);
        let evicting = Rc::clone(&log);
        before_looks(looks, move || evicting.0.evict_all(&evicting.entry("c/a")));
        let mut range = SeqRange { after: resume.cursor, through: head, ..RANGE };
        let mut seqs = Vec::new();
        let is_lost = loop {
            let read = log.0.read(patterns.patterns(), [].iter(), &mut resume.reader, &range);
            let Ok(piece) = read else { break true };
            seqs.extend(piece.events.iter().map(|event| event.seq.0));
            range.after = piece.through;
            if !piece.more {
                break false;
            }
        };
        let all: Vec<u64> = (1..=6).collect();
        assert!(all.starts_with(&seqs) && (is_lost || seqs == all), "{looks}: {seqs:?}");
        losses += u32::from(is_lost);
        if !clear_planned_evictions() {
            continue;
        }
        assert!(looks > 4 && losses > 2, "{losses} of {looks}");
        return;
    }
}

#[test]
fn what_is_published_during_a_start_search_is_received_after_it() {
    for looks in 0..5 {
        let log = log_of(&["m", "n", "o", "p", "q", "r", "s"]);
        let (all, mut resume) = resumed(&log, "**", &Start::Earliest, looks, |log| {
            // To new channels before and behind the name that the walk has come to, and to an old
            // one.
            ["a", "zz", "n"].iter().for_each(|name| log.say(name));
        });
        assert_eq!((resume.cursor, &resume.gap), (Seq(0), &None));
        let seqs = log.rest(&all, &mut resume.reader, resume.cursor);
        assert_eq!(seqs, (1..=30).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_evicted_during_a_start_search_is_a_loss_only_if_it_came_after_its_beginning() {
    for looks in 0..3 {
        let log = log_of(&["m", "n", "o", "p", "q"]);
        let (all, mut resume) = resumed(&log, "**", &Start::Earliest, looks, |log| {
            // The merge may hold it already, and then it is not evicted.
            log.0.evict_all(&log.entry("m"));
            log.evict("q");
        });
        assert_eq!((resume.cursor, &resume.gap), (Seq(1), &None), "the oldest that is there");
        let seqs = log.rest(&all, &mut resume.reader, resume.cursor);
        assert_eq!(seqs[..4], [2, 3, 4, 6]);

        let log = log_of(&["m", "n", "o", "p", "q"]);
        let (all, mut resume) = resumed(&log, "**", &Start::Earliest, looks, |log| {
            log.say("q");
            log.evict("q");
        });
        assert_eq!((resume.cursor, &resume.gap), (Seq(0), &None));
        assert!(log.until_loss(&all, &mut resume.reader, Seq(0)) < Seq(26), "26 was due");
    }
}

#[test]
fn a_loss_is_found_however_often_its_channel_was_evicted_and_created() {
    // In the journal and before it.
    for later in [0, 50] {
        let log = Log::new();
        ["a", "x", "x", "a"].iter().for_each(|name| log.say(name));
        log.evict("x");
        log.entry("x");
        (0..later).for_each(|_| log.say("a"));
        let all = subscription("**");
        let head = log.0.head();
        let resume = |after| {
            let start = Start::At(log.0.position(Seq(after)));
            log.begin(&all, &start, head).gap.map(|gap| gap.reason)
        };
        assert_eq!(resume(2), Some(GapReason::Evicted));
        assert_eq!(resume(3), None, "what is gone lies before");
        log.evict("x");
        assert_eq!(resume(2), Some(GapReason::Evicted));
        log.say("x");
        assert_eq!(resume(2), Some(GapReason::Evicted));
    }
}
