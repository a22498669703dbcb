//! The program's maps, seen as this process's own memory.
//!
//! An array map with `BPF_F_MMAPABLE` is mapped once, and from then on a change is a store and a
//! look is a load: no system call for each of a hundred thousand routes.

#![allow(unsafe_code, reason = "maps the kernel's memory into ours")]

use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use wire::HopCell;
use wire::table::{Bucket, Entry};

/// What the kernel says a map costs, in bytes; 0 where it does not say.
pub(crate) fn memory_bytes(map: BorrowedFd<'_>) -> u64 {
    let path = format!("/proc/self/fdinfo/{}", map.as_raw_fd());
    let info = std::fs::read_to_string(path).unwrap_or_default();
    let memory = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    memory.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

/// Types that may lie in memory shared with a running program.
///
/// # Safety
///
/// Made of `AtomicU64` alone: any bits are a valid value, and others may change them at any time.
pub(crate) unsafe trait Shared {}

// SAFETY: it is one.
unsafe impl Shared for AtomicU64 {}
// SAFETY: `#[repr(C)]`, four of them.
unsafe impl Shared for HopCell {}
// SAFETY: `#[repr(C)]`, two of them.
unsafe impl Shared for Bucket {}
// SAFETY: `#[repr(C)]`, sixteen of them.
unsafe impl Shared for Entry {}

/// An array in shared memory; unmapped on drop.
pub(crate) struct Mapping<T: Shared> {
    start: NonNull<T>,
    len: usize,
    owned: PhantomData<T>,
}

// SAFETY: the memory belongs to no thread, and every access to a `T` is atomic.
unsafe impl<T: Shared> Send for Mapping<T> {}
// SAFETY: as above.
unsafe impl<T: Shared> Sync for Mapping<T> {}

impl<T: Shared> Mapping<T> {
    /// Maps the first `len` elements of an array map whose elements are `T`.
    pub(crate) fn of_map(map: BorrowedFd<'_>, len: usize) -> io::Result<Mapping<T>> {
        Self::map(map.as_raw_fd(), libc::MAP_SHARED, len)
    }

    /// Memory of the same kind that no program looks at.
    #[cfg(test)]
    pub(crate) fn anonymous(len: usize) -> Mapping<T> {
        Self::map(-1, libc::MAP_SHARED | libc::MAP_ANONYMOUS, len).expect("memory for a test")
    }

    fn map(fd: i32, flags: i32, len: usize) -> io::Result<Mapping<T>> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice; it overlaps nothing of ours.
        // The kernel refuses a length beyond the map's end.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), len * size_of::<T>(), protection, flags, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Mapping { start, len, owned: PhantomData })
    }
}

impl<T: Shared> Deref for Mapping<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements are mapped at `start` (page-aligned) until `self` is dropped, and
        // a `Shared` type allows any bits and any change by others.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Shared> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and no reference outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}
