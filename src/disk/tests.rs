//! A log in a real directory.

use std::{fs, ops::ControlFlow, path::Path, sync::Arc};

use super::{small_log::RETENTION, *};
use crate::{
    core::IdempotencyKey,
    model::{ChannelName, Epoch, Event, EventType, NewEvent, Position, Seq},
};

#[test]
fn what_was_written_is_read_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, read) = open(dir.path());
    assert_eq!(read, Read::default());
    log.writer.begin();
    log.writer.add_key(&key("k"), 2);
    log.writer.add(&event(1, "a", "one\ntwo"));
    log.writer.add(&event(2, "b/c", ""));
    log.writer.write(7).and_then(|()| log.writer.sync()).expect("written");
    log.writer.begin();
    log.writer.add(&event(3, "a", "three"));
    log.writer.write(8).and_then(|()| log.writer.sync()).expect("written");
    let OpenLog { writer, keeper, .. } = log;
    drop(keeper);
    writer.close().expect("closed");

    let (log, read) = open(dir.path());
    assert_eq!(read.events, ["1 a typed: one\ntwo", "2 b/c typed: ", "3 a typed: three"]);
    assert_eq!(read.keys, [StoredKey { key: key("k"), first: Seq(1), events: 2, time_ms: 7 }]);
    assert!(log.report.was_closed);
    assert_eq!((log.report.last, log.report.last_event), (Seq(3), Seq(3)));
    drop(log);

    let (log, _) = open(dir.path());
    assert!(!log.report.was_closed, "it was not closed");
    assert_eq!(log.report.last_event, Seq(3));
    assert!(log.report.last > Seq(1 << 10), "seqs are skipped");
}

#[test]
fn a_torn_write_at_the_end_is_cut_off_and_anything_else_is_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(dir.path());
    for seq in 1..=3 {
        write(&mut log, &event(seq, "a", &format!("event {seq}")));
    }
    drop(log);
    let segment = dir.path().join("00000000000000000001.log");
    let whole = fs::read(&segment).expect("the segment");
    let end = whole.iter().rposition(|byte| *byte != 0).expect("not all are zero");

    let mut torn = whole.clone();
    torn[end - 3] ^= 1;
    fs::write(&segment, &torn).expect("it can be written");
    let (log, read) = open(dir.path());
    assert_eq!(read.events.len(), 2);
    assert!(log.report.torn_bytes > 0);
    drop(log);
    let (log, _) = open(dir.path());
    assert_eq!(log.report.torn_bytes, 0, "it does not come back");
    drop(log);

    let mut damaged = whole.clone();
    damaged[150] ^= 1;
    fs::write(&segment, &damaged).expect("it can be written");
    let error = try_open(dir.path()).err().expect("it is damaged");
    assert!(matches!(error, OpenError::Damaged { last: Seq(0), offset: 64, .. }), "{error}");
}

#[test]
fn a_damaged_list_of_transient_channels_is_refused_and_repaired() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = open(dir.path());
    let pattern = crate::model::ChannelPattern::parse("prices/**").expect("a pattern");
    let channels = TransientChannels::default().with([&pattern].into_iter());
    log.status.note_transient(&channels).expect("written");
    let OpenLog { writer, keeper, .. } = log;
    drop(keeper);
    writer.close().expect("closed");
    let file = dir.path().join("transient");
    let recovered = || {
        let (directory, identity) = directory(dir.path()).expect("a directory");
        (Recovery::examine(directory).expect("a log"), identity)
    };
    let ((recovery, found), _) = recovered();
    assert_eq!((recovery.transient().expect("whole"), found.len()), (channels, 0));
    drop(recovery);

    let mut damaged = fs::read(&file).expect("it can be read");
    *damaged.last_mut().expect("bytes") ^= 1;
    fs::write(&file, damaged).expect("it can be written");
    let ((recovery, found), identity) = recovered();
    assert!(matches!(recovery.transient(), Err(OpenError::Damaged { .. })));
    let damage = recovery.verify(found);
    assert_eq!(damage.found.len(), 1, "{:?}", damage.found);
    recovery.repair(&damage, identity, Epoch::new(2, 2)).expect("repaired");
    let ((recovery, found), _) = recovered();
    assert_eq!(recovery.transient().expect("none"), TransientChannels::default());
    assert_eq!(found.len(), 0);
}

#[test]
fn one_process_has_it_and_a_copy_or_another_directory_is_not_taken_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = open(dir.path());
    let error = DataDir::open(dir.path()).expect_err("it is locked");
    let us = std::process::id();
    assert!(matches!(error, OpenError::Locked { process: Some(id) } if id == us), "{error}");
    drop(log);

    let copy = tempfile::tempdir().expect("a directory");
    for entry in fs::read_dir(dir.path()).expect("it can be read") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copied");
    }
    assert!(matches!(try_open(copy.path()).err(), Some(OpenError::Moved)));

    let other = tempfile::tempdir().expect("a directory");
    fs::write(other.path().join("notes.txt"), "mine").expect("written");
    let error = try_open(other.path()).err().expect("it is not ours");
    assert!(matches!(&error, OpenError::Foreign { file } if file == "notes.txt"), "{error}");
}

#[test]
fn old_segments_are_removed_and_what_they_held_is_known() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(dir.path());
    for seq in 1..=40 {
        let channel = if seq == 1 { "quiet" } else { "busy" };
        write(&mut log, &event(seq, channel, &"x".repeat(1_000)));
        log.keeper.work(&Seq(30), 0).expect("kept");
    }
    drop(log);
    let names = fs::read_dir(dir.path()).expect("it can be read").count();
    // A segment and an index for each.
    assert!(names < 24, "{names} files");
    let (directory, identity) = directory(dir.path()).expect("a directory");
    let recovery = Recovery::start(directory, identity, Epoch::new(1, 1)).expect("a log");
    let lost: Vec<(String, u64)> =
        recovery.removed().lost().map(|(name, seq)| (name.to_string(), seq.0)).collect();
    assert_eq!(lost[0], ("quiet".to_owned(), 1));
    assert_eq!(lost[1].0, "busy");
    assert!((20..30).contains(&lost[1].1), "{lost:?}");
    let mut first = None;
    recovery
        .open(4_096, RETENTION, 0, |item| {
            if let LogItem::Event(event) = item {
                first.get_or_insert(event.seq().0);
            }
            Some(())
        })
        .expect("it opens");
    assert_eq!(first, Some(lost[1].1 + 1));
}

#[test]
fn older_events_are_found_by_indexes_that_are_made_anew_if_they_are_missing_or_wrong() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(dir.path());
    let mut all: Vec<(u64, &str)> = Vec::new();
    let mut append = |log: &mut OpenLog<LocalDirectory>, from: u64| {
        for n in 0..60 {
            let channel = if n % 20 == 7 { "quiet" } else { "busy" };
            write(log, &event(from + n, channel, &"x".repeat(300)));
            log.keeper.work(&Seq::ZERO, 0).expect("a spare segment");
            all.push((from + n, channel));
        }
        all.clone()
    };
    append(&mut log, 1);
    drop(log);
    // Not closed: seqs are skipped.
    let (mut log, _) = open(dir.path());
    let from = log.report.last.0 + 1;
    let all = append(&mut log, from);
    let indexes = || -> Vec<_> {
        let files = fs::read_dir(dir.path()).expect("it can be read");
        let paths = files.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "index")).collect()
    };
    let made = indexes();
    assert!(made.len() >= 8, "{made:?}");
    for (index, path) in made.iter().enumerate() {
        match index % 4 {
            0 => fs::remove_file(path).expect("removed"),
            1 => fs::write(path, b"").expect("written"),
            2 => _ = fs::copy(&made[index - 1], path).expect("copied"),
            _ => {}
        }
    }
    for _ in 0..2 {
        for channel in [None, Some("quiet"), Some("busy"), Some("other")] {
            let hashes = channel.map(|name| [ChannelHash::of(name)]);
            let is_wanted = |of: &str| channel.is_none_or(|name| name == of);
            for after in [0, 1, 7, 40, 60, from - 1, from, from + 50, from + 59] {
                let mut search = LogSearch {
                    after: Seq(after),
                    through: Seq(from + 59),
                    events_max: 3,
                    bytes_max: 700,
                    channels: hashes.as_ref().map(|hashes| &hashes[..]),
                    seqs: None,
                };
                let mut found = Vec::new();
                while search.after < search.through {
                    let piece = log.reader.search(&search, |_, name| {
                        is_wanted(name).then(|| ChannelName::parse(name).expect("a name"))
                    });
                    let piece = piece.expect("it can be read");
                    assert!(piece.through > search.after && piece.events.len() <= 3);
                    found.extend(piece.events.iter().map(|event| event.seq.0));
                    search.after = piece.through;
                }
                let wanted = all.iter().filter(|(seq, of)| *seq > after && is_wanted(of));
                let wanted: Vec<u64> = wanted.map(|(seq, _)| *seq).collect();
                assert_eq!(found, wanted, "{channel:?}");

                let (mut back, first) = (Vec::new(), Seq(after).next());
                let channels = search.channels;
                let mut through = search.through;
                while through >= first {
                    let mut left = 3;
                    let bytes_max = u64::MAX;
                    let range = SearchBack { through, first, channels, bytes_max };
                    let looked = log.reader.search_back(&range, |event| {
                        let name = ChannelName::parse(event.channel()).expect("a name");
                        if is_wanted(event.channel()) {
                            back.push(event.recover(name)?.seq.0);
                            left -= 1;
                        }
                        Some(if left == 0 {
                            ControlFlow::Break(())
                        } else {
                            ControlFlow::Continue(())
                        })
                    });
                    let looked = looked.expect("it can be read");
                    assert!(looked.through < through);
                    through = looked.through;
                }
                back.reverse();
                assert_eq!(back, wanted, "{channel:?}");

                // Only the events whose seqs are given, whatever is between them.
                let seqs: Vec<Seq> = wanted.iter().step_by(7).map(|seq| Seq(*seq)).collect();
                let search = LogSearch {
                    after: Seq(after),
                    events_max: 100,
                    bytes_max: usize::MAX,
                    channels: None,
                    seqs: Some(&seqs),
                    ..search
                };
                let piece = log.reader.search(&search, |seq, name| {
                    seqs.contains(&seq).then(|| ChannelName::parse(name).expect("a name"))
                });
                let piece = piece.expect("it can be read");
                assert_eq!(piece.events.iter().map(|event| event.seq).collect::<Vec<_>>(), seqs);
                assert_eq!(piece.through, search.through);
            }
        }
        assert!(indexes().len() >= made.len(), "they are made anew");
        // The same without a cache in memory.
        drop(log);
        log = open(dir.path()).0;
    }
}

#[derive(Debug, Default, PartialEq)]
struct Read {
    events: Vec<String>,
    keys: Vec<StoredKey>,
}

fn open(path: &Path) -> (OpenLog<LocalDirectory>, Read) {
    try_open(path).expect("it opens")
}

fn try_open(path: &Path) -> Result<(OpenLog<LocalDirectory>, Read), OpenError> {
    let (directory, identity) = directory(path)?;
    let mut read = Read::default();
    let recovery = Recovery::start(directory, identity, Epoch::new(1, 1))?;
    let mut take = |item| match item {
        Recovered::Event(recovered) => {
            let position = Position { epoch: Epoch::new(1, 1), seq: recovered.seq };
            let frame = recovered.draft.finish(position);
            read.events.push(format!(
                "{} {} {}: {}",
                recovered.seq.0,
                recovered.channel,
                frame.event_type().unwrap_or_default(),
                frame.data()
            ));
        }
        Recovered::Key(key) => read.keys.push(key),
    };
    let mut log = recovery.open(4_096, RETENTION, 0, |item| item.recover().map(&mut take))?;
    log.keeper.work(&Seq::ZERO, 0).expect("a spare segment");
    Ok((log, read))
}

fn directory(path: &Path) -> Result<(LocalDirectory, u64), OpenError> {
    let dir = DataDir::open(path)?;
    let identity = dir.identity();
    Ok((dir.into_directory(), identity))
}

fn write(log: &mut OpenLog<LocalDirectory>, event: &Event) {
    log.writer.begin();
    log.writer.add(event);
    log.writer.write(0).and_then(|()| log.writer.sync()).expect("written");
}

fn event(seq: u64, channel: &str, data: &str) -> Arc<Event> {
    let position = Position { epoch: Epoch::new(1, 1), seq: Seq(seq) };
    let new = NewEvent {
        event_type: Some(EventType::parse("typed").expect("a type")),
        ..NewEvent::message(data)
    };
    Arc::new(Event::published(position, &ChannelName::parse(channel).expect("a name"), 7, &new))
}

fn key(scope: &str) -> IdempotencyKey {
    IdempotencyKey::new(&[scope.as_bytes()], &[])
}
