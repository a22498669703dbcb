//! Spreading clients over lanes while a worker is behind.
//!
//! A send costs the kernel ten times what a datagram does that is cut from a longer message. When
//! clients' datagrams come interleaved by one listener, each is a send of its own. In lanes, of few
//! clients each, several of one client are read at once, and leave together. But without a backlog
//! there are no several to find, and each lane costs a turn of the poller and a system call: so the
//! kernel picks the listener until a worker falls behind, and lanes for [`SPREAD`] from then on.
//!
//! ```text
//!   together ── a listener is behind by BEHIND datagrams ──> spread ── SPREAD over ──> together
//! ```
//!
//! One client's datagrams keep their order in both: see [`Lanes`](super::lanes::Lanes).

use super::Bound;
use super::share::{Group, Programs};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

/// Datagrams that a listener gives without a pause until its worker is behind: sixteen whole batches,
/// a fifth of what a listener's buffer holds of small ones.
pub(super) const BEHIND: usize = 1024;

/// How long clients stay spread. Whether they still have to be is found out by trying: a worker that is
/// still behind says so again within milliseconds.
pub const SPREAD: Duration = Duration::from_secs(10);

/// Clients come by listeners.
const TOGETHER: u64 = 0;
/// Someone is attaching programs.
const CHANGING: u64 = u64::MAX;

/// How the clients of all listening addresses are spread now: one for all workers.
#[derive(Debug)]
pub struct Spreading {
    /// By address, in the order of configuration.
    programs: Vec<Programs>,
    lanes: usize,
    /// [`TOGETHER`], [`CHANGING`], or until when they are spread, in nanoseconds of the clock.
    until: AtomicU64,
}

impl Spreading {
    /// For these addresses, each with whether DTLS comes to it as well. Each of the workers has so many
    /// lanes, as well as a listener, on each address.
    pub fn new(addresses: &[(SocketAddr, bool)], workers: usize, lanes: usize) -> Self {
        let group = |&(address, dtls): &(SocketAddr, bool)| Group {
            workers: workers as u32,
            lanes: lanes as u32,
            dtls,
            v4: address.is_ipv4(),
        };
        let programs = addresses.iter().map(|address| Programs::new(group(address))).collect();
        Self { programs, lanes, until: AtomicU64::new(TOGETHER) }
    }

    /// Attaches the first programs: clients come by the listeners, and DTLS where it belongs. To be
    /// called when all sockets are bound. `listeners` has one of each address.
    ///
    /// # Errors
    /// The kernel refused a program.
    pub fn begin<'l>(&self, listeners: impl IntoIterator<Item = &'l Bound>) -> io::Result<()> {
        self.attach(listeners, false)
    }

    /// Lanes of each worker on each address.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Once a round: spreads clients where `behind` says so, and ends it when its time is over.
    /// Workers may call it at once; one of them changes the programs. True for the one that began to
    /// spread.
    pub(super) fn look<'l>(
        &self,
        behind: bool,
        now: Duration,
        listeners: impl IntoIterator<Item = &'l Bound>,
    ) -> bool {
        let until = self.until.load(Acquire);
        let over = now.as_nanos() as u64 >= until;
        let (from, spread) = match until {
            CHANGING => return false,
            TOGETHER if behind => (TOGETHER, true),
            TOGETHER => return false,
            until if over => (until, false),
            _ => return false,
        };
        if self.until.compare_exchange(from, CHANGING, AcqRel, Relaxed).is_err() {
            return false;
        }
        // refused for want of memory: an address may stay as it was, and what comes is received by
        // either kind of socket
        let _ = self.attach(listeners, spread);
        let until = if spread { (now + SPREAD).as_nanos() as u64 } else { TOGETHER };
        self.until.store(until, Release);
        spread
    }

    fn attach<'l>(
        &self,
        listeners: impl IntoIterator<Item = &'l Bound>,
        spread: bool,
    ) -> io::Result<()> {
        let mut all = self.programs.iter().zip(listeners);
        all.try_for_each(|(programs, listener)| programs.attach(listener.descriptor(), spread))
    }
}

#[cfg(test)]
mod tests;
