//! The state that the writer of a log and its keeper share: the list of segments, and the next one.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use super::{
    batch::BatchHeader,
    directory::{Directory, is_full, is_temporary},
    error::WriteError,
    index::{ChannelHash, Found, FoundBack, SegmentIndex},
    read_cache::{OPEN_SEGMENTS_MAX, ReadCache},
    segment::Sealed,
};
use crate::model::Seq;

/// The segments of an open log.
pub(super) struct Segments<D: Directory> {
    pub(super) directory: D,
    pub(super) reads: Mutex<ReadCache<D::File>>,
    state: Mutex<State<D::File>>,
    changed: Condvar,
    is_full: AtomicBool,
}

struct State<F> {
    sealed: VecDeque<Sealed>,
    /// The segment that is written to, if there is one.
    current: Option<Current>,
    /// The indexes of sealed segments that have no file yet.
    unsaved: Vec<(Sealed, SegmentIndex)>,
    spare: Spare<F>,
    /// Bytes that the writer waits for, if it needs more than the usual ones.
    wanted: u64,
    /// Whether the last attempt to allocate a spare segment failed; the next one is made later.
    is_put_off: bool,
    /// Whether the writer no longer waits for room on a full disk, or for a file.
    is_closing: bool,
    has_stopped: bool,
}

/// The segment that is written to.
struct Current {
    base: Seq,
    index: SegmentIndex,
}

/// A segment in which a reader continues.
#[derive(Debug, Clone, Copy)]
pub(super) enum Located<F> {
    Sealed(Sealed),
    /// The segment that is written to, and what its index says of the wanted events.
    Current(Seq, F),
}

/// The next segment. It is allocated before it is needed, so that a full disk is noticed while
/// there is room for the submissions under way.
enum Spare<F> {
    Missing,
    /// Allocated, with this many bytes.
    Ready(F, u64),
    /// The writer is about to rename it.
    Taken,
}

impl<D: Directory> Segments<D> {
    pub(super) fn new(directory: D, sealed: VecDeque<Sealed>) -> Self {
        let state = State {
            sealed,
            current: None,
            unsaved: Vec::new(),
            spare: Spare::Missing,
            wanted: 0,
            is_put_off: false,
            is_closing: false,
            has_stopped: false,
        };
        Self {
            directory,
            reads: Mutex::new(ReadCache::new()),
            state: Mutex::new(state),
            changed: Condvar::new(),
            is_full: AtomicBool::new(false),
        }
    }

    /// Whether the disk has no room for the next segment.
    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Allocates the spare segment if it is missing. Returns whether the disk is full.
    pub(super) fn prepare_spare(&self, usual: u64) -> std::io::Result<bool> {
        let bytes = match &*self.state.lock() {
            State { spare: Spare::Missing, wanted, .. } => usual.max(*wanted),
            _ => return Ok(self.is_full()),
        };
        match self.directory.create(SPARE, bytes) {
            Ok(file) => {
                let mut state = self.state.lock();
                (state.spare, state.is_put_off) = (Spare::Ready(file, bytes), false);
            }
            Err(error) => {
                self.state.lock().is_put_off = true;
                if !is_full(&error) {
                    return Err(error);
                }
                // The bytes that were allocated are needed elsewhere.
                let _ = self.directory.remove(SPARE);
                self.is_full.store(true, Ordering::Relaxed);
                return Ok(true);
            }
        }
        self.is_full.store(false, Ordering::Relaxed);
        self.changed.notify_all();
        Ok(false)
    }

    /// Takes the spare segment, which has at least `bytes` bytes, and returns its size. Waits for
    /// the segment, and so for room on the disk and for a file, unless the log is stopped.
    pub(super) fn take_spare(&self, bytes: u64) -> Result<(D::File, u64), WriteError> {
        let mut state = self.state.lock();
        loop {
            // One that is too small is replaced.
            if let Spare::Ready(file, len) = std::mem::replace(&mut state.spare, Spare::Taken)
                && len >= bytes
            {
                state.wanted = 0;
                return Ok((file, len));
            }
            state.spare = Spare::Missing;
            state.wanted = bytes;
            if state.has_stopped || state.is_closing && state.is_put_off {
                return Err(WriteError::Stopped);
            }
            self.changed.notify_all();
            self.changed.wait_for(&mut state, RETRY);
        }
    }

    /// Repeats a call of the writer while its error is temporary, unless the log ends.
    pub(super) fn retry_temporary(
        &self,
        mut call: impl FnMut() -> std::io::Result<()>,
    ) -> Result<(), WriteError> {
        loop {
            match call() {
                Err(error) if is_temporary(&error) => {}
                result => return Ok(result?),
            }
            let mut state = self.state.lock();
            if state.has_stopped || state.is_closing {
                return Err(WriteError::Stopped);
            }
            self.changed.wait_for(&mut state, RETRY);
        }
    }

    /// The renamed spare segment becomes the current one.
    pub(super) fn begin(&self, base: Seq) {
        let mut state = self.state.lock();
        state.current = Some(Current { base, index: SegmentIndex::default() });
        state.spare = Spare::Missing;
        self.changed.notify_all();
    }

    /// Notes that a batch with events of these channels was written to the current segment.
    pub(super) fn note_batch(
        &self,
        offset: u64,
        header: &BatchHeader,
        channels: impl IntoIterator<Item = ChannelHash>,
    ) {
        if let Some(current) = &mut self.state.lock().current {
            current.index.add(offset, header, channels);
        }
    }

    /// Notes that the current segment gets no more batches.
    pub(super) fn seal(&self, sealed: Sealed) {
        let mut state = self.state.lock();
        if let Some(current) = state.current.take() {
            state.unsaved.push((sealed, current.index.seal()));
        }
        state.sealed.push_back(sealed);
    }

    /// The indexes that have no file yet.
    pub(super) fn take_unsaved(&self) -> Vec<(Sealed, SegmentIndex)> {
        std::mem::take(&mut self.state.lock().unsaved)
    }

    /// How many indexes have no file yet.
    #[cfg(test)]
    pub(super) fn unsaved(&self) -> usize {
        self.state.lock().unsaved.len()
    }

    /// The segment with the next event after `after`.
    pub(super) fn locate(
        &self,
        after: Seq,
        channels: Option<&[ChannelHash]>,
    ) -> Option<Located<Found>> {
        let state = self.state.lock();
        let index = state.sealed.partition_point(|sealed| sealed.last <= after);
        if let Some(sealed) = state.sealed.get(index) {
            return Some(Located::Sealed(*sealed));
        }
        let current = state.current.as_ref()?;
        Some(Located::Current(current.base, current.index.find(after, channels)))
    }

    /// The last segment that may have events up to `through`.
    pub(super) fn locate_back(
        &self,
        through: Seq,
        channels: Option<&[ChannelHash]>,
    ) -> Option<Located<Option<FoundBack>>> {
        let state = self.state.lock();
        if let Some(current) = state.current.as_ref().filter(|current| current.base <= through) {
            let found = current.index.find_back(through, channels);
            return Some(Located::Current(current.base, found));
        }
        let begun = state.sealed.partition_point(|sealed| sealed.base <= through);
        let last = begun.checked_sub(1)?;
        state.sealed.get(last).map(|sealed| Located::Sealed(*sealed))
    }

    /// The oldest sealed segments to which `removable` applies, each with the base of the next one.
    /// `removable` also gets the bytes of the segment and of all after it.
    pub(super) fn oldest(
        &self,
        count: usize,
        removable: impl Fn(&Sealed, u64) -> bool,
    ) -> Vec<(Sealed, Seq)> {
        let state = self.state.lock();
        let mut bytes: u64 = state.sealed.iter().map(|sealed| sealed.bytes).sum();
        let current = state.current.as_ref().map(|current| current.base);
        let mut oldest = Vec::new();
        for (index, sealed) in state.sealed.iter().enumerate().take(count) {
            let after = state.sealed.get(index + 1).map(|next| next.base).or(current);
            let Some(after) = after.filter(|_| removable(sealed, bytes)) else { break };
            bytes -= sealed.bytes;
            oldest.push((*sealed, after));
        }
        oldest
    }

    /// Drops the segments before `first_kept` from the list.
    pub(super) fn forget_before(&self, first_kept: Seq) {
        self.state.lock().sealed.retain(|sealed| sealed.base >= first_kept);
        self.reads.lock().forget_before(first_kept);
    }

    /// Whether there is a segment that begins with `base`.
    pub(super) fn has(&self, base: Seq) -> bool {
        let state = self.state.lock();
        state.current.as_ref().is_some_and(|current| current.base == base)
            || state.sealed.iter().any(|sealed| sealed.base == base)
    }

    /// How many sealed segments there are, and their bytes.
    pub(super) fn sealed(&self) -> (usize, u64) {
        let state = self.state.lock();
        (state.sealed.len(), state.sealed.iter().map(|sealed| sealed.bytes).sum())
    }

    /// Waits until the spare segment is taken, or for `time`; false when the log has ended.
    pub(super) fn wait(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        let has_nothing_to_do = !matches!(state.spare, Spare::Missing) || state.is_put_off;
        if has_nothing_to_do && !state.has_stopped {
            self.changed.wait_for(&mut state, time);
        }
        !state.has_stopped
    }

    /// Ends the wait for room on a full disk.
    pub(super) fn close(&self) {
        self.state.lock().is_closing = true;
        self.changed.notify_all();
    }

    /// Ends all waits.
    pub(super) fn stop(&self) {
        self.state.lock().has_stopped = true;
        self.changed.notify_all();
    }
}

/// Files that an open log has open at most, beside two of each thread that reads: those of its
/// readers, the directory, its lock, the segment that is written to, the spare one, and some that
/// the writer, the keeper and the hand-over open for a moment.
pub const LOG_FILES_MAX: usize = OPEN_SEGMENTS_MAX as usize + 12;
/// The file of the spare segment.
pub(super) const SPARE: &str = "spare";
/// How often the writer looks for room on a full disk, or for a file.
const RETRY: Duration = Duration::from_secs(1);
