//! The process or the machine has no file or no memory left for a while: the log waits, and nothing
//! ends.

use std::{
    ops::ControlFlow,
    thread,
    time::{Duration, Instant},
};

use super::{
    simulated::{EMFILE, Faults, SimulatedDisk, Stop},
    small_log::{append, published, start},
    *,
};
use crate::model::Seq;

/// EINTR, EAGAIN, ENOMEM, ENFILE, EMFILE.
const TEMPORARY: [i32; 5] = [4, 11, 12, 23, EMFILE];

#[test]
fn the_keeper_waits_for_a_file() {
    for error in TEMPORARY {
        let disk = SimulatedDisk::new(1);
        let mut log = start(&disk).0;
        for _ in 0..12 {
            append(&mut log, "a");
        }
        // The spare segment is in use, so the next one is due too.
        disk.deny_files(Some(error));
        log.keeper.work(&Seq(5), 0).unwrap_or_else(|error| panic!("it ends the hub: {error}"));
        assert!(!log.status.is_full(), "the disk has room");
        let sealed = log.status.sealed().0;
        disk.deny_files(None);
        log.keeper.work(&Seq(5), 0).expect("there are files");
        assert!(log.status.sealed().0 < sealed, "what was due is done");
        let last = append(&mut log, "a");
        drop(log);
        disk.reboot(Stop::PowerCut);
        let read = start(&disk).1;
        assert_eq!((read.first(), read.last()), (Some(&5), Some(&last)));
    }
}

#[test]
fn the_writer_waits_for_a_segment_and_for_notes() {
    for error in TEMPORARY {
        for notes_first in [false, true] {
            let disk = SimulatedDisk::new(1);
            let OpenLog { mut writer, mut keeper, status, .. } = filled(&disk);
            let next = writer.written.next();
            disk.deny_files(Some(error));
            let keeping = thread::spawn(move || {
                let mut looks = 0;
                while keeper.wait(Duration::from_millis(10)) {
                    looks += 1;
                    keeper.work(&Seq::ZERO, 0).expect("no failure");
                }
                looks
            });
            let writing = thread::spawn(move || {
                // More than the seqs that are skipped after a crash.
                let noted = Seq(next.0 + 10_000);
                if notes_first {
                    writer.give_out(noted).expect("noted");
                }
                for seq in [next, next.next()] {
                    writer.begin();
                    writer.add(&published("a", seq.0));
                    writer.write(0).and_then(|()| writer.sync()).expect("written");
                }
                writer.give_out(noted).expect("noted");
                writer.close().expect("closed");
            });
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(100) {
                assert!(!writing.is_finished() && !keeping.is_finished(), "{error}: it has ended");
                thread::sleep(Duration::from_millis(5));
            }
            disk.deny_files(None);
            writing.join().expect("it was written");
            status.stop();
            let looks = keeping.join().expect("it has ended");
            let most = 20 + begun.elapsed().as_millis() / 5;
            assert!(looks < most, "{looks} looks: it spins");
            assert_eq!(start(&disk).1.last(), Some(&next.next().0));
        }
    }
}

#[test]
fn a_sync_is_not_made_again_whatever_it_was_short_of() {
    for error in TEMPORARY {
        let mut ended = Vec::new();
        for call in 0.. {
            let disk = SimulatedDisk::new(1);
            let mut log = filled(&disk);
            disk.plan(Faults { fail_at: Some((call, error)), ..Faults::default() });
            let worked = log.keeper.work(&Seq(5), 0);
            if !disk.has_failed() {
                break;
            }
            match worked {
                Ok(()) => {
                    log.keeper.work(&Seq(5), 0).expect("it is done at the next call");
                    drop(log);
                    disk.reboot(Stop::PowerCut);
                    assert_eq!(start(&disk).1.first(), Some(&5), "{error} of call {call}");
                }
                Err(_) => ended.push(call),
            }
        }
        // The syncs of the losses file, of its name, and of the removal.
        assert_eq!(ended.len(), 3, "{error}: calls {ended:?}");
    }
}

#[test]
fn a_read_without_a_file_can_be_made_again_and_finds_no_event_twice() {
    for error in TEMPORARY {
        let mut met = 0;
        // One call after the other: some fail during a look.
        for call in 0..60 {
            let disk = SimulatedDisk::new(1);
            let log = filled(&disk);
            let through = log.writer.written;
            disk.plan(Faults { fail_at: Some((call, error)), ..Faults::default() });
            let search = LogSearch {
                after: Seq::ZERO,
                through,
                events_max: 100,
                bytes_max: 1 << 20,
                channels: None,
                seqs: None,
            };
            let all = |_: Seq, name: &str| crate::model::ChannelName::parse(name).ok();
            let found = log.reader.search(&search, all);
            let found = found.or_else(|error| {
                assert!(error.is_temporary(), "{error}");
                log.reader.search(&search, all)
            });
            assert_eq!(found.expect("read").events.len() as u64, through.0, "call {call}");
            met += usize::from(disk.has_failed());
        }
        for call in 0..60 {
            let disk = SimulatedDisk::new(1);
            let log = filled(&disk);
            let mut through = log.writer.written;
            let mut found = Vec::new();
            disk.plan(Faults { fail_at: Some((call, error)), ..Faults::default() });
            while through > Seq::ZERO {
                let range =
                    SearchBack { through, first: Seq(1), channels: None, bytes_max: u64::MAX };
                let looked = log.reader.search_back(&range, |event| {
                    found.push(event.seq().0);
                    Some(ControlFlow::Continue(()))
                });
                match looked {
                    Ok(looked) => through = looked.through,
                    Err(error) => assert!(error.is_temporary(), "{error}"),
                }
            }
            let expected: Vec<u64> = (1..=log.writer.written.0).rev().collect();
            assert_eq!(found, expected, "{error} of call {call}");
            met += usize::from(disk.has_failed());
        }
        assert!(met > 20, "{error}: {met} faults");
    }
}

/// A log of twelve events in as many segments, with a spare one.
fn filled(disk: &SimulatedDisk) -> OpenLog<SimulatedDisk> {
    let mut log = start(disk).0;
    for _ in 0..12 {
        append(&mut log, "a");
    }
    log.keeper.work(&Seq::ZERO, 0).expect("a spare segment");
    log
}
