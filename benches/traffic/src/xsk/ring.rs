//! An AF_XDP socket's memory and rings, as in `linux/if_xdp.h`.
//!
//! ```text
//!  ring     producer | consumer | flags | entries [ 0 .. size )     offsets are the kernel's word
//!           indexes count up and wrap; entry = index mod size
//! ```
//!
//! The transmit ring is ours to produce and the kernel's to consume; the completion ring the other
//! way round. The fill ring is there because the kernel wants one, and stays empty.
#![allow(unsafe_code, reason = "memory that the kernel reads and writes")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

/// A mapping that is undone when dropped.
struct Mapping {
    start: *mut libc::c_void,
    len: usize,
}

// SAFETY: the mapping belongs to whoever holds this, and to the kernel, not to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `fd` at `offset`, or fresh memory for an `fd` of -1.
    fn new(fd: i32, offset: i64, len: usize) -> io::Result<Mapping> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = if fd < 0 { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS } else { libc::MAP_SHARED };
        let kind = kind | libc::MAP_POPULATE;
        // SAFETY: a fresh mapping at a place of the kernel's choice.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, access, kind, fd, offset) };
        if start == libc::MAP_FAILED { Err(last()) } else { Ok(Mapping { start, len }) }
    }

    /// The atomic number `offset` bytes from the start.
    fn number(&self, offset: u64) -> &AtomicU32 {
        let offset = offset as usize;
        assert!(offset + 4 <= self.len && offset.is_multiple_of(4), "the kernel's own offset");
        // SAFETY: inside the mapping and aligned, both checked; shared with the kernel as atomic.
        unsafe { AtomicU32::from_ptr(self.start.cast::<u8>().add(offset).cast()) }
    }

    /// The `T` that is entry `index` of those that start at `offset`.
    fn entry<T>(&mut self, offset: u64, index: usize) -> *mut T {
        let at = offset as usize + index * size_of::<T>();
        assert!(at + size_of::<T>() <= self.len, "an index below the ring's size");
        // SAFETY: inside the mapping, just checked.
        unsafe { self.start.cast::<u8>().add(at).cast() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and no view of it outlives this.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

/// One ring.
struct Ring {
    memory: Mapping,
    offsets: libc::xdp_ring_offset,
    size: u32,
    /// Where this side is.
    ours: u32,
}

impl Ring {
    fn new<T>(
        fd: i32,
        place: i64,
        offsets: libc::xdp_ring_offset,
        entries: usize,
    ) -> io::Result<Ring> {
        let len = offsets.desc as usize + entries * size_of::<T>();
        let memory = Mapping::new(fd, place, len)?;
        Ok(Ring { memory, offsets, size: entries as u32, ours: 0 })
    }

    fn slot(&self, index: u32) -> usize {
        (index % self.size) as usize
    }
}

/// A socket with its memory and its rings.
pub(super) struct Rings {
    // Dropped in this order: the socket before the memory that it uses.
    socket: OwnedFd,
    transmit: Ring,
    completion: Ring,
    memory: Mapping,
}

fn last() -> io::Error {
    io::Error::last_os_error()
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(last()) } else { Ok(()) }
}

fn set_option<T>(fd: i32, option: i32, value: &T) -> io::Result<()> {
    let (start, len) = (ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the kernel reads a plain structure within its size.
    check(unsafe { libc::setsockopt(fd, libc::SOL_XDP, option, start, len) })
}

fn offsets(fd: i32) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: plain numbers, for which zeroes are a value; the kernel writes within their size.
    unsafe {
        let mut offsets: libc::xdp_mmap_offsets = std::mem::zeroed();
        let mut len = size_of_val(&offsets) as libc::socklen_t;
        let to = (&raw mut offsets).cast();
        check(libc::getsockopt(fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, to, &raw mut len))?;
        Ok(offsets)
    }
}

impl Rings {
    /// Opens a socket with `chunks` chunks of `chunk` bytes and as many entries in each ring.
    pub(super) fn open(
        interface: u32,
        queue: u32,
        zero_copy: bool,
        chunks: usize,
        chunk: usize,
    ) -> io::Result<Rings> {
        // SAFETY: takes numbers; the descriptor is ours alone.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            check(fd)?;
            OwnedFd::from_raw_fd(fd)
        };
        let fd = socket.as_raw_fd();
        let memory = Mapping::new(-1, 0, chunks * chunk)?;
        // The kernel knows structures of several versions by their length: this is the first one's.
        #[repr(C)]
        struct Registration {
            addr: u64,
            len: u64,
            chunk_size: u32,
            headroom: u32,
            flags: u32,
        }
        let (addr, len) = (memory.start as u64, memory.len as u64);
        let registration =
            Registration { addr, len, chunk_size: chunk as u32, headroom: 0, flags: 0 };
        set_option(fd, libc::XDP_UMEM_REG, &registration)?;
        let entries = chunks as u32;
        for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_TX_RING] {
            set_option(fd, ring, &entries)?;
        }
        let offsets = offsets(fd)?;
        let at = libc::XDP_PGOFF_TX_RING;
        let transmit = Ring::new::<libc::xdp_desc>(fd, at, offsets.tx, chunks)?;
        let at = libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64;
        let completion = Ring::new::<u64>(fd, at, offsets.cr, chunks)?;
        let flags = if zero_copy { libc::XDP_ZEROCOPY } else { libc::XDP_COPY };
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: flags,
            sxdp_ifindex: interface,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the kernel reads an address within its length.
        check(unsafe { libc::bind(fd, (&raw const address).cast(), len) })?;
        Ok(Rings { socket, transmit, completion, memory })
    }

    /// The bytes of a chunk that is neither in a ring nor with the kernel.
    pub(super) fn chunk(&mut self, chunk: u64, len: usize) -> &mut [u8] {
        let start = self.memory.entry::<u8>(chunk, 0);
        assert!(chunk as usize + len <= self.memory.len, "a chunk of this memory");
        // SAFETY: inside the mapping, checked; the caller has the chunk to itself.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// Gives the first `len` bytes of a chunk to the kernel. There must be room: there is for as
    /// many as there are chunks.
    pub(super) fn transmit(&mut self, chunk: u64, len: u32) {
        let ring = &mut self.transmit;
        let at = ring.slot(ring.ours);
        let entry: *mut libc::xdp_desc = ring.memory.entry(ring.offsets.desc, at);
        // SAFETY: an entry of the mapping that the kernel does not read before the producer index
        // passes it.
        unsafe { entry.write(libc::xdp_desc { addr: chunk, len, options: 0 }) };
        ring.ours = ring.ours.wrapping_add(1);
        ring.memory.number(ring.offsets.producer).store(ring.ours, Ordering::Release);
    }

    /// Wakes the kernel. Where it has more to do than one call may, the next one goes on.
    ///
    /// # Errors
    /// As sendto(2), but for those that mean "later".
    pub(super) fn kick(&self) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        let consumer = self.transmit.memory.number(self.transmit.offsets.consumer);
        let calls_max = self.transmit.size;
        for _ in 0..calls_max {
            let before = consumer.load(Ordering::Acquire);
            if before == self.transmit.ours {
                return Ok(());
            }
            // SAFETY: sends no bytes of ours, only says that there are some in the ring.
            let sent =
                unsafe { libc::sendto(fd, ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
            if sent < 0 {
                let error = last();
                let later = [libc::EAGAIN, libc::EBUSY, libc::ENOBUFS, libc::EINTR];
                let is_later = error.raw_os_error().is_some_and(|code| later.contains(&code));
                if !is_later {
                    return Err(error);
                }
            }
            if consumer.load(Ordering::Acquire) == before {
                // Its queue is full, or a device works by itself: later.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes back the chunks that the kernel is done with.
    pub(super) fn completed(&mut self, free: &mut Vec<u64>) {
        let ring = &mut self.completion;
        let until = ring.memory.number(ring.offsets.producer).load(Ordering::Acquire);
        while ring.ours != until {
            let at = ring.slot(ring.ours);
            let entry: *mut u64 = ring.memory.entry(ring.offsets.desc, at);
            // SAFETY: an entry that the kernel has written before it moved the producer index.
            free.push(unsafe { entry.read() });
            ring.ours = ring.ours.wrapping_add(1);
        }
        ring.memory.number(ring.offsets.consumer).store(ring.ours, Ordering::Release);
    }
}
