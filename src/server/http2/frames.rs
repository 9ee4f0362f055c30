//! Parses the frame headers of what the client sends, beside h2: counts frames without content
//! (control frames and empty DATA frames), and detects an incomplete preface or request head. The
//! bytes reach h2 unchanged.
//!
//! h2 answers every PING and SETTINGS frame, without a limit. One frame is cheap, but a flood of
//! them is an attack (CVE-2019-9512, -9515, -9518).

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use tokio::time::Instant;

use crate::server::{preface::PREFACE, rewind::Rewind, write_progress::WriteProgress};

/// Counts of a client's frames. The transport counts, and the task of the connection closes it if
/// there are too many.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Frames without a request or content, in the current period.
    idle_frames: Cell<u32>,
    are_too_many: Cell<bool>,
    period_began: Cell<Option<Instant>>,
    /// Bytes that the socket had accepted for sending when the period began.
    taken_before: Cell<u64>,
    /// Whether the preface or a request head is incomplete: it then has a deadline.
    is_partial: Cell<bool>,
    /// How often `is_partial` became true.
    partials: Cell<u64>,
}

impl Frames {
    /// Whether the client sent more frames without content than allowed. The transport then stops
    /// reading.
    pub(super) fn are_too_many(&self) -> bool {
        self.are_too_many.get()
    }

    /// The number of the preface or request head that is incomplete now, or `None`. Each has a
    /// number of its own, so that the caller starts a new deadline for each.
    pub(super) fn partial(&self) -> Option<u64> {
        self.is_partial.get().then(|| self.partials.get())
    }

    /// Counts frames without content. `taken` are the bytes that the socket has accepted for
    /// sending so far. Each KiB of them within the period allows one more frame, since a client
    /// that reads answers sends WINDOW_UPDATE frames.
    fn count_idle(&self, frames: u32, frames_max: u32, taken: u64) {
        let now = Instant::now();
        if self.period_began.get().is_none_or(|began| now - began >= PERIOD) {
            self.period_began.set(Some(now));
            self.idle_frames.set(0);
            self.taken_before.set(taken);
        }
        self.idle_frames.set(self.idle_frames.get().saturating_add(frames));
        let earned = (taken - self.taken_before.get()) / 1_024;
        let allowed = u64::from(frames_max) + earned;
        self.are_too_many.set(u64::from(self.idle_frames.get()) > allowed);
    }

    fn set_partial(&self, is_partial: bool) {
        if is_partial && !self.is_partial.get() {
            self.partials.set(self.partials.get() + 1);
        }
        self.is_partial.set(is_partial);
    }
}

/// Finds the frame headers in a byte stream (RFC 9113, section 4.1), however the reads divide it.
#[derive(Debug)]
struct Scanner {
    /// Bytes of the preface that are still to come.
    preface_left: usize,
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    payload_left: usize,
    /// A HEADERS frame came without END_HEADERS, and the CONTINUATION frame with it has not come
    /// yet.
    expects_continuation: bool,
    /// The current payload belongs to a HEADERS or CONTINUATION frame.
    payload_is_head: bool,
    /// The next frame is the client's first, its SETTINGS.
    is_first: bool,
}

impl Scanner {
    fn new() -> Self {
        Self {
            preface_left: PREFACE.len(),
            header: [0; HEADER_BYTES],
            header_filled: 0,
            payload_left: 0,
            expects_continuation: false,
            payload_is_head: false,
            is_first: true,
        }
    }

    /// Scans the next bytes; returns how many frames without content begin in them.
    fn scan(&mut self, mut bytes: &[u8]) -> u32 {
        let mut idle = 0;
        let preface = self.preface_left.min(bytes.len());
        self.preface_left -= preface;
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let taken = self.payload_left.min(bytes.len());
                self.payload_left -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            let taken = (HEADER_BYTES - self.header_filled).min(bytes.len());
            self.header[self.header_filled..][..taken].copy_from_slice(&bytes[..taken]);
            self.header_filled += taken;
            bytes = &bytes[taken..];
            if self.header_filled == HEADER_BYTES {
                self.header_filled = 0;
                idle += u32::from(self.begin_frame());
            }
        }
        idle
    }

    /// Begins the frame of a complete frame header; true if the frame has no content.
    fn begin_frame(&mut self) -> bool {
        let [a, b, c, kind, flags, ..] = self.header;
        self.payload_left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.payload_is_head = matches!(kind, HEADERS | CONTINUATION);
        if self.payload_is_head {
            self.expects_continuation = flags & END_HEADERS == 0;
        }
        // The first SETTINGS frame is part of the preface (section 3.4), so it is not counted.
        let is_first = std::mem::take(&mut self.is_first);
        match kind {
            DATA => self.payload_left == 0 && flags & END_STREAM == 0,
            HEADERS => false,
            _ => !is_first,
        }
    }

    /// Whether a preface or head is incomplete, and so has a deadline.
    fn is_partial(&self) -> bool {
        self.preface_left > 0
            || self.is_first
            || self.expects_continuation
            || (self.payload_is_head && self.payload_left > 0)
    }
}

/// The transport of an HTTP/2 connection.
pub(super) struct FramedIo {
    io: Rewind,
    scanner: Scanner,
    frames: Rc<Frames>,
    frames_max: u32,
    progress: Rc<WriteProgress>,
}

impl FramedIo {
    /// Reads until more than `frames_max` frames without content came in a [`PERIOD`].
    pub(super) fn new(
        io: Rewind,
        progress: Rc<WriteProgress>,
        frames: Rc<Frames>,
        frames_max: u32,
    ) -> Self {
        let scanner = Scanner::new();
        frames.set_partial(true);
        Self { io, scanner, frames, frames_max, progress }
    }
}

impl Read for FramedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.frames.are_too_many() {
            // The connection is about to be closed.
            return Poll::Pending;
        }
        // What was put into hyper's cursor cannot be read from it, so the bytes are read into a
        // buffer of our own first.
        let mut bytes = [0; READ_BYTES_MAX];
        let room = bytes.len().min(buffer.remaining());
        let mut read = ReadBuf::new(&mut bytes[..room]);
        ready!(Pin::new(&mut self.io).poll_read(context, read.unfilled()))?;
        let idle = self.scanner.scan(read.filled());
        if idle > 0 {
            self.frames.count_idle(idle, self.frames_max, self.progress.taken());
        }
        self.frames.set_partial(self.scanner.is_partial());
        buffer.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for FramedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }
}

/// The period over which frames without content and resets are counted.
pub(super) const PERIOD: Duration = Duration::from_secs(10);
const HEADER_BYTES: usize = 9;
const READ_BYTES_MAX: usize = 8 * 1024;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn frames_are_counted_however_their_bytes_are_cut() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(4, 0, &[0; 18]));
        bytes.extend(frame(HEADERS, END_HEADERS, b"head"));
        bytes.extend(frame(6, 0, b"12345678"));
        bytes.extend(frame(DATA, 0, b""));
        bytes.extend(frame(DATA, 0, b"content"));
        bytes.extend(frame(DATA, END_STREAM, b""));
        bytes.extend(frame(8, 0, &[0; 4]));
        for piece in 1..bytes.len() {
            let mut scanner = Scanner::new();
            let idle: u32 = bytes.chunks(piece).map(|piece| scanner.scan(piece)).sum();
            assert_eq!(idle, 3, "the ping, the empty DATA, the window: in pieces of {piece}");
            assert!(!scanner.is_partial());
        }
    }

    #[test]
    fn preface_and_heads_are_partial_until_they_end() {
        let mut scanner = Scanner::new();
        scanner.scan(&PREFACE[..10]);
        assert!(scanner.is_partial());
        scanner.scan(&PREFACE[10..]);
        assert!(scanner.is_partial(), "the first SETTINGS frame is part of the preface");
        scanner.scan(&frame(4, 0, b""));
        assert!(!scanner.is_partial());
        let head = frame(HEADERS, 0, b"some");
        scanner.scan(&head[..11]);
        assert!(scanner.is_partial());
        scanner.scan(&head[11..]);
        assert!(scanner.is_partial(), "more is to come");
        scanner.scan(&frame(CONTINUATION, 0, b"more"));
        assert!(scanner.is_partial());
        scanner.scan(&frame(CONTINUATION, END_HEADERS, b"end"));
        assert!(!scanner.is_partial());
        scanner.scan(&frame(DATA, 0, b"12345")[..12]);
        assert!(!scanner.is_partial(), "a body has a timeout of its own");
    }
}
