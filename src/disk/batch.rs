//! A batch: what one write adds to the log.
//!
//! A header of [`BatchHeader::BYTES`] bytes, then items. All numbers are little-endian. Checksums are
//! CRC-32C (RFC 3720, appendix B.4), seeded with a number that is drawn for each segment: zeros are not a
//! valid header, and a client cannot publish bytes that look like a batch. Each header has the checksum of
//! the header before it: batches are a chain.

use bytes::{Buf, BufMut};

use crate::{
    core::IdempotencyKey,
    model::{ChannelName, Draft, Epoch, EventKind, Frame, Seq},
};

/// What stands before the items of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) epoch: Epoch,
    /// Of its first event; the others follow without a hole.
    pub(super) first: Seq,
    pub(super) events: u32,
    /// Bytes of its items.
    pub(super) len: u32,
    /// When it was written, in milliseconds since 1970.
    pub(super) time_ms: u64,
    /// What was durable when this was written. An event up to here that cannot be read is
    /// damage, not a torn write.
    pub(super) durable: Seq,
    /// The checksum of the header before it.
    pub(super) previous: u32,
    items_checksum: u32,
    /// Of this header.
    pub(super) checksum: u32,
}

impl BatchHeader {
    pub(super) const BYTES: usize = 64;

    /// Reads a header, if there is a whole one.
    pub(super) fn decode(mut bytes: &[u8], seed: u32) -> Option<Self> {
        let checked = bytes.get(8..Self::BYTES)?;
        let (magic, checksum) = (bytes.get_u32_le(), bytes.get_u32_le());
        if magic != MAGIC || checksum != self::checksum(seed, checked) {
            return None;
        }
        let header = Self {
            checksum,
            len: bytes.get_u32_le(),
            items_checksum: bytes.get_u32_le(),
            epoch: Epoch::from_u64(bytes.get_u64_le()),
            first: Seq(bytes.get_u64_le()),
            time_ms: bytes.get_u64_le(),
            durable: Seq(bytes.get_u64_le()),
            events: bytes.get_u32_le(),
            previous: bytes.get_u32_le(),
        };
        let is_possible = header.first.0 < SEQS_MAX && header.first > header.durable;
        (header.events > 0 && is_possible).then_some(header)
    }

    /// Whether these are its items.
    pub(super) fn matches(&self, items: &[u8], seed: u32) -> bool {
        items.len() == self.len as usize && checksum(seed, items) == self.items_checksum
    }

    /// Its last event.
    pub(super) fn last(&self) -> Seq {
        Seq(self.first.0 + u64::from(self.events) - 1)
    }
}

pub(super) fn checksum(seed: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(seed, bytes)
}

/// One part of a batch.
#[derive(Debug)]
pub(super) enum Item {
    Event {
        time_ms: u64,
        kind: EventKind,
        channel: ChannelName,
        draft: Draft,
    },
    /// The idempotency key of a publish of `events` events, which come next in this batch.
    Key {
        key: IdempotencyKey,
        events: u32,
    },
}

/// What links a batch to those before it; see [`BatchHeader`].
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLink {
    pub(super) epoch: Epoch,
    pub(super) first: Seq,
    pub(super) time_ms: u64,
    pub(super) durable: Seq,
    pub(super) previous: u32,
    pub(super) seed: u32,
}

/// A batch that is being made. Its buffer is used again for the next one.
#[derive(Debug, Default)]
pub(super) struct BatchEncoder {
    bytes: Vec<u8>,
    events: u32,
}

impl BatchEncoder {
    /// Begins a new batch.
    pub(super) fn begin(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(BUFFER_BYTES_KEPT);
        self.bytes.resize(BatchHeader::BYTES, 0);
        self.events = 0;
    }

    /// Bytes so far, its header included.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no event yet.
    pub(super) fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Adds an event.
    pub(super) fn event(&mut self, time_ms: u64, kind: EventKind, channel: &str, frame: &Frame) {
        let (text, type_len, data_start) = frame.draft_parts();
        let out = &mut self.bytes;
        out.put_u8(match kind {
            EventKind::Published => PUBLISHED,
            EventKind::Closed => CLOSED,
        });
        out.put_u8(channel.len() as u8);
        out.put_slice(channel.as_bytes());
        out.put_u64_le(time_ms);
        out.put_u16_le(type_len);
        out.put_u32_le(data_start);
        out.put_u32_le(text.len() as u32);
        out.put_slice(text);
        self.events += 1;
    }

    /// Adds the key of a publish, before its events.
    pub(super) fn key(&mut self, key: &IdempotencyKey, events: usize) {
        self.bytes.put_u8(KEY);
        self.bytes.put_slice(&key.to_bytes());
        self.bytes.put_u32_le(events as u32);
    }

    /// The bytes to write, and their header.
    pub(super) fn finish(&mut self, link: &BatchLink) -> (&[u8], BatchHeader) {
        let BatchLink { epoch, first, time_ms, durable, previous, seed } = *link;
        let items = &self.bytes[BatchHeader::BYTES..];
        let mut header = BatchHeader {
            epoch,
            first,
            events: self.events,
            len: items.len() as u32,
            time_ms,
            durable,
            previous,
            items_checksum: checksum(seed, items),
            checksum: 0,
        };
        let mut out = &mut self.bytes[8..BatchHeader::BYTES];
        out.put_u32_le(header.len);
        out.put_u32_le(header.items_checksum);
        out.put_u64_le(epoch.to_u64());
        out.put_u64_le(first.0);
        out.put_u64_le(time_ms);
        out.put_u64_le(durable.0);
        out.put_u32_le(header.events);
        out.put_u32_le(previous);
        header.checksum = checksum(seed, &self.bytes[8..BatchHeader::BYTES]);
        let mut out = &mut self.bytes[..8];
        out.put_u32_le(MAGIC);
        out.put_u32_le(header.checksum);
        (&self.bytes, header)
    }
}

/// Reads the items of a batch whose checksums are right.
pub(super) struct Items<'a>(pub(super) &'a [u8]);

impl Iterator for Items<'_> {
    /// `None` for bytes that are no item; nothing can be read behind them.
    type Item = Option<Item>;

    fn next(&mut self) -> Option<Option<Item>> {
        if self.0.is_empty() {
            return None;
        }
        let item = self.item();
        if item.is_none() {
            self.0 = &[];
        }
        Some(item)
    }
}

impl Items<'_> {
    fn item(&mut self) -> Option<Item> {
        let kind = match self.0.try_get_u8().ok()? {
            PUBLISHED => EventKind::Published,
            CLOSED => EventKind::Closed,
            KEY => return self.key(),
            _ => return None,
        };
        let name_len = self.0.try_get_u8().ok()?;
        let channel = ChannelName::parse(self.text(usize::from(name_len))?).ok()?;
        let time_ms = self.0.try_get_u64_le().ok()?;
        let type_len = self.0.try_get_u16_le().ok()?;
        let data_start = self.0.try_get_u32_le().ok()?;
        let text_len = self.0.try_get_u32_le().ok()?;
        let draft = Draft::from_parts(self.text(text_len as usize)?, type_len, data_start)?;
        Some(Item::Event { time_ms, kind, channel, draft })
    }

    fn key(&mut self) -> Option<Item> {
        let key = IdempotencyKey::from_bytes(self.bytes(32)?)?;
        Some(Item::Key { key, events: self.0.try_get_u32_le().ok()? })
    }

    fn text(&mut self, len: usize) -> Option<&str> {
        std::str::from_utf8(self.bytes(len)?).ok()
    }

    fn bytes(&mut self, len: usize) -> Option<&[u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }
}

/// No log gets here, so sums of seqs that are read do not overflow.
pub(super) const SEQS_MAX: u64 = 1 << 62;
/// "VBAT".
pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"VBAT");
const PUBLISHED: u8 = 1;
const CLOSED: u8 = 2;
const KEY: u8 = 3;
/// Of the buffer, after a batch that was larger.
const BUFFER_BYTES_KEPT: usize = 1 << 20;
