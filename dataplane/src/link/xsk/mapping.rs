//! Memory that the kernel reads and writes too: the frames, and the rings.
#![allow(unsafe_code, reason = "memory that the kernel reads and writes")]

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::ring::Shared;

/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// A mapping that is undone when dropped.
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; what lies in it is reached by atomics,
// or by whoever owns the frame or the ring's side that it is part of.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `len` bytes of fresh zeroed memory, of huge pages where there are some to be had.
    pub(super) fn fresh(len: usize) -> io::Result<Mapping> {
        const HUGE: usize = 2 << 20;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        if len.is_multiple_of(HUGE)
            && let Ok(mapping) = Mapping::new(-1, 0, len, kind | libc::MAP_HUGETLB)
        {
            return Ok(mapping);
        }
        let mapping = Mapping::new(-1, 0, len, kind)?;
        // Pinned for long: a process forked off has no use for it, and no copy is made for it.
        // SAFETY: an advice on a mapping of ours.
        unsafe { libc::madvise(mapping.start.as_ptr().cast(), len, libc::MADV_DONTFORK) };
        Ok(mapping)
    }

    /// `len` bytes of what `fd` shares at `offset`.
    pub(super) fn shared(fd: BorrowedFd<'_>, offset: i64, len: usize) -> io::Result<Mapping> {
        Mapping::new(fd.as_raw_fd(), offset, len, libc::MAP_SHARED | libc::MAP_POPULATE)
    }

    fn new(fd: i32, offset: i64, len: usize, kind: i32) -> io::Result<Mapping> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at a place of the kernel's choice.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, access, kind, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Mapping { start, len })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// As a number, for the kernel.
    pub(super) fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// Where `len` bytes at `offset` start: all of them inside.
    fn place(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len), "inside the mapping");
        // SAFETY: just checked.
        unsafe { self.start.as_ptr().add(offset) }
    }

    /// Has the processor fetch `len` bytes at `offset`, without waiting for them. A hint and no more.
    #[inline]
    pub(super) fn prefetch(&self, offset: usize, len: usize) {
        let start = self.place(offset, len);
        #[cfg(target_arch = "x86_64")]
        for line in (0..len).step_by(LINE) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: inside, checked by `place`; and a hint reads nothing that a program could tell.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(line).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = start;
    }

    fn number(&self, offset: usize) -> &AtomicU32 {
        let place = self.place(offset, size_of::<AtomicU32>()).cast::<u32>();
        assert!(place.is_aligned(), "the kernel's own offset");
        // SAFETY: inside and aligned, both checked; shared as an atomic by both sides.
        unsafe { AtomicU32::from_ptr(place) }
    }

    /// The bytes of a frame.
    ///
    /// # Safety
    /// Nobody else, the kernel included, writes them for as long as the slice lives.
    pub(super) unsafe fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        // SAFETY: inside, checked by `place`; the caller's word for the rest.
        unsafe { std::slice::from_raw_parts(self.place(offset, len), len) }
    }

    /// The same, to write.
    ///
    /// # Safety
    /// Nobody else, the kernel included, reads or writes them for as long as the slice lives.
    #[expect(clippy::mut_from_ref, reason = "the caller vouches for its frame, not for the rest")]
    pub(super) unsafe fn bytes_mut(&self, offset: usize, len: usize) -> &mut [u8] {
        // SAFETY: inside, checked by `place`; the caller's word for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.place(offset, len), len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`; every view of it borrows from this.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Where the parts of a ring lie in its mapping, in bytes: the kernel's word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offsets {
    pub(super) producer: usize,
    pub(super) consumer: usize,
    pub(super) flags: usize,
    pub(super) entries: usize,
}

/// Plain numbers, as entries of a ring are.
pub(super) trait Entry: Copy {}
impl Entry for u64 {}
impl Entry for libc::xdp_desc {}

/// A ring in a mapping.
pub(super) struct Area<T> {
    mapping: Arc<Mapping>,
    offsets: Offsets,
    size: u32,
    entries: PhantomData<fn() -> T>,
}

impl<T: Entry> Area<T> {
    /// A ring of `size` entries, a power of two. Everything that `offsets` names lies inside.
    pub(super) fn new(mapping: Arc<Mapping>, offsets: Offsets, size: u32) -> Area<T> {
        assert!(size.is_power_of_two(), "the kernel takes no other size");
        let area: Self = Area { mapping, offsets, size, entries: PhantomData };
        area.mapping.place(offsets.entries, size as usize * size_of::<T>());
        assert!(area.entry(0).is_aligned(), "the kernel's own offset");
        area
    }

    /// Bytes of such a ring.
    pub(super) fn len(offsets: Offsets, size: u32) -> usize {
        offsets.entries + size as usize * size_of::<T>()
    }

    fn entry(&self, index: u32) -> *mut T {
        let slot = (index & (self.size - 1)) as usize;
        // SAFETY: a slot below the size, which `new` has checked.
        unsafe {
            self.mapping.start.as_ptr().add(self.offsets.entries + slot * size_of::<T>()).cast()
        }
    }
}

impl<T: Entry> Shared for Area<T> {
    type Entry = T;

    fn producer(&self) -> &AtomicU32 {
        self.mapping.number(self.offsets.producer)
    }

    fn consumer(&self) -> &AtomicU32 {
        self.mapping.number(self.offsets.consumer)
    }

    fn flags(&self) -> &AtomicU32 {
        self.mapping.number(self.offsets.flags)
    }

    fn size(&self) -> u32 {
        self.size
    }

    #[inline]
    fn read(&self, index: u32) -> T {
        // SAFETY: in bounds and aligned; `Consumer` reads only what the producer's index has
        // passed, which nobody writes before the consumer's index passes it too.
        unsafe { self.entry(index).read() }
    }

    #[inline]
    fn write(&self, index: u32, entry: T) {
        // SAFETY: in bounds and aligned; `Producer` writes only what the consumer's index has
        // passed, which nobody reads before the producer's index passes it too.
        unsafe { self.entry(index).write(entry) }
    }
}
