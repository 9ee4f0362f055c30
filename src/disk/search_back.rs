//! Reads events of an open log backwards, as a search for the last events of channels does.

use std::ops::ControlFlow;

use super::{
    batch::{BatchHeader, RawItem, RawItems},
    directory::Directory,
    index::{ChannelHash, FoundBack},
    log_event::LogEvent,
    log_reader::{
        BLOCKS_PER_SEARCH, LogReader, ReadError, SCANNED_BYTES_MAX, is_removed, load_block,
        load_index,
    },
    segment,
    segments::Located,
};
use crate::model::Seq;

/// What to search for, the newest events first.
#[derive(Debug, Clone, Copy)]
pub struct SearchBack<'a> {
    /// Only events up to this seq, which must be written.
    pub through: Seq,
    /// Only events from this seq on.
    pub first: Seq,
    /// The wanted channels, sorted, if they are known.
    pub channels: Option<&'a [ChannelHash]>,
    /// Bytes of the log after which no further block is read.
    pub bytes_max: u64,
}

/// How far one search has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchedBack {
    /// Events up to this seq were not examined.
    pub through: Seq,
    /// Bytes of the log that were read, from memory or from disk, also for a missing index.
    pub bytes: u64,
}

impl<D: Directory> LogReader<D> {
    /// Passes the last events to `visit`, the newest first, until `visit` breaks or a bounded
    /// number of blocks was examined. Events of other channels are among them. `visit` returns
    /// `None` for a damaged event. Blocks the thread.
    ///
    /// # Errors
    /// A failure of the file system, or damaged bytes. If a file cannot be read after events were
    /// visited, the search ends instead of failing, so that no event is visited twice when it is
    /// repeated.
    pub fn search_back(
        &self,
        search: &SearchBack<'_>,
        mut visit: impl FnMut(&LogEvent<'_>) -> Option<ControlFlow<()>>,
    ) -> Result<SearchedBack, ReadError> {
        let segments = self.0.upgrade().ok_or(ReadError::Closed)?;
        let before = |seq: Seq| Seq(seq.0.saturating_sub(1));
        let nothing = before(search.first);
        let mut through = search.through;
        let (mut blocks, mut bytes) = (0, 0);
        let bytes_max = search.bytes_max.min(SCANNED_BYTES_MAX);
        while through >= search.first && blocks < BLOCKS_PER_SEARCH && bytes < bytes_max {
            let Some(located) = segments.locate_back(through, search.channels) else {
                return Ok(SearchedBack { through: nothing, bytes });
            };
            let (base, in_index) = match located {
                Located::Current(base, found) => (base, found),
                Located::Sealed(sealed) => match load_index(&segments, &sealed, &mut bytes) {
                    Ok(index) => (sealed.base, index.find_back(through, search.channels)),
                    Err(error) if is_removed(&segments, &error, sealed.base) => continue,
                    Err(error) if through == search.through => return Err(error),
                    Err(_) => break,
                },
            };
            blocks += 1;
            let (range, first) = match in_index {
                Some(FoundBack::Block(range, first)) => (range, first),
                Some(FoundBack::NothingFrom(first)) => {
                    through = before(first);
                    continue;
                }
                None => {
                    through = before(base);
                    continue;
                }
            };
            bytes += range.end - range.begin;
            let block = match load_block(&segments, base, range) {
                Ok(block) => block,
                Err(error) if is_removed(&segments, &error, base) => continue,
                Err(error) if through == search.through => return Err(error),
                Err(_) => break,
            };
            let damaged =
                || ReadError::Damaged { file: segment::file_name(base), offset: range.begin };
            let events = events_of(&block, search.first, through).ok_or_else(damaged)?;
            for event in events.iter().rev() {
                through = before(event.seq);
                if visit(event).ok_or_else(damaged)?.is_break() {
                    return Ok(SearchedBack { through, bytes });
                }
            }
            through = before(first);
        }
        Ok(SearchedBack { through: through.max(nothing), bytes })
    }
}

/// The events of a block within a range of seqs. `None` if the block is damaged.
fn events_of(mut block: &[u8], first: Seq, through: Seq) -> Option<Vec<LogEvent<'_>>> {
    let mut events = Vec::new();
    while !block.is_empty() {
        // Its checksums were right when it was read from the file.
        let header = BatchHeader::parse(block)?;
        let (batch, rest) = block.split_at(BatchHeader::BYTES + header.len as usize);
        block = rest;
        if header.first > through {
            break;
        }
        if header.last() < first {
            continue;
        }
        let mut seq = header.first;
        for item in RawItems(&batch[BatchHeader::BYTES..]) {
            let RawItem::Event(event) = item? else { continue };
            if seq >= first && seq <= through {
                events.push(LogEvent { seq, event });
            }
            seq = seq.next();
        }
    }
    Some(events)
}
