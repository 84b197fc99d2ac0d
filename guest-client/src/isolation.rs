//! Namespaces of one's own without privilege, and an engine without capabilities.
//!
//! Whoever makes a user namespace holds every capability in it, over what belongs to it: a mount namespace made together with it may
//! be mounted in, and nobody outside sees what is mounted. User and group stay who they are, so that files keep their owners.

use std::fs;
use std::io;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{DumpableBehavior, getegid, geteuid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, capabilities, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// Why there is no namespace.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// The kernel, a sysctl, seccomp or a security module forbids user namespaces.
    #[error("cannot make a user and a mount namespace: {0}")]
    Namespaces(io::Error),
    /// The identity could not be carried over.
    #[error("cannot map user and group into the user namespace: {0}")]
    Identity(io::Error),
    /// The mounts of the new namespace could not be set apart.
    #[error("cannot set the mounts of the namespace apart: {0}")]
    Mounts(io::Error),
    /// A capability or the right to gain some could not be given up.
    #[error("cannot give up capabilities: {0}")]
    Capabilities(io::Error),
}

impl IsolationError {
    /// A stable name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Namespaces(_) => "isolation-namespaces",
            Self::Identity(_) => "isolation-identity",
            Self::Mounts(_) => "isolation-mounts",
            Self::Capabilities(_) => "isolation-capabilities",
        }
    }

    /// What may help.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Namespaces(_) => {
                "allow unshare(2) in the container's seccomp profile and user namespaces on the node, or use mount with privilege, or unseal without any"
            }
            Self::Identity(_) => "run as another user than root, or as root with CAP_SETFCAP; /proc must be writable",
            Self::Mounts(_) | Self::Capabilities(_) => "a security module may forbid it; unseal needs none of this",
        }
    }
}

/// Moves this process, which must have one thread, to a user and a mount namespace of its own, as the user that it is.
///
/// # Errors
/// [`IsolationError`]; the process is then of no use for mounting, and unchanged or alone in a new namespace.
pub fn enter() -> Result<(), IsolationError> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    // The function is deprecated because of CLONE_FILES, which is not used here.
    #[expect(deprecated, reason = "safe for these two flags")]
    rustix::thread::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).map_err(|error| IsolationError::Namespaces(error.into()))?;
    // Without privilege a group is mapped only by whoever can no longer leave groups (`user_namespaces(7)`).
    fs::write("/proc/self/setgroups", "deny").map_err(IsolationError::Identity)?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1")).map_err(IsolationError::Identity)?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1")).map_err(IsolationError::Identity)?;
    // What is mounted outside later shows here; what is mounted here never shows outside.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|error| IsolationError::Mounts(error.into()))?;
    pass_on(CapabilitySet::SYS_ADMIN | CapabilitySet::SETPCAP).map_err(|error| IsolationError::Capabilities(error.into()))
}

/// Lets programs that this process starts have capabilities too, which otherwise only root's have: the mount server, which mounts, and
/// whoever becomes the engine, who gives up all of them including the bounding set.
fn pass_on(some: CapabilitySet) -> Result<(), rustix::io::Errno> {
    let own = capabilities(None)?;
    set_capabilities(None, CapabilitySets { inheritable: own.inheritable | some, ..own })?;
    some.iter().try_for_each(|capability| configure_capability_in_ambient_set(capability, true))
}

/// Closes this process's memory to others of the same user: it may hold a key, and they may hold no capability.
pub fn close_memory() {
    // It never fails for this value.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Gives up all capabilities of this thread for good, also those that a set-user-ID program would bring.
///
/// # Errors
/// [`IsolationError::Capabilities`].
pub fn give_up_capabilities() -> Result<(), IsolationError> {
    let failed = |error: rustix::io::Errno| IsolationError::Capabilities(error.into());
    for capability in CapabilitySet::all().iter() {
        // Without CAP_SETPCAP the bounding set stays, which then bounds nothing that no_new_privs does not. A kernel that does not
        // know a capability says so.
        let _ = remove_capability_from_bounding_set(capability);
    }
    clear_ambient_capability_set().map_err(failed)?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }).map_err(failed)?;
    set_no_new_privs(true).map_err(failed)
}
