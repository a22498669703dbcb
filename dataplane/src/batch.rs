//! The packet memory of a worker: a fixed number of rooms that datagrams come in by and leave from,
//! without a copy.
//!
//! ```text
//!             start                     start + size
//!   |<--------- HEADROOM -------->|<------ room ------------------------------>|
//!   |                             | payload as received | older bytes          |
//!   |                      | chan | payload, wrapped    |    (never sent)      |   prepend
//!   |                             | hdr | data | padding                       |   narrow
//!   |      | STUN and attributes  | payload, wrapped | 000 |                    |   prepend, pad
//!   |                             | one | two | three | older bytes            |   merged (GRO)
//! ```
//!
//! A message from the kernel fills one room. It is one datagram, or several of one size and one
//! sender that the kernel has merged; the last may be shorter. Datagrams behind the first have no
//! room in front of them, and all but the last none behind: a header for such a one is kept beside
//! it, so is padding, and the kernel gathers them.
//!
//! Rooms are used again for as long as the worker lives, so bytes of older datagrams lie behind the
//! newer ones. Nothing outside `start..start + size` is ever handed to a socket, and `size` only
//! ever comes from the kernel's count of received bytes, or from bytes written here.

use std::net::{IpAddr, SocketAddr};
use wire::Reason;

mod socket_id;

pub use socket_id::{SocketId, SocketKind};

/// Bytes free in front of every received payload: a ChannelData header, or that of a Data
/// indication; a cache line.
pub const HEADROOM: usize = 64;

/// The longest header that is kept beside a datagram: a Data indication's, of an IPv6 peer.
pub const HEADER_MAX: usize = 48;

/// The most padding behind a datagram: to whole words, as STUN attributes have it.
pub const PADDING_MAX: usize = 3;

/// Most messages that one system call moves.
pub const BATCH_MAX: usize = 64;

/// Most datagrams that the kernel merges in one message: its UDP_MAX_SEGMENTS.
pub const SEGMENTS_MAX: usize = 128;

/// The longest UDP payload that a header's length field can state.
pub const DATAGRAM_MAX: usize = 65_535;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// What came in one room.
#[derive(Clone, Copy)]
struct Message {
    by: SocketId,
    arrival: Arrival,
}

/// A datagram.
#[derive(Clone, Copy)]
struct Parcel {
    /// The message that it came in.
    message: u32,
    /// The first byte that nobody else needs.
    floor: u32,
    start: u32,
    size: u32,
    /// Bytes of the header in front of the payload, where there was no room for it: see
    /// [`Batch::headers`].
    header: u8,
    /// Zeros behind the payload, where there was no room for them.
    padding: u8,
    outcome: Outcome,
    departure: Option<Departure>,
}

/// Datagrams of one batch, in rooms that are allocated once.
pub struct Batch {
    memory: Box<[u8]>,
    room: usize,
    messages: Vec<Message>,
    parcels: Vec<Parcel>,
    /// By datagram, for those that have no room in front.
    headers: Box<[[u8; HEADER_MAX]]>,
    capacity: usize,
}

impl Batch {
    /// A batch of `capacity` rooms (1 to [`BATCH_MAX`]) of `room` bytes each. A link that lets the
    /// kernel merge datagrams needs rooms of [`DATAGRAM_MAX`] bytes.
    ///
    /// Memory that no datagram ever reached is never touched, so full-size rooms cost a process
    /// only what its traffic uses: at most 4.2 MB of payload and 1.4 MB of notes on it.
    pub fn new(capacity: usize, room: usize) -> Self {
        let capacity = capacity.clamp(1, BATCH_MAX);
        let room = room.clamp(1, DATAGRAM_MAX);
        let memory = vec![0; capacity * stride(room)].into_boxed_slice();
        let messages = Vec::with_capacity(capacity);
        let parcels = Vec::with_capacity(capacity * SEGMENTS_MAX);
        let headers = vec![[0; HEADER_MAX]; capacity * SEGMENTS_MAX].into_boxed_slice();
        Self { memory, room, messages, parcels, headers, capacity }
    }

    /// Most messages it holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Datagrams it holds now.
    pub fn len(&self) -> usize {
        self.parcels.len()
    }

    /// Messages that they came in.
    pub fn messages(&self) -> usize {
        self.messages.len()
    }

    /// True when it holds none.
    pub fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }

    /// True when no further message fits.
    pub fn is_full(&self) -> bool {
        self.messages.len() == self.capacity
    }

    /// Forgets all datagrams; their bytes stay behind and are never sent.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.parcels.clear();
    }

    /// All packet memory, with where each free room lies in it: for a link that receives into it.
    pub(crate) fn rooms(&mut self) -> (&mut [u8], Rooms) {
        let first = self.messages.len();
        let (stride, room) = (stride(self.room), self.room);
        (&mut self.memory, Rooms { stride, room, first, count: self.capacity - first })
    }

    /// Takes note of a message of `size` bytes from the socket `by` that a link wrote into the first
    /// free room. `segment`: the size of the datagrams that it was merged from.
    pub(crate) fn note(
        &mut self,
        by: SocketId,
        size: usize,
        segment: Option<usize>,
        arrival: Arrival,
    ) {
        assert!(
            !self.is_full() && size <= self.room,
            "a link never receives more than it was lent"
        );
        let message = self.messages.len() as u32;
        let floor = self.messages.len() * stride(self.room);
        let first = floor + HEADROOM;
        self.messages.push(Message { by, arrival });
        let mut parcel = Parcel {
            message,
            floor: floor as u32,
            start: first as u32,
            size: size as u32,
            header: 0,
            padding: 0,
            outcome: Outcome::Unsent,
            departure: None,
        };
        // a segment of no bytes, or too many of them, is nothing that the kernel makes
        let segment = segment.filter(|&segment| size.div_ceil(segment.max(1)) <= SEGMENTS_MAX);
        let Some(segment) = segment.filter(|&segment| segment > 0 && segment < size) else {
            self.parcels.push(parcel);
            return;
        };
        let mut offset = 0;
        while offset < size {
            parcel.start = (first + offset) as u32;
            parcel.size = segment.min(size - offset) as u32;
            self.parcels.push(parcel);
            offset += segment;
            parcel.floor = (first + offset) as u32;
        }
    }

    /// Copies a datagram in. False when the batch is full or the datagram too long.
    pub fn push(&mut self, bytes: &[u8], arrival: Arrival) -> bool {
        self.push_from(SocketId::listener(0), bytes, None, arrival)
    }

    /// Copies a message in that came by the socket `by`, merged from datagrams of `segment` bytes.
    /// False when the batch is full or the message too long.
    pub fn push_from(
        &mut self,
        by: SocketId,
        bytes: &[u8],
        segment: Option<usize>,
        arrival: Arrival,
    ) -> bool {
        if self.is_full() || bytes.len() > self.room {
            return false;
        }
        let start = self.messages.len() * stride(self.room) + HEADROOM;
        self.memory[start..start + bytes.len()].copy_from_slice(bytes);
        self.note(by, bytes.len(), segment, arrival);
        true
    }

    /// Where datagram `index` came from, and how.
    pub fn arrival(&self, index: usize) -> &Arrival {
        &self.messages[self.parcels[index].message as usize].arrival
    }

    /// The socket that datagram `index` came in by.
    pub fn by(&self, index: usize) -> SocketId {
        self.messages[self.parcels[index].message as usize].by
    }

    /// The payload of datagram `index`, as it is now, but for a header and padding that are kept
    /// beside it.
    pub fn payload(&self, index: usize) -> &[u8] {
        let parcel = &self.parcels[index];
        let start = parcel.start as usize;
        &self.memory[start..start + parcel.size as usize]
    }

    /// What is sent of datagram `index`, in up to three pieces; each may be empty.
    pub fn pieces(&self, index: usize) -> [&[u8]; 3] {
        const ZEROS: [u8; PADDING_MAX] = [0; PADDING_MAX];
        let Parcel { header, padding, .. } = self.parcels[index];
        // most have neither
        let header = if header == 0 { &[] } else { &self.headers[index][..header.into()] };
        [header, self.payload(index), &ZEROS[..padding.into()]]
    }

    /// Bytes that are sent of datagram `index`.
    pub fn size(&self, index: usize) -> usize {
        let parcel = &self.parcels[index];
        parcel.size as usize + usize::from(parcel.header) + usize::from(parcel.padding)
    }

    /// Keeps `size` bytes of the payload from `skip` on. Refuses, changing nothing, to keep bytes
    /// that are not there, or to cut off what is kept beside them.
    pub fn narrow(&mut self, index: usize, skip: usize, size: usize) -> bool {
        let parcel = &mut self.parcels[index];
        let end = skip.checked_add(size);
        let whole = parcel.header == 0 && parcel.padding == 0;
        let fits = whole && end.is_some_and(|end| end <= parcel.size as usize);
        if fits {
            parcel.start += skip as u32;
            parcel.size = size as u32;
        }
        fits
    }

    /// Puts `header` in front of the payload: into the room in front of it, or, once and if it is
    /// no longer than [`HEADER_MAX`], beside it. Refuses, changing nothing, when both are used up.
    pub fn prepend(&mut self, index: usize, header: &[u8]) -> bool {
        let parcel = &mut self.parcels[index];
        if parcel.header != 0 {
            return false;
        }
        let size = header.len();
        if ((parcel.start - parcel.floor) as usize) < size {
            let Some(beside) = self.headers[index].get_mut(..size) else { return false };
            beside.copy_from_slice(header);
            parcel.header = size as u8;
            return true;
        }
        parcel.start -= size as u32;
        parcel.size += size as u32;
        let start = parcel.start as usize;
        self.memory[start..start + size].copy_from_slice(header);
        true
    }

    /// Puts `count` zeros, at most [`PADDING_MAX`], behind the payload: into the room behind it, or,
    /// once, beside it. Refuses, changing nothing, when both are used up.
    pub fn pad(&mut self, index: usize, count: usize) -> bool {
        let next = self.parcels.get(index + 1).map(|next| next.message);
        let parcel = &mut self.parcels[index];
        if count > PADDING_MAX || parcel.padding != 0 {
            return false;
        }
        let end = (parcel.start + parcel.size) as usize;
        let room_end = parcel.message as usize * stride(self.room) + HEADROOM + self.room;
        if next == Some(parcel.message) || room_end - end < count {
            parcel.padding = count as u8;
        } else {
            self.memory[end..end + count].fill(0);
            parcel.size += count as u32;
        }
        true
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

/// Where the free rooms lie in a batch's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rooms {
    /// From one room to the next, bytes.
    pub(crate) stride: usize,
    /// Bytes that may be written at each room.
    pub(crate) room: usize,
    /// The first that is free.
    pub(crate) first: usize,
    /// How many are.
    pub(crate) count: usize,
}

/// From one room to the next: whole cache lines, and an odd number of them, so that the first
/// lines of all rooms do not compete for the same sets of the cache.
const fn stride(room: usize) -> usize {
    let lines = (HEADROOM + room).div_ceil(64);
    (lines | 1) * 64
}

#[cfg(test)]
mod tests;
