//! The id of a request (`X-Request-Id`): its client's, or one of the hub's own. The answer carries it,
//! and so do problem documents and the access log.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// An id.
#[derive(Debug, Clone)]
pub(super) struct RequestId {
    value: HeaderValue,
    is_own: bool,
}

impl RequestId {
    /// The id that a request carries, if it can be put into headers and logs as it is; else a new one.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match headers.get(&REQUEST_ID) {
            Some(value) if is_sane(value.as_bytes()) => {
                Self { value: value.clone(), is_own: false }
            }
            _ => Self { value: random(), is_own: true },
        }
    }

    /// Whether the hub made it.
    pub(super) fn is_own(&self) -> bool {
        self.is_own
    }

    pub(super) fn as_str(&self) -> &str {
        self.value.to_str().expect("it is of visible ASCII")
    }

    /// Adds it to an answer.
    pub(super) fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(REQUEST_ID, self.value.clone());
    }
}

/// Up to 64 letters, digits, and those signs that ids of other programs have.
fn is_sane(id: &[u8]) -> bool {
    (1..=BYTES_MAX).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || SIGNS.contains(byte))
}

/// 16 digits, from a generator that anybody can predict: they tell requests from each other.
fn random() -> HeaderValue {
    let mut digits = [0; 16];
    let number = fastrand::u64(..);
    for (index, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * index)) as usize & 0xF];
    }
    HeaderValue::from_bytes(&digits).expect("digits are ASCII")
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
            assert!(!of(id.as_bytes()).is_own() && of(id.as_bytes()).as_str() == id, "{id}");
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
        assert_ne!(own().as_str(), own().as_str());
        assert!(own().as_str().len() == 16 && is_sane(own().as_str().as_bytes()));
    }
}
