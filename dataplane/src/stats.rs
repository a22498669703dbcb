//! Counters: written by one thread each, without a locked operation, and read by any.
//!
//! Every datagram that a worker receives ends in exactly one of `forwarded`, `refused`,
//! `to_control`; every one that the control thread sends in `sent` or `refused_control`.

use crate::frames::{FrameCounters, FrameSnapshot};
use crate::link::Oddities;
use crate::session::SessionSnapshot;
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use wire::{Direction, Reason};

/// A counter that one thread writes.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `more`. Only ever called by the counter's own thread.
    #[inline(always)]
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    /// Sets it, where the count is kept elsewhere.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Its value.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Batch sizes are counted in classes: 1, 2 to 3, 4 to 7, ..., 64 and more.
pub const BATCH_CLASSES: usize = 7;

/// The class of a batch of `size` datagrams, at least 1.
pub fn batch_class(size: usize) -> usize {
    (size.max(1).ilog2() as usize).min(BATCH_CLASSES - 1)
}

/// What one worker counts.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) received: CachePadded<Counter>,
    /// Messages that they came in.
    pub(crate) messages: Counter,
    pub(crate) messages_sent: Counter,
    pub(crate) segmentation_refused: Counter,
    pub(crate) forwarded: [[Counter; 2]; 2],
    pub(crate) inner: Counter,
    /// By [`Direction`], of those forwarded.
    pub(crate) indications: [Counter; 2],
    pub(crate) refused: [[Counter; Reason::COUNT]; 2],
    pub(crate) to_control: [Counter; 2],
    pub(crate) sent: [Counter; 2],
    pub(crate) refused_control: [Counter; Reason::COUNT],
    pub(crate) wakeups: Counter,
    pub(crate) batches: [Counter; BATCH_CLASSES],
    pub(crate) ports: Counter,
    pub(crate) icmp_errors: Counter,
    pub(crate) icmp_told: Counter,
    /// Beyond the allowance, or for want of room in the ring.
    pub(crate) icmp_withheld: Counter,
    /// Beyond what the link keeps.
    pub(crate) icmp_dropped: Counter,
    pub(crate) receive_errors: Counter,
    pub(crate) overflowed: CachePadded<Counter>,
    pub(crate) spreads: Counter,
    /// 1 while clients come by lanes.
    pub(crate) spread: Counter,
    pub(crate) frames: FrameCounters,
}

impl Counters {
    /// One datagram of `bytes` application data forwarded.
    #[inline(always)]
    pub(crate) fn forward(&self, direction: Direction, bytes: u64) {
        let [packets, data] = &self.forwarded[direction as usize];
        packets.add(1);
        data.add(bytes);
    }

    /// One datagram that came from this side refused.
    #[inline(always)]
    pub(crate) fn refuse(&self, direction: Direction, reason: Reason) {
        self.refused[direction as usize][reason as usize].add(1);
    }

    pub(crate) fn meet(&self, oddities: Oddities) {
        self.icmp_errors.set(oddities.icmp_errors);
        self.icmp_dropped.set(oddities.icmp_dropped);
        self.messages_sent.set(oddities.messages_sent);
        self.segmentation_refused.set(oddities.segmentation_refused);
        self.receive_errors.set(oddities.receive_errors);
        self.overflowed.set(oddities.overflowed);
        self.spreads.set(oddities.spreads);
        self.spread.set(oddities.is_spread.into());
    }

    pub(crate) fn snapshot(&self) -> WorkerSnapshot {
        let traffic = |[packets, bytes]: &[Counter; 2]| Traffic {
            packets: packets.value(),
            bytes: bytes.value(),
        };
        let values = |counters: &[Counter; Reason::COUNT]| {
            std::array::from_fn(|reason| counters[reason].value())
        };
        WorkerSnapshot {
            running: true,
            received: self.received.value(),
            messages_received: self.messages.value(),
            messages_sent: self.messages_sent.value(),
            segmentation_refused: self.segmentation_refused.value(),
            forwarded: [traffic(&self.forwarded[0]), traffic(&self.forwarded[1])],
            inner: self.inner.value(),
            indications: [self.indications[0].value(), self.indications[1].value()],
            refused: [values(&self.refused[0]), values(&self.refused[1])],
            clients_to_control: self.to_control[0].value(),
            peers_to_control: self.to_control[1].value(),
            sent_to_peers: self.sent[0].value(),
            sent_to_clients: self.sent[1].value(),
            refused_control: values(&self.refused_control),
            wakeups: self.wakeups.value(),
            batches: std::array::from_fn(|class| self.batches[class].value()),
            ports: self.ports.value(),
            icmp_errors: self.icmp_errors.value(),
            icmp_told: self.icmp_told.value(),
            icmp_withheld: self.icmp_withheld.value() + self.icmp_dropped.value(),
            receive_errors: self.receive_errors.value(),
            overflowed: self.overflowed.value(),
            spreads: self.spreads.value(),
            is_spread: self.spread.value() != 0,
            frames: self.frames.snapshot(),
            to_control: RingFill::default(),
            to_worker: RingFill::default(),
        }
    }
}

/// Packets, and bytes of application data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams.
    pub packets: u64,
    /// Bytes of application data: no headers, no padding.
    pub bytes: u64,
}

impl Traffic {
    /// Adds more of it.
    pub fn add(&mut self, more: Traffic) {
        self.packets += more.packets;
        self.bytes += more.bytes;
    }
}

/// What one channel carried, by this tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteCounters {
    /// From the client to the peer.
    pub to_peer: Traffic,
    /// From the peer to the client.
    pub to_client: Traffic,
}

impl RouteCounters {
    /// Adds what another carried.
    pub fn add(&mut self, other: RouteCounters) {
        self.to_peer.add(other.to_peer);
        self.to_client.add(other.to_client);
    }
}

/// The same, as a session thread counts it.
#[derive(Debug, Default)]
pub(crate) struct PathCounters([[Counter; 2]; 2]);

impl PathCounters {
    /// One datagram of `bytes` application data.
    pub(crate) fn count(&self, direction: Direction, bytes: u64) {
        let [packets, data] = &self.0[direction as usize];
        packets.add(1);
        data.add(bytes);
    }

    pub(crate) fn values(&self) -> RouteCounters {
        let [to_peer, to_client] = [0, 1].map(|direction: usize| {
            let [packets, bytes] = &self.0[direction];
            Traffic { packets: packets.value(), bytes: bytes.value() }
        });
        RouteCounters { to_peer, to_client }
    }
}

/// One worker's counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerSnapshot {
    /// False once the worker's thread has ended.
    pub running: bool,
    /// Datagrams received.
    pub received: u64,
    /// Messages that the kernel handed over; it merges datagrams of one size and one sender.
    pub messages_received: u64,
    /// Messages that the kernel took; it cuts them into datagrams of one size to one destination.
    pub messages_sent: u64,
    /// Messages of several datagrams that the kernel refused; they were sent one by one.
    pub segmentation_refused: u64,
    /// Forwarded, by [`Direction`]. A datagram that stayed inside is in both.
    pub forwarded: [Traffic; 2],
    /// Datagrams that went from one of our clients to another and are in both directions.
    pub inner: u64,
    /// Of those forwarded, by [`Direction`]: what came as a Send indication, and what left as a Data
    /// indication.
    pub indications: [u64; 2],
    /// Received and not forwarded, by the [`Direction`] they would have gone, and [`Reason`].
    pub refused: [[u64; Reason::COUNT]; 2],
    /// Handed to the control thread: datagrams of clients.
    pub clients_to_control: u64,
    /// Handed to the control thread: datagrams of peers.
    pub peers_to_control: u64,
    /// Sent for the control thread.
    pub sent_to_peers: u64,
    /// Sent for the control thread.
    pub sent_to_clients: u64,
    /// Not sent for the control thread, by [`Reason`].
    pub refused_control: [u64; Reason::COUNT],
    /// Times the worker slept and was woken.
    pub wakeups: u64,
    /// Batches received, by [`batch_class`] of their size.
    pub batches: [u64; BATCH_CLASSES],
    /// Relay ports open now.
    pub ports: u64,
    /// ICMP errors reported by relay ports.
    pub icmp_errors: u64,
    /// Of those, handed to the control thread.
    pub icmp_told: u64,
    /// Of those, withheld: beyond a bound or [`UNREACHABLE_PER_SECOND`](crate::UNREACHABLE_PER_SECOND),
    /// or the ring was full.
    pub icmp_withheld: u64,
    /// Failures of receiving other than that there was nothing.
    pub receive_errors: u64,
    /// Datagrams that the kernel dropped because a socket's receive buffer was full.
    pub overflowed: u64,
    /// Times that this worker was behind, and had the kernel spread all clients over lanes.
    pub spreads: u64,
    /// Its clients come by lanes now.
    pub is_spread: bool,
    /// What came by AF_XDP.
    pub frames: FrameSnapshot,
    /// The ring to the control thread, as that found it.
    pub to_control: RingFill,
    /// The ring to this worker, as the control thread left it.
    pub to_worker: RingFill,
}

/// How full a ring of datagrams is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingFill {
    /// Waiting now.
    pub waiting: usize,
    /// The most that the control thread has seen waiting.
    pub peak: usize,
    /// Its size.
    pub size: usize,
}

impl RingFill {
    /// As many bytes wait.
    pub(crate) fn see(&mut self, waiting: usize) {
        self.waiting = waiting;
        self.peak = self.peak.max(waiting);
    }
}

impl WorkerSnapshot {
    /// Refused for `reason`, wherever the datagram came from.
    pub fn refused(&self, reason: Reason) -> u64 {
        let [to_peer, to_client] = &self.refused;
        let reason = reason as usize;
        to_peer[reason] + to_client[reason] + self.refused_control[reason]
    }

    /// Received datagrams that are accounted for; equal to `received` when nothing is in flight.
    pub fn settled(&self) -> u64 {
        let forwarded: u64 = self.forwarded.iter().map(|traffic| traffic.packets).sum();
        let refused: u64 = self.refused.iter().flatten().sum();
        forwarded - self.inner + refused + self.clients_to_control + self.peers_to_control
    }
}

/// All counters at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// By worker; after them the session threads.
    pub workers: Vec<WorkerSnapshot>,
    /// By session thread: what it counts beside its datagrams.
    pub sessions: Vec<SessionSnapshot>,
    /// Datagrams of the control thread that never reached a worker, by [`Reason`]: the ring was
    /// full, or the port closed.
    pub refused_control: [u64; Reason::COUNT],
    /// Channels in the workers' route table.
    pub routes: usize,
    /// Bytes of address space of that table.
    pub table_size: usize,
    /// Relayed addresses and permissions in the workers' table for Send and Data indications.
    pub permits: usize,
    /// Of those, how many found no place in it: the control thread carries their indications.
    pub permits_refused: u64,
}

impl Snapshot {
    /// Forwarded in `direction` by all workers.
    pub fn forwarded(&self, direction: Direction) -> Traffic {
        self.workers.iter().fold(Traffic::default(), |sum, worker| {
            let Traffic { packets, bytes } = worker.forwarded[direction as usize];
            Traffic { packets: sum.packets + packets, bytes: sum.bytes + bytes }
        })
    }

    /// Refused for `reason` by all workers and on the way to them.
    pub fn refused(&self, reason: Reason) -> u64 {
        let workers: u64 = self.workers.iter().map(|worker| worker.refused(reason)).sum();
        workers + self.refused_control[reason as usize]
    }
}
