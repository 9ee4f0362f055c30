//! The SSE text of an event within its chunk of HTTP/1.1, encoded once and shared as [`Bytes`].
//!
//! Field order is `event`, `retry`, `data` (a line each), `id`. The id comes last, so everything
//! before it is encoded by the publisher's task and only the id, and the size of the chunk, by the
//! log. Source: WHATWG HTML, section 9.2 "Server-sent events".

use std::{borrow::Cow, io::Write as _};

use bytes::Bytes;
use memchr::memchr2;

use super::{
    Epoch, EventType, NewEvent, Position, Seq,
    chunk::{CHUNK_HEAD_BYTES, CHUNK_TAIL_BYTES, end_chunk},
};

/// A frame that has no id yet.
#[derive(Debug)]
pub struct Draft {
    /// Room for the head of the chunk, and the text.
    bytes: Vec<u8>,
    type_len: u16,
    data: (u32, u32),
}

impl Draft {
    /// Encodes everything but the id.
    pub fn new(event: &NewEvent) -> Self {
        let event_type = event.event_type.as_ref().map(EventType::as_str);
        Self::encode(event_type, event.retry_ms, &event.data)
    }

    /// The event that tells subscribers that a channel is closed.
    pub fn closed(channel: &str) -> Self {
        Self::encode(Some("visnyk.closed"), None, channel)
    }

    fn encode(event_type: Option<&str>, retry_ms: Option<u32>, data: &str) -> Self {
        let mut text = Vec::with_capacity(data.len() + 80 + event_type.map_or(0, str::len));
        text.extend_from_slice(&[0; CHUNK_HEAD_BYTES]);
        if let Some(event_type) = event_type {
            field(&mut text, EVENT, event_type.as_bytes());
        }
        if let Some(retry) = retry_ms {
            let _ = writeln!(text, "retry: {retry}");
        }
        let start = text.len() + DATA.len();
        for line in Lines(Some(data)) {
            field(&mut text, DATA, line.as_bytes());
        }
        let end = text.len() - 1;
        let offset = |at: usize| {
            u32::try_from(at - CHUNK_HEAD_BYTES).expect("bodies are bounded far below 4 GiB")
        };
        Self {
            type_len: event_type.map_or(0, |t| t.len() as u16),
            data: (offset(start), offset(end)),
            bytes: text,
        }
    }

    /// A draft of the parts that [`Frame::draft_parts`] gave; nothing if they do not fit together.
    pub fn from_parts(text: &str, type_len: u16, data_start: u32) -> Option<Self> {
        let data_end = Self::check_parts(text, type_len, data_start)?;
        // With room for the id and the end of the chunk.
        let mut bytes = Vec::with_capacity(text.len() + 80);
        bytes.extend_from_slice(&[0; CHUNK_HEAD_BYTES]);
        bytes.extend_from_slice(text.as_bytes());
        Some(Self { bytes, type_len, data: (data_start, data_end) })
    }

    /// Whether [`from_parts`](Self::from_parts) makes a draft of these parts: where its data ends.
    pub fn check_parts(text: &str, type_len: u16, data_start: u32) -> Option<u32> {
        let data = text.get(data_start as usize..text.len().checked_sub(1)?)?;
        let before = text.get(..data_start as usize)?;
        let is_valid = before.ends_with("data: ")
            && text.ends_with('\n')
            && !data.contains('\r')
            && (type_len == 0
                || before.starts_with("event: ")
                    && before.as_bytes().get(EVENT.len() + usize::from(type_len)) == Some(&b'\n'));
        u32::try_from(text.len() - 1).ok().filter(|_| is_valid)
    }

    /// What [`from_parts`](Self::from_parts) takes: the text, the length of its type, and where its
    /// data begins.
    pub fn parts(&self) -> (&[u8], u16, u32) {
        (&self.bytes[CHUNK_HEAD_BYTES..], self.type_len, self.data.0)
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of the frame that [`finish`](Self::finish) makes of it.
    pub fn finished_len(&self, id: Position) -> usize {
        FrameLength::of_epoch(id.epoch).of_text(self.bytes.len() - CHUNK_HEAD_BYTES, id.seq)
    }

    /// Never: a draft has at least a data line.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds the id, the blank line that ends the event, and the framing of the chunk.
    pub fn finish(self, id: Position) -> Frame {
        let Self { mut bytes, type_len, data } = self;
        bytes.extend_from_slice(ID);
        id.write_to(&mut bytes);
        bytes.extend_from_slice(b"\n\n");
        end_chunk(&mut bytes, 0);
        // History holds the frame for long: do not hold spare capacity with it.
        bytes.shrink_to_fit();
        Frame { bytes: bytes.into(), type_len, data }
    }
}

/// How long the frames of an epoch are, which is known before they are made.
#[derive(Debug, Clone, Copy)]
pub struct FrameLength {
    /// Bytes beside the text of the draft and the digits of the seq.
    other: usize,
}

impl FrameLength {
    /// That of the frames of an epoch.
    pub fn of_epoch(epoch: Epoch) -> Self {
        let mut id = Vec::with_capacity(Position::BYTES_MAX);
        Position { epoch, seq: Seq::ZERO }.write_to(&mut id);
        let text = ID.len() + id.len() - "0".len() + b"\n\n".len();
        Self { other: CHUNK_HEAD_BYTES + text + CHUNK_TAIL_BYTES }
    }

    /// Bytes of the frame of a draft with so many bytes of text.
    #[inline]
    pub fn of_text(self, text_bytes: usize, seq: Seq) -> usize {
        let digits = seq.0.checked_ilog10().map_or(1, |log| log as usize + 1);
        self.other + text_bytes + digits
    }
}

/// The SSE text of one event as a chunk, and where its parts are in it.
#[derive(Debug, Clone)]
pub struct Frame {
    bytes: Bytes,
    type_len: u16,
    data: (u32, u32),
}

impl Frame {
    /// The chunk: what an HTTP/1.1 client is sent.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole text, blank line included and without chunk framing.
    pub fn text(&self) -> &[u8] {
        &self.bytes[CHUNK_HEAD_BYTES..self.bytes.len() - CHUNK_TAIL_BYTES]
    }

    /// The value of the `retry` field, in milliseconds.
    pub fn retry_ms(&self) -> Option<u32> {
        let (head, _, data_start) = self.draft_parts();
        let head = text(&head[..data_start as usize]);
        head.lines().find_map(|line| line.strip_prefix("retry: ")?.parse().ok())
    }

    /// What the log keeps of it: the text without its id, the length of its type, and where its
    /// data begins.
    pub fn draft_parts(&self) -> (&[u8], u16, u32) {
        (&self.text()[..self.data.1 as usize + 1], self.type_len, self.data.0)
    }

    /// The value of the `event` field.
    pub fn event_type(&self) -> Option<&str> {
        let len = usize::from(self.type_len);
        (len > 0).then(|| text(&self.text()[EVENT.len()..EVENT.len() + len]))
    }

    /// The data lines, joined by LF.
    pub fn data(&self) -> Cow<'_, str> {
        let lines = text(&self.text()[self.data.0 as usize..self.data.1 as usize]);
        if lines.contains('\n') {
            Cow::Owned(lines.replace("\ndata: ", "\n"))
        } else {
            Cow::Borrowed(lines)
        }
    }
}

/// A line split at LF, CR LF or CR, each of which ends a line in an SSE stream.
struct Lines<'a>(Option<&'a str>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.take()?;
        match memchr2(b'\n', b'\r', text.as_bytes()) {
            None => Some(text),
            Some(end) => {
                let after = if text[end..].starts_with("\r\n") { end + 2 } else { end + 1 };
                self.0 = Some(&text[after..]);
                Some(&text[..end])
            }
        }
    }
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("a frame is written from strings and cut at ASCII")
}

const EVENT: &[u8] = b"event: ";
const DATA: &[u8] = b"data: ";
const ID: &[u8] = b"id: ";

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(event: &NewEvent) -> Frame {
        Draft::new(event).finish(Position { epoch: Epoch::new(0, 10), seq: Seq(7) })
    }

    #[test]
    fn fields_come_in_their_order() {
        let event = NewEvent {
            data: "one\ntwo".into(),
            event_type: Some(EventType::parse("tick").expect("a type")),
            retry_ms: Some(1500),
        };
        let position = Position { epoch: Epoch::new(0, 10), seq: Seq(7) };
        let len = Draft::new(&event).finished_len(position);
        let frame = frame(&event);
        assert_eq!(frame.bytes().len(), len);
        assert_eq!(frame.text(), b"event: tick\nretry: 1500\ndata: one\ndata: two\nid: a-7\n\n");
        assert_eq!(frame.event_type(), Some("tick"));
        assert_eq!(frame.data(), "one\ntwo");
        let (size, text) = (frame.text().len(), frame.text());
        assert_eq!(
            frame.bytes()[..],
            [format!("{size:08x}\r\n").as_bytes(), text, b"\r\n"].concat()
        );
    }

    #[test]
    fn the_length_of_a_frame_is_known_before_it_is_made() {
        for epoch in [0, 1, 35, 36, 1_295, 1_296, u64::MAX] {
            let powers = (0..20).map(|power| 10_u64.pow(power));
            for seq in powers.flat_map(|power| [power - 1, power]).chain([u64::MAX]) {
                let position = Position { epoch: Epoch::from_u64(epoch), seq: Seq(seq) };
                let draft = Draft::new(&NewEvent::message("x\ny"));
                let len = draft.finished_len(position);
                assert_eq!(draft.finish(position).bytes().len(), len, "{position}");
            }
        }
    }

    #[test]
    fn every_line_end_becomes_one_line() {
        for (data, carried) in [
            ("a\r\nb\rc\nd", "a\nb\nc\nd"),
            ("", ""),
            ("\n", "\n"),
            ("a\n", "a\n"),
            ("\r\r\n", "\n\n"),
            ("data: x\ndata: y", "data: x\ndata: y"),
        ] {
            assert_eq!(frame(&NewEvent::message(data)).data(), carried, "{data:?}");
        }
    }
}
