//! Hands every frame to the AF_XDP socket of its queue, for tests and measurements of those sockets.
//! Where a queue has none, the kernel's own stack has the frame.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    macros::{map, xdp},
    maps::XskMap,
    programs::XdpContext,
};

/// Sockets by receive queue.
#[map]
static SOCKETS: XskMap = XskMap::with_max_entries(64, 0);

/// Everything.
#[xdp]
pub fn divert(ctx: XdpContext) -> u32 {
    // the lower bits of the flags are what becomes of a frame without a socket, from Linux 5.3 on
    SOCKETS.redirect(ctx.rx_queue_index(), XDP_PASS as u64).unwrap_or(XDP_PASS)
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
