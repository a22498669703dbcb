//! Handing frames to workers by AF_XDP, where the loader has switched it on.

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_PASS, XDP_REDIRECT},
        xdp_md,
    },
    macros::map,
    maps::{Array, HashMap, XskMap},
    programs::XdpContext,
};
use core::ptr::read_volatile;
use wire::{Place, Places, Punt, QUEUES_MAX, Reason, SLOTS_MAX};

use crate::frame::Xdp;
use crate::maps::{COUNTERS, Link, Maps};

/// This host's addresses and listeners.
#[map]
static PLACES: HashMap<Place, u64> = HashMap::with_max_entries(1024, 0);
/// AF_XDP sockets: [`QUEUES_MAX`] for each interface.
#[map]
static SOCKETS: XskMap = XskMap::with_max_entries(SLOTS_MAX, 0);
/// Where an interface's sockets begin, by interface index, plus one; 0 for one that has none.
#[map]
static SLOTS: Array<u32> = Array::with_max_entries(1, 0);

/// A [`Punt`]. The verifier knows its value, so that what is off costs nothing.
#[unsafe(no_mangle)]
static PUNT: u64 = Punt::Off as u64;

/// Frames without a live route may go to workers.
#[inline(always)]
pub fn is_on() -> bool {
    unsafe { read_volatile(&PUNT) != Punt::Off as u64 }
}

/// Frames with one do so too.
#[inline(always)]
pub fn takes_all() -> bool {
    unsafe { read_volatile(&PUNT) == Punt::All as u64 }
}

/// The interface's queues have sockets, or had.
#[inline(always)]
pub fn is_served(interface: u32) -> bool {
    SLOTS.get(interface).is_some_and(|slot| *slot != 0)
}

/// Hands the frame to the worker whose queue it came in by, where it may and there is one; the
/// stack has it otherwise. A function by itself: the way of a frame with a live route stays as it
/// is.
#[inline(never)]
pub fn punt(ctx: *mut xdp_md, reason: Option<Reason>) -> u32 {
    let ctx = XdpContext::new(ctx);
    let interface = ctx.ingress_ifindex() as u32;
    if !wire::is_punted(&Xdp(&ctx), &Maps, &Maps, &Link(interface), reason) {
        return XDP_PASS;
    }
    let action = to_worker(interface, ctx.rx_queue_index());
    if action == XDP_REDIRECT
        && let Some(counters) = COUNTERS.get_ptr_mut(0)
    {
        unsafe { (*counters).punted += 1 }
    }
    action
}

#[inline(always)]
fn to_worker(interface: u32, queue: u32) -> u32 {
    let slot = SLOTS.get(interface).copied().unwrap_or(0);
    if slot == 0 || queue >= QUEUES_MAX {
        return XDP_PASS;
    }
    SOCKETS.redirect(slot - 1 + queue, XDP_PASS as u64).unwrap_or_else(|action| action)
}

impl Places for Maps {
    #[inline(always)]
    fn place(&self, place: Place) -> u64 {
        unsafe { PLACES.get(&place) }.copied().unwrap_or(0)
    }
}
