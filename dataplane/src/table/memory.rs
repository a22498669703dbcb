//! The memory of the workers' route table.
#![expect(unsafe_code, reason = "zeroed memory that costs nothing until it is used")]

use std::sync::atomic::AtomicU64;
use wire::table::{Bucket, Entry, Geometry, Memory};

/// A route table that the workers read.
///
/// It is as large as its configuration says from the start, and resident only as far as routes
/// were ever stored in it.
pub(crate) struct RouteTable {
    geometry: Geometry,
    index: Box<[Bucket]>,
    entries: Box<[Entry]>,
    moves: AtomicU64,
}

impl RouteTable {
    /// An empty table of so many entries.
    pub(crate) fn new(geometry: Geometry, entries: u32) -> Self {
        let buckets = geometry.buckets as usize;
        // SAFETY: a `Bucket` is two `AtomicU64`, whose bytes may all be zero.
        let index = unsafe { Box::new_zeroed_slice(buckets).assume_init() };
        // SAFETY: an `Entry` is 16 `AtomicU64` and nothing else; see its size assertion.
        let entries = unsafe { Box::new_zeroed_slice(entries as usize).assume_init() };
        Self { geometry, index, entries, moves: AtomicU64::new(0) }
    }

    /// The table as its writer and its readers take it.
    #[inline(always)]
    pub(crate) fn memory(&self) -> Memory<'_> {
        Memory {
            geometry: &self.geometry,
            index: &self.index,
            entries: &self.entries,
            moves: &self.moves,
        }
    }

    /// Size and secret.
    #[inline(always)]
    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The entries.
    #[inline(always)]
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of address space that the table takes; less is resident.
    pub(crate) fn size(&self) -> usize {
        size_of_val(&*self.index) + size_of_val(&*self.entries)
    }
}
