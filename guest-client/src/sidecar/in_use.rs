//! Whether somebody still has a file of a folder open or mapped, in whatever container or namespace.
//!
//! The kernel grants a write lease (`F_SETLEASE`, `F_WRLCK`) on a file only while nobody else has it open (`fcntl(2)`, "File leases").
//! So asking for one and giving it back at once tells it, without looking into other processes. A mapping keeps its file open.
//!
//! Who opens the file between the two waits until the lease is given back, and the kernel tells its holder so by a signal: `SIGIO`, which ends
//! a process that does not expect it, unless another is chosen (`F_SETSIG`). `SIGURG` is ignored by whoever does not ask for it (`signal(7)`).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Which signal tells that somebody waits (`include/uapi/asm-generic/fcntl.h`).
const F_SETSIG: libc::c_int = 10;

/// Whether somebody has a regular file at or under `path` open.
///
/// # Errors
/// The system's, where the folder cannot be walked or the file system knows no leases.
pub fn in_use(path: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if (kind.is_dir() && in_use(&entry.path())?) || (kind.is_file() && is_open(&File::open(entry.path())?)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_open(file: &File) -> io::Result<bool> {
    match take(file) {
        Ok(()) => control(file, libc::F_SETLEASE, libc::F_UNLCK).map(|()| false),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Takes the lease; who opens the file from now on wakes nobody up.
fn take(file: &File) -> io::Result<()> {
    control(file, F_SETSIG, libc::SIGURG)?;
    control(file, libc::F_SETLEASE, libc::F_WRLCK)
}

fn control(file: &File, command: libc::c_int, argument: libc::c_int) -> io::Result<()> {
    // SAFETY: fcntl with F_SETSIG or F_SETLEASE takes an open descriptor, which `file` keeps open, and an integer; it touches no memory of ours.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_in_use_while_a_file_of_it_is_open_somewhere() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        let path = folder.path().join("deep/weights");
        std::fs::write(&path, "w").unwrap();
        assert!(!in_use(folder.path()).unwrap());
        let mut reader = std::process::Command::new("sleep").arg("60").stdin(File::open(&path).unwrap()).spawn().unwrap();
        assert!(in_use(folder.path()).unwrap(), "another process has it open");
        reader.kill().unwrap();
        reader.wait().unwrap();
        assert!(!in_use(folder.path()).unwrap());
    }

    #[test]
    fn who_opens_a_file_while_it_is_asked_about_does_not_end_this_process() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, "w").unwrap();
        let file = File::open(&path).unwrap();
        take(&file).unwrap();
        // As an engine would, but without waiting: the kernel sends the signal now.
        let opened =
            std::process::Command::new("dd").args(["iflag=nonblock", "count=0"]).arg(format!("if={}", path.display())).output().unwrap();
        assert!(!opened.status.success(), "the lease was held");
        control(&file, libc::F_SETLEASE, libc::F_UNLCK).unwrap();
        drop(file);
        assert!(!in_use(folder.path()).unwrap(), "and this process is still here");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert_eq!(in_use(Path::new("/nonexistent/folder")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
