//! The FUSE side: inodes, open files, and when a write reaches the driver.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenAccMode, OpenFlags,
    ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::tsm::{Attribute, Tsm};
use super::{Shared, locked};

/// Nothing may be cached: an instance can vanish at any time.
const TTL: Duration = Duration::ZERO;

/// Inodes per instance: the directory, then its attributes.
const STRIDE: u64 = 16;

/// What an inode stands for.
#[derive(Clone, Copy)]
enum Node {
    Root,
    Instance(u64),
    Attribute(u64, Attribute),
}

impl Node {
    fn number(self) -> INodeNo {
        INodeNo(match self {
            Self::Root => 1,
            Self::Instance(number) => number * STRIDE,
            Self::Attribute(number, attribute) => number * STRIDE + 1 + attribute as u64,
        })
    }

    fn of(number: INodeNo) -> Result<Self, Errno> {
        match (number.0 / STRIDE, number.0 % STRIDE) {
            (0, 1) => Ok(Self::Root),
            (0, _) => Err(Errno::ENOENT),
            (instance, 0) => Ok(Self::Instance(instance)),
            (instance, place) => {
                let attribute = usize::try_from(place - 1).ok().and_then(|place| Attribute::ALL.get(place));
                Ok(Self::Attribute(instance, *attribute.ok_or(Errno::ENOENT)?))
            }
        }
    }

    fn attributes(self, owner: (u32, u32)) -> FileAttr {
        let (kind, perm, size) = match self {
            Self::Root | Self::Instance(_) => (FileType::Directory, 0o755, 0),
            Self::Attribute(_, attribute) => (FileType::RegularFile, attribute.mode(), attribute.size()),
        };
        FileAttr {
            ino: self.number(),
            size,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: owner.0,
            gid: owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

/// An open attribute. What is read is fixed at the first read; what is written to a binary attribute waits for the close.
struct Open {
    instance: u64,
    attribute: Attribute,
    content: Option<Vec<u8>>,
    pending: Option<Vec<u8>>,
}

/// The `report` folder as a file system.
pub(super) struct Reports {
    state: Shared,
    open: Mutex<HashMap<u64, Open>>,
    owner: (u32, u32),
}

impl Reports {
    pub(super) fn new(state: Shared) -> Self {
        let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        Self { state, open: Mutex::default(), owner }
    }

    fn tsm(&self) -> MutexGuard<'_, Tsm> {
        locked(&self.state)
    }

    fn files(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, parent: INodeNo, name: &OsStr) -> Result<Node, Errno> {
        let tsm = self.tsm();
        match Node::of(parent)? {
            Node::Root => tsm.list().find(|(_, instance)| name == *instance).map(|(number, _)| Node::Instance(number)),
            Node::Instance(number) if tsm.exists(number) => {
                let attribute = tsm.attributes().into_iter().find(|attribute| name == attribute.name());
                attribute.map(|attribute| Node::Attribute(number, attribute))
            }
            _ => None,
        }
        .ok_or(Errno::ENOENT)
    }

    fn node(&self, number: INodeNo) -> Result<Node, Errno> {
        let node = Node::of(number)?;
        match node {
            Node::Root => Ok(node),
            Node::Instance(instance) | Node::Attribute(instance, _) => {
                if self.tsm().exists(instance) {
                    Ok(node)
                } else {
                    Err(Errno::ENOENT)
                }
            }
        }
    }

    fn begin(&self, number: INodeNo, flags: OpenFlags) -> Result<FileHandle, Errno> {
        let Node::Attribute(instance, attribute) = self.node(number)? else {
            return Err(Errno::EISDIR);
        };
        let wanted = if attribute.is_writable() { OpenAccMode::O_WRONLY } else { OpenAccMode::O_RDONLY };
        if flags.acc_mode() != wanted {
            return Err(Errno::EACCES);
        }
        let mut files = self.files();
        let handle = files.keys().max().map_or(1, |last| last + 1);
        files.insert(handle, Open { instance, attribute, content: None, pending: None });
        Ok(FileHandle(handle))
    }

    fn part(&self, handle: FileHandle, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let mut files = self.files();
        let file = files.get_mut(&handle.0).ok_or(Errno::EBADF)?;
        let content = match &mut file.content {
            Some(content) => content,
            empty => empty.insert(self.tsm().read(file.instance, file.attribute)?),
        };
        let rest = usize::try_from(offset).ok().and_then(|offset| content.get(offset..)).unwrap_or_default();
        Ok(rest.iter().take(size as usize).copied().collect())
    }

    fn take(&self, handle: FileHandle, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let mut files = self.files();
        let file = files.get_mut(&handle.0).ok_or(Errno::EBADF)?;
        if file.attribute != Attribute::Inblob {
            return self.tsm().store(file.instance, file.attribute, data);
        }
        let start = usize::try_from(offset).map_err(|_| Errno::EFBIG)?;
        let end = start.checked_add(data.len()).ok_or(Errno::EFBIG)?;
        Tsm::check_size(end)?;
        let pending = file.pending.get_or_insert_default();
        pending.resize(pending.len().max(end), 0);
        pending[start..end].copy_from_slice(data);
        Ok(())
    }

    fn close(&self, handle: FileHandle) {
        if let Some(file) = self.files().get_mut(&handle.0)
            && let Some(bytes) = file.pending.take()
        {
            // The kernel ignores what the driver says here, and so does the writer's `close`.
            let _ = self.tsm().deliver(file.instance, &bytes);
        }
    }
}

impl Filesystem for Reports {
    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent, name) {
            Ok(node) => reply.entry(&TTL, &node.attributes(self.owner), Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(&self, _request: &Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.node(number) {
            Ok(node) => reply.attr(&TTL, &node.attributes(self.owner)),
            Err(errno) => reply.error(errno),
        }
    }

    // Opening with O_TRUNC sets the size; configfs takes that without any effect.
    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.getattr(request, number, handle, reply);
    }

    fn mkdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        let created = match (Node::of(parent), name.to_str()) {
            (Ok(Node::Root), Some(name)) => self.tsm().create(name),
            (Ok(Node::Root), None) => Err(Errno::EINVAL),
            _ => Err(Errno::EPERM),
        };
        match created {
            Ok(number) => reply.entry(&TTL, &Node::Instance(number).attributes(self.owner), Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = match (Node::of(parent), name.to_str()) {
            (Ok(Node::Root), Some(name)) => self.tsm().remove(name),
            _ => Err(Errno::ENOTDIR),
        };
        match removed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn open(&self, _request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.begin(number, flags) {
            Ok(handle) => reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.part(handle, offset, size) {
            Ok(part) => reply.data(&part),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.take(handle, offset, data) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        }
    }

    // FUSE releases in the background after `close` has returned; a flush is what `close` waits for.
    fn flush(&self, _request: &Request, _number: INodeNo, handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        self.close(handle);
        reply.ok();
    }

    fn release(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.close(handle);
        self.files().remove(&handle.0);
        reply.ok();
    }

    fn readdir(&self, _request: &Request, number: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries: Vec<(Node, FileType, String)> = match self.node(number) {
            Ok(Node::Root) => {
                self.tsm().list().map(|(number, name)| (Node::Instance(number), FileType::Directory, name.to_owned())).collect()
            }
            Ok(Node::Instance(instance)) => {
                let entry =
                    |attribute: Attribute| (Node::Attribute(instance, attribute), FileType::RegularFile, attribute.name().to_owned());
                self.tsm().attributes().into_iter().map(entry).collect()
            }
            Ok(Node::Attribute(..)) => return reply.error(Errno::ENOTDIR),
            Err(errno) => return reply.error(errno),
        };
        for (place, (node, kind, name)) in (1u64..).zip(entries).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            if reply.add(node.number(), place, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
