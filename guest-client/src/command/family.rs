//! A program and all that it started: also what it left alone, and what made itself a session of its own.
//!
//! A process whose parent has ended is given to the next one above it that asked for such (`PR_SET_CHILD_SUBREAPER`), which is this one: so
//! nothing leaves the tree below it. It is told apart from this process's own children, such as mount servers, by being there later.

use std::collections::HashSet;
use std::fs;
use std::io;

use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper};

/// All processes below this one that were not there when it began.
#[derive(Debug, Default)]
pub struct Family {
    /// Below this; `None`: nobody is known, because nobody asked for it or `/proc` does not tell.
    root: Option<Pid>,
    others: HashSet<Pid>,
}

impl Family {
    /// Whoever is started below this process from now on.
    ///
    /// # Errors
    /// The system's.
    pub fn begin() -> io::Result<Self> {
        let root = getpid();
        set_child_subreaper(Some(root))?;
        // Numbers in the /proc of another PID namespace are other processes' here.
        let seen = fs::read_link("/proc/self").ok().and_then(|own| own.to_str()?.parse::<i32>().ok());
        if seen != Some(root.as_raw_pid()) {
            tracing::warn!("/proc is not this process's own: of the program, only its first process will be ended");
            return Ok(Self::default());
        }
        Ok(Self { root: Some(root), others: below(root, &parents(), &HashSet::new()).into_iter().collect() })
    }

    /// Who is there now, whoever started others before them.
    pub fn members(&self) -> Vec<Pid> {
        let Some(root) = self.root else { return Vec::new() };
        let found = below(root, &parents(), &self.others);
        // Whoever gets another parent while this looks may be missed once.
        if found.is_empty() { below(root, &parents(), &self.others) } else { found }
    }

    /// Sends a signal to the program, while it is there, and to the rest of its family.
    pub fn signal(&self, program: Option<Pid>, signal: Signal) {
        let rest = self.members().into_iter().filter(|member| Some(*member) != program);
        for member in program.into_iter().chain(rest) {
            // Whoever has just ended needs none.
            let _ = kill_process(member, signal);
        }
    }
}

/// Whoever is below `root` in a list of processes and their parents, but for `others` and what is below those.
fn below(root: Pid, parents: &[(Pid, Pid)], others: &HashSet<Pid>) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut waiting = vec![root];
    while let Some(parent) = waiting.pop() {
        let children = parents.iter().filter(|(process, of)| *of == parent && *process != root && !others.contains(process));
        let children: Vec<Pid> = children.map(|(process, _)| *process).collect();
        found.extend(&children);
        waiting.extend(children);
    }
    found
}

/// Every process and its parent, where it has one here.
fn parents() -> Vec<(Pid, Pid)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let processes = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    // Whoever has ended meanwhile is no longer there to be read; a name may be any bytes.
    let stat = |process: i32| fs::read(format!("/proc/{process}/stat")).ok();
    processes.filter_map(|process| Some((Pid::from_raw(process)?, parent(&String::from_utf8_lossy(&stat(process)?))?))).collect()
}

/// The parent: field 4 of `/proc/PID/stat` (`proc_pid_stat(5)`), which is the second behind the name in parentheses. 0 is nobody here.
fn parent(stat: &str) -> Option<Pid> {
    let (_, fields) = stat.rsplit_once(')')?;
    Pid::from_raw(fields.split_whitespace().nth(1)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;

    fn pid(number: i32) -> Pid {
        Pid::from_raw(number).unwrap()
    }

    #[test]
    fn a_family_is_what_is_below_but_for_others_and_theirs() {
        let parents = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 5), (7, 9), (9, 2), (1, 4)].map(|(process, of)| (pid(process), pid(of)));
        let found = |others: &[i32]| {
            let found = below(pid(1), &parents, &others.iter().copied().map(pid).collect());
            let mut found: Vec<i32> = found.into_iter().map(Pid::as_raw_pid).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(found(&[]), [2, 3, 4, 5, 6, 7, 9]);
        assert_eq!(found(&[5]), [2, 3, 4, 7, 9]);
        assert_eq!(found(&[2, 5]), [0_i32; 0]);
    }

    #[test]
    fn a_parent_is_read_behind_any_name() {
        assert_eq!(parent("12 (sh) S 7 12 12 0"), Some(pid(7)));
        assert_eq!(parent("12 (a) Z 9 (b) R 7 12"), Some(pid(7)));
        assert_eq!(parent("1 (init) S 0 1 1"), None);
        assert_eq!(parent("12 (sh"), None);
    }

    #[test]
    fn what_a_program_started_is_found_and_ended() {
        let mut program = Command::new("sh").args(["-c", "sleep 300 & wait"]).spawn().unwrap();
        let family = Family { root: Some(Pid::from_child(&program)), others: HashSet::new() };
        for _ in 0..500 {
            if !family.members().is_empty() {
                break;
            }
            sleep(Duration::from_millis(20));
        }
        assert_eq!(family.members().len(), 1);
        family.signal(None, Signal::KILL);
        // It waits for nothing but that.
        assert!(program.wait().unwrap().code().is_some());
        assert!(family.members().is_empty());
        assert!(Family::default().members().is_empty());
    }
}
