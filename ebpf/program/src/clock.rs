//! Tells the loader the program's clock, which userspace cannot read.

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns},
    macros::{map, xdp},
    maps::Array,
    programs::XdpContext,
};

/// Jiffies (64 bits), and CLOCK_MONOTONIC in nanoseconds at the same moment.
#[map]
static CLOCK: Array<[u64; 2]> = Array::with_max_entries(1, 0);

/// Run once by BPF_PROG_TEST_RUN; never attached.
#[xdp]
pub fn clock(_ctx: XdpContext) -> u32 {
    if let Some(clock) = CLOCK.get_ptr_mut(0) {
        unsafe { *clock = [bpf_jiffies64(), bpf_ktime_get_ns()] };
    }
    XDP_PASS
}
