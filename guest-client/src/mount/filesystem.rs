//! The FUSE side: inodes, attributes, reads. Nothing ever changes, so the kernel may keep everything that it has learnt.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner, OpenAccMode,
    OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, Request,
};
use models_manifest::geometry::Geometry;
use models_manifest::{OpenError, RangeSource};

use super::chunks::Chunks;
use super::events::Events;
use super::tree::{Node, Tree};

/// How long the kernel may believe names and attributes: a manifest does not change.
const TTL: Duration = Duration::from_secs(365 * 86_400);
/// The largest read that the kernel asks for (bytes). It makes it smaller where `fs.fuse.max_pages_limit` is (1 MiB as it comes).
const LARGEST_READ: u32 = 1 << 20;
/// Reads that the kernel may have in flight ahead of its readers.
const BACKGROUND: u16 = 64;
/// What is counted in `statfs`, and the best size to read in (bytes).
const BLOCK: u32 = 4096;

/// A model as a file system.
pub struct ModelFolder<S> {
    chunks: Arc<Chunks<S>>,
    events: Arc<Events>,
    tree: Tree,
    owner: (u32, u32),
}

impl<S: RangeSource + Send + Sync + 'static> ModelFolder<S> {
    /// Over the chunks of a model; everything in it is this process's user's.
    #[must_use]
    pub fn new(chunks: Arc<Chunks<S>>, events: Arc<Events>) -> Self {
        let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        Self { tree: Tree::new(chunks.contents()), chunks, events, owner }
    }

    fn node(&self, number: INodeNo) -> Result<Node, Errno> {
        self.tree.node(number.0).ok_or(Errno::ENOENT)
    }

    fn file(&self, number: INodeNo) -> Result<usize, Errno> {
        match self.node(number)? {
            Node::File(index) => Ok(index),
            Node::Folder(_) => Err(Errno::EISDIR),
        }
    }

    fn folder(&self, number: INodeNo) -> Result<usize, Errno> {
        match self.node(number)? {
            Node::Folder(index) => Ok(index),
            Node::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn geometry(&self, file: usize) -> Result<Geometry, Errno> {
        self.chunks.contents().files().get(file).map(|entry| entry.geometry()).ok_or(Errno::ENOENT)
    }

    fn attributes(&self, node: Node) -> Result<FileAttr, Errno> {
        let (kind, perm, size, nlink) = match node {
            Node::Folder(index) => (FileType::Directory, 0o555, 0, self.tree.subfolders(index).saturating_add(2)),
            Node::File(index) => (FileType::RegularFile, 0o444, self.geometry(index)?.size(), 1),
        };
        Ok(FileAttr {
            ino: INodeNo(self.tree.number(node)),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: u32::try_from(nlink).unwrap_or(u32::MAX),
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: BLOCK,
            flags: 0,
        })
    }

    fn find(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let folder = self.folder(parent)?;
        let node = name.to_str().and_then(|name| self.tree.find(folder, name)).ok_or(Errno::ENOENT)?;
        self.attributes(node)
    }

    /// Gives the plaintext from `offset` on, `size` bytes or to the file's end, to `answer`.
    fn read_to(&self, file: usize, offset: u64, size: u32, answer: impl FnOnce(&[u8])) -> Result<(), Errno> {
        let geometry = self.geometry(file)?;
        let length = geometry.size().saturating_sub(offset).min(u64::from(size));
        let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
        let (first, skip) = geometry.locate(offset);
        match self.gather(file, first, skip, length, answer) {
            Ok(()) => {
                self.events.read(length);
                Ok(())
            }
            Err((chunk, error)) => {
                let path = self.chunks.contents().files().get(file).map(|entry| entry.path().as_str()).unwrap_or_default();
                self.events.failed(file, path, chunk, &error);
                Err(Errno::EIO)
            }
        }
    }

    /// As [`Self::read_to`], from byte `skip` of chunk `first` on. Most reads lie in one chunk, and need no copy.
    fn gather(&self, file: usize, first: u64, skip: usize, length: usize, answer: impl FnOnce(&[u8])) -> Result<(), (u64, OpenError)> {
        if length == 0 {
            answer(&[]);
            return Ok(());
        }
        let plain = self.chunks.chunk(file, first).map_err(|error| (first, error))?;
        if let Some(part) = skip.checked_add(length).and_then(|end| plain.get(skip..end)) {
            answer(part);
            return Ok(());
        }
        let mut whole = Vec::with_capacity(length);
        whole.extend_from_slice(plain.get(skip..).unwrap_or_default());
        drop(plain);
        for index in first.saturating_add(1).. {
            let missing = length.saturating_sub(whole.len());
            if missing == 0 {
                break;
            }
            let plain = self.chunks.chunk(file, index).map_err(|error| (index, error))?;
            whole.extend_from_slice(plain.get(..missing.min(plain.len())).unwrap_or_default());
        }
        answer(&whole);
        Ok(())
    }
}

impl<S: RangeSource + Send + Sync + 'static> Filesystem for ModelFolder<S> {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Each is a wish; a kernel that does not know it, or wants less, says so and is served as it likes.
        let _ = config.set_max_write(LARGEST_READ);
        let _ = config.set_max_background(BACKGROUND);
        let _ = config.set_max_readahead(LARGEST_READ).or_else(|most| config.set_max_readahead(most));
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent, name) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(&self, _request: &Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.node(number).and_then(|node| self.attributes(node)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.file(number) {
            Ok(_) if flags.acc_mode() != OpenAccMode::O_RDONLY => reply.error(Errno::EROFS),
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut reply = Some(reply);
        let answer = |bytes: &[u8]| {
            if let Some(reply) = reply.take() {
                reply.data(bytes);
            }
        };
        if let Err(errno) = self.file(number).and_then(|file| self.read_to(file, offset, size, answer))
            && let Some(reply) = reply
        {
            reply.error(errno);
        }
    }

    fn release(
        &self,
        _request: &Request,
        _number: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn opendir(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.folder(number) {
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(&self, _request: &Request, number: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let folder = match self.folder(number) {
            Ok(folder) => folder,
            Err(errno) => return reply.error(errno),
        };
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for (place, name, node) in self.tree.entries(folder, skip) {
            let kind = match node {
                Node::Folder(_) => FileType::Directory,
                Node::File(_) => FileType::RegularFile,
            };
            if reply.add(INodeNo(self.tree.number(node)), place, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _number: INodeNo, reply: ReplyStatfs) {
        let blocks = self.chunks.contents().files().iter().map(|file| file.geometry().size().div_ceil(u64::from(BLOCK)));
        let (folders, files) = self.tree.counts();
        let inodes = u64::try_from(folders.saturating_add(files)).unwrap_or(u64::MAX);
        reply.statfs(blocks.fold(0, u64::saturating_add), 0, 0, inodes, 0, BLOCK, 255, BLOCK);
    }
}
