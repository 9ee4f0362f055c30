//! Mistakes that other logs have made, each with the test that this one does not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    batch::BatchHeader,
    segment::{SegmentHeader, base_of},
    simulated::{EIO, ENOSPC, Faults, SimulatedDisk, Stop},
    small_log::*,
    *,
};
use crate::{
    core::IdempotencyKey,
    model::{Epoch, EventKind, Seq},
};

/// Seeds of the machines of a test, since chance decides what a power cut takes.
const SEEDS: std::ops::Range<u64> = 0..10;

#[test]
fn a_start_that_is_cut_off_loses_nothing_of_what_came_before_or_comes_behind() {
    for seed in SEEDS {
        let disk = SimulatedDisk::new(seed);
        let mut expected = Vec::new();
        for call in 0..30 {
            let mut log = start(&disk).0;
            expected.push(append(&mut log, "a"));
            drop(log);
            disk.reboot(if call % 2 == 0 { Stop::Kill } else { Stop::PowerCut });
            disk.plan(Faults { stop_at: Some(call), ..Faults::default() });
            drop(try_start(&disk));
            disk.reboot(if call % 3 == 0 { Stop::Kill } else { Stop::PowerCut });
        }
        assert_eq!(start(&disk).1, expected, "seed {seed}");
    }
}

#[test]
fn a_torn_tail_does_not_come_back_after_the_next_power_cut() {
    let mut torn = 0;
    for seed in SEEDS {
        let disk = SimulatedDisk::new(seed);
        let mut log = start(&disk).0;
        let mut expected = vec![append(&mut log, "a")];
        prepare(&mut log);
        log.writer.begin();
        log.writer.add(&event("a", 2, EventKind::Published));
        // Calls of the roll: cut, sync, header, sync, rename, sync; then the batch.
        disk.plan(Faults { stop_at: Some(6), ..Faults::default() });
        assert!(log.writer.write(0).is_err());
        disk.reboot(Stop::Kill);
        let (mut log, read) = start(&disk);
        torn += u64::from(log.report.torn_bytes > 0);
        // A write that was cut short may have been whole.
        expected.extend(read.get(1));
        expected.push(append(&mut log, "a"));
        drop(log);
        disk.reboot(Stop::PowerCut);
        assert_eq!(start(&disk).1, expected, "seed {seed}");
    }
    assert!(torn > 0);
}

#[test]
fn what_a_start_has_read_is_durable() {
    for seed in SEEDS {
        let disk = SimulatedDisk::new(seed);
        let mut log = start(&disk).0;
        add(&mut log, "a", 1);
        log.writer.write(0).expect("written");
        drop(log);
        disk.reboot(Stop::Kill);
        assert_eq!(start(&disk).1, [1]);
        disk.reboot(Stop::PowerCut);
        assert_eq!(start(&disk).1, [1], "seed {seed}");
    }
}

#[test]
fn after_a_failed_fsync_nothing_is_tried_again() {
    let disk = SimulatedDisk::new(1);
    let mut log = start(&disk).0;
    append(&mut log, "a");
    prepare(&mut log);
    add(&mut log, "a", 2);
    log.writer.write(0).expect("written");
    disk.plan(Faults { fail_at: Some((0, EIO)), ..Faults::default() });
    assert!(matches!(log.writer.sync(), Err(WriteError::Io(_))));
    assert!(matches!(log.writer.sync(), Err(WriteError::Failed)));
    add(&mut log, "a", 3);
    assert!(matches!(log.writer.write(0), Err(WriteError::Failed)));
    assert!(matches!(log.writer.close(), Err(WriteError::Failed)));
}

#[test]
fn what_a_failed_fsync_left_in_the_cache_is_not_taken_for_durable() {
    let mut read = 0;
    for seed in SEEDS {
        let disk = SimulatedDisk::new(seed);
        let mut log = start(&disk).0;
        append(&mut log, "a");
        prepare(&mut log);
        add(&mut log, "a", 2);
        log.writer.write(0).expect("written");
        disk.plan(Faults { fail_at: Some((0, EIO)), ..Faults::default() });
        assert!(log.writer.sync().is_err());
        drop(log);
        disk.reboot(Stop::Kill);
        let before = start(&disk).1;
        read += before.len();
        disk.reboot(Stop::PowerCut);
        assert_eq!(start(&disk).1, before, "seed {seed}");
    }
    assert_eq!(read, 2 * SEEDS.count(), "the cache has it");
}

#[test]
fn a_removal_that_was_killed_is_finished_in_its_order() {
    let mut killed = 0;
    for seed in SEEDS {
        for call in 0..100 {
            let (disk, removed) = kill_a_removal(seed, call);
            // The losses file has its name, at least in the cache.
            if removed > 0 || !disk.list().expect("names").contains(&"losses".to_owned()) {
                continue;
            }
            killed += 1;
            for call_of_start in 0..25 {
                let (disk, _) = kill_a_removal(seed, call);
                disk.plan(Faults { stop_at: Some(call_of_start), ..Faults::default() });
                drop(try_start(&disk));
                disk.reboot(Stop::PowerCut);
                let read = start(&disk).1;
                assert!(read.ends_with(&[8, 9, 10, 11, 12]), "seed {seed}: {read:?}");
            }
        }
    }
    assert!(killed > 0);
}

#[test]
fn a_log_whose_removal_was_cut_short_can_be_verified() {
    let mut cut_short = 0;
    for call in 0..100 {
        let (disk, removed) = kill_a_removal(1, call);
        cut_short += u64::from((1..7).contains(&removed));
        let recovery = Recovery::start(disk, 7, Epoch::new(1, 1)).expect("a log");
        recovery.read(|_| ()).unwrap_or_else(|error| panic!("call {call}: {error}"));
    }
    assert!(cut_short > 1);
}

/// Kills a process at a call while it removes seven of twelve segments. Returns how many it
/// removed.
fn kill_a_removal(seed: u64, call: u64) -> (SimulatedDisk, usize) {
    let disk = SimulatedDisk::new(seed);
    let mut log = start(&disk).0;
    for _ in 0..12 {
        append(&mut log, "a");
    }
    disk.plan(Faults { stop_at: Some(call), ..Faults::default() });
    let _ = log.keeper.work(&Seq(8), 0);
    drop(log);
    disk.reboot(Stop::Kill);
    let names = disk.list().expect("names");
    let kept = names.iter().filter_map(|name| base_of(name)).filter(|base| *base < Seq(8)).count();
    (disk, 7 - kept)
}

#[test]
fn an_acknowledged_close_and_a_key_outlive_their_segment_and_end_with_their_time() {
    let disk = SimulatedDisk::new(1);
    let mut log = start(&disk).0;
    let key = IdempotencyKey::new(&[b"k"], &[]);
    log.writer.begin();
    log.writer.add_key(&key, 1);
    log.writer.add(&event("a", 1, EventKind::Closed));
    log.writer.write(500).and_then(|()| log.writer.sync()).expect("written");
    for _ in 0..10 {
        append(&mut log, "b");
    }
    log.keeper.work(&Seq(6), 1_400).expect("removed");
    drop(log);
    disk.reboot(Stop::PowerCut);
    let (log, read) = start(&disk);
    assert!(read[0] > 1, "its segment is gone");
    drop(log);
    let known = removed(&disk);
    let closed: Vec<_> = known.closed().map(|(name, seq, at)| (name.as_str(), seq, at)).collect();
    assert_eq!(closed, [("a", Seq(1), 500)]);
    let stored = StoredKey { key, first: Seq(1), events: 1, time_ms: 500 };
    assert_eq!(known.keys().collect::<Vec<_>>(), [&stored]);

    let mut log = start(&disk).0;
    append(&mut log, "b");
    log.keeper.work(&Seq(10), 1_500).expect("removed");
    let known = removed(&disk);
    assert_eq!((known.closed().count(), known.keys().count()), (0, 0));
}

#[test]
fn a_clock_that_goes_back_removes_nothing_early() {
    let disk = SimulatedDisk::new(1);
    let mut log = start_with(&disk, LogRetention { age_max_ms: 100, ..RETENTION }).0;
    for now_ms in [1_000, 10, 20, 30, 40, 50] {
        prepare(&mut log);
        let seq = next(&log);
        add(&mut log, "a", seq);
        log.writer.write(now_ms).and_then(|()| log.writer.sync()).expect("written");
    }
    log.keeper.work(&Seq::ZERO, 99).expect("nothing to do");
    assert_eq!(log.status.sealed().0, 5);
    log.keeper.work(&Seq::ZERO, 1_100).expect("removed");
    assert_eq!(log.status.sealed().0, 0);
}

#[test]
fn what_a_clock_ahead_has_written_ages_from_the_next_start_on() {
    let disk = SimulatedDisk::new(1);
    let retention = LogRetention { age_max_ms: 100, ..RETENTION };
    let (mut log, _) = open(&disk, retention, 1_000_000).expect("it opens");
    for _ in 0..4 {
        prepare(&mut log);
        let seq = next(&log);
        add(&mut log, "a", seq);
        log.writer.write(1_000_000).and_then(|()| log.writer.sync()).expect("written");
    }
    log.writer.close().expect("closed");
    disk.reboot(Stop::Kill);
    // The clock has been set back.
    let (mut log, _) = open(&disk, retention, 5_000).expect("it opens");
    log.keeper.work(&Seq::ZERO, 5_099).expect("nothing to do");
    assert_eq!(log.status.sealed().0, 4);
    log.keeper.work(&Seq::ZERO, 5_100).expect("removed");
    // The newest stays until there is another.
    assert_eq!(log.status.sealed().0, 1);
}

#[test]
fn zeros_are_neither_a_batch_nor_a_segment() {
    assert!(SegmentHeader::decode(&[0; SegmentHeader::BYTES]).is_none());
    // With seed zero, the checksum of zeros is zero, as with some other seeds.
    for seed in [0, 1, u32::MAX].into_iter().chain((0..1_000).map(|_| fastrand::u32(..))) {
        assert!(BatchHeader::decode(&[0; BatchHeader::BYTES], seed).is_none());
    }
}

#[test]
fn publishing_stops_before_the_disk_is_full_and_goes_on_when_there_is_room() {
    let disk = SimulatedDisk::new(1);
    disk.limit_room((8 << 20) + 5 * SEGMENT_BYTES);
    let mut log = start(&disk).0;
    let small = |log: &mut OpenLog<SimulatedDisk>| {
        log.writer.begin();
        let seq = next(log);
        log.writer.add(&event_of("a", seq, EventKind::Published, "x".repeat(300)));
        log.writer.write(0).and_then(|()| log.writer.sync()).expect("there is room");
        seq
    };
    let mut last = 0;
    while !log.status.is_full() {
        last = small(&mut log);
        prepare(&mut log);
    }
    // Room of a segment, for submissions under way.
    assert_eq!(small(&mut log), last + 1);
    log.keeper.work(&Seq(4), 0).expect("it removes");
    assert!(!log.status.is_full(), "there is room again");
    assert_eq!(small(&mut log), last + 2);
    drop(log);
    disk.reboot(Stop::PowerCut);
    let read = start(&disk).1;
    assert_eq!(read, (read[0]..=last + 2).collect::<Vec<_>>());
}

#[test]
fn the_losses_file_has_room_on_a_full_disk_again_and_again() {
    let disk = SimulatedDisk::new(1);
    let mut log = start(&disk).0;
    for _ in 0..30 {
        append(&mut log, "a");
    }
    for retained_from in [5, 10, 15, 20] {
        let before = log.status.sealed().0;
        disk.fill(0);
        log.keeper.work(&Seq(retained_from), 0).expect("on a full disk nothing fails");
        let after = log.status.sealed().0;
        assert!(after < before, "with the reserve's room");
        // Another process takes the room of the reserve at the moment when it is needed.
        disk.fill(-(reserved(&disk) as i64));
        log.keeper.work(&Seq(retained_from + 1), 0).expect("on a full disk nothing fails");
        assert_eq!((log.status.sealed().0, reserved(&disk)), (after, 0));
        disk.limit_room(u64::MAX);
        log.keeper.work(&Seq::ZERO, 0).expect("nothing to remove");
        assert_eq!(reserved(&disk), 8 << 20, "it is there again");
    }
}

#[test]
fn a_note_that_took_the_reserve_has_it_made_again() {
    let disk = SimulatedDisk::new(1);
    let mut log = start(&disk).0;
    append(&mut log, "a");
    disk.fill(0);
    log.status.note_transient(&TransientChannels::default()).expect("with the reserve's room");
    assert_eq!(reserved(&disk), 0);
    disk.limit_room(u64::MAX);
    log.keeper.work(&Seq::ZERO, 0).expect("nothing to remove");
    assert_eq!(reserved(&disk), 8 << 20);
}

#[test]
fn the_reserve_grows_with_the_losses_file() {
    const CHANNELS: u64 = 20_000;
    let disk = SimulatedDisk::new(1);
    let retention = LogRetention {
        removed: RemovedLimits { channels_max: usize::MAX, ..RETENTION.removed },
        ..RETENTION
    };
    let recovery = Recovery::start(disk.clone(), 7, Epoch::new(1, 1)).expect("a log");
    let mut log = recovery.open(64, retention, 0, |_| Some(())).expect("it opens");
    for segment in 0..3 {
        log.keeper.work(&Seq::ZERO, 0).expect("a spare segment");
        log.writer.begin();
        for seq in segment * CHANNELS + 1..=(segment + 1) * CHANNELS {
            let name = format!("{seq:0>210}");
            log.writer.add(&event_of(&name, seq, EventKind::Published, String::new()));
        }
        // The batch is larger than a spare segment.
        thread::scope(|scope| {
            let OpenLog { writer, keeper, .. } = &mut log;
            let writing = scope.spawn(|| writer.write(0).and_then(|()| writer.sync()));
            while !writing.is_finished() {
                keeper.work(&Seq::ZERO, 0).expect("no failure");
                thread::yield_now();
            }
            writing.join().expect("no panic").expect("written");
        });
    }
    for removed in 1..=2 {
        // The last losses file, and the next one beside it, do not fit in eight mebibytes.
        if removed == 2 {
            disk.fill(0);
        }
        log.keeper.work(&Seq(removed * CHANNELS + 1), 0).expect("no failure");
        assert_eq!(log.status.sealed().0 as u64, 2 - removed, "{removed}");
        let losses = disk.open("losses").and_then(|file| file.len()).expect("losses");
        assert!(losses > removed * CHANNELS * 210);
        disk.limit_room(u64::MAX);
        // A size that was refused is not requested again at each call.
        for _ in 0..62 {
            log.keeper.work(&Seq::ZERO, 0).expect("no failure");
        }
        assert!(reserved(&disk) >= 2 * losses - 64, "{removed}");
    }
}

fn reserved(disk: &SimulatedDisk) -> u64 {
    disk.open("reserve").and_then(|file| file.len()).unwrap_or(0)
}

#[test]
fn a_batch_larger_than_a_segment_waits_for_room_and_for_the_keeper() {
    let disk = SimulatedDisk::new(1);
    let OpenLog { mut writer, mut keeper, status, .. } = start(&disk).0;
    disk.limit_room((8 << 20) + 2 * SEGMENT_BYTES);
    let is_done = Arc::new(AtomicBool::new(false));
    let keeping = thread::spawn({
        let is_done = Arc::clone(&is_done);
        move || {
            while keeper.wait(Duration::from_millis(10)) && !is_done.load(Ordering::Relaxed) {
                keeper.work(&Seq::ZERO, 0).expect("no failure");
            }
        }
    });
    let writing = thread::spawn(move || {
        writer.begin();
        let data = "x".repeat(5 * SEGMENT_BYTES as usize);
        writer.add(&event_of("a", 1, EventKind::Published, data));
        writer.write(0).and_then(|()| writer.sync()).expect("written");
        writer.close().expect("closed");
    });
    wait_for(|| status.is_full());
    assert!(!writing.is_finished());
    disk.limit_room(u64::MAX);
    writing.join().expect("it was written");
    is_done.store(true, Ordering::Relaxed);
    keeping.join().expect("it has ended");
    assert_eq!(start(&disk).1, [1]);
}

#[test]
fn nothing_waits_for_room_after_a_stop() {
    let disk = SimulatedDisk::new(1);
    let OpenLog { mut writer, mut keeper, status, .. } = start(&disk).0;
    disk.limit_room(0);
    keeper.work(&Seq::ZERO, 0).expect("full is not a failure");
    // The spare segment was there before the disk was full.
    writer.begin();
    writer.add(&event("a", 1, EventKind::Published));
    writer.write(0).expect("there is a segment");
    keeper.work(&Seq::ZERO, 0).expect("full is not a failure");
    assert!(status.is_full());
    status.stop();
    let (sender, ended) = mpsc::channel();
    let waiting = thread::spawn(move || {
        assert!(!keeper.wait(Duration::from_secs(3_600)));
        for seq in 2..50 {
            writer.begin();
            writer.add(&event("a", seq, EventKind::Published));
            if let Err(error) = writer.write(0) {
                assert!(matches!(error, WriteError::Stopped), "{error}");
                break;
            }
        }
        sender.send(()).expect("the test waits");
    });
    ended.recv_timeout(Duration::from_secs(60)).expect("neither waits");
    waiting.join().expect("it has ended");
}

#[test]
fn the_writer_and_the_keeper_hand_over_thousands_of_segments() {
    const EVENTS: u64 = 3_000;
    let disk = SimulatedDisk::new(1);
    let OpenLog { mut writer, mut keeper, .. } = start(&disk).0;
    let keeping = thread::spawn(move || {
        let mut removed = 0;
        while keeper.wait(Duration::from_secs(3_600)) {
            removed += 1;
            keeper.work(&Seq(removed), 0).expect("no failure");
        }
    });
    for seq in 1..=EVENTS {
        writer.begin();
        writer.add(&event("a", seq, EventKind::Published));
        writer.write(0).and_then(|()| writer.sync()).expect("written");
    }
    writer.close().expect("closed");
    keeping.join().expect("it ends with the writer");
    let (log, read) = start(&disk);
    assert!(log.report.was_closed);
    let first = read.first().copied().expect("events");
    assert_eq!(read, (first..=EVENTS).collect::<Vec<_>>());
}

#[test]
fn a_file_that_cannot_be_read_is_a_failure_and_no_loss() {
    let disk = SimulatedDisk::new(1);
    let mut log = start(&disk).0;
    for _ in 0..5 {
        append(&mut log, "a");
    }
    drop(log);
    for error in [EIO, ENOSPC] {
        for call in 0..20 {
            disk.reboot(Stop::Kill);
            disk.plan(Faults { fail_at: Some((call, error)), ..Faults::default() });
            match try_start(&disk) {
                Err(OpenError::Io { error: found, .. }) => {
                    assert_eq!(found.raw_os_error(), Some(error));
                }
                Err(other) => panic!("call {call}: {other}"),
                Ok((_, read)) => assert_eq!(read, [1, 2, 3, 4, 5], "call {call}"),
            }
        }
    }
    disk.reboot(Stop::Kill);
    assert_eq!(start(&disk).1, [1, 2, 3, 4, 5]);
}

fn wait_for(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "it does not happen");
        thread::sleep(Duration::from_millis(1));
    }
}
