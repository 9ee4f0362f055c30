//! The protocol of Redis (RESP, version 2): commands out, replies in. Without I/O.
//!
//! Source: redis.io, "Redis serialization protocol specification".

use bytes::{Buf, Bytes, BytesMut};

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// A short text, as `OK`.
    Simple(String),
    /// An error: the command was not performed.
    Error(String),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Bytes),
    /// Several replies.
    Array(Vec<Reply>),
    /// Nothing.
    Nil,
}

impl Reply {
    /// Its bytes, if it has any.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bulk(bytes) => Some(bytes),
            Self::Simple(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// Its text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// The number that it is or spells.
    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => u64::try_from(*number).ok(),
            _ => self.text()?.parse().ok(),
        }
    }

    /// Its parts.
    pub(super) fn array(&self) -> Option<&[Reply]> {
        match self {
            Self::Array(parts) => Some(parts),
            _ => None,
        }
    }
}

/// The bytes are not a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server does not speak the Redis protocol")]
pub(super) struct Malformed;

/// Writes a command.
pub(super) fn write_command(parts: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

/// Takes a reply from the front of a buffer; `None` while the reply is incomplete.
pub(super) fn take_reply(buffer: &mut BytesMut) -> Result<Option<Reply>, Malformed> {
    let mut scanner = Scanner { bytes: buffer, at: 0 };
    if !scanner.skip(0)? {
        return Ok(None);
    }
    let end = scanner.at;
    let mut whole = buffer.split_to(end).freeze();
    build(&mut whole).map(Some)
}

/// Finds the end of a reply.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    /// Skips a reply; false if it is incomplete.
    fn skip(&mut self, depth: u8) -> Result<bool, Malformed> {
        let Some((kind, line)) = self.line()? else { return Ok(false) };
        match kind {
            b'+' | b'-' | b':' => Ok(true),
            b'$' => {
                let Some(len) = length(&line, BULK_BYTES_MAX)? else { return Ok(true) };
                let Some(end) = self.bytes.get(self.at + len..self.at + len + 2) else {
                    return Ok(false);
                };
                if end != b"\r\n" {
                    return Err(Malformed);
                }
                self.at += len + 2;
                Ok(true)
            }
            b'*' if depth < DEPTH_MAX => {
                let Some(len) = length(&line, ARRAY_LEN_MAX)? else { return Ok(true) };
                for _ in 0..len {
                    if !self.skip(depth + 1)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Err(Malformed),
        }
    }

    fn line(&mut self) -> Result<Option<(u8, Vec<u8>)>, Malformed> {
        let rest = &self.bytes[self.at..];
        let within = &rest[..rest.len().min(LINE_BYTES_MAX)];
        match within.windows(2).position(|pair| pair == b"\r\n") {
            Some(end) if end > 0 => {
                self.at += end + 2;
                Ok(Some((rest[0], rest[1..end].to_vec())))
            }
            Some(_) => Err(Malformed),
            None if rest.len() >= LINE_BYTES_MAX => Err(Malformed),
            None => Ok(None),
        }
    }
}

/// Builds the reply that `bytes` begin with, which is complete.
fn build(bytes: &mut Bytes) -> Result<Reply, Malformed> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n").ok_or(Malformed)?;
    let line = bytes.split_to(end);
    bytes.advance(2);
    let text = || String::from_utf8_lossy(&line[1..]).into_owned();
    Ok(match line[0] {
        b'+' => Reply::Simple(text()),
        b'-' => Reply::Error(text()),
        b':' => Reply::Integer(text().parse().map_err(|_| Malformed)?),
        b'$' => match length(&line[1..], BULK_BYTES_MAX)? {
            None => Reply::Nil,
            Some(len) => {
                let bulk = bytes.split_to(len);
                bytes.advance(2);
                Reply::Bulk(bulk)
            }
        },
        _ => match length(&line[1..], ARRAY_LEN_MAX)? {
            None => Reply::Nil,
            Some(len) => {
                Reply::Array((0..len).map(|_| build(bytes)).collect::<Result<_, Malformed>>()?)
            }
        },
    })
}

/// A length; `None` for -1, the null bulk or array.
fn length(digits: &[u8], max: usize) -> Result<Option<usize>, Malformed> {
    if digits == b"-1" {
        return Ok(None);
    }
    let text = std::str::from_utf8(digits).map_err(|_| Malformed)?;
    let len = text.parse().map_err(|_| Malformed)?;
    if len <= max { Ok(Some(len)) } else { Err(Malformed) }
}

/// The longest value that a Redis server keeps.
const BULK_BYTES_MAX: usize = 512 << 20;
/// More than the answer to any command of the hub has.
const ARRAY_LEN_MAX: usize = 1 << 20;
const DEPTH_MAX: u8 = 8;
/// A line without bulk: a number or an error.
const LINE_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulks() {
        let mut out = Vec::new();
        write_command(&[b"GET", b"a\r\n"], &mut out);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\n");
    }

    #[test]
    fn replies_are_read_whole_and_in_order_however_they_come() {
        let bytes = b"+OK\r\n*3\r\n:7\r\n$-1\r\n*1\r\n$4\r\na\r\nb\r\n-ERR no\r\n*-1\r\n";
        let expected = [
            Reply::Simple("OK".into()),
            Reply::Array(vec![
                Reply::Integer(7),
                Reply::Nil,
                Reply::Array(vec![Reply::Bulk(Bytes::from_static(b"a\r\nb"))]),
            ]),
            Reply::Error("ERR no".into()),
            Reply::Nil,
        ];
        for piece in 1..=bytes.len() {
            let (mut buffer, mut replies) = (BytesMut::new(), Vec::new());
            for part in bytes.chunks(piece) {
                buffer.extend_from_slice(part);
                while let Some(reply) = take_reply(&mut buffer).expect("replies") {
                    replies.push(reply);
                }
            }
            assert_eq!(replies, expected, "in pieces of {piece}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn what_is_not_the_protocol_is_refused() {
        let deep = "*1\r\n".repeat(9);
        for bytes in
            ["HTTP/1.1 400\r\n", "\r\n", "$x\r\n", "$-2\r\n", "$1\r\nabc", "*9999999\r\n", &deep]
        {
            let mut buffer = BytesMut::from(bytes);
            assert_eq!(take_reply(&mut buffer), Err(Malformed), "{bytes:?}");
        }
        let mut endless = BytesMut::from(&[b'+'; LINE_BYTES_MAX][..]);
        assert_eq!(take_reply(&mut endless), Err(Malformed));
    }
}
