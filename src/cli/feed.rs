//! The events of a file or of stdin, read on a thread of their own.
//!
//! Reading may block for ever, on a terminal for instance, and a thread does not keep the
//! process from ending. It runs ahead of publishing by [`CHUNKS_AHEAD_MAX`] chunks.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::thread;

use serde::Deserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::sync::mpsc;
use visnyk::client::{Envelope, EnvelopeError};

/// How input becomes events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FeedFormat {
    /// Every line is the data of an event.
    Lines,
    /// Every line is an envelope; blank lines are skipped.
    Ndjson,
    /// Every element of one JSON array is the data of an event.
    JsonArray,
}

impl FeedFormat {
    /// What [`Record::number`] counts.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Lines | Self::Ndjson => "line",
            Self::JsonArray => "element",
        }
    }
}

/// One event of the input.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) envelope: Envelope,
    /// The line or the element that the event is, counted from 1.
    pub(crate) number: u64,
    /// Bytes of input up to its end.
    pub(crate) bytes_read: u64,
}

/// Why the input ended early. The events before the error are returned first.
#[derive(Debug, Error)]
pub(crate) enum FeedError {
    #[error("reading failed")]
    Read(#[from] io::Error),
    #[error("line {number} is longer than {max} bytes")]
    TooLong { number: u64, max: u64 },
    #[error("line {number} is not UTF-8")]
    NotUtf8 { number: u64 },
    #[error("line {number}")]
    NotAnEnvelope { number: u64, source: EnvelopeError },
    #[error("after element {number}: not a JSON array")]
    NotAnArray { number: u64, source: serde_json::Error },
}

/// The reading end.
#[derive(Debug)]
pub(crate) struct Feed {
    chunks: mpsc::Receiver<Result<Vec<Record>, FeedError>>,
    /// The size of a file.
    pub(crate) bytes_total: Option<u64>,
}

impl Feed {
    /// Opens `file`, or stdin without one, and begins to read.
    pub(crate) fn open(file: Option<&Path>, format: FeedFormat) -> io::Result<Self> {
        let (input, bytes_total): (Box<dyn Read + Send>, _) = match file {
            Some(path) => {
                let file = File::open(path)?;
                let metadata = file.metadata()?;
                if metadata.is_dir() {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                (Box::new(file), Some(metadata.len()).filter(|_| metadata.is_file()))
            }
            None => (Box::new(io::stdin()), None),
        };
        Ok(Self { chunks: read_on_a_thread(input, format), bytes_total })
    }

    /// The next events: as many as are there, at least one; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Record>>, FeedError> {
        self.chunks.recv().await.transpose()
    }

    /// The next events if they have been read already.
    pub(crate) fn next_ready(&mut self) -> Option<Result<Vec<Record>, FeedError>> {
        self.chunks.try_recv().ok()
    }
}

/// The format that a file's name stands for.
pub(crate) fn format_of(file: &Path) -> FeedFormat {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("ndjson" | "jsonl") => FeedFormat::Ndjson,
        _ => FeedFormat::Lines,
    }
}

fn read_on_a_thread(
    input: Box<dyn Read + Send>,
    format: FeedFormat,
) -> mpsc::Receiver<Result<Vec<Record>, FeedError>> {
    let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD_MAX);
    thread::spawn(move || {
        let mut reader = Reader { records: Vec::new(), bytes: 0, bytes_sent: 0, number: 0, sender };
        let input = BufReader::with_capacity(CHUNK_BYTES, input);
        let result = match format {
            FeedFormat::JsonArray => reader.read_array(input),
            FeedFormat::Lines | FeedFormat::Ndjson => reader.read_lines(input, format),
        };
        reader.send();
        if let Err(error) = result {
            // Publishing has failed already and dropped the receiver.
            let _ = reader.sender.blocking_send(Err(error));
        }
    });
    chunks
}

struct Reader {
    records: Vec<Record>,
    bytes: u64,
    bytes_sent: u64,
    number: u64,
    sender: mpsc::Sender<Result<Vec<Record>, FeedError>>,
}

impl Reader {
    fn read_lines(
        &mut self,
        mut input: BufReader<impl Read>,
        format: FeedFormat,
    ) -> Result<(), FeedError> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = (&mut input).take(LINE_BYTES_MAX + 2).read_until(b'\n', &mut line)?;
            if length == 0 {
                return Ok(());
            }
            self.bytes += length as u64;
            let number = self.number + 1;
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if text.len() as u64 > LINE_BYTES_MAX {
                return Err(FeedError::TooLong { number, max: LINE_BYTES_MAX });
            }
            let text = str::from_utf8(text).map_err(|_| FeedError::NotUtf8 { number })?;
            // A byte order mark does not belong to the first line.
            let is_first = self.bytes == length as u64;
            let text = text.strip_prefix('\u{feff}').filter(|_| is_first).unwrap_or(text);
            if format == FeedFormat::Lines {
                self.push(Envelope::text(text));
            } else if text.trim_ascii().is_empty() {
                self.number += 1;
            } else {
                let envelope = Envelope::parse(text)
                    .map_err(|source| FeedError::NotAnEnvelope { number, source })?;
                self.push(envelope);
            }
            // Bytes that wait in the buffer can still join; bytes still to be typed cannot.
            if !input.buffer().contains(&b'\n') && !self.send() {
                return Ok(());
            }
        }
    }

    fn read_array(&mut self, mut input: BufReader<impl Read>) -> Result<(), FeedError> {
        if input.fill_buf()?.starts_with("\u{feff}".as_bytes()) {
            input.consume("\u{feff}".len());
        }
        let mut deserializer = serde_json::Deserializer::from_reader(input);
        let result =
            (&mut deserializer).deserialize_seq(Elements(self)).and_then(|()| deserializer.end());
        result.map_err(|source| FeedError::NotAnArray { number: self.number, source })
    }

    fn push(&mut self, envelope: Envelope) {
        self.number += 1;
        let (number, bytes_read) = (self.number, self.bytes);
        self.records.push(Record { envelope, number, bytes_read });
    }

    /// Sends the gathered events, once the channel has room; false if the receiver is gone.
    fn send(&mut self) -> bool {
        self.bytes_sent = self.bytes;
        let records = std::mem::take(&mut self.records);
        records.is_empty() || self.sender.blocking_send(Ok(records)).is_ok()
    }
}

/// Takes the elements of an array one by one, so that a file of any size passes through.
struct Elements<'a>(&'a mut Reader);

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<Box<RawValue>>()? {
            let length = element.get().len() as u64;
            if length > LINE_BYTES_MAX {
                return Err(de::Error::custom(format!("longer than {LINE_BYTES_MAX} bytes")));
            }
            // With the comma and the line end that usually follow it.
            self.0.bytes += length + 2;
            self.0.push(Envelope::json(&element));
            if self.0.bytes - self.0.bytes_sent > CHUNK_BYTES as u64 && !self.0.send() {
                return Err(de::Error::custom("publishing has ended"));
            }
        }
        Ok(())
    }
}

/// Chunks that are read but not yet published.
const CHUNKS_AHEAD_MAX: usize = 4;
/// Bytes of input after which gathered events are sent; a single line may be longer.
const CHUNK_BYTES: usize = 64 * 1024;
/// One line or element. A hub takes far less by default; this keeps a file without line ends from
/// filling the memory.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines a batch would send, then the error.
    async fn read(input: impl Into<Vec<u8>>, format: FeedFormat) -> Vec<String> {
        let input = Box::new(io::Cursor::new(input.into()));
        let mut feed = Feed { chunks: read_on_a_thread(input, format), bytes_total: None };
        let mut seen = Vec::new();
        loop {
            match feed.next().await {
                Ok(None) => return seen,
                Ok(Some(records)) => seen.extend(records.into_iter().map(|record| {
                    let json = serde_json::to_string(&record.envelope).expect("an envelope");
                    format!("{} {json}", record.number)
                })),
                Err(error) => {
                    seen.push(error.to_string());
                    return seen;
                }
            }
        }
    }

    #[tokio::test]
    async fn every_line_is_an_event_even_an_empty_or_unfinished_one() {
        assert_eq!(
            read("a\r\n\nb", FeedFormat::Lines).await,
            [r#"1 {"data":"a"}"#, r#"2 {"data":""}"#, r#"3 {"data":"b"}"#]
        );
        assert!(read("", FeedFormat::Lines).await.is_empty());
        let marked = read("\u{feff}a\n\u{feff}b", FeedFormat::Lines).await;
        assert_eq!(marked, [r#"1 {"data":"a"}"#, "2 {\"data\":\"\u{feff}b\"}"]);
    }

    #[tokio::test]
    async fn envelopes_up_to_the_bad_line_are_handed_out() {
        assert_eq!(
            read("{\"data\":1}\n\n{\"data\":2,\"type\":\"t\"}\n{]\n", FeedFormat::Ndjson).await,
            [r#"1 {"data":1}"#, r#"3 {"data":2,"type":"t"}"#, "line 4"]
        );
        assert_eq!(read(b"a\n\xFF\n", FeedFormat::Lines).await[1], "line 2 is not UTF-8");
        let marked = read("\u{feff}{\"data\":1}\n[\"x\"]\n", FeedFormat::Ndjson).await;
        assert_eq!(marked, [r#"1 {"data":1}"#, "line 2"], "an array is not an envelope");
    }

    #[tokio::test]
    async fn elements_are_compact_events() {
        assert_eq!(
            read("[ {\"a\": 1},\n \"x\", [ ] ]\n", FeedFormat::JsonArray).await,
            [r#"1 {"data":{"a":1}}"#, r#"2 {"data":"x"}"#, r#"3 {"data":[]}"#]
        );
        let marked = read("\u{feff}[1]", FeedFormat::JsonArray).await;
        assert_eq!(marked, [r#"1 {"data":1}"#], "behind a byte order mark");
        for (input, read_before) in [("{}", 0), ("[1,2", 2), ("[1] 2", 1), ("", 0)] {
            let seen = read(input, FeedFormat::JsonArray).await;
            let error = format!("after element {read_before}: not a JSON array");
            assert_eq!(seen.last(), Some(&error), "{input}");
        }
    }

    #[tokio::test]
    async fn line_bound_at_and_above() {
        let max = LINE_BYTES_MAX as usize;
        for (length, ending, fits) in
            [(max, "\n", true), (max, "\r\n", true), (max, "", true), (max + 1, "\n", false)]
        {
            let seen = read("x".repeat(length) + ending, FeedFormat::Lines).await;
            assert_eq!(seen.len(), 1);
            assert_eq!(!seen[0].starts_with("line 1 is longer"), fits, "{length} {ending:?}");
        }
    }

    #[tokio::test]
    async fn more_input_than_may_wait_comes_in_order() {
        let lines: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
        let seen = read(lines, FeedFormat::Lines).await;
        assert_eq!(seen.len(), 200_000);
        for (index, line) in seen.iter().enumerate() {
            assert_eq!(*line, format!("{n} {{\"data\":\"{n}\"}}", n = index + 1));
        }
    }

    #[test]
    fn format_follows_the_name() {
        for (name, format) in [
            ("a.ndjson", FeedFormat::Ndjson),
            ("a.jsonl", FeedFormat::Ndjson),
            ("a.csv", FeedFormat::Lines),
            ("jsonl", FeedFormat::Lines),
        ] {
            assert_eq!(format_of(Path::new(name)), format);
        }
    }
}
