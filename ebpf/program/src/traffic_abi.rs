//! What the traffic programs share with userspace. Compiled into both: userspace includes this file
//! by its path.
#![allow(dead_code, unreachable_pub, reason = "each side uses what it needs")]
//!
//! A frame of the generator, in front of the relay:
//!
//! ```text
//! Ethernet | IPv4 or IPv6 | UDP | wrapper (from a client only) | stamp | filling
//!
//! wrapper  ChannelData, or a Send indication: header (20) | XOR-PEER-ADDRESS (12 or 24) | DATA (4)
//! stamp    tag (1) | flow (3) | sequence (4) | due, ns (8) | balance (2) | 0 (2)
//! ```
//!
//! All little-endian. The balance makes the stamp's 16-bit words add up to nothing in one's
//! complement: so it is a check of the stamp, and a UDP checksum depends on headers and length
//! alone. A tag has its highest bit set: no stamp begins as ChannelData or STUN does.

/// To a peer, and to a client.
pub const WAYS: usize = 2;
/// Bytes of a stamp: the least payload.
pub const STAMP: usize = 20;
/// What fills the data behind the stamp.
pub const FILLING: u8 = 0x5a;
/// The port that clients send to in the benchmarks.
pub const LISTENER: u16 = 3478;
/// Most paths.
pub const PATHS: usize = 16;
/// Most payload lengths in a pattern.
pub const PATTERN: usize = 4096;
/// Parts of a run that are counted apart.
pub const SLOTS: usize = 64;
/// Most flows: what 24 bits number, less what memory is for.
pub const FLOWS: usize = 1 << 17;
/// A due time relative to the start is kept in 2^-16 ns: a run lasts at most three days.
pub const FRACTION: u32 = 16;
/// Longest payload: with headers it fits a frame of 1,514 bytes.
pub const PAYLOAD_MAX: usize = 1_440;

/// Headers of a Send indication in front of its data, with an IPv4 peer and with an IPv6 peer.
pub const SEND_V4: usize = 36;
/// See [`SEND_V4`].
pub const SEND_V6: usize = 48;

/// Words of [`Arrivals::window`], each of 32 numbers.
pub const WINDOW: usize = 32;

/// Bits of a latency that its bucket keeps: 0.4 % of error.
pub const FINE: u32 = 8;
/// The same for one part of a run: 3 %.
pub const COARSE: u32 = 5;
/// Latencies are told apart up to 2^36 ns, over a minute.
const HIGHEST: u32 = 36;

/// How many buckets there are.
pub const fn buckets(bits: u32) -> usize {
    ((HIGHEST - bits + 1) << bits) as usize
}

/// The bucket of a latency in nanoseconds: below 2^bits one for each, above it 2^bits for each
/// power of two.
#[inline(always)]
pub const fn bucket(nanoseconds: u64, bits: u32) -> usize {
    let most = (1 << HIGHEST) - 1;
    let value = if nanoseconds > most { most } else { nanoseconds };
    let mut log = 0;
    let mut rest = value >> bits;
    // a search by halves: there is no instruction for it
    if rest >> 16 != 0 {
        log += 16;
        rest >>= 16;
    }
    if rest >> 8 != 0 {
        log += 8;
        rest >>= 8;
    }
    if rest >> 4 != 0 {
        log += 4;
        rest >>= 4;
    }
    if rest >> 2 != 0 {
        log += 2;
        rest >>= 2;
    }
    if rest >> 1 != 0 {
        log += 1;
        rest >>= 1;
    }
    if rest == 0 {
        return value as usize;
    }
    ((log + 1) << bits) as usize + ((value >> log) as usize - (1 << bits))
}

/// A latency in the middle of a bucket.
pub const fn middle(bucket: usize, bits: u32) -> u64 {
    let (power, low) = ((bucket >> bits) as u32, (bucket & ((1 << bits) - 1)) as u64);
    if power == 0 {
        return low;
    }
    let start = (low + (1 << bits)) << (power - 1);
    start + (1 << (power - 1)) / 2
}

/// The sum of so many bytes of filling, in memory order, not folded.
#[inline(always)]
pub const fn filling_sum(bytes: u64) -> u64 {
    (bytes >> 1) * ((FILLING as u64) << 8 | FILLING as u64) + (bytes & 1) * FILLING as u64
}

/// A sum of 16-bit words, folded into one.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The words of a stamp.
#[inline(always)]
pub const fn stamp(tag: u8, flow: u32, sequence: u32, due: u64) -> [u32; 5] {
    let first = (tag | 0x80) as u32 | flow << 8;
    let (low, high) = (due as u32, (due >> 32) as u32);
    let balance = !fold(first as u64 + sequence as u64 + low as u64 + high as u64);
    [first, sequence, low, high, balance as u32]
}

/// Whether the words are a stamp's.
#[inline(always)]
pub const fn is_stamp(words: [u32; 5]) -> bool {
    let [a, b, c, d, e] = words;
    let sum = a as u64 + b as u64 + c as u64 + d as u64 + e as u64;
    fold(sum) == 0xffff && e >> 16 == 0
}

/// One end of a flow's way. From the low end: source port, destination port, channel number (0:
/// none) or the peer's port of an indication, a number (15 bits): of the path by which it leaves, or
/// of the direction in which it counts; and one bit: it is an indication.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Leg(pub u64);

impl Leg {
    /// Puts one together.
    pub const fn new(src: u16, dst: u16, channel: u16, number: u16) -> Leg {
        Leg(src as u64 | (dst as u64) << 16 | (channel as u64) << 32 | (number as u64) << 48)
    }
    /// The same, as a Send or Data indication: the word of the channel is the peer's port.
    pub const fn indication(self) -> Leg {
        Leg(self.0 | 1 << 63)
    }
    /// Whether it is one.
    pub const fn is_indication(self) -> bool {
        self.0 >> 63 != 0
    }
    /// Whether ports, channel and kind are the same.
    pub const fn is_at(self, other: Leg) -> bool {
        (self.0 ^ other.0) & (1 << 63 | 0xffff_ffff_ffff) == 0
    }
    /// Source port.
    pub const fn src(self) -> u16 {
        self.0 as u16
    }
    /// Destination port.
    pub const fn dst(self) -> u16 {
        (self.0 >> 16) as u16
    }
    /// Channel, or 0; of an indication, its peer's port.
    pub const fn channel(self) -> u16 {
        (self.0 >> 32) as u16
    }
    /// The path, or the direction.
    pub const fn number(self) -> u16 {
        (self.0 >> 48) as u16 & 0x7fff
    }
}

/// One flow.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Flow {
    /// How it leaves; the number is its path's.
    pub out: u64,
    /// How it is to arrive; the number is its direction's.
    pub arrive: u64,
    /// Sent so far: its next sequence number.
    pub sent: u64,
}

/// The headers of one path's frames, as far as they are all alike.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Template {
    /// Ethernet and IP, in wire order: 34 bytes with IPv4, 54 with IPv6. Lengths and the header's
    /// checksum are zero.
    pub head: [u64; 7],
    /// Interface to leave by.
    pub ifindex: u32,
    /// 1 for IPv6.
    pub v6: u32,
    /// One's-complement sum of the IPv4 header as it is here.
    pub ip_sum: u32,
    /// One's-complement sum of what the UDP checksum covers beside ports, lengths and data:
    /// addresses and protocol.
    pub sum: u32,
    /// A Send indication's header and its XOR-PEER-ADDRESS in wire order: 32 bytes with an IPv4
    /// peer, 44 with an IPv6 peer. Length and port are zero.
    pub send: [u32; 11],
    /// One's-complement sum of `send`.
    pub send_sum: u32,
    /// The peer that indications name, in wire order, the rest zero.
    pub peer: [u32; 4],
    /// 4, 6, or 0 where there is none.
    pub peer_family: u32,
    /// Zero.
    pub reserved: u32,
}

/// What userspace asks of the generator, and what it did.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Run {
    /// Nanoseconds between two packets, times 2^16. 0: as many as there are test runs.
    pub interval: u64,
    /// CLOCK_MONOTONIC, nanoseconds: nothing is due before, and nothing from `end` on.
    pub start: u64,
    /// See `start`.
    pub end: u64,
    /// How many flows take turns.
    pub flows: u64,
    /// How many of the pattern's lengths take turns.
    pub pattern: u64,
    /// Length of a slot, nanoseconds.
    pub slot: u64,
    /// This run's: frames of others are not counted.
    pub tag: u64,
    /// Sent, by direction.
    pub sent: [u64; WAYS],
    /// Due, but so late that sending them would have been a burst.
    pub skipped: u64,
    /// When the next is due, from `start`, times 2^16.
    pub next: u64,
    /// When the clock was last read and something was due.
    pub now: u64,
    /// The flow whose turn it is.
    pub flow: u64,
    /// The pattern's length whose turn it is.
    pub at: u64,
    /// Packets to send before the clock is read again, where nothing is paced.
    pub credit: u64,
}

/// What the sink saw: words, by CPU. The first four kinds are two words each, to peers and to
/// clients.
pub mod seen {
    /// Right in every byte that is checked. Where flows are tracked, each number once.
    pub const RIGHT: u32 = 0;
    /// With a good stamp, and wrong behind it.
    pub const DAMAGED: u32 = 2;
    /// Ours by its port, and without a good stamp, by the direction that ends there.
    pub const UNREADABLE: u32 = 4;
    /// Right, but at another port or channel than its own.
    pub const MISROUTED: u32 = 6;
    /// Of another run.
    pub const STRAY: u32 = 8;
    /// Seen before.
    pub const REPEATED: u32 = 9;
    /// Not ours: passed on.
    pub const OTHER: u32 = 10;
    /// How many there are.
    pub const WORDS: u32 = 11;
}

/// What arrived of one flow. Several CPUs may count at once: all words are atomic.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Arrivals {
    /// One above the highest number seen.
    pub next: u64,
    /// Intact, each number once.
    pub received: u64,
    /// Of these, after one with a higher number.
    pub reordered: u64,
    /// Seen before.
    pub duplicated: u64,
    /// With a good stamp, and wrong behind it.
    pub damaged: u64,
    /// Which numbers were seen, 32 in each word: their high bits, plus one, above one bit for each.
    pub window: [u64; WINDOW],
}

/// What arrives at a port: four bits in a map of 16 ports a word.
pub mod port {
    /// ChannelData.
    pub const FRAMED: u64 = 1;
    /// Plain datagrams.
    pub const BARE: u64 = 2;
    /// What cannot be read counts as lost on the way to a client, else to a peer.
    pub const TO_CLIENT: u64 = 4;
    /// Send and Data indications.
    pub const INDICATION: u64 = 8;
}

const _: () = assert!(size_of::<Template>() == 144);
const _: () = assert!(size_of::<Run>() == 15 * 8);
const _: () = assert!(size_of::<Arrivals>() == (5 + WINDOW) * 8);
