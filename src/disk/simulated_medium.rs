//! The files of a simulated disk: as processes see them, and as a power cut would leave them.

use std::collections::{BTreeMap, BTreeSet};

/// The files of a disk and their names, each with the changes that were not synced.
#[derive(Default)]
pub(super) struct Medium {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes since the directory was synced, each with the number of its call.
    name_changes: Vec<(u64, NameChange)>,
}

#[derive(Default)]
struct Content {
    cached: Image,
    durable: Image,
    /// Changes since the file was synced, each with the number of its call.
    changes: Vec<(u64, Change)>,
}

/// The content of a file. After `bytes` it is zero.
#[derive(Default)]
struct Image {
    bytes: Vec<u8>,
    len: u64,
}

pub(super) enum Change {
    Allocate(u64),
    Write(u64, Vec<u8>),
    SetLen(u64),
}

pub(super) enum NameChange {
    Link(String, usize),
    Rename(String, String),
    Unlink(String),
}

impl Medium {
    pub(super) fn names(&self) -> &BTreeMap<String, usize> {
        &self.names
    }

    pub(super) fn len(&self, file: usize) -> u64 {
        self.files[file].cached.len
    }

    pub(super) fn read(&self, file: usize, buffer: &mut [u8], offset: u64) -> usize {
        self.files[file].cached.read(buffer, offset)
    }

    /// Bytes of all files.
    pub(super) fn used(&self) -> u64 {
        self.names.values().map(|id| self.len(*id)).sum()
    }

    /// The number of the next file.
    pub(super) fn next_file(&self) -> usize {
        self.files.len()
    }

    /// Creates an empty file.
    pub(super) fn create(&mut self, call: u64, name: &str) {
        let file = self.files.len();
        self.files.push(Content::default());
        self.change_name(call, NameChange::Link(name.to_owned(), file));
    }

    pub(super) fn change(&mut self, call: u64, file: usize, change: Change) {
        let file = &mut self.files[file];
        file.cached.apply(&change);
        file.changes.push((call, change));
    }

    pub(super) fn change_name(&mut self, call: u64, change: NameChange) {
        change_name(&mut self.names, &change);
        self.name_changes.push((call, change));
    }

    /// Whether a file was cut, or extended, since it was synced.
    pub(super) fn is_cut(&self, file: usize) -> bool {
        self.files[file].changes.iter().any(|(_, change)| matches!(change, Change::SetLen(_)))
    }

    /// Whether the last change of a name since the last sync gave a file this name.
    pub(super) fn has_renamed_to(&self, name: &str) -> bool {
        let last = self.name_changes.last();
        matches!(last, Some((_, NameChange::Rename(_, to))) if to == name)
    }

    /// Makes the changes of names durable.
    pub(super) fn sync_names(&mut self) {
        self.durable_names = self.names.clone();
        self.name_changes.clear();
    }

    /// Makes the changes of a file durable; if the sync fails, only some of them.
    pub(super) fn sync(&mut self, file: usize, is_failed: bool, rng: &mut fastrand::Rng) {
        let file = &mut self.files[file];
        for (at, change) in std::mem::take(&mut file.changes) {
            match change {
                // The kernel takes pages that it could not write for written.
                Change::Write(..) if is_failed && rng.bool() => {}
                Change::Allocate(..) | Change::SetLen(..) if is_failed => {
                    file.changes.push((at, change));
                }
                change => file.durable.apply(&change),
            }
        }
    }

    /// Changes a byte of a file, at rest.
    pub(super) fn damage(&mut self, name: &str, offset: u64) {
        let file = &mut self.files[self.names[name]];
        for image in [&mut file.cached, &mut file.durable] {
            let mut byte = [0];
            image.read(&mut byte, offset);
            image.apply(&Change::Write(offset, vec![byte[0] ^ 0x10]));
        }
    }

    /// Frees the files that have no name.
    pub(super) fn drop_unnamed(&mut self) {
        let names = self.names.values().chain(self.durable_names.values());
        let named: BTreeSet<usize> = names.copied().collect();
        for (id, file) in self.files.iter_mut().enumerate() {
            if !named.contains(&id) {
                *file = Content::default();
            }
        }
    }

    /// Loses changes that were not synced, of `calls` calls in all.
    pub(super) fn cut_power(&mut self, calls: u64, rng: &mut fastrand::Rng) {
        // Changes before a moment are kept, and those after it lost; or each one by itself.
        let moment = match rng.u8(..4) {
            0 => Some(0),
            1 => Some(u64::MAX),
            2 => Some(rng.u64(..=calls)),
            _ => None,
        };
        for (at, change) in std::mem::take(&mut self.name_changes) {
            if fate(at, moment, rng) == Fate::Kept {
                change_name(&mut self.durable_names, &change);
            }
        }
        self.names = self.durable_names.clone();
        for file in &mut self.files {
            for (at, mut change) in std::mem::take(&mut file.changes) {
                match (fate(at, moment, rng), &mut change) {
                    (Fate::Kept, _) => {}
                    // A sector is written whole or not at all. The sector at the end of a log has
                    // durable bytes too, and no log could do without this.
                    (Fate::Damaged, Change::Write(offset, bytes))
                        if file.durable.has(*offset, bytes) => {}
                    (Fate::Damaged, Change::Write(offset, bytes)) => damage(rng, offset, bytes),
                    _ => continue,
                }
                file.durable.apply(&change);
            }
            file.cached = Image { bytes: file.durable.bytes.clone(), len: file.durable.len };
        }
    }
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
    Damaged,
}

/// What becomes of a change that was made at a call and not synced.
fn fate(at: u64, moment: Option<u64>, rng: &mut fastrand::Rng) -> Fate {
    match moment {
        Some(moment) if at <= moment => Fate::Kept,
        Some(0) => Fate::Lost,
        Some(_) if rng.u8(..4) > 0 => Fate::Lost,
        Some(_) => Fate::Damaged,
        None => rng.choice([Fate::Kept, Fate::Lost, Fate::Damaged]).expect("three"),
    }
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

/// What is left of a write that was under way: a part of it, or holes, or noise.
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
