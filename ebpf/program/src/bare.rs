//! The ceiling: the least that a program in the relay's place can do and still send frames on.

use crate::frame::Xdp;
use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_PASS, XDP_TX},
    helpers::bpf_redirect,
    macros::xdp,
    programs::XdpContext,
};
use core::{mem::swap, ptr::read_volatile};
use wire::Frame;
use wire::headers::{Ethernet, IPV4, IPV6, Ipv4, Ipv6, UDP, Udp};

/// The two interfaces of a relay that redirects.
#[unsafe(no_mangle)]
static ARMS: [u64; 2] = [0; 2];

/// Sends a UDP datagram back with its addresses swapped: link, IP and ports.
#[xdp]
pub fn bare_tx(ctx: XdpContext) -> u32 {
    let mut frame = Xdp(&ctx);
    match is_udp(&frame) {
        Some(true) => swap_all(&mut frame).map_or(XDP_ABORTED, |()| XDP_TX),
        _ => XDP_PASS,
    }
}

/// Sends a UDP datagram on by the other interface, its link addresses swapped.
#[xdp]
pub fn bare_redirect(ctx: XdpContext) -> u32 {
    let mut frame = Xdp(&ctx);
    if is_udp(&frame) != Some(true) {
        return XDP_PASS;
    }
    if swap_link(&mut frame).is_none() {
        return XDP_ABORTED;
    }
    let [first, second] = unsafe { read_volatile(&ARMS) };
    let ingress = ctx.ingress_ifindex() as u64;
    let egress = if ingress == first { second } else { first };
    unsafe { bpf_redirect(egress as u32, 0) as u32 }
}

#[inline(always)]
fn is_udp(frame: &Xdp) -> Option<bool> {
    Some(match frame.at::<Ethernet>(0)?.kind.get() {
        IPV4 => frame.at::<Ipv4>(Ethernet::SIZE)?.protocol == UDP,
        IPV6 => frame.at::<Ipv6>(Ethernet::SIZE)?.next == UDP,
        _ => false,
    })
}

#[inline(always)]
fn swap_link(frame: &mut Xdp) -> Option<()> {
    let ethernet = frame.at_mut::<Ethernet>(0)?;
    swap(&mut ethernet.dst, &mut ethernet.src);
    Some(())
}

#[inline(always)]
fn swap_all(frame: &mut Xdp) -> Option<()> {
    let v4 = frame.at::<Ethernet>(0)?.kind.get() == IPV4;
    swap_link(frame)?;
    let udp = if v4 {
        let ip = frame.at_mut::<Ipv4>(Ethernet::SIZE)?;
        swap(&mut ip.src, &mut ip.dst);
        frame.at_mut::<Udp>(Ethernet::SIZE + Ipv4::SIZE)?
    } else {
        let ip = frame.at_mut::<Ipv6>(Ethernet::SIZE)?;
        swap(&mut ip.src, &mut ip.dst);
        frame.at_mut::<Udp>(Ethernet::SIZE + Ipv6::SIZE)?
    };
    swap(&mut udp.src, &mut udp.dst);
    Some(())
}
