//! Makes frames. Run with live frames (BPF_F_TEST_XDP_LIVE_FRAMES) in one long call; paces itself,
//! because such a call takes 25 ms to set up whatever its size.

use crate::abi::{
    COARSE, FILLING, FRACTION, Flow, Leg, PATHS, PATTERN, PAYLOAD_MAX, Run, SEND_V4, SEND_V6, SLOTS,
    STAMP, Template, bucket, buckets, filling_sum, fold, stamp,
};
use crate::frame::Xdp;
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, xdp_action::XDP_DROP},
    helpers::{bpf_redirect, generated::bpf_ktime_get_ns},
    macros::{map, xdp},
    maps::Array,
    programs::XdpContext,
};
use core::ptr::read_volatile;
use wire::Frame;
use wire::headers::{ChannelData, Udp};

#[map]
pub static FLOWS: Array<Flow> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static RUN: Array<Run> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static TEMPLATES: Array<Template> = Array::with_max_entries(PATHS as u32, BPF_F_MMAPABLE);
/// Payload lengths that take turns, where there are several.
#[map]
static LENGTHS: Array<u64> = Array::with_max_entries(PATTERN as u32, BPF_F_MMAPABLE);
/// Sent, by the part of the run in which it was due.
#[map]
static SENT: Array<u64> = Array::with_max_entries(SLOTS as u32, BPF_F_MMAPABLE);
/// From being due to leaving.
#[map]
static LATENESS: Array<u64> = Array::with_max_entries(buckets(COARSE) as u32, BPF_F_MMAPABLE);

/// The longest payload.
#[unsafe(no_mangle)]
static LONGEST: u64 = 160;
/// The longest headers, from Ethernet to the wrapper.
#[unsafe(no_mangle)]
static HEADERS: u64 = 46;
/// 1 where the lengths are those of `LENGTHS`; 0 where all are `LONGEST`.
#[unsafe(no_mangle)]
static MIXED: u64 = 0;
/// 1 where each flow, its times and every byte are followed; 0 where only datagrams are counted.
#[unsafe(no_mangle)]
static TRACKED: u64 = 0;
/// 1 where flows may be indications: else the verifier need not follow how they are read.
#[unsafe(no_mangle)]
static INDICATIONS: u64 = 0;

/// Packets that may be sent at once after a pause. Above it they are skipped, and counted: a burst
/// would measure the rings.
const BURST: u64 = 64;

#[inline(always)]
pub fn tracked() -> bool {
    unsafe { read_volatile(&raw const TRACKED) != 0 }
}

#[inline(always)]
pub fn indications() -> bool {
    unsafe { read_volatile(&raw const INDICATIONS) != 0 }
}

/// Sends the next frame, or nothing if none is due.
#[xdp]
pub fn generate(ctx: XdpContext) -> u32 {
    let Some(run) = RUN.get_ptr_mut(0) else { return XDP_DROP };
    next(&mut Xdp(&ctx), unsafe { &mut *run }).unwrap_or(XDP_DROP)
}

/// When the next is due, if it is.
#[inline(always)]
fn due(run: &mut Run) -> Option<u64> {
    if run.interval == 0 {
        if run.credit == 0 {
            run.now = unsafe { bpf_ktime_get_ns() };
            run.credit = BURST;
        }
        if run.now < run.start || run.now >= run.end {
            run.credit = 0;
            return None;
        }
        run.credit -= 1;
        return Some(run.now);
    }
    let mut due = run.start + (run.next >> FRACTION);
    // The clock costs as much as all the rest: it is read when all that was due has been sent.
    if due > run.now {
        let now = unsafe { bpf_ktime_get_ns() };
        if due > now || due >= run.end {
            return None;
        }
        run.now = now;
        // what is due within this nanosecond may still be ahead by a fraction of it
        let behind = ((now - run.start) << FRACTION).saturating_sub(run.next);
        if behind > BURST * run.interval {
            let skip = behind / run.interval - BURST;
            run.skipped += skip;
            run.next += skip * run.interval;
            due = run.start + (run.next >> FRACTION);
        }
    }
    if due >= run.end {
        return None;
    }
    run.next += run.interval;
    Some(due)
}

#[inline(always)]
fn next(frame: &mut Xdp, run: &mut Run) -> Option<u32> {
    let due = due(run)?;
    let longest = unsafe { read_volatile(&raw const LONGEST) };
    let mut size = longest;
    if unsafe { read_volatile(&raw const MIXED) } != 0 {
        size = *LENGTHS.get(run.at as u32)?;
        run.at = if run.at + 1 >= run.pattern { 0 } else { run.at + 1 };
        if size > longest {
            return None;
        }
        if size < longest {
            frame.trim_tail((longest - size) as u32)?;
        }
    }
    let number = run.flow;
    run.flow = if number + 1 >= run.flows { 0 } else { number + 1 };
    let flow = unsafe { &mut *FLOWS.get_ptr_mut(number as u32)? };
    let out = Leg(flow.out);
    let template = TEMPLATES.get(out.number() as u32)?;
    let stamp = stamp(run.tag as u8, number as u32, flow.sent as u32, due);
    if template.v6 != 0 {
        wrap::<54>(frame, template, out, size, stamp)?;
    } else {
        wrap::<34>(frame, template, out, size, stamp)?;
    }
    flow.sent += 1;
    if Leg(flow.arrive).number() == 0 {
        run.sent[0] += 1;
    } else {
        run.sent[1] += 1;
    }
    if tracked() {
        note(run, due);
    }
    Some(unsafe { bpf_redirect(template.ifindex, 0) as u32 })
}

#[inline(always)]
fn note(run: &Run, due: u64) {
    let slot = (due - run.start).checked_div(run.slot).unwrap_or(0).min(SLOTS as u64 - 1);
    if let Some(sent) = SENT.get_ptr_mut(slot as u32) {
        unsafe { *sent += 1 };
    }
    let late = bucket(run.now - due, COARSE);
    if let Some(count) = LATENESS.get_ptr_mut(late as u32) {
        unsafe { *count += 1 };
    }
}

/// Every wrapper has a size that is known here.
#[inline(always)]
fn wrap<const HEAD: usize>(
    frame: &mut Xdp,
    template: &Template,
    out: Leg,
    size: u64,
    stamp: [u32; 5],
) -> Option<()> {
    if indications() && out.is_indication() {
        if template.peer_family == 6 {
            write::<HEAD, SEND_V6>(frame, template, out, size, stamp)
        } else {
            write::<HEAD, SEND_V4>(frame, template, out, size, stamp)
        }
    } else if out.channel() != 0 {
        write::<HEAD, { ChannelData::SIZE }>(frame, template, out, size, stamp)
    } else {
        write::<HEAD, 0>(frame, template, out, size, stamp)
    }
}

/// All headers and the stamp: pages come back with the contents that the relay gave them, but the
/// data in them stays where it is.
#[inline(always)]
fn write<const HEAD: usize, const WRAP: usize>(
    frame: &mut Xdp,
    template: &Template,
    out: Leg,
    size: u64,
    stamp: [u32; 5],
) -> Option<()> {
    let datagram = Udp::SIZE as u64 + WRAP as u64 + size;
    let own = HEAD + Udp::SIZE + WRAP;
    let skip = unsafe { read_volatile(&raw const HEADERS) } as i32 - own as i32;
    if skip != 0 {
        frame.move_head(skip)?;
    }
    let head = &raw const template.head;
    *frame.at_mut::<[u8; HEAD]>(0)? = unsafe { *head.cast::<[u8; HEAD]>() };
    if HEAD == 34 {
        let total = (datagram as u16 + 20).to_be();
        *frame.at_mut::<[u8; 2]>(16)? = total.to_ne_bytes();
        let checksum = !fold(template.ip_sum as u64 + total as u64);
        *frame.at_mut::<[u8; 2]>(24)? = checksum.to_ne_bytes();
    } else {
        *frame.at_mut::<[u8; 2]>(18)? = (datagram as u16).to_be_bytes();
    }
    // The length is in the datagram, and in what the checksum takes for the IP header.
    let mut sum = template.sum as u64 + filling_sum(size - STAMP as u64);
    sum += out.src().to_be() as u64 + out.dst().to_be() as u64;
    sum += 2 * (datagram as u16).to_be() as u64;
    let at = HEAD + Udp::SIZE;
    if WRAP == ChannelData::SIZE {
        let channel = out.channel().into();
        *frame.at_mut(at)? = ChannelData { channel, size: (size as u16).into() };
        sum += out.channel().to_be() as u64 + (size as u16).to_be() as u64;
    } else if WRAP == SEND_V4 {
        *frame.at_mut(at)? = unsafe { *(&raw const template.send).cast::<[u8; SEND_V4 - 4]>() };
        sum += template.send_sum as u64 + indicate::<WRAP>(frame, at, out.channel(), size)?;
    } else if WRAP == SEND_V6 {
        *frame.at_mut(at)? = unsafe { *(&raw const template.send).cast::<[u8; SEND_V6 - 4]>() };
        sum += template.send_sum as u64 + indicate::<WRAP>(frame, at, out.channel(), size)?;
    }
    *frame.at_mut(HEAD)? = Udp {
        src: out.src().into(),
        dst: out.dst().into(),
        size: (datagram as u16).into(),
        checksum: u16::from_be(match !fold(sum) {
            0 => 0xffff,
            checksum => checksum,
        })
        .into(),
    };
    let at = at + WRAP;
    let [a, b, c, d, e] = stamp.map(u32::to_ne_bytes);
    *frame.at_mut::<[u8; 4]>(at)? = a;
    *frame.at_mut::<[u8; 4]>(at + 4)? = b;
    *frame.at_mut::<[u8; 4]>(at + 8)? = c;
    *frame.at_mut::<[u8; 4]>(at + 12)? = d;
    *frame.at_mut::<[u8; 4]>(at + 16)? = e;
    if tracked() {
        fill(frame, at + STAMP);
    }
    Some(())
}

/// The parts of a Send indication that differ: its length, the peer's port, and the DATA
/// attribute's header (RFC 8489 section 14, RFC 8656 section 18); what they add to a checksum.
#[inline(always)]
fn indicate<const WRAP: usize>(frame: &mut Xdp, at: usize, peer: u16, size: u64) -> Option<u64> {
    const COOKIE_HIGH: u16 = 0x2112;
    const DATA: u16 = 0x0013;
    let length = (WRAP as u16 - 20 + size as u16).to_be();
    let port = (peer ^ COOKIE_HIGH).to_be();
    let size = (size as u16).to_be();
    *frame.at_mut::<[u8; 2]>(at + 2)? = length.to_ne_bytes();
    *frame.at_mut::<[u8; 2]>(at + 26)? = port.to_ne_bytes();
    *frame.at_mut::<[u8; 2]>(at + WRAP - 4)? = DATA.to_be_bytes();
    *frame.at_mut::<[u8; 2]>(at + WRAP - 2)? = size.to_ne_bytes();
    Some(length as u64 + port as u64 + DATA.to_be() as u64 + size as u64)
}

/// Writes the filling again, to the frame's end: what damaged it on the way may have done so in
/// this very page.
#[inline(always)]
fn fill(frame: &mut Xdp, start: usize) {
    const STEP: usize = 8;
    let mut at = start;
    for _ in 0..(PAYLOAD_MAX - STAMP) / STEP {
        let Some(word) = frame.at_mut::<[u8; STEP]>(at) else { break };
        *word = [FILLING; STEP];
        at += STEP;
    }
    for _ in 0..STEP - 1 {
        let Some(byte) = frame.at_mut::<u8>(at) else { break };
        *byte = FILLING;
        at += 1;
    }
}
