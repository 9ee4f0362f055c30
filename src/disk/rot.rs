//! Bytes that change at rest: the damage is found, and the intact part can be saved.

use super::{
    segment::{self, SegmentHeader, base_of},
    simulated::{EIO, Faults, SimulatedDisk, Stop},
    small_log::{append, published, start, try_start},
    *,
};
use crate::{
    core::IdempotencyKey,
    model::{Epoch, Seq},
};

#[test]
fn every_changed_byte_of_a_closed_log_is_found() {
    let disk = log(End::Close);
    let mut changed = 0;
    for name in files(&disk) {
        // The step is such that each byte of a number is met in some file.
        for offset in (0..len(&disk, &name)).step_by(5) {
            disk.damage(&name, offset);
            let error = try_start(&disk).err().unwrap_or_else(|| panic!("{name} at {offset}"));
            assert!(matches!(error, OpenError::Damaged { .. }), "{name} at {offset}: {error}");
            disk.damage(&name, offset);
            changed += 1;
        }
    }
    assert!(changed > 800, "{changed}");
    assert_eq!(start(&disk).1, (5..=12).collect::<Vec<_>>());
}

#[test]
fn a_changed_byte_after_a_crash_is_found_unless_it_is_of_the_last_write() {
    let disk = log(End::Crash);
    for name in files(&disk) {
        for offset in (0..len(&disk, &name)).step_by(41) {
            let disk = log(End::Crash);
            disk.damage(&name, offset);
            match try_start(&disk) {
                Err(OpenError::Damaged { .. }) => {
                    assert!(name != LAST || offset < SegmentHeader::BYTES as u64)
                }
                Err(error) => panic!("{name} at {offset}: {error}"),
                Ok((_, read)) => {
                    assert_eq!(name, LAST, "{offset}");
                    assert!(read.starts_with(&[5, 6, 7, 8, 9, 10, 11]), "{read:?}");
                }
            }
        }
    }
}

#[test]
fn a_thread_that_reads_ahead_finds_the_same_events_and_the_same_damage() {
    for end in [End::Close, End::Crash] {
        let disk = log(end);
        let read = |is_large| {
            let recovery = Recovery::start(disk.clone(), 7, Epoch::new(3, 3))?;
            let mut seqs = Vec::new();
            let contents = recovery.read_items(is_large, |item| {
                item.recover().map(|item| seqs.push(format!("{item:?}")))
            });
            contents.map(|contents| format!("{contents:?} {seqs:?}"))
        };
        let both = || [false, true].map(|is_large| read(is_large).map_err(|it| it.to_string()));
        let [here, ahead] = both();
        assert!(here.as_ref().is_ok_and(|read| read.contains("Seq(12)")), "{here:?}");
        assert_eq!(ahead, here);
        for name in files(&disk) {
            for offset in (0..len(&disk, &name)).step_by(23) {
                disk.damage(&name, offset);
                let [here, ahead] = both();
                assert_eq!(ahead, here, "{name} at {offset}");
                disk.damage(&name, offset);
            }
        }
        for call in 0..60 {
            let failed = [false, true].map(|is_large| {
                disk.plan(Faults { fail_at: Some((call, 5)), ..Faults::default() });
                let result = read(is_large).map_err(|error| error.to_string());
                disk.reboot(Stop::Kill);
                result
            });
            assert_eq!(failed[0], failed[1], "call {call}");
        }
    }
}

#[test]
fn a_repair_saves_what_is_before_the_damage_and_begins_a_new_epoch() {
    let whole: Vec<u64> = (5..=12).collect();
    for name in files(&log(End::Close)) {
        for offset in [0, 9, 16, 25, 70, 140, 400] {
            let disk = log(End::Close);
            if len(&disk, &name) <= offset {
                continue;
            }
            disk.damage(&name, offset);
            let (recovery, found) = Recovery::examine(disk.clone()).expect("it is readable");
            let damage = recovery.verify(found);
            assert!(!damage.found.is_empty(), "{name} at {offset}");
            recovery.repair(&damage, 7, Epoch::new(2, 2)).expect("repaired");
            disk.reboot(Stop::PowerCut);
            let recovery = Recovery::start(disk.clone(), 7, Epoch::new(3, 3)).expect("a log");
            assert_eq!(recovery.epoch(), Epoch::new(2, 2));
            let (log, read) = try_start(&disk).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(whole.starts_with(&read), "{name} at {offset}: {read:?}");
            match base_of(&name) {
                Some(base) => assert_eq!(read, (5..base.0).collect::<Vec<_>>(), "one event each"),
                None => assert_eq!(read, whole, "{name} at {offset}"),
            }
            drop(log);
        }
    }
}

/// Otherwise a retry would be answered with the position of an event that is not in the log.
#[test]
fn a_repaired_log_knows_no_key_whose_events_it_has_lost() {
    let disk = SimulatedDisk::new(1);
    let mut log = start(&disk).0;
    let key = |seq: u64| IdempotencyKey::new(&[&seq.to_le_bytes()], &[]);
    for seq in 1..=6 {
        log.keeper.work(&Seq::ZERO, 0).expect("a spare");
        log.writer.begin();
        log.writer.add_key(&key(seq), 1);
        log.writer.add(&published("a", seq));
        log.writer.write(0).and_then(|()| log.writer.sync()).expect("written");
    }
    log.keeper.work(&Seq(3), 0).expect("removed");
    log.writer.close().expect("closed");
    disk.reboot(Stop::Kill);
    disk.damage(&segment::file_name(Seq(5)), 100);
    let (recovery, found) = Recovery::examine(disk.clone()).expect("it is readable");
    let damage = recovery.verify(found);
    recovery.repair(&damage, 7, Epoch::new(2, 2)).expect("repaired");
    let recovery = Recovery::start(disk, 7, Epoch::new(3, 3)).expect("a log");
    let mut known: Vec<_> = recovery.removed().keys().map(|stored| stored.key).collect();
    recovery
        .read(|item| {
            if let Recovered::Key(stored) = item {
                known.push(stored.key);
            }
        })
        .expect("it is whole");
    assert_eq!(known, [1, 2, 3, 4].map(key));
}

#[test]
fn a_segment_that_cannot_be_read_is_removed_as_one_with_changed_bytes() {
    let removed = |spoil: &dyn Fn(&SimulatedDisk, &str)| {
        let disk = log(End::Close);
        let (mut log, _) = start(&disk);
        let name = segment::file_name(Seq(7));
        spoil(&disk, &name);
        // A failed read is repeated a few times.
        for _ in 0..5 {
            log.keeper.work(&Seq(9), 0).unwrap_or_else(|error| panic!("it ends the hub: {error}"));
        }
        log.writer.close().expect("closed");
        disk.reboot(Stop::Kill);
        assert_eq!(start(&disk).1, (9..=12).collect::<Vec<_>>());
        Recovery::start(disk, 7, Epoch::new(1, 1)).expect("a log").removed().clone()
    };
    let unreadable = removed(&|disk, name| {
        disk.spoil(name);
        assert!(disk.open(name).expect("it is there").read_at(&mut [0], 0).is_err());
    });
    // Any channel may have lost events of the removed segment.
    assert_eq!(unreadable.unnamed(), Seq(7));
    let damaged = removed(&|disk, name| disk.damage(name, 100));
    assert_eq!(damaged.unnamed(), Seq(7));
    assert!(damaged.lost().eq(unreadable.lost()));
}

#[test]
fn neighbours_that_cannot_be_read_are_removed_one_after_the_other() {
    let disk = log(End::Close);
    let (mut log, _) = start(&disk);
    for base in [7, 8] {
        disk.spoil(&segment::file_name(Seq(base)));
    }
    let mut kept = Vec::new();
    for _ in 0..9 {
        log.keeper.work(&Seq(10), 0).unwrap_or_else(|error| panic!("it ends the hub: {error}"));
        kept.push(log.status.sealed().0);
    }
    // The segments before an unreadable one are removed at once.
    assert_eq!(kept, [6, 6, 6, 6, 5, 5, 5, 5, 3]);
    log.writer.close().expect("closed");
    disk.reboot(Stop::Kill);
    assert_eq!(start(&disk).1, (10..=12).collect::<Vec<_>>());
    let removed = Recovery::start(disk, 7, Epoch::new(1, 1)).expect("a log").removed().clone();
    assert_eq!(removed.unnamed(), Seq(8));
}

#[test]
fn a_read_that_fails_once_loses_nothing_when_its_segment_is_removed() {
    let mut met = 0;
    for call in 0..60 {
        let disk = log(End::Close);
        let (mut log, _) = start(&disk);
        disk.plan(Faults { fail_at: Some((call, EIO)), ..Faults::default() });
        // Other calls that fail end the hub.
        if log.keeper.work(&Seq(9), 0).is_err() || !disk.has_failed() {
            continue;
        }
        met += 1;
        log.keeper.work(&Seq(9), 0).expect("it can be read now");
        log.writer.close().expect("closed");
        disk.reboot(Stop::Kill);
        assert_eq!(start(&disk).1, (9..=12).collect::<Vec<_>>());
        let recovery = Recovery::start(disk, 7, Epoch::new(1, 1)).expect("a log");
        assert_eq!(recovery.removed().unnamed(), Seq::ZERO, "call {call}");
    }
    assert!(met > 10, "{met}");
}

#[test]
fn a_start_refuses_a_log_whose_segment_cannot_be_read() {
    let disk = log(End::Close);
    disk.spoil(&segment::file_name(Seq(7)));
    let error = try_start(&disk).map(drop).expect_err("it cannot be read");
    assert!(matches!(&error, OpenError::Io { file, .. } if *file == segment::file_name(Seq(7))));
}

enum End {
    Close,
    Crash,
}

/// A log of twelve events in as many segments, of which the first four were removed.
fn log(end: End) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let mut log = start(&disk).0;
    for _ in 0..12 {
        append(&mut log, "a");
    }
    log.keeper.work(&Seq(5), 0).expect("removed");
    match end {
        End::Close => log.writer.close().expect("closed"),
        End::Crash => drop(log),
    }
    disk.reboot(Stop::Kill);
    disk
}

/// The files that a start reads.
fn files(disk: &SimulatedDisk) -> Vec<String> {
    let mut names = disk.list().expect("names");
    let is_index = |name: &str| name.ends_with(".index");
    names.retain(|name| !["reserve", "spare"].contains(&name.as_str()) && !is_index(name));
    names
}

fn len(disk: &SimulatedDisk, name: &str) -> u64 {
    disk.open(name).and_then(|file| file.len()).expect("a file")
}

const LAST: &str = "00000000000000000012.log";
