//! The sparse index of a segment: where its blocks begin, and which channels are in each.
//!
//! A block is some batches in a row. The index is derived from the segment, and small beside it: a
//! reader of one channel skips the blocks that do not have it.

use bytes::{Buf, BufMut};

use super::{
    batch::{BatchHeader, checksum},
    segment::{FILE_SEED, Sealed, SegmentHeader},
};
use crate::model::Seq;

/// The hash of a channel's name. Two channels may have the same hash, so a reader compares the
/// names that it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelHash(u32);

impl ChannelHash {
    /// The hash of a name.
    pub fn of(name: &str) -> Self {
        Self(checksum(FILE_SEED, name.as_bytes()))
    }
}

/// The index of one segment, which may still be written to.
#[derive(Debug, Default)]
pub(super) struct SegmentIndex {
    blocks: Vec<Block>,
    /// The channels of all blocks but the last one, sorted within each block. `hashes_from` of a
    /// block is the index of its first channel.
    hashes: Vec<ChannelHash>,
    /// The channels of the last block, in any order. Until the block is complete, it counts as
    /// having all channels.
    open: Vec<ChannelHash>,
    /// Where the last block ends.
    end: u64,
    last: Seq,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    first: Seq,
    offset: u64,
    hashes_from: u32,
}

/// A block of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BlockRange {
    pub(super) begin: u64,
    pub(super) end: u64,
}

/// What an index says of the events after a seq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The next events may be in this block, whose last event has at most this seq.
    Block(BlockRange, Seq),
    /// No such event has a seq up to this one.
    NothingUpTo(Seq),
}

/// What an index says of the events up to a seq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoundBack {
    /// The last events may be in this block, whose first event has this seq.
    Block(BlockRange, Seq),
    /// No such event has this seq or a later one.
    NothingFrom(Seq),
}

impl SegmentIndex {
    /// Adds the batch that begins at `offset`, with the channels of its events.
    pub(super) fn add(
        &mut self,
        offset: u64,
        header: &BatchHeader,
        channels: impl IntoIterator<Item = ChannelHash>,
    ) {
        let end = offset + BatchHeader::BYTES as u64 + u64::from(header.len);
        if self.blocks.last().is_none_or(|block| end - block.offset > BLOCK_BYTES) {
            self.seal_block();
            let hashes_from = self.hashes.len() as u32;
            self.blocks.push(Block { first: header.first, offset, hashes_from });
        }
        self.open.extend(channels);
        // An open block of many small events has each of its channels about once.
        if self.open.len() >= OPEN_HASHES_MAX {
            self.open.sort_unstable();
            self.open.dedup();
        }
        (self.end, self.last) = (end, header.last());
    }

    fn seal_block(&mut self) {
        self.open.sort_unstable();
        self.open.dedup();
        self.hashes.append(&mut self.open);
        self.open.shrink_to(OPEN_HASHES_KEPT);
    }

    /// Completes the index of a segment that gets no more batches.
    pub(super) fn seal(mut self) -> Self {
        self.seal_block();
        self.open = Vec::new();
        self.hashes.shrink_to_fit();
        self.blocks.shrink_to_fit();
        self
    }

    /// Looks for the next block with events after `after`, of `channels` if they are given.
    /// Examines a bounded number of blocks.
    pub(super) fn find(&self, after: Seq, channels: Option<&[ChannelHash]>) -> Found {
        let begun = self.blocks.partition_point(|block| block.first <= after.next());
        let first = begun.saturating_sub(1);
        for index in first..self.blocks.len() {
            if after >= self.last {
                break;
            }
            if channels.is_none_or(|channels| self.may_have(index, channels)) {
                let begin = self.blocks[index].offset;
                let next = self.blocks.get(index + 1);
                let (end, through) =
                    next.map_or((self.end, self.last), |next| (next.offset, Seq(next.first.0 - 1)));
                return Found::Block(BlockRange { begin, end }, through);
            }
            if index - first == BLOCKS_PER_LOOK
                && let Some(next) = self.blocks.get(index + 1)
            {
                return Found::NothingUpTo(Seq(next.first.0 - 1).max(after));
            }
        }
        Found::NothingUpTo(self.last.max(after))
    }

    /// Looks for the last block with events up to `through`, of `channels` if they are given.
    /// Examines a bounded number of blocks. `None` if the segment has no such event.
    pub(super) fn find_back(
        &self,
        through: Seq,
        channels: Option<&[ChannelHash]>,
    ) -> Option<FoundBack> {
        let begun = self.blocks.partition_point(|block| block.first <= through);
        for (looked, index) in (0..begun).rev().enumerate() {
            let Block { first, offset: begin, .. } = self.blocks[index];
            if channels.is_none_or(|channels| self.may_have(index, channels)) {
                let end = self.blocks.get(index + 1).map_or(self.end, |next| next.offset);
                return Some(FoundBack::Block(BlockRange { begin, end }, first));
            }
            if looked == BLOCKS_PER_LOOK {
                return Some(FoundBack::NothingFrom(first));
            }
        }
        None
    }

    fn may_have(&self, index: usize, channels: &[ChannelHash]) -> bool {
        let from = self.blocks[index].hashes_from as usize;
        let hashes = match self.blocks.get(index + 1) {
            Some(next) => &self.hashes[from..next.hashes_from as usize],
            None if from == self.hashes.len() => return true,
            None => &self.hashes[from..],
        };
        channels.iter().any(|channel| hashes.binary_search(channel).is_ok())
    }

    /// Bytes of memory that the index takes.
    pub(super) fn bytes(&self) -> u64 {
        (self.blocks.len() * size_of::<Block>() + self.hashes.len() * size_of::<ChannelHash>())
            as u64
    }

    /// The content of the index's file. `sealed` distinguishes the segment from others of its name.
    pub(super) fn encode(&self, sealed: &Sealed) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32_le(FORMAT);
        out.put_u32_le(sealed.previous);
        out.put_u64_le(sealed.bytes);
        out.put_u64_le(sealed.last.0);
        out.put_u32_le(self.blocks.len() as u32);
        for block in &self.blocks {
            out.put_u64_le(block.first.0);
            out.put_u64_le(block.offset);
            out.put_u32_le(block.hashes_from);
        }
        self.hashes.iter().for_each(|hash| out.put_u32_le(hash.0));
        out
    }

    /// Reads an index; `None` if it is not that of the segment.
    pub(super) fn decode(mut bytes: &[u8], sealed: &Sealed) -> Option<Self> {
        let bytes = &mut bytes;
        let is_this = bytes.try_get_u32_le().ok()? == FORMAT
            && bytes.try_get_u32_le().ok()? == sealed.previous
            && bytes.try_get_u64_le().ok()? == sealed.bytes
            && bytes.try_get_u64_le().ok()? == sealed.last.0;
        let count = bytes.try_get_u32_le().ok().filter(|_| is_this)? as usize;
        if count.checked_mul(20)? > bytes.len() {
            return None;
        }
        let mut blocks = Vec::with_capacity(count);
        for _ in 0..count {
            blocks.push(Block {
                first: Seq(bytes.get_u64_le()),
                offset: bytes.get_u64_le(),
                hashes_from: bytes.get_u32_le(),
            });
        }
        let mut hashes = Vec::with_capacity(bytes.len() / 4);
        while let Ok(hash) = bytes.try_get_u32_le() {
            hashes.push(ChannelHash(hash));
        }
        let is_sorted = blocks.is_sorted_by(|a, b| {
            a.first < b.first && a.offset < b.offset && a.hashes_from <= b.hashes_from
        });
        let begins = blocks.first().is_some_and(|first| {
            first.offset == SegmentHeader::BYTES as u64 && first.hashes_from == 0
        });
        let is_within = blocks.last().is_some_and(|last| {
            last.offset < sealed.bytes
                && last.first <= sealed.last
                && last.hashes_from as usize <= hashes.len()
        });
        (bytes.is_empty() && is_sorted && begins && is_within).then_some(Self {
            blocks,
            hashes,
            open: Vec::new(),
            end: sealed.bytes,
            last: sealed.last,
        })
    }
}

/// The name of the index of the segment that begins with `base`.
pub(super) fn file_name(base: Seq) -> String {
    format!("{:020}{SUFFIX}", base.0)
}

/// The base in the name of an index's file; `None` for another name.
pub(super) fn base_of(file_name: &str) -> Option<Seq> {
    let digits = file_name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 20)?;
    digits.parse().ok().map(Seq)
}

const FORMAT: u32 = 1;
const SUFFIX: &str = ".index";
/// Bytes of a block, unless one batch is larger.
const BLOCK_BYTES: u64 = if cfg!(test) { 1 << 10 } else { 64 << 10 };
/// Blocks compared in one look: the index that is written to is locked meanwhile.
const BLOCKS_PER_LOOK: usize = if cfg!(test) { 3 } else { 64 };
/// Channels that are gathered for the open block before duplicates among them are removed.
const OPEN_HASHES_MAX: usize = 4_096;
const OPEN_HASHES_KEPT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{disk::batch::BatchEncoder, disk::batch::BatchLink, model::Epoch};

    fn header(first: u64, events: usize) -> BatchHeader {
        let mut encoder = BatchEncoder::default();
        encoder.begin();
        let epoch = Epoch::new(1, 1);
        let position = crate::model::Position { epoch, seq: Seq(first) };
        let draft = crate::model::Draft::new(&crate::model::NewEvent::message("x".repeat(300)));
        let frame = draft.finish(position);
        for _ in 0..events {
            encoder.event(0, crate::model::EventKind::Published, "c", &frame);
        }
        let (first, time_ms, durable) = (Seq(first), 0, Seq(first - 1));
        encoder.finish(&BatchLink { epoch, first, time_ms, durable, previous: 0, seed: 0 }).1
    }

    /// 40 batches of one event each: channel `a` in every tenth, `b` in all others.
    fn index() -> (SegmentIndex, Sealed) {
        let mut index = SegmentIndex::default();
        let mut offset = SegmentHeader::BYTES as u64;
        for seq in 1..=40_u64 {
            let header = header(seq, 1);
            let name = if seq.is_multiple_of(10) { "a" } else { "b" };
            index.add(offset, &header, [ChannelHash::of(name)]);
            offset += BatchHeader::BYTES as u64 + u64::from(header.len);
        }
        let sealed =
            Sealed { base: Seq(1), last: Seq(40), previous: 7, bytes: offset, newest_ms: 0 };
        (index, sealed)
    }

    #[test]
    fn a_reader_of_one_channel_skips_blocks_and_no_event() {
        for sealed in [false, true] {
            let (index, segment) = index();
            let index = if sealed { index.seal() } else { index };
            let step = (segment.bytes - 64) / 40;
            for channels in [None, Some(vec![ChannelHash::of("a")])] {
                let (mut after, mut blocks, mut found) = (Seq::ZERO, 0, Vec::new());
                while after < Seq(40) {
                    match index.find(after, channels.as_deref()) {
                        Found::NothingUpTo(seq) => {
                            assert!(seq > after);
                            after = seq;
                        }
                        Found::Block(BlockRange { begin, end }, through) => {
                            blocks += 1;
                            let first = (begin - 64) / step + 1;
                            let last = (end - 64) / step;
                            found.extend(first.max(after.0 + 1)..=last);
                            after = Seq(last);
                            assert_eq!(through, after);
                        }
                    }
                }
                assert_eq!(index.find(Seq(40), channels.as_deref()), Found::NothingUpTo(Seq(40)));
                if channels.is_some() {
                    assert!([10, 20, 30, 40].iter().all(|seq| found.contains(seq)), "{found:?}");
                    assert!(blocks <= 5, "{blocks}");
                } else {
                    assert_eq!(found, (1..=40).collect::<Vec<_>>());
                }
            }
        }
    }

    #[test]
    fn a_reader_that_goes_back_skips_the_same_blocks() {
        for sealed in [false, true] {
            let (index, segment) = index();
            let index = if sealed { index.seal() } else { index };
            let step = (segment.bytes - 64) / 40;
            for channels in [None, Some(vec![ChannelHash::of("a")])] {
                let (mut through, mut blocks, mut found) = (Seq(40), 0, Vec::new());
                while let Some(it) = index.find_back(through, channels.as_deref()) {
                    let first = match it {
                        FoundBack::NothingFrom(first) => first,
                        FoundBack::Block(BlockRange { begin, end }, first) => {
                            blocks += 1;
                            assert_eq!(first.0, (begin - 64) / step + 1);
                            found.extend((first.0..=((end - 64) / step).min(through.0)).rev());
                            first
                        }
                    };
                    assert!(first <= through);
                    through = Seq(first.0 - 1);
                }
                match channels {
                    Some(_) => {
                        assert!(
                            [10, 20, 30, 40].iter().all(|seq| found.contains(seq)),
                            "{found:?}"
                        );
                        assert!(blocks <= 5, "{blocks}");
                    }
                    None => assert_eq!(found, (1..=40).rev().collect::<Vec<_>>()),
                }
            }
        }
    }

    #[test]
    fn a_file_of_another_segment_or_with_changed_bytes_is_not_taken() {
        let (index, sealed) = index();
        let index = index.seal();
        let bytes = index.encode(&sealed);
        let read = SegmentIndex::decode(&bytes, &sealed).expect("it is that of the segment");
        assert_eq!((&read.blocks, &read.hashes), (&index.blocks, &index.hashes));
        let others = [
            Sealed { previous: 8, ..sealed },
            Sealed { bytes: sealed.bytes + 1, ..sealed },
            Sealed { last: Seq(41), ..sealed },
        ];
        for other in others {
            assert!(SegmentIndex::decode(&bytes, &other).is_none());
        }
        for len in 0..bytes.len() {
            let _ = SegmentIndex::decode(&bytes[..len], &sealed);
        }
        let mut swapped = bytes.clone();
        swapped[28..48].copy_from_slice(&bytes[48..68]);
        swapped[48..68].copy_from_slice(&bytes[28..48]);
        assert!(SegmentIndex::decode(&swapped, &sealed).is_none());
    }
}
