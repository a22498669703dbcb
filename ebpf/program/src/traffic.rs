//! The benchmarks' traffic: a generator, a sink, and what a relay is measured against. Not part of
//! the relay's own object.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![allow(internal_features, reason = "atomic instructions: see track.rs")]

#[path = "traffic_abi.rs"]
mod abi;
mod bare;
mod frame;
mod generator;
mod indication;
mod sink;
mod track;

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

// The kernel asks for it by this name; some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
