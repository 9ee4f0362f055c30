//! Writes batches to the end of the log.

use std::sync::Arc;

use super::{
    batch::{BatchEncoder, BatchLink},
    directory::{Directory, DirectoryFile, is_full, is_temporary},
    error::WriteError,
    index::ChannelHash,
    keeper,
    segment::{Sealed, SegmentHeader},
    segments::{SPARE, Segments},
    small_file,
};
use crate::{
    core::IdempotencyKey,
    model::{Epoch, Event, Seq},
};

/// The end of an open log, for one writer.
pub struct LogWriter<D: Directory> {
    segments: Arc<Segments<D>>,
    epoch: Epoch,
    current: Option<Current<D::File>>,
    encoder: BatchEncoder,
    /// The channels of the batch, for the index.
    channels: Vec<ChannelHash>,
    first: Seq,
    pub(super) written: Seq,
    durable: Seq,
    previous: u32,
    /// The seq after the last event of the batch.
    next: Seq,
    /// Bytes of the batches that have been written since [`begin`](Self::begin).
    bytes_begun: usize,
    /// The newest seq that was given out, whether its event is written or transient.
    given_out: Seq,
    /// The newest seq that is known to be noted on disk as given out.
    noted: Seq,
    /// After a failure the disk may lack what the kernel takes for written.
    has_failed: bool,
}

/// The segment that is written to.
struct Current<F> {
    file: F,
    header: SegmentHeader,
    /// The offset of its end.
    offset: u64,
    /// The bytes allocated for it.
    len: u64,
    newest_ms: u64,
}

impl<D: Directory> LogWriter<D> {
    /// A writer that continues after `last`, which is durable. `previous` is the checksum of the
    /// last batch. The disk notes seqs up to `noted` as given out.
    pub(super) fn new(
        segments: Arc<Segments<D>>,
        epoch: Epoch,
        last: Seq,
        noted: Seq,
        previous: u32,
    ) -> Self {
        Self {
            segments,
            epoch,
            current: None,
            encoder: BatchEncoder::default(),
            channels: Vec::new(),
            first: last,
            written: last,
            durable: last,
            previous,
            next: last,
            bytes_begun: 0,
            given_out: last,
            noted,
            has_failed: false,
        }
    }

    /// Begins a batch.
    pub fn begin(&mut self) {
        self.bytes_begun = 0;
        self.encoder.begin();
        self.channels.clear();
    }

    /// Continues with an event of this seq. A batch has no hole: if seqs were given out to events
    /// that are not written, the events before them are written as a batch, and another batch
    /// begins.
    pub fn continue_at(&mut self, seq: Seq, now_ms: u64) -> Result<(), WriteError> {
        if !self.encoder.is_empty() && seq != self.next {
            self.write(now_ms)?;
            self.bytes_begun += self.encoder.len();
            self.encoder.begin();
        }
        Ok(())
    }

    /// Notes that seqs up to `last` are given out, before their events are shown; not all of these
    /// events need be written. After an end that was not a clean one, the next start skips some
    /// seqs. If more seqs than these are given out without an event on disk, they are noted in a
    /// file.
    pub fn give_out(&mut self, last: Seq) -> Result<(), WriteError> {
        self.given_out = self.given_out.max(last);
        if last.0 <= self.noted.max(self.durable).0 + SEQS_SKIPPED
            || is_planted!(TransientSeqsAreNotNoted)
        {
            return Ok(());
        }
        self.unless_failed(|writer| {
            let segments = &writer.segments;
            segments.retry_temporary(|| keeper::note_start(&segments.directory, last))?;
            writer.noted = last;
            Ok(())
        })
    }

    /// Adds the idempotency key of a publish of `events` events, which are added next.
    pub fn add_key(&mut self, key: &IdempotencyKey, events: usize) {
        self.encoder.key(key, events);
    }

    /// Adds an event. The events of a batch follow each other without a hole.
    pub fn add(&mut self, event: &Event) {
        if self.encoder.is_empty() {
            self.first = event.seq;
        }
        self.next = event.seq.next();
        self.channels.push(ChannelHash::of(event.channel.as_str()));
        self.encoder.event(event.time_ms, event.kind, event.channel.as_str(), &event.frame);
    }

    /// Bytes of this batch, and of the batches before it since [`begin`](Self::begin).
    pub fn batch_bytes(&self) -> usize {
        self.bytes_begun + self.encoder.len()
    }

    /// Writes the batch. It becomes durable by [`sync`](Self::sync).
    ///
    /// Blocks until the next segment is allocated, on a full disk until space is freed.
    pub fn write(&mut self, now_ms: u64) -> Result<(), WriteError> {
        self.unless_failed(|writer| writer.write_batch(now_ms))
    }

    /// Makes all written batches durable.
    pub fn sync(&mut self) -> Result<(), WriteError> {
        self.unless_failed(Self::sync_current)
    }

    /// Makes everything durable, and notes that the log ended here: then the next start need not
    /// search for an unfinished write.
    pub fn close(mut self) -> Result<(), WriteError> {
        self.unless_failed(|writer| {
            writer.seal()?;
            let last = match is_planted!(CleanEndIsOfWritten) {
                true => writer.written,
                false => writer.written.max(writer.given_out),
            };
            let end = CleanEnd { last, previous: writer.previous };
            match small_file::write(&writer.segments.directory, CLEAN_END, &end.encode()) {
                // The next start then reads the log as after a crash.
                Err(error) if is_full(&error) || is_temporary(&error) => Ok(()),
                result => Ok(result?),
            }
        })
    }

    /// Runs `call`, unless an earlier call has failed.
    fn unless_failed(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        if self.has_failed && !is_planted!(FailedSyncIsRetried) {
            return Err(WriteError::Failed);
        }
        let result = act(self);
        self.has_failed = matches!(result, Err(WriteError::Io(_)));
        result
    }

    fn write_batch(&mut self, now_ms: u64) -> Result<(), WriteError> {
        if self.encoder.is_empty() {
            return Ok(());
        }
        let bytes = self.encoder.len() as u64;
        if self.current.as_ref().is_none_or(|current| current.offset + bytes > current.len) {
            self.roll(bytes)?;
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        let (bytes, header) = self.encoder.finish(&BatchLink {
            epoch: self.epoch,
            first: self.first,
            time_ms: now_ms,
            durable: self.durable,
            previous: self.previous,
            seed: current.header.seed,
        });
        current.file.write_all_at(bytes, current.offset)?;
        self.segments.note_batch(current.offset, &header, self.channels.drain(..));
        current.offset += bytes.len() as u64;
        current.newest_ms = now_ms;
        self.previous = header.checksum;
        self.written = header.last();
        Ok(())
    }

    fn sync_current(&mut self) -> Result<(), WriteError> {
        if let Some(current) = &self.current
            && self.durable < self.written
        {
            current.file.sync()?;
            self.durable = self.written;
        }
        Ok(())
    }

    /// Continues in a new segment, which has room for a batch of `bytes`.
    fn roll(&mut self, bytes: u64) -> Result<(), WriteError> {
        self.seal()?;
        let (file, len) = self.segments.take_spare(SegmentHeader::BYTES as u64 + bytes)?;
        let header = SegmentHeader {
            epoch: self.epoch,
            base: self.written.next(),
            previous: self.previous,
            seed: fastrand::u32(..),
        };
        // The file gets its header before its name, so that no segment is without a header.
        file.write_all_at(&header.encode(), 0)?;
        file.sync()?;
        let (directory, name) = (&self.segments.directory, header.file_name());
        self.segments.retry_temporary(|| directory.rename(SPARE, &name))?;
        self.segments.directory.sync()?;
        self.segments.begin(header.base);
        let offset = SegmentHeader::BYTES as u64;
        self.current = Some(Current { file, header, offset, len, newest_ms: 0 });
        Ok(())
    }

    /// Ends the current segment, and frees the bytes that it has not used.
    fn seal(&mut self) -> Result<(), WriteError> {
        self.sync_current()?;
        let Some(current) = self.current.take() else { return Ok(()) };
        current.file.set_len(current.offset)?;
        current.file.sync()?;
        self.segments.seal(Sealed {
            base: current.header.base,
            last: self.written,
            previous: self.previous,
            bytes: current.offset,
            newest_ms: current.newest_ms,
        });
        Ok(())
    }
}

impl<D: Directory> Drop for LogWriter<D> {
    fn drop(&mut self) {
        self.segments.stop();
    }
}

/// Where a log ended when it was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CleanEnd {
    pub(super) last: Seq,
    pub(super) previous: u32,
}

impl CleanEnd {
    fn encode(self) -> Vec<u8> {
        [&self.last.0.to_le_bytes()[..], &self.previous.to_le_bytes()].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (last, previous) = bytes.split_at_checked(8)?;
        Some(Self {
            last: Seq(u64::from_le_bytes(last.try_into().ok()?)),
            previous: u32::from_le_bytes(previous.try_into().ok()?),
        })
    }
}

/// Seqs that are skipped after an end that was not a clean one.
pub(super) const SEQS_SKIPPED: u64 = if cfg!(test) { 1 << 10 } else { 1 << 32 };
/// The file that marks a log as closed.
pub(super) const CLEAN_END: &str = "clean";
