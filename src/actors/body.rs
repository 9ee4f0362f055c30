//! A stream that is pulled as an HTTP body: HTTP/2, TLS, or a server that embeds the hub.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use parking_lot::Mutex;

use super::peer::{Input, Peer, SlotWaker};

/// The body of a stream. Dropping it ends the connection.
#[derive(Debug)]
pub struct EventBody(Arc<Mutex<Pipe>>);

/// The shard's end of it.
#[derive(Debug)]
pub(crate) struct BodyPeer(Arc<Mutex<Pipe>>);

#[derive(Debug, Default)]
struct Pipe {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    reader: Option<Waker>,
    slot: Option<Arc<SlotWaker>>,
    writer_gone: bool,
    reader_gone: bool,
}

impl BodyPeer {
    /// Both ends of a pipe that holds at most [`PIPE_BYTES_MAX`] and one send.
    pub(crate) fn pair() -> (Self, EventBody) {
        let pipe = Arc::new(Mutex::new(Pipe::default()));
        (Self(Arc::clone(&pipe)), EventBody(pipe))
    }
}

impl Peer for BodyPeer {
    fn try_write(&mut self, bytes: &Bytes, waker: &Arc<SlotWaker>) -> io::Result<usize> {
        let mut pipe = self.0.lock();
        if pipe.reader_gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        pipe.slot = Some(Arc::clone(waker));
        if pipe.bytes >= PIPE_BYTES_MAX {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        pipe.bytes += bytes.len();
        pipe.chunks.push_back(bytes.clone());
        if let Some(reader) = pipe.reader.take() {
            drop(pipe);
            reader.wake();
        }
        Ok(bytes.len())
    }

    fn poll_input(&mut self, waker: &Arc<SlotWaker>) -> Input {
        let mut pipe = self.0.lock();
        pipe.slot = Some(Arc::clone(waker));
        if pipe.reader_gone { Input::Closed } else { Input::Quiet }
    }
}

impl Drop for BodyPeer {
    fn drop(&mut self) {
        let mut pipe = self.0.lock();
        pipe.writer_gone = true;
        pipe.slot = None;
        if let Some(reader) = pipe.reader.take() {
            drop(pipe);
            reader.wake();
        }
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        let mut pipe = self.0.lock();
        pipe.reader_gone = true;
        pipe.chunks.clear();
        if let Some(slot) = pipe.slot.take() {
            drop(pipe);
            slot.wake_slot();
        }
    }
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut pipe = self.0.lock();
        match pipe.chunks.pop_front() {
            Some(chunk) => {
                let was_full = pipe.bytes >= PIPE_BYTES_MAX;
                pipe.bytes -= chunk.len();
                if was_full
                    && pipe.bytes < PIPE_BYTES_MAX
                    && let Some(slot) = pipe.slot.clone()
                {
                    drop(pipe);
                    slot.wake_slot();
                }
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            None if pipe.writer_gone => Poll::Ready(None),
            None => {
                pipe.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Bytes past which a pipe takes no more.
const PIPE_BYTES_MAX: usize = 16 * 1024;
