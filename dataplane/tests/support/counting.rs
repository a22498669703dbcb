//! A global allocator that counts: in every thread but the test's own, and in the calling one.
#![expect(unsafe_code, reason = "a global allocator that counts")]
#![allow(dead_code, reason = "a test counts either way")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

struct Counting;

static COUNTED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_TEST: Cell<bool> = const { Cell::new(false) };
    static HERE: Cell<u64> = const { Cell::new(0) };
}

fn note() {
    HERE.with(|here| here.set(here.get() + 1));
    if !IS_TEST.with(Cell::get) {
        COUNTED.fetch_add(1, SeqCst);
    }
}

// SAFETY: every call is the system allocator's own, with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: passed on as it came.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: passed on as it came.
        unsafe { System.realloc(pointer, layout, size) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The calling thread is the test's own: what it allocates is not counted.
pub(crate) fn leave_out_this_thread() {
    IS_TEST.with(|is_test| is_test.set(true));
}

/// Allocations of all other threads so far.
pub(crate) fn counted() -> u64 {
    COUNTED.load(SeqCst)
}

/// Allocations of the calling thread so far.
pub(crate) fn counted_here() -> u64 {
    HERE.with(Cell::get)
}
