//! The encoding of one event in the stream: a draft with its channel, under a format number.

use bytes::Bytes;

use super::error::RedisError;
use crate::model::{ChannelName, Draft, EventKind, Seq};

/// The format that this version writes. A hub that reads a newer format stops following, and skips
/// nothing.
pub const FORMAT: u8 = 1;

/// A random number that distinguishes entries with the same seq: a server that has lost the end of
/// its log gives out the same seqs again.
pub type Nonce = [u8; 8];

/// An event in the stream.
#[derive(Debug)]
pub struct Entry {
    /// Random; identifies the entry among others with the same seq.
    pub nonce: Nonce,
    /// The nonce of the entry before it in its epoch; none for the first.
    pub previous: Option<Nonce>,
    /// Its channel has no event between this seq and its own. None if a hub of an earlier version
    /// wrote it.
    pub channel_before: Option<Seq>,
    /// Whether the event is a publisher's or the hub's.
    pub kind: EventKind,
    /// When it was accepted by the wall clock of its hub, in milliseconds since 1970.
    pub time_ms: u64,
    /// Its channel.
    pub channel: ChannelName,
    /// Its text without the id.
    pub draft: Draft,
}

impl Entry {
    /// Writes an entry. `nonce` is at the same bytes in every format, since the script compares it.
    pub fn encode(
        nonce: Nonce,
        kind: EventKind,
        time_ms: u64,
        channel: &ChannelName,
        draft: &Draft,
    ) -> Vec<u8> {
        let (text, type_len, data_start) = draft.parts();
        let name = channel.as_str().as_bytes();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + name.len() + text.len());
        bytes.push(FORMAT);
        bytes.extend_from_slice(&nonce);
        bytes.push(match kind {
            EventKind::Published => 0,
            EventKind::Closed => 1,
        });
        bytes.extend_from_slice(&time_ms.to_le_bytes());
        bytes.extend_from_slice(&type_len.to_le_bytes());
        bytes.extend_from_slice(&data_start.to_le_bytes());
        bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(text);
        bytes
    }

    /// Reads the entry that is `seq` in the stream; [`previous`](Self::previous) and
    /// [`channel_before`](Self::channel_before) are in another field of the stream's entry.
    pub(super) fn decode(seq: u64, bytes: &Bytes) -> Result<Self, RedisError> {
        match bytes.first() {
            Some(&FORMAT) => {}
            Some(&format) if format > FORMAT => {
                return Err(RedisError::NewerFormat { seq, format });
            }
            _ => return Err(RedisError::Foreign(seq.to_string())),
        }
        Self::decode_parts(bytes).ok_or_else(|| RedisError::Foreign(seq.to_string()))
    }

    fn decode_parts(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
        let kind = match head[9] {
            0 => EventKind::Published,
            1 => EventKind::Closed,
            _ => return None,
        };
        let name_len = u16::from_le_bytes(head[24..26].try_into().ok()?);
        let (name, text) = rest.split_at_checked(name_len.into())?;
        let type_len = u16::from_le_bytes(head[18..20].try_into().ok()?);
        let data_start = u32::from_le_bytes(head[20..24].try_into().ok()?);
        Some(Self {
            nonce: head[1..9].try_into().ok()?,
            previous: None,
            channel_before: None,
            kind,
            time_ms: u64::from_le_bytes(head[10..18].try_into().ok()?),
            channel: ChannelName::parse(std::str::from_utf8(name).ok()?).ok()?,
            draft: Draft::from_parts(std::str::from_utf8(text).ok()?, type_len, data_start)?,
        })
    }
}

/// Bytes before the channel: format, nonce, kind, time, length of the type, start of the data,
/// length of the channel.
const HEAD_BYTES: usize = 1 + 8 + 1 + 8 + 2 + 4 + 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, EventType, NewEvent, Position};

    fn encoded() -> Vec<u8> {
        let event = NewEvent {
            data: "one\ntwo".into(),
            event_type: Some(EventType::parse("tick").expect("a type")),
            retry_ms: Some(5),
        };
        let channel = ChannelName::parse("a/b").expect("a name");
        Entry::encode([7; 8], EventKind::Published, 12, &channel, &Draft::new(&event))
    }

    #[test]
    fn an_entry_gives_its_event_back() {
        let entry = Entry::decode(1, &encoded().into()).expect("an entry");
        assert_eq!((entry.nonce, entry.kind, entry.time_ms), ([7; 8], EventKind::Published, 12));
        assert_eq!(entry.channel.as_str(), "a/b");
        let frame = entry.draft.finish(Position { epoch: Epoch::new(0, 10), seq: Seq(7) });
        let text = "event: tick\nretry: 5\ndata: one\ndata: two\nid: a-7\n\n";
        assert_eq!(frame.text(), text.as_bytes());
        assert_eq!(frame.event_type(), Some("tick"));
    }

    #[test]
    fn a_later_format_is_told_from_what_no_hub_has_written() {
        let mut later = encoded();
        later[0] = FORMAT + 1;
        let error = Entry::decode(9, &later.into()).expect_err("a later format");
        assert!(matches!(error, RedisError::NewerFormat { seq: 9, format: 2 }), "{error}");
        for cut in 0..HEAD_BYTES + "a/b".len() {
            let mut bytes = encoded();
            bytes.truncate(cut);
            assert!(Entry::decode(1, &bytes.into()).is_err(), "{cut}");
        }
    }
}
