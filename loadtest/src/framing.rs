//! Where a body begins and ends, in whatever pieces it comes (RFC 9112, section 6.3).

/// What is to come of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Everything until the connection closes.
    UntilClose,
    /// So many bytes.
    Length(u64),
    /// Chunks, in this state.
    Chunked(Chunk),
    /// Nothing.
    Ended,
}

/// The state of a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// In a size, with its value so far and whether digits still count.
    Size { bytes: u32, digits: bool },
    /// In the data.
    Data { left: u32 },
    /// In the line end after the data.
    DataEnd,
    /// In the trailer, at an offset of a line.
    Trailer { line_bytes: u32 },
}

/// What [`Framing::decode`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// Bytes of the body, which are now in front.
    pub(crate) body: usize,
    /// Bytes that were used up; what follows belongs to the next answer.
    pub(crate) used: usize,
}

/// The peer sent what no chunked body has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadChunk;

impl Framing {
    pub(crate) const CHUNKED: Self = Self::Chunked(Chunk::Size { bytes: 0, digits: true });

    /// The framing of an answer to GET, POST or DELETE with this status and these fields; `None` if
    /// a field cannot be parsed.
    pub fn of<'a>(status: u16, fields: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let mut framing = Self::UntilClose;
        for (name, value) in fields {
            if name.eq_ignore_ascii_case("transfer-encoding") {
                framing = (value.trim() == "chunked").then_some(Self::CHUNKED)?;
            } else if name.eq_ignore_ascii_case("content-length") && framing != Self::CHUNKED {
                framing = Self::Length(value.trim().parse().ok()?);
            }
        }
        if framing == Self::Length(0) || status < 200 || status == 204 || status == 304 {
            framing = Self::Ended;
        }
        Some(framing)
    }

    /// Takes the framing out of `bytes` and moves the body in them together, to their front.
    pub(crate) fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded, BadChunk> {
        match self {
            Self::Ended => Ok(Decoded { body: 0, used: 0 }),
            Self::UntilClose => Ok(Decoded { body: bytes.len(), used: bytes.len() }),
            Self::Length(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                if *left == 0 {
                    *self = Self::Ended;
                }
                Ok(Decoded { body: taken, used: taken })
            }
            Self::Chunked(chunk) => {
                let (decoded, ended) = chunk.decode(bytes)?;
                if ended {
                    *self = Self::Ended;
                }
                Ok(decoded)
            }
        }
    }
}

impl Chunk {
    fn decode(&mut self, bytes: &mut [u8]) -> Result<(Decoded, bool), BadChunk> {
        let (mut body, mut at) = (0, 0);
        while at < bytes.len() {
            if let Self::Data { left } = *self {
                let taken = (left as usize).min(bytes.len() - at);
                bytes.copy_within(at..at + taken, body);
                body += taken;
                at += taken;
                *self = match left - taken as u32 {
                    0 => Self::DataEnd,
                    left => Self::Data { left },
                };
                continue;
            }
            let ended = self.step(bytes[at])?;
            at += 1;
            if ended {
                return Ok((Decoded { body, used: at }, true));
            }
        }
        Ok((Decoded { body, used: at }, false))
    }

    /// One byte outside the data; true at the end of the body.
    fn step(&mut self, byte: u8) -> Result<bool, BadChunk> {
        match (*self, byte) {
            (Self::Size { bytes: 0, .. }, b'\n') => *self = Self::Trailer { line_bytes: 0 },
            (Self::Size { bytes, .. }, b'\n') => *self = Self::Data { left: bytes },
            (Self::Size { bytes, digits: true }, _) => {
                *self = match (byte as char).to_digit(16) {
                    Some(digit) => {
                        let bytes = bytes.checked_mul(16).ok_or(BadChunk)?;
                        Self::Size { bytes: bytes + digit, digits: true }
                    }
                    None if byte == b'\r' || byte == b';' || byte == b' ' => {
                        Self::Size { bytes, digits: false }
                    }
                    None => return Err(BadChunk),
                };
            }
            (Self::Size { .. }, _) | (Self::DataEnd, b'\r') => {}
            (Self::DataEnd, b'\n') => *self = Self::Size { bytes: 0, digits: true },
            (Self::Trailer { line_bytes: 0 }, b'\n') => return Ok(true),
            (Self::Trailer { .. }, b'\n') => *self = Self::Trailer { line_bytes: 0 },
            (Self::Trailer { .. }, b'\r') => {}
            (Self::Trailer { line_bytes }, _) => {
                *self = Self::Trailer { line_bytes: line_bytes + 1 }
            }
            (Self::DataEnd | Self::Data { .. }, _) => return Err(BadChunk),
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body of `bytes` in pieces of `piece` bytes, and what it left unused of the last one.
    fn decode(
        mut framing: Framing,
        bytes: &[u8],
        piece: usize,
    ) -> Result<(Vec<u8>, usize), BadChunk> {
        let mut body = Vec::new();
        let mut unused = 0;
        for piece in bytes.chunks(piece) {
            let mut piece = piece.to_vec();
            let decoded = framing.decode(&mut piece)?;
            body.extend_from_slice(&piece[..decoded.body]);
            unused += piece.len() - decoded.used;
        }
        Ok((body, unused))
    }

    #[test]
    fn each_framing_gives_its_body_in_any_pieces() {
        let chunked = b"2\r\nab\r\nA;x=1\r\n0123456789\r\n0\r\nt: 1\r\n\r\nNEXT";
        for piece in 1..=chunked.len() {
            let found = decode(Framing::CHUNKED, chunked, piece);
            assert_eq!(found, Ok((b"ab0123456789".to_vec(), 4)), "pieces of {piece}");
            assert_eq!(decode(Framing::Length(3), b"abcNEXT", piece), Ok((b"abc".to_vec(), 4)));
            assert_eq!(decode(Framing::UntilClose, b"abc", piece), Ok((b"abc".to_vec(), 0)));
            assert_eq!(decode(Framing::Ended, b"NEXT", piece), Ok((Vec::new(), 4)));
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for bytes in ["x\r\n", "2\r\nabc\r\n", "fffffffff\r\n"] {
            assert_eq!(decode(Framing::CHUNKED, bytes.as_bytes(), 64), Err(BadChunk), "{bytes}");
        }
    }
}
