//! Words of shared memory, read and written whole.
//!
//! On the host they are plain relaxed atomics. The BPF target cannot select atomic loads and
//! stores before CPU version 4, but every aligned 64-bit access of it is a single one: there,
//! volatile accesses do the same job.
#![allow(unsafe_code, reason = "volatile accesses through AtomicU64::as_ptr on the BPF target")]

use core::sync::atomic::AtomicU64;

#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering::Relaxed;

/// Reads `word`.
#[inline(always)]
pub(crate) fn load(word: &AtomicU64) -> u64 {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the pointer comes from a reference, so it is valid and aligned.
    return unsafe { word.as_ptr().read_volatile() };
    #[cfg(not(target_arch = "bpf"))]
    word.load(Relaxed)
}

/// Writes `word`.
#[inline(always)]
pub(crate) fn store(word: &AtomicU64, value: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: as above; AtomicU64 allows writing through a shared reference.
    return unsafe { word.as_ptr().write_volatile(value) };
    #[cfg(not(target_arch = "bpf"))]
    word.store(value, Relaxed);
}
