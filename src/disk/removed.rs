//! The losses file: what the log must remember of removed segments.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, BufMut};

use super::{batch::Item, segment::SegmentHeader};
use crate::{
    core::IdempotencyKey,
    model::{ChannelName, EventKind, Seq},
};

/// What must be remembered of removed segments: without it a restart would give clients false gaps,
/// open closed channels again, and publish a repeated key twice.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RemovedEvents {
    /// The base of the first segment that is kept; zero until one was removed.
    pub(super) first_base: Seq,
    /// The checksum of the last batch that was removed.
    pub(super) previous: u32,
    /// The last removed event of each channel.
    lost: BTreeMap<ChannelName, Seq>,
    /// The same, by seq.
    order: BTreeMap<Seq, ChannelName>,
    /// The last removed event of any channel that is not in `lost`.
    unnamed: Seq,
    closed: BTreeMap<ChannelName, (Seq, u64)>,
    keys: VecDeque<StoredKey>,
}

/// The answer to a publish under an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredKey {
    /// The key.
    pub key: IdempotencyKey,
    /// The seq of its first event.
    pub first: Seq,
    /// The number of its events.
    pub events: u32,
    /// When the events were published, in milliseconds since 1970.
    pub time_ms: u64,
}

/// How much is remembered of removed segments.
#[derive(Debug, Clone, Copy)]
pub struct RemovedLimits {
    /// The most channels whose losses are remembered by name.
    pub channels_max: usize,
    /// Milliseconds for which a closed channel is remembered.
    pub closed_ms: u64,
    /// The most closed channels.
    pub closed_max: usize,
    /// Milliseconds for which an idempotency key is remembered.
    pub keys_ms: u64,
    /// The most idempotency keys.
    pub keys_max: usize,
}

impl RemovedEvents {
    /// What is assumed if the losses file is damaged: any channel may have lost events before the
    /// first segment.
    pub(super) fn unknown_before(first: Option<SegmentHeader>) -> Self {
        let Some(header) = first else { return Self::default() };
        Self {
            first_base: header.base,
            previous: header.previous,
            unnamed: Seq(header.base.0 - 1),
            ..Self::default()
        }
    }

    /// Adds an item of a segment that is about to be removed. `next` is the seq of the item itself,
    /// if it is an event, or of the first event after a key. Returns the seq for the next item.
    pub(super) fn add(&mut self, item: Item, next: Seq, time_ms: u64) -> Seq {
        match item {
            Item::Event { kind, channel, time_ms, .. } => {
                match kind {
                    EventKind::Closed => {
                        self.closed.insert(channel.clone(), (next, time_ms));
                    }
                    // The channel was opened again.
                    EventKind::Published => {
                        self.closed.remove(&channel);
                    }
                }
                self.lose(channel, next);
                next.next()
            }
            Item::Key { key, events } => {
                self.keys.push_back(StoredKey { key, first: next, events, time_ms });
                next
            }
        }
    }

    fn lose(&mut self, channel: ChannelName, seq: Seq) {
        if let Some(before) = self.lost.insert(channel.clone(), seq) {
            self.order.remove(&before);
        }
        self.order.insert(seq, channel);
    }

    /// Notes that any channel may have lost events up to `last`: a removed segment could not be
    /// read.
    pub(super) fn lose_unread(&mut self, last: Seq) {
        self.lost.clear();
        self.order.clear();
        self.unnamed = last;
    }

    /// Drops what has expired.
    pub(super) fn expire(&mut self, limits: &RemovedLimits, now_ms: u64) {
        if is_planted!(LossesGrow) {
            return;
        }
        let is_kept = |at_ms: u64, kept_ms| at_ms.saturating_add(kept_ms) > now_ms;
        self.closed.retain(|_, (_, at_ms)| is_kept(*at_ms, limits.closed_ms));
        self.keys.retain(|key| is_kept(key.time_ms, limits.keys_ms));
        self.limit(limits);
    }

    /// Drops the oldest entries beyond the limits.
    pub(super) fn limit(&mut self, limits: &RemovedLimits) {
        if is_planted!(LossesGrow) {
            return;
        }
        while self.order.len() > limits.channels_max
            && let Some((seq, channel)) = self.order.pop_first()
        {
            self.lost.remove(&channel);
            self.unnamed = self.unnamed.max(seq);
        }
        if let Some(excess) = self.closed.len().checked_sub(limits.closed_max + 1) {
            let mut seqs: Vec<Seq> = self.closed.values().map(|(seq, _)| *seq).collect();
            let (_, last_forgotten, _) = seqs.select_nth_unstable(excess);
            let last_forgotten = *last_forgotten;
            self.closed.retain(|_, (seq, _)| *seq > last_forgotten);
        }
        self.keys.drain(..self.keys.len().saturating_sub(limits.keys_max));
    }

    /// The last removed event of each channel, in the order in which they were removed.
    pub fn lost(&self) -> impl Iterator<Item = (&ChannelName, Seq)> {
        self.order.iter().map(|(seq, channel)| (channel, *seq))
    }

    /// The last removed event of any channel that [`lost`](Self::lost) does not name.
    pub fn unnamed(&self) -> Seq {
        self.unnamed
    }

    /// Closed channels with the seq of their closing event, and when they were closed in
    /// milliseconds since 1970.
    pub fn closed(&self) -> impl Iterator<Item = (&ChannelName, Seq, u64)> {
        self.closed.iter().map(|(channel, (seq, at_ms))| (channel, *seq, *at_ms))
    }

    /// Idempotency keys, in the order of the log.
    pub fn keys(&self) -> impl Iterator<Item = &StoredKey> {
        self.keys.iter()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u64_le(self.first_base.0);
        out.put_u32_le(self.previous);
        out.put_u64_le(self.unnamed.0);
        out.put_u32_le(self.lost.len() as u32);
        for (channel, seq) in self.lost() {
            put_name(&mut out, channel);
            out.put_u64_le(seq.0);
        }
        out.put_u32_le(self.closed.len() as u32);
        for (channel, (seq, at_ms)) in &self.closed {
            put_name(&mut out, channel);
            out.put_u64_le(seq.0);
            out.put_u64_le(*at_ms);
        }
        out.put_u32_le(self.keys.len() as u32);
        for stored in &self.keys {
            out.put_slice(&stored.key.to_bytes());
            out.put_u64_le(stored.first.0);
            out.put_u32_le(stored.events);
            out.put_u64_le(stored.time_ms);
        }
        out
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let mut removed = Self {
            first_base: Seq(bytes.try_get_u64_le().ok()?),
            previous: bytes.try_get_u32_le().ok()?,
            unnamed: Seq(bytes.try_get_u64_le().ok()?),
            ..Self::default()
        };
        for _ in 0..bytes.try_get_u32_le().ok()? {
            let (channel, seq) = (get_name(bytes)?, Seq(bytes.try_get_u64_le().ok()?));
            removed.lose(channel, seq);
        }
        for _ in 0..bytes.try_get_u32_le().ok()? {
            let (channel, seq) = (get_name(bytes)?, Seq(bytes.try_get_u64_le().ok()?));
            removed.closed.insert(channel, (seq, bytes.try_get_u64_le().ok()?));
        }
        for _ in 0..bytes.try_get_u32_le().ok()? {
            let (key, rest) = bytes.split_at_checked(IdempotencyKey::BYTES)?;
            *bytes = rest;
            removed.keys.push_back(StoredKey {
                key: IdempotencyKey::from_bytes(key)?,
                first: Seq(bytes.try_get_u64_le().ok()?),
                events: bytes.try_get_u32_le().ok()?,
                time_ms: bytes.try_get_u64_le().ok()?,
            });
        }
        // An event is of one channel.
        let is_one_to_one = removed.order.len() == removed.lost.len();
        (bytes.is_empty() && is_one_to_one).then_some(removed)
    }
}

fn put_name(out: &mut Vec<u8>, channel: &ChannelName) {
    out.put_u8(channel.as_str().len() as u8);
    out.put_slice(channel.as_str().as_bytes());
}

fn get_name(bytes: &mut &[u8]) -> Option<ChannelName> {
    let len = usize::from(bytes.try_get_u8().ok()?);
    let (name, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    ChannelName::parse(std::str::from_utf8(name).ok()?).ok()
}
