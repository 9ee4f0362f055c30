//! Opens a log: finds out where it ends, and reads back what is in it.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Weak},
};

use super::{
    batch::{BatchHeader, Item, Items},
    directory::{Directory, DirectoryFile, is_full},
    error::OpenError,
    index,
    keeper::{self, LOSSES, LogKeeper, LogRetention, RESERVE, STARTED_AT},
    log_reader::LogReader,
    meta::{Meta, foreign_file},
    recovered_event::RecoveredEvent,
    removed::{RemovedEvents, StoredKey},
    segment::{self, Next, Sealed, SegmentHeader, SegmentReader},
    segments::{SPARE, Segments},
    small_file,
    transient::{TRANSIENT, TransientChannels},
    writer::{CLEAN_END, CleanEnd, LogWriter, SEQS_SKIPPED},
};
use crate::model::{Epoch, Seq};

/// A log that is being opened.
pub struct Recovery<D> {
    directory: D,
    epoch: Epoch,
    removed: RemovedEvents,
    bases: Vec<Seq>,
    is_new: bool,
}

/// One thing that the log holds.
#[derive(Debug)]
pub enum Recovered {
    /// An event.
    Event(RecoveredEvent),
    /// The key under which the events that follow were published.
    Key(StoredKey),
}

/// A log that is open.
pub struct OpenLog<D: Directory> {
    /// Writes to its end.
    pub writer: LogWriter<D>,
    /// Works beside the writer.
    pub keeper: LogKeeper<D>,
    /// Whether the disk is full, and how much of it the log takes.
    pub status: LogStatus<D>,
    /// Reads what is in it.
    pub reader: LogReader<D>,
    /// What was found.
    pub report: RecoveryReport,
}

/// What was found in a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The seq behind which the log goes on.
    pub last: Seq,
    /// The last event that it holds.
    pub last_event: Seq,
    /// Bytes of an unfinished write at its end, which were cut off.
    pub torn_bytes: u64,
    /// Whether it was closed when it was used last.
    pub was_closed: bool,
    /// Segments.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// A view of an open log, for metrics and admission. It does not keep it open.
pub struct LogStatus<D: Directory>(Weak<Segments<D>>);

impl<D: Directory> LogStatus<D> {
    /// Whether the disk has no room for another segment. Nothing new should be handed in then.
    pub fn is_full(&self) -> bool {
        self.0.upgrade().is_some_and(|segments| segments.is_full())
    }

    /// Sealed segments, and their bytes.
    pub fn sealed(&self) -> (usize, u64) {
        self.0.upgrade().map_or_else(Default::default, |segments| segments.sealed())
    }

    /// Notes which channels are transient from now on. Blocks until it is durable.
    pub fn note_transient(&self, channels: &TransientChannels) -> io::Result<()> {
        match self.0.upgrade() {
            Some(segments) => {
                keeper::write_small(&segments.directory, TRANSIENT, &channels.encode()).map(drop)
            }
            None => Ok(()),
        }
    }

    /// Ends the waiting of the writer for room on a full disk.
    pub fn close(&self) {
        if let Some(segments) = self.0.upgrade() {
            segments.close();
        }
    }

    /// Ends the waiting of the writer and of the keeper.
    pub fn stop(&self) {
        if let Some(segments) = self.0.upgrade() {
            segments.stop();
        }
    }
}

impl<D: Directory> Recovery<D> {
    /// Looks into a directory, and makes a log of it if it is empty. `identity` is what tells the
    /// directory from a copy of it.
    pub fn start(directory: D, identity: u64, new_epoch: Epoch) -> Result<Self, OpenError> {
        let bases = segment::bases(&directory)?;
        let meta = Meta::read(&directory)?;
        let is_new = meta.is_none();
        let meta = match meta {
            Some(meta) if meta.identity != identity => return Err(OpenError::Moved),
            Some(meta) => meta,
            None => {
                let names = directory.list().map_err(OpenError::io("."))?;
                if let Some(file) = foreign_file(names) {
                    return Err(OpenError::Foreign { file });
                }
                let meta = Meta::new(new_epoch, identity);
                meta.write(&directory)?;
                meta
            }
        };
        let removed = Self::read_removed(&directory)?;
        Ok(Self { is_new, ..Self::with(directory, meta.epoch, removed, bases) })
    }

    pub(super) fn with(
        directory: D,
        epoch: Epoch,
        removed: RemovedEvents,
        mut bases: Vec<Seq>,
    ) -> Self {
        // The others are not removed yet.
        bases.retain(|base| *base >= removed.first_base);
        Self { directory, epoch, removed, bases, is_new: false }
    }

    pub(super) fn read_removed(directory: &D) -> Result<RemovedEvents, OpenError> {
        match small_file::load(directory, LOSSES)? {
            Some(bytes) => {
                RemovedEvents::decode(&bytes).ok_or_else(|| OpenError::damaged_file(LOSSES))
            }
            None => Ok(RemovedEvents::default()),
        }
    }

    pub(super) fn directory(&self) -> &D {
        &self.directory
    }

    /// The bases of its segments.
    pub(super) fn bases(&self) -> &[Seq] {
        &self.bases
    }

    /// The epoch of the log.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What was in it before the events that are read.
    pub fn removed(&self) -> &RemovedEvents {
        &self.removed
    }

    /// Which channels have lost events that were not written, or may have.
    pub fn transient(&self) -> Result<TransientChannels, OpenError> {
        match small_file::load(&self.directory, TRANSIENT)? {
            Some(bytes) => {
                TransientChannels::decode(&bytes).ok_or_else(|| OpenError::damaged_file(TRANSIENT))
            }
            None => Ok(TransientChannels::default()),
        }
    }

    /// The first seq that it may hold.
    pub fn first(&self) -> Seq {
        self.bases.first().copied().unwrap_or(self.removed.first_base).max(Seq(1))
    }

    /// Reads the log in its order, and opens it for writing.
    pub fn open(
        self,
        segment_bytes: u64,
        retention: LogRetention,
        visit: impl FnMut(Recovered),
    ) -> Result<OpenLog<D>, OpenError> {
        self.finish_removal().map_err(OpenError::io(LOSSES))?;
        let contents = self.read(visit)?;
        self.cut_off_tail(&contents)?;
        let LogContents { segments, mut last, mut noted, last_event, previous, was_closed } =
            contents;
        if was_closed {
            self.directory.remove(CLEAN_END).map_err(OpenError::io(CLEAN_END))?;
        } else if !self.is_new {
            // Readers may have seen events that a disk which lies about fsync has lost: their seqs
            // are not given out again.
            last.0 += SEQS_SKIPPED;
            if self.note_start(last).map_err(OpenError::io(STARTED_AT))? {
                noted = last;
            }
        }
        keeper::reserve(&self.directory).map_err(OpenError::io(RESERVE))?;
        self.directory.sync().map_err(OpenError::io("."))?;
        let sealed: VecDeque<Sealed> =
            segments.iter().filter_map(SegmentContents::sealed).collect();
        let report = RecoveryReport {
            last,
            last_event,
            torn_bytes: segments.iter().map(|segment| segment.torn_bytes).sum(),
            was_closed,
            segments: sealed.len(),
            bytes: sealed.iter().map(|sealed| sealed.bytes).sum(),
        };
        let segments = Arc::new(Segments::new(self.directory, sealed));
        let ours = || Arc::clone(&segments);
        Ok(OpenLog {
            writer: LogWriter::new(ours(), self.epoch, last, noted, previous),
            keeper: LogKeeper::new(ours(), segment_bytes, retention, self.removed),
            status: LogStatus(Arc::downgrade(&segments)),
            reader: LogReader::new(&segments),
            report,
        })
    }

    /// Reads the log in its order, and changes nothing.
    pub fn read(&self, mut visit: impl FnMut(Recovered)) -> Result<LogContents, OpenError> {
        let mut contents = self.empty_contents();
        for (index, base) in self.bases.iter().enumerate() {
            let is_last = index + 1 == self.bases.len();
            self.read_segment(*base, is_last, &mut contents, &mut visit)?;
        }
        self.check_end(&mut contents)?;
        Ok(contents)
    }

    pub(super) fn empty_contents(&self) -> LogContents {
        LogContents {
            segments: Vec::with_capacity(self.bases.len()),
            last: Seq(self.removed.first_base.0.saturating_sub(1)),
            noted: Seq::ZERO,
            last_event: Seq::ZERO,
            previous: self.removed.previous,
            was_closed: false,
        }
    }

    /// Finds out where the log goes on, and whether one that was closed ends where it did then.
    pub(super) fn check_end(&self, contents: &mut LogContents) -> Result<(), OpenError> {
        if let Some(bytes) = small_file::load(&self.directory, STARTED_AT)? {
            let bytes = bytes.try_into().map_err(|_| OpenError::damaged_file(STARTED_AT))?;
            contents.last = contents.last.max(Seq(u64::from_le_bytes(bytes)));
        }
        contents.noted = contents.last;
        let Some(bytes) = small_file::load(&self.directory, CLEAN_END)? else { return Ok(()) };
        let clean = CleanEnd::decode(&bytes).ok_or_else(|| OpenError::damaged_file(CLEAN_END))?;
        if clean.previous != contents.previous || clean.last < contents.last {
            return Err(OpenError::Damaged {
                file: CLEAN_END.into(),
                offset: 0,
                last: contents.last_event,
                why: "the log does not end where it was closed",
            });
        }
        contents.last = clean.last;
        contents.was_closed = true;
        Ok(())
    }

    pub(super) fn read_segment(
        &self,
        base: Seq,
        is_last: bool,
        contents: &mut LogContents,
        visit: &mut impl FnMut(Recovered),
    ) -> Result<(), OpenError> {
        let name = segment::file_name(base);
        let damaged = |offset, last, why| {
            Err(OpenError::Damaged { file: segment::file_name(base), offset, last, why })
        };
        let file = self.directory.open(&name).map_err(OpenError::io(&name))?;
        // What the process before this one wrote may be in the page cache alone.
        file.sync().map_err(OpenError::io(&name))?;
        let mut bytes = [0; SegmentHeader::BYTES];
        let read = file.read_full_at(&mut bytes, 0).map_err(OpenError::io(&name))?;
        let header = SegmentHeader::decode(&bytes[..read]).filter(|header| header.base == base);
        let Some(header) = header else {
            return damaged(0, contents.last_event, "it does not begin as a segment");
        };
        if header.previous != contents.previous || header.base <= contents.last {
            return damaged(
                0,
                contents.last_event,
                "a segment before it is missing, or ends too early",
            );
        }
        let mut reader = SegmentReader::new(&file, &header).map_err(OpenError::io(&name))?;
        let mut newest_ms = 0;
        loop {
            match reader.next().map_err(OpenError::io(&name))? {
                Next::Batch(header, items) => {
                    let begin = reader.offset - (BatchHeader::BYTES as u64 + u64::from(header.len));
                    let mut next = header.first;
                    for item in Items(&items) {
                        let Some(item) = item else {
                            return damaged(
                                begin,
                                contents.last_event,
                                "it holds what this version does not know",
                            );
                        };
                        next = visit_item(item, next, header.time_ms, visit);
                    }
                    if next != header.last().next() {
                        let why = "a batch has not as many events as it says";
                        return damaged(begin, contents.last_event, why);
                    }
                    newest_ms = header.time_ms;
                    contents.last_event = header.last();
                }
                Next::End => break,
                Next::Invalid => {
                    let proof = reader.find_proof_of_damage().map_err(OpenError::io(&name))?;
                    if !is_last || proof.is_some() {
                        let why = "what was durable cannot be read";
                        return damaged(reader.offset, contents.last_event, why);
                    }
                    break;
                }
            }
        }
        let end = reader.end_of_data().map_err(OpenError::io(&name))?;
        contents.segments.push(SegmentContents {
            base,
            last: reader.last,
            bytes: reader.offset,
            torn_bytes: end.saturating_sub(reader.offset),
            newest_ms,
            unproven: reader.unproven,
            previous: reader.previous,
        });
        contents.last = reader.last;
        contents.previous = reader.previous;
        Ok(())
    }

    /// Notes the seq behind which this process goes on: if all that it writes is lost, the next one has
    /// to skip more. Whether it is noted.
    fn note_start(&self, last: Seq) -> io::Result<bool> {
        if is_planted!(StartIsNotNoted) {
            return Ok(true);
        }
        match keeper::note_start(&self.directory, last) {
            // A full disk had better start. The writer notes it before it is needed.
            Err(error) if is_full(&error) => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Cuts the last segment to what it holds: an unfinished write must not come back after the next
    /// crash. A segment that holds nothing goes. Its last batches are written again as they are: if
    /// their fsync failed, the kernel takes them for written, and no fsync of ours would write them.
    fn cut_off_tail(&self, contents: &LogContents) -> Result<(), OpenError> {
        let Some(segment) = contents.segments.last() else { return Ok(()) };
        let name = segment::file_name(segment.base);
        if segment.sealed().is_none() {
            return self.directory.remove(&name).map_err(OpenError::io(&name));
        }
        let file = self.directory.open(&name).map_err(OpenError::io(&name))?;
        let cut = || {
            file.set_len(segment.bytes)?;
            if !contents.was_closed && !is_planted!(TailIsTrusted) {
                write_again(&file, segment.unproven)?;
            }
            file.sync()
        };
        cut().map_err(OpenError::io(&name))
    }

    /// Removes segments whose removal was under way, and a spare one.
    fn finish_removal(&self) -> io::Result<()> {
        // The losses file may have its name in the cache alone, if the process before was killed.
        self.directory.sync()?;
        let names = self.directory.list()?;
        let is_removed = |base: Seq| base < self.removed.first_base;
        for name in names {
            let base = segment::base_of(&name).or_else(|| index::base_of(&name));
            if name == SPARE || base.is_some_and(is_removed) {
                self.directory.remove(&name)?;
            }
        }
        self.directory.sync()
    }
}

/// What was read of a log.
#[derive(Debug)]
pub struct LogContents {
    /// Its segments.
    pub segments: Vec<SegmentContents>,
    /// The seq behind which it goes on.
    pub last: Seq,
    /// Its last event.
    pub last_event: Seq,
    /// Whether it was closed when it was used last.
    pub was_closed: bool,
    /// The newest seq of which it says without its clean end that it is given out.
    noted: Seq,
    /// The checksum of its last batch.
    previous: u32,
}

/// What was read of a segment.
#[derive(Debug, Clone, Copy)]
pub struct SegmentContents {
    /// At most its first event.
    pub base: Seq,
    /// Its last event, or the one before its base.
    pub last: Seq,
    /// Bytes of batches, and before them.
    pub bytes: u64,
    /// Bytes of an unfinished write behind them.
    pub torn_bytes: u64,
    /// When its last batch was written, in milliseconds since 1970.
    pub newest_ms: u64,
    /// From here on it may be in the page cache alone.
    unproven: u64,
    /// The checksum of its last batch.
    previous: u32,
}

impl LogContents {
    /// Goes on behind damage, with a segment that begins like this.
    pub(super) fn go_on_with(&mut self, header: Result<Option<SegmentHeader>, OpenError>) {
        if let Ok(Some(header)) = header {
            self.previous = header.previous;
            self.last = Seq(header.base.0 - 1);
        }
    }
}

impl SegmentContents {
    /// Nothing if it holds no batch.
    fn sealed(&self) -> Option<Sealed> {
        let &Self { base, last, bytes, newest_ms, previous, .. } = self;
        (last >= base).then_some(Sealed { base, last, previous, bytes, newest_ms })
    }
}

/// Hands on an item; returns the seq of the next event.
fn visit_item(item: Item, next: Seq, time_ms: u64, visit: &mut impl FnMut(Recovered)) -> Seq {
    match item {
        Item::Event { time_ms, kind, channel, draft } => {
            visit(Recovered::Event(RecoveredEvent { seq: next, time_ms, kind, channel, draft }));
            next.next()
        }
        Item::Key { key, events } => {
            visit(Recovered::Key(StoredKey { key, first: next, events, time_ms }));
            next
        }
    }
}

/// Writes a file from `at` on as it is.
fn write_again(file: &impl DirectoryFile, mut at: u64) -> io::Result<()> {
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let read = file.read_full_at(&mut block, at)?;
        if read == 0 {
            return Ok(());
        }
        file.write_all_at(&block[..read], at)?;
        at += read as u64;
    }
}

/// Bytes that are written again at a time.
const BLOCK_BYTES: usize = 1 << 20;
