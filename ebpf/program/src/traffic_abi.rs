//! What the benchmarks' traffic programs share with userspace. Compiled into both: userspace
//! includes this file by its path.
#![allow(dead_code, unreachable_pub, reason = "each side uses what it needs")]
//!
//! A frame of the generator, in front of the relay:
//!
//! ```text
//! Ethernet | IPv4 or IPv6 | UDP | ChannelData (to a peer only) | stamp | filling
//!
//! stamp    number (4) | its complement (4) | flow (2) | its complement (2)
//! ```
//!
//! A stamp's words add up to nothing in one's complement, so a UDP checksum depends on the headers
//! alone: the generator makes it, and the sink checks it, without reading the filling.

/// To a peer, and to a client.
pub const WAYS: usize = 2;
/// Bytes of a stamp.
pub const STAMP: usize = 12;
/// What fills the data behind the stamp.
pub const FILLING: u8 = 0x5a;
/// Bytes at the end of the data that the sink compares.
pub const TAIL: usize = 8;
/// The port that clients send to.
pub const LISTENER: u16 = 3478;

/// One channel. Ports and number in host order, from the low end: client's port, relay's port,
/// peer's port, channel number.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Flow(pub u64);

impl Flow {
    /// The client's port.
    pub const fn client(self) -> u16 {
        self.0 as u16
    }
    /// The relayed port.
    pub const fn relay(self) -> u16 {
        (self.0 >> 16) as u16
    }
    /// The peer's port.
    pub const fn peer(self) -> u16 {
        (self.0 >> 32) as u16
    }
    /// The channel's number.
    pub const fn channel(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

/// The headers of one way's frames, as far as they are all alike.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Template {
    /// Ethernet and IP, in wire order: 34 bytes with IPv4, 54 with IPv6.
    pub head: [u64; 7],
    /// Interface to leave by.
    pub ifindex: u32,
    /// 1 for IPv6.
    pub v6: u32,
    /// Bytes by which this way's headers are shorter than the other's.
    pub skip: u32,
    /// Length of the UDP datagram.
    pub udp_size: u16,
    /// One's-complement sum of all that the UDP checksum covers but ports and channel number.
    pub sum: u16,
}

/// What userspace asks of the generator, and what it did.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Run {
    /// Packets per nanosecond, times 2^32. 0: as many as there are test runs.
    pub pace: u64,
    /// CLOCK_MONOTONIC, nanoseconds: nothing is sent before, and nothing from `end` on.
    pub start: u64,
    /// See `start`.
    pub end: u64,
    /// Bit 0: to peers; bit 1: to clients.
    pub ways: u64,
    /// How many flows take turns.
    pub flows: u64,
    /// Sent, by way.
    pub sent: [u64; WAYS],
    /// Due, but so late that sending them would have been a burst.
    pub skipped: u64,
    /// How many are due, sent and skipped ones included, as of `last`.
    pub due: u64,
    /// When the clock was last read and something was due.
    pub last: u64,
    /// The flow whose turn it is.
    pub flow: u64,
    /// The way whose turn it is.
    pub way: u64,
}

/// What the sink saw on one CPU.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Seen {
    /// Right in every byte that is checked, by way.
    pub right: [u64; WAYS],
    /// Ours, and not right.
    pub wrong: u64,
    /// Not ours: passed on.
    pub other: u64,
}

const _: () = assert!(size_of::<Template>() == 72);
const _: () = assert!(size_of::<Run>() == 96);
const _: () = assert!(size_of::<Seen>() == 32);
