//! An incremental parser for `text/event-stream`.
//!
//! Implements "Interpreting an event stream" of the WHATWG HTML standard, section 9.2.6, without
//! its browser side: it takes bytes in pieces of any size and gives back what they mean. It does
//! no I/O and never keeps more than [`SseLimits`] allow.

use std::time::Duration;

use thiserror::Error;

/// What a stream said, in the order in which it said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SseItem {
    /// An event: a block that had data.
    Event(SseEvent),
    /// A block without data gave the last event id a new value.
    Position(String),
    /// The reconnection time changed.
    Retry(Duration),
    /// A comment that is not empty, without its colon and the one space that may follow it.
    Comment(String),
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event` field, or `message`.
    pub event_type: String,
    /// The `data` fields, joined by line feeds.
    pub data: String,
    /// The last event id as it stands after this event; empty if the stream never gave one.
    pub id: String,
}

/// How much of a stream is held while it is incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SseLimits {
    /// Bytes of one line without its end. Past it: [`SseError::LineTooLong`].
    pub line_bytes_max: usize,
    /// Bytes of one event: its data with a line feed for each line, its type and its id. Past
    /// it: [`SseError::EventTooLarge`].
    pub event_bytes_max: usize,
}

impl Default for SseLimits {
    /// 8 MiB each: an event of 1 MiB, the default body limit of a hub, fits even if JSON escapes
    /// every byte of it.
    fn default() -> Self {
        Self { line_bytes_max: 8 * 1024 * 1024, event_bytes_max: 8 * 1024 * 1024 }
    }
}

/// Why a stream cannot be read on. The parser stays failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SseError {
    /// A line did not end in time.
    #[error("a line of the stream is longer than {max} bytes")]
    LineTooLong {
        /// [`SseLimits::line_bytes_max`].
        max: usize,
    },
    /// An event did not end in time.
    #[error("an event of the stream is larger than {max} bytes")]
    EventTooLarge {
        /// [`SseLimits::event_bytes_max`].
        max: usize,
    },
}

/// The parser: one for each response body, since an unfinished block ends with its connection.
#[derive(Debug, Default)]
pub struct SseParser {
    limits: SseLimits,
    /// The rest of a line whose end has not come yet.
    line: Vec<u8>,
    /// The last line ended in CR: if LF is next, it belongs to it.
    after_cr: bool,
    /// The first line is through, and with it the byte order mark.
    begun: bool,
    event_type: String,
    /// Each data line with a line feed; the last of them falls away when the event is made.
    data: String,
    /// The "last event ID buffer".
    id: String,
    /// The last id that a finished block gave.
    id_given: String,
    failed: Option<SseError>,
}

impl SseParser {
    /// A parser at the start of a stream. The last event id is empty.
    pub fn new(limits: SseLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Reads the next piece of the stream and appends what it completes to `items`.
    ///
    /// How the bytes are cut into pieces makes no difference, errors included: what stands
    /// before the error is in `items`.
    pub fn push(&mut self, mut piece: &[u8], items: &mut Vec<SseItem>) -> Result<(), SseError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.read(&mut piece, items);
        self.failed = result.err();
        result
    }

    fn read(&mut self, piece: &mut &[u8], items: &mut Vec<SseItem>) -> Result<(), SseError> {
        loop {
            if self.after_cr && !piece.is_empty() {
                self.after_cr = false;
                *piece = piece.strip_prefix(b"\n").unwrap_or(piece);
            }
            let end = piece.iter().position(|&byte| byte == b'\n' || byte == b'\r');
            let (part, rest) = piece.split_at(end.unwrap_or(piece.len()));
            if self.line.len() + part.len() > self.limits.line_bytes_max {
                return Err(SseError::LineTooLong { max: self.limits.line_bytes_max });
            }
            let Some((&terminator, rest)) = rest.split_first() else {
                self.line.extend_from_slice(part);
                return Ok(());
            };
            self.after_cr = terminator == b'\r';
            *piece = rest;
            if self.line.is_empty() {
                self.read_line(part, items)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(part);
                self.read_line(&line, items)?;
            }
        }
    }

    fn read_line(&mut self, mut line: &[u8], items: &mut Vec<SseItem>) -> Result<(), SseError> {
        if !self.begun {
            self.begun = true;
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            self.end_block(items);
            return Ok(());
        }
        let (name, value) = match line.iter().position(|&byte| byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        let value = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value));
        match name {
            // A comment: the line begins with a colon.
            b"" if !value.is_empty() => items.push(SseItem::Comment(value.into_owned())),
            b"data" => {
                self.data.push_str(&value);
                self.data.push('\n');
            }
            b"event" => self.event_type = value.into_owned(),
            b"id" if !value.contains('\0') => self.id = value.into_owned(),
            b"retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                // A number beyond u64 is not a valid time: ignored like any malformed value.
                if let Ok(ms) = value.parse() {
                    items.push(SseItem::Retry(Duration::from_millis(ms)));
                }
            }
            _ => {}
        }
        if self.data.len() + self.event_type.len() + self.id.len() > self.limits.event_bytes_max {
            return Err(SseError::EventTooLarge { max: self.limits.event_bytes_max });
        }
        Ok(())
    }

    fn end_block(&mut self, items: &mut Vec<SseItem>) {
        let id_is_new = self.id != self.id_given;
        if id_is_new {
            self.id_given.clone_from(&self.id);
        }
        let event_type = std::mem::take(&mut self.event_type);
        if self.data.pop().is_some() {
            let event_type = if event_type.is_empty() { "message".to_owned() } else { event_type };
            let data = std::mem::take(&mut self.data);
            items.push(SseItem::Event(SseEvent { event_type, data, id: self.id.clone() }));
        } else if id_is_new {
            items.push(SseItem::Position(self.id.clone()));
        }
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(stream: impl AsRef<[u8]>) -> Vec<SseItem> {
        let mut items = Vec::new();
        SseParser::default().push(stream.as_ref(), &mut items).expect("within the limits");
        items
    }

    fn event(event_type: &str, data: &str, id: &str) -> SseItem {
        SseItem::Event(SseEvent { event_type: event_type.into(), data: data.into(), id: id.into() })
    }

    #[test]
    fn examples_of_the_standard() {
        assert_eq!(
            parse("data: YHOO\ndata: +2\ndata: 10\n\n"),
            [event("message", "YHOO\n+2\n10", "")]
        );
        assert_eq!(
            parse(
                ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n"
            ),
            [
                SseItem::Comment("test stream".into()),
                event("message", "first event", "1"),
                event("message", "second event", ""),
            ]
        );
        assert_eq!(
            parse("data\n\ndata\ndata\n\ndata:"),
            [event("message", "", ""), event("message", "\n", "")]
        );
        assert_eq!(
            parse("data:test\n\ndata: test\n\n"),
            [event("message", "test", ""), event("message", "test", "")]
        );
    }

    #[test]
    fn each_kind_of_line_end_counts_once() {
        assert_eq!(
            parse("data:a\rdata:b\r\ndata:c\n\r\ndata:d\r\rdata:e\n\n"),
            [event("message", "a\nb\nc", ""), event("message", "d", ""), event("message", "e", "")]
        );
    }

    #[test]
    fn only_the_first_byte_order_mark_is_skipped() {
        assert_eq!(parse(b"\xEF\xBB\xBFdata:a\n\n"), [event("message", "a", "")]);
        assert_eq!(parse(b"\xEF\xBB\xBF\xEF\xBB\xBFdata:a\n\n"), []);
        assert_eq!(parse(b"\n\xEF\xBB\xBFdata:a\n\n"), []);
    }

    #[test]
    fn block_without_data_moves_the_position_and_forgets_its_type() {
        assert_eq!(
            parse("event: lost\nid: 7\n\nid: 7\n\ndata: a\n\nid: 8\n\n"),
            [
                SseItem::Position("7".into()),
                event("message", "a", "7"),
                SseItem::Position("8".into())
            ]
        );
    }

    #[test]
    fn id_with_nul_is_ignored() {
        assert_eq!(
            parse("id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n"),
            [event("message", "a", "1"), event("message", "b", "1")]
        );
    }

    #[test]
    fn retry_takes_digits_only() {
        assert_eq!(
            parse("retry: 1500\nretry: 1.5\nretry: -1\nretry:\nretry: 99999999999999999999999\n"),
            [SseItem::Retry(Duration::from_millis(1500))]
        );
    }

    #[test]
    fn unknown_fields_and_other_spellings_are_ignored() {
        assert_eq!(parse("Data: a\n data: b\ndata : c\nfoo: d\n:\n\n"), []);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        assert_eq!(parse(b"data: a\xFFb\n\n"), [event("message", "a\u{FFFD}b", "")]);
    }

    #[test]
    fn unfinished_block_is_no_event() {
        assert_eq!(parse("data: a\nid: 1\n"), []);
    }

    #[test]
    fn line_bound_at_below_and_above() {
        let limits = SseLimits { line_bytes_max: 8, event_bytes_max: 100 };
        for (line, fits) in [("data: a", true), ("data: ab", true), ("data: abc", false)] {
            for ending in ["", "\n\n"] {
                let mut items = Vec::new();
                let result =
                    SseParser::new(limits).push(format!("{line}{ending}").as_bytes(), &mut items);
                assert_eq!(result.is_ok(), fits, "{line}{ending:?}");
            }
        }
    }

    #[test]
    fn event_bound_at_below_and_above_and_what_came_before_it_is_kept() {
        let limits = SseLimits { line_bytes_max: 100, event_bytes_max: 6 };
        for (block, fits) in
            [("data:a\ndata:b", true), ("data:ab\ndata:cd", true), ("data:ab\ndata:cde", false)]
        {
            let mut parser = SseParser::new(limits);
            let mut items = Vec::new();
            let stream = format!("data:x\n\n{block}\n\n");
            let result = parser.push(stream.as_bytes(), &mut items);
            assert_eq!(result.is_ok(), fits, "{block}");
            assert_eq!(items[0], event("message", "x", ""));
            if !fits {
                assert_eq!(parser.push(b"\n", &mut items), result);
                assert_eq!(items.len(), 1);
            }
        }
    }

    /// Bytes that often have a meaning in the format.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            Just(b"data".to_vec()),
            Just(b"event".to_vec()),
            Just(b"id".to_vec()),
            Just(b"retry".to_vec()),
            Just(b": ".to_vec()),
            Just(b":".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\n\n".to_vec()),
            Just(BYTE_ORDER_MARK.to_vec()),
            "[0-9]{1,3}".prop_map(String::into_bytes),
            "\\PC{0,3}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(word, 0..60).prop_map(|words| words.concat())
    }

    /// The same standard on the whole text at once, as simply as possible.
    fn model(stream: &[u8]) -> Vec<SseItem> {
        let text = String::from_utf8_lossy(stream);
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(&text);
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let mut lines: Vec<&str> = text.split('\n').collect();
        lines.pop();
        let (mut items, mut kind, mut data) = (Vec::new(), "message", Vec::new());
        let (mut id, mut given) = ("", "");
        for line in lines {
            if line.is_empty() {
                if !data.is_empty() {
                    items.push(event(kind, &data.join("\n"), id));
                } else if id != given {
                    items.push(SseItem::Position(id.into()));
                }
                (kind, given) = ("message", id);
                data.clear();
                continue;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "" if !value.is_empty() => items.push(SseItem::Comment(value.into())),
                "data" => data.push(value),
                "event" => kind = if value.is_empty() { "message" } else { value },
                "id" if !value.contains('\0') => id = value,
                "retry" if value.chars().all(|c| c.is_ascii_digit()) => {
                    items.extend(
                        value.parse().ok().map(|ms| SseItem::Retry(Duration::from_millis(ms))),
                    );
                }
                _ => {}
            }
        }
        items
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_items(
            stream in stream(),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut parser = SseParser::default();
            let mut items = Vec::new();
            for cut in cuts.windows(2) {
                parser.push(&stream[cut[0]..cut[1]], &mut items).expect("within the limits");
            }
            prop_assert_eq!(&items, &parse(&stream));
            prop_assert_eq!(items, model(&stream));
        }

        #[test]
        fn any_split_gives_the_same_error(stream in stream(), size in 1usize..9) {
            let limits = SseLimits { line_bytes_max: 12, event_bytes_max: 16 };
            let (mut whole, mut pieces) = (Vec::new(), Vec::new());
            let expected = SseParser::new(limits).push(&stream, &mut whole);
            let mut parser = SseParser::new(limits);
            let result = stream.chunks(size).try_for_each(|piece| parser.push(piece, &mut pieces));
            prop_assert_eq!(result, expected);
            prop_assert_eq!(pieces, whole);
        }
    }
}
