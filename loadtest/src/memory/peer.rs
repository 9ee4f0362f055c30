//! A connection's other end in memory: it takes bytes and checks them.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use visnyk::actors::{Input, Peer, SlotWaker};

use super::scan::{Scan, Seen};

/// What the peers of a shard have in common. Only its thread writes.
#[derive(Debug)]
pub(super) struct Hall {
    pub(super) counts: Arc<Counts>,
    /// Events published so far to each channel.
    pub(super) published: Arc<AtomicU64>,
    /// Slow peers that wait until they take more.
    blocked: RefCell<Vec<Arc<SlotWaker>>>,
    /// The bytes that were checked last: a round gives the same ones to all peers.
    checked: RefCell<Checked>,
    slow_bytes: usize,
}

/// What the peers of a shard have received, for other threads to read.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) attached: AtomicU64,
    pub(super) ended: AtomicU64,
    pub(super) deliveries: AtomicU64,
    /// First blocks.
    pub(super) started: AtomicU64,
    pub(super) heartbeats: AtomicU64,
    /// Writes that a slow peer did not take as a whole.
    pub(super) refused: AtomicU64,
    /// The longest that the shard let a task of its own wait since it was last asked.
    pub(super) pause_us: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) corrupt: AtomicU64,
}

/// Bytes that are whole events, one number after the other. They are kept, so that their address is
/// not used again.
#[derive(Debug, Default)]
struct Checked {
    bytes: Bytes,
    first: u32,
    events: u32,
}

impl Hall {
    pub(super) fn new(
        counts: Arc<Counts>,
        published: Arc<AtomicU64>,
        slow_bytes: usize,
    ) -> Rc<Self> {
        Rc::new(Self {
            counts,
            published,
            blocked: RefCell::default(),
            checked: RefCell::default(),
            slow_bytes,
        })
    }

    /// Lets the slow peers take more.
    pub(super) fn wake_blocked(&self) {
        self.blocked.take().iter().for_each(|waker| waker.wake_slot());
    }

    /// The events of `bytes` if they are whole ones, one after the other.
    fn whole_events(&self, bytes: &Bytes) -> Option<(u32, u32)> {
        let mut checked = self.checked.borrow_mut();
        let same = checked.bytes.as_ptr() == bytes.as_ptr() && checked.bytes.len() == bytes.len();
        if !same {
            let (first, events) = consecutive(bytes)?;
            *checked = Checked { bytes: bytes.clone(), first, events };
        }
        Some((checked.first, checked.events))
    }
}

fn consecutive(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut scan = Scan::default();
    let mut found: Option<(u32, u32)> = None;
    for &byte in bytes {
        match (scan.take(byte), &mut found) {
            (None, _) => {}
            (Some(Seen::Event(number)), None) => found = Some((number, 1)),
            (Some(Seen::Event(number)), Some((first, events))) if number == *first + *events => {
                *events += 1;
            }
            _ => return None,
        }
    }
    found.filter(|_| scan.is_between())
}

/// One connection's end.
#[derive(Debug)]
pub(super) struct MemoryPeer {
    hall: Rc<Hall>,
    scan: Scan,
    has_started: bool,
    /// The event that comes next.
    next: u32,
    /// Takes a little at a time, and then nothing until it is woken.
    slow: Option<Cell<bool>>,
}

impl MemoryPeer {
    pub(super) fn new(hall: &Rc<Hall>, is_slow: bool) -> Self {
        add(&hall.counts.attached, 1);
        Self {
            hall: Rc::clone(hall),
            scan: Scan::default(),
            has_started: false,
            next: hall.published.load(Ordering::Relaxed) as u32,
            slow: is_slow.then(|| Cell::new(false)),
        }
    }

    fn receive(&mut self, first: u32, events: u32) {
        let counts = &self.hall.counts;
        if first < self.next {
            add(&counts.repeated, u64::from(self.next - first));
        } else {
            add(&counts.lost, u64::from(first - self.next));
        }
        add(&counts.deliveries, u64::from(events));
        self.next = self.next.max(first + events);
    }

    fn check(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match self.scan.take(byte) {
                None => {}
                Some(Seen::Event(number)) => self.receive(number, 1),
                Some(Seen::Position) if self.has_started => add(&self.hall.counts.heartbeats, 1),
                Some(Seen::Position) => {
                    self.has_started = true;
                    add(&self.hall.counts.started, 1);
                }
                Some(Seen::Wrong) => add(&self.hall.counts.corrupt, 1),
            }
        }
    }
}

impl Peer for MemoryPeer {
    fn try_write(&mut self, bytes: &Bytes, waker: &Arc<SlotWaker>) -> io::Result<usize> {
        let mut taken = bytes.len();
        if let Some(is_full) = &self.slow {
            // Every other time it is full.
            if is_full.replace(!is_full.get()) {
                add(&self.hall.counts.refused, 1);
                self.hall.blocked.borrow_mut().push(Arc::clone(waker));
                return Err(io::ErrorKind::WouldBlock.into());
            }
            taken = taken.min(self.hall.slow_bytes);
        }
        if taken == bytes.len()
            && self.scan.is_between()
            && let Some((first, events)) = self.hall.whole_events(bytes)
        {
            self.receive(first, events);
        } else {
            self.check(&bytes[..taken]);
        }
        Ok(taken)
    }

    fn poll_input(&mut self, _: &Arc<SlotWaker>) -> Input {
        Input::Quiet
    }
}

impl Drop for MemoryPeer {
    /// What has not come by now does not come.
    fn drop(&mut self) {
        let counts = &self.hall.counts;
        let published = self.hall.published.load(Ordering::Relaxed);
        add(&counts.lost, published.saturating_sub(u64::from(self.next)));
        add(&counts.ended, 1);
    }
}

/// Adds without a locked instruction: only this thread writes.
fn add(count: &AtomicU64, more: u64) {
    if more > 0 {
        count.store(count.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }
}
