//! Chunks: how HTTP/1.1 marks the pieces and the end of a body whose length is not known.
//!
//! Source: RFC 9112, section 7.1 "Chunked Transfer Coding".

/// How the body of a stream is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferCoding {
    /// By what carries it: HTTP/2, a body handed to another server, or the end of the connection of
    /// an HTTP/1.0 client.
    None,
    /// By chunks, for HTTP/1.1. Each event and each block of the hub's own is one.
    Chunked,
}

impl TransferCoding {
    /// Appends what `write` writes, as a chunk if bodies have those.
    pub fn wrap(self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        match self {
            Self::None => write(out),
            Self::Chunked => {
                let begin = out.len();
                out.extend_from_slice(&[0; CHUNK_HEAD_BYTES]);
                write(out);
                end_chunk(out, begin);
            }
        }
    }
}

/// Ends the chunk whose head has its room at `begin`. A chunk of no bytes would be the last one, so
/// it is taken back.
pub(super) fn end_chunk(out: &mut Vec<u8>, begin: usize) {
    let size = out.len() - begin - CHUNK_HEAD_BYTES;
    if size == 0 {
        out.truncate(begin);
        return;
    }
    let size = u32::try_from(size).expect("bodies are bounded far below 4 GiB");
    out[begin..begin + SIZE_DIGITS].copy_from_slice(&hex(size));
    out[begin + SIZE_DIGITS..begin + CHUNK_HEAD_BYTES].copy_from_slice(b"\r\n");
    out.extend_from_slice(b"\r\n");
}

/// The digits of a size, all at once: each is a byte of one word.
fn hex(size: u32) -> [u8; SIZE_DIGITS] {
    // One digit to a byte, the last in the lowest.
    let mut digits = u64::from(size);
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits << 4) & (EACH * 0x0f);
    // Those of ten and above carry into the high half of their byte.
    let letters = ((digits + EACH * 6) >> 4) & EACH;
    (digits + EACH * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// One in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;
/// Digits of a chunk's size. All sizes have as many, so that there is room for one before the size
/// is known.
const SIZE_DIGITS: usize = 8;
/// Bytes before those of a chunk.
pub const CHUNK_HEAD_BYTES: usize = SIZE_DIGITS + 2;
/// Bytes after those of a chunk.
pub const CHUNK_TAIL_BYTES: usize = 2;
/// The chunk that ends a body, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(coding: TransferCoding, text: &str) -> String {
        let mut out = b"before ".to_vec();
        coding.wrap(&mut out, |out| out.extend_from_slice(text.as_bytes()));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_chunk_has_its_size_in_eight_digits_and_an_empty_one_is_not_written() {
        let chunked = |text: &str| wrapped(TransferCoding::Chunked, text);
        assert_eq!(chunked("x"), "before 00000001\r\nx\r\n");
        assert!(chunked(&"x".repeat(0x1a2b)).starts_with("before 00001a2b\r\nxx"));
        assert_eq!(chunked(""), "before ");
        for size in [0, 9, 10, 0xf, 0x10, 0x1234_5678, 0x9abc_def0, u32::MAX] {
            assert_eq!(hex(size), *format!("{size:08x}").as_bytes());
        }
        assert_eq!(wrapped(TransferCoding::None, "x"), "before x");
    }
}
