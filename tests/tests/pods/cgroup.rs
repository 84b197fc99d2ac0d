//! Real cgroups with a memory limit, of whichever version this machine has.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A cgroup; dropping it removes it.
pub struct Cgroup {
    path: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Cgroup {
    /// A new one with this memory limit. `None`, and one line, where none can be made.
    pub fn limited(bytes: u64) -> Option<Self> {
        let made = Self::make();
        if let Some(cgroup) = &made {
            let file = if cgroup.version == Version::Two { "memory.max" } else { "memory.limit_in_bytes" };
            fs::write(cgroup.path.join(file), bytes.to_string()).unwrap();
        }
        made
    }

    fn make() -> Option<Self> {
        let name = format!("portcullis-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let places = [(Path::new("/sys/fs/cgroup/memory"), Version::One), (Path::new("/sys/fs/cgroup"), Version::Two)];
        for (root, version) in places {
            let path = root.join(&name);
            let limit = if version == Version::Two { "memory.max" } else { "memory.limit_in_bytes" };
            if version == Version::Two {
                // Where it is on already, or may not be turned on, what follows tells.
                let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
            }
            if fs::create_dir(&path).is_ok() {
                if path.join(limit).exists() {
                    return Some(Self { path, version });
                }
                let _ = fs::remove_dir(&path);
            }
        }
        println!("skipped: no cgroup with a memory limit can be made here");
        None
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the file that sets its limit.
    pub fn limit_file(&self) -> PathBuf {
        self.path.join(if self.version == Version::Two { "memory.max" } else { "memory.limit_in_bytes" })
    }

    /// Page cache that is charged to it (bytes).
    pub fn page_cache(&self) -> u64 {
        let stat = fs::read_to_string(self.path.join("memory.stat")).unwrap();
        let name = if self.version == Version::Two { "file " } else { "cache " };
        stat.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
    }

    /// How often the kernel killed a process in it.
    pub fn kills(&self) -> u64 {
        let file = if self.version == Version::Two { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.path.join(file)).unwrap();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")).map_or(0, |number| number.parse().unwrap())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its last process may not be gone yet.
        for _ in 0..400 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}
