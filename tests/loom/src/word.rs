//! Words of shared memory: what wire's `word` module is on the host, and what it is in the kernel.

use real::cell::Cell;
use real::sync::atomic::AtomicU64 as Plain;
use real::sync::atomic::Ordering::{self, Acquire, Relaxed, SeqCst};

/// A word that loom follows, or one that it does not: a table has more words than can be followed
/// in every order, and those of one kind are treated alike.
#[derive(Debug)]
pub struct AtomicU64 {
    followed: Option<loom::sync::atomic::AtomicU64>,
    plain: Plain,
}

impl Default for AtomicU64 {
    fn default() -> Self {
        Self { followed: Some(Default::default()), plain: Plain::new(0) }
    }
}

impl AtomicU64 {
    pub fn unfollowed() -> Self {
        Self { followed: None, plain: Plain::new(0) }
    }

    pub fn load(&self, order: Ordering) -> u64 {
        match &self.followed {
            Some(word) => word.load(order),
            None => self.plain.load(SeqCst),
        }
    }

    pub fn store(&self, value: u64, order: Ordering) {
        match &self.followed {
            Some(word) => word.store(value, order),
            None => self.plain.store(value, SeqCst),
        }
    }
}

real::thread_local! {
    // loom's threads all run on the thread of their test
    static KERNEL: Cell<bool> = const { Cell::new(false) };
}

/// Runs `model` with the reader that the kernel program is: volatile loads and no fences, on x86-64.
/// Its total store order is stronger than acquire loads, which is what they are here.
pub fn on_kernel_side(model: impl FnOnce()) {
    KERNEL.set(true);
    model();
    KERNEL.set(false);
}

/// What wire's reading code calls for each shared word.
pub(crate) fn load(word: &AtomicU64) -> u64 {
    word.load(if KERNEL.get() { Acquire } else { Relaxed })
}

pub(crate) fn store(word: &AtomicU64, value: u64) {
    word.store(value, Relaxed);
}

/// What wire's `ordered` is: a fence on the host, nothing in the kernel.
pub(crate) fn ordered() {
    if !KERNEL.get() {
        loom::sync::atomic::fence(Acquire);
    }
}
