//! A segment: one file of the log, with the first seq that it may have as its name.

use bytes::{Buf, BufMut};

use super::{
    batch::{self, checksum},
    directory::{Directory, DirectoryFile},
    error::OpenError,
};
use crate::model::{Epoch, Seq};

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) epoch: Epoch,
    /// At most the seq of its first event.
    pub(super) base: Seq,
    /// The checksum of the last header of the segment before it.
    pub(super) previous: u32,
    /// The seed of the checksums of its batches.
    pub(super) seed: u32,
}

impl SegmentHeader {
    pub(super) const BYTES: usize = 64;

    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let mut out = &mut bytes[8..];
        out.put_u32_le(FORMAT);
        out.put_u32_le(self.previous);
        out.put_u64_le(self.epoch.to_u64());
        out.put_u64_le(self.base.0);
        out.put_u32_le(self.seed);
        let checksum = checksum(FILE_SEED, &bytes[8..]);
        let mut out = &mut bytes[..8];
        out.put_u32_le(MAGIC);
        out.put_u32_le(checksum);
        bytes
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let checked = bytes.get(8..Self::BYTES)?;
        if bytes.get_u32_le() != MAGIC || bytes.get_u32_le() != checksum(FILE_SEED, checked) {
            return None;
        }
        if bytes.get_u32_le() != FORMAT {
            return None;
        }
        let previous = bytes.get_u32_le();
        let epoch = Epoch::from_u64(bytes.get_u64_le());
        let base = Seq(bytes.get_u64_le());
        let seed = bytes.get_u32_le();
        (1..batch::SEQS_MAX).contains(&base.0).then_some(Self { epoch, base, previous, seed })
    }

    /// The name of its file.
    pub(super) fn file_name(&self) -> String {
        file_name(self.base)
    }
}

/// A segment that gets no more batches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sealed {
    pub(super) base: Seq,
    pub(super) last: Seq,
    /// The checksum of its last batch.
    pub(super) previous: u32,
    pub(super) bytes: u64,
    /// When its last batch was written, in milliseconds since 1970.
    pub(super) newest_ms: u64,
}

/// The name of the segment that begins with `base`.
pub(super) fn file_name(base: Seq) -> String {
    format!("{:020}.log", base.0)
}

/// The base in the name of a segment's file; `None` for another name.
pub(super) fn base_of(file_name: &str) -> Option<Seq> {
    let digits = file_name.strip_suffix(".log").filter(|digits| digits.len() == 20)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok().map(Seq))?
}

/// The bases of the segments in a directory, in order.
pub(super) fn bases(directory: &impl Directory) -> Result<Vec<Seq>, OpenError> {
    let names = directory.list().map_err(OpenError::io("."))?;
    let mut bases: Vec<Seq> = names.iter().filter_map(|name| base_of(name)).collect();
    bases.sort_unstable();
    Ok(bases)
}

/// The header of the first of these segments; `None` if the segment has none.
pub(super) fn first_header(
    directory: &impl Directory,
    bases: &[Seq],
) -> Result<Option<SegmentHeader>, OpenError> {
    let Some(base) = bases.first() else { return Ok(None) };
    let name = file_name(*base);
    let file = directory.open(&name).map_err(OpenError::io(&name))?;
    let mut bytes = [0; SegmentHeader::BYTES];
    let read = file.read_full_at(&mut bytes, 0).map_err(OpenError::io(&name))?;
    Ok(SegmentHeader::decode(&bytes[..read]).filter(|header| header.base == *base))
}

/// The format of segments that this version reads and writes.
pub(super) const FORMAT: u32 = 1;
const MAGIC: u32 = u32::from_le_bytes(*b"VSEG");
/// The seed of the checksums of small files.
pub(super) const FILE_SEED: u32 = 0x5615_6e79;
