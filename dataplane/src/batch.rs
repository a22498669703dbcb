//! The packet memory of a worker: a fixed number of buffers that datagrams come in by and leave
//! from, without a copy.
//!
//! ```text
//!             start                     start + size
//!   |<--------- HEADROOM -------->|<------ room ------------------------------>|
//!   |                             | payload as received | older bytes          |
//!   |                      | chan | payload, wrapped    |    (never sent)      |   prepend
//!   |                             | hdr | data | padding                       |   narrow
//! ```
//!
//! Buffers are reused for as long as the worker lives, so bytes of older datagrams lie behind the
//! newer ones. Nothing outside `start..start + size` is ever handed to a socket, and `size` only
//! ever comes from the kernel's count of received bytes, or from bytes written here.

use std::net::{IpAddr, SocketAddr};
use wire::Reason;

/// Bytes free in front of every received payload: a ChannelData header, kept to a cache line.
pub const HEADROOM: usize = 64;

/// Most datagrams that one system call moves.
pub const BATCH_MAX: usize = 64;

/// The longest UDP payload that a header's length field can state.
pub const DATAGRAM_MAX: usize = 65_535;

/// Which of a worker's sockets: a listener, or a relay port's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(u32);

/// What a [`SocketId`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// The listener with this index.
    Listener(usize),
    /// The relay port in this slot.
    Port(u32),
}

impl SocketId {
    const LISTENER: u32 = 1 << 31;

    /// The listener with index `index`, in the order of configuration.
    pub fn listener(index: usize) -> Self {
        Self(Self::LISTENER | index as u32)
    }

    /// The relay port in `slot`.
    pub fn port(slot: u32) -> Self {
        debug_assert!(slot & Self::LISTENER == 0);
        Self(slot)
    }

    /// As a number that keeps all of it.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// What [`bits`](Self::bits) gave.
    pub(crate) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Which it is.
    pub fn kind(self) -> SocketKind {
        if self.0 & Self::LISTENER != 0 {
            SocketKind::Listener((self.0 & !Self::LISTENER) as usize)
        } else {
            SocketKind::Port(self.0)
        }
    }
}

/// What is known about a datagram from outside its payload.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Where it came from.
    pub remote: SocketAddr,
    /// The address of ours that it was sent to.
    pub local: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN: the TOS octet or the traffic class.
    pub tos: u8,
    /// Longer than the buffer: its end is lost.
    pub truncated: bool,
}

/// TTL (or hop limit) and TOS (or traffic class) of one datagram on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// TTL or hop limit, 1 to 255.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
}

/// How a datagram leaves.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    /// The socket that sends it.
    pub by: SocketId,
    /// Destination.
    pub to: SocketAddr,
    /// Source address, where the socket is bound to all addresses.
    pub from: Option<IpAddr>,
    /// TTL and TOS; the socket's defaults where absent.
    pub marks: Option<Marks>,
    /// Send with DF set, for a Send indication with DONT-FRAGMENT (RFC 8656 section 14).
    pub dont_fragment: bool,
}

/// What became of a datagram that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not handed to a link.
    Unsent,
    /// The kernel took it.
    Sent,
    /// It did not leave.
    Refused(Reason),
}

#[derive(Clone, Copy)]
struct Parcel {
    start: usize,
    size: usize,
    arrival: Arrival,
    departure: Option<Departure>,
    outcome: Outcome,
}

/// Datagrams of one batch, in buffers that are allocated once.
pub struct Batch {
    memory: Box<[u8]>,
    room: usize,
    parcels: Vec<Parcel>,
    capacity: usize,
}

impl Batch {
    /// A batch of `capacity` datagrams (1 to [`BATCH_MAX`]) of up to `room` bytes each.
    ///
    /// Memory that no datagram ever reached is never touched, so full-size buffers cost a process
    /// only what its traffic uses.
    pub fn new(capacity: usize, room: usize) -> Self {
        let capacity = capacity.clamp(1, BATCH_MAX);
        let room = room.clamp(1, DATAGRAM_MAX);
        let memory = vec![0; capacity * stride(room)].into_boxed_slice();
        Self { memory, room, parcels: Vec::with_capacity(capacity), capacity }
    }

    /// Most datagrams it holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Datagrams it holds now.
    pub fn len(&self) -> usize {
        self.parcels.len()
    }

    /// True when it holds none.
    pub fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }

    /// True when no further datagram fits.
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity
    }

    /// Forgets all datagrams; their bytes stay behind and are never sent.
    pub fn clear(&mut self) {
        self.parcels.clear();
    }

    /// All packet memory, with where each buffer lies in it: for a link that receives into it.
    pub(crate) fn rooms(&mut self) -> (&mut [u8], Rooms) {
        let rooms = Rooms { stride: stride(self.room), room: self.room, count: self.capacity };
        (&mut self.memory, rooms)
    }

    /// Takes note of a datagram of `size` bytes that a link wrote into the next buffer's room.
    pub(crate) fn note(&mut self, size: usize, arrival: Arrival) {
        assert!(
            !self.is_full() && size <= self.room,
            "a link never receives more than it was lent"
        );
        let start = self.len() * stride(self.room) + HEADROOM;
        let outcome = Outcome::Unsent;
        self.parcels.push(Parcel { start, size, arrival, departure: None, outcome });
    }

    /// Copies a datagram in. False when the batch is full or the datagram too long.
    pub fn push(&mut self, bytes: &[u8], arrival: Arrival) -> bool {
        if self.is_full() || bytes.len() > self.room {
            return false;
        }
        let start = self.len() * stride(self.room) + HEADROOM;
        self.memory[start..start + bytes.len()].copy_from_slice(bytes);
        self.note(bytes.len(), arrival);
        true
    }

    /// Where datagram `index` came from, and how.
    pub fn arrival(&self, index: usize) -> &Arrival {
        &self.parcels[index].arrival
    }

    /// The payload of datagram `index`, as it is now.
    pub fn payload(&self, index: usize) -> &[u8] {
        let parcel = &self.parcels[index];
        &self.memory[parcel.start..parcel.start + parcel.size]
    }

    /// Keeps `size` bytes of the payload from `skip` on. Refuses, changing nothing, to keep bytes
    /// that are not there.
    pub fn narrow(&mut self, index: usize, skip: usize, size: usize) -> bool {
        let parcel = &mut self.parcels[index];
        let fits = skip.checked_add(size).is_some_and(|end| end <= parcel.size);
        if fits {
            parcel.start += skip;
            parcel.size = size;
        }
        fits
    }

    /// Puts `header` in front of the payload. Refuses, changing nothing, when the room in front is
    /// used up.
    pub fn prepend(&mut self, index: usize, header: [u8; 4]) -> bool {
        let first = index * stride(self.room);
        let parcel = &mut self.parcels[index];
        let fits = parcel.start - first >= header.len();
        if fits {
            parcel.start -= header.len();
            parcel.size += header.len();
            self.memory[parcel.start..parcel.start + header.len()].copy_from_slice(&header);
        }
        fits
    }

    /// Marks datagram `index` for sending.
    pub fn depart(&mut self, index: usize, departure: Departure) {
        self.parcels[index].departure = Some(departure);
    }

    /// How datagram `index` leaves, if it does.
    pub fn departure(&self, index: usize) -> Option<&Departure> {
        self.parcels[index].departure.as_ref()
    }

    /// What became of datagram `index`.
    pub fn outcome(&self, index: usize) -> Outcome {
        self.parcels[index].outcome
    }

    /// Settles what became of datagram `index`.
    pub fn settle(&mut self, index: usize, outcome: Outcome) {
        self.parcels[index].outcome = outcome;
    }
}

/// Where the buffers lie in a batch's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rooms {
    /// From one buffer to the next, bytes.
    pub(crate) stride: usize,
    /// Bytes that may be written at each room.
    pub(crate) room: usize,
    /// How many buffers.
    pub(crate) count: usize,
}

/// From one buffer to the next: whole cache lines, and an odd number of them, so that the first
/// lines of all buffers do not compete for the same sets of the cache.
const fn stride(room: usize) -> usize {
    let lines = (HEADROOM + room).div_ceil(64);
    (lines | 1) * 64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival() -> Arrival {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Arrival { remote: address, local: address, ttl: 64, tos: 0, truncated: false }
    }

    #[test]
    fn a_header_goes_in_front_without_moving_the_payload() {
        let mut batch = Batch::new(2, 100);
        assert!(batch.push(b"first", arrival()) && batch.push(b"second", arrival()));
        let before = batch.payload(1).as_ptr();
        assert!(batch.prepend(1, [0x40, 0, 0, 6]));
        assert_eq!(batch.payload(1), b"\x40\0\0\x06second");
        assert_eq!(batch.payload(1)[4..].as_ptr(), before);
        assert_eq!(batch.payload(0), b"first");
    }

    #[test]
    fn headers_beyond_the_headroom_are_refused() {
        let mut batch = Batch::new(2, 100);
        assert!(batch.push(b"first", arrival()) && batch.push(b"x", arrival()));
        for _ in 0..HEADROOM / 4 {
            assert!(batch.prepend(1, [7; 4]));
        }
        assert!(!batch.prepend(1, [8; 4]));
        assert_eq!(batch.payload(0), b"first");
    }

    #[test]
    fn nothing_beyond_the_datagram_can_be_kept() {
        let mut batch = Batch::new(1, 100);
        assert!(batch.push(&[0xaa; 100], arrival()));
        batch.clear();
        assert!(batch.push(b"12345678", arrival()));
        assert!(!batch.narrow(0, 4, 5));
        assert!(!batch.narrow(0, usize::MAX, 2));
        assert!(batch.narrow(0, 4, 3));
        assert_eq!(batch.payload(0), b"567");
    }

    #[test]
    fn a_full_batch_and_a_long_datagram_are_refused() {
        let mut batch = Batch::new(1, 4);
        assert!(!batch.push(b"12345", arrival()));
        assert!(batch.push(b"1234", arrival()));
        assert!(batch.is_full() && !batch.push(b"1", arrival()));
    }

    #[test]
    fn socket_ids_tell_listeners_from_ports() {
        assert_eq!(SocketId::listener(3).kind(), SocketKind::Listener(3));
        assert_eq!(SocketId::port(70_000).kind(), SocketKind::Port(70_000));
    }
}
