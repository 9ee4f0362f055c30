//! What reading costs, counted in looks: at a name, at a place of the journal, at a channel of a
//! replay. None of it may grow with what the reader does not receive.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use super::{reading::Reading, *};
use crate::{
    core::{Limits, Subscription},
    model::{
        ChannelName, ChannelSelector, Draft, Epoch, Event, EventKind, GapReason, NewEvent, Seq,
        Start,
    },
};

thread_local! {
    static LOOKS: Cell<u64> = const { Cell::new(0) };
}

pub(super) fn look() {
    LOOKS.set(LOOKS.get() + 1);
}

type Act = Box<dyn FnOnce()>;

thread_local! {
    static BEFORE: RefCell<Option<(u32, Act)>> = const { RefCell::new(None) };
}

/// Lets something happen after so many more holds of a history's lock.
fn before_looks(looks: u32, act: impl FnOnce() + 'static) {
    BEFORE.set(Some((looks, Box::new(act))));
}

/// Whether it has not happened.
fn forget_what_was_to_be_done() -> bool {
    BEFORE.take().is_some()
}

/// A history is about to be locked.
pub(super) fn before_lock() {
    match BEFORE.take() {
        Some((0, act)) => act(),
        Some((looks, act)) => BEFORE.set(Some((looks - 1, act))),
        None => {}
    }
}

fn looks_of<T>(act: impl FnOnce() -> T) -> (T, u64) {
    let before = LOOKS.get();
    let done = act();
    (done, LOOKS.get() - before)
}

struct Log(MemoryBackend);

impl Log {
    fn new() -> Self {
        Self(MemoryBackend::new(Epoch::new(0, 1), Limits::default()))
    }

    fn entry(&self, name: &str) -> Arc<ChannelEntry> {
        let name = ChannelName::parse(name).expect("a name");
        self.0.directory().find_or_create(&name, 0).expect("room for it")
    }

    fn say(&self, name: &str) {
        let entry = self.entry(name);
        let position = self.0.position(self.0.head().next());
        let event = Event {
            seq: position.seq,
            epoch: position.epoch,
            time_ms: 0,
            channel: entry.name().clone(),
            kind: EventKind::Published,
            frame: Draft::new(&NewEvent::message("x")).finish(position),
        };
        self.0.append(&entry, &Arc::new(event));
        self.0.commit(position.seq);
    }

    fn forget(&self, name: &str) {
        let entry = self.entry(name);
        self.0.evict_all(&entry);
        assert!(self.0.directory().forget(entry));
    }

    /// Resumes after `after` and reads to the head; gives the seqs.
    fn replay(&self, pattern: &str, after: u64) -> Vec<u64> {
        let subscription = subscription(pattern);
        let head = self.0.head();
        let start = Start::At(self.0.position(Seq(after)));
        let mut resume = self.begin(&subscription, &start, head);
        assert!(resume.gap.is_none(), "{:?}", resume.gap);
        self.rest(&subscription, &mut resume.reading, resume.cursor)
    }

    /// Where a subscription starts, found out to the end.
    fn begin(&self, subscription: &Subscription, start: &Start, head: Seq) -> Resume {
        let patterns = subscription.patterns();
        let mut resume = self.0.resume(patterns, [].iter(), start, head);
        while resume.reading.is_looking_back() {
            if let Some(begun) = self.0.look_back(patterns, [].iter(), &mut resume.reading) {
                (resume.cursor, resume.gap) = (begun.cursor, begun.gap);
            }
        }
        resume
    }

    /// Reads from `after` to the head; gives the seqs.
    fn rest(&self, subscription: &Subscription, reading: &mut Reading, after: Seq) -> Vec<u64> {
        let through = self.0.head();
        let mut span = Span { after, through, ..SPAN };
        let mut seqs = Vec::new();
        loop {
            let read = self.0.read(subscription.patterns(), [].iter(), reading, &span);
            let piece = read.expect("nothing is lost");
            seqs.extend(piece.events.iter().map(|event| event.seq.0));
            span.after = piece.through;
            if !piece.more {
                return seqs;
            }
        }
    }

    /// Reads from `after` until a loss; gives how far it has come.
    fn until_loss(&self, subscription: &Subscription, reading: &mut Reading, after: Seq) -> Seq {
        let mut span = Span { after, through: self.0.head(), ..SPAN };
        loop {
            match self.0.read(subscription.patterns(), [].iter(), reading, &span) {
                Ok(piece) if piece.more => span.after = piece.through,
                Ok(_) => panic!("the loss was not noticed"),
                Err(_) => return span.after,
            }
        }
    }
}

fn subscription(pattern: &str) -> Subscription {
    let selector = ChannelSelector::parse(pattern).expect("a pattern");
    Subscription::new([selector], [], 1).expect("a subscription")
}

#[test]
fn what_a_pattern_reader_costs_does_not_grow_with_the_channels() {
    let mut costs = Vec::new();
    for channels in [20, 2_000] {
        let log = Log::new();
        (0..channels).for_each(|n| log.say(&format!("quiet/{n}")));
        // Channels are born meanwhile.
        (0..10).for_each(|n| log.say(&format!("young/{n}")));
        let head = log.0.head();
        let all = subscription("**");
        let (resume, looks) =
            looks_of(|| log.0.resume(all.patterns(), [].iter(), &Start::Now, head));
        assert_eq!((resume.cursor, looks), (head, 0));
        let (seqs, looks) = looks_of(|| log.replay("**", channels));
        assert_eq!(seqs, (channels + 1..=channels + 10).collect::<Vec<_>>());
        // Once for losses, once for events, and the first of each next piece.
        assert!(looks <= 2 * 10 + 3, "{looks}");
        costs.push(looks);
    }
    assert_eq!(costs[0], costs[1]);
}

#[test]
fn a_replay_from_before_the_journal_looks_at_names_that_begin_as_the_pattern_does() {
    let mut costs = Vec::new();
    for others in [30, 3_000] {
        let log = Log::new();
        let mut own = Vec::new();
        for n in 0..others {
            if n < 12 {
                log.say(&format!("t/7/{}", n % 4));
                own.push(log.0.head().0);
            }
            log.say(&format!("t/{}/x", n + 100));
        }
        let (seqs, looks) = looks_of(|| log.replay("t/7/*", 0));
        assert_eq!(seqs, own);
        // What lies in the journal in the end is looked at there.
        costs.push(looks);
    }
    assert_eq!(costs[0], costs[1]);
}

#[test]
fn a_replay_of_many_channels_costs_about_what_it_gives() {
    let log = Log::new();
    let (channels, rounds) = (40, 25);
    for _ in 0..rounds {
        (0..channels).for_each(|n| log.say(&format!("c/{n}")));
    }
    let (seqs, looks) = looks_of(|| log.replay("**", 0));
    assert_eq!(seqs, (1..=channels * rounds).collect::<Vec<_>>());
    // The heap holds three channels here, so they are collected anew for every three events; at
    // its real size, for every 4,096.
    let collections = channels * rounds / 3 + 2;
    assert!(looks <= collections * channels + 3 * channels * rounds, "{looks}");
}

#[test]
fn what_many_selectors_cost_at_once_is_bounded_and_nothing_is_missed_for_it() {
    let selectors: Vec<_> =
        (0..8).map(|n| ChannelSelector::parse(&format!("**/x{n}")).expect("a selector")).collect();
    let many = Subscription::new(selectors, [], 8).expect("a subscription");
    let log = Log::new();
    // Names alternate, so that each is compared. Few enough for the journal.
    (0..12).for_each(|n| log.say(&format!("c/{}", n % 2)));
    log.say("c/x7");
    let head = log.0.head();
    let patterns = many.patterns();
    // So many places of the journal at a time, to the end.
    let begin = |start: &Start, places: u64| {
        let (mut resume, looks) = looks_of(|| log.0.resume(patterns, [].iter(), start, head));
        assert_eq!((looks, resume.reading.is_looking_back()), (places, true));
        while resume.reading.is_looking_back() {
            let look = || log.0.look_back(patterns, [].iter(), &mut resume.reading);
            let (begun, looks) = looks_of(look);
            assert!(looks <= places, "{looks}");
            begun
                .into_iter()
                .for_each(|begun| (resume.cursor, resume.gap) = (begun.cursor, begun.gap));
        }
        resume
    };
    for (start, lost) in [(Start::Earliest, false), (Start::Unknown("?".into()), true)] {
        // One comparison of a name with all eight.
        let mut resume = begin(&start, 1);
        assert_eq!(resume.cursor, Seq(12), "just before what it wants");
        assert_eq!(resume.gap.map(|gap| gap.oldest.seq), lost.then_some(Seq(12)));
        assert_eq!(log.rest(&many, &mut resume.reading, Seq(12)), [13]);
    }
    let start = Start::At(log.0.position(Seq(1)));
    // Only names of what is gone are compared.
    let mut resume = begin(&start, 5);
    assert!(resume.gap.is_none() && resume.cursor == Seq(1));
    // A loss that it knows nothing of is found by reading, and by who begins.
    log.forget("c/x7");
    assert_eq!(log.until_loss(&many, &mut resume.reading, Seq(1)), Seq(12));
    assert_eq!(begin(&start, 5).gap.expect("a gap").reason, GapReason::Evicted);
}

#[test]
fn a_loss_further_on_than_one_look_comes_to_is_told_at_the_beginning() {
    for is_lost_meanwhile in [false, true] {
        let log = Log::new();
        log.say("a");
        (0..12).for_each(|n| log.say(&format!("c/{}", n % 2)));
        log.say("x");
        let start = Start::At(log.0.position(Seq(1)));
        if !is_lost_meanwhile {
            log.forget("x");
        }
        let (all, mut resume) = resumed(&log, "*", &start, 1, |log| {
            if is_lost_meanwhile {
                log.forget("x");
            }
        });
        let gap = resume.gap.expect("a gap");
        assert_eq!((gap.reason, gap.oldest.seq), (GapReason::Evicted, log.0.head()));
        log.say("a");
        assert_eq!(log.rest(&all, &mut resume.reading, resume.cursor), [15]);
    }
}

#[test]
fn a_look_back_that_the_journal_overtakes_goes_on_in_the_channels() {
    for (from, is_lost) in [(None, false), (Some(1), false), (Some(1), true)] {
        let log = Log::new();
        (0..12).for_each(|n| log.say(&format!("c/{}", n % 2)));
        log.say("x");
        let at = |seq| Start::At(log.0.position(Seq(seq)));
        let start = from.map_or(Start::Earliest, at);
        let (all, mut resume) = resumed(&log, "*", &start, 1, |log| {
            (0..20).for_each(|_| log.say("z/z"));
            if is_lost {
                log.forget("x");
            }
            log.say("y");
        });
        let head = log.0.head();
        let seqs = log.rest(&all, &mut resume.reading, resume.cursor);
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
fn going_back_within_a_piece_costs_no_new_collection() {
    let log = Log::new();
    (0..100).for_each(|n| log.say(&format!("c/{}", n % 2)));
    let subscription = subscription("**");
    let head = log.0.head();
    let start = Start::At(log.0.position(Seq(0)));
    let mut resume = log.begin(&subscription, &start, head);
    // The client takes one event of each piece.
    for after in 0..60 {
        let span = Span { after: Seq(after), through: head, events_max: 10, bytes_max: 9_999 };
        let ((), looks) = looks_of(|| {
            let read = log.0.read(subscription.patterns(), [].iter(), &mut resume.reading, &span);
            let piece = read.expect("nothing is lost");
            let seqs: Vec<_> = piece.events.iter().map(|event| event.seq.0).collect();
            assert_eq!(seqs, (after + 1..=after + 10).collect::<Vec<_>>());
        });
        assert!(looks <= 3 * 10, "{looks}");
    }
}

/// What a resume after `after` finds when `meanwhile` happens after as many looks.
fn resumed(
    log: &Log,
    pattern: &str,
    start: &Start,
    looks: usize,
    meanwhile: impl FnOnce(&Log),
) -> (Subscription, Resume) {
    let subscription = subscription(pattern);
    let patterns = subscription.patterns();
    let mut resume = log.0.resume(patterns, [].iter(), start, log.0.head());
    assert!(resume.reading.is_looking_back(), "one look is not enough");
    let mut meanwhile = Some(meanwhile);
    for nth in 0.. {
        if nth == looks
            && let Some(meanwhile) = meanwhile.take()
        {
            meanwhile(log);
        }
        if let Some(begun) = log.0.look_back(patterns, [].iter(), &mut resume.reading) {
            (resume.cursor, resume.gap) = (begun.cursor, begun.gap);
            break;
        }
    }
    assert!(meanwhile.is_none(), "it was over before");
    (subscription, resume)
}

/// A log with an event of each of some channels, which has had so many others since that none is in
/// the journal.
fn log_of(channels: &[&str]) -> Log {
    let log = Log::new();
    channels.iter().for_each(|name| log.say(name));
    (0..20).for_each(|_| log.say("z"));
    log
}

#[test]
fn a_look_back_is_in_pieces_and_takes_no_more_at_a_time_beside_more_channels() {
    for channels in [20, 2_000] {
        let log = Log::new();
        (0..channels).for_each(|n| log.say(&format!("c/{n}")));
        let all = subscription("**");
        let patterns = all.patterns();
        for start in [Start::Earliest, Start::At(log.0.position(Seq(1)))] {
            let resume = || log.0.resume(patterns, [].iter(), &start, log.0.head());
            let (mut resume, looks) = looks_of(resume);
            assert_eq!(looks, 0);
            let mut begun = None;
            while begun.is_none() {
                let look = || log.0.look_back(patterns, [].iter(), &mut resume.reading);
                let (found, looks) = looks_of(look);
                assert!(looks <= 3, "{looks}");
                begun = found;
            }
            // The channels are collected anew on the way; that is in pieces too.
            let mut span =
                Span { after: begun.expect("begun").cursor, through: log.0.head(), ..SPAN };
            let mut seqs = Vec::new();
            while span.after < span.through {
                let read = || log.0.read(patterns, [].iter(), &mut resume.reading, &span);
                let (piece, looks) = looks_of(read);
                assert!(looks <= 12, "{looks}");
                let piece = piece.expect("nothing is lost");
                seqs.extend(piece.events.iter().map(|event| event.seq.0));
                span.after = piece.through;
            }
            let first = if start == Start::Earliest { 1 } else { 2 };
            assert_eq!(seqs, (first..=channels).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_channel_that_goes_while_others_are_looked_at_is_a_loss_wherever_the_look_was() {
    // Looks: at what is named, at the names, three at a time, and at the forgotten.
    for (looks, forgets) in (0..5).flat_map(|looks| [(looks, false), (looks, true)]) {
        let log = log_of(&["a", "b", "c", "d", "e", "f", "g", "h"]);
        let start = Start::At(log.0.position(Seq(1)));
        let (all, mut resume) = resumed(&log, "**", &start, looks, |log| match forgets {
            true => log.forget("h"),
            false => log.0.evict_all(&log.entry("h")),
        });
        if forgets || looks < 4 {
            let gap = resume.gap.expect("a gap");
            assert_eq!((gap.reason, gap.oldest.seq), (GapReason::Evicted, Seq(1)));
            let seqs = log.rest(&all, &mut resume.reading, Seq(1));
            assert_eq!(seqs[..7], [2, 3, 4, 5, 6, 7, 9]);
        } else {
            assert!(resume.gap.is_none());
            // Where the merge ends.
            assert_eq!(log.until_loss(&all, &mut resume.reading, Seq(1)), Seq(4));
        }
    }
}

#[test]
fn a_channel_that_goes_and_comes_again_during_a_look_back_is_not_missed() {
    for looks in 0..3 {
        let log = log_of(&["a", "b", "c", "d", "e", "f", "g", "h"]);
        let start = Start::At(log.0.position(Seq(1)));
        let (_, resume) = resumed(&log, "**", &start, looks, |log| {
            log.forget("h");
            log.entry("h");
        });
        assert_eq!(resume.gap.expect("a gap").reason, GapReason::Evicted);
    }
}

#[test]
fn when_all_that_was_found_goes_during_a_look_back_what_is_behind_it_is_received() {
    for looks in 0..5 {
        let log = log_of(&["a", "b", "c", "d", "e", "f", "g", "h"]);
        let (all, mut resume) = resumed(&log, "**", &Start::Earliest, looks, |log| {
            // As many as a merge holds here.
            ["a", "b", "c"].iter().for_each(|name| log.0.evict_all(&log.entry(name)));
        });
        assert_eq!((resume.cursor, &resume.gap), (Seq(3), &None));
        let seqs = log.rest(&all, &mut resume.reading, resume.cursor);
        assert_eq!(seqs, (4..=28).collect::<Vec<_>>());
    }
}

#[test]
fn what_goes_while_it_is_replayed_is_received_or_told() {
    let patterns = subscription("c/*");
    let mut losses = 0;
    // Before as many looks at a history, whoever has the thread between them.
    for looks in 0.. {
        let log = Rc::new(log_of(&["c/a", "c/b"].repeat(3)));
        let start = Start::At(log.0.position(Seq(0)));
        let head = log.0.head();
        let mut resume = log.begin(&patterns, &start, head);
        let evicting = Rc::clone(&log);
        before_looks(looks, move || evicting.0.evict_all(&evicting.entry("c/a")));
        let mut span = Span { after: resume.cursor, through: head, ..SPAN };
        let mut seqs = Vec::new();
        let is_lost = loop {
            let read = log.0.read(patterns.patterns(), [].iter(), &mut resume.reading, &span);
            let Ok(piece) = read else { break true };
            seqs.extend(piece.events.iter().map(|event| event.seq.0));
            span.after = piece.through;
            if !piece.more {
                break false;
            }
        };
        let all: Vec<u64> = (1..=6).collect();
        assert!(all.starts_with(&seqs) && (is_lost || seqs == all), "{looks}: {seqs:?}");
        losses += u32::from(is_lost);
        if !forget_what_was_to_be_done() {
            continue;
        }
        assert!(looks > 4 && losses > 2, "{losses} of {looks}");
        return;
    }
}

#[test]
fn what_comes_during_a_look_back_is_received_after_it() {
    for looks in 0..5 {
        let log = log_of(&["m", "n", "o", "p", "q", "r", "s"]);
        let (all, mut resume) = resumed(&log, "**", &Start::Earliest, looks, |log| {
            // To channels that are born before and behind where the look is, and to an old one.
            ["a", "zz", "n"].iter().for_each(|name| log.say(name));
        });
        assert_eq!((resume.cursor, &resume.gap), (Seq(0), &None));
        let seqs = log.rest(&all, &mut resume.reading, resume.cursor);
        assert_eq!(seqs, (1..=30).collect::<Vec<_>>());
    }
}

#[test]
fn what_goes_during_a_look_back_is_told_if_it_came_after_its_beginning_and_else_is_not() {
    for looks in 0..3 {
        let log = log_of(&["m", "n", "o", "p", "q"]);
        let (all, mut resume) = resumed(&log, "**", &Start::Earliest, looks, |log| {
            // The merge may hold it already, and then it is not forgotten.
            log.0.evict_all(&log.entry("m"));
            log.forget("q");
        });
        assert_eq!((resume.cursor, &resume.gap), (Seq(1), &None), "the oldest that is there");
        let seqs = log.rest(&all, &mut resume.reading, resume.cursor);
        assert_eq!(seqs[..4], [2, 3, 4, 6]);

        let log = log_of(&["m", "n", "o", "p", "q"]);
        let (all, mut resume) = resumed(&log, "**", &Start::Earliest, looks, |log| {
            log.say("q");
            log.forget("q");
        });
        assert_eq!((resume.cursor, &resume.gap), (Seq(0), &None));
        assert!(log.until_loss(&all, &mut resume.reading, Seq(0)) < Seq(26), "26 was due");
    }
}

#[test]
fn a_loss_is_told_however_its_channel_came_and_went() {
    // In the journal and before it.
    for later in [0, 50] {
        let log = Log::new();
        ["a", "x", "x", "a"].iter().for_each(|name| log.say(name));
        log.forget("x");
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
        log.forget("x");
        assert_eq!(resume(2), Some(GapReason::Evicted));
        log.say("x");
        assert_eq!(resume(2), Some(GapReason::Evicted));
    }
}

const SPAN: Span = Span { after: Seq(0), through: Seq(0), events_max: 4, bytes_max: 999 };
