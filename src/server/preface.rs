//! Detects the protocol of a connection from its first bytes.

/// The version of HTTP on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    /// The protocol of a client whose first bytes these are, if ALPN has not chosen one; `None`
    /// while there are too few bytes to decide.
    pub(super) fn of_first_bytes(bytes: &[u8]) -> Option<Self> {
        let compared = bytes.len().min(PREFACE.len());
        if bytes[..compared] != PREFACE[..compared] {
            return Some(Self::Http1);
        }
        (compared == PREFACE.len()).then_some(Self::Http2)
    }
}

/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The answer to a rejected HTTP/2 client: SETTINGS, and a GOAWAY whose last stream identifier is
/// 0, after which the client may repeat all its requests (section 6.8).
pub(super) const GOAWAY_REJECTION: &[u8] =
    b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_known_once_the_preface_differs_or_is_complete() {
        for length in 0..PREFACE.len() {
            assert_eq!(Protocol::of_first_bytes(&PREFACE[..length]), None, "{length}");
            let mut other = PREFACE[..=length].to_vec();
            other[length] ^= 1;
            assert_eq!(Protocol::of_first_bytes(&other), Some(Protocol::Http1), "{length}");
        }
        let with_settings = [PREFACE.as_slice(), b"\0\0\0\x04"].concat();
        for bytes in [PREFACE.as_slice(), &with_settings] {
            assert_eq!(Protocol::of_first_bytes(bytes), Some(Protocol::Http2));
        }
    }
}
