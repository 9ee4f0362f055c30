//! A log without actors: the cost of reads, and the results of changes during a read.

mod costs;
mod last;
mod snapshot;
mod start_search;

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    sync::atomic::Ordering,
};

use super::{reader::HistoryReader, *};
use crate::{
    core::{Limits, Subscription},
    model::{
        ChannelName, ChannelSelector, Draft, Epoch, Event, EventKind, EventType, GapReason,
        NewEvent, Seq, Start,
    },
};

thread_local! {
    static LOOKS: Cell<u64> = const { Cell::new(0) };
}

/// Counts a look at a name, an entry of the journal, or a channel of a replay.
pub(super) fn look() {
    LOOKS.set(LOOKS.get() + 1);
}

type Act = Box<dyn FnOnce()>;

thread_local! {
    static BEFORE: RefCell<Option<(u32, Act)>> = const { RefCell::new(None) };
}

/// Runs a function after so many more holds of a history's lock.
fn before_looks(looks: u32, act: impl FnOnce() + 'static) {
    BEFORE.set(Some((looks, Box::new(act))));
}

/// Clears what [`before_looks`] has planned; true if that has not run.
fn clear_planned_evictions() -> bool {
    BEFORE.take().is_some()
}

/// Called when a history is about to be locked.
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

struct Log(EventStore);

impl Log {
    fn new() -> Self {
        let limits = Limits::default();
        let registry = Arc::new(Registry::new(&limits));
        Self(EventStore::new(Epoch::new(0, 1), limits.history.total_bytes_max, registry))
    }

    fn entry(&self, name: &str) -> Arc<ChannelEntry> {
        let name = ChannelName::parse(name).expect("a name");
        self.0.registry().directory().find_or_create(&name, 0).expect("room for it")
    }

    fn say(&self, name: &str) {
        self.publish(name, NewEvent::message("x"));
    }

    fn say_typed(&self, name: &str, event_type: &str) {
        let event_type = EventType::parse(event_type).ok();
        self.publish(name, NewEvent { event_type, ..NewEvent::message("x") });
    }

    fn publish(&self, name: &str, event: NewEvent) {
        let entry = self.entry(name);
        let position = self.0.position(self.0.head().next());
        let shown = Event {
            seq: position.seq,
            epoch: position.epoch,
            time_ms: 0,
            accepted_ms: 0,
            channel: entry.name().clone(),
            kind: EventKind::Published,
            frame: Draft::new(&event).finish(position),
        };
        self.0.append(&entry, &Arc::new(shown));
        self.0.commit(position.seq);
    }

    fn evict(&self, name: &str) {
        let entry = self.entry(name);
        self.0.evict_all(&entry);
        assert!(self.0.registry().directory().evict(entry));
    }

    /// Resumes after `after` and reads to the head; gives the seqs.
    fn replay(&self, pattern: &str, after: u64) -> Vec<u64> {
        let subscription = subscription(pattern);
        let head = self.0.head();
        let start = Start::At(self.0.position(Seq(after)));
        let mut resume = self.begin(&subscription, &start, head);
        assert!(resume.gap.is_none(), "{:?}", resume.gap);
        self.rest(&subscription, &mut resume.reader, resume.cursor)
    }

    /// Resumes a subscription, and makes steps until its start is found.
    fn begin(&self, subscription: &Subscription, start: &Start, head: Seq) -> Resume {
        let patterns = subscription.patterns();
        let asked = StartRequest { start, types: subscription.types(), truncated: true };
        let mut resume = self.0.resume(patterns, [].iter(), asked, head);
        while resume.reader.is_searching_start() {
            if let Some(begun) = self.0.search_start(patterns, [].iter(), &mut resume.reader) {
                (resume.cursor, resume.gap) = (begun.cursor, begun.gap);
                resume.truncated = begun.truncated;
            }
        }
        resume
    }

    /// Reads from `after` to the head; gives the seqs.
    fn rest(
        &self,
        subscription: &Subscription,
        reader: &mut HistoryReader,
        after: Seq,
    ) -> Vec<u64> {
        let through = self.0.head();
        let mut range = SeqRange { after, through, ..RANGE };
        let mut seqs = Vec::new();
        loop {
            let read = self.0.read(subscription.patterns(), [].iter(), reader, &range);
            let piece = read.expect("nothing is lost");
            seqs.extend(piece.events.iter().map(|event| event.seq.0));
            range.after = piece.through;
            if !piece.more {
                return seqs;
            }
        }
    }

    /// Reads from `after` until a loss; gives how far it has come.
    fn until_loss(
        &self,
        subscription: &Subscription,
        reader: &mut HistoryReader,
        after: Seq,
    ) -> Seq {
        let mut range = SeqRange { after, through: self.0.head(), ..RANGE };
        loop {
            match self.0.read(subscription.patterns(), [].iter(), reader, &range) {
                Ok(piece) if piece.more => range.after = piece.through,
                Ok(_) => panic!("the loss was not noticed"),
                Err(_) => return range.after,
            }
        }
    }
}

fn subscription(pattern: &str) -> Subscription {
    let selector = ChannelSelector::parse(pattern).expect("a pattern");
    Subscription::new([selector], [], 1).expect("a subscription")
}

/// A log with one event for each of these names, followed by so many others that none of them is in
/// the journal any more.
fn log_of(channels: &[&str]) -> Log {
    let log = Log::new();
    channels.iter().for_each(|name| log.say(name));
    (0..20).for_each(|_| log.say("z"));
    log
}

const RANGE: SeqRange = SeqRange { after: Seq(0), through: Seq(0), events_max: 4, bytes_max: 999 };

#[test]
fn streams_that_come_at_the_same_time_to_two_shards_get_the_same_home() {
    let log = Log::new();
    let (a, b) = (log.entry("a"), log.entry("b"));
    // Neither is registered yet when the other is placed.
    assert_eq!([a.home_shard(1), a.home_shard(0), a.home_shard(2)], [1; 3]);
    assert_eq!([b.home_shard(0), b.home_shard(1)], [0; 2], "each channel has its own");
    assert_eq!(log.entry("a").home_shard(300), 1);
    a.streams().fetch_add(2, Ordering::Relaxed);
    a.remove_stream();
    assert_eq!(a.home_shard(2), 1, "a stream is left");
    a.remove_stream();
    assert_eq!(a.home_shard(2), 2, "the first one again");
}
