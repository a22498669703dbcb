//! Waking a sleeper once for any number of things put into its rings.

use mio::Waker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};

/// A waker that makes one system call for many rings, until it is heard.
///
/// The writer puts something in and rings; the reader hears, and only then looks. Whatever was put
/// in before a ring that found the bell still rung is seen by that look.
pub(crate) struct Bell {
    rung: AtomicBool,
    waker: Option<Arc<Waker>>,
}

impl Bell {
    pub(crate) fn new(waker: Arc<Waker>) -> Self {
        Self { waker: Some(waker), ..Self::silent() }
    }

    /// A bell that nobody sleeps by.
    pub(crate) fn silent() -> Self {
        Self { rung: AtomicBool::new(false), waker: None }
    }

    /// Wakes the sleeper, if nobody has done so since it last heard.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, AcqRel)
            && let Some(waker) = &self.waker
        {
            // An eventfd refuses only when its counter is full, and then it is readable anyway.
            let _ = waker.wake();
        }
    }

    /// The sleeper is awake and about to look.
    pub(crate) fn hear(&self) {
        self.rung.swap(false, AcqRel);
    }
}
