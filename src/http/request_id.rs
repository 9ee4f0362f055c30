//! The id of a request (`X-Request-Id`): the client's, or one that the hub makes. It is in the
//! answer, in problem documents and in the access log.

use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The id of a request. One that the hub makes is kept as a number until its text is needed, since
/// a header value costs two allocations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestId {
    /// The id that the client has sent.
    Given(HeaderValue),
    /// A random number of the hub. It only distinguishes requests, so it may be predictable.
    Own(u64),
}

impl RequestId {
    /// The id that a request carries, if it can be copied to headers and logs unchanged; else a new
    /// one.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match headers.get(&REQUEST_ID) {
            Some(value) if is_sane(value.as_bytes()) => Self::Given(value.clone()),
            _ => Self::Own(fastrand::u64(..)),
        }
    }

    /// Whether the hub has made the id.
    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// Adds the id to the headers of an answer.
    pub(super) fn add_header(&self, headers: &mut HeaderMap) {
        let value = match self {
            Self::Given(value) => value.clone(),
            Self::Own(number) => {
                HeaderValue::from_bytes(&digits(*number)).expect("digits are ASCII")
            }
        };
        headers.insert(REQUEST_ID, value);
    }
}

impl RequestId {
    /// Appends its line in a response head to `out`.
    pub(super) fn write_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"x-request-id: ");
        match self {
            Self::Given(value) => out.extend_from_slice(value.as_bytes()),
            Self::Own(number) => out.extend_from_slice(&digits(*number)),
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own;
        let text = match self {
            Self::Given(value) => value.as_bytes(),
            Self::Own(number) => {
                own = digits(*number);
                &own
            }
        };
        f.write_str(str::from_utf8(text).expect("it is of visible ASCII"))
    }
}

/// Whether an id has at most 64 letters, digits, and signs that ids of other programs have.
fn is_sane(id: &[u8]) -> bool {
    (1..=BYTES_MAX).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || SIGNS.contains(byte))
}

/// A number in hexadecimal digits.
fn digits(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (index, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * index)) as usize & 0xF];
    }
    digits
}

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const BYTES_MAX: usize = 64;
const SIGNS: &[u8] = b"-_.:/+=@~";

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &[u8]) -> RequestId {
        let value = HeaderValue::from_bytes(value).expect("a value");
        RequestId::of(&HeaderMap::from_iter([(REQUEST_ID, value)]))
    }

    #[test]
    fn an_id_of_a_client_is_taken_if_it_is_short_and_harmless() {
        for id in ["7", "a-B_c.d:e/f+g=h@i~", &"x".repeat(BYTES_MAX - 1), &"x".repeat(BYTES_MAX)] {
            assert!(!of(id.as_bytes()).is_own() && of(id.as_bytes()).to_string() == id, "{id}");
        }
        let long = "x".repeat(BYTES_MAX + 1);
        for id in ["", "a b", "a\"b", "a,b", "a{b", "a<b", "a\\b", "a\tb", "ї", &long] {
            assert!(of(id.as_bytes()).is_own(), "{id}");
        }
    }

    #[test]
    fn own_ids_differ() {
        let own = || RequestId::of(&HeaderMap::new());
        assert!(own().is_own());
        assert_ne!(own().to_string(), own().to_string());
        assert!(own().to_string().len() == 16 && is_sane(own().to_string().as_bytes()));
    }
}
