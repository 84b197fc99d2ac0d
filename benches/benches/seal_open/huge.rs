//! A tmpfs with huge pages, for as long as the benchmark runs.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

pub struct HugePages(TempDir);

impl HugePages {
    /// Mounts it, with room for one opened model; none where the system does not let us.
    pub fn mount(gib: usize) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let huge = std::env::var("HUGE").unwrap_or_else(|_| "always".to_owned());
        let options = format!("huge={huge},mode=0700,size={}m", gib * 1024 + 64);
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "portcullis-bench"]).arg(folder.path()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        println!("skipped: no tmpfs with huge={huge} can be mounted here");
        None
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}
