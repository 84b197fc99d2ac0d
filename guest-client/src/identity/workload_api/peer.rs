//! Who is on the other end of a workload's socket, as the kernel says (`SO_PEERCRED`), and whether that is the workload.
//!
//! The user is the check: it means the same in every PID namespace. A cgroup is a second one, for where this process sees the
//! workload's: then its PID leads to `/proc/PID/cgroup`. A PID may have been given to another process between the connection and
//! the look, so a cgroup narrows what the user already allows and never widens it.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use tokio::net::unix::UCred;

/// The longest `/proc/PID/cgroup` that is read (bytes): one line for each hierarchy.
const FILE: u64 = 64 * 1024;

/// A cgroup, and those below it: `/system.slice/agent.service`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Cgroup(String);

impl TryFrom<String> for Cgroup {
    type Error = &'static str;
    fn try_from(path: String) -> Result<Self, Self::Error> {
        let segment = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
        match path.strip_prefix('/') {
            Some(rest) if rest.split('/').all(segment) => Ok(Self(path)),
            _ => Err("expected the path of a cgroup below the root, as /proc/PID/cgroup shows it"),
        }
    }
}

impl Cgroup {
    /// Whether `path` is this cgroup or below it.
    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Who may ask a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callers {
    /// Users, by number.
    pub users: Vec<u32>,
    /// Where their processes must be; `None`: anywhere.
    pub cgroup: Option<Cgroup>,
}

/// Why a caller is not the workload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    /// The kernel does not say who it is.
    #[error("the kernel does not say who connected")]
    Unknown,
    /// Another user.
    #[error("user {found} may not ask this socket")]
    User {
        /// Who asked.
        found: u32,
    },
    /// Its process is not visible from here, and a cgroup is demanded.
    #[error("the caller's process is not visible from here, so its cgroup is not known")]
    Invisible,
    /// It is in another cgroup.
    #[error("the caller is in the cgroup {found}, not in {expected}")]
    Cgroup {
        /// Where it must be.
        expected: String,
        /// Where it is.
        found: String,
    },
}

impl Stranger {
    /// A stable name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "caller-unknown",
            Self::User { .. } => "caller-user",
            Self::Invisible => "caller-invisible",
            Self::Cgroup { .. } => "caller-cgroup",
        }
    }
}

impl Callers {
    /// Judges whoever connected.
    ///
    /// # Errors
    /// [`Stranger`].
    pub fn judge(&self, peer: Option<UCred>) -> Result<(), Stranger> {
        let peer = peer.ok_or(Stranger::Unknown)?;
        // A process of another PID namespace has no number here.
        let pid = peer.pid().filter(|pid| *pid > 0);
        self.judge_user(peer.uid(), || pid.and_then(cgroup_of))
    }

    fn judge_user(&self, user: u32, cgroup: impl FnOnce() -> Option<String>) -> Result<(), Stranger> {
        if !self.users.contains(&user) {
            return Err(Stranger::User { found: user });
        }
        let Some(expected) = &self.cgroup else { return Ok(()) };
        match cgroup() {
            None => Err(Stranger::Invisible),
            Some(found) if expected.covers(&found) => Ok(()),
            Some(found) => Err(Stranger::Cgroup { expected: expected.0.clone(), found }),
        }
    }
}

/// Where a process is in the unified hierarchy.
fn cgroup_of(pid: i32) -> Option<String> {
    let mut text = String::new();
    let file = std::fs::File::open(Path::new("/proc").join(pid.to_string()).join("cgroup")).ok()?;
    file.take(FILE).read_to_string(&mut text).ok()?;
    unified(&text).map(str::to_owned)
}

/// The path on the line of hierarchy 0 (`cgroups(7)`: `0::PATH`).
fn unified(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroup(path: &str) -> Cgroup {
        Cgroup::try_from(path.to_owned()).unwrap()
    }

    #[test]
    fn a_user_that_is_not_named_is_a_stranger() {
        let callers = Callers { users: vec![1000, 1001], cgroup: None };
        assert_eq!(callers.judge_user(1001, || None), Ok(()));
        assert_eq!(callers.judge_user(1002, || None), Err(Stranger::User { found: 1002 }));
        assert_eq!(callers.judge_user(0, || None), Err(Stranger::User { found: 0 }), "root is no workload");
        assert_eq!(callers.judge(None), Err(Stranger::Unknown));
    }

    #[test]
    fn a_cgroup_narrows_what_the_user_allows() {
        let callers = Callers { users: vec![1000], cgroup: Some(cgroup("/pods/research")) };
        for (found, expected) in [
            (Some("/pods/research"), Ok(())),
            (Some("/pods/research/init"), Ok(())),
            (Some("/pods/research-2"), Err("caller-cgroup")),
            (Some("/pods"), Err("caller-cgroup")),
            (Some("/../pods/research"), Err("caller-cgroup")),
            (None, Err("caller-invisible")),
        ] {
            let judged = callers.judge_user(1000, || found.map(str::to_owned));
            assert_eq!(judged.as_ref().copied().map_err(Stranger::code), expected, "{found:?}");
        }
        let other = callers.judge_user(1001, || Some("/pods/research".to_owned()));
        assert_eq!(other, Err(Stranger::User { found: 1001 }), "it never widens");
    }

    #[test]
    fn a_cgroup_is_a_path_that_does_not_climb() {
        for bad in ["", "/", "pods", "/pods/", "/pods//a", "/pods/../a", "/./a"] {
            assert!(Cgroup::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        assert!(Cgroup::try_from("/kubepods.slice/pod_1.slice".to_owned()).is_ok());
    }

    #[test]
    fn the_unified_hierarchy_is_the_one_that_counts() {
        assert_eq!(unified("12:cpu:/a\n0::/pods/research\n"), Some("/pods/research"));
        assert_eq!(unified("12:cpu:/a\n"), None);
        assert_eq!(cgroup_of(i32::MAX), None);
        let own = cgroup_of(i32::try_from(std::process::id()).unwrap());
        assert!(own.is_none_or(|path| path.starts_with('/')));
    }
}
