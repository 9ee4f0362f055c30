//! The position of a client: (epoch, seq), opaque on the wire.

use std::fmt;

use serde::{Serialize, Serializer};
use thiserror::Error;

/// An incarnation of the log. Positions of another epoch say nothing about this one.
///
/// Of two incarnations of a log the later one is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// An epoch from the time at which the log was opened and some chance, so that two hubs
    /// opened in the same millisecond differ.
    pub fn new(opened_unix_ms: u64, chance: u16) -> Self {
        Self(opened_unix_ms << 16 | u64::from(chance))
    }

    /// The same, and later than another one, even if the clock was put back in between.
    pub fn after(before: Option<Self>, opened_unix_ms: u64, chance: u16) -> Self {
        let earliest_ms = before.map_or(0, |before| (before.0 >> 16) + 1);
        Self::new(opened_unix_ms.max(earliest_ms), chance)
    }

    /// A position of this log.
    pub fn at(self, seq: Seq) -> Position {
        Position { epoch: self, seq }
    }

    /// When the log was opened, in microseconds since 1970, to the millisecond.
    pub fn opened_unix_us(self) -> u64 {
        (self.0 >> 16) * 1_000
    }

    /// The number that stands for it on a disk.
    pub fn to_u64(self) -> u64 {
        self.0
    }

    /// The epoch that a number stands for.
    pub fn from_u64(number: u64) -> Self {
        Self(number)
    }
}

/// The number of an event in the log; the first event has 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first event.
    pub const ZERO: Self = Self(0);

    /// The next one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A point in the log of one epoch. One position resumes all channels of a connection, on any
/// transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which log.
    pub epoch: Epoch,
    /// Everything up to here has been received.
    pub seq: Seq,
}

impl Position {
    /// Longest token a client may send, in bytes.
    pub const BYTES_MAX: usize = 40;

    /// Reads a token this type has written.
    fn parse(token: &str) -> Option<Self> {
        let token = token.as_bytes();
        let dash = token.iter().position(|byte| *byte == b'-')?;
        let epoch = read_digits(&token[..dash], 36)?;
        Some(Self { epoch: Epoch(epoch), seq: Seq(read_digits(&token[dash + 1..], 10)?) })
    }

    /// Appends the token to `out`.
    pub fn write_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.token().as_bytes());
    }

    fn token(self) -> Token {
        let mut token = Token { bytes: [0; Token::BYTES_MAX], begin: Token::BYTES_MAX };
        token.put_digits::<10>(self.seq.0);
        token.put(b'-');
        token.put_digits::<36>(self.epoch.0);
        token
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token().as_str())
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.token().as_str())
    }
}

/// The text of a position, written from its end.
struct Token {
    bytes: [u8; Self::BYTES_MAX],
    begin: usize,
}

impl Token {
    /// Digits of the largest seq and epoch, and the dash.
    const BYTES_MAX: usize = 20 + 1 + 13;

    fn put(&mut self, byte: u8) {
        self.begin -= 1;
        self.bytes[self.begin] = byte;
    }

    fn put_digits<const RADIX: u64>(&mut self, mut value: u64) {
        loop {
            self.put(b"0123456789abcdefghijklmnopqrstuvwxyz"[(value % RADIX) as usize]);
            value /= RADIX;
            if value == 0 {
                break;
            }
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }

    fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).expect("only ASCII digits and letters")
    }
}

/// Reads what [`Token::put_digits`] writes. Each number has one spelling, so that a token and its
/// position are one-to-one.
fn read_digits(digits: &[u8], radix: u64) -> Option<u64> {
    if digits.is_empty() || digits.len() > 1 && digits[0] == b'0' {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'z' => byte - b'a' + 10,
            _ => return None,
        };
        let digit = u64::from(digit);
        let is_valid = digit < radix;
        value.checked_mul(radix)?.checked_add(digit).filter(|_| is_valid)
    })
}

/// Where a subscription asks to start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// With the next event.
    #[default]
    Now,
    /// With the oldest event that is retained.
    Earliest,
    /// With so many events of each channel, the latest before now; without a gap if there are
    /// fewer.
    Last(LastEvents),
    /// After this position.
    At(Position),
    /// After something that no hub of this kind has written, cut to [`Start::UNKNOWN_BYTES_MAX`]
    /// bytes: answered with a gap.
    Unknown(String),
}

/// How many events of each channel a subscription starts back from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LastEvents(u16);

impl LastEvents {
    /// The most that may be asked for.
    pub const MAX: u32 = 1_000;

    /// From 1 to [`MAX`](Self::MAX) events.
    pub fn new(count: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&count).then_some(Self(count as u16))
    }

    /// How many.
    pub fn get(self) -> usize {
        self.0.into()
    }
}

impl Start {
    /// Bytes that are kept of a text that is not a position: enough to recognize it.
    pub const UNKNOWN_BYTES_MAX: usize = 64;

    /// Reads a position that the client did not choose, such as the last id that a browser got from
    /// another server at the same address. Never fails: any other text is
    /// [`Unknown`](Self::Unknown).
    pub fn parse_any(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|_| {
            let fits =
                |&(at, char): &(usize, char)| at + char.len_utf8() <= Self::UNKNOWN_BYTES_MAX;
            Self::Unknown(text.char_indices().take_while(fits).map(|(_, char)| char).collect())
        })
    }

    /// Reads what a client sends as its position: `now`, `earliest`, or a token.
    pub fn parse(token: &str) -> Result<Self, PositionError> {
        if token.len() > Position::BYTES_MAX {
            return Err(PositionError::TooLong);
        }
        if !token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return Err(PositionError::Character);
        }
        Ok(match token {
            "" | "now" => Self::Now,
            "earliest" => Self::Earliest,
            _ => match Position::parse(token) {
                Some(position) => Self::At(position),
                None => Self::Unknown(token.to_owned()),
            },
        })
    }
}

/// Why a text cannot be a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PositionError {
    /// More than 40 characters.
    #[error("a position has at most 40 characters")]
    TooLong,
    /// A character outside `A-Z a-z 0-9 . _ -`.
    #[error("a position consists of A-Z a-z 0-9 . _ -")]
    Character,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_gives_its_position_back(epoch: u64, seq: u64) {
            let position = Position { epoch: Epoch(epoch), seq: Seq(seq) };
            let token = position.to_string();
            prop_assert!(token.len() <= Position::BYTES_MAX);
            prop_assert_eq!(Start::parse(&token), Ok(Start::At(position)));
        }

        #[test]
        fn no_text_panics_and_known_ones_have_one_spelling(token in "[A-Za-z0-9._-]{0,42}") {
            if let Ok(Start::At(position)) = Start::parse(&token) {
                prop_assert_eq!(position.to_string(), token);
            }
        }
    }

    #[test]
    fn an_epoch_after_another_is_later_whatever_the_clock_and_chance_say() {
        let first = Epoch::new(1_000, u16::MAX);
        for (now_ms, chance) in [(0, 0), (999, u16::MAX), (1_000, 0), (1_000, u16::MAX), (2_000, 0)]
        {
            let next = Epoch::after(Some(first), now_ms, chance);
            assert!(next > first, "{now_ms} {chance}");
            assert!(next.opened_unix_us() >= first.opened_unix_us() + 1_000);
            assert!(Epoch::after(Some(next), now_ms, chance) > next);
        }
        assert_eq!(Epoch::after(None, 5, 7), Epoch::new(5, 7));
        assert_eq!(Epoch::after(Some(first), 5_000, 7), Epoch::new(5_000, 7), "the clock counts");
    }

    #[test]
    fn foreign_tokens_are_unknown_not_refused() {
        for token in ["7", "abc", "a-b-c", "A-1", "a-01", "-1", "a-", "a-18446744073709551616"] {
            assert_eq!(Start::parse(token), Ok(Start::Unknown(token.into())), "{token}");
        }
    }

    #[test]
    fn any_text_can_be_what_a_client_did_not_choose() {
        for token in ["", "now", "earliest", "a-1", "7", &"x".repeat(40)] {
            assert_eq!(Start::parse(token), Ok(Start::parse_any(token)), "{token}");
        }
        for (text, kept) in [
            ("urn:uuid:5e94", "urn:uuid:5e94"),
            (&*"x".repeat(64), &*"x".repeat(64)),
            (&"x".repeat(65), &"x".repeat(64)),
            (&"\u{1f990}".repeat(99), &"\u{1f990}".repeat(16)),
            (&format!("x{}", "\u{1f990}".repeat(16)), &format!("x{}", "\u{1f990}".repeat(15))),
        ] {
            assert_eq!(Start::parse_any(text), Start::Unknown(kept.into()), "{text}");
        }
    }

    #[test]
    fn how_many_events_back_is_checked_at_below_and_above_its_bounds() {
        for (count, back) in [(0, None), (1, Some(1)), (1_000, Some(1_000)), (1_001, None)] {
            assert_eq!(LastEvents::new(count).map(LastEvents::get), back, "{count}");
        }
        assert!(LastEvents::new(u32::MAX).is_none());
    }

    #[test]
    fn length_and_characters_are_checked() {
        assert_eq!(Start::parse(&"x".repeat(41)), Err(PositionError::TooLong));
        assert_eq!(Start::parse("urn:uuid"), Err(PositionError::Character));
        assert_eq!(Start::parse(""), Ok(Start::Now));
    }
}
