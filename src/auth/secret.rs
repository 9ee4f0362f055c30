//! A secret, whose bytes are never shown, and are wiped when it is dropped.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret. `Debug` and serialization show `***`. An empty secret means that none is set.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// The text that is shown instead of a secret.
pub const REDACTED: &str = "***";

impl Secret {
    /// A secret with these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The secret in a file with this content. One line end at the end does not belong to the
    /// secret.
    pub fn from_file(bytes: Vec<u8>) -> Self {
        let mut bytes = bytes;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Self::new(bytes)
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The bytes themselves, for a cryptographic operation and nothing else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether `other` is equal. The time depends only on whether the lengths are equal. An empty
    /// secret matches nothing.
    pub fn matches(&self, other: &[u8]) -> bool {
        !self.is_empty() && bool::from(self.0.as_slice().ct_eq(other))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "\"\"" } else { REDACTED })
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for Secret {}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { REDACTED })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).expect("JSON"), "\"***\"");
        assert_eq!(serde_json::to_string(&Secret::default()).expect("JSON"), "\"\"");
    }

    #[test]
    fn one_line_end_of_a_file_is_left_out() {
        for (text, bytes) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a")] {
            assert_eq!(Secret::from_file(text.into()).expose(), bytes.as_bytes());
        }
    }

    #[test]
    fn an_empty_secret_matches_nothing() {
        assert!(!Secret::default().matches(b""));
        assert!(Secret::new("a").matches(b"a"));
        assert!(!Secret::new("a").matches(b"ab"));
    }
}
