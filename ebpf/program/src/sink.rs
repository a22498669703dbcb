//! Takes what came through: checks, counts and drops it. Everything else is passed on, so that
//! the clients' sockets get their answers.

use crate::abi::{FILLING, Flow, LISTENER, STAMP, Seen, TAIL};
use crate::frame::Xdp;
use crate::generator::FLOWS;
use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    macros::{map, xdp},
    maps::PerCpuArray,
    programs::XdpContext,
};
use core::ptr::read_volatile;
use wire::headers::{ChannelData, Ethernet, IPV4, IPV6, Ipv4, Ipv6, UDP, Udp};
use wire::{Frame, Sum};

#[map]
static SEEN: PerCpuArray<Seen> = PerCpuArray::with_max_entries(1, 0);

/// Bytes of application data in each datagram.
#[unsafe(no_mangle)]
static DATA_SIZE: u64 = 160;
/// One's-complement sum of the filling.
#[unsafe(no_mangle)]
static DATA_SUM: u64 = 0;
/// 1 where the frames have crossed a relay or a mirror, 0 where they were only passed on.
#[unsafe(no_mangle)]
static CHECK_PORTS: u64 = 1;

/// What a frame is to the sink.
enum Fault {
    /// Not ours.
    Other,
    /// Ours, and not as it should be.
    Wrong,
}

/// Counts one frame. Attached where the relay's output arrives.
#[xdp]
pub fn sink(ctx: XdpContext) -> u32 {
    let judged = judge(&Xdp(&ctx));
    let Some(seen) = SEEN.get_ptr_mut(0) else { return XDP_PASS };
    let seen = unsafe { &mut *seen };
    match judged {
        Ok(true) => seen.right[1] += 1,
        Ok(false) => seen.right[0] += 1,
        Err(Fault::Wrong) => seen.wrong += 1,
        Err(Fault::Other) => {
            seen.other += 1;
            return XDP_PASS;
        }
    }
    XDP_DROP
}

#[inline(always)]
fn judge(frame: &Xdp) -> Result<bool, Fault> {
    let ethernet = frame.at::<Ethernet>(0).ok_or(Fault::Other)?;
    match ethernet.kind.get() {
        IPV4 => {
            let ip = frame.at::<Ipv4>(Ethernet::SIZE).ok_or(Fault::Other)?;
            if ip.version_ihl != 0x45 || ip.protocol != UDP {
                return Err(Fault::Other);
            }
            let size = ip.size.get().wrapping_sub(Ipv4::SIZE as u16);
            let sum = Sum::default().bytes(&ip.src).bytes(&ip.dst);
            judge_udp::<{ Ethernet::SIZE + Ipv4::SIZE }>(frame, size, sum)
        }
        IPV6 => {
            let ip = frame.at::<Ipv6>(Ethernet::SIZE).ok_or(Fault::Other)?;
            if ip.next != UDP {
                return Err(Fault::Other);
            }
            let sum = Sum::default().bytes(&ip.src).bytes(&ip.dst);
            judge_udp::<{ Ethernet::SIZE + Ipv6::SIZE }>(frame, ip.size.get(), sum)
        }
        _ => Err(Fault::Other),
    }
}

#[inline(always)]
fn judge_udp<const AT: usize>(frame: &Xdp, size: u16, sum: Sum) -> Result<bool, Fault> {
    let udp = frame.at::<Udp>(AT).ok_or(Fault::Other)?;
    let first = frame.at::<[u8; 4]>(AT + Udp::SIZE).ok_or(Fault::Other)?;
    let [a, b, c, d] = *first;
    let from_listener = udp.src.get() == LISTENER || udp.dst.get() == LISTENER;
    if from_listener && a < 0x40 {
        return Err(Fault::Other); // STUN
    }
    let sum = sum
        .with(udp.src)
        .with(udp.dst)
        .with(udp.size)
        .with(udp.size)
        .with(udp.checksum)
        .with(0x11.into())
        .plus(Sum::raw(unsafe { read_volatile(&DATA_SUM) } as u16));
    if udp.size.get() != size {
        return Err(Fault::Wrong);
    }
    let data = unsafe { read_volatile(&DATA_SIZE) };
    if from_listener {
        let channel = u16::from_be_bytes([a, b]);
        let length = u16::from_be_bytes([c, d]);
        let whole = (Udp::SIZE + ChannelData::SIZE) as u64 + data;
        let sum = sum.with(channel.into()).with(length.into());
        if length as u64 != data || size as u64 != whole || sum.fold() != 0xffff {
            return Err(Fault::Wrong);
        }
        let flow = stamp(frame, AT + Udp::SIZE + ChannelData::SIZE).ok_or(Fault::Wrong)?;
        right(flow.client() == udp.dst.get() && flow.channel() == channel, true)
    } else {
        if size as u64 != Udp::SIZE as u64 + data || sum.fold() != 0xffff {
            return Err(Fault::Wrong);
        }
        let flow = stamp(frame, AT + Udp::SIZE).ok_or(Fault::Wrong)?;
        right(flow.relay() == udp.src.get() && flow.peer() == udp.dst.get(), false)
    }
}

#[inline(always)]
fn right(ports: bool, to_client: bool) -> Result<bool, Fault> {
    let checked = unsafe { read_volatile(&CHECK_PORTS) } != 0;
    if ports || !checked { Ok(to_client) } else { Err(Fault::Wrong) }
}

/// The flow of the data at `at`, if stamp and filling are as they were sent.
#[inline(always)]
fn stamp(frame: &Xdp, at: usize) -> Option<Flow> {
    let word = |at| frame.at::<[u8; 4]>(at).map(|bytes| u32::from_ne_bytes(*bytes));
    let (number, complement, pair) = (word(at)?, word(at + 4)?, word(at + 8)?);
    let flow = pair & 0xffff;
    let filling = u64::from_ne_bytes(*frame.at::<[u8; TAIL]>(at + STAMP)?);
    let whole = number == !complement && flow == !(pair >> 16) & 0xffff;
    if !whole || filling != u64::from_ne_bytes([FILLING; TAIL]) {
        return None;
    }
    // the last bytes: a relay that copies too little, or from the wrong place, shows here
    let size = unsafe { read_volatile(&DATA_SIZE) } as usize;
    let tail: [u8; TAIL] = frame.peek(at + size - TAIL)?;
    if u64::from_ne_bytes(tail) != u64::from_ne_bytes([FILLING; TAIL]) {
        return None;
    }
    Some(Flow(*FLOWS.get(flow)?))
}
