//! The cost of reads, counted in looks. It must not grow with channels and events that the reader
//! does not receive.

use super::*;

#[test]
fn what_a_pattern_reader_costs_does_not_grow_with_the_channels() {
    let mut costs = Vec::new();
    for channels in [20, 2_000] {
        let log = Log::new();
        (0..channels).for_each(|n| log.say(&format!("quiet/{n}")));
        // Channels are created meanwhile.
        (0..10).for_each(|n| log.say(&format!("young/{n}")));
        let head = log.0.head();
        let all = subscription("**");
        let (resume, looks) = looks_of(|| {
            log.0.resume(all.patterns(), [].iter(), StartRequest::at(&Start::Now), head)
        });
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
        // At the end the replay reads the journal: these looks count too.
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
    // Each step looks at `looks_max` entries of the journal at most, up to the end.
    let begin = |start: &Start, looks_max: u64| {
        let (mut resume, looks) =
            looks_of(|| log.0.resume(patterns, [].iter(), StartRequest::at(start), head));
        assert_eq!((looks, resume.reader.is_searching_start()), (looks_max, true));
        while resume.reader.is_searching_start() {
            let look = || log.0.search_start(patterns, [].iter(), &mut resume.reader);
            let (begun, looks) = looks_of(look);
            assert!(looks <= looks_max, "{looks}");
            begun
                .into_iter()
                .for_each(|begun| (resume.cursor, resume.gap) = (begun.cursor, begun.gap));
        }
        resume
    };
    for (start, lost) in [(Start::Earliest, false), (Start::Unknown("?".into()), true)] {
        // One comparison of a name with all eight patterns uses up the budget of a step.
        let mut resume = begin(&start, 1);
        assert_eq!(resume.cursor, Seq(12), "just before what it wants");
        assert_eq!(resume.gap.map(|gap| gap.oldest.seq), lost.then_some(Seq(12)));
        assert_eq!(log.rest(&many, &mut resume.reader, Seq(12)), [13]);
    }
    let start = Start::At(log.0.position(Seq(1)));
    // Only the names of lost events are compared, and no event is lost: the entries limit a step.
    let mut resume = begin(&start, 5);
    assert!(resume.gap.is_none() && resume.cursor == Seq(1));
    // A loss that the reader does not know of is found when it reads, and by a subscription that
    // begins.
    log.evict("c/x7");
    assert_eq!(log.until_loss(&many, &mut resume.reader, Seq(1)), Seq(12));
    assert_eq!(begin(&start, 5).gap.expect("a gap").reason, GapReason::Evicted);
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
        let range = SeqRange { after: Seq(after), through: head, events_max: 10, bytes_max: 9_999 };
        let ((), looks) = looks_of(|| {
            let read = log.0.read(subscription.patterns(), [].iter(), &mut resume.reader, &range);
            let piece = read.expect("nothing is lost");
            let seqs: Vec<_> = piece.events.iter().map(|event| event.seq.0).collect();
            assert_eq!(seqs, (after + 1..=after + 10).collect::<Vec<_>>());
        });
        assert!(looks <= 3 * 10, "{looks}");
    }
}

#[test]
fn a_start_search_is_in_pieces_that_do_not_grow_with_the_channels() {
    for channels in [20, 2_000] {
        let log = Log::new();
        (0..channels).for_each(|n| log.say(&format!("c/{n}")));
        let all = subscription("**");
        let patterns = all.patterns();
        for start in [Start::Earliest, Start::At(log.0.position(Seq(1)))] {
            let resume =
                || log.0.resume(patterns, [].iter(), StartRequest::at(&start), log.0.head());
            let (mut resume, looks) = looks_of(resume);
            assert_eq!(looks, 0);
            let mut begun = None;
            while begun.is_none() {
                let look = || log.0.search_start(patterns, [].iter(), &mut resume.reader);
                let (found, looks) = looks_of(look);
                assert!(looks <= 3, "{looks}");
                begun = found;
            }
            // The channels are collected anew on the way; that is in pieces too.
            let mut range =
                SeqRange { after: begun.expect("begun").cursor, through: log.0.head(), ..RANGE };
            let mut seqs = Vec::new();
            while range.after < range.through {
                let read = || log.0.read(patterns, [].iter(), &mut resume.reader, &range);
                let (piece, looks) = looks_of(read);
                assert!(looks <= 12, "{looks}");
                let piece = piece.expect("nothing is lost");
                seqs.extend(piece.events.iter().map(|event| event.seq.0));
                range.after = piece.through;
            }
            let first = if start == Start::Earliest { 1 } else { 2 };
            assert_eq!(seqs, (first..=channels).collect::<Vec<_>>());
        }
    }
}
