//! Takes what came through: checks, counts and drops it. Everything else is passed on, so that
//! the clients' sockets get their answers.

use crate::abi::{
    COARSE, FILLING, FINE, Leg, PAYLOAD_MAX, SLOTS, STAMP, WAYS, buckets, filling_sum, fold,
    is_stamp, port, seen,
};
use crate::frame::{Xdp, opaque};
use crate::generator::{FLOWS, RUN, TEMPLATES, indications, tracked};
use crate::{indication, track};
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, xdp_action::XDP_DROP, xdp_action::XDP_PASS},
    macros::{map, xdp},
    maps::{Array, PerCpuArray},
    programs::XdpContext,
};
use wire::headers::{ChannelData, Ethernet, IPV4, IPV6, Ipv4, Ipv6, UDP, Udp};
use wire::{Frame, Sum};

#[map]
static SEEN: PerCpuArray<u64> = PerCpuArray::with_max_entries(seen::WORDS, 0);
/// What is ours: see [`port`].
#[map]
static PORTS: Array<u64> = Array::with_max_entries(65_536 / 16, BPF_F_MMAPABLE);
/// Received, by the part of the run in which it was due.
#[map]
pub static RECEIVED: Array<u64> = Array::with_max_entries(SLOTS as u32, BPF_F_MMAPABLE);
/// Latencies, by direction.
#[map]
pub static LATENCY: Array<u64> =
    Array::with_max_entries((WAYS * buckets(FINE)) as u32, BPF_F_MMAPABLE);
/// Latencies, by part of the run.
#[map]
pub static LATENCY_BY_SLOT: Array<u64> =
    Array::with_max_entries((SLOTS * buckets(COARSE)) as u32, BPF_F_MMAPABLE);

/// A good one.
pub struct Arrived {
    pub flow: u32,
    pub stamp: [u32; 5],
    pub to_client: bool,
}

/// Counts one frame. Attached where the relay's output arrives.
#[xdp]
pub fn sink(ctx: XdpContext) -> u32 {
    let word = judge(&Xdp(&ctx));
    if let Some(count) = SEEN.get_ptr_mut(word) {
        unsafe { *count += 1 };
    }
    if word == seen::OTHER { XDP_PASS } else { XDP_DROP }
}

/// The word of [`SEEN`] in which a frame counts. A number, and no enum with contents: the compiler
/// would copy contents that are not there, and the verifier refuses to read what nobody wrote.
#[inline(always)]
fn word(kind: u32, to_client: bool) -> u32 {
    kind + to_client as u32
}

#[inline(always)]
fn judge(frame: &Xdp) -> u32 {
    judge_ip(frame).unwrap_or(seen::OTHER)
}

/// `None`: not ours.
#[inline(always)]
fn judge_ip(frame: &Xdp) -> Option<u32> {
    let ethernet = frame.at::<Ethernet>(0)?;
    match ethernet.kind.get() {
        IPV4 => {
            let ip = frame.at::<Ipv4>(Ethernet::SIZE)?;
            let whole = ip.fragment.get() & 0x3fff == 0;
            if ip.version_ihl != 0x45 || ip.protocol != UDP || !whole {
                return None;
            }
            let size = ip.size.get().wrapping_sub(Ipv4::SIZE as u16);
            let sum = Sum::default().bytes(&ip.src).bytes(&ip.dst);
            judge_udp::<{ Ethernet::SIZE + Ipv4::SIZE }>(frame, size, sum)
        }
        IPV6 => {
            let ip = frame.at::<Ipv6>(Ethernet::SIZE)?;
            if ip.next != UDP {
                return None;
            }
            let sum = Sum::default().bytes(&ip.src).bytes(&ip.dst);
            judge_udp::<{ Ethernet::SIZE + Ipv6::SIZE }>(frame, ip.size.get(), sum)
        }
        _ => None,
    }
}

#[inline(always)]
fn judge_udp<const AT: usize>(frame: &Xdp, size: u16, addresses: Sum) -> Option<u32> {
    let udp = frame.at::<Udp>(AT)?;
    let number = udp.dst.get() as u32;
    let kind = *PORTS.get(number >> 4)? >> ((number & 15) * 4) & 15;
    if kind == 0 {
        return None;
    }
    let unreadable = Some(word(seen::UNREADABLE, kind & port::TO_CLIENT != 0));
    let pseudo = addresses.with(udp.size).with(0x11.into());
    let sum = pseudo.with(udp.src).with(udp.dst).with(udp.size).with(udp.checksum);
    let checksum = Checksum {
        field: u16::from_ne_bytes(udp.checksum.to_bytes()),
        pseudo: pseudo.fold(),
        sum: sum.fold(),
        optional: AT == Ethernet::SIZE + Ipv4::SIZE,
    };
    let bytes = udp.size.get() as u64;
    let ports = Leg::new(udp.src.get(), udp.dst.get(), 0, 0);
    let Some([a, b, c, d]) = frame.at::<[u8; 4]>(AT + Udp::SIZE).copied() else {
        return unreadable;
    };
    let framed = kind & port::FRAMED != 0 && a >> 4 == 4;
    // Data, or Send from where it has not crossed a relay
    let indicated = indications() && kind & port::INDICATION != 0 && a == 0 && b & !1 == 0x16;
    if !framed && !indicated && kind & port::BARE == 0 {
        return None; // STUN
    }
    if bytes as u16 != size || bytes < (Udp::SIZE + ChannelData::SIZE) as u64 {
        return unreadable;
    }
    let judged = if indicated {
        judge_indication(frame, AT + Udp::SIZE, bytes as usize - Udp::SIZE, ports, &checksum)
    } else if framed {
        let (channel, length) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let header = u16::from_ne_bytes([a, b]) as u64 + u16::from_ne_bytes([c, d]) as u64;
        // padding is for streams (RFC 8656 section 12.5)
        if bytes - (Udp::SIZE + ChannelData::SIZE) as u64 != length as u64 {
            return unreadable;
        }
        let data = Data { size: length as u64, header, place: Leg(ports.0 | (channel as u64) << 32) };
        judge_data(frame, AT + Udp::SIZE + ChannelData::SIZE, data, &checksum)
    } else {
        let data = Data { size: bytes - Udp::SIZE as u64, header: 0, place: ports };
        judge_data(frame, AT + Udp::SIZE, data, &checksum)
    };
    judged.or(unreadable)
}

/// `None`: it cannot be read.
#[inline(always)]
fn judge_indication(
    frame: &Xdp,
    at: usize,
    size: usize,
    ports: Leg,
    checksum: &Checksum,
) -> Option<u32> {
    let found = indication::read(frame, at, size)?;
    let stamp = u32::from_ne_bytes(frame.peek::<[u8; 4]>(found.data)?);
    let flow = FLOWS.get(stamp >> 8)?;
    let template = TEMPLATES.get(Leg(flow.out).number() as u32)?;
    let place = Leg(ports.0 | (found.port as u64) << 32).indication();
    if !indication::names(frame, at, found.peer, template)? {
        return Some(word(seen::MISROUTED, Leg(flow.arrive).number() != 0));
    }
    // all but the data, whose own sum is known if it is right
    let data = filling_sum((found.size as u64).saturating_sub(STAMP as u64));
    let header = found.sum + !fold(data) as u64;
    let data = Data { size: found.size as u64, header, place };
    judge_data(frame, found.data, data, checksum)
}

/// A UDP checksum, and what there is to check it by.
struct Checksum {
    field: u16,
    /// Of the pseudo-header alone.
    pseudo: u16,
    /// Of that and the UDP header.
    sum: u16,
    /// None is allowed (IPv4).
    optional: bool,
}

impl Checksum {
    /// Whether it fits data with this sum.
    #[inline(always)]
    fn fits(&self, data: u64) -> bool {
        // A sender on this host may have left it to a device that a veth does not have: then the
        // field holds the sum of the pseudo-header.
        fold(self.sum as u64 + data) == 0xffff
            || self.optional && self.field == 0
            || self.field == self.pseudo
    }
}

/// The data of a datagram.
struct Data {
    /// Bytes.
    size: u64,
    /// Sum of what is around it in the datagram: the ChannelData header, or 0.
    header: u64,
    /// Ports and channel by which it came.
    place: Leg,
}

/// `None`: it cannot be read.
#[inline(always)]
fn judge_data(frame: &Xdp, at: usize, data: Data, checksum: &Checksum) -> Option<u32> {
    let Data { size, header, place } = data;
    if size < STAMP as u64 || size > PAYLOAD_MAX as u64 {
        return None;
    }
    let word_at = |at| frame.at::<[u8; 4]>(at).map(|bytes| u32::from_ne_bytes(*bytes));
    let stamp = [
        word_at(at)?,
        word_at(at + 4)?,
        word_at(at + 8)?,
        word_at(at + 12)?,
        word_at(at + 16)?,
    ];
    if !is_stamp(stamp) {
        return None;
    }
    if stamp[0] as u8 != RUN.get(0)?.tag as u8 {
        return Some(seen::STRAY);
    }
    let number = stamp[0] >> 8;
    let arrive = Leg(FLOWS.get(number)?.arrive);
    let to_client = arrive.number() != 0;
    let filled = if tracked() {
        is_filled(frame, at + STAMP, size - STAMP as u64)
    } else {
        ends_filled(frame, at + STAMP, size - STAMP as u64)
    };
    let arrived = Arrived { flow: number, stamp, to_client };
    if !filled || !checksum.fits(header + filling_sum(size - STAMP as u64)) {
        let counts = !tracked() || track::damaged(&arrived);
        return Some(if counts { word(seen::DAMAGED, to_client) } else { seen::REPEATED });
    }
    if !arrive.is_at(place) {
        return Some(word(seen::MISROUTED, to_client));
    }
    let counts = !tracked() || track::intact(&arrived);
    Some(if counts { word(seen::RIGHT, to_client) } else { seen::REPEATED })
}

const STEP: usize = 8;
const WORD: u64 = u64::from_ne_bytes([FILLING; STEP]);

/// First and last word: a relay that copies too little, or from the wrong place, shows there.
#[inline(always)]
fn ends_filled(frame: &Xdp, at: usize, size: u64) -> bool {
    if size < STEP as u64 {
        return true;
    }
    let first = frame.at::<[u8; STEP]>(at).map(|bytes| u64::from_ne_bytes(*bytes));
    let last = frame.peek::<[u8; STEP]>(at + size as usize - STEP).map(u64::from_ne_bytes);
    first == Some(WORD) && last == Some(WORD)
}

/// Every byte.
#[inline(always)]
fn is_filled(frame: &Xdp, start: usize, size: u64) -> bool {
    let mut wrong = 0;
    let mut left = opaque(size as usize);
    let mut at = start;
    for _ in 0..(PAYLOAD_MAX - STAMP) / STEP {
        if left < STEP {
            break;
        }
        let Some(word) = frame.at::<[u8; STEP]>(at) else { return false };
        wrong |= u64::from_ne_bytes(*word) ^ WORD;
        at += STEP;
        left -= STEP;
    }
    for _ in 0..STEP - 1 {
        if left == 0 {
            break;
        }
        let Some(byte) = frame.at::<u8>(at) else { return false };
        wrong |= (*byte ^ FILLING) as u64;
        at += 1;
        left -= 1;
    }
    wrong == 0
}
