//! epoll, edge-triggered: a socket is registered once, for everything, and never changed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

/// One epoll instance.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
}

/// What one socket is ready for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) token: u32,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has ended its side or the connection failed: read until that shows.
    pub(crate) closed: bool,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Registers a socket; it leaves by being closed.
    pub(crate) fn add(&self, socket: impl AsFd, token: u32) -> io::Result<()> {
        use epoll::EventFlags;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(token.into()), flags)?)
    }

    /// Waits until something is ready or the time is over, and puts it into `ready`, at most
    /// [`READY_MAX`] at a time.
    pub(crate) fn wait(&self, ready: &mut Vec<Ready>, timeout: Duration) -> io::Result<()> {
        ready.clear();
        let mut events =
            [epoll::Event { flags: NONE, data: epoll::EventData::new_u64(0) }; READY_MAX];
        let count = match coarse(timeout) {
            Some(timeout) => done(epoll::wait(&self.epoll, &mut events, Some(&timeout)))?,
            None => self.wait_exactly(&mut events, timeout)?,
        };
        ready.extend(events[..count].iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            Ready {
                token: data.u64() as u32,
                readable: flags.intersects(READABLE),
                writable: flags.intersects(epoll::EventFlags::OUT),
                closed: flags.intersects(CLOSED),
            }
        }));
        Ok(())
    }

    /// epoll's own timeout has milliseconds; events are due more exactly than that.
    fn wait_exactly(&self, events: &mut [epoll::Event], timeout: Duration) -> io::Result<usize> {
        let timeout = timespec(timeout);
        done(poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&timeout)))?;
        done(epoll::wait(&self.epoll, events, Some(&timespec(Duration::ZERO))))
    }
}

/// A time that epoll can wait for as it is.
fn coarse(timeout: Duration) -> Option<Timespec> {
    timeout.subsec_nanos().is_multiple_of(1_000_000).then(|| timespec(timeout))
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() }
}

/// A signal in between is not an error: no socket was ready.
fn done(result: rustix::io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(rustix::io::Errno::INTR) => Ok(0),
        result => Ok(result?),
    }
}

/// Few enough that a delivery is timed soon after it has come.
const READY_MAX: usize = 256;
const NONE: epoll::EventFlags = epoll::EventFlags::empty();
const READABLE: epoll::EventFlags = epoll::EventFlags::IN
    .union(epoll::EventFlags::RDHUP)
    .union(epoll::EventFlags::HUP)
    .union(epoll::EventFlags::ERR);
const CLOSED: epoll::EventFlags =
    epoll::EventFlags::RDHUP.union(epoll::EventFlags::HUP).union(epoll::EventFlags::ERR);
