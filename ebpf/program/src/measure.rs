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
    macros::{map, xdp},
    maps::HashMap,
    programs::XdpContext,
};
use core::ptr::read_volatile;
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

/// The kernel's own hash table with the same keys, and values as large as an entry's rest: the
/// figure to compare the route table with.
#[map]
static HASH: HashMap<[u64; 5], [u64; 10]> = HashMap::with_max_entries(1, 0);
/// A client's key and a peer's, as their words lie in memory.
#[unsafe(no_mangle)]
static KEYS: [[u64; 5]; 2] = [[0; 5]; 2];

/// One lookup in the hash table, of always the same key.
#[xdp]
pub fn hash_hot(_ctx: XdpContext) -> u32 {
    look_up(&key(0, FIRST_PORT))
}

/// The same over [`FLOWS`] flows in random order, both directions.
#[xdp]
pub fn hash_random(_ctx: XdpContext) -> u32 {
    look_up(&random_key())
}

/// What making a random key costs.
#[xdp]
pub fn hash_pick(_ctx: XdpContext) -> u32 {
    let [a, b, c, d, e] = random_key();
    // never true, but nobody knows
    if a ^ b ^ c ^ d ^ e == u64::MAX { XDP_ABORTED } else { XDP_PASS }
}

#[inline(always)]
fn look_up(key: &[u64; 5]) -> u32 {
    let Some(value) = HASH.get_ptr(key) else { return XDP_ABORTED };
    // both cache lines
    let [first, .., last] = unsafe { &*value };
    let sum = unsafe { read_volatile(first) ^ read_volatile(last) };
    if sum == u64::MAX { XDP_ABORTED } else { XDP_PASS }
}

#[inline(always)]
fn random_key() -> [u64; 5] {
    let random = unsafe { bpf_get_prandom_u32() };
    key((random & 1) as usize, pick_port(random))
}

/// The key of a flow's client or peer: ports lie in the last word, big endian, the client's first.
#[inline(always)]
fn key(side: usize, port: u16) -> [u64; 5] {
    let [client, peer] = unsafe { read_volatile(&KEYS) };
    let port = port.to_be() as u64;
    let ([a, b, c, d, e], port) = if side == 0 { (client, port) } else { (peer, port << 16) };
    [a, b, c, d, e | port]
}

#[inline(always)]
fn pick_port(random: u32) -> u16 {
    FIRST_PORT + ((random as u64 * unsafe { read_volatile(&FLOWS) }) >> 32) as u16
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
    let port = pick_port(unsafe { bpf_get_prandom_u32() });
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
