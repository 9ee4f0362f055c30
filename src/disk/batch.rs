//! A batch: the events and keys that one write adds to the log.
//!
//! A header of [`BatchHeader::BYTES`] bytes, then items. All numbers are little-endian. Checksums
//! are CRC-32C (RFC 3720, appendix B.4), seeded with a number that is drawn for each segment: zeros
//! are not a valid header, and a client cannot publish bytes that look like a batch. Each header
//! has the checksum of the header before it: batches are a chain.

use bytes::{Buf, BufMut};

use crate::{
    core::IdempotencyKey,
    model::{ChannelName, Draft, Epoch, EventKind, Frame, Seq},
};

/// The header of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) epoch: Epoch,
    /// The seq of its first event. The others follow without a hole.
    pub(super) first: Seq,
    pub(super) events: u32,
    /// Bytes of its items.
    pub(super) len: u32,
    /// When the batch was written, in milliseconds since 1970.
    pub(super) time_ms: u64,
    /// The newest durable seq when the batch was written. An event up to this seq that cannot be
    /// read is damage, not a torn write.
    pub(super) durable: Seq,
    /// The checksum of the header before this one.
    pub(super) previous: u32,
    items_checksum: u32,
    /// The checksum of this header.
    pub(super) checksum: u32,
}

impl BatchHeader {
    pub(super) const BYTES: usize = 64;

    /// Reads a header, if there is a whole one.
    pub(super) fn decode(bytes: &[u8], seed: u32) -> Option<Self> {
        let checked = bytes.get(8..Self::BYTES)?;
        let header = Self::parse(bytes)?;
        (header.checksum == self::checksum(seed, checked)).then_some(header)
    }

    /// Reads a header whose checksum is known to be right.
    pub(super) fn parse(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() < Self::BYTES || bytes.get_u32_le() != MAGIC {
            return None;
        }
        let header = Self {
            checksum: bytes.get_u32_le(),
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

    /// Whether `items` are the items of this batch.
    pub(super) fn matches(&self, items: &[u8], seed: u32) -> bool {
        items.len() == self.len as usize && checksum(seed, items) == self.items_checksum
    }

    /// The seq of its last event.
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

/// One item of a batch, as bytes.
pub(super) enum RawItem<'a> {
    Event(RawEvent<'a>),
    Key(IdempotencyKey, u32),
}

/// An event of a batch, as bytes.
pub(super) struct RawEvent<'a> {
    pub(super) channel: &'a str,
    pub(super) time_ms: u64,
    pub(super) kind: EventKind,
    type_len: u16,
    data_start: u32,
    text: &'a [u8],
}

impl RawEvent<'_> {
    /// The draft with its text; `None` if the text is not that of an event.
    pub(super) fn draft(&self) -> Option<Draft> {
        let text = std::str::from_utf8(self.text).ok()?;
        Draft::from_parts(text, self.type_len, self.data_start)
    }

    /// The size of its text; `None` if the text is not that of an event.
    pub(super) fn text_bytes(&self) -> Option<usize> {
        let text = std::str::from_utf8(self.text).ok()?;
        Draft::check_parts(text, self.type_len, self.data_start)?;
        Some(text.len())
    }
}

/// Reads the items of a batch whose checksums are right.
pub(super) struct Items<'a>(pub(super) &'a [u8]);

impl Iterator for Items<'_> {
    /// `None` for bytes that are not an item; nothing after them can be read.
    type Item = Option<Item>;

    fn next(&mut self) -> Option<Option<Item>> {
        let mut raw = RawItems(self.0);
        let item = raw.next()?.and_then(|item| match item {
            RawItem::Event(event) => Some(Item::Event {
                time_ms: event.time_ms,
                kind: event.kind,
                channel: ChannelName::parse(event.channel).ok()?,
                draft: event.draft()?,
            }),
            RawItem::Key(key, events) => Some(Item::Key { key, events }),
        });
        self.0 = if item.is_some() { raw.0 } else { &[] };
        Some(item)
    }
}

/// As [`Items`], without copying anything.
pub(super) struct RawItems<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for RawItems<'a> {
    /// `None` for bytes that are not an item; nothing after them can be read.
    type Item = Option<RawItem<'a>>;

    fn next(&mut self) -> Option<Option<RawItem<'a>>> {
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

impl<'a> RawItems<'a> {
    fn item(&mut self) -> Option<RawItem<'a>> {
        let kind = match self.0.try_get_u8().ok()? {
            PUBLISHED => EventKind::Published,
            CLOSED => EventKind::Closed,
            KEY => return self.key(),
            _ => return None,
        };
        let name_len = self.0.try_get_u8().ok()?;
        let channel = std::str::from_utf8(self.bytes(usize::from(name_len))?).ok()?;
        let time_ms = self.0.try_get_u64_le().ok()?;
        let type_len = self.0.try_get_u16_le().ok()?;
        let data_start = self.0.try_get_u32_le().ok()?;
        let text_len = self.0.try_get_u32_le().ok()?;
        let text = self.bytes(text_len as usize)?;
        Some(RawItem::Event(RawEvent { channel, time_ms, kind, type_len, data_start, text }))
    }

    fn key(&mut self) -> Option<RawItem<'a>> {
        let key = IdempotencyKey::from_bytes(self.bytes(32)?)?;
        Some(RawItem::Key(key, self.0.try_get_u32_le().ok()?))
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }
}

/// No log reaches this seq, so sums of seqs that were read do not overflow.
pub(super) const SEQS_MAX: u64 = 1 << 62;
/// "VBAT".
pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"VBAT");
const PUBLISHED: u8 = 1;
const CLOSED: u8 = 2;
const KEY: u8 = 3;
/// Bytes of the buffer that are kept after a larger batch.
const BUFFER_BYTES_KEPT: usize = 1 << 20;
