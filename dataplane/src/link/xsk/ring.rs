//! The two sides of one ring.
//!
//! ```text
//!   consumer index       producer index          both count up and wrap; slot = index mod size
//!         v                     v
//!   | .. | entry | entry | entry | .. |
//!         <─ of the consumer ───> <─ of the producer
//! ```
//!
//! Each side stores its own index with release after it is done with the entries, and loads the other
//! side's with acquire before it touches any: `tests/loom` runs this file through every order of
//! steps. The kernel does the same (net/xdp/xsk_queue.h). The other side's index is kept, and
//! loaded again only when it does not allow enough; an index that cannot be allows nothing.

use core::sync::atomic::{AtomicU32, Ordering};

/// The ring's flags: the kernel sleeps, and a system call wakes it (XDP_RING_NEED_WAKEUP).
const NEED_WAKEUP: u32 = 1;

/// A ring's memory.
pub(super) trait Shared {
    /// What lies in it.
    type Entry;
    /// Index of the next entry to be written.
    fn producer(&self) -> &AtomicU32;
    /// Index of the next entry to be read.
    fn consumer(&self) -> &AtomicU32;
    /// The kernel's flags.
    fn flags(&self) -> &AtomicU32;
    /// Entries, a power of two.
    fn size(&self) -> u32;
    /// The entry at `index`, which the consumer owns.
    fn read(&self, index: u32) -> Self::Entry;
    /// Writes the entry at `index`, which the producer owns.
    fn write(&self, index: u32, entry: Self::Entry);
}

/// True when the kernel asks to be woken for this ring.
fn asks<S: Shared>(shared: &S) -> bool {
    shared.flags().load(Ordering::Relaxed) & NEED_WAKEUP != 0
}

/// The side that writes.
pub(super) struct Producer<S> {
    shared: S,
    /// The next entry to write; those between the ring's own index and this are not published.
    next: u32,
    /// The consumer's index as last seen.
    seen: u32,
}

impl<S: Shared> Producer<S> {
    /// Goes on where the ring stands.
    pub(super) fn new(shared: S) -> Self {
        let next = shared.producer().load(Ordering::Relaxed);
        let seen = shared.consumer().load(Ordering::Acquire);
        Self { shared, next, seen }
    }

    /// Entries there is room for: at least `wanted`, or all there is.
    #[inline]
    pub(super) fn room(&mut self, wanted: u32) -> u32 {
        if self.left() < wanted {
            self.seen = self.shared.consumer().load(Ordering::Acquire);
        }
        self.left()
    }

    fn left(&self) -> u32 {
        self.shared.size().saturating_sub(self.next.wrapping_sub(self.seen))
    }

    /// Writes an entry, which the other side sees after [`publish`](Self::publish). False when there
    /// is no room.
    #[inline]
    #[must_use]
    pub(super) fn put(&mut self, entry: S::Entry) -> bool {
        let fits = self.room(1) > 0;
        if fits {
            self.shared.write(self.next, entry);
            self.next = self.next.wrapping_add(1);
        }
        fits
    }

    /// Lets the other side see what was put.
    #[inline]
    pub(super) fn publish(&mut self) {
        self.shared.producer().store(self.next, Ordering::Release);
    }

    /// Entries that the other side has not taken yet, published or not.
    pub(super) fn waiting(&mut self) -> u32 {
        self.seen = self.shared.consumer().load(Ordering::Acquire);
        self.next.wrapping_sub(self.seen)
    }

    /// True when the other side's index is one that it may have.
    pub(super) fn is_sound(&self) -> bool {
        self.next.wrapping_sub(self.seen) <= self.shared.size()
    }

    /// True when the kernel wants a system call to go on with this ring.
    pub(super) fn asks(&self) -> bool {
        asks(&self.shared)
    }
}

/// The side that reads.
pub(super) struct Consumer<S> {
    shared: S,
    /// The next entry to read; those between the ring's own index and this are not released.
    next: u32,
    /// The producer's index as last seen.
    seen: u32,
}

impl<S: Shared> Consumer<S> {
    /// Goes on where the ring stands.
    pub(super) fn new(shared: S) -> Self {
        let next = shared.consumer().load(Ordering::Relaxed);
        let seen = shared.producer().load(Ordering::Acquire);
        Self { shared, next, seen }
    }

    /// Entries that can be taken: at least `wanted`, or all there are.
    #[inline]
    pub(super) fn ready(&mut self, wanted: u32) -> u32 {
        if self.left() < wanted {
            self.seen = self.shared.producer().load(Ordering::Acquire);
        }
        self.left()
    }

    fn left(&self) -> u32 {
        let left = self.seen.wrapping_sub(self.next);
        if left <= self.shared.size() { left } else { 0 }
    }

    /// Takes the oldest entry. The other side may write over it after [`release`](Self::release).
    #[inline]
    pub(super) fn take(&mut self) -> Option<S::Entry> {
        if self.ready(1) == 0 {
            return None;
        }
        let entry = self.shared.read(self.next);
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }

    /// Lets the other side have the room of what was taken.
    #[inline]
    pub(super) fn release(&mut self) {
        self.shared.consumer().store(self.next, Ordering::Release);
    }

    /// True when the other side's index is one that it may have.
    pub(super) fn is_sound(&self) -> bool {
        self.seen.wrapping_sub(self.next) <= self.shared.size()
    }
}
