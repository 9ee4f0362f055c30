//! Reads events of an open log from any position on, as readers of history do.

use std::{
    io,
    sync::{Arc, Weak},
};

use thiserror::Error;

use super::{
    batch::{BatchHeader, RawEvent, RawItem, RawItems},
    directory::{Directory, DirectoryFile, is_temporary},
    index::{self, BlockRange, ChannelHash, Found, SegmentIndex},
    read_cache::{OpenSegment, Shared},
    recovered_event::RecoveredEvent,
    segment::{self, Sealed, SegmentHeader},
    segment_reader::{Next, SegmentReader},
    segments::{Located, Segments},
    small_file,
};
use crate::model::{ChannelName, Seq};

/// A reader of an open log, for any number of threads. It does not keep the log open.
pub struct LogReader<D: Directory>(pub(super) Weak<Segments<D>>);

/// What to search for.
#[derive(Debug, Clone, Copy)]
pub struct LogSearch<'a> {
    /// Only events after this seq.
    pub after: Seq,
    /// Only events up to this seq, which must be written.
    pub through: Seq,
    /// The most events.
    pub events_max: usize,
    /// Frame bytes after which no further event is added.
    pub bytes_max: usize,
    /// The wanted channels, sorted, if they are known.
    pub channels: Option<&'a [ChannelHash]>,
    /// The wanted events, in order, if they are known; events between them are skipped.
    pub seqs: Option<&'a [Seq]>,
}

/// The result of a search.
#[derive(Debug, Default)]
pub struct LogFound {
    /// Events, in log order.
    pub events: Vec<RecoveredEvent>,
    /// The seq up to which everything was searched.
    pub through: Seq,
}

/// Why a piece of the log cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file system failed.
    #[error("{file}: {error}")]
    Io {
        /// The file.
        file: String,
        /// The failure.
        error: io::Error,
    },
    /// Events that were durable cannot be read any more.
    #[error("{file} is damaged at byte {offset} or behind it")]
    Damaged {
        /// The file.
        file: String,
        /// Where the damaged block begins.
        offset: u64,
    },
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
}

impl ReadError {
    /// Whether the read can be repeated after a while: the disk works, but the process or the
    /// machine has no file or no memory left.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Io { error, .. } if is_temporary(error))
    }
}

impl<D: Directory> LogReader<D> {
    pub(super) fn new(segments: &Arc<Segments<D>>) -> Self {
        Self(Arc::downgrade(segments))
    }

    /// Sets how many bytes of the log are cached for other readers, and as many of its indexes.
    pub fn keep_in_memory(&self, bytes_max: u64) {
        if let Some(segments) = self.0.upgrade() {
            segments.reads.lock().keep(bytes_max);
        }
    }

    /// Searches for the next wanted events, in a bounded number of blocks. `select` gets the seq
    /// and the channel of each, and returns the name if it is wanted. Blocks the thread.
    ///
    /// # Errors
    /// A failure of the file system, or damaged bytes.
    pub fn search(
        &self,
        search: &LogSearch<'_>,
        mut select: impl FnMut(Seq, &str) -> Option<ChannelName>,
    ) -> Result<LogFound, ReadError> {
        let segments = self.0.upgrade().ok_or(ReadError::Closed)?;
        let mut found = LogFound { events: Vec::new(), through: search.after };
        let mut bytes = 0;
        let (mut blocks, mut scanned) = (0, 0);
        while found.through < search.through
            && blocks < BLOCKS_PER_SEARCH
            && scanned < SCANNED_BYTES_MAX
        {
            if let Some(seqs) = search.seqs {
                let next = seqs.partition_point(|seq| *seq <= found.through);
                let Some(seq) = seqs.get(next).filter(|seq| **seq <= search.through) else {
                    found.through = search.through;
                    break;
                };
                found.through = Seq(seq.0 - 1);
            }
            let Some(located) = segments.locate(found.through, search.channels) else {
                // No segment has these seqs: a start skipped them.
                found.through = search.through;
                break;
            };
            let (base, in_index) = match located {
                Located::Current(base, found) => (base, found),
                Located::Sealed(sealed) => match load_index(&segments, &sealed, &mut scanned) {
                    Ok(index) => (sealed.base, index.find(found.through, search.channels)),
                    Err(error) if is_removed(&segments, &error, sealed.base) => continue,
                    Err(error) => return Err(error),
                },
            };
            let (range, block_through) = match in_index {
                Found::Block(range, through) => (range, through),
                Found::NothingUpTo(seq) if seq > found.through => {
                    found.through = seq.min(search.through);
                    blocks += 1;
                    continue;
                }
                // Events up to `search.through` are written, so this segment has no more of them.
                Found::NothingUpTo(_) => {
                    found.through = search.through;
                    break;
                }
            };
            blocks += 1;
            scanned += range.end - range.begin;
            let block = match load_block(&segments, base, range) {
                Ok(block) => block,
                Err(error) if is_removed(&segments, &error, base) => continue,
                Err(error) => return Err(error),
            };
            match read_block(&block, search, &mut found, &mut bytes, &mut select) {
                Some(true) => {
                    found.through = found.through.max(block_through.min(search.through));
                }
                Some(false) => {}
                None => {
                    let (file, offset) = (segment::file_name(base), range.begin);
                    return Err(ReadError::Damaged { file, offset });
                }
            }
            if found.events.len() >= search.events_max || bytes >= search.bytes_max {
                break;
            }
        }
        Ok(found)
    }
}

/// Adds the wanted events of a block. `Some(false)` if a limit of the search was reached first;
/// `None` if the block is damaged.
fn read_block(
    mut block: &[u8],
    search: &LogSearch<'_>,
    found: &mut LogFound,
    bytes: &mut usize,
    select: &mut impl FnMut(Seq, &str) -> Option<ChannelName>,
) -> Option<bool> {
    while !block.is_empty() {
        // Its checksums were right when it was read from the file.
        let header = BatchHeader::parse(block)?;
        let (batch, rest) = block.split_at(BatchHeader::BYTES + header.len as usize);
        block = rest;
        if header.last() <= found.through {
            continue;
        }
        let mut seq = header.first;
        for item in RawItems(&batch[BatchHeader::BYTES..]) {
            let RawItem::Event(event) = item? else { continue };
            let this = seq;
            seq = seq.next();
            if this <= found.through {
                continue;
            }
            if this > search.through {
                found.through = search.through;
                return Some(false);
            }
            if let Some(channel) = select(this, event.channel) {
                if found.events.len() >= search.events_max || *bytes >= search.bytes_max {
                    found.through = Seq(this.0 - 1);
                    return Some(false);
                }
                let event = event.recover(this, channel)?;
                *bytes += event.draft.len();
                found.events.push(event);
            }
            found.through = this;
        }
    }
    Some(true)
}

impl RawEvent<'_> {
    /// Copies the event; `None` if its text is not that of an event.
    pub(super) fn recover(&self, seq: Seq, channel: ChannelName) -> Option<RecoveredEvent> {
        let (time_ms, kind, draft) = (self.time_ms, self.kind, self.draft()?);
        Some(RecoveredEvent { seq, time_ms, kind, channel, draft })
    }
}

/// The index of a segment that gets no more batches: read from its file, or made from the segment.
/// Adds the bytes of the segment that were read to `bytes`, also if that fails.
pub(super) fn load_index<D: Directory>(
    segments: &Segments<D>,
    sealed: &Sealed,
    bytes: &mut u64,
) -> Result<Arc<SegmentIndex>, ReadError> {
    let shared = {
        let mut reads = segments.reads.lock();
        match reads.indexes.get(&sealed.base) {
            Some(shared) => shared.clone(),
            None => {
                let shared = Shared::default();
                reads.indexes.insert(sealed.base, Shared::clone(&shared), 0);
                shared
            }
        }
    };
    let mut is_new = false;
    let index = shared.get_or_make(|| {
        is_new = true;
        let name = index::file_name(sealed.base);
        let stored = small_file::read(&segments.directory, &name).ok().flatten();
        if let Some(index) = stored.and_then(|bytes| SegmentIndex::decode(&bytes, sealed)) {
            return Ok(index);
        }
        *bytes += sealed.bytes;
        let index = make_index(segments, sealed)?;
        // If this fails, the next reader makes the index again.
        if let Err(error) =
            small_file::write_derived(&segments.directory, &name, &index.encode(sealed))
        {
            tracing::debug!(file = name, %error, "an index was not written");
        }
        Ok(index)
    })?;
    if is_new {
        segments.reads.lock().indexes.insert(sealed.base, shared, index.bytes());
    }
    Ok(index)
}

/// Reads a whole segment for its index.
fn make_index<D: Directory>(
    segments: &Segments<D>,
    sealed: &Sealed,
) -> Result<SegmentIndex, ReadError> {
    let name = segment::file_name(sealed.base);
    let io = |error| ReadError::Io { file: segment::file_name(sealed.base), error };
    let damaged = |offset| ReadError::Damaged { file: segment::file_name(sealed.base), offset };
    let file = segments.directory.open(&name).map_err(io)?;
    let header = read_header(&file, sealed.base).map_err(io)?.ok_or_else(|| damaged(0))?;
    let mut reader = SegmentReader::new(&file, &header).map_err(io)?;
    let mut index = SegmentIndex::default();
    while reader.last < sealed.last {
        let offset = reader.offset;
        let Next::Batches(batches) = reader.next().map_err(io)? else {
            return Err(damaged(offset));
        };
        for (offset, header, items) in batches.iter() {
            let channels = RawItems(items).flatten().filter_map(|item| match item {
                RawItem::Event(event) => Some(ChannelHash::of(event.channel)),
                RawItem::Key(..) => None,
            });
            index.add(offset, &header, channels);
        }
        reader.reuse(batches.into_buffer());
    }
    Ok(index.seal())
}

fn read_header(file: &impl DirectoryFile, base: Seq) -> io::Result<Option<SegmentHeader>> {
    let mut bytes = [0; SegmentHeader::BYTES];
    let read = file.read_full_at(&mut bytes, 0)?;
    Ok(SegmentHeader::decode(&bytes[..read]).filter(|header| header.base == base))
}

/// The bytes of a block. Their checksums were verified.
pub(super) fn load_block<D: Directory>(
    segments: &Segments<D>,
    base: Seq,
    range: BlockRange,
) -> Result<Arc<Vec<u8>>, ReadError> {
    let io = |error| ReadError::Io { file: segment::file_name(base), error };
    let damaged = || ReadError::Damaged { file: segment::file_name(base), offset: range.begin };
    let shared = {
        let mut reads = segments.reads.lock();
        match reads.blocks.get(&(base, range)) {
            Some(shared) => shared.clone(),
            None => {
                let shared = Shared::default();
                let bytes = range.end - range.begin;
                reads.blocks.insert((base, range), Shared::clone(&shared), bytes);
                shared
            }
        }
    };
    shared.get_or_make(|| {
        let segment = open_segment(segments, base)?;
        let mut block = vec![0; (range.end - range.begin) as usize];
        let read = segment.file.read_full_at(&mut block, range.begin).map_err(io)?;
        let mut rest = &block[..read];
        while let Some(header) = BatchHeader::decode(rest, segment.seed) {
            let batch = BatchHeader::BYTES + header.len as usize;
            let items = rest.get(BatchHeader::BYTES..batch).ok_or_else(damaged)?;
            if !header.matches(items, segment.seed) {
                return Err(damaged());
            }
            rest = &rest[batch..];
        }
        let is_whole = read == block.len() && rest.is_empty();
        is_whole.then_some(block).ok_or_else(damaged)
    })
}

fn open_segment<D: Directory>(
    segments: &Segments<D>,
    base: Seq,
) -> Result<Arc<OpenSegment<D::File>>, ReadError> {
    let name = segment::file_name(base);
    let open = || {
        let file = segments.directory.open(&name)?;
        let header = read_header(&file, base)?;
        let seed = header.ok_or(io::ErrorKind::InvalidData)?.seed;
        Ok(OpenSegment { file, seed })
    };
    let opened = segments.reads.lock().segments.get(&base).cloned();
    let segment = match opened {
        Some(segment) => segment,
        None => {
            let segment = open().map(Arc::new).map_err(|error: io::Error| match error.kind() {
                io::ErrorKind::InvalidData => ReadError::Damaged { file: name.clone(), offset: 0 },
                _ => ReadError::Io { file: name.clone(), error },
            })?;
            segments.reads.lock().segments.insert(base, Arc::clone(&segment), 1);
            segment
        }
    };
    Ok(segment)
}

/// Whether a read failed because the segment has been removed meanwhile.
pub(super) fn is_removed<D: Directory>(
    segments: &Segments<D>,
    error: &ReadError,
    base: Seq,
) -> bool {
    let is_missing =
        matches!(error, ReadError::Io { error, .. } if error.kind() == io::ErrorKind::NotFound);
    is_missing && !segments.has(base)
}

/// Blocks and indexes that one search examines: other readers wait for the thread.
pub(super) const BLOCKS_PER_SEARCH: usize = 32;
/// Bytes of blocks after which a search examines no further one: a block with a large batch has
/// megabytes.
pub(super) const SCANNED_BYTES_MAX: u64 = 2 << 20;
