//! What an event carries, so that a subscriber can tell everything that may go wrong with it.
//!
//! `~STREAM.SEQ.DUE.LENGTH.` in hexadecimal, then filler to the length, which follows from the
//! numbers. Printable, and the same inside a JSON string. A stream is what one publisher sends to
//! one channel: within it events are numbered from 0, and that is the order they must come in.

/// The numbers of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) stream: u32,
    pub(crate) seq: u32,
    /// When it was due, by [`now_ns`](super::now_ns).
    pub(crate) due_ns: u64,
}

impl Stamp {
    /// Appends an event of `bytes` in all; at least [`STAMP_BYTES`], at most [`PAYLOAD_BYTES_MAX`].
    pub(crate) fn write(&self, bytes: usize, body: &mut Vec<u8>) {
        let Self { stream, seq, due_ns } = self;
        let bytes = bytes.clamp(STAMP_BYTES, PAYLOAD_BYTES_MAX);
        let stamp = format!("~{stream:08x}.{seq:08x}.{due_ns:016x}.{bytes:08x}.");
        body.extend_from_slice(stamp.as_bytes());
        body.extend_from_slice(self.filler(bytes - STAMP_BYTES));
    }

    /// The event at the beginning of `body`, and how long it is; `None` if it is not as it was
    /// published.
    #[inline]
    pub(crate) fn read(body: &[u8]) -> Option<(Self, usize)> {
        let (stamp, rest) = body.split_first_chunk::<STAMP_BYTES>()?;
        let points = [stamp[9], stamp[18], stamp[35], stamp[44]];
        if stamp[0] != BEGIN || points != *b"...." {
            return None;
        }
        let bytes = hex(&stamp[36..44])? as usize;
        let stamp = Self {
            stream: hex(&stamp[1..9])? as u32,
            seq: hex(&stamp[10..18])? as u32,
            due_ns: hex(&stamp[19..35])?,
        };
        let filler_bytes = bytes.checked_sub(STAMP_BYTES)?;
        let same =
            bytes <= PAYLOAD_BYTES_MAX && rest.get(..filler_bytes)? == stamp.filler(filler_bytes);
        same.then_some((stamp, bytes))
    }

    fn filler(&self, bytes: usize) -> &'static [u8] {
        let numbers = u64::from(self.stream) << 32 | u64::from(self.seq);
        let mixed = (numbers ^ self.due_ns.rotate_left(21)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let from = mixed as usize >> (u64::BITS - OFFSET_BITS);
        &FILLER[from..from + bytes]
    }
}

/// Every event begins with it, and it is nowhere else in one.
pub(crate) const BEGIN: u8 = b'~';
/// The least an event has.
pub(crate) const STAMP_BYTES: usize = 45;
/// The most.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

#[inline]
fn hex(digits: &[u8]) -> Option<u64> {
    let mut value = 0;
    let mut bad = 0;
    for digit in digits {
        let nibble = NIBBLES[usize::from(*digit)];
        bad |= nibble;
        value = value << 4 | u64::from(nibble & 15);
    }
    (bad < 16).then_some(value)
}

const NIBBLES: [u8; 256] = {
    let mut nibbles = [0xF0; 256];
    let mut value = 0;
    while value < 16 {
        nibbles[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    nibbles
};

const OFFSET_BITS: u32 = 12;
/// Letters in an order that does not repeat within an event.
static FILLER: [u8; (1 << OFFSET_BITS) + PAYLOAD_BYTES_MAX] = {
    let mut filler = [0; (1 << OFFSET_BITS) + PAYLOAD_BYTES_MAX];
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut at = 0;
    while at < filler.len() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        filler[at] = b'a' + (state >> 32) as u8 % 26;
        at += 1;
    }
    filler
};

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { stream: 7, seq: 0xABCD, due_ns: 0x0123_4567_89AB_CDEF };

    #[test]
    fn what_is_written_is_read() {
        for bytes in [STAMP_BYTES, 128, 4_096, PAYLOAD_BYTES_MAX] {
            let mut body = Vec::new();
            STAMP.write(bytes, &mut body);
            assert_eq!(body.len(), bytes);
            assert_eq!(Stamp::read(&body), Some((STAMP, bytes)));
            body.extend_from_slice(b"\"}");
            assert_eq!(Stamp::read(&body), Some((STAMP, bytes)));
        }
    }

    #[test]
    fn any_changed_or_missing_byte_shows() {
        let mut body = Vec::new();
        STAMP.write(128, &mut body);
        for at in 0..body.len() {
            let mut changed = body.clone();
            changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(Stamp::read(&changed), None, "byte {at}");
            assert_eq!(Stamp::read(&body[..at]), None, "cut at {at}");
        }
        for (digit, other) in [(17, b'0'), (8, b'1'), (43, b'1')] {
            let mut changed = body.clone();
            changed[digit] = other;
            assert_eq!(Stamp::read(&changed), None, "digit {digit}");
        }
    }
}
