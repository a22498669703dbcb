//! The few system calls that the standard library does not offer.
#![allow(unsafe_code, reason = "affinity, priority, mappings and threads' signals")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result};

/// The clock that the kernel programs read: CLOCK_MONOTONIC, nanoseconds.
pub fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Keeps a thread (0: this one) on one core.
///
/// # Errors
/// As sched_setaffinity(2).
pub fn pin(thread: i32, core: usize) -> io::Result<()> {
    // SAFETY: an all-zero set is an empty set; the kernel reads it within its size.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(thread, size_of_val(&set), &raw const set)
    };
    check(result)
}

/// Lets a thread (0: this one) run whenever it wants to, before all that has a lower `rank`, 1 to
/// 99, or none.
///
/// # Errors
/// As sched_setscheduler(2): it needs CAP_SYS_NICE.
pub fn at_once(thread: i32, rank: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: rank };
    // SAFETY: the kernel reads one sched_param.
    check(unsafe { libc::sched_setscheduler(thread, libc::SCHED_FIFO, &raw const parameters) })
}

/// This thread's number.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: reads a number.
    unsafe { libc::gettid() }
}

/// Lets a system call of `thread`, one of this process, end early (EINTR). One that has ended is
/// no error.
pub(crate) fn interrupt(thread: i32) -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the handler does nothing; tgkill takes numbers, and reaches this process only.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        check(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()))?;
        let result = libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGUSR1);
        match check(result as i32) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            result => result,
        }
    }
}

/// What a system call's result says.
///
/// # Errors
/// It is negative: what errno says then.
pub fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `len` words of a map that was made for mapping. The mapping lasts as long as this process.
pub(crate) fn mapped(map: impl AsFd, len: usize) -> Result<&'static [AtomicU64]> {
    let (bytes, access) = (len * size_of::<AtomicU64>(), libc::PROT_READ | libc::PROT_WRITE);
    let fd = map.as_fd().as_raw_fd();
    // SAFETY: a fresh mapping, never unmapped, of words that are accessed as atomics only.
    unsafe {
        let start = libc::mmap(std::ptr::null_mut(), bytes, access, libc::MAP_SHARED, fd, 0);
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("mapping a map");
        }
        Ok(std::slice::from_raw_parts(start.cast(), len))
    }
}
