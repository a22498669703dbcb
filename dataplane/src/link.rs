//! The seam between a worker and whatever moves its datagrams.
//!
//! A link is all of one worker's input and output: every listener and every relay port. It works
//! at datagram level (addresses, payload with room in front), so that sockets ([`socket`]), the
//! in-memory link of tests ([`memory`]) and kernel-bypass queues fit alike, and so that one link
//! can wrap another.
//!
//! ```text
//!   wait ──> receive(batch) ──> the worker decides ──> send(batch) ──> each outcome settled
//!     ^            │ nothing ready                                           │
//!     └────────────┴─────────────────────────────────────────────────────────┘
//! ```

pub mod memory;
pub mod socket;
pub mod xsk;

use crate::batch::{Batch, SocketId};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Receives, sends and waits for one worker.
pub trait Link {
    /// What a relay port is here: for sockets, a bound socket.
    type Port;

    /// Takes a relay port in. A slot that is still in use gives its old port back.
    fn open(&mut self, slot: u32, port: Self::Port) -> Option<Self::Port>;

    /// Gives the relay port in `slot` back, so that its owner can drop it.
    fn close(&mut self, slot: u32) -> Option<Self::Port>;

    /// Takes a relay port in that another link receives from until [`hear`](Self::hear): for sending
    /// only, until then. A slot that was still open gives its old port back.
    fn take_over(&mut self, slot: u32, port: Self::Port) -> Option<Self::Port> {
        self.open(slot, port)
    }

    /// Receives from the port in `slot` from now on, whose drops were counted up to `overflowed`.
    fn hear(&mut self, _slot: u32, _overflowed: u32) {}

    /// Takes another worker's relay port in under `number`, for sending only. A number that is still
    /// in use gives its old port back.
    /// So does a link that takes none: the new port.
    fn lend(&mut self, _number: u32, port: Self::Port) -> Option<Self::Port> {
        Some(port)
    }

    /// Gives the port that was lent under `number` back, so that its owner can drop it.
    fn recall(&mut self, _number: u32) -> Option<Self::Port> {
        None
    }

    /// A round begins, at this time of the clock that routes expire by.
    fn begin_round(&mut self, _now: Duration) {}

    /// Sleeps until something is ready, the link is woken, or `timeout` is over. With a zero
    /// timeout it only learns what became ready.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// True when [`receive`](Self::receive) may find something without waiting.
    fn is_ready(&self) -> bool;

    /// Adds to `batch`, which is not full, what one of the sockets that are ready has, each in its
    /// turn, and says which. Nothing added means that this socket had nothing after all.
    fn receive(&mut self, batch: &mut Batch) -> Option<SocketId>;

    /// Sends every datagram of the batch that has a departure and settles its outcome. Datagrams
    /// from one socket to one destination keep their order.
    fn send(&mut self, batch: &mut Batch);

    /// The next ICMP error that a relay port was told, oldest first. A link keeps a bounded number
    /// of them; what is over is counted in [`Oddities::icmp_dropped`].
    fn unreachable(&mut self) -> Option<Unreachable>;

    /// What happened on the way that no datagram's outcome tells.
    fn oddities(&self) -> Oddities;
}

/// An ICMP error for a datagram that a relay port had sent: type 3 or 11 of ICMP, type 1, 2 or 3 of
/// ICMPv6 (RFC 8656 section 11.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreachable {
    /// The socket that sent it.
    pub by: SocketId,
    /// The peer that it was sent to.
    pub peer: SocketAddr,
    /// Type, of ICMP or of ICMPv6 by the peer's family.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The next hop's MTU in bytes for "fragmentation needed" and "packet too big", else 0.
    pub data: u32,
}

/// Counts of what a link met beside the datagrams themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// ICMP errors that sockets reported.
    pub icmp_errors: u64,
    /// Of those, not kept because too many waited to be handed over.
    pub icmp_dropped: u64,
    /// Receiving failed for another reason than that there was nothing.
    pub receive_errors: u64,
    /// Datagrams that the kernel dropped because a socket's receive buffer was full.
    pub overflowed: u64,
    /// Messages that the kernel took; each is one datagram, or several of one size to one
    /// destination.
    pub messages_sent: u64,
    /// Messages of several datagrams that the kernel refused; they were sent one by one.
    pub segmentation_refused: u64,
    /// Times that it was behind, and had the kernel spread clients over lanes.
    pub spreads: u64,
    /// Clients come to this link by lanes now.
    pub is_spread: bool,
}

/// What the kernel is asked to do for many datagrams at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Merge what it receives (UDP_GRO). Batches need rooms for the longest message there can be.
    pub receive: bool,
    /// Cut what is sent (UDP_SEGMENT).
    pub send: bool,
}
