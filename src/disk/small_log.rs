//! A small log on a simulated disk, for tests of its faults: each segment has one event.

use super::{simulated::SimulatedDisk, *};
use crate::model::{ChannelName, Epoch, Event, EventKind, NewEvent, Position, Seq};

pub(super) fn start(disk: &SimulatedDisk) -> (OpenLog<SimulatedDisk>, Vec<u64>) {
    start_with(disk, RETENTION)
}

pub(super) fn start_with(
    disk: &SimulatedDisk,
    retention: LogRetention,
) -> (OpenLog<SimulatedDisk>, Vec<u64>) {
    open(disk, retention, 0).expect("it opens")
}

pub(super) fn try_start(
    disk: &SimulatedDisk,
) -> Result<(OpenLog<SimulatedDisk>, Vec<u64>), OpenError> {
    open(disk, RETENTION, 0)
}

pub(super) fn open(
    disk: &SimulatedDisk,
    retention: LogRetention,
    now_ms: u64,
) -> Result<(OpenLog<SimulatedDisk>, Vec<u64>), OpenError> {
    let mut seqs = Vec::new();
    let recovery = Recovery::start(disk.clone(), 7, Epoch::new(1, 1))?;
    let mut log = recovery.open(SEGMENT_BYTES, retention, now_ms, |item| {
        if let LogItem::Event(event) = item {
            seqs.push(event.seq().0);
        }
        Some(())
    })?;
    let io = |error| OpenError::Io { file: "spare".into(), error };
    log.keeper.work(&Seq::ZERO, 0).map_err(io)?;
    Ok((log, seqs))
}

pub(super) fn removed(disk: &SimulatedDisk) -> RemovedEvents {
    Recovery::start(disk.clone(), 7, Epoch::new(1, 1)).expect("a log").removed().clone()
}

/// Appends an event, and returns its seq.
pub(super) fn append(log: &mut OpenLog<SimulatedDisk>, channel: &str) -> u64 {
    prepare(log);
    let seq = next(log);
    add(log, channel, seq);
    log.writer.write(0).and_then(|()| log.writer.sync()).expect("written");
    seq
}

/// The seq of the next event.
pub(super) fn next(log: &OpenLog<SimulatedDisk>) -> u64 {
    log.writer.written.next().0
}

pub(super) fn add(log: &mut OpenLog<SimulatedDisk>, channel: &str, seq: u64) {
    log.writer.begin();
    log.writer.add(&event(channel, seq, EventKind::Published));
}

/// Allocates the next segment, if there is room.
pub(super) fn prepare(log: &mut OpenLog<SimulatedDisk>) {
    log.keeper.work(&Seq::ZERO, 0).expect("a spare segment, or none");
}

pub(super) fn published(channel: &str, seq: u64) -> Event {
    event(channel, seq, EventKind::Published)
}

pub(super) fn event(channel: &str, seq: u64, kind: EventKind) -> Event {
    event_of(channel, seq, kind, "x".repeat(EVENT_BYTES))
}

pub(super) fn event_of(channel: &str, seq: u64, kind: EventKind, data: String) -> Event {
    let position = Position { epoch: Epoch::new(1, 1), seq: Seq(seq) };
    let channel = ChannelName::parse(channel).expect("a name");
    Event { kind, ..Event::published(position, &channel, 500, &NewEvent::message(data)) }
}

/// Each segment has one event.
pub(super) const SEGMENT_BYTES: u64 = 1_000;
const EVENT_BYTES: usize = 600;

pub(super) const RETENTION: LogRetention = LogRetention {
    bytes_max: 0,
    age_max_ms: 0,
    removed: RemovedLimits {
        channels_max: 10,
        closed_ms: 1_000,
        closed_max: 10,
        keys_ms: 1_000,
        keys_max: 10,
    },
};
