//! What the AF_XDP tier counts, by worker.

use super::Frames;
use crate::link::xsk::{Census, Counts, Statistics, Umem};
use crate::stats::{BATCH_CLASSES, Counter, Traffic};
use wire::{Direction, Reason};

/// One worker's counters; they outlive its queues.
#[derive(Debug, Default)]
pub(crate) struct FrameCounters {
    pub(crate) received: Counter,
    pub(crate) batches: [Counter; BATCH_CLASSES],
    forwarded: [[Counter; 2]; 2],
    pub(crate) indications: [Counter; 2],
    pub(crate) datagrams: Counter,
    by_socket: [Counter; Reason::COUNT],
    refused: [[Counter; Reason::COUNT]; 2],
    tx_full: Counter,
    starved: Counter,
    wakeups: Counter,
    later: Counter,
    rx_dropped: Counter,
    rx_ring_full: Counter,
    fill_ring_empty: Counter,
    invalid: Counter,
    /// Open now.
    pub(crate) queues: Counter,
    /// Of those, without copies.
    pub(crate) zero_copy: Counter,
    memory: Places,
}

/// A [`Census`], for others to read.
#[derive(Debug, Default)]
struct Places {
    free: Counter,
    held: Counter,
    filled: Counter,
    sent: Counter,
    stranded: Counter,
}

impl Places {
    fn set(&self, census: Census) {
        let Census { free, held, filled, sent, stranded } = census;
        self.free.set(free.into());
        self.held.set(held.into());
        self.filled.set(filled.into());
        self.sent.set(sent.into());
        self.stranded.set(stranded.into());
    }

    fn census(&self) -> Census {
        Census {
            free: self.free.value() as u32,
            held: self.held.value() as u32,
            filled: self.filled.value() as u32,
            sent: self.sent.value() as u32,
            stranded: self.stranded.value() as u32,
        }
    }
}

/// One worker's AF_XDP at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameSnapshot {
    /// Frames received. Each is in `forwarded`, `datagrams` or `refused`.
    pub received: u64,
    /// Batches that they were received in, by [`batch_class`](crate::stats::batch_class) of their
    /// size.
    pub batches: [u64; BATCH_CLASSES],
    /// Forwarded as frames, by [`Direction`]. A datagram that stayed inside is in both, and counted
    /// once in `received`.
    pub forwarded: [Traffic; 2],
    /// Of those forwarded, the ones that came or left as indications, by [`Direction`].
    pub indications: [u64; 2],
    /// Handed on as datagrams: the worker counts what becomes of them as of those from sockets.
    pub datagrams: u64,
    /// Of those, the ones with a way to go that no frame could take, by [`Reason`]: they left by
    /// sockets, if they could.
    pub by_socket: [u64; Reason::COUNT],
    /// Dropped, by the [`Direction`] they would have gone, and [`Reason`].
    pub refused: [[u64; Reason::COUNT]; 2],
    /// Frames that found the tx ring full; they are in `refused` too.
    pub tx_full: u64,
    /// Times that there was no free frame for a fill ring that was less than half full.
    pub starved: u64,
    /// System calls to wake the kernel.
    pub wakeups: u64,
    /// Of those, answered with "later".
    pub later: u64,
    /// Dropped by the kernel: there was no frame to receive into, or they were too long for one.
    pub rx_dropped: u64,
    /// Dropped by the kernel because the rx ring was full.
    pub rx_ring_full: u64,
    /// Times that the kernel found no frame to receive into.
    pub fill_ring_empty: u64,
    /// Entries of rings that the kernel found wrong. Always 0.
    pub invalid: u64,
    /// Queues open now.
    pub queues: u64,
    /// Of those, without copies.
    pub zero_copy: u64,
    /// Where the frames of its memory were about a second ago: with these queues there is always the
    /// same number in all, and none is [held](Census::held) between two rounds.
    pub memory: Census,
}

impl FrameSnapshot {
    /// Dropped for `reason`.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused.iter().map(|way| way[reason as usize]).sum()
    }
}

impl FrameCounters {
    /// One frame forwarded with `bytes` of application data.
    #[inline(always)]
    pub(crate) fn forward(&self, direction: Direction, bytes: u64) {
        let [packets, data] = &self.forwarded[direction as usize];
        packets.add(1);
        data.add(bytes);
    }

    /// These queues are the worker's now.
    pub(crate) fn own(&self, frames: &Frames) {
        let zero_copy = frames.lanes.iter().filter(|lane| lane.queue.mode().zero_copy).count();
        self.queues.set(frames.lanes.len() as u64);
        self.zero_copy.set(zero_copy as u64);
        self.see_memory(&frames.umem);
    }

    /// Where the frames are.
    pub(crate) fn see_memory(&self, umem: &Umem) {
        self.memory.set(umem.census());
    }

    /// The worker has no queues any more.
    pub(crate) fn disown(&self) {
        self.queues.set(0);
        self.zero_copy.set(0);
        self.memory.set(Census::default());
    }

    /// One frame that is left to a socket.
    pub(crate) fn by_socket(&self, reason: Reason) {
        self.by_socket[reason as usize].add(1);
    }

    /// One frame dropped.
    pub(crate) fn refuse(&self, direction: Direction, reason: Reason) {
        self.refused[direction as usize][reason as usize].add(1);
    }

    pub(crate) fn snapshot(&self) -> FrameSnapshot {
        let traffic = |[packets, bytes]: &[Counter; 2]| Traffic {
            packets: packets.value(),
            bytes: bytes.value(),
        };
        FrameSnapshot {
            received: self.received.value(),
            batches: std::array::from_fn(|class| self.batches[class].value()),
            forwarded: [traffic(&self.forwarded[0]), traffic(&self.forwarded[1])],
            indications: [0, 1].map(|way: usize| self.indications[way].value()),
            datagrams: self.datagrams.value(),
            by_socket: std::array::from_fn(|reason| self.by_socket[reason].value()),
            refused: [0, 1]
                .map(|way: usize| std::array::from_fn(|reason| self.refused[way][reason].value())),
            tx_full: self.tx_full.value(),
            starved: self.starved.value(),
            wakeups: self.wakeups.value(),
            later: self.later.value(),
            rx_dropped: self.rx_dropped.value(),
            rx_ring_full: self.rx_ring_full.value(),
            fill_ring_empty: self.fill_ring_empty.value(),
            invalid: self.invalid.value(),
            queues: self.queues.value(),
            zero_copy: self.zero_copy.value(),
            memory: self.memory.census(),
        }
    }
}

/// How far a queue's own counts are in a worker's: they begin anew with each queue.
#[derive(Debug, Default)]
pub(super) struct Seen {
    counts: Counts,
    kernel: Statistics,
}

impl Seen {
    pub(super) fn see(&mut self, now: Counts, counters: &FrameCounters) {
        let before = std::mem::replace(&mut self.counts, now);
        counters.tx_full.add(now.tx_full - before.tx_full);
        counters.starved.add(now.starved - before.starved);
        let wakeups = |counts: Counts| counts.tx_wakeups + counts.rx_wakeups;
        counters.wakeups.add(wakeups(now) - wakeups(before));
        counters.later.add(now.later - before.later);
        counters.invalid.add(now.strays - before.strays);
    }

    pub(super) fn see_kernel(&mut self, now: Statistics, counters: &FrameCounters) {
        let before = std::mem::replace(&mut self.kernel, now);
        counters.rx_dropped.add(now.rx_dropped - before.rx_dropped);
        counters.rx_ring_full.add(now.rx_ring_full - before.rx_ring_full);
        counters.fill_ring_empty.add(now.fill_ring_empty - before.fill_ring_empty);
        let invalid = |counts: Statistics| counts.rx_invalid + counts.tx_invalid;
        counters.invalid.add(invalid(now) - invalid(before));
    }
}
