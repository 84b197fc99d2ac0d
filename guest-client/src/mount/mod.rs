//! A sealed model as a folder: mounted over FUSE, read-only, chunks decrypted on first touch and then kept by the kernel's page cache.
//!
//! ```text
//!  mmap, read          page cache               mount server                        storage, not trusted
//!  engine ──────────►  has the page? yes ─► done
//!                      no ── FUSE read ──►  chunk held? no ── range ──────────────► sealed file
//!                      keeps the page ◄───  checked, decrypted ◄─────────────────── bytes
//! ```
//!
//! What a reader gets is what the publisher sealed, or an I/O error (`EIO`) and an [event](events) that names the file, the chunk
//! and the check. The storage is looked at anew for each chunk: a model's file is served only while what lies at its path is a
//! regular file of the sealed size, or an object of that size. Pages that were right once stay readable: the kernel keeps them, and
//! they are the guest's memory.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`order`] | what a mount server is told, and what it says: the key comes over a descriptor, never by argument, environment or file |
//! | [`place`] | the mount point: what is found there, a dead mount among them |
//! | [`server`] | a mount from its beginning to its end |
//! | [`filesystem`] | the FUSE side: inodes, attributes, reads |
//! | [`tree`] | the model's files as inodes |
//! | [`chunks`] | decrypted chunks on their way to the page cache: each decrypted once, the next ones ahead |
//! | [`storage`] | what lies in a folder or is fetched, looked at anew for each chunk |
//! | [`supervised`] | a mount server as a process of its own, seen from whoever started it |
//! | [`events`] | what a mount tells and counts |

pub mod chunks;
pub mod events;
pub mod filesystem;
pub mod order;
pub mod place;
pub mod server;
pub mod storage;
pub mod supervised;
pub mod tree;
