//! What reading costs, counted in looks: at a name, at a place of the journal, at a channel of a
//! replay. None of it may grow with what the reader does not receive.

use std::{cell::Cell, sync::Arc};

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
        let mut resume = self.0.resume(subscription.patterns(), [].iter(), &start, head);
        assert!(resume.gap.is_none(), "{:?}", resume.gap);
        self.rest(&subscription, &mut resume.reading, resume.cursor)
    }

    /// Reads from `after` to the head; gives the seqs.
    fn rest(&self, subscription: &Subscription, reading: &mut Reading, after: Seq) -> Vec<u64> {
        let through = self.0.head();
        let mut span = Span { after, through, events_max: 4, bytes_max: 999 };
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
    for (start, lost) in [(Start::Earliest, false), (Start::Unknown("?".into()), true)] {
        let (mut resume, looks) =
            looks_of(|| log.0.resume(many.patterns(), [].iter(), &start, head));
        // Four looks, each of one comparison of a name with all eight.
        assert_eq!((resume.cursor, looks), (Seq(4), 4));
        assert_eq!(resume.gap.map(|gap| gap.oldest.seq), lost.then_some(Seq(4)));
        assert_eq!(log.rest(&many, &mut resume.reading, Seq(4)), [13]);
    }
    // A loss beyond what was looked at is found by reading.
    let start = Start::At(log.0.position(Seq(1)));
    let mut resume = log.0.resume(many.patterns(), [].iter(), &start, head);
    assert!(resume.gap.is_none() && resume.cursor == Seq(1));
    log.forget("c/x7");
    let mut after = Seq(1);
    loop {
        let span = Span { after, through: head, events_max: 10, bytes_max: 9_999 };
        match log.0.read(many.patterns(), [].iter(), &mut resume.reading, &span) {
            Ok(piece) if piece.more => after = piece.through,
            Ok(_) => panic!("the loss was not noticed"),
            Err(_) => break,
        }
    }
    assert_eq!(after, Seq(12));
}

#[test]
fn going_back_within_a_piece_costs_no_new_collection() {
    let log = Log::new();
    (0..100).for_each(|n| log.say(&format!("c/{}", n % 2)));
    let subscription = subscription("**");
    let head = log.0.head();
    let start = Start::At(log.0.position(Seq(0)));
    let mut resume = log.0.resume(subscription.patterns(), [].iter(), &start, head);
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

#[test]
fn a_channel_born_again_between_the_listing_and_the_look_for_losses_is_not_missed() {
    let log = Log::new();
    ["a", "x", "x", "a"].iter().for_each(|name| log.say(name));
    log.forget("x");
    // The two looks of a collection, and what may come between them.
    let patterns = subscription("**");
    let patterns = patterns.patterns();
    let directory = log.0.directory();
    let listed = directory.names_matching(&patterns[0], None);
    assert_eq!(listed.entries.len(), 1, "x is not there");
    log.entry("x");
    assert!(directory.has_forgotten(patterns, Seq(2), Default::default()));
    assert!(!directory.has_forgotten(patterns, Seq(3), Default::default()));
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
            log.0.resume(all.patterns(), [].iter(), &start, head).gap.map(|gap| gap.reason)
        };
        assert_eq!(resume(2), Some(GapReason::Evicted));
        assert_eq!(resume(3), None, "what is gone lies before");
        log.forget("x");
        assert_eq!(resume(2), Some(GapReason::Evicted));
        log.say("x");
        assert_eq!(resume(2), Some(GapReason::Evicted));
    }
}

#[test]
fn names_come_in_pages_by_prefix() {
    let log = Log::new();
    for name in ["g", "g!", "g-x/1", "g/1", "g/2", "g/2/3", "g/4", "g/5", "g0", "h/1"] {
        log.entry(name);
    }
    let all = |pattern: &str| {
        let subscription = subscription(pattern);
        let mut names = Vec::new();
        let mut page = log.0.directory().names_matching(&subscription.patterns()[0], None);
        loop {
            names.extend(page.entries.iter().map(|entry| entry.name().to_string()));
            let Some(last) = page.last else { return names };
            page = log.0.directory().names_matching(&subscription.patterns()[0], Some(&last));
        }
    };
    assert_eq!(all("g/**"), ["g", "g/1", "g/2", "g/2/3", "g/4", "g/5"]);
    assert_eq!(all("g/*"), ["g/1", "g/2", "g/4", "g/5"]);
    assert_eq!(all("*"), ["g", "g!", "g0"]);
    assert_eq!(all("**").len(), 10);
    assert_eq!(all("z/*"), [""; 0]);
}
