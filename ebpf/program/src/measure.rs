//! The relay's work made repeatable, for timing by BPF_PROG_TEST_RUN: a test run does not give the
//! frame back between its repetitions, so each program leaves a frame that it can take again.
//! Never attached, not part of the relay's own object.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod frame;
mod maps;

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_PASS, XDP_TX},
    helpers::generated::bpf_get_prandom_u32,
    macros::xdp,
    programs::XdpContext,
};
use frame::Xdp;
use maps::{Link, Maps};
use wire::headers::{Ethernet, Ipv4, Ipv6, Udp};
use wire::{Frame, Reason};

/// The measurement's zero.
#[xdp]
pub fn empty(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Relays back and forth: in tables where the output of each direction is the other's input.
#[xdp]
pub fn relay_hot(ctx: XdpContext) -> u32 {
    let action = relay(&ctx);
    give_ttl_back(&mut Xdp(&ctx));
    action
}

/// The same over [`FLOWS`] flows in random order.
#[xdp]
pub fn relay_random(ctx: XdpContext) -> u32 {
    if pick_flow(&mut Xdp(&ctx)).is_none() {
        return XDP_ABORTED;
    }
    let action = relay(&ctx);
    give_ttl_back(&mut Xdp(&ctx));
    action
}

/// What picking a flow costs, and giving the TTL back.
#[xdp]
pub fn pick(ctx: XdpContext) -> u32 {
    if pick_flow(&mut Xdp(&ctx)).is_none() {
        return XDP_ABORTED;
    }
    give_ttl_back(&mut Xdp(&ctx));
    XDP_PASS
}

/// Flows are numbered by client port and by relay port, both from [`FIRST_PORT`] on.
#[unsafe(no_mangle)]
static FLOWS: u64 = 64_000;
const FIRST_PORT: u16 = 1024;
const LISTENER: u16 = 1000;

#[inline(always)]
fn relay(ctx: &XdpContext) -> u32 {
    match forward(ctx) {
        Ok(()) => XDP_TX,
        Err(reason) => {
            maps::refused(reason);
            XDP_ABORTED
        }
    }
}

#[inline(always)]
fn forward(ctx: &XdpContext) -> Result<(), Reason> {
    let mut frame = Xdp(ctx);
    let plan = wire::plan(&frame, &Maps, &Link(ctx.ingress_ifindex() as u32))?;
    wire::rewrite(&mut frame, &plan)?;
    maps::forwarded(&plan.forward);
    Ok(())
}

/// Writes a random flow's port where the frame's direction has it: a client's source port, a
/// peer's destination port. Checksums are not looked at by the relay, only carried on.
#[inline(always)]
fn pick_flow(frame: &mut Xdp) -> Option<()> {
    let random = unsafe { bpf_get_prandom_u32() } as u32 as u64;
    let port = FIRST_PORT + ((random * unsafe { core::ptr::read_volatile(&FLOWS) }) >> 32) as u16;
    let udp = frame.at_mut::<Udp>(Ethernet::SIZE + Ipv4::SIZE)?;
    if udp.dst.get() == LISTENER {
        udp.src = port.into();
    } else {
        udp.dst = port.into();
    }
    Some(())
}

#[inline(always)]
fn give_ttl_back(frame: &mut Xdp) {
    let Some(ip) = frame.at_mut::<Ipv4>(Ethernet::SIZE) else { return };
    if ip.version_ihl == 0x45 {
        ip.ttl += 1;
        let (sum, borrow) = ip.checksum.get().overflowing_sub(0x100);
        ip.checksum = (sum - borrow as u16).into();
    } else if let Some(ip) = frame.at_mut::<Ipv6>(Ethernet::SIZE) {
        ip.hops += 1;
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

// The kernel asks for it by this name; some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
