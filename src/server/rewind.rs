//! A socket under the HTTP server that gives back bytes read too early, and knows whether all
//! that the server wrote has gone out.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;

use super::{preface::PREFACE, write_progress::WriteProgress};
use crate::actors::Socket;

/// A socket with bytes that come before what it still has.
pub(super) struct Rewind {
    io: TokioIo<Socket>,
    early: Bytes,
    /// Whether the first bytes are still to be looked at.
    is_new: bool,
    progress: Rc<WriteProgress>,
}

impl Rewind {
    /// `progress` is kept up to date about what the server writes.
    pub(super) fn new(io: Socket, early: Bytes, progress: Rc<WriteProgress>) -> Self {
        Self { io: TokioIo::new(io), early, is_new: false, progress }
    }

    /// A socket of which nothing was read, or what may become the preface of HTTP/2. If it does,
    /// `progress` is set, the server reads nothing, and the preface is among the bytes to be taken.
    pub(super) fn new_client(io: Socket, early: Bytes, progress: Rc<WriteProgress>) -> Self {
        Self { io: TokioIo::new(io), early, is_new: true, progress }
    }

    /// The socket; what was not read yet of the early bytes must be taken from the server.
    pub(super) fn into_inner(self) -> (Socket, Bytes) {
        (self.io.into_inner(), self.early)
    }

    /// Reads until it is clear that a client does not speak HTTP/2, or that it does. It costs a copy
    /// of the first read: of the bytes that the server's buffer was given nothing can be seen.
    fn read_first(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; FIRST_BYTES_MAX];
        loop {
            let room = bytes.len().min(buffer.remaining().saturating_sub(self.early.len()));
            let mut read = ReadBuf::new(&mut bytes[..room]);
            ready!(Pin::new(&mut self.io).poll_read(context, read.unfilled()))?;
            let read = read.filled();
            let before = self.early.len();
            let matched = PREFACE.len().saturating_sub(before).min(read.len());
            if matched == 0 || read[..matched] != PREFACE[before..before + matched] {
                self.is_new = false;
                buffer.put_slice(&self.early);
                buffer.put_slice(read);
                self.early = Bytes::new();
                return Poll::Ready(Ok(()));
            }
            self.early = [&self.early, read].concat().into();
            if self.early.len() >= PREFACE.len() {
                self.is_new = false;
                self.progress.set_http2();
                return Poll::Pending;
            }
        }
    }

    fn note_written(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.progress.on_written(*bytes);
        }
    }
}

impl Read for Rewind {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_new {
            return self.read_first(context, &mut buffer);
        }
        if self.early.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let length = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early[..length]);
        self.early.advance(length);
        if self.early.is_empty() {
            // The connection may go on for long, and needs their buffer no more.
            self.early = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Rewind {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.progress.begin();
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.note_written(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(context);
        self.progress.flush(matches!(result, Poll::Ready(Ok(()))));
        result
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
        self.progress.begin();
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.note_written(&written);
        written
    }
}

/// Bytes of a first read: a request of a browser has about half of that.
const FIRST_BYTES_MAX: usize = 2 * 1024;
