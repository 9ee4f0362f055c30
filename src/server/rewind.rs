//! The I/O object that hyper reads and writes: first yields bytes that were read before hyper
//! started, and records how much of what hyper writes the kernel has accepted.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;

use super::write_progress::WriteProgress;
use crate::actors::Socket;

/// A socket, and bytes that are yielded before those of the socket.
pub(super) struct Rewind {
    io: TokioIo<Socket>,
    read_ahead: Bytes,
    progress: Rc<WriteProgress>,
}

impl Rewind {
    /// A socket after `read_ahead`. `progress` records what hyper writes.
    pub(super) fn new(io: Socket, read_ahead: Bytes, progress: Rc<WriteProgress>) -> Self {
        Self { io: TokioIo::new(io), read_ahead, progress }
    }

    /// The socket, and the bytes read ahead that hyper has not read.
    pub(super) fn into_inner(self) -> (Socket, Bytes) {
        (self.io.into_inner(), self.read_ahead)
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
        if self.read_ahead.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let length = self.read_ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.read_ahead[..length]);
        self.read_ahead.advance(length);
        if self.read_ahead.is_empty() {
            // Frees the buffer, since the connection may last long.
            self.read_ahead = Bytes::new();
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
