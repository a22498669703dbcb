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
//! path: nothing is shared. The control thread has them opened ([`Keeper`]), gives them to the worker
//! whole, and takes them back whole. Whatever is wrong with them (interface down, other queues, a
//! socket refused), their place in the program's map is empty meanwhile, so the stack has their
//! frames: the relay goes on by sockets, and the keeper tries again. A worker keeps a queue that has
//! failed until it is asked for all: the others go on meanwhile.
//!
//! Every frame that is received ends in a tx ring or on the free list, and is counted once.

mod datagram;
mod errands;
mod keeper;
mod news;
mod stats;
mod suited;
mod survey;

pub(crate) use datagram::{checksum, datagram, packet, part, target};
pub use keeper::{Copying, Keeper};
pub use news::{KeeperStats, News};
pub(crate) use stats::FrameCounters;
pub use stats::FrameSnapshot;
pub use suited::Unsuited;

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

/// How long queues that are asked for may take to send what they were given.
const LEAVING: Duration = Duration::from_millis(100);

/// One queue.
pub(crate) struct Lane {
    pub(crate) queue: Queue,
    /// Index of its interface.
    pub(crate) interface: u32,
    seen: Seen,
    /// It is of no use any more: nothing leaves by it, and it waits for its closing.
    failed: bool,
}

impl Lane {
    fn new(queue: Queue, interface: u32) -> Lane {
        Lane { queue, interface, seen: Seen::default(), failed: false }
    }
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
    /// They are asked for; since when.
    leaving: Option<Duration>,
}

/// What the control thread hears of queues.
pub(crate) enum Home {
    /// One is of no use any more. The worker goes on with the others until it is asked for all.
    Trouble { worker: usize, error: Error },
    /// They are given back.
    Back { worker: usize, frames: Box<Frames> },
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
        let lanes = queues.into_iter().map(|queue| Lane::new(queue, interface)).collect();
        Box::new(Frames::new(umem, lanes, Arc::new(tables), mpsc::channel().0, 0))
    }

    fn new(
        umem: Umem,
        lanes: Vec<Lane>,
        tables: Arc<FrameTables>,
        home: mpsc::Sender<Home>,
        worker: usize,
    ) -> Frames {
        let (received, looked, leaving) = (Vec::with_capacity(BURST_MAX), Duration::ZERO, None);
        Frames { umem, lanes, tables, received, home, worker, looked, leaving }
    }

    /// True when a queue has something.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.lanes.iter_mut().any(|lane| lane.queue.is_ready())
    }

    /// How long their worker may sleep.
    pub(crate) fn patience(&mut self) -> Duration {
        let waits = |lane: &mut Lane| !lane.failed && lane.queue.waiting() > 0;
        let waiting = self.leaving.is_some() || self.lanes.iter_mut().any(waits);
        if waiting { LATER } else { LOOK }
    }

    /// The queue that sends by `interface`: `from`, where that does, so that a frame stays on its
    /// queue.
    pub(crate) fn egress(lanes: &[Lane], from: usize, interface: u32) -> Option<usize> {
        let sends = |lane: &Lane| lane.interface == interface && !lane.failed;
        if sends(&lanes[from]) {
            return Some(from);
        }
        lanes.iter().position(sends)
    }

    /// Ends a round: what is to be sent is shown to the kernel, and it gets frames to receive into.
    /// A queue that is of no use any more is reported, once, and left alone.
    pub(crate) fn settle(&mut self, now: Duration, counters: &FrameCounters) {
        let look = now.saturating_sub(self.looked) >= LOOK;
        if look {
            self.looked = now;
            self.umem.settle(now);
            counters.see_memory(&self.umem);
        }
        for lane in &mut self.lanes {
            lane.queue.reclaim(&mut self.umem);
            lane.queue.refill(&mut self.umem);
            if !lane.failed
                && let Err(error) = lane.serve(look, counters)
            {
                lane.failed = true;
                // the keeper is gone only when everything ends
                let _ = self.home.send(Home::Trouble { worker: self.worker, error });
            }
            lane.seen.see(lane.queue.counts(), counters);
        }
    }

    /// True when nothing is under way any more, or was given time enough. The queues were asked for.
    pub(crate) fn may_leave(&mut self, now: Duration) -> bool {
        let since = *self.leaving.get_or_insert(now);
        let waits =
            |lane: &mut Lane| !lane.failed && (lane.queue.is_ready() || lane.queue.is_sending());
        now.saturating_sub(since) >= LEAVING || !self.lanes.iter_mut().any(waits)
    }

    /// Back to the control thread, which closes them.
    pub(crate) fn go_home(self: Box<Self>, counters: &FrameCounters) {
        counters.disown();
        let (home, worker) = (self.home.clone(), self.worker);
        // the keeper is gone only when everything ends
        let _ = home.send(Home::Back { worker, frames: self });
    }
}

impl Lane {
    fn serve(&mut self, look: bool, counters: &FrameCounters) -> Result<(), Error> {
        passing(self.queue.flush())?;
        if look {
            passing(self.queue.check())?;
            if let Ok(statistics) = self.queue.statistics() {
                self.seen.see_kernel(statistics, counters);
            }
        }
        Ok(())
    }
}

/// An interface that is down does its queues no harm.
fn passing(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(error) if error.passes() => Ok(()),
        done => done,
    }
}
