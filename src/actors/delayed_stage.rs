//! A stand-in for a disk: a *make durable* stage that is slow, waits or fails when a test wants it,
//! and shows commits on a thread of its own.

use std::{collections::VecDeque, fmt, mem, sync::Arc, thread, time::Duration};

use parking_lot::{Condvar, Mutex};

use super::committer::Prepared;

/// The stage, and a test's control of it.
#[derive(Clone, Default)]
pub(crate) struct DelayedStage(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queued: VecDeque<Prepared>,
    is_held: bool,
    fails: bool,
    has_stopped: bool,
}

impl DelayedStage {
    /// Starts its thread, which ends when the log stops or a write fails.
    pub(super) fn start(
        &self,
        show: impl Fn(Prepared) + Send + 'static,
        fail: impl FnOnce() + Send + 'static,
    ) {
        let stage = self.clone();
        thread::spawn(move || {
            while let Some(gathered) = stage.gathered() {
                // A write takes some time, in which more commits gather.
                thread::sleep(WRITE_TIME);
                if stage.0.state.lock().fails {
                    stage.stop();
                    // Its publishers do not learn whether it was written.
                    drop(gathered);
                    return fail();
                }
                gathered.into_iter().for_each(&show);
            }
        });
    }

    /// Queues a commit, after the others.
    pub(super) fn queue(&self, prepared: Prepared) {
        let mut state = self.0.state.lock();
        if !state.has_stopped {
            state.queued.push_back(prepared);
            self.0.changed.notify_all();
        }
    }

    /// Shows no further commit.
    pub(super) fn stop(&self) {
        let mut state = self.0.state.lock();
        state.has_stopped = true;
        let queued = mem::take(&mut state.queued);
        self.0.changed.notify_all();
        drop(state);
        drop(queued);
    }

    /// Writes nothing until it is [released](Self::release).
    pub(crate) fn hold(&self) {
        self.0.state.lock().is_held = true;
    }

    /// Continues to write.
    pub(crate) fn release(&self) {
        self.0.state.lock().is_held = false;
        self.0.changed.notify_all();
    }

    /// Makes the next write fail.
    pub(crate) fn fail(&self) {
        self.0.state.lock().fails = true;
    }

    /// How many commits wait to be written.
    pub(crate) fn queued(&self) -> usize {
        self.0.state.lock().queued.len()
    }

    /// Waits for commits; `None` when it has stopped.
    fn gathered(&self) -> Option<VecDeque<Prepared>> {
        let mut state = self.0.state.lock();
        while !state.has_stopped && (state.is_held || state.queued.is_empty()) {
            self.0.changed.wait(&mut state);
        }
        (!state.has_stopped).then(|| mem::take(&mut state.queued))
    }
}

impl fmt::Debug for DelayedStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DelayedStage").finish_non_exhaustive()
    }
}

/// How long one write takes.
const WRITE_TIME: Duration = Duration::from_millis(1);
