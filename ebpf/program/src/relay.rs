//! The XDP program: `wire`'s functions over the kernel's frames and maps. Thin on purpose.
//!
//! Everything is decided before the first write. A frame that is not forwarded is passed to the
//! kernel untouched, or handed to a worker by AF_XDP; a frame that tore after the first write is
//! dropped.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod clock;
mod frame;
mod maps;
mod punt;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX},
    helpers::bpf_redirect,
    macros::xdp,
    programs::XdpContext,
};
use frame::Xdp;
use maps::{Link, Maps};
use wire::Reason;

/// Forwards channel traffic, and passes everything else on.
#[xdp]
pub fn relay(ctx: XdpContext) -> u32 {
    match forward(&ctx) {
        Ok(action) => action,
        Err(reason) => {
            maps::refused(reason);
            match reason {
                Reason::Torn => XDP_DROP,
                Reason::Stun if punt::is_on() => punt::punt(ctx.ctx, Some(Reason::Stun)),
                Reason::NoRoute if punt::is_on() => punt::punt(ctx.ctx, Some(Reason::NoRoute)),
                Reason::Expired if punt::is_on() => punt::punt(ctx.ctx, Some(Reason::Expired)),
                _ => XDP_PASS,
            }
        }
    }
}

#[inline(always)]
fn forward(ctx: &XdpContext) -> Result<u32, Reason> {
    let ingress = ctx.ingress_ifindex() as u32;
    let mut frame = Xdp(ctx);
    let plan = wire::plan(&frame, &Maps, &Link(ingress))?;
    if punt::takes_all() {
        let action = punt::punt(ctx.ctx, None);
        // While queues come or go a frame may lie in a worker's memory that has no place in the map, and
        // not every driver sends it back from there: the stack has it.
        if action == XDP_REDIRECT || punt::is_served(ingress) {
            return Ok(action);
        }
    }
    wire::rewrite(&mut frame, &plan)?;
    maps::forwarded(&plan.forward);
    let egress = plan.hop.ifindex;
    Ok(if egress == ingress { XDP_TX } else { unsafe { bpf_redirect(egress, 0) as u32 } })
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
