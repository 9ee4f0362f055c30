//! The machine: its files, its power, and what is wrong with its disk.

use std::any::Any;
use std::time::Duration;

use fuser::{Errno, ReplyEmpty};

use super::files::{Files, Lost};

/// What is behind a mounted file system.
pub(super) struct State {
    pub(super) files: Files,
    pub(super) rng: fastrand::Rng,
    pub(super) lie: Option<Lie>,
    pub(super) failure: Option<(Call, Errno)>,
    pub(super) room: u64,
    pub(super) sync_time: Duration,
    pub(super) hangs: bool,
    pub(super) syncs: u64,
    pub(super) calls: u64,
    pub(super) stop_at: Option<u64>,
    /// As `stop_at`, counted from the next file `spare` that gets another name.
    pub(super) stop_behind_spare: Option<u64>,
    pub(super) power: Power,
    /// Power cuts so far.
    pub(super) cuts: u64,
    /// Answers that the killed process waits for. Dropped, they are EIO.
    pub(super) held: Vec<Box<dyn Any + Send>>,
    pub(super) hung: Vec<(u64, ReplyEmpty)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    On,
    /// Calls have no answer any more.
    Failing,
    /// The process is being ended: calls fail.
    Off,
}

/// A call that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Write,
    Allocate,
    SetLen,
    /// fsync of a file.
    Sync,
    /// fsync of a directory.
    SyncDirectory,
    /// Files are created, renamed or removed.
    Name,
}

/// Calls that are answered as if they had been done. To the one who looks at the disk, a program
/// that leaves them out does the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Fsyncs of files.
    FileSyncs,
    /// Fsyncs of directories.
    DirectorySyncs,
    /// The fsync of the next segment before it has its name.
    SpareSyncs,
    /// One fsync of a file in ten loses what it was for: it has failed, and is taken for done.
    FailedSyncs,
    /// A file is never made shorter.
    Cuts,
}

/// What becomes of a call.
pub(super) enum Verdict {
    Do,
    /// The power fails in its midst.
    DoInPart,
    Hold,
    Fail(Errno),
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            files: Files::new(),
            rng: fastrand::Rng::with_seed(seed),
            lie: None,
            failure: None,
            room: u64::MAX,
            sync_time: Duration::ZERO,
            hangs: false,
            syncs: 0,
            calls: 0,
            stop_at: None,
            stop_behind_spare: None,
            power: Power::On,
            cuts: 0,
            held: Vec::new(),
            hung: Vec::new(),
        }
    }

    pub(super) fn judge(&mut self, call: Call) -> Verdict {
        match self.power {
            Power::Failing => return Verdict::Hold,
            Power::Off => return Verdict::Fail(Errno::EIO),
            Power::On => {}
        }
        self.calls += 1;
        if self.stop_at.is_some_and(|at| self.calls >= at) {
            self.power = Power::Failing;
            return Verdict::DoInPart;
        }
        match self.failure.take_if(|failure| failure.0 == call) {
            Some((_, error)) => Verdict::Fail(error),
            None => Verdict::Do,
        }
    }

    /// Whether there is room for `more` bytes; writing within a file always has it.
    pub(super) fn has_room(&self, more: u64) -> bool {
        more == 0 || self.room == u64::MAX || self.files.bytes().saturating_add(more) <= self.room
    }

    /// Makes a file durable, if the disk does not lie.
    pub(super) fn sync(&mut self, inode: u64, count: usize) {
        let is_skipped = match self.lie {
            Some(Lie::FileSyncs) => true,
            Some(Lie::SpareSyncs) => self.files.is_named(inode, "spare"),
            _ => false,
        };
        let is_lost = self.lie == Some(Lie::FailedSyncs) && self.rng.u8(..10) == 0;
        let Some(file) = self.files.file(inode) else { return };
        if is_lost {
            file.fail_sync();
        } else if !is_skipped {
            file.sync(count);
        }
    }

    /// Answers what hung, now that it is done.
    pub(super) fn answer_hung(&mut self) {
        for (inode, reply) in std::mem::take(&mut self.hung) {
            self.sync(inode, usize::MAX);
            reply.ok();
        }
    }

    /// Ends all calls, so that the process can end.
    pub(super) fn go_off(&mut self) {
        self.power = Power::Off;
        self.held.clear();
        self.hung.clear();
    }

    /// The power is on again.
    pub(super) fn go_on(&mut self) -> Lost {
        let lost = self.files.cut_power(&mut self.rng);
        self.power = Power::On;
        self.stop_at = None;
        self.stop_behind_spare = None;
        self.hangs = false;
        self.cuts += 1;
        lost
    }
}
