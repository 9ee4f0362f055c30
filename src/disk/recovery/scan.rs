//! Reads the segments of a log in their order and proves their checksums, on a thread of its own if there is
//! much to read: it reads ahead while what it has read is counted.

use std::{sync::mpsc, thread};

use super::super::{
    directory::{Directory, DirectoryFile},
    error::OpenError,
    segment::{self, SegmentHeader},
    segment_reader::{Batches, Next, SegmentReader},
};
use crate::model::Seq;

/// What comes next in a log.
pub(super) enum Scanned {
    /// The segment with this base, and its header if that is right.
    Segment(Seq, Option<SegmentHeader>),
    /// Batches of it.
    Batches(Batches),
    /// From this byte on it is damaged.
    Invalid(u64),
    /// It ends.
    End(SegmentEnd),
}

/// Where a segment ends.
pub(super) struct SegmentEnd {
    /// Its last event, or the one before its base.
    pub(super) last: Seq,
    /// Bytes of batches, and before them.
    pub(super) bytes: u64,
    /// Bytes of an unfinished write behind them.
    pub(super) torn_bytes: u64,
    /// From here on it may be in the page cache alone.
    pub(super) unproven: u64,
    /// The checksum of its last batch.
    pub(super) previous: u32,
}

/// Reads a segment. `take` gives a buffer to be used again, which may be empty.
pub(super) fn scan_segment<D: Directory, E: From<OpenError>>(
    directory: &D,
    base: Seq,
    is_last: bool,
    take: &mut impl FnMut(Scanned) -> Result<Vec<u8>, E>,
) -> Result<(), E> {
    let name = segment::file_name(base);
    let file = directory.open(&name).map_err(OpenError::io(&name))?;
    // What the process before this one wrote may be in the page cache alone.
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

/// Reads all of these segments on a thread of its own, which is at most [`AHEAD_MAX`] pieces ahead.
/// `take` gives a buffer to be used again, which may be empty.
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
            // What was read before was wrong.
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
            // It is at the end of its work if it takes no more.
            let _ = used.send(take(scanned?)?);
        }
        Ok(())
    })
}

/// Pieces that are read ahead, of half a megabyte unless a batch is larger.
const AHEAD_MAX: usize = 8;
