//! The shipped lock-free code, compiled once more with loom's atomics, so that loom can run it through
//! every order of its steps and every value that a weakly ordered machine could let it read.
//!
//! ```text
//!   dataplane/src/mailbox/bell.rs  ──┐ #[path]    core::sync, std::sync, mio ──> this crate
//!   ebpf/wire/src/table/{read,       ├──────────> compiled here, unchanged
//!        write,geometry}.rs          │
//!   dataplane/src/link/xsk/ring.rs ──┘
//! ```
//!
//! The files are not copied. What they import by the names of `core`, `std` and `mio` is this crate
//! itself, which offers the few items that they use.
//!
//! What is not here: the rings between workers and control thread are the crate `rtrb`'s, and are
//! tested there; counters have one writer each and promise no order; next hops are single words.
#![cfg(not(test))]
#![allow(dead_code, reason = "the included files offer more than the models use")]
#![allow(missing_docs, reason = "a stand-in for other crates' items, which are documented there")]
#![allow(unreachable_pub, reason = "the included files are modules of other crates")]

extern crate self as core;
extern crate self as mio;
extern crate self as std;
extern crate std as real;

mod key;
pub mod table;
mod waker;
mod word;
pub mod xsk;

#[path = "../../../dataplane/src/mailbox/bell.rs"]
mod bell;

pub use key::{Key, Route};
pub use waker::Waker;
pub use word::on_kernel_side;

// everything else is what it always is; an explicit item goes before a glob
pub use real::*;

/// The bell of a mailbox, for tests outside this crate.
pub struct Bell(bell::Bell);

impl Bell {
    pub fn new(waker: sync::Arc<Waker>) -> Self {
        Self(bell::Bell::new(waker))
    }

    pub fn ring(&self) {
        self.0.ring();
    }

    pub fn hear(&self) {
        self.0.hear();
    }
}

/// What the included files find as `core::sync` and `std::sync`.
pub mod sync {
    pub use loom::sync::Arc;

    pub mod atomic {
        pub use crate::word::AtomicU64;
        pub use loom::sync::atomic::{AtomicBool, AtomicU32, fence};
        pub use real::sync::atomic::Ordering;
        pub use real::sync::atomic::Ordering::*;
    }
}
