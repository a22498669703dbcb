//! The route table: one writer, many lock-free readers, in plain shared memory.
//!
//! The same memory layout serves the kernel program (two arrays that the control thread maps) and
//! the workers (the process's own memory). The control thread is the only writer of either.
//!
//! ```text
//! index    buckets of four slots:  | mark (10 bits) | number of the entry (22 bits) |   0 = free
//! entries  128 bytes each, taken from the front:
//!          line 0   sequence (8) | key (40) | packets (8) | bytes (8)
//!          line 1   route (64)
//! ```
//!
//! A key has two candidate buckets; a lookup reads at most two of them, which stay in a near cache,
//! and then the one entry whose mark agrees: two adjacent cache lines. There is no chain to follow
//! and nothing grows: a key that finds no free place is refused with [`Full`]. Entries lie close
//! together, so that few routes touch few pages, and never move; only slots do.
//!
//! Readers copy a route out under its sequence number (odd: being written), so that a reader never
//! acts on half an update, and never on an entry that was given to another flow meanwhile. This
//! relies on loads staying in order; see `ordered` for what that means on each machine.

mod geometry;
mod read;
mod write;

pub use geometry::{ENTRIES_MAX, Geometry, HASH_WORDS, LANES, Place};
pub use read::{Found, Miss, Table, lookup};
pub use write::{Bucket, Full, Memory, Writer};

use crate::word::{load, store};
use core::sync::atomic::AtomicU64;

/// One entry of the table: two cache lines.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Entry {
    sequence: AtomicU64,
    key: [AtomicU64; 5],
    packets: AtomicU64,
    bytes: AtomicU64,
    route: [AtomicU64; 8],
}

const _: () = assert!(size_of::<Entry>() == 128);

impl Entry {
    /// Counts one forwarded datagram of `bytes` application data.
    ///
    /// Not a locked operation: a five-tuple stays on one receive queue, so one core counts it.
    /// Should a NIC move a flow to another core in mid-count, that count may miss a few; the
    /// per-core totals never do.
    #[inline(always)]
    pub fn count(&self, bytes: u64) {
        store(&self.packets, load(&self.packets) + 1);
        store(&self.bytes, load(&self.bytes) + bytes);
    }

    /// The same for an entry whose datagrams may come by several queues at once: none is missed.
    #[cfg(not(target_arch = "bpf"))]
    pub fn count_shared(&self, bytes: u64) {
        use core::sync::atomic::Ordering::Relaxed;
        self.packets.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Datagrams and bytes of application data that this entry forwarded.
    pub fn counted(&self) -> (u64, u64) {
        (load(&self.packets), load(&self.bytes))
    }
}

/// Keeps earlier loads before later ones.
///
/// The BPF target reads shared words with volatile loads, which the compiler keeps in order, and
/// x86-64 keeps them in order too (total store order): nothing is left to do there. The kernel
/// program for a weakly ordered machine would need BPF's load-acquire here (Linux 6.15); until then
/// the loader serves x86-64 only. On the host this is an acquire fence.
#[inline(always)]
fn ordered() {
    #[cfg(not(target_arch = "bpf"))]
    core::sync::atomic::fence(core::sync::atomic::Ordering::Acquire);
}
