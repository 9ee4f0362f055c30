//! A segment: one file of the log, named for the first seq it may hold.

use std::io;

use bytes::{Buf, BufMut};

use super::{
    batch::{self, BatchHeader, checksum},
    directory::{Directory, DirectoryFile},
    error::OpenError,
};
use crate::model::{Epoch, Seq};

/// What a segment begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) epoch: Epoch,
    /// At most the seq of its first event.
    pub(super) base: Seq,
    /// The checksum of the last header of the segment before it.
    pub(super) previous: u32,
    /// Of the checksums of its batches.
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

/// A segment that takes no more batches.
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

/// The base that a name of a file gives, if it is that of a segment.
pub(super) fn base_of(file_name: &str) -> Option<Seq> {
    let digits = file_name.strip_suffix(".log").filter(|digits| digits.len() == 20)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok().map(Seq))?
}

/// The bases of the segments of a directory, in their order.
pub(super) fn bases(directory: &impl Directory) -> Result<Vec<Seq>, OpenError> {
    let names = directory.list().map_err(OpenError::io("."))?;
    let mut bases: Vec<Seq> = names.iter().filter_map(|name| base_of(name)).collect();
    bases.sort_unstable();
    Ok(bases)
}

/// The header of the first of these segments, if that has one.
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

/// Reads the batches of a segment in their order.
pub(super) struct SegmentReader<'a, F> {
    file: &'a F,
    epoch: Epoch,
    seed: u32,
    /// Where the next batch begins.
    pub(super) offset: u64,
    len: u64,
    /// The checksum of the last header that was read.
    pub(super) previous: u32,
    /// The last event that was read, or the one before the first.
    pub(super) last: Seq,
    /// From here on no batch says that those before it were durable.
    pub(super) unproven: u64,
    /// What was found from an offset on.
    end_of_data: Option<(u64, u64)>,
}

/// What comes next in a segment.
#[derive(Debug)]
pub(super) enum Next {
    /// A batch, and its items.
    Batch(BatchHeader, Vec<u8>),
    /// Nothing but zeros, up to the end of the file.
    End,
    /// Bytes that are not the next batch of the chain.
    Invalid,
}

impl<'a, F: DirectoryFile> SegmentReader<'a, F> {
    /// A reader of the batches behind `header`.
    pub(super) fn new(file: &'a F, header: &SegmentHeader) -> io::Result<Self> {
        Ok(Self {
            file,
            epoch: header.epoch,
            seed: header.seed,
            offset: SegmentHeader::BYTES as u64,
            len: file.len()?,
            previous: header.previous,
            last: Seq(header.base.0 - 1),
            unproven: SegmentHeader::BYTES as u64,
            end_of_data: None,
        })
    }

    /// Reads on.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        if let Some((header, items)) = self.batch_at(self.offset)?
            && header.previous == self.previous
            && header.first > self.last
        {
            if header.durable >= self.last {
                self.unproven = self.offset;
            }
            self.offset += (BatchHeader::BYTES + items.len()) as u64;
            self.previous = header.checksum;
            self.last = header.last();
            return Ok(Next::Batch(header, items));
        }
        Ok(if self.end_of_data()? == self.offset { Next::End } else { Next::Invalid })
    }

    /// The batch that begins at `offset`, if a whole one does.
    fn batch_at(&self, offset: u64) -> io::Result<Option<(BatchHeader, Vec<u8>)>> {
        let mut head = [0; BatchHeader::BYTES];
        let read = self.file.read_full_at(&mut head, offset)?;
        let Some(header) = BatchHeader::decode(&head[..read], self.seed) else { return Ok(None) };
        let items_at = offset + BatchHeader::BYTES as u64;
        if header.epoch != self.epoch || items_at + u64::from(header.len) > self.len {
            return Ok(None);
        }
        let mut items = vec![0; header.len as usize];
        let read = self.file.read_full_at(&mut items, items_at)?;
        Ok(header.matches(&items[..read], self.seed).then_some((header, items)))
    }

    /// The first whole batch behind the invalid bytes at which the reader stands that says they had
    /// been durable: they are damaged then, and no torn write.
    pub(super) fn find_proof_of_damage(&self) -> io::Result<Option<BatchHeader>> {
        let mut block = vec![0; SEARCH_BYTES + BatchHeader::BYTES];
        let mut at = self.offset + 1;
        while at < self.len {
            let read = self.file.read_full_at(&mut block, at)?;
            let magic = batch::MAGIC.to_le_bytes();
            for (index, window) in block[..read].windows(magic.len()).enumerate() {
                if index >= SEARCH_BYTES || window != magic {
                    continue;
                }
                if let Some((header, _)) = self.batch_at(at + index as u64)?
                    && header.durable > self.last
                {
                    return Ok(Some(header));
                }
            }
            at += SEARCH_BYTES as u64;
        }
        Ok(None)
    }

    /// Where the last byte that is not zero ends, or the reader stands if all are.
    pub(super) fn end_of_data(&mut self) -> io::Result<u64> {
        if let Some((offset, end)) = self.end_of_data
            && offset == self.offset
        {
            return Ok(end);
        }
        let zeros = vec![0; SEARCH_BYTES];
        let mut block = vec![0; SEARCH_BYTES];
        let (mut at, mut end) = (self.offset, self.offset);
        while at < self.len {
            let read = self.file.read_full_at(&mut block, at)?;
            if read == 0 {
                break;
            }
            // Comparing slices is fast in any build; most of a segment may be zeros.
            if block[..read] != zeros[..read]
                && let Some(index) = block[..read].iter().rposition(|byte| *byte != 0)
            {
                end = at + index as u64 + 1;
            }
            at += read as u64;
        }
        self.end_of_data = Some((self.offset, end));
        Ok(end)
    }
}

/// The format of segments that this version reads and writes.
pub(super) const FORMAT: u32 = 1;
const MAGIC: u32 = u32::from_le_bytes(*b"VSEG");
/// Of the checksums of files that are written whole.
pub(super) const FILE_SEED: u32 = 0x5615_6e79;
/// Bytes that are looked through at a time.
const SEARCH_BYTES: usize = 1 << 20;
