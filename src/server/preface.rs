//! The first bytes of an HTTP/2 connection, by which the server detects and rejects it before the
//! protocol runs.

/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Sent to a rejected HTTP/2 client: settings, and a GOAWAY that names no stream as processed, so
/// the client may repeat all requests (section 6.8).
pub(super) const GOAWAY_REJECTION: &[u8] =
    b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
