//! The rings of AF_XDP around the data plane's code for their two sides: as a ring in memory that is
//! shared with the kernel, with two slots.
#![allow(unsafe_code, reason = "slots of a ring, whose sides loom watches")]

#[path = "../../../dataplane/src/link/xsk/ring.rs"]
mod ring;

use crate::sync::Arc;
use crate::sync::atomic::AtomicU32;
use loom::cell::UnsafeCell;
use ring::Shared;

/// Slots of a ring.
pub const SLOTS: u32 = 2;

/// One ring. Loom reports a slot that both sides touch at once.
#[derive(Debug)]
pub struct Ring {
    producer: AtomicU32,
    consumer: AtomicU32,
    flags: AtomicU32,
    slots: [UnsafeCell<u32>; SLOTS as usize],
}

impl Ring {
    /// An empty one whose indices stand at `start`.
    pub fn new(start: u32) -> Arc<Ring> {
        Arc::new(Ring {
            producer: AtomicU32::new(start),
            consumer: AtomicU32::new(start),
            flags: AtomicU32::new(0),
            slots: real::array::from_fn(|_| UnsafeCell::new(0)),
        })
    }

    /// The slot at `index`, whoever has it: what must not be done.
    pub fn careless(&self, index: u32) -> u32 {
        // SAFETY: `slot` points into `self`; a read beside a write is what loom is here to report
        self.slot(index).with(|slot| unsafe { *slot })
    }

    fn slot(&self, index: u32) -> &UnsafeCell<u32> {
        &self.slots[(index % SLOTS) as usize]
    }
}

impl Shared for Arc<Ring> {
    type Entry = u32;

    fn producer(&self) -> &AtomicU32 {
        &self.producer
    }

    fn consumer(&self) -> &AtomicU32 {
        &self.consumer
    }

    fn flags(&self) -> &AtomicU32 {
        &self.flags
    }

    fn size(&self) -> u32 {
        SLOTS
    }

    fn read(&self, index: u32) -> u32 {
        // SAFETY: `slot` points into `self`; a read beside a write is what loom is here to report
        self.slot(index).with(|slot| unsafe { *slot })
    }

    fn write(&self, index: u32, entry: u32) {
        // SAFETY: as above
        self.slot(index).with_mut(|slot| unsafe { *slot = entry });
    }
}

/// The side that writes, for tests outside this crate.
pub struct Producer(ring::Producer<Arc<Ring>>);

impl Producer {
    pub fn new(ring: &Arc<Ring>) -> Self {
        Self(ring::Producer::new(Arc::clone(ring)))
    }

    pub fn put(&mut self, entry: u32) -> bool {
        self.0.put(entry)
    }

    pub fn publish(&mut self) {
        self.0.publish();
    }
}

/// The side that reads.
pub struct Consumer(ring::Consumer<Arc<Ring>>);

impl Consumer {
    pub fn new(ring: &Arc<Ring>) -> Self {
        Self(ring::Consumer::new(Arc::clone(ring)))
    }

    pub fn take(&mut self) -> Option<u32> {
        self.0.take()
    }

    pub fn release(&mut self) {
        self.0.release();
    }
}
