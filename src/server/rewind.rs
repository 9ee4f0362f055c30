//! A socket under the HTTP server that gives back bytes read too early, and knows whether all
//! that the server wrote has gone out.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;

use super::outgoing::Outgoing;
use crate::actors::Socket;

/// A socket with bytes that come before what it still has.
pub(super) struct Rewind {
    io: TokioIo<Socket>,
    early: Bytes,
    outgoing: Rc<Outgoing>,
}

impl Rewind {
    /// `outgoing` is kept up to date about what the server writes.
    pub(super) fn new(io: Socket, early: Bytes, outgoing: Rc<Outgoing>) -> Self {
        Self { io: TokioIo::new(io), early, outgoing }
    }

    /// The socket; what was not read yet of the early bytes must be taken from the server.
    pub(super) fn into_inner(self) -> (Socket, Bytes) {
        (self.io.into_inner(), self.early)
    }

    fn took(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.outgoing.took(*bytes);
        }
    }
}

impl Read for Rewind {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let length = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early[..length]);
        self.early.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl Write for Rewind {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.outgoing.begin();
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.took(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(context);
        self.outgoing.flush(matches!(result, Poll::Ready(Ok(()))));
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
        self.outgoing.begin();
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.took(&written);
        written
    }
}
