//! A position in a hub's log, as the opaque token that the wire carries.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::HeaderValue;
use thiserror::Error;

/// A position: 1 to 40 characters from `A-Z a-z 0-9 . _ -`. Only a hub knows what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position(Cow<'static, str>);

/// Why a text is not a position.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a position: it has 1 to 40 characters from A-Z a-z 0-9 . _ -")]
pub struct PositionError(String);

impl Position {
    /// Only events published from now on.
    pub const NOW: Self = Self(Cow::Borrowed("now"));
    /// Everything that history still holds.
    pub const EARLIEST: Self = Self(Cow::Borrowed("earliest"));

    /// Checks the form of a position; whether it is known only the hub can say.
    pub fn parse(text: &str) -> Result<Self, PositionError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=POSITION_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(Cow::Owned(text.to_owned())))
        } else {
            Err(PositionError(text.chars().take(2 * POSITION_BYTES_MAX).collect()))
        }
    }

    /// The token.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn to_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("a position has no character that headers refuse")
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        Self::parse(text)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const POSITION_BYTES_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_and_alphabet() {
        for good in ["1", "now", "0a1-B_c.9", &"x".repeat(40)] {
            assert_eq!(Position::parse(good).expect(good).as_str(), good);
        }
        for bad in ["", "a b", "a\r\n", "ї", "a/b", &"x".repeat(41)] {
            assert!(Position::parse(bad).is_err(), "{bad}");
        }
    }
}
