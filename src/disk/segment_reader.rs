//! Reads the batches of a segment in order, many at a time.

use std::io;

use super::{
    batch::{self, BatchHeader},
    directory::DirectoryFile,
    segment::SegmentHeader,
};
use crate::model::{Epoch, Seq};

/// A reader of a segment that is not written to.
pub(super) struct SegmentReader<'a, F> {
    file: &'a F,
    epoch: Epoch,
    seed: u32,
    /// Where the next batch begins.
    pub(super) offset: u64,
    len: u64,
    /// The checksum of the last header that was read.
    pub(super) previous: u32,
    /// The seq of the last event that was read, or the one before the first.
    pub(super) last: Seq,
    /// From this offset on, no batch says that the batches before it were durable.
    pub(super) unproven: u64,
    /// An offset, and the end of the data after it, if that was searched for.
    end_of_data: Option<(u64, u64)>,
    /// Bytes of the file from `offset` on, read ahead: the first `filled` bytes.
    ahead: Vec<u8>,
    filled: usize,
    /// A buffer for reuse.
    spare: Vec<u8>,
}

/// The next part of a segment.
#[derive(Debug)]
pub(super) enum Next {
    /// At least one batch.
    Batches(Batches),
    /// Only zeros, up to the end of the file.
    End,
    /// Bytes that are not the next batch of the chain.
    Invalid,
}

/// Consecutive batches, whose checksums were verified.
#[derive(Debug)]
pub(super) struct Batches {
    bytes: Vec<u8>,
    /// Bytes of the buffer that are batches.
    len: usize,
    /// The offset of the first batch in the segment.
    begin: u64,
}

impl Batches {
    /// The offset of each batch in the segment, its header and its items.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, BatchHeader, &[u8])> {
        let mut rest = &self.bytes[..self.len];
        let mut offset = self.begin;
        std::iter::from_fn(move || {
            let header = BatchHeader::parse(rest)?;
            let (batch, behind) = rest.split_at(BatchHeader::BYTES + header.len as usize);
            let begin = offset;
            offset += batch.len() as u64;
            rest = behind;
            Some((begin, header, &batch[BatchHeader::BYTES..]))
        })
    }

    /// The buffer, for reuse.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

impl<'a, F: DirectoryFile> SegmentReader<'a, F> {
    /// A reader of the batches after `header`.
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
            ahead: Vec::new(),
            filled: 0,
            spare: Vec::new(),
        })
    }

    /// Takes a buffer for reuse.
    pub(super) fn reuse(&mut self, buffer: Vec<u8>) {
        self.spare = buffer;
    }

    /// Reads the next part.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        let begin = self.offset;
        let mut len = 0;
        while let Some(header) = self.batch_ahead(len)? {
            if header.durable >= self.last {
                self.unproven = self.offset;
            }
            let batch = BatchHeader::BYTES + header.len as usize;
            len += batch;
            self.offset += batch as u64;
            self.previous = header.checksum;
            self.last = header.last();
        }
        if len > 0 {
            let mut rest = std::mem::take(&mut self.spare);
            let behind = &self.ahead[len..self.filled];
            self.filled = behind.len();
            if rest.len() < behind.len() {
                rest.resize(behind.len(), 0);
            }
            rest[..behind.len()].copy_from_slice(behind);
            let bytes = std::mem::replace(&mut self.ahead, rest);
            return Ok(Next::Batches(Batches { bytes, len, begin }));
        }
        Ok(if self.end_of_data()? == self.offset { Next::End } else { Next::Invalid })
    }

    /// The header of the batch after the first `at` bytes that were read ahead, if a whole batch is
    /// there and it is the next of the chain. If `at` is 0, reads as many bytes as the batch takes.
    fn batch_ahead(&mut self, at: usize) -> io::Result<Option<BatchHeader>> {
        if !self.read_ahead(at, BatchHeader::BYTES)? {
            return Ok(None);
        }
        let header = match BatchHeader::decode(&self.ahead[at..self.filled], self.seed) {
            Some(header) if self.is_next(&header) => header,
            _ => return Ok(None),
        };
        let batch = BatchHeader::BYTES + header.len as usize;
        if self.offset + batch as u64 > self.len || !self.read_ahead(at, batch)? {
            return Ok(None);
        }
        let items = &self.ahead[at + BatchHeader::BYTES..at + batch];
        Ok(header.matches(items, self.seed).then_some(header))
    }

    fn is_next(&self, header: &BatchHeader) -> bool {
        header.epoch == self.epoch && header.previous == self.previous && header.first > self.last
    }

    /// Whether there are `bytes` after the first `at` bytes that were read ahead. Reads more only
    /// if `at` is zero: batches that were read are returned first, also before a failure of the
    /// disk.
    fn read_ahead(&mut self, at: usize, bytes: usize) -> io::Result<bool> {
        if at > 0 || self.filled >= bytes {
            return Ok(self.filled >= at + bytes);
        }
        let room = bytes.max(BLOCK_BYTES);
        if self.ahead.len() < room {
            self.ahead.resize(room, 0);
        }
        while self.filled < bytes {
            let offset = self.offset + self.filled as u64;
            match self.file.read_at(&mut self.ahead[self.filled..], offset) {
                Ok(0) => return Ok(false),
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// The batch at `offset`, if a whole one begins there.
    fn batch_at(&self, offset: u64) -> io::Result<Option<BatchHeader>> {
        let mut head = [0; BatchHeader::BYTES];
        let read = self.file.read_full_at(&mut head, offset)?;
        let Some(header) = BatchHeader::decode(&head[..read], self.seed) else { return Ok(None) };
        let items_at = offset + BatchHeader::BYTES as u64;
        if header.epoch != self.epoch || items_at + u64::from(header.len) > self.len {
            return Ok(None);
        }
        let mut items = vec![0; header.len as usize];
        let read = self.file.read_full_at(&mut items, items_at)?;
        Ok(header.matches(&items[..read], self.seed).then_some(header))
    }

    /// The first whole batch after invalid bytes at the current offset which says that these bytes
    /// were durable. Then they are damaged, and not a torn write.
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
                if let Some(header) = self.batch_at(at + index as u64)?
                    && header.durable > self.last
                {
                    return Ok(Some(header));
                }
            }
            at += SEARCH_BYTES as u64;
        }
        Ok(None)
    }

    /// The end of the last byte that is not zero; the current offset if all are zero.
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

/// Bytes that are read at a time, unless one batch is larger. In tests the bytes are those of one
/// batch, or of some small ones.
const BLOCK_BYTES: usize = if cfg!(test) { 300 } else { 512 << 10 };
/// Bytes that are searched at a time.
const SEARCH_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::{
        disk::batch::{BatchEncoder, BatchLink},
        model::{Draft, EventKind, NewEvent, Position},
    };

    /// Reads give as many bytes as chance has it, and fail at a byte.
    struct Moody {
        bytes: Vec<u8>,
        fails_at: usize,
        seed: AtomicU64,
    }

    impl DirectoryFile for Moody {
        fn len(&self) -> io::Result<u64> {
            Ok(self.bytes.len() as u64)
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let mut rng = fastrand::Rng::with_seed(self.seed.load(Ordering::Relaxed));
            self.seed.store(rng.u64(..), Ordering::Relaxed);
            let begin = (offset as usize).min(self.bytes.len());
            let end = self.fails_at.min(begin + rng.usize(1..=buffer.len()));
            if rng.u8(..4) == 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if begin >= self.fails_at {
                return Err(io::ErrorKind::Other.into());
            }
            let end = end.min(self.bytes.len());
            buffer[..end - begin].copy_from_slice(&self.bytes[begin..end]);
            Ok(end - begin)
        }

        fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A segment, and where each of its batches ends.
    fn segment(rng: &mut fastrand::Rng) -> (Vec<u8>, SegmentHeader, Vec<usize>) {
        let epoch = Epoch::new(1, 1);
        let header = SegmentHeader { epoch, base: Seq(1), previous: 3, seed: 5 };
        let mut bytes = header.encode().to_vec();
        let (mut seq, mut previous, mut ends) = (Seq(1), header.previous, Vec::new());
        let mut encoder = BatchEncoder::default();
        for _ in 0..rng.usize(0..12) {
            encoder.begin();
            let first = seq;
            for _ in 0..rng.usize(1..4) {
                let draft = Draft::new(&NewEvent::message("x".repeat(rng.usize(0..400))));
                encoder.event(0, EventKind::Published, "a", &draft.finish(Position { epoch, seq }));
                seq = seq.next();
            }
            let durable = Seq(first.0 - 1);
            let link = BatchLink { epoch, first, time_ms: 0, durable, previous, seed: header.seed };
            let (batch, of_batch) = encoder.finish(&link);
            bytes.extend_from_slice(batch);
            previous = of_batch.checksum;
            ends.push(bytes.len());
        }
        bytes.resize(bytes.len() + rng.usize(0..500), 0);
        (bytes, header, ends)
    }

    #[test]
    fn batches_are_whole_over_the_edges_of_blocks_and_come_before_a_failure_behind_them() {
        for seed in 0..300 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (bytes, header, ends) = segment(&mut rng);
            let fails_at = match rng.bool() {
                true => rng.usize(64..=bytes.len()),
                false => usize::MAX,
            };
            let file = Moody { bytes, fails_at, seed: AtomicU64::new(seed) };
            let mut reader = SegmentReader::new(&file, &header).expect("it has a length");
            let mut read = Vec::new();
            let end = loop {
                match reader.next() {
                    Ok(Next::Batches(batches)) => {
                        for (begin, header, items) in batches.iter() {
                            assert_eq!(begin as usize, *read.last().unwrap_or(&64));
                            assert!(header.matches(items, 5));
                            read.push(begin as usize + BatchHeader::BYTES + items.len());
                        }
                        if rng.bool() {
                            reader.reuse(batches.into_buffer());
                        }
                    }
                    end => break end,
                }
            };
            let readable = ends.iter().filter(|end| **end <= fails_at).count();
            assert_eq!(read, ends[..readable], "{seed}");
            match end {
                Ok(end) => assert!(matches!(end, Next::End) && fails_at == usize::MAX, "{seed}"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::Other, "{seed}"),
            }
        }
    }
}
