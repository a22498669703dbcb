//! The few system calls that the standard library does not offer.
#![allow(unsafe_code, reason = "affinity, priority, mappings and threads' signals")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result};
use wire::HopCell;
use wire::table::{Bucket, Entry};

/// The clock that the kernel programs read: CLOCK_MONOTONIC, nanoseconds.
pub(crate) fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Keeps a thread (0: this one) on one core.
pub(crate) fn pin(thread: i32, core: usize) -> io::Result<()> {
    // SAFETY: an all-zero set is an empty set; the kernel reads it within its size.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(thread, size_of_val(&set), &raw const set)
    };
    check(result)
}

/// Puts a thread or process (0: this one, with its session) before the machine's other work.
pub(crate) fn prefer(thread: i32) -> io::Result<()> {
    if thread == 0 {
        // Priorities count within a session only, where sessions share a machine evenly.
        let _ = std::fs::write("/proc/self/autogroup", "-20");
    }
    // SAFETY: takes numbers only.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, thread as u32, -20) })
}

/// Lets a thread (0: this one) run whenever it wants to, before all that has a lower `rank`, 1 to
/// 99, or none.
pub(crate) fn at_once(thread: i32, rank: i32) -> io::Result<()> {
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

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Words that may be seen while the kernel or another core changes them.
///
/// # Safety
/// Made of atomic 64-bit words, or only used as such.
pub(crate) unsafe trait Shared: 'static {}
// SAFETY: an atomic word.
unsafe impl Shared for AtomicU64 {}
// SAFETY: made of atomic words.
unsafe impl Shared for Entry {}
// SAFETY: made of atomic words.
unsafe impl Shared for Bucket {}
// SAFETY: made of atomic words.
unsafe impl Shared for HopCell {}

/// `len` items of a map that was made for mapping. The mapping lasts as long as this process.
pub(crate) fn mapped<T: Shared>(map: impl AsFd, len: usize) -> Result<&'static [T]> {
    let (bytes, access) = (len * size_of::<T>(), libc::PROT_READ | libc::PROT_WRITE);
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

/// Zeroed memory in small pages, as the kernel's maps have it.
pub(crate) fn small_pages(words: usize) -> Result<&'static mut [u64]> {
    let (bytes, access) = (words * 8, libc::PROT_READ | libc::PROT_WRITE);
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh mapping that nobody else knows, never unmapped.
    unsafe {
        let start = libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0);
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("no memory");
        }
        libc::madvise(start, bytes, libc::MADV_NOHUGEPAGE);
        Ok(std::slice::from_raw_parts_mut(start.cast(), words))
    }
}
