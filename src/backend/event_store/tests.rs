//! What a store keeps when channels are closed, reopened, evicted, or lose events.

use super::*;
use crate::{backend::ranking::SLACK, core::Limits, model::NewEvent};

#[test]
fn a_store_that_lost_events_has_nothing_to_do_for_its_channels() {
    let registry = Arc::new(Registry::new(&Limits::default()));
    let store = EventStore::new(Epoch::new(0, 1), u64::MAX, Arc::clone(&registry));
    let entry = |name: &str| {
        let name = ChannelName::parse(name).expect("a name");
        registry.directory().find_or_create(&name, 0).expect("room for it")
    };
    store.restore_closed(&entry("closed"), Seq(3), 0);
    let all = ["closed", "other"].map(entry);
    assert_eq!(all.each_ref().map(|entry| entry.is_open_and_empty()), [false, true]);
    store.lose_transient(vec![(ChannelPattern::parse("**").expect("a pattern"), Seq(3))]);
    assert_eq!(all.each_ref().map(|entry| entry.is_open_and_empty()), [false, true]);
    store.reset(Epoch::new(0, 2), LostThrough::any(Seq(5)), Seq(5));
    assert!(all.iter().all(|entry| entry.is_open_and_empty()));
    assert_eq!(registry.tombstones().len(), 0);
}

#[test]
fn a_channel_that_is_reopened_twice_keeps_what_came_between() {
    let registry = Arc::new(Registry::new(&Limits::default()));
    let store = EventStore::new(Epoch::new(0, 1), u64::MAX, Arc::clone(&registry));
    let name = ChannelName::parse("a").expect("a name");
    let entry = registry.directory().find_or_create(&name, 0).expect("room for it");
    let append = |seq: u64, kind: EventKind| {
        let position = store.position(Seq(seq));
        let event = Event { kind, ..Event::published(position, &name, 0, &NewEvent::message("x")) };
        store.append(&entry, &Arc::new(event));
        store.commit(Seq(seq));
    };
    let seqs = || {
        entry.events().with_history(|history| {
            history.in_memory().map(|event| event.seq.0).collect::<Vec<_>>()
        })
    };
    append(1, EventKind::Published);
    append(2, EventKind::Closed);
    assert_eq!((seqs(), registry.tombstones().len()), (vec![1, 2], 1));
    // The tail of a shared log shows an event of another hub, which has taken the channel for
    // open.
    store.reopen(&entry);
    append(3, EventKind::Published);
    // A sweep of this hub comes to the same tombstone.
    store.reopen(&entry);
    assert_eq!((seqs(), registry.tombstones().len()), (vec![3], 0));
    assert!(!entry.events().is_closed() && !entry.events().is_closing());
    // What had looked at the first tombstone leaves the second one alone.
    append(4, EventKind::Closed);
    assert!(!entry.events().reopen(Seq(2)));
    assert_eq!(entry.events().closed_seq(), Some(Seq(4)));
    store.reopen(&entry);
    assert_eq!((seqs(), registry.tombstones().len()), (vec![], 0));
}

#[test]
fn evicted_channels_leave_the_queue_of_the_ceiling_below_it_too() {
    let registry = Arc::new(Registry::new(&Limits::default()));
    let store = EventStore::new(Epoch::new(0, 1), u64::MAX, Arc::clone(&registry));
    for seq in 1..=3 * SLACK as u64 {
        let name = ChannelName::parse(&format!("once/{seq}")).expect("a name");
        let entry = registry.directory().find_or_create(&name, 0).expect("room for it");
        let position = store.position(Seq(seq));
        let event = Event::published(position, &name, 0, &NewEvent::message("x"));
        store.append(&entry, &Arc::new(event));
        store.commit(Seq(seq));
        store.evict_all(&entry);
        assert!(registry.directory().evict(entry));
        // Two entries for the one channel, the slack, and the new entry.
        assert!(store.ranking.lock().len() <= 2 + SLACK + 1);
    }
}
