//! Histories against a list of all events.

use proptest::prelude::*;

use super::*;
use crate::model::{ChannelName, Epoch, NewEvent, Position};

fn event(seq: u64, time_ms: u64, data: &str) -> Arc<Event> {
    let position = Position { epoch: Epoch::new(0, 1), seq: Seq(seq) };
    Arc::new(Event::published(
        position,
        &ChannelName::parse("c").expect("a name"),
        time_ms,
        &NewEvent::message(data),
    ))
}

fn limits(events_max: u32, bytes_max: u64) -> HistoryLimits {
    HistoryLimits { events_max, bytes_max, ..HistoryLimits::default() }
}

fn seqs(slice: &Slice) -> Vec<u64> {
    slice.events.iter().map(|e| e.seq.0).collect()
}

#[test]
fn the_count_is_kept_at_its_bound() {
    let mut history = History::default();
    for seq in 1..=3 {
        assert_eq!(history.append(event(seq, 0, "x"), &limits(3, 1 << 20)).seqs[..], []);
    }
    assert_eq!(history.append(event(4, 0, "x"), &limits(3, 1 << 20)).seqs[..], [Seq(1)]);
    assert_eq!(history.len(), 3);
    assert_eq!(history.evicted_through(), Seq(1));
}

#[test]
fn the_newest_event_stays_even_if_it_alone_is_too_large() {
    let mut history = History::default();
    history.append(event(1, 0, "x"), &limits(10, 30));
    history.append(event(2, 0, &"y".repeat(100)), &limits(10, 30));
    assert_eq!(history.len(), 1);
    assert_eq!(history.last(), Some(Seq(2)));
}

#[test]
fn a_cursor_before_the_evicted_part_fell_off_and_one_at_its_edge_did_not() {
    let mut history = History::default();
    for seq in 1..=5 {
        history.append(event(seq, 0, "x"), &limits(3, 1 << 20));
    }
    let read = |after| history.read(Seq(after), Seq(5), 10, 1 << 20);
    assert_eq!(read(1).err(), Some(NotInMemory::FellOff));
    assert_eq!(seqs(&read(2).expect("at the edge")), [3, 4, 5]);
}

#[test]
fn age_evicts_in_bounded_steps() {
    let mut history = History::default();
    let limits = limits(10, 1 << 20);
    for seq in 1..=5 {
        history.append(event(seq, seq * 10, "x"), &limits);
    }
    assert_eq!(history.evict_due(35, &limits, 2).seqs[..], [Seq(1), Seq(2)]);
    assert_eq!(history.evict_due(35, &limits, 2).seqs[..], [Seq(3)]);
    assert_eq!(history.evict_due(35, &limits, 2).seqs[..], []);
    assert_eq!(history.first(), Some(Seq(4)));
}

#[test]
fn lower_bounds_evict_in_bounded_steps() {
    let three: usize = (99..=101).map(|seq| event(seq, 0, "x").bytes().len()).sum();
    for lower in [limits(3, 1 << 20), limits(100, three as u64)] {
        let mut history = History::default();
        for seq in 1..=100 {
            history.append(event(seq, 0, "x"), &limits(100, 1 << 20));
        }
        // An append evicts more than it adds, and no more than it may.
        let evicted = history.append(event(101, 0, "x"), &lower);
        assert_eq!(evicted.seqs.len(), EVICTED_PER_APPEND);
        // The rest goes without another event.
        assert_eq!(history.evict_due(0, &lower, 50).seqs.len(), 50);
        assert_eq!(history.evict_due(0, &lower, 50).seqs.len(), 101 - 3 - 50 - EVICTED_PER_APPEND);
        assert_eq!((history.len(), history.first()), (3, Some(Seq(99))));
        assert!(history.evict_due(0, &lower, 50).is_empty());
    }
}

#[test]
fn a_part_of_what_is_to_go_is_evicted_at_a_time() {
    let mut history = History::default();
    for seq in 1..=5 {
        history.append(event(seq, 0, "x"), &limits(10, 1 << 20));
    }
    assert_eq!(history.evict_some_through(Seq(3), 2).seqs[..], [Seq(1), Seq(2)]);
    assert_eq!(history.evict_some_through(Seq(3), 2).seqs[..], [Seq(3)]);
    assert!(history.evict_some_through(Seq(3), 2).is_empty());
}

proptest! {
    #[test]
    fn a_read_agrees_with_a_filter(
        steps in proptest::collection::vec((1u64..4, 0usize..40), 0..60),
        events_max in 1u32..20, bytes_max in 30u64..800,
        after in 0u64..120, through in 0u64..120, take in 1usize..10,
    ) {
        let limits = limits(events_max, bytes_max);
        let mut history = History::default();
        let mut all: Vec<Arc<Event>> = Vec::new();
        let mut seq = 0;
        for (step, size) in steps {
            seq += step;
            let e = event(seq, 0, &"d".repeat(size));
            all.push(Arc::clone(&e));
            history.append(e, &limits);
        }
        while !history.evict_due(0, &limits, 3).is_empty() {}
        let kept = all.iter().rev().take(history.len() as usize);
        let kept: u64 = kept.map(|e| e.bytes().len() as u64).sum();
        prop_assert_eq!(kept, history.bytes());
        prop_assert!(history.len() <= 1 || history.bytes() <= bytes_max);
        prop_assert!(history.len() <= u64::from(events_max));
        let lost = all.len() - history.len() as usize;
        match history.read(Seq(after), Seq(through), take, usize::MAX) {
            Err(_) => prop_assert!(all[..lost].iter().any(|e| e.seq.0 > after)),
            Ok(slice) => {
                prop_assert!(all[..lost].iter().all(|e| e.seq.0 <= after));
                let expected: Vec<u64> = all.iter().map(|e| e.seq.0)
                    .filter(|&s| s > after && s <= through).collect();
                prop_assert_eq!(slice.more, expected.len() > take);
                prop_assert_eq!(seqs(&slice), expected.into_iter().take(take).collect::<Vec<_>>());
            }
        }
    }
}

proptest! {
    /// Appends, bodies that leave memory, age and removals by the log, against a list.
    #[test]
    fn what_is_on_disk_counts_and_is_kept_up_to_an_eighth_beyond_the_bounds(
        steps in proptest::collection::vec((0u8..8, 0usize..40), 1..200),
        events_max in 1u32..40, bytes_max in 200u64..3_000,
    ) {
        let limits = limits(events_max, bytes_max);
        let mut history = History::default();
        let mut all: Vec<Arc<Event>> = Vec::new();
        for (action, size) in steps {
            let head = all.len() as u64;
            match action {
                0 => { history.unload_through(Seq(head)); }
                1 | 2 => { history.unload_through(Seq(head.saturating_sub(size as u64))); }
                3 => { history.evict_due(head.saturating_sub(3 * size as u64), &limits, 5); }
                4 if size < 10 => if let Some(first) = history.evicted_through().0.checked_add(1)
                    && let Some(event) = all.get(first as usize - 1)
                {
                    history.evict_removed(event.seq, event.bytes().len() as u64);
                },
                _ => {
                    let e = event(head + 1, head, &"d".repeat(size));
                    all.push(Arc::clone(&e));
                    history.append(e, &limits);
                    while !history.evict_due(0, &limits, 5).is_empty() {}
                    let (events, bytes) = (history.len(), history.bytes());
                    let wanted = u64::from(events_max).min(head + 1);
                    let kept = |events: u64, bytes: u64| events >= wanted || bytes >= bytes_max;
                    // Only whole chunks go.
                    let chunk = |unloaded: &Unloaded| unloaded.events().div_ceil(8).max(1);
                    let chunk = history.unloaded.as_deref().map_or(0, chunk);
                    prop_assert!(events <= u64::from(events_max) + chunk || bytes <= bytes_max
                        || chunk > 0 && kept(events - chunk, bytes), "{events} {bytes} {chunk}");
                }
            }
            let retained = &all[history.evicted_through().0 as usize..];
            prop_assert_eq!(history.len(), retained.len() as u64);
            let bytes: u64 = retained.iter().map(|e| e.bytes().len() as u64).sum();
            prop_assert_eq!(history.bytes(), bytes);
            prop_assert_eq!(history.first(), retained.first().map(|e| e.seq));
            prop_assert_eq!(history.last(), retained.last().map(|e| e.seq));
            prop_assert_eq!(history.is_empty(), retained.is_empty());
        }
    }
}

#[test]
fn bytes_are_kept_at_their_bound_and_not_above_it() {
    let one = event(1, 0, "x").bytes().len() as u64;
    for (bytes_max, left) in [(2 * one - 1, 1), (2 * one, 2), (2 * one + 1, 2)] {
        let mut history = History::default();
        for seq in 1..=2 {
            history.append(event(seq, 0, "x"), &limits(9, bytes_max));
        }
        assert_eq!(history.len(), left, "{bytes_max}");
    }
}

#[test]
fn a_channel_that_was_busy_once_does_not_keep_its_room() {
    let mut history = History::default();
    for seq in 1..=1_000 {
        history.append(event(seq, 0, "x"), &limits(1_000, 1 << 30));
    }
    history.evict_through(Seq(990));
    assert!(history.events.capacity() <= 64, "{}", history.events.capacity());
}
