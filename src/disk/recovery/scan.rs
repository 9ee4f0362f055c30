//! Reads the segments of a log in order and verifies their checksums. In a large log a thread of
//! its own reads ahead, while the contents of earlier parts are added up.

use std::{sync::mpsc, thread};

use super::super::{
    directory::{Directory, DirectoryFile},
    error::OpenError,
    segment::{self, SegmentHeader},
    segment_reader::{Batches, Next, SegmentReader},
};
use crate::model::Seq;

/// The next part of a log.
pub(super) enum Scanned {
    /// The segment with this base, and its header if that is right.
    Segment(Seq, Option<SegmentHeader>),
    /// Batches of the segment.
    Batches(Batches),
    /// From this offset on the segment is damaged.
    Invalid(u64),
    /// The end of the segment.
    End(SegmentEnd),
}

/// Where a segment ends.
pub(super) struct SegmentEnd {
    /// The seq of its last event, or the one before its base.
    pub(super) last: Seq,
    /// Bytes of its header and its batches.
    pub(super) bytes: u64,
    /// Bytes of an unfinished write after them.
    pub(super) torn_bytes: u64,
    /// From this offset on, the segment may be only in the page cache.
    pub(super) unproven: u64,
    /// The checksum of its last batch.
    pub(super) previous: u32,
}

/// Reads a segment. `take` returns a buffer for reuse, which may be empty.
pub(super) fn scan_segment<D: Directory, E: From<OpenError>>(
    directory: &D,
    base: Seq,
    is_last: bool,
    take: &mut impl FnMut(Scanned) -> Result<Vec<u8>, E>,
) -> Result<(), E> {
    let name = segment::file_name(base);
    let file = directory.open(&name).map_err(OpenError::io(&name))?;
    // The bytes that the last process wrote may be only in the page cache.
    file.sync().map_err(OpenError::io(&name))?;
    let mut bytes = [0; SegmentHeader::BYTES];
    let read = file.read_full_at(&mut bytes, 0).map_err(OpenError::io(&name))?;
    let header = SegmentHeader::decode(&bytes[..read]).filter(|header| header.base == base);
    let mut spare = take(Scanned::Segment(base, header))?;
    let Some(header) = header else { return Ok(()) };
    let mut reader = SegmentReader::new(&file, &header).map_err(OpenError::io(&name))?;
    loop {
        reader.reuse(spare);
        match reader.next().map_err(OpenError::io(&name))? {
            Next::Batches(batches) => spare = take(Scanned::Batches(batches))?,
            Next::End => break,
            Next::Invalid => {
                let proof = reader.find_proof_of_damage().map_err(OpenError::io(&name))?;
                if !is_last || proof.is_some() {
                    return take(Scanned::Invalid(reader.offset)).map(drop);
                }
                break;
            }
        }
    }
    let end = reader.end_of_data().map_err(OpenError::io(&name))?;
    let end = SegmentEnd {
        last: reader.last,
        bytes: reader.offset,
        torn_bytes: end.saturating_sub(reader.offset),
        unproven: reader.unproven,
        previous: reader.previous,
    };
    take(Scanned::End(end)).map(drop)
}

/// Reads segments on a thread of its own, at most [`AHEAD_MAX`] parts ahead. `take` returns a
/// buffer for reuse, which may be empty.
pub(super) fn scan_ahead<D: Directory>(
    directory: &D,
    bases: &[Seq],
    mut take: impl FnMut(Scanned) -> Result<Vec<u8>, OpenError>,
) -> Result<(), OpenError> {
    let (ahead, scanned) = mpsc::sync_channel(AHEAD_MAX);
    let (used, spares) = mpsc::channel();
    let scan = move || {
        let mut give = |scanned| match ahead.send(Ok(scanned)) {
            Ok(()) => Ok(spares.try_recv().unwrap_or_default()),
            // The receiver was dropped, since `take` refused an earlier part.
            Err(_) => Err(None),
        };
        for (index, base) in bases.iter().enumerate() {
            let is_last = index + 1 == bases.len();
            if let Err(error) = scan_segment(directory, *base, is_last, &mut give) {
                if let Some(error) = error {
                    let _ = ahead.send(Err(error));
                }
                return;
            }
        }
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("visnyk-log-scan".into());
        thread.spawn_scoped(scope, scan).map_err(OpenError::io("."))?;
        for scanned in scanned {
            // The scan may have ended: then it needs no further buffer.
            let _ = used.send(take(scanned?)?);
        }
        Ok(())
    })
}

/// Parts that are read ahead. Each has half a megabyte, unless a batch is larger.
const AHEAD_MAX: usize = 8;
