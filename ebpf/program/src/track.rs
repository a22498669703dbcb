//! What the sink keeps of each flow: which numbers came, in which order, and how late.
//!
//! ```text
//! window   word (number / 32) mod 32:   number / 32 + 1   |  one bit for each of 32 numbers
//! ```
//!
//! A word that belongs to lower numbers is taken over by a higher one. So duplicates are told among
//! the last thousand numbers; one from before counts as reordered. Several CPUs may work on a flow.

use crate::abi::{Arrivals, COARSE, FINE, SLOTS, WINDOW, bucket, buckets};
use crate::generator::RUN;
use crate::sink::{Arrived, LATENCY, LATENCY_BY_SLOT, RECEIVED};
use aya_ebpf::{
    bindings::BPF_F_MMAPABLE, helpers::generated::bpf_ktime_get_ns, macros::map, maps::Array,
};
use core::intrinsics::{AtomicOrdering::Relaxed, atomic_cxchg, atomic_or, atomic_xadd};
use core::ptr::{read_volatile, write_volatile};

/// By flow.
#[map]
static ARRIVALS: Array<Arrivals> = Array::with_max_entries(1, BPF_F_MMAPABLE);

// The target has no atomic types in `core`: it lacks plain atomic loads and stores. The instructions
// below it has since CPU version 3.

#[inline(always)]
unsafe fn add(word: *mut u64) {
    // the result is not used: an instruction that fetches nothing
    unsafe { atomic_xadd::<u64, u64, { Relaxed }>(word, 1) };
}

#[inline(always)]
fn add_at(map: &Array<u64>, index: usize) {
    if let Some(word) = map.get_ptr_mut(index as u32) {
        unsafe { add(word) };
    }
}

/// Marks a number; whether it is new.
#[inline(always)]
unsafe fn is_new(arrivals: *mut Arrivals, sequence: u32) -> bool {
    let (block, bit) = ((sequence >> 5) as u64 + 1, 1u64 << (sequence & 31));
    let at = (sequence >> 5) as usize & (WINDOW - 1);
    let word = unsafe { (&raw mut (*arrivals).window).cast::<u64>().add(at) };
    // Somebody else may take the word over at the same time: once is enough then.
    for _ in 0..2 {
        let seen = unsafe { read_volatile(word) };
        if seen >> 32 == block {
            return unsafe { atomic_or::<u64, u64, { Relaxed }>(word, bit) } & bit == 0;
        }
        if seen >> 32 > block {
            return true;
        }
        let new = block << 32 | bit;
        let (_, taken) =
            unsafe { atomic_cxchg::<u64, { Relaxed }, { Relaxed }>(word, seen, new) };
        if taken {
            return true;
        }
    }
    true
}

/// A right datagram; whether it is the first of its number.
#[inline(always)]
pub fn intact(arrived: &Arrived) -> bool {
    let (Some(arrivals), Some(run)) = (ARRIVALS.get_ptr_mut(arrived.flow), RUN.get(0)) else {
        return false;
    };
    let [_, sequence, low, high, _] = arrived.stamp;
    if !unsafe { is_new(arrivals, sequence) } {
        unsafe { add(&raw mut (*arrivals).duplicated) };
        return false;
    }
    unsafe {
        let next = &raw mut (*arrivals).next;
        if (sequence as u64) < read_volatile(next) {
            add(&raw mut (*arrivals).reordered);
        } else {
            write_volatile(next, sequence as u64 + 1);
        }
        add(&raw mut (*arrivals).received);
    }
    let due = low as u64 | (high as u64) << 32;
    let latency = unsafe { bpf_ktime_get_ns() }.saturating_sub(due);
    let slot = slot(due.saturating_sub(run.start), run.slot);
    add_at(&RECEIVED, slot);
    add_at(&LATENCY, arrived.to_client as usize * buckets(FINE) + bucket(latency, FINE));
    add_at(&LATENCY_BY_SLOT, slot * buckets(COARSE) + bucket(latency, COARSE));
    true
}

/// A damaged one; whether nothing else has come of its number.
#[inline(always)]
pub fn damaged(arrived: &Arrived) -> bool {
    let (Some(arrivals), Some(run)) = (ARRIVALS.get_ptr_mut(arrived.flow), RUN.get(0)) else {
        return false;
    };
    let [_, sequence, low, high, _] = arrived.stamp;
    if !unsafe { is_new(arrivals, sequence) } {
        unsafe { add(&raw mut (*arrivals).duplicated) };
        return false;
    }
    unsafe { add(&raw mut (*arrivals).damaged) };
    let due = low as u64 | (high as u64) << 32;
    add_at(&RECEIVED, slot(due.saturating_sub(run.start), run.slot));
    true
}

#[inline(always)]
fn slot(since: u64, len: u64) -> usize {
    since.checked_div(len).unwrap_or(0).min(SLOTS as u64 - 1) as usize
}
