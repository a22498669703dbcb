//! The four rings of one queue, and the ledger that every frame passes on its way through them.
//!
//! Nothing here makes a system call: a simulated kernel on the other side of the same memory will do.

use super::frame::Frame;
use super::mapping::Area;
use super::ring::{Consumer, Producer};
use super::umem::{Tag, Umem};

/// Shorter than this is no Ethernet frame, and the kernel would swallow it without a completion.
const ETHERNET_HEADER: usize = 14;

/// Bytes of a received packet that are fetched before anybody looks at it: the longest headers of a
/// datagram and of ChannelData or STUN in it, in two cache lines. All else stays with the device.
pub(super) const HEADERS: usize = 128;

/// The same where the kernel copies: it will read the rest as well, and whoever reads on from here has
/// the processor's own prefetching.
pub(super) const HEADERS_AND_DATA: usize = 256;

/// What a queue did and met, in frames but for the wakeups. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Received.
    pub received: u64,
    /// Put on the tx ring.
    pub transmitted: u64,
    /// Come back from the completion ring.
    pub completed: u64,
    /// Given back by [`Queue::transmit`](super::Queue::transmit) because the tx ring was full.
    pub tx_full: u64,
    /// Given back because they were too short to be a frame.
    pub tx_short: u64,
    /// Times that there was no free frame to refill with while the kernel had fewer than half of
    /// what it may have.
    pub starved: u64,
    /// Entries of the kernel's that named no frame that it could have. Always 0, or the kernel or
    /// a driver is at fault.
    pub strays: u64,
    /// System calls to wake the kernel for sending.
    pub tx_wakeups: u64,
    /// System calls to wake the kernel for receiving.
    pub rx_wakeups: u64,
    /// Wakeups that the kernel answered with "later" (EAGAIN, EBUSY, ENOBUFS, EINTR).
    pub later: u64,
}

/// The rings of one queue.
pub(super) struct Rings {
    pub(super) fill: Producer<Area<u64>>,
    pub(super) completion: Consumer<Area<u64>>,
    pub(super) rx: Consumer<Area<libc::xdp_desc>>,
    pub(super) tx: Producer<Area<libc::xdp_desc>>,
    pub(super) tag: Tag,
    /// Of the memory that they are for.
    pub(super) umem: u32,
    /// Frames that the kernel has to receive into, and may have.
    pub(super) filled: u32,
    pub(super) filled_max: u32,
    /// Bytes of each received packet that are fetched ahead.
    pub(super) ahead: usize,
    pub(super) counts: Counts,
}

impl Rings {
    fn check(&self, umem: &Umem) {
        assert_eq!(self.umem, umem.id(), "another memory's queue");
    }

    /// Moves received frames to `into`: at most `max`, and no more than it has room for. Another core
    /// or the device has written them: they are fetched all at once, not one by one when each is read.
    pub(super) fn receive(&mut self, umem: &mut Umem, into: &mut Vec<Frame>, max: usize) -> usize {
        self.check(umem);
        let max = max.min(into.capacity() - into.len());
        let ready = self.rx.ready(max as u32).min(max as u32);
        let before = into.len();
        for _ in 0..ready {
            let Some(entry) = self.rx.take() else { break };
            match umem.received(self.tag, entry.addr, entry.len) {
                Some(frame) => {
                    self.filled -= 1;
                    umem.prefetch(&frame, self.ahead);
                    into.push(frame);
                }
                None => self.counts.strays += 1,
            }
        }
        if ready > 0 {
            self.rx.release();
        }
        let received = into.len() - before;
        self.counts.received += received as u64;
        received
    }

    /// Puts a frame on the tx ring; the kernel sees it after [`publish`](Self::publish).
    pub(super) fn transmit(&mut self, umem: &mut Umem, frame: Frame) -> Result<(), Frame> {
        self.check(umem);
        if frame.size() < ETHERNET_HEADER {
            self.counts.tx_short += 1;
            return Err(frame);
        }
        if self.tx.room(1) == 0 {
            self.counts.tx_full += 1;
            return Err(frame);
        }
        let (addr, len) = umem.send(self.tag, frame);
        let put = self.tx.put(libc::xdp_desc { addr, len, options: 0 });
        debug_assert!(put, "there was room");
        self.counts.transmitted += 1;
        Ok(())
    }

    pub(super) fn publish(&mut self) {
        self.tx.publish();
    }

    /// Gives free frames to receive into.
    pub(super) fn refill(&mut self, umem: &mut Umem) -> usize {
        self.check(umem);
        let wanted = self.filled_max - self.filled;
        let wanted = wanted.min(self.fill.room(wanted));
        let mut given = 0;
        while given < wanted {
            let Some(address) = umem.fill(self.tag) else { break };
            if !self.fill.put(address) {
                umem.unfill(address);
                break;
            }
            given += 1;
        }
        if given > 0 {
            self.fill.publish();
            self.filled += given;
        }
        if given < wanted && self.filled < self.filled_max / 2 {
            self.counts.starved += 1;
        }
        given as usize
    }

    /// Takes sent frames back to the free list.
    pub(super) fn reclaim(&mut self, umem: &mut Umem) -> usize {
        self.check(umem);
        let ready = self.completion.ready(u32::MAX);
        let mut freed = 0;
        for _ in 0..ready {
            let Some(address) = self.completion.take() else { break };
            match umem.completed(self.tag, address) {
                true => freed += 1,
                false => self.counts.strays += 1,
            }
        }
        if ready > 0 {
            self.completion.release();
        }
        self.counts.completed += freed as u64;
        freed
    }

    /// False when an index of the kernel's is one that cannot be.
    pub(super) fn is_sound(&self) -> bool {
        self.fill.is_sound()
            && self.completion.is_sound()
            && self.rx.is_sound()
            && self.tx.is_sound()
    }
}
