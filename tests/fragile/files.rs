//! Files and directories: what a process reads of them, and what is left after a power cut.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

/// All of them, by their inode.
pub(super) struct Files(BTreeMap<u64, Node>);

pub(super) struct Node {
    pub(super) mode: u32,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Directory(Directory),
    File(File),
    Socket,
}

/// Names; what changed since the last fsync is pending.
#[derive(Default)]
pub(super) struct Directory {
    pub(super) names: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
    pending: Vec<NameChange>,
}

/// A change of names, which happens whole or not at all.
struct NameChange {
    removed: Option<OsString>,
    set: Option<(OsString, u64)>,
}

/// Bytes; what was written since the last fsync is pending.
#[derive(Default)]
pub(super) struct File {
    pub(super) cached: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

/// What a power cut has taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Writes and changes of length, wholly or in part.
    pub(crate) changes: usize,
    /// Files that were created, renamed or removed.
    pub(crate) names: usize,
}

impl Files {
    pub(super) fn new() -> Self {
        let root = Node { mode: 0o700, kind: Kind::Directory(Directory::default()) };
        Self(BTreeMap::from([(ROOT, root)]))
    }

    pub(super) fn get(&self, inode: u64) -> Option<&Node> {
        self.0.get(&inode)
    }

    pub(super) fn get_mut(&mut self, inode: u64) -> Option<&mut Node> {
        self.0.get_mut(&inode)
    }

    pub(super) fn directory(&mut self, inode: u64) -> Option<&mut Directory> {
        match &mut self.0.get_mut(&inode)?.kind {
            Kind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    pub(super) fn file(&mut self, inode: u64) -> Option<&mut File> {
        match &mut self.0.get_mut(&inode)?.kind {
            Kind::File(file) => Some(file),
            _ => None,
        }
    }

    pub(super) fn lookup(&self, parent: u64, name: &OsStr) -> Option<u64> {
        match &self.0.get(&parent)?.kind {
            Kind::Directory(directory) => directory.names.get(name).copied(),
            _ => None,
        }
    }

    /// Creates one; none if the name is in use.
    pub(super) fn create(&mut self, parent: u64, name: &OsStr, node: Node) -> Option<u64> {
        if self.lookup(parent, name).is_some() {
            return None;
        }
        let inode = self.0.keys().next_back().map_or(ROOT, |last| last + 1);
        self.directory(parent)?.set(name, inode);
        self.0.insert(inode, node);
        Some(inode)
    }

    /// Bytes of all files that have a name.
    pub(super) fn bytes(&self) -> u64 {
        let named: BTreeSet<u64> = self.0.values().flat_map(Node::children).collect();
        named.iter().filter_map(|inode| self.0.get(inode)).map(Node::len).sum()
    }

    /// Whether a directory has it under this name.
    pub(super) fn is_named(&self, inode: u64, name: &str) -> bool {
        self.0.values().any(|node| match &node.kind {
            Kind::Directory(directory) => directory.names.get(OsStr::new(name)) == Some(&inode),
            _ => false,
        })
    }

    /// Takes what is pending, by chance: all, all behind a moment, or some, torn at any byte or
    /// sector. What is left is durable, and files without a name are gone.
    pub(super) fn cut_power(&mut self, rng: &mut fastrand::Rng) -> Lost {
        let mut lost = Lost::default();
        for node in self.0.values_mut() {
            match &mut node.kind {
                Kind::Directory(directory) => lost.names += directory.cut_power(rng),
                Kind::File(file) => lost.changes += file.cut_power(rng),
                Kind::Socket => {}
            }
        }
        let mut reached = BTreeSet::from([ROOT]);
        let mut next = vec![ROOT];
        while let Some(inode) = next.pop() {
            let children = self.0.get(&inode).into_iter().flat_map(Node::children);
            next.extend(children.filter(|child| reached.insert(*child)));
        }
        self.0.retain(|inode, _| reached.contains(inode));
        lost
    }
}

impl Node {
    pub(super) fn len(&self) -> u64 {
        match &self.kind {
            Kind::File(file) => file.cached.len() as u64,
            _ => 0,
        }
    }

    fn children(&self) -> impl Iterator<Item = u64> {
        let names = match &self.kind {
            Kind::Directory(directory) => Some(&directory.names),
            _ => None,
        };
        names.into_iter().flat_map(|names| names.values().copied())
    }
}

impl Directory {
    fn set(&mut self, name: &OsStr, inode: u64) {
        self.change(NameChange { removed: None, set: Some((name.to_owned(), inode)) });
    }

    pub(super) fn remove(&mut self, name: &OsStr) {
        self.change(NameChange { removed: Some(name.to_owned()), set: None });
    }

    pub(super) fn rename(&mut self, from: &OsStr, to: &OsStr, inode: u64) {
        self.change(NameChange {
            removed: Some(from.to_owned()),
            set: Some((to.to_owned(), inode)),
        });
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.names);
        self.pending.clear();
    }

    fn cut_power(&mut self, rng: &mut fastrand::Rng) -> usize {
        let fate = Fate::by(rng, self.pending.len());
        let mut lost = 0;
        for (index, change) in self.pending.drain(..).enumerate() {
            match fate.keeps(index, rng) {
                true => change.apply(&mut self.durable),
                false => lost += 1,
            }
        }
        self.names.clone_from(&self.durable);
        lost
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<OsString, u64>) {
        if let Some(name) = &self.removed {
            names.remove(name);
        }
        if let Some((name, inode)) = &self.set {
            names.insert(name.clone(), *inode);
        }
    }
}

impl File {
    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.cached);
        self.pending.push(change);
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Makes the first `count` changes durable.
    pub(super) fn sync(&mut self, count: usize) {
        let count = count.min(self.pending.len());
        for change in self.pending.drain(..count) {
            change.apply(&mut self.durable);
        }
    }

    /// After a failed fsync no later one makes it durable.
    pub(super) fn fail_sync(&mut self) {
        self.pending.clear();
    }

    fn cut_power(&mut self, rng: &mut fastrand::Rng) -> usize {
        let fate = Fate::by(rng, self.pending.len());
        let mut lost = 0;
        for (index, change) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            if fate.keeps(index, rng) {
                change.apply(&mut self.durable);
                continue;
            }
            lost += 1;
            // The one at which the power was cut, or any other if they come in any order, may be
            // torn.
            if fate.tears(index)
                && let Change::Write(at, bytes) = &change
            {
                let from = if rng.bool() { 0 } else { SECTOR * rng.usize(..=bytes.len() / SECTOR) };
                let to = rng.usize(from.min(bytes.len())..=bytes.len());
                Change::Write(at + from, bytes[from..to].to_vec()).apply(&mut self.durable);
            }
        }
        self.cached.clone_from(&self.durable);
        lost
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, new) => {
                let end = at + new.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(new);
            }
            Self::SetLen(len) => bytes.resize(*len, 0),
        }
    }
}

/// What becomes of the changes of one file or directory.
enum Fate {
    AllLost,
    /// Those from here on are lost.
    LostFrom(usize),
    /// Each by itself.
    Any,
}

impl Fate {
    fn by(rng: &mut fastrand::Rng, pending: usize) -> Self {
        match rng.u8(..3) {
            0 => Self::AllLost,
            1 => Self::LostFrom(rng.usize(..=pending)),
            _ => Self::Any,
        }
    }

    fn keeps(&self, index: usize, rng: &mut fastrand::Rng) -> bool {
        match self {
            Self::AllLost => false,
            Self::LostFrom(first) => index < *first,
            Self::Any => rng.bool(),
        }
    }

    fn tears(&self, index: usize) -> bool {
        match self {
            Self::AllLost => false,
            Self::LostFrom(first) => index == *first,
            Self::Any => true,
        }
    }
}

pub(super) const ROOT: u64 = 1;
const SECTOR: usize = 512;
