//! Spreading clients over lanes while a worker is behind.
//!
//! A send costs the kernel ten times what a datagram does that is cut from a longer message. When
//! clients' datagrams come interleaved by one listener, each is a send of its own. In lanes, of few
//! clients each, several of one client are read at once, and leave together. But without a backlog
//! there are no several to find, and each lane costs a turn of the poller and a system call: so the
//! kernel picks the listener until a worker falls behind, and lanes for [`SPREAD`] from then on.
//!
//! ```text
//!   together ── a listener is behind by BEHIND datagrams ──> spread ── its time is over ──> together
//!            1 s, and twice as long each time that it is needed again at once, up to 16 s;
//!            and for as long as a worker lives by it (see Pressure)
//! ```
//!
//! One client's datagrams keep their order in both: see [`Lanes`](super::lanes::Lanes). For that, no
//! two changes meet: each waits until every worker has emptied what the one before has left.

use super::Bound;
use super::lanes::Kind;
use super::pressure::Pressure;
use super::share::{Group, Programs};
use mio::Waker;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

/// Datagrams that a listener gives without a pause until its worker is behind: sixteen whole batches,
/// a fifth of what a listener's buffer holds of small ones.
pub(super) const BEHIND: usize = 1024;

/// How long clients stay spread at first. Whether they still have to be is found out by trying, where
/// no worker knows: one that is still behind says so again within milliseconds, and these are
/// milliseconds of delay for its clients.
pub const SPREAD_MIN: Duration = Duration::from_secs(1);

/// How long at most, where that was tried and they had to be spread again.
pub const SPREAD_MAX: Duration = Duration::from_secs(16);

/// A worker that falls behind so soon after clients were spread did not keep up.
const AGAIN: Duration = Duration::from_secs(4);

/// How long it counts that a worker was found to live by gathering.
const PRESSED: Duration = Duration::from_millis(300);

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
    /// Changes so far. Written with the two that follow by who has set `until` to [`CHANGING`].
    changes: AtomicU64,
    /// How long they were spread last, and when that ended, in nanoseconds.
    span: AtomicU64,
    ended: AtomicU64,
    /// By worker, the last change after which it has found empty what clients came by before.
    settled: Box<[AtomicU64]>,
    /// By worker, when it was found to live by gathering for the last time, in nanoseconds.
    pressed: Box<[AtomicU64]>,
    /// Every worker's: one that sleeps has to look as well.
    wakers: Vec<Arc<Waker>>,
}

/// A worker's part in it.
#[derive(Debug)]
pub struct Member {
    pub(super) spreading: Arc<Spreading>,
    worker: usize,
    /// The last change that it knows of.
    known: u64,
    /// What clients came by before may not be empty yet.
    unsettled: bool,
    pub(super) pressure: Pressure,
}

impl Member {
    /// Of the worker with this index.
    pub fn new(spreading: Arc<Spreading>, worker: usize) -> Self {
        Self { spreading, worker, known: 0, unsettled: false, pressure: Pressure::default() }
    }

    /// A round begins.
    pub(super) fn round(&mut self, now: Duration) {
        if self.pressure.round(now) {
            self.spreading.pressed[self.worker].store(nanos(now), Release);
        }
    }

    /// Once a round: what is to be emptied, where clients come another way since the last one.
    pub(super) fn changed(&mut self) -> Option<Kind> {
        let changes = self.spreading.changes.load(Acquire);
        let changed = changes != self.known;
        self.known = changes;
        self.unsettled |= changed;
        changed.then(|| self.left())
    }

    /// What is to be emptied after the last change, if it was not yet.
    pub(super) fn unsettled(&self) -> Option<Kind> {
        self.unsettled.then(|| self.left())
    }

    /// The kernel spreads clients.
    pub(super) fn is_spread(&self) -> bool {
        !self.known.is_multiple_of(2)
    }

    /// It is empty.
    pub(super) fn settle(&mut self) {
        self.unsettled = false;
        self.spreading.settled[self.worker].store(self.known, Release);
    }

    /// What clients came by until the last change: every other one spreads.
    fn left(&self) -> Kind {
        if self.is_spread() { Kind::Listeners } else { Kind::Lanes }
    }
}

impl Spreading {
    /// For these addresses, each with whether DTLS comes to it as well. Each of the workers, by whose
    /// wakers they are counted, has so many lanes, as well as a listener, on each address.
    pub fn new(addresses: &[(SocketAddr, bool)], wakers: Vec<Arc<Waker>>, lanes: usize) -> Self {
        let workers = wakers.len();
        let group = |&(address, dtls): &(SocketAddr, bool)| Group {
            workers: workers as u32,
            lanes: lanes as u32,
            dtls,
            v4: address.is_ipv4(),
        };
        let programs = addresses.iter().map(|address| Programs::new(group(address))).collect();
        let zero = || AtomicU64::new(0);
        let [settled, pressed] = [0; 2].map(|_| (0..workers).map(|_| zero()).collect());
        let (until, changes, span, ended) = (AtomicU64::new(TOGETHER), zero(), zero(), zero());
        Self { programs, lanes, until, changes, span, ended, settled, pressed, wakers }
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
        let (until, now) = (self.until.load(Acquire), nanos(now));
        let (from, spread) = match until {
            CHANGING => return false,
            TOGETHER if behind => (TOGETHER, true),
            TOGETHER => return false,
            until if now >= until && self.is_pressed(now) => {
                // another worker may have said so, or changed it, meanwhile
                let later = now + nanos(SPREAD_MIN);
                let _ = self.until.compare_exchange(until, later, AcqRel, Relaxed);
                return false;
            }
            until if now >= until => (until, false),
            _ => return false,
        };
        if !self.is_settled()
            || self.until.compare_exchange(from, CHANGING, AcqRel, Relaxed).is_err()
        {
            return false;
        }
        // refused for want of memory: an address may stay as it was, and what comes is received by
        // either kind of socket
        let _ = self.attach(listeners, spread);
        let until = if spread { now + self.next_span(now) } else { TOGETHER };
        if !spread {
            self.ended.store(now, Relaxed);
        }
        self.changes.fetch_add(1, Release);
        self.until.store(until, Release);
        for waker in &self.wakers {
            // who cannot be woken looks when it is awake; no other change comes before that
            let _ = waker.wake();
        }
        spread
    }

    /// Every worker is done with the last change.
    fn is_settled(&self) -> bool {
        let changes = self.changes.load(Acquire);
        self.settled.iter().all(|settled| settled.load(Acquire) == changes)
    }

    /// A worker lives by gathering: it would be behind again at once.
    fn is_pressed(&self, now: u64) -> bool {
        let since = |pressed: &AtomicU64| now.saturating_sub(pressed.load(Acquire));
        self.pressed.iter().any(|pressed| since(pressed) < nanos(PRESSED))
    }

    /// How long clients are spread from now on, in nanoseconds.
    fn next_span(&self, now: u64) -> u64 {
        let (last, ended) = (self.span.load(Relaxed), self.ended.load(Relaxed));
        let again = last > 0 && now < ended + nanos(AGAIN);
        let span = if again { last * 2 } else { 0 };
        let span = span.clamp(nanos(SPREAD_MIN), nanos(SPREAD_MAX));
        self.span.store(span, Relaxed);
        span
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

/// The clock of routes has centuries of nanoseconds.
fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

#[cfg(test)]
mod tests;
