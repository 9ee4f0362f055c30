//! A directory in memory, on a machine whose power and disk fail when a test wants it.
//!
//! When the power fails, bytes that were not fsynced may be lost, torn at any byte, zeroed or
//! overwritten with noise: each change by itself, or all changes after a moment. After a failed
//! fsync, its bytes can still be read and are not on the disk, as with Linux. All chance comes from
//! a seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    directory::{Directory, DirectoryFile},
    simulated_medium::{Change, Medium, NameChange},
};

/// A machine with one directory. Clones are the same machine.
#[derive(Clone)]
pub(crate) struct SimulatedDisk(Arc<Mutex<State>>);

/// An open file of the directory.
pub(crate) struct SimulatedFile {
    disk: SimulatedDisk,
    id: usize,
}

/// The planned faults, by the number of the call from now.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// The machine or the process stops during this call.
    pub(super) stop_at: Option<u64>,
    /// This call fails, with this error number.
    pub(super) fail_at: Option<(u64, i32)>,
}

/// What ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The machine goes on, and has everything that was written.
    Kill,
    /// Bytes that were not synced may be lost.
    PowerCut,
}

/// Calls that are answered and not done. Each is a mistake that the log could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Swallowed {
    /// Syncs of files: the disk lies.
    FileSyncs,
    /// Syncs of the directory.
    DirectorySyncs,
    /// Syncs of files and of the directory.
    AllSyncs,
    /// The sync of a file after it was cut.
    SyncsAfterCut,
    /// The sync of a segment before it gets its name.
    SyncsOfSpare,
    /// The syncs that make the losses file durable before segments are removed.
    SyncsOfLosses,
    /// The losses file never gets its name.
    LossesFile,
}

pub(super) const EIO: i32 = 5;
pub(super) const ENOSPC: i32 = 28;
pub(super) const EMFILE: i32 = 24;

impl SimulatedDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: fastrand::Rng::with_seed(seed),
            medium: Medium::default(),
            spoilt: BTreeSet::new(),
            calls: 0,
            faults: Faults::default(),
            is_stopped: false,
            room: u64::MAX,
            denies_files: None,
            swallowed: None,
            is_traced: false,
        })))
    }

    /// Plans faults; their calls are counted from now.
    pub(super) fn plan(&self, faults: Faults) {
        let mut state = self.0.lock();
        let calls = state.calls;
        state.faults = Faults {
            stop_at: faults.stop_at.map(|call| calls + call),
            fail_at: faults.fail_at.map(|(call, error)| (calls + call, error)),
        };
    }

    /// Whether the planned fault has happened.
    pub(super) fn has_failed(&self) -> bool {
        let state = self.0.lock();
        state.is_stopped || state.faults.fail_at.is_some_and(|(call, _)| call < state.calls)
    }

    /// Limits the bytes of all files together.
    pub(super) fn limit_room(&self, bytes: u64) {
        self.0.lock().room = bytes;
    }

    /// Leaves room for `left` bytes. If `left` is negative, writes fail until files are removed.
    pub(super) fn fill(&self, left: i64) {
        let mut state = self.0.lock();
        state.room = state.medium.used().saturating_add_signed(left);
    }

    /// Lets all attempts to open or create a file fail with this error number, from now on.
    pub(super) fn deny_files(&self, error: Option<i32>) {
        self.0.lock().denies_files = error;
    }

    /// Lets all reads of a file fail with EIO, from now on.
    pub(super) fn spoil(&self, name: &str) {
        let mut state = self.0.lock();
        let id = state.medium.names()[name];
        state.spoilt.insert(id);
    }

    pub(super) fn swallow(&self, calls: Option<Swallowed>) {
        self.0.lock().swallowed = calls;
    }

    /// Prints each call.
    pub(super) fn trace(&self) {
        self.0.lock().is_traced = true;
    }

    /// Ends the process, if it has not ended, and starts the machine again.
    pub(crate) fn reboot(&self, stop: Stop) {
        let mut state = self.0.lock();
        if state.is_traced {
            println!("--- {stop:?}");
        }
        state.is_stopped = false;
        state.faults = Faults::default();
        let State { medium, rng, calls, .. } = &mut *state;
        if stop == Stop::PowerCut {
            medium.cut_power(*calls, rng);
        }
        // No process has a file open any more.
        medium.drop_unnamed();
    }

    /// The names of its files, and their lengths.
    pub(crate) fn files(&self) -> BTreeMap<String, u64> {
        let state = self.0.lock();
        let medium = &state.medium;
        medium.names().iter().map(|(name, id)| (name.clone(), medium.len(*id))).collect()
    }

    /// Changes a byte of a file, at rest.
    pub(super) fn damage(&self, name: &str, offset: u64) {
        self.0.lock().medium.damage(name, offset);
    }

    fn enter(&self, call: impl FnOnce() -> String) -> io::Result<Call<'_>> {
        let mut state = self.0.lock();
        if state.is_stopped {
            return Err(stopped());
        }
        let number = state.calls;
        state.calls += 1;
        if state.is_traced {
            println!("{number:4} {}", call());
        }
        let is_last = state.faults.stop_at == Some(number);
        state.is_stopped = is_last;
        let fault = match state.faults.fail_at {
            _ if is_last => Some(stopped()),
            Some((at, error)) if at == number => Some(io::Error::from_raw_os_error(error)),
            _ => None,
        };
        // A call that is cut short may have been done; a call that fails was not.
        let is_done = fault.is_none() || is_last && state.rng.bool();
        Ok(Call { state, fault, is_done })
    }
}

impl Directory for SimulatedDisk {
    type File = SimulatedFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let call = self.enter(|| "list".into())?;
        let names = call.state.medium.names().keys().cloned().collect();
        call.end(names)
    }

    fn open(&self, name: &str) -> io::Result<SimulatedFile> {
        let call = self.enter(|| format!("open {name}"))?;
        call.state.give_file()?;
        let Some(&id) = call.state.medium.names().get(name) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        call.end(SimulatedFile { disk: self.clone(), id })
    }

    fn create(&self, name: &str, len: u64) -> io::Result<SimulatedFile> {
        let mut call = self.enter(|| format!("create {name} {len}"))?;
        call.state.give_file()?;
        let state = &mut *call.state;
        let id = state.medium.next_file();
        if call.is_done {
            state.medium.create(state.calls, name);
            if state.medium.used() + len > state.room {
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
            state.change(id, Change::Allocate(len));
        }
        call.end(SimulatedFile { disk: self.clone(), id })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut call = self.enter(|| format!("rename {from} {to}"))?;
        if call.is_done {
            if !call.state.medium.names().contains_key(from) {
                return Err(io::ErrorKind::NotFound.into());
            }
            if !(call.state.swallowed == Some(Swallowed::LossesFile) && to == "losses") {
                call.state.change_name(NameChange::Rename(from.to_owned(), to.to_owned()));
            }
        }
        call.end(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut call = self.enter(|| format!("remove {name}"))?;
        if call.is_done {
            if !call.state.medium.names().contains_key(name) {
                return Err(io::ErrorKind::NotFound.into());
            }
            call.state.change_name(NameChange::Unlink(name.to_owned()));
        }
        call.end(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut call = self.enter(|| "sync .".into())?;
        let state = &mut *call.state;
        let is_swallowed = match state.swallowed {
            Some(Swallowed::DirectorySyncs | Swallowed::AllSyncs) => true,
            Some(Swallowed::SyncsOfLosses) => state.medium.has_renamed_to("losses"),
            _ => false,
        };
        if call.is_done && !is_swallowed {
            state.medium.sync_names();
        }
        call.end(())
    }
}

impl DirectoryFile for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        let call = self.disk.enter(|| format!("len {}", self.id))?;
        let len = call.state.medium.len(self.id);
        call.end(len)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let call = self.disk.enter(|| format!("read {} {offset}+{}", self.id, buffer.len()))?;
        if call.state.spoilt.contains(&self.id) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let read = call.state.medium.read(self.id, buffer, offset);
        call.end(read)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut call = self.disk.enter(|| format!("write {} {offset}+{}", self.id, bytes.len()))?;
        let state = &mut *call.state;
        let end = offset + bytes.len() as u64;
        let more = end.saturating_sub(state.medium.len(self.id));
        if more > 0 && state.medium.used() + more > state.room {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        // A write that fails may have written a part.
        let done = if call.is_done { bytes.len() } else { state.rng.usize(..=bytes.len()) };
        state.change(self.id, Change::Write(offset, bytes[..done].to_vec()));
        call.end(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut call = self.disk.enter(|| format!("set_len {} {len}", self.id))?;
        if call.is_done {
            call.state.change(self.id, Change::SetLen(len));
        }
        call.end(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut call = self.disk.enter(|| format!("sync {}", self.id))?;
        let state = &mut *call.state;
        let is_called = |name: &str| state.medium.names().get(name) == Some(&self.id);
        let is_swallowed = match state.swallowed {
            Some(Swallowed::FileSyncs | Swallowed::AllSyncs) => true,
            Some(Swallowed::SyncsAfterCut) => state.medium.is_cut(self.id),
            Some(Swallowed::SyncsOfSpare) => is_called("spare"),
            Some(Swallowed::SyncsOfLosses) => is_called("losses.new"),
            _ => false,
        };
        let is_failed = call.fault.is_some() && !state.is_stopped;
        if (call.is_done || is_failed) && !is_swallowed {
            let State { medium, rng, .. } = state;
            medium.sync(self.id, is_failed, rng);
        }
        call.end(())
    }
}

struct State {
    rng: fastrand::Rng,
    medium: Medium,
    /// The files whose reads fail.
    spoilt: BTreeSet<usize>,
    calls: u64,
    faults: Faults,
    is_stopped: bool,
    room: u64,
    denies_files: Option<i32>,
    swallowed: Option<Swallowed>,
    is_traced: bool,
}

/// A call under way.
struct Call<'a> {
    state: MutexGuard<'a, State>,
    fault: Option<io::Error>,
    is_done: bool,
}

impl Call<'_> {
    fn end<T>(self, answer: T) -> io::Result<T> {
        self.fault.map_or(Ok(answer), Err)
    }
}

impl State {
    fn give_file(&self) -> io::Result<()> {
        self.denies_files.map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
    }

    fn change(&mut self, file: usize, change: Change) {
        self.medium.change(self.calls, file, change);
    }

    fn change_name(&mut self, change: NameChange) {
        self.medium.change_name(self.calls, change);
    }
}

fn stopped() -> io::Error {
    io::Error::other("the process has ended")
}
