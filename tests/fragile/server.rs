//! Answers the kernel's calls.

use std::ffi::OsStr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;

use super::files::{Change, Directory, File, Kind, Node};
use super::state::{Call, Lie, State, Verdict};

/// Between the kernel and the files.
pub(super) struct Server(Arc<Mutex<State>>);

/// An answer that can be an error.
trait Refuse: Send + 'static {
    fn refuse(self, error: Errno);
}

macro_rules! refuse {
    ($($reply:ty),*) => {$(
        impl Refuse for $reply {
            fn refuse(self, error: Errno) {
                self.error(error);
            }
        }
    )*};
}

refuse!(ReplyAttr, ReplyCreate, ReplyEmpty, ReplyEntry, ReplyWrite);

impl Server {
    pub(super) fn new(state: Arc<Mutex<State>>) -> Self {
        Self(state)
    }

    /// Changes something, if power and disk allow for that.
    fn change<R: Refuse, T>(
        &self,
        call: Call,
        reply: R,
        act: impl FnOnce(&mut State) -> Result<T, Errno>,
        answer: impl FnOnce(R, T),
    ) {
        let mut state = self.0.lock();
        match state.judge(call) {
            Verdict::Do => match act(&mut state) {
                Ok(value) => answer(reply, value),
                Err(error) => reply.refuse(error),
            },
            Verdict::DoInPart => {
                if state.rng.bool() {
                    let _ = act(&mut state);
                }
                state.held.push(Box::new(reply));
            }
            Verdict::Hold => state.held.push(Box::new(reply)),
            Verdict::Fail(error) => reply.refuse(error),
        }
    }

    fn create_node(&self, parent: INodeNo, name: &OsStr, node: Node, reply: ReplyEntry) {
        let act = |state: &mut State| created(state, parent, name, node);
        self.change(Call::Name, reply, act, |reply, attr| {
            reply.entry(&UNCACHED, &attr, GENERATION);
        });
    }

    fn remove(&self, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let act = |state: &mut State| {
            state.files.lookup(parent.0, name).ok_or(Errno::ENOENT)?;
            state.files.directory(parent.0).ok_or(Errno::ENOTDIR)?.remove(name);
            Ok(())
        };
        self.change(Call::Name, reply, act, |reply, ()| reply.ok());
    }
}

impl Filesystem for Server {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let state = self.0.lock();
        let inode = state.files.lookup(parent.0, name);
        match inode.and_then(|inode| Some(attributes(inode, state.files.get(inode)?))) {
            Some(attr) => reply.entry(&UNCACHED, &attr, GENERATION),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.lock().files.get(inode.0) {
            Some(node) => reply.attr(&UNCACHED, &attributes(inode.0, node)),
            None => reply.error(Errno::ESTALE),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let act = |state: &mut State| {
            let never_shorter = state.lie == Some(Lie::Cuts);
            let node = state.files.get_mut(inode.0).ok_or(Errno::ESTALE)?;
            node.mode = mode.map_or(node.mode, |mode| mode & 0o7777);
            if let (Some(len), Kind::File(file)) = (size, &mut node.kind)
                && !(never_shorter && len < file.cached.len() as u64)
            {
                file.change(Change::SetLen(len as usize));
            }
            Ok(attributes(inode.0, node))
        };
        let call = if size.is_some() { Call::SetLen } else { Call::Name };
        self.change(call, reply, act, |reply, attr| reply.attr(&UNCACHED, &attr));
    }

    fn mknod(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        // Sockets are made so, and files by `create`.
        let node = Node { mode: mode & !umask & 0o7777, kind: Kind::Socket };
        self.create_node(parent, name, node, reply);
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let kind = Kind::Directory(Directory::default());
        self.create_node(parent, name, Node { mode: mode & !umask & 0o7777, kind }, reply);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let node = Node { mode: mode & !umask & 0o7777, kind: Kind::File(File::default()) };
        let act = |state: &mut State| created(state, parent, name, node);
        self.change(Call::Name, reply, act, |reply, attr| {
            reply.created(&UNCACHED, &attr, GENERATION, HANDLE, FopenFlags::FOPEN_DIRECT_IO);
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(parent, name, reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(parent, name, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let act = |state: &mut State| {
            if parent != new_parent {
                return Err(Errno::EXDEV);
            }
            let inode = state.files.lookup(parent.0, name).ok_or(Errno::ENOENT)?;
            let directory = state.files.directory(parent.0).ok_or(Errno::ENOTDIR)?;
            directory.rename(name, new_name, inode);
            if name == "spare"
                && let Some(calls) = state.stop_behind_spare.take()
            {
                state.stop_at = Some(state.calls + calls);
            }
            Ok(())
        };
        self.change(Call::Name, reply, act, |reply, ()| reply.ok());
    }

    /// The page cache is passed by: after a power cut it would have what is lost.
    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(HANDLE, FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = self.0.lock();
        let Some(file) = state.files.file(inode.0) else { return reply.error(Errno::EIO) };
        let from = (offset as usize).min(file.cached.len());
        let to = (from + size as usize).min(file.cached.len());
        reply.data(&file.cached[from..to]);
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let act = |state: &mut State| {
            let len = state.files.file(inode.0).ok_or(Errno::EIO)?.cached.len() as u64;
            if !state.has_room((offset + data.len() as u64).saturating_sub(len)) {
                return Err(Errno::ENOSPC);
            }
            let file = state.files.file(inode.0).ok_or(Errno::EIO)?;
            file.change(Change::Write(offset as usize, data.to_vec()));
            Ok(data.len() as u32)
        };
        self.change(Call::Write, reply, act, ReplyWrite::written);
    }

    fn fallocate(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        let act = |state: &mut State| {
            let len = state.files.file(inode.0).ok_or(Errno::EIO)?.cached.len() as u64;
            let wanted = offset + length;
            if !state.has_room(wanted.saturating_sub(len)) {
                return Err(Errno::ENOSPC);
            }
            if wanted > len {
                let file = state.files.file(inode.0).ok_or(Errno::EIO)?;
                file.change(Change::SetLen(wanted as usize));
            }
            Ok(())
        };
        self.change(Call::Allocate, reply, act, |reply, ()| reply.ok());
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut state = self.0.lock();
        state.syncs += 1;
        let pending = state.files.file(inode.0).map_or(0, |file| file.pending());
        match state.judge(Call::Sync) {
            Verdict::Do if state.hangs => state.hung.push((inode.0, reply)),
            Verdict::Do if state.sync_time.is_zero() => {
                state.sync(inode.0, pending);
                reply.ok();
            }
            Verdict::Do => {
                let (time, cuts, shared) = (state.sync_time, state.cuts, Arc::clone(&self.0));
                thread::spawn(move || {
                    thread::sleep(time);
                    let mut state = shared.lock();
                    if state.cuts != cuts || state.power != super::Power::On {
                        return reply.error(Errno::EIO);
                    }
                    state.sync(inode.0, pending);
                    reply.ok();
                });
            }
            Verdict::DoInPart => {
                let part = state.rng.usize(..=pending);
                state.sync(inode.0, part);
                state.held.push(Box::new(reply));
            }
            Verdict::Hold => state.held.push(Box::new(reply)),
            Verdict::Fail(error) => {
                if let Some(file) = state.files.file(inode.0) {
                    file.fail_sync();
                }
                reply.error(error);
            }
        }
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let act = |state: &mut State| {
            let is_skipped = state.lie == Some(Lie::DirectorySyncs);
            let directory = state.files.directory(inode.0).ok_or(Errno::ENOTDIR)?;
            if !is_skipped {
                directory.sync();
            }
            Ok(())
        };
        self.change(Call::SyncDirectory, reply, act, |reply, ()| reply.ok());
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let state = self.0.lock();
        let Some(Node { kind: Kind::Directory(directory), .. }) = state.files.get(inode.0) else {
            return reply.error(Errno::ENOTDIR);
        };
        let entries = directory.names.iter().enumerate().skip(offset as usize);
        for (index, (name, child)) in entries {
            let Some(node) = state.files.get(*child) else { continue };
            if reply.add(INodeNo(*child), index as u64 + 1, kind(node), name) {
                break;
            }
        }
        reply.ok();
    }
}

fn created(
    state: &mut State,
    parent: INodeNo,
    name: &OsStr,
    node: Node,
) -> Result<FileAttr, Errno> {
    let inode = state.files.create(parent.0, name, node).ok_or(Errno::EEXIST)?;
    state.files.get(inode).map(|node| attributes(inode, node)).ok_or(Errno::EIO)
}

fn kind(node: &Node) -> FileType {
    match node.kind {
        Kind::Directory(_) => FileType::Directory,
        Kind::File(_) => FileType::RegularFile,
        Kind::Socket => FileType::Socket,
    }
}

fn attributes(inode: u64, node: &Node) -> FileAttr {
    let now = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(inode),
        size: node.len(),
        blocks: node.len().div_ceil(512),
        atime: now,
        mtime: now,
        ctime: now,
        crtime: now,
        kind: kind(node),
        perm: node.mode as u16,
        nlink: 1,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        rdev: 0,
        blksize: 4_096,
        flags: 0,
    }
}

/// The kernel asks each time: a power cut changes all without its knowledge.
const UNCACHED: Duration = Duration::ZERO;
const GENERATION: Generation = Generation(0);
const HANDLE: FileHandle = FileHandle(0);
