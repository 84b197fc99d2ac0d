//! The agent's server: threads that block, one interface that serves one at a time.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, thread};

use protocol::ids::{Platform, Role};
use protocol::limits::AGENT_CONNECTIONS;
use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::wire::{self, AGENT_BUSY, Question, Reply, Timed, VERSION, WireError};
use crate::evidence::{AttestInputs, Attested, Attester, Collected, EvidenceError, Local, Source};

/// How long a caller may take to ask, and to take its answer.
const CALLER: Duration = Duration::from_secs(10);
/// The wait after a failed `accept`, such as for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Callers that may wait to be accepted.
const BACKLOG: i32 = 128;

/// One socket and the role that it stands for.
pub struct Served {
    /// The socket.
    pub listener: UnixListener,
    /// For whom evidence speaks that is asked for here.
    pub role: Role,
}

/// Why a socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Two sockets for one role, or one path twice: one of them is a mistake.
    #[error("{what} is named twice")]
    Twice {
        /// The role or the path.
        what: String,
    },
    /// Somebody serves there already.
    #[error("{} is already served", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else lies there.
    #[error("{} exists and is no socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot serve {}: {error}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Its answer.
        error: io::Error,
    },
}

/// Makes the socket at `path` with the permission bits `mode`. A socket that nobody serves any more is replaced.
///
/// # Errors
/// [`ServeError::InUse`], [`ServeError::NotASocket`], [`ServeError::Io`].
pub fn bind(path: &Path, mode: u32) -> Result<UnixListener, ServeError> {
    let io = |error| ServeError::Io { path: path.to_owned(), error };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(ServeError::NotASocket { path: path.to_owned() }),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(ServeError::InUse { path: path.to_owned() }),
        Ok(_) => fs::remove_file(path).map_err(io)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    let listener = private(path).map_err(|error| io(error.into()))?;
    set_mode(path, mode)?;
    Ok(listener)
}

/// Gives the socket at `path` its permission bits. Who may write its folder can have put a link there meanwhile: what is changed is what lies
/// there itself, and only if it is a socket.
fn set_mode(path: &Path, mode: u32) -> Result<(), ServeError> {
    let io = |error| ServeError::Io { path: path.to_owned(), error };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let there = fs::File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|error| io(error.into()))?);
    if !there.metadata().map_err(io)?.file_type().is_socket() {
        return Err(ServeError::NotASocket { path: path.to_owned() });
    }
    // Such a handle has no fchmod(2); the way by /proc leads to what it holds, whatever has the path by now.
    let held = format!("/proc/self/fd/{}", there.as_raw_fd());
    fs::set_permissions(held, fs::Permissions::from_mode(mode)).map_err(io)
}

/// A socket that nobody but this user can connect to. On Linux its file gets the mode that the socket has when it is bound; the umask,
/// which would do it everywhere, is every thread's, and would be that of folders made meanwhile.
fn private(path: &Path) -> rustix::io::Result<UnixListener> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// A running agent.
pub struct Agent {
    threads: Vec<JoinHandle<()>>,
}

impl Agent {
    /// Waits for its end, which never comes by itself.
    pub fn join(self) {
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Serves these sockets by `source`, each in its role, until the process ends.
///
/// # Errors
/// [`ServeError::Twice`] where two sockets have one role.
pub fn serve<S: Source + 'static>(sockets: Vec<Served>, source: S) -> Result<Agent, ServeError> {
    let mut roles = HashSet::new();
    if let Some(twice) = sockets.iter().find(|socket| !roles.insert(socket.role.to_string())) {
        return Err(ServeError::Twice { what: twice.role.to_string() });
    }
    let shared = OneAtATime(Arc::new(Mutex::new(source)));
    let start = |socket: Served| {
        let attester = Arc::new(Local::in_role(shared.clone(), socket.role.clone()));
        thread::spawn(move || accept(&socket, &attester))
    };
    Ok(Agent { threads: sockets.into_iter().map(start).collect() })
}

/// A source that many share and one uses at a time: a report takes the firmware milliseconds, and a flood must not reach it.
struct OneAtATime<S>(Arc<Mutex<S>>);

impl<S> Clone for OneAtATime<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Source> Source for OneAtATime<S> {
    fn platform(&self) -> Result<Platform, EvidenceError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).platform()
    }

    fn event_log(&self) -> Result<Option<Vec<u8>>, EvidenceError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).event_log()
    }

    fn collect(&self, report_data: &[u8; 64]) -> Result<Collected, EvidenceError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).collect(report_data)
    }
}

fn accept<S: Source + 'static>(socket: &Served, attester: &Arc<Local<OneAtATime<S>>>) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in socket.listener.incoming() {
        let Ok(stream) = stream else {
            thread::sleep(ACCEPT_PAUSE);
            continue;
        };
        let Some(place) = Place::take(&open) else {
            finish(&stream, &socket.role, &refused(AGENT_BUSY, format!("{AGENT_CONNECTIONS} callers are being served on this socket")));
            continue;
        };
        let (attester, role) = (Arc::clone(attester), socket.role.clone());
        thread::spawn(move || {
            finish(&stream, &role, &answer(&stream, &*attester));
            drop(place);
        });
    }
}

fn finish(stream: &UnixStream, role: &Role, reply: &Reply) {
    note(stream, role, reply);
    // A caller that has gone does not get its answer; there is nobody to tell.
    let _ = wire::write(&mut Timed::new(stream, CALLER), reply);
}

/// One of a socket's places; it is free again when this is dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        let taken = Self(Arc::clone(open));
        let before = open.fetch_add(1, Ordering::SeqCst);
        if before < AGENT_CONNECTIONS { Some(taken) } else { None }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn answer(stream: &UnixStream, attester: &dyn Attester) -> Reply {
    let question: Question = match wire::read(&mut Timed::new(stream, CALLER)) {
        Ok(question) => question,
        Err(error @ WireError::TooLong { .. }) => return refused("agent-message-size", error.to_string()),
        Err(error @ WireError::Form(_)) => return refused("agent-message-form", error.to_string()),
        Err(error @ WireError::Io(_)) => return refused("agent-connection", error.to_string()),
    };
    if question.version != VERSION {
        return refused("agent-version", format!("messages of version {}; this agent speaks {VERSION}", question.version));
    }
    let inputs: AttestInputs = question.into_inputs();
    match attester.attest(&inputs) {
        Ok(Attested { transcript, evidence }) => Reply::Attested { platform: transcript.platform, role: transcript.role, evidence },
        Err(error) => refused(error.code(), format!("{error}; {}", error.hint())),
    }
}

fn refused(code: &str, what: String) -> Reply {
    Reply::Refused { code: code.to_owned(), what }
}

/// One event for each question: who asked, as the kernel says, for whom it was answered, and how.
fn note(stream: &UnixStream, role: &Role, reply: &Reply) {
    let (code, what) = match reply {
        Reply::Attested { .. } => ("attested", ""),
        Reply::Refused { code, what } => (code.as_str(), what.as_str()),
    };
    match socket_peercred(stream) {
        Ok(peer) => {
            let (pid, uid, gid) = (peer.pid.as_raw_nonzero().get(), peer.uid.as_raw(), peer.gid.as_raw());
            tracing::info!(%role, pid, uid, gid, code, what, "evidence");
        }
        Err(error) => tracing::info!(%role, %error, code, what, "evidence, caller unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sockets_mode_is_its_own_and_goes_through_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, secret, link) = (folder.path().join("socket"), folder.path().join("secret"), folder.path().join("link"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let _listener = private(&socket).unwrap();
        set_mode(&socket, 0o666).unwrap();
        assert_eq!(mode(&socket), 0o666);
        fs::write(&secret, "secret").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        for there in [&secret, &socket] {
            std::os::unix::fs::symlink(there, &link).unwrap();
            assert!(matches!(set_mode(&link, 0o606), Err(ServeError::NotASocket { .. })), "{}", there.display());
            fs::remove_file(&link).unwrap();
        }
        assert!(matches!(set_mode(&secret, 0o606), Err(ServeError::NotASocket { .. })));
        assert_eq!((mode(&secret), mode(&socket)), (0o600, 0o666));
    }
}
