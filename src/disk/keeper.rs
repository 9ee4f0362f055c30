//! Keeps the next segment ready, and removes old ones.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use super::{
    batch::{Item, Items},
    directory::{Directory, DirectoryFile, is_full, is_temporary, of_sync},
    index,
    read_cache::Shared,
    removed::{RemovedEvents, RemovedLimits},
    segment::{self, Sealed, SegmentHeader},
    segment_reader::{Next, SegmentReader},
    segments::Segments,
    small_file,
};
use crate::model::{ChannelName, Draft, Seq};

/// How much of a log is kept.
#[derive(Debug, Clone, Copy)]
pub struct LogRetention {
    /// Bytes of segments, above which the oldest are removed. 0: unlimited.
    pub bytes_max: u64,
    /// Milliseconds after which a segment is removed. 0: unlimited.
    pub age_max_ms: u64,
    /// What is known of removed segments.
    pub removed: RemovedLimits,
}

/// The part of an open log that works beside its writer.
pub struct LogKeeper<D: Directory> {
    segments: Arc<Segments<D>>,
    segment_bytes: u64,
    retention: LogRetention,
    removed: RemovedEvents,
    /// Segments that the log does not have any more, and whose files are still to be removed.
    unlisted: VecDeque<Seq>,
    /// Whether work waits for a file or for memory.
    is_put_off: bool,
    /// The size of the losses file.
    losses_bytes: u64,
    /// Calls until a larger reserve is tried again, for which there was no room.
    reserve_waits: u32,
    /// The oldest segment that cannot be read, and the number of attempts.
    unreadable: Option<(Seq, u32)>,
}

impl<D: Directory> LogKeeper<D> {
    pub(super) fn new(
        segments: Arc<Segments<D>>,
        segment_bytes: u64,
        retention: LogRetention,
        removed: RemovedEvents,
    ) -> Self {
        Self {
            losses_bytes: removed.encode().len() as u64,
            segments,
            segment_bytes,
            retention,
            removed,
            unlisted: VecDeque::new(),
            is_put_off: false,
            reserve_waits: 0,
            unreadable: None,
        }
    }

    /// Waits until there is work, or for `time`; false when the log has ended.
    pub fn wait(&self, time: Duration) -> bool {
        self.segments.wait(time)
    }

    /// Does the work that is due. Work for which the disk has no room, or the process no file or
    /// memory, stays due until the next call.
    ///
    /// # Errors
    /// Any other failure of the file system.
    pub fn work(&mut self, histories: &impl Histories, now_ms: u64) -> io::Result<()> {
        let removed = put_off(self.remove_old(histories, now_ms))?;
        let reserved = put_off(self.renew_reserve())?;
        let allocated = put_off(self.segments.prepare_spare(self.segment_bytes).map(drop))?;
        self.report(removed.or(reserved).or(allocated));
        self.save_indexes();
        Ok(())
    }

    /// Logs when due work begins to wait, and when it is done.
    fn report(&mut self, waits_for: Option<io::Error>) {
        match &waits_for {
            Some(error) if !self.is_put_off => tracing::warn!(
                %error,
                "segments of the log can be neither allocated nor removed for now; the hub tries again. \
                 Publishers wait once the current segment is full"
            ),
            None if self.is_put_off => {
                tracing::info!("segments of the log can be allocated and removed again");
            }
            _ => {}
        }
        self.is_put_off = waits_for.is_some();
    }

    /// Writes the indexes of segments that get no more batches. A reader makes one that is missing.
    fn save_indexes(&self) {
        for (sealed, index) in self.segments.take_unsaved() {
            if !self.segments.has(sealed.base) {
                continue;
            }
            let name = index::file_name(sealed.base);
            if let Err(error) =
                small_file::write_derived(&self.segments.directory, &name, &index.encode(&sealed))
            {
                tracing::debug!(file = name, %error, "an index was not written");
            }
            let (shared, bytes) = (Shared::default(), index.bytes());
            let _ = shared.get_or_make(|| Ok::<_, ()>(index));
            self.segments.reads.lock().indexes.insert(sealed.base, shared, bytes);
        }
    }

    fn remove_old(&mut self, histories: &impl Histories, now_ms: u64) -> io::Result<()> {
        self.remove_unlisted()?;
        let Some((oldest, _)) = self.segments.oldest(1, |_, _| true).pop() else { return Ok(()) };
        let oldest_retained = histories.oldest_retained(oldest.last);
        let LogRetention { bytes_max, age_max_ms, .. } = self.retention;
        let due = self.segments.oldest(SEGMENTS_PER_PASS, |sealed, bytes| {
            sealed.last < oldest_retained
                || bytes_max > 0 && bytes > bytes_max
                || age_max_ms > 0 && sealed.newest_ms.saturating_add(age_max_ms) <= now_ms
        });
        let (mut removed, noted) = self.note_removals(&due, histories)?;
        let due = &due[..noted];
        let Some((last, first_kept)) = due.last() else { return Ok(()) };
        removed.first_base = *first_kept;
        removed.previous = last.previous;
        removed.expire(&self.retention.removed, now_ms);
        let directory = &self.segments.directory;
        let losses = removed.encode();
        match write_small(directory, LOSSES, &losses) {
            // The hub refuses publishes meanwhile, and this is tried again.
            Err(error) if is_full(&error) => return Ok(()),
            result => result?,
        };
        self.losses_bytes = losses.len() as u64;
        self.removed = removed;
        histories.begin_with(*first_kept);
        // A reader that does not find a file looks at the list anew.
        self.segments.forget_before(*first_kept);
        self.unlisted.extend(due.iter().map(|(sealed, _)| sealed.base));
        self.remove_unlisted()
    }

    /// Makes the reserve again if it has been used, and a larger one if the losses file has grown.
    fn renew_reserve(&mut self) -> io::Result<()> {
        let wanted = RESERVE_BYTES.max((2 * self.losses_bytes).next_power_of_two());
        let directory = &self.segments.directory;
        let reserved = reserved_bytes(directory)?;
        if reserved >= wanted {
            return Ok(());
        }
        if reserved > 0 && self.reserve_waits > 0 {
            self.reserve_waits -= 1;
            return Ok(());
        }
        if !allocate_reserve(directory, wanted)? {
            self.reserve_waits = RESERVE_WAITS;
            allocate_reserve(directory, RESERVE_BYTES)?;
        }
        Ok(())
    }

    /// Removes the files of segments that the log does not have any more, the oldest first.
    fn remove_unlisted(&mut self) -> io::Result<()> {
        if self.unlisted.is_empty() {
            return Ok(());
        }
        let directory = &self.segments.directory;
        while let Some(base) = self.unlisted.front() {
            if !is_planted!(SegmentsStay) {
                remove_if_there(directory, &segment::file_name(*base))?;
            }
            if !is_planted!(IndexesStay) {
                remove_if_there(directory, &index::file_name(*base))?;
            }
            self.unlisted.pop_front();
        }
        directory.sync().map_err(of_sync)
    }

    /// Notes what is lost with segments that are about to be removed, and evicts their events.
    /// Returns how many segments were noted: a failed read is repeated at the next call, and until
    /// then the segments from there on stay.
    ///
    /// # Errors
    /// A temporary error.
    fn note_removals(
        &mut self,
        segments: &[(Sealed, Seq)],
        histories: &impl Histories,
    ) -> io::Result<(RemovedEvents, usize)> {
        let mut removed = self.removed.clone();
        for (index, (sealed, _)) in segments.iter().enumerate() {
            let mut with_this = removed.clone();
            let why = match self.read_removal(sealed, &mut with_this, histories) {
                Ok(last) if last == sealed.last => {
                    removed = with_this;
                    continue;
                }
                Err(error) if is_temporary(&error) => return Err(error),
                Err(error) if !self.count_failed_read(sealed.base) => {
                    let file = segment::file_name(sealed.base);
                    tracing::warn!(file, %error, "a segment that is to be removed cannot be read");
                    return Ok((removed, index));
                }
                Err(error) => error.to_string(),
                Ok(last) => format!("it is damaged behind event {}", last.0),
            };
            // All events of the segment count as lost, whatever the reason is.
            let file = segment::file_name(sealed.base);
            tracing::warn!(file, why, "a segment that is removed cannot be read to its end");
            with_this.lose_unread(sealed.last);
            removed = with_this;
            histories.evict_all_through(sealed.last);
        }
        Ok((removed, segments.len()))
    }

    /// Counts a failed read of a segment; true if it was the last attempt.
    fn count_failed_read(&mut self, base: Seq) -> bool {
        let tries = match self.unreadable {
            Some((before, tries)) if before == base => tries + 1,
            _ => 1,
        };
        self.unreadable = Some((base, tries));
        tries >= READS_MAX
    }

    /// Notes the events of a segment, as far as it can be read. Returns the last one.
    fn read_removal(
        &self,
        sealed: &Sealed,
        removed: &mut RemovedEvents,
        histories: &impl Histories,
    ) -> io::Result<Seq> {
        let file = self.segments.directory.open(&segment::file_name(sealed.base))?;
        let mut header = [0; SegmentHeader::BYTES];
        let read = file.read_full_at(&mut header, 0)?;
        let Some(header) = SegmentHeader::decode(&header[..read]) else { return Ok(Seq::ZERO) };
        let mut last = Seq::ZERO;
        let mut reader = SegmentReader::new(&file, &header)?;
        while let Next::Batches(batches) = reader.next()? {
            for (_, header, items) in batches.iter() {
                let mut next = header.first;
                for item in Items(items).flatten() {
                    if let Item::Event { channel, draft, .. } = &item {
                        histories.evict(channel, next, draft);
                    }
                    next = removed.add(item, next, header.time_ms);
                }
                last = header.last();
                // A segment may hold far more than is kept of it.
                removed.limit(&self.retention.removed);
            }
            reader.reuse(batches.into_buffer());
        }
        Ok(last)
    }
}

/// For tests.
#[cfg(test)]
impl<D: Directory> LogKeeper<D> {
    /// How much of each kind the log holds in memory.
    pub(crate) fn sizes(&self) -> [(&'static str, usize); 9] {
        let Self { segments, removed, unlisted, .. } = self;
        let reads = segments.reads.lock();
        [
            ("channels in the losses file", removed.lost().count()),
            ("closed channels in the losses file", removed.closed().count()),
            ("keys in the losses file", removed.keys().count()),
            ("files to be removed", unlisted.len()),
            ("sealed segments", segments.sealed().0),
            ("indexes to be saved", segments.unsaved()),
            ("cached segments", reads.segments.len()),
            ("cached indexes", reads.indexes.len()),
            ("cached blocks", reads.blocks.len()),
        ]
    }
}

/// The histories whose events are in the log.
pub trait Histories {
    /// The oldest event in any history, or a seq before it. A result up to `enough` need not be
    /// exact.
    fn oldest_retained(&self, enough: Seq) -> Seq;

    /// Evicts an event that is about to be removed, if it is retained.
    fn evict(&self, channel: &ChannelName, seq: Seq, draft: &Draft);

    /// Evicts all events up to `last`, which cannot be read one by one.
    fn evict_all_through(&self, last: Seq);

    /// All events before `first` are about to be removed, and are evicted.
    fn begin_with(&self, first: Seq);
}

/// Separates temporary errors, for which work waits, from others.
fn put_off(result: io::Result<()>) -> io::Result<Option<io::Error>> {
    match result {
        Err(error) if is_temporary(&error) => Ok(Some(error)),
        result => result.map(|()| None),
    }
}

fn remove_if_there<D: Directory>(directory: &D, name: &str) -> io::Result<()> {
    match directory.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file that the log needs. On a full disk the file takes the space of the reserve, which
/// the keeper then allocates again.
pub(super) fn write_small<D: Directory>(directory: &D, name: &str, bytes: &[u8]) -> io::Result<()> {
    match small_file::write(directory, name, bytes) {
        Err(error) if is_full(&error) => {
            let _ = directory.remove(RESERVE);
            directory.sync().map_err(of_sync)?;
            small_file::write(directory, name, bytes)
        }
        result => result,
    }
}

/// Notes in a file that seqs up to `last` are not used again.
pub(super) fn note_start<D: Directory>(directory: &D, last: Seq) -> io::Result<()> {
    write_small(directory, STARTED_AT, &last.0.to_le_bytes())
}

/// Reserves space for the losses file, if the disk has room.
pub(super) fn reserve<D: Directory>(directory: &D) -> io::Result<()> {
    if reserved_bytes(directory)? < RESERVE_BYTES {
        allocate_reserve(directory, RESERVE_BYTES)?;
    }
    Ok(())
}

/// The size of the reserve, zero without one.
fn reserved_bytes<D: Directory>(directory: &D) -> io::Result<u64> {
    match directory.open(RESERVE).and_then(|file| file.len()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        result => result,
    }
}

/// Replaces the reserve. False if the disk has no room for it; the reserve is then missing.
fn allocate_reserve<D: Directory>(directory: &D, bytes: u64) -> io::Result<bool> {
    match directory.create(RESERVE, bytes) {
        Err(error) if is_full(&error) => {
            let _ = directory.remove(RESERVE);
            Ok(false)
        }
        result => result.map(|_| true),
    }
}

/// The file of [`RemovedEvents`].
pub(super) const LOSSES: &str = "losses";
/// The file with the newest seq that no later process may use, beyond those of events on disk.
pub(super) const STARTED_AT: &str = "started-at";
/// Disk space that is freed for the losses file when the disk is full.
pub(super) const RESERVE: &str = "reserve";
/// The smallest reserve. The reserve is twice the losses file if that is more: the next losses file
/// may be larger, and is written beside the last one.
const RESERVE_BYTES: u64 = 8 << 20;
/// Calls between two attempts to allocate a larger reserve.
const RESERVE_WAITS: u32 = 60;
/// Attempts to read a segment before it is removed unread. With it goes the knowledge of which
/// channels were closed and which keys were used, so it is worth some seconds.
const READS_MAX: u32 = 5;
/// Segments that are removed between two checks of the spare segment.
const SEGMENTS_PER_PASS: usize = 8;

/// Histories whose oldest event is this one.
#[cfg(test)]
impl Histories for Seq {
    fn oldest_retained(&self, _: Seq) -> Seq {
        *self
    }

    fn evict(&self, _: &ChannelName, _: Seq, _: &Draft) {}

    fn evict_all_through(&self, _: Seq) {}

    fn begin_with(&self, _: Seq) {}
}
