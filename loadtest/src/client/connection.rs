//! One subscriber: what it holds between two reads, and what it makes of bytes.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, send, sockopt};

use super::head::Head;
use super::inbox::{Expect, Inbox, LastId};
use crate::failure::Failure;
use crate::framing::Framing;

/// One subscriber, in 72 bytes.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Option<OwnedFd>,
    pub(super) request: u32,
    pub(super) state: State,
    pub(super) reads: bool,
    pub(super) is_caught_up: bool,
    pub(super) expect: Expect,
    /// The part of a line or head that came last.
    pub(super) rest: Option<Box<[u8]>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Dialling,
    Head,
    Body(Framing),
}

impl Connection {
    /// Whether it was open.
    pub(super) fn close(&mut self) -> bool {
        self.rest = None;
        self.is_caught_up = false;
        self.state = State::Dialling;
        self.socket.take().is_some()
    }

    pub(super) fn has_head(&self) -> bool {
        matches!(self.state, State::Body(_))
    }

    /// Sends the request, now that there is a connection.
    pub(super) fn ask(&mut self, request: &[u8]) -> Result<(), Failure> {
        let Some(socket) = &self.socket else { return Ok(()) };
        match sockopt::socket_error(socket) {
            Ok(Ok(())) => {}
            Ok(Err(error)) | Err(error) => return Err(Failure::io("connecting")(error.into())),
        }
        // A new connection's buffer takes any request of ours at once.
        match send(socket, request, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == request.len() => self.state = State::Head,
            Ok(_) => return Err(Failure::Unsupported("a request longer than a buffer".into())),
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(Failure::io("sending a request")(error.into())),
        }
        Ok(())
    }

    /// Takes what came: `rest` bytes of `bytes` were left over before.
    pub(super) fn take(
        &mut self,
        number: u32,
        mut rest: usize,
        mut bytes: &mut [u8],
        inbox: &mut Inbox,
        last_id: Option<&mut LastId>,
        now_ns: u64,
    ) -> Result<(), Failure> {
        if !self.has_head() {
            let refused = |bytes: &[u8]| Failure::Refused {
                request: "a GET".into(),
                answer: String::from_utf8_lossy(&bytes[..bytes.len().min(500)]).into_owned(),
            };
            match Head::parse(bytes) {
                None => return self.leave(bytes),
                Some(Ok(head)) if head.status == 200 => {
                    self.state = State::Body(head.framing);
                    inbox.begin(&mut self.expect);
                    bytes = &mut bytes[head.bytes..];
                    rest = 0;
                }
                Some(_) => return Err(refused(bytes)),
            }
        }
        // A client that stops reading is not checked for bytes that came with the head.
        if !self.reads {
            return Ok(());
        }
        let State::Body(framing) = &mut self.state else { return Ok(()) };
        let decoded = framing.decode(&mut bytes[rest..]).map_err(|_| Failure::Refused {
            request: "a GET".into(),
            answer: "a body that is not chunked as its head says".into(),
        })?;
        let body = &bytes[..rest + decoded.body];
        let used = inbox.read_lines(number, &mut self.expect, last_id, body, now_ns);
        self.leave(&body[used..])
    }

    #[inline]
    fn leave(&mut self, rest: &[u8]) -> Result<(), Failure> {
        if rest.len() > REST_BYTES_MAX {
            return Err(Failure::Refused {
                request: "a GET".into(),
                answer: format!("a line of more than {REST_BYTES_MAX} bytes"),
            });
        }
        if !rest.is_empty() {
            self.rest = Some(rest.into());
        }
        Ok(())
    }
}

/// The longest line or head that may come in pieces.
pub(super) const REST_BYTES_MAX: usize = 128 * 1024;
