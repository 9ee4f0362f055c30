//! A directory in memory, on a machine whose power and disk fail when a test wants it.
//!
//! What is not fsynced when the power fails may be lost, torn at any byte, zeroed or scribbled over
//! in part, each change by itself or all behind a moment. After an fsync that failed, what it was
//! for can still be read and is not on the disk, as with Linux. All chance comes from a seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};

use super::directory::{Directory, DirectoryFile};

/// A machine with one directory. Clones are the same one.
#[derive(Clone)]
pub(crate) struct SimulatedDisk(Arc<Mutex<State>>);

/// An open file of it.
pub(crate) struct SimulatedFile {
    disk: SimulatedDisk,
    id: usize,
}

/// What goes wrong, by the number of the call from now.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// The machine or the process stops in the midst of this call.
    pub(super) stop_at: Option<u64>,
    /// This call fails, with this number of an error.
    pub(super) fail_at: Option<(u64, i32)>,
}

/// What ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The machine goes on, and has everything that was written.
    Kill,
    /// What was not synced is in danger.
    PowerCut,
}

/// Calls that are answered and not done, each of which is a mistake that the log could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Swallowed {
    /// Of files: the disk lies.
    FileSyncs,
    /// Of the directory.
    DirectorySyncs,
    /// Both.
    AllSyncs,
    /// The sync after a file was cut.
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
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            calls: 0,
            faults: Faults::default(),
            is_stopped: false,
            room: u64::MAX,
            denies_files: None,
            swallowed: None,
            is_traced: false,
        })))
    }

    /// From now on `faults` are due; their calls are counted from here.
    pub(super) fn plan(&self, faults: Faults) {
        let mut state = self.0.lock();
        let calls = state.calls;
        state.faults = Faults {
            stop_at: faults.stop_at.map(|call| calls + call),
            fail_at: faults.fail_at.map(|(call, error)| (calls + call, error)),
        };
    }

    /// Whether the planned fault has been met.
    pub(super) fn has_failed(&self) -> bool {
        let state = self.0.lock();
        state.is_stopped || state.faults.fail_at.is_some_and(|(call, _)| call < state.calls)
    }

    /// Bytes that all files together may have.
    pub(super) fn limit_room(&self, bytes: u64) {
        self.0.lock().room = bytes;
    }

    /// Leaves room for `left` bytes; with less than zero, files have to go before there is any.
    pub(super) fn fill(&self, left: i64) {
        let mut state = self.0.lock();
        state.room = state.used().saturating_add_signed(left);
    }

    /// From now on no file can be opened or created, with this number of an error.
    pub(super) fn deny_files(&self, error: Option<i32>) {
        self.0.lock().denies_files = error;
    }

    /// From now on a file can be opened and not be read: EIO.
    pub(super) fn spoil(&self, name: &str) {
        let mut state = self.0.lock();
        let id = state.names[name];
        state.files[id].is_spoilt = true;
    }

    pub(super) fn swallow(&self, calls: Option<Swallowed>) {
        self.0.lock().swallowed = calls;
    }

    /// Prints each call.
    pub(super) fn trace(&self) {
        self.0.lock().is_traced = true;
    }

    /// Ends the process, if that has not happened, and starts the machine again if need be.
    pub(crate) fn reboot(&self, stop: Stop) {
        let mut state = self.0.lock();
        if state.is_traced {
            println!("--- {stop:?}");
        }
        state.is_stopped = false;
        state.faults = Faults::default();
        if stop == Stop::PowerCut {
            state.cut_power();
        }
        // Nothing has a file open any more.
        let State { files, names, durable_names, .. } = &mut *state;
        let named: BTreeSet<usize> =
            names.values().chain(durable_names.values()).copied().collect();
        for (id, file) in files.iter_mut().enumerate() {
            if !named.contains(&id) {
                *file = Content::default();
            }
        }
    }

    /// The names of its files, and their lengths.
    pub(crate) fn files(&self) -> BTreeMap<String, u64> {
        let state = self.0.lock();
        let len = |id: &usize| state.files[*id].cached.len;
        state.names.iter().map(|(name, id)| (name.clone(), len(id))).collect()
    }

    /// Changes a byte of a file, at rest.
    pub(super) fn damage(&self, name: &str, offset: u64) {
        let mut state = self.0.lock();
        let id = state.names[name];
        let file = &mut state.files[id];
        for image in [&mut file.cached, &mut file.durable] {
            let mut byte = [0];
            image.read(&mut byte, offset);
            image.apply(&Change::Write(offset, vec![byte[0] ^ 0x10]));
        }
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
        // A call that is cut short may be done, and one that fails may not.
        let is_done = fault.is_none() || is_last && state.rng.bool();
        Ok(Call { state, fault, is_done })
    }
}

impl Directory for SimulatedDisk {
    type File = SimulatedFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let call = self.enter(|| "list".into())?;
        let names = call.state.names.keys().cloned().collect();
        call.end(names)
    }

    fn open(&self, name: &str) -> io::Result<SimulatedFile> {
        let call = self.enter(|| format!("open {name}"))?;
        call.state.give_file()?;
        let Some(&id) = call.state.names.get(name) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        call.end(SimulatedFile { disk: self.clone(), id })
    }

    fn create(&self, name: &str, len: u64) -> io::Result<SimulatedFile> {
        let mut call = self.enter(|| format!("create {name} {len}"))?;
        call.state.give_file()?;
        let state = &mut *call.state;
        let id = state.files.len();
        if call.is_done {
            state.files.push(Content::default());
            state.change_name(NameChange::Link(name.to_owned(), id));
            if state.used() + len > state.room {
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
            state.change(id, Change::Allocate(len));
        }
        call.end(SimulatedFile { disk: self.clone(), id })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut call = self.enter(|| format!("rename {from} {to}"))?;
        if call.is_done {
            if !call.state.names.contains_key(from) {
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
            if !call.state.names.contains_key(name) {
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
            Some(Swallowed::SyncsOfLosses) => {
                matches!(state.name_changes.last(), Some((_, NameChange::Rename(_, to))) if to == "losses")
            }
            _ => false,
        };
        if call.is_done && !is_swallowed {
            state.durable_names = state.names.clone();
            state.name_changes.clear();
        }
        call.end(())
    }
}

impl DirectoryFile for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        let call = self.disk.enter(|| format!("len {}", self.id))?;
        let len = call.state.files[self.id].cached.len;
        call.end(len)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let call = self.disk.enter(|| format!("read {} {offset}+{}", self.id, buffer.len()))?;
        let file = &call.state.files[self.id];
        if file.is_spoilt {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let read = file.cached.read(buffer, offset);
        call.end(read)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut call = self.disk.enter(|| format!("write {} {offset}+{}", self.id, bytes.len()))?;
        let state = &mut *call.state;
        let end = offset + bytes.len() as u64;
        let more = end.saturating_sub(state.files[self.id].cached.len);
        if more > 0 && state.used() + more > state.room {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        // One that fails may have written a part.
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
        let is_called = |name: &str| state.names.get(name) == Some(&self.id);
        let is_swallowed = match state.swallowed {
            Some(Swallowed::FileSyncs | Swallowed::AllSyncs) => true,
            Some(Swallowed::SyncsAfterCut) => {
                let is_cut = |(_, change): &(u64, Change)| matches!(change, Change::SetLen(_));
                state.files[self.id].changes.iter().any(is_cut)
            }
            Some(Swallowed::SyncsOfSpare) => is_called("spare"),
            Some(Swallowed::SyncsOfLosses) => is_called("losses.new"),
            _ => false,
        };
        let is_failed = call.fault.is_some() && !state.is_stopped;
        if (call.is_done || is_failed) && !is_swallowed {
            let State { files, rng, .. } = state;
            let file = &mut files[self.id];
            for (at, change) in std::mem::take(&mut file.changes) {
                match change {
                    // The kernel takes pages that it could not write for written.
                    Change::Write(..) if is_failed && rng.bool() => {}
                    Change::Allocate(..) | Change::SetLen(..) if is_failed => {
                        file.changes.push((at, change))
                    }
                    change => file.durable.apply(&change),
                }
            }
        }
        call.end(())
    }
}

struct State {
    rng: fastrand::Rng,
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Since the directory was synced.
    name_changes: Vec<(u64, NameChange)>,
    calls: u64,
    faults: Faults,
    is_stopped: bool,
    room: u64,
    denies_files: Option<i32>,
    swallowed: Option<Swallowed>,
    is_traced: bool,
}

/// A call that is being made.
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

#[derive(Default)]
struct Content {
    cached: Image,
    durable: Image,
    /// Since it was synced.
    changes: Vec<(u64, Change)>,
    is_spoilt: bool,
}

/// The content of a file. Behind `bytes` it is zero.
#[derive(Default)]
struct Image {
    bytes: Vec<u8>,
    len: u64,
}

enum Change {
    Allocate(u64),
    Write(u64, Vec<u8>),
    SetLen(u64),
}

enum NameChange {
    Link(String, usize),
    Rename(String, String),
    Unlink(String),
}

impl Image {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write(offset, bytes) => {
                let (start, end) = (*offset as usize, *offset as usize + bytes.len());
                if self.bytes.len() < end {
                    self.bytes.resize(end, 0);
                }
                self.bytes[start..end].copy_from_slice(bytes);
                self.len = self.len.max(end as u64);
            }
            Change::Allocate(len) | Change::SetLen(len) => {
                self.bytes.truncate(*len as usize);
                self.len = *len;
            }
        }
    }

    fn has(&self, offset: u64, bytes: &[u8]) -> bool {
        self.bytes.get(offset as usize..).is_some_and(|stored| stored.starts_with(bytes))
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let count = buffer.len().min(self.len.saturating_sub(offset) as usize);
        let stored = self.bytes.get(offset as usize..).unwrap_or_default();
        let copied = stored.len().min(count);
        buffer[..copied].copy_from_slice(&stored[..copied]);
        buffer[copied..count].fill(0);
        count
    }
}

impl State {
    fn give_file(&self) -> io::Result<()> {
        self.denies_files.map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
    }

    fn used(&self) -> u64 {
        self.names.values().map(|id| self.files[*id].cached.len).sum()
    }

    fn change(&mut self, file: usize, change: Change) {
        let file = &mut self.files[file];
        file.cached.apply(&change);
        file.changes.push((self.calls, change));
    }

    fn change_name(&mut self, change: NameChange) {
        change_name(&mut self.names, &change);
        self.name_changes.push((self.calls, change));
    }

    fn cut_power(&mut self) {
        // What comes before is kept, what comes behind is lost; or each change by itself.
        let moment = match self.rng.u8(..4) {
            0 => Some(0),
            1 => Some(u64::MAX),
            2 => Some(self.rng.u64(..=self.calls)),
            _ => None,
        };
        for (at, change) in std::mem::take(&mut self.name_changes) {
            if self.fate(at, moment) == Fate::Kept {
                change_name(&mut self.durable_names, &change);
            }
        }
        self.names = self.durable_names.clone();
        for id in 0..self.files.len() {
            for (at, mut change) in std::mem::take(&mut self.files[id].changes) {
                match (self.fate(at, moment), &mut change) {
                    (Fate::Kept, _) => {}
                    // A sector is written whole or not at all. That of the end of a log has what
                    // is durable before it too, and no log could do without this.
                    (Fate::Damaged, Change::Write(offset, bytes))
                        if self.files[id].durable.has(*offset, bytes) => {}
                    (Fate::Damaged, Change::Write(offset, bytes)) => {
                        damage(&mut self.rng, offset, bytes);
                    }
                    _ => continue,
                }
                self.files[id].durable.apply(&change);
            }
            let file = &mut self.files[id];
            file.cached = Image { bytes: file.durable.bytes.clone(), len: file.durable.len };
        }
    }

    /// What becomes of a change that was made at a call and not synced.
    fn fate(&mut self, at: u64, moment: Option<u64>) -> Fate {
        match moment {
            Some(moment) if at <= moment => Fate::Kept,
            Some(0) => Fate::Lost,
            Some(_) if self.rng.u8(..4) > 0 => Fate::Lost,
            Some(_) => Fate::Damaged,
            None => self.rng.choice([Fate::Kept, Fate::Lost, Fate::Damaged]).expect("three"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
    Damaged,
}

fn change_name(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Link(name, id) => drop(names.insert(name.clone(), *id)),
        NameChange::Unlink(name) => drop(names.remove(name)),
        NameChange::Rename(from, to) => {
            if let Some(id) = names.remove(from) {
                names.insert(to.clone(), id);
            }
        }
    }
}

/// What a write leaves that was under way: a part of it, or holes, or noise.
fn damage(rng: &mut fastrand::Rng, offset: &mut u64, bytes: &mut Vec<u8>) {
    let (a, b) = (rng.usize(..=bytes.len()), rng.usize(..=bytes.len()));
    let range = a.min(b)..a.max(b);
    match rng.u8(..4) {
        0 => bytes.truncate(a),
        1 => {
            bytes.drain(..a);
            *offset += a as u64;
        }
        2 => bytes[range].fill(0),
        _ => rng.fill(&mut bytes[range]),
    }
}

fn stopped() -> io::Error {
    io::Error::other("the process has ended")
}
