//! The AF_XDP tier: whole frames, from the kernel program to a worker and out again.
//!
//! ```text
//!   NIC queue q ─> program ─ punt ─> Queue of worker q mod n
//!                                      │ wire::plan over the program's own tables
//!                      a live route    ├──> wire::rewrite in place ─> the tx ring of the queue
//!                                      │         on the hop's interface: the same frame goes out
//!                      a permission    ├──> checksum, wire::arrange, rewrite ─> the same, unwrapped
//!                                      │         from a Send or wrapped in a Data indication
//!                      neither         └──> checksum ─> a datagram of the worker's Batch,
//!                                               which leaves by a socket
//! ```
//!
//! A worker owns one packet memory and the queues that are its own on every interface with the fast
//! path: nothing is shared. The control thread opens them ([`Keeper`]), gives them to the worker
//! whole, and takes them back whole. Whatever is wrong with them (interface down, other queues, a
//! socket refused), their place in the program's map is empty meanwhile, so the stack has their
//! frames: the relay goes on by sockets, and the keeper tries again.
//!
//! Every frame that is received ends in a tx ring or on the free list, and is counted once.

mod datagram;
mod keeper;
mod stats;

pub(crate) use datagram::{checksum, datagram, packet, part, target};
pub use keeper::{Copying, Keeper, KeeperStats, News};
pub(crate) use stats::FrameCounters;
pub use stats::FrameSnapshot;

use crate::kernel::FrameTables;
use crate::link::xsk::{Error, Frame, Queue, Umem};
use stats::Seen;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Frames of one burst.
pub(crate) const BURST_MAX: usize = 64;

/// Bursts of one queue in a round, before the others have their turn.
pub(crate) const BURSTS_MAX: usize = 8;

/// How often a worker looks at what no frame tells: that a queue is gone, what the kernel dropped.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// How long a worker sleeps while the kernel has yet to take what it was given to send.
const LATER: Duration = Duration::from_millis(5);

/// One queue.
pub(crate) struct Lane {
    pub(crate) queue: Queue,
    /// Index of its interface.
    pub(crate) interface: u32,
    seen: Seen,
}

/// What one worker has of AF_XDP.
pub(crate) struct Frames {
    pub(crate) umem: Umem,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) tables: Arc<FrameTables>,
    /// A burst on its way; empty between rounds.
    pub(crate) received: Vec<Frame>,
    /// Where they go back to.
    home: mpsc::Sender<Home>,
    worker: usize,
    looked: Duration,
}

/// Queues on their way back.
pub(crate) struct Home {
    worker: usize,
    frames: Box<Frames>,
    /// What was wrong with them.
    error: Option<Error>,
}

impl Frames {
    /// These queues, all of one interface, with nobody to go home to.
    #[cfg(test)]
    pub(crate) fn for_tests(
        umem: Umem,
        queues: Vec<Queue>,
        interface: u32,
        tables: FrameTables,
    ) -> Box<Frames> {
        let lane = |queue| Lane { queue, interface, seen: Seen::default() };
        Box::new(Frames {
            umem,
            lanes: queues.into_iter().map(lane).collect(),
            tables: Arc::new(tables),
            received: Vec::with_capacity(BURST_MAX),
            home: mpsc::channel().0,
            worker: 0,
            looked: Duration::ZERO,
        })
    }

    /// True when a queue has something.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.lanes.iter_mut().any(|lane| lane.queue.is_ready())
    }

    /// How long their worker may sleep.
    pub(crate) fn patience(&mut self) -> Duration {
        let waiting = self.lanes.iter_mut().any(|lane| lane.queue.waiting() > 0);
        if waiting { LATER } else { LOOK }
    }

    /// The queue that sends by `interface`: `from`, where that does, so that a frame stays on its
    /// queue.
    pub(crate) fn egress(lanes: &[Lane], from: usize, interface: u32) -> Option<usize> {
        if lanes[from].interface == interface {
            return Some(from);
        }
        lanes.iter().position(|lane| lane.interface == interface)
    }

    /// Ends a round: what is to be sent is shown to the kernel, and it gets frames to receive into.
    ///
    /// # Errors
    /// A queue is of no use any more.
    pub(crate) fn settle(&mut self, now: Duration, counters: &FrameCounters) -> Result<(), Error> {
        let look = now.saturating_sub(self.looked) >= LOOK;
        if look {
            self.looked = now;
            self.umem.settle(now);
            counters.free.set(self.umem.free() as u64);
        }
        for lane in &mut self.lanes {
            lane.queue.reclaim(&mut self.umem);
            lane.queue.refill(&mut self.umem);
            passing(lane.queue.flush())?;
            if look {
                passing(lane.queue.check())?;
                if let Ok(statistics) = lane.queue.statistics() {
                    lane.seen.see_kernel(statistics, counters);
                }
            }
            lane.seen.see(lane.queue.counts(), counters);
        }
        Ok(())
    }

    /// Back to the control thread, which closes them.
    pub(crate) fn go_home(self: Box<Self>, error: Option<Error>, counters: &FrameCounters) {
        counters.queues.set(0);
        counters.zero_copy.set(0);
        counters.free.set(0);
        let (home, worker) = (self.home.clone(), self.worker);
        // the keeper is gone only when everything ends
        let _ = home.send(Home { worker, frames: self, error });
    }
}

/// An interface that is down does its queues no harm.
fn passing(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(error) if error.passes() => Ok(()),
        done => done,
    }
}
