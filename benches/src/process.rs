//! What `/proc` says of a process.

use std::fs;
use std::io;
use std::time::Duration;

/// Ticks a second: `USER_HZ`, 100 on every Linux architecture that SEV or TDX guests run on.
const TICKS: u32 = 100;

/// CPU time of process `pid` so far, all threads, user and system; in steps of 10 ms.
///
/// # Errors
/// Where there is no such process.
pub fn cpu(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in parentheses and may hold spaces; user and system time are the 12th and 13th fields behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u32>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok(Duration::from_secs((user + system).into()) / TICKS),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "an unknown form of /proc/PID/stat")),
    }
}

/// The largest resident set that this process has had so far (bytes).
///
/// # Errors
/// Where `/proc` does not say.
pub fn peak_memory() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|number| number.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no VmHWM in /proc/self/status"))
}

/// The machine in one line: processor, cores, kernel.
#[must_use]
pub fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).and_then(|line| line.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?").to_owned();
    format!("{}, {cores} cores, Linux {}, load {load}", model.unwrap_or("unknown processor"), kernel.trim())
}
