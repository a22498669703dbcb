//! The datagrams themselves: threads that send by a schedule and threads that receive and judge.

mod receiver;
mod sender;

pub use receiver::{FlowArrivals, Ingress, Received, Receiver};
pub use sender::{Egress, Sender, Sent};

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hdrhistogram::Histogram;

use crate::latency;

/// What the threads of one measurement share.
pub struct Shared {
    /// Senders end at once.
    pub stop_sending: AtomicBool,
    /// Receivers end at once.
    pub stop_receiving: AtomicBool,
    /// Datagrams handed to the kernel so far.
    pub sent: AtomicU64,
    /// Datagrams received so far, whatever they were.
    pub received: AtomicU64,
    /// Times that the other end's host said that nobody listens there.
    pub unreachable: AtomicU64,
    /// Streams that the server closed.
    pub closed: AtomicU64,
    /// Latencies since somebody looked last, in nanoseconds.
    pub recent: Mutex<Histogram<u64>>,
}

impl Default for Shared {
    fn default() -> Shared {
        Shared {
            stop_sending: AtomicBool::new(false),
            stop_receiving: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            unreachable: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            recent: Mutex::new(latency::histogram()),
        }
    }
}

impl Shared {
    /// Sent and received so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }

    /// An error of a socket's call, which may be of an earlier datagram.
    fn note_error(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            self.unreachable.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Latencies since the last call.
    pub fn take_recent(&self) -> Histogram<u64> {
        let mut recent = self.recent.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::replace(&mut recent, latency::histogram())
    }
}

/// Equal parts of a run's time, by which sent and received are compared: what was due in a part,
/// and how much of it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Slots {
    /// CLOCK_MONOTONIC of the run's start, in nanoseconds.
    pub start: u64,
    /// Length of a part in nanoseconds.
    pub len: u64,
    /// Parts.
    pub count: usize,
}

impl Slots {
    /// The part in which this time lies; the last takes what is later.
    pub fn of(&self, at: u64) -> usize {
        let slot = at.saturating_sub(self.start) / self.len;
        (slot as usize).min(self.count - 1)
    }
}
