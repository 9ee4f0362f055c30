//! The hub's hand-written atomics, its own files, under loom: every order of their steps with at
//! most three preemptions that the memory model allows is tried. Each model is also run with a
//! mistake in the code, which it has to find (docs/adr/051-models-of-atomics.md).

#![allow(dead_code, reason = "the hub uses more of the files than a model does")]

#[path = "../../../src/backend/shard_set.rs"]
mod shard_set;
#[path = "../../../src/actors/wake_flag.rs"]
mod wake_flag;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize as Count, Ordering::SeqCst};

use loom::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use shard_set::{ShardSet, TargetShards};
use wake_flag::WakeFlag;

fn main() {
    check("a shard is seen by the log, or sees its head", || target_shards(true));
    must_fail("the same without fences", || target_shards(false));
    check("what comes after a look wakes again, one publisher", || wake_up(1, true));
    check("what comes after a look wakes again, two publishers", || wake_up(2, true));
    must_fail("the same, lowered by a store", || wake_up(1, false));
}

/// A shard registers, then reads the head; the log moves its head, then reads which shards are
/// registered.
fn target_shards(has_fences: bool) {
    let (set, bits) = (Arc::new(ShardSet::default()), Arc::new(AtomicU64::new(0)));
    let head = Arc::new(AtomicU64::new(0));
    let shard = {
        let (set, bits, head) = (Arc::clone(&set), Arc::clone(&bits), Arc::clone(&head));
        thread::spawn(move || {
            match has_fences {
                true => set.insert(0),
                false => _ = bits.fetch_or(1, Ordering::Relaxed),
            }
            head.load(Ordering::Acquire) == 1
        })
    };
    head.store(1, Ordering::Release);
    let is_seen = match has_fences {
        true => TargetShards::of([&*set]).contains(0),
        false => bits.load(Ordering::Relaxed) == 1,
    };
    let sees_head = shard.join().expect("it ends");
    assert!(is_seen || sees_head, "neither has seen the other");
}

/// A shard was woken, lowers its flag, and looks for work; publishers bring work, and wake it if
/// its flag is lowered.
fn wake_up(publishers: usize, by_swap: bool) {
    let flag = Arc::new(WakeFlag::default());
    let stored = Arc::new(AtomicBool::new(true));
    let (work, wakes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    flag.raise();
    let running: Vec<_> = (0..publishers)
        .map(|_| {
            let (flag, stored) = (Arc::clone(&flag), Arc::clone(&stored));
            let (work, wakes) = (Arc::clone(&work), Arc::clone(&wakes));
            thread::spawn(move || {
                work.fetch_add(1, Ordering::Relaxed);
                let wakes_it = match by_swap {
                    true => flag.raise(),
                    false => !stored.swap(true, Ordering::AcqRel),
                };
                if wakes_it {
                    wakes.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    match by_swap {
        true => flag.lower(),
        false => stored.store(false, Ordering::Release),
    }
    let seen = work.load(Ordering::Relaxed);
    for publisher in running {
        publisher.join().expect("it ends");
    }
    let wakes = wakes.load(Ordering::Relaxed);
    assert!(wakes <= 1, "it is woken once until it looks");
    assert!(seen == publishers || wakes == 1, "work is left, and it is not woken");
}

fn check(name: &str, model: impl Fn() + Sync + Send + 'static) {
    println!("ok: {name}: {} orders", orders(model));
}

fn must_fail(name: &str, model: impl Fn() + Sync + Send + 'static) {
    std::panic::set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(|| loom::model(model)));
    let _ = std::panic::take_hook();
    assert!(result.is_err(), "{name}: the model does not find the mistake");
    println!("ok: {name}: found");
}

/// How many orders there are with a bounded number of preemptions, all of which it tries.
fn orders(model: impl Fn() + Sync + Send + 'static) -> usize {
    let count = std::sync::Arc::new(Count::new(0));
    let counted = std::sync::Arc::clone(&count);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(move || {
        counted.fetch_add(1, SeqCst);
        model();
    });
    count.load(SeqCst)
}

/// Of a thread that could go on. Without a bound, two publishers have 145,848 orders; most mistakes
/// need two.
const PREEMPTIONS_MAX: usize = 3;
