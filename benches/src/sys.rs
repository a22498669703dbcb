//! The few system calls that the standard library does not offer.
#![allow(unsafe_code, reason = "priority, signals, and mappings")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};
use traffic::sys::check;
pub(crate) use traffic::sys::{at_once, pin};
use wire::HopCell;
use wire::table::{Bucket, Entry};

/// Puts a thread or process (0: this one, with its session) before the machine's other work.
pub(crate) fn prefer(thread: i32) -> io::Result<()> {
    if thread == 0 {
        // Priorities count within a session only, where sessions share a machine evenly.
        let _ = std::fs::write("/proc/self/autogroup", "-20");
    }
    // SAFETY: takes numbers only.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, thread as u32, -20) })
}

/// Set by the first signal that asks this process to end.
static STOP: AtomicBool = AtomicBool::new(false);

/// Makes the first SIGINT, SIGTERM or SIGHUP a request ([`stopping`]); the second ends the process.
///
/// # Errors
/// As sigaction(2).
pub(crate) fn end_on_request() -> io::Result<()> {
    extern "C" fn request(_: libc::c_int) {
        STOP.store(true, Relaxed);
    }
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: an all-zero sigaction is a valid one; the handler only stores to an atomic.
        check(unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = request as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART | libc::SA_RESETHAND;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        })?;
    }
    Ok(())
}

/// Whether this process has been asked to end.
pub(crate) fn stopping() -> bool {
    STOP.load(Relaxed)
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
