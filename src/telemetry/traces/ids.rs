//! The ids of traces and spans.

use std::fmt;

/// The id of a trace; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

/// The id of a span; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SpanId(u64);

impl TraceId {
    /// A new id. It is predictable, which does no harm.
    pub(super) fn random() -> Self {
        Self(fastrand::u128(1..))
    }

    /// Parses 32 lowercase hexadecimal digits that are not all zero.
    pub(super) fn parse(digits: &[u8]) -> Option<Self> {
        let number = hexadecimal(digits, 32)?;
        (number != 0).then_some(Self(number))
    }
}

impl SpanId {
    /// A new id.
    pub(super) fn random() -> Self {
        Self(fastrand::u64(1..))
    }

    /// Parses 16 lowercase hexadecimal digits that are not all zero.
    pub(super) fn parse(digits: &[u8]) -> Option<Self> {
        let number = hexadecimal(digits, 16)?;
        (number != 0).then_some(Self(number as u64))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A number of exactly so many lowercase hexadecimal digits.
pub(super) fn hexadecimal(digits: &[u8], len: usize) -> Option<u128> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != len || !digits.iter().all(is_digit) {
        return None;
    }
    u128::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}
