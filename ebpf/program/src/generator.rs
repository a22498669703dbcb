//! Makes frames. Run with live frames (BPF_F_TEST_XDP_LIVE_FRAMES) in one long call; paces itself,
//! because such a call takes 25 ms to set up whatever its size.

use crate::abi::{Flow, Run, Template};
use crate::frame::Xdp;
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, xdp_action::XDP_DROP},
    helpers::{bpf_redirect, generated::bpf_ktime_get_ns},
    macros::{map, xdp},
    maps::Array,
    programs::XdpContext,
};
use wire::headers::{ChannelData, Udp};
use wire::{Frame, Sum};

#[map]
pub static FLOWS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static TEMPLATES: Array<Template> = Array::with_max_entries(2, BPF_F_MMAPABLE);
#[map]
static RUN: Array<Run> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Packets that may be sent at once after a pause. Above it they are skipped, and counted: a burst
/// would measure the rings.
const BURST: u64 = 64;

/// Sends the next frame, or nothing if none is due.
#[xdp]
pub fn generate(ctx: XdpContext) -> u32 {
    let sent = RUN.get_ptr_mut(0).and_then(|run| next(&mut Xdp(&ctx), unsafe { &mut *run }));
    sent.unwrap_or(XDP_DROP)
}

#[inline(always)]
fn next(frame: &mut Xdp, run: &mut Run) -> Option<u32> {
    let count = run.sent[0] + run.sent[1] + run.skipped;
    // The clock costs as much as all the rest: it is read when all that was due has been sent, and
    // where nothing is paced now and then.
    if count >= run.due {
        let now = unsafe { bpf_ktime_get_ns() };
        if now < run.start || now >= run.end {
            return None;
        }
        let due = if run.pace == 0 { count + BURST } else { ((now - run.start) * run.pace) >> 32 };
        if count >= due {
            return None;
        }
        if due - count > BURST {
            run.skipped += due - count - BURST;
        }
        run.due = due;
        run.last = now;
    }
    let to_client = run.ways == 2 || (run.ways == 3 && run.way == 1);
    let template = if to_client { TEMPLATES.get(1)? } else { TEMPLATES.get(0)? };
    let number = run.flow;
    let flow = Flow(*FLOWS.get(number as u32)?);
    if run.ways != 3 || run.way == 1 {
        run.flow = if number + 1 >= run.flows { 0 } else { number + 1 };
    }
    run.way ^= 1;
    let stamp = (count as u32, number as u16);
    if template.v6 != 0 {
        write::<54>(frame, template, flow, stamp, to_client)?;
    } else {
        write::<34>(frame, template, flow, stamp, to_client)?;
    }
    if to_client {
        run.sent[1] += 1;
    } else {
        run.sent[0] += 1;
    }
    Some(unsafe { bpf_redirect(template.ifindex, 0) as u32 })
}

/// All headers and the stamp: pages come back with the contents that the relay gave them, but the
/// data in them stays where it is.
#[inline(always)]
fn write<const HEAD: usize>(
    frame: &mut Xdp,
    template: &Template,
    flow: Flow,
    (number, flow_number): (u32, u16),
    to_client: bool,
) -> Option<()> {
    if template.skip != 0 {
        frame.move_head(template.skip as i32)?;
    }
    let head = &raw const template.head;
    *frame.at_mut::<[u8; HEAD]>(0)? = unsafe { *head.cast::<[u8; HEAD]>() };
    let (src, dst) =
        if to_client { (flow.peer(), flow.relay()) } else { (flow.client(), crate::abi::LISTENER) };
    let mut sum = Sum::raw(template.sum).with(src.into()).with(dst.into());
    let mut at = HEAD + Udp::SIZE;
    if !to_client {
        let data = template.udp_size - (Udp::SIZE + ChannelData::SIZE) as u16;
        let channel = flow.channel().into();
        *frame.at_mut(at)? = ChannelData { channel, size: data.into() };
        sum = sum.with(channel);
        at += ChannelData::SIZE;
    }
    *frame.at_mut(HEAD)? = Udp {
        src: src.into(),
        dst: dst.into(),
        size: template.udp_size.into(),
        checksum: sum.checksum(),
    };
    *frame.at_mut::<[u8; 4]>(at)? = number.to_ne_bytes();
    *frame.at_mut::<[u8; 4]>(at + 4)? = (!number).to_ne_bytes();
    let pair = flow_number as u32 | (!flow_number as u32) << 16;
    *frame.at_mut::<[u8; 4]>(at + 8)? = pair.to_ne_bytes();
    Some(())
}
