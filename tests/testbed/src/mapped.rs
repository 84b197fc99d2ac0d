//! A process that reads a file through a memory map, as inference engines do, and dies of it where they would: a page that cannot be
//! had is `SIGBUS`.
//!
//! Why the map is sound. The memory is a private, read-only map that the kernel chose the address of; nothing else of the process
//! lies there, and it is never unmapped. It is only ever read byte by byte, by volatile reads through a raw pointer below its length,
//! and no reference to it is made: so a file that changes underneath changes what is read, and nothing that the compiler has assumed.
//! A page that cannot be had kills the process, which is what this is for.

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::ptr;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap};

/// A file in memory, for as long as the process lives.
pub struct Mapped {
    start: *const u8,
    length: usize,
}

impl Mapped {
    /// Maps the file. The kernel is told that reads are random, so that it fetches what is touched and no more.
    ///
    /// # Errors
    /// The system's.
    pub fn of(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        // SAFETY: a new map at an address of the kernel's choice; see the head of this file.
        let start = unsafe { mmap(ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, &file, 0)? };
        // SAFETY: the whole of the map that was just made; this advice changes no bytes.
        unsafe { madvise(start, length, Advice::Random)? };
        Ok(Self { start: start.cast(), length })
    }

    /// The byte at `offset`; `None` behind the end.
    #[must_use]
    pub fn byte(&self, offset: usize) -> Option<u8> {
        // SAFETY: below the length of the map, which lives as long as the process.
        (offset < self.length).then(|| unsafe { self.start.add(offset).read_volatile() })
    }
}

/// Maps the file, says `mapped`, and answers each offset on standard input with the byte there, until the input ends.
///
/// # Errors
/// The system's.
pub fn serve(path: &Path) -> io::Result<()> {
    let mapped = Mapped::of(path)?;
    let mut out = io::stdout().lock();
    writeln!(out, "mapped")?;
    for line in io::stdin().lock().lines() {
        let offset = line?.trim().parse().map_err(io::Error::other)?;
        match mapped.byte(offset) {
            Some(byte) => writeln!(out, "byte {byte}")?,
            None => writeln!(out, "end")?,
        }
    }
    Ok(())
}
