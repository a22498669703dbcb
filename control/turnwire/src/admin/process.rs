//! What the process itself uses, out of /proc. What cannot be read is left out.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::threads::{self, ThreadTime};

/// Resources in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// Resident memory, in bytes.
    pub resident_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// The soft limit of open file descriptors.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Time of the processors that was used.
    pub cpu: Option<Duration>,
    /// When it started, since 1970.
    pub started: Option<Duration>,
    /// What each thread used of the processors.
    pub threads_times: BTreeMap<String, ThreadTime>,
}

impl Process {
    /// Those of this process.
    pub fn look() -> Process {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let system = fs::read_to_string("/proc/stat").unwrap_or_default();
        Process {
            resident_bytes: field(&status, "VmRSS:").map(|kib| kib * 1024),
            open_fds: open_fds(),
            max_fds: field(&limits, "Max open files"),
            threads: field(&status, "Threads:"),
            cpu: cpu(&stat),
            started: started(&stat, &system),
            threads_times: threads::look(),
        }
    }
}

/// User and system time: 14 and 15 in proc(5), of which two stand before the fields.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = threads::fields(stat)?;
    Some(threads::ticks(fields.get(11))? + threads::ticks(fields.get(12))?)
}

/// The 22nd, since the system's start.
fn started(stat: &str, system: &str) -> Option<Duration> {
    let (_, fields) = threads::fields(stat)?;
    Some(Duration::from_secs(field(system, "btime ")?) + threads::ticks(fields.get(19))?)
}

/// The first number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// The folder's size is the count since Linux 6.2; before, entries must be counted.
fn open_fds() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok(),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_descriptors_and_threads() {
        let process = Process::look();
        assert!(process.resident_bytes > Some(100 * 1024));
        assert!(process.open_fds >= Some(3) && process.open_fds <= process.max_fds);
        assert!(process.threads >= Some(1));
        assert!(process.cpu.is_some() && process.threads_times.contains_key("control"));
        let age = crate::clock::unix().saturating_sub(process.started.expect("a start"));
        assert!(age < Duration::from_secs(3600), "this test runs for {age:?}?");
    }

    #[test]
    fn a_field_is_the_first_number_after_its_name() {
        assert_eq!(field("A: 1\nVmRSS:\t  1234 kB\n", "VmRSS:"), Some(1234));
        assert_eq!(field("Max open files   1024   4096   files\n", "Max open files"), Some(1024));
        assert_eq!(field("", "VmRSS:"), None);
    }
}
