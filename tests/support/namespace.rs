//! Being inside one of the lab's hosts for a moment.
//!
//! A socket belongs to the network namespace it was made in for as long as it lives. So it is
//! enough to make it on a thread that has moved there; afterwards any thread may use it.
#![allow(unsafe_code, reason = "setns has no safe wrapper in the standard library")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};

/// Runs `task` on a thread of its own inside the network namespace at `namespace`.
///
/// # Errors
/// The namespace cannot be entered (CAP_SYS_ADMIN is needed), or the task's own.
pub fn inside<T: Send>(namespace: &Path, task: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(namespace).with_context(|| format!("entering {}", namespace.display()))?;
            task()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Moves the calling thread, which must have been made for this, for good.
fn enter(namespace: &Path) -> io::Result<()> {
    let file = File::open(namespace)?;
    // SAFETY: `file` is open for the whole call, and setns touches no memory of ours.
    match unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// True when this process may make a lab.
pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing, touches nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Sends a signal to a process that the caller has started and not yet waited for.
///
/// # Errors
/// As kill(2).
pub fn signal(pid: u32, signal: libc::c_int) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    assert!(pid > 1, "a pid of 1 or less would signal others");
    // SAFETY: kill takes two numbers and touches no memory of ours.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets this process open `wanted` descriptors.
///
/// # Errors
/// The hard limit is lower: raise it with `ulimit -Hn`.
pub fn raise_descriptor_limit(wanted: u64) -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills a structure that lives through the call.
    let read = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    anyhow::ensure!(read == 0, std::io::Error::last_os_error());
    anyhow::ensure!(limit.rlim_max >= wanted, "ulimit -Hn is {}, not {wanted}", limit.rlim_max);
    limit.rlim_cur = limit.rlim_cur.max(wanted);
    // SAFETY: as above, only read.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    anyhow::ensure!(set == 0, std::io::Error::last_os_error());
    Ok(())
}
