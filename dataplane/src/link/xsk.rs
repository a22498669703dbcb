//! AF_XDP: frames in memory that is shared with the kernel, by rings of our own over `libc`.
//!
//! ```text
//!   program ──bpf_redirect_map──> XSKMAP[queue]
//!                                     │
//!            ┌── fill ring <── refill │                 ┌─> completion ring ── reclaim ─┐
//!            v                        v                 │                               v
//!         kernel ─────────────> rx ring ── receive ──> Frame ── transmit ──> tx ring   free
//!            ^                                          (ours)                           │
//!            └───────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A [`Umem`] is the memory, cut into frames, and the list of those that are free. A [`Queue`] is a
//! socket on one receive and transmit queue of one interface. A [`Frame`] is the right to one frame
//! of the memory: neither `Copy` nor `Clone`, so it is in one place, and the ledger in `Umem` knows
//! where each of the others is ([`Umem::census`]). One `Umem` may serve several queues of one
//! thread, so that a frame that came in by one interface goes out by another without a copy.
//!
//! The loop of a worker:
//!
//! ```text
//!   queue.receive(&mut umem, &mut frames, 64)       from the rx ring
//!   ... read and rewrite each: umem.view(&mut frame) is a wire::Frame ...
//!   queue.transmit(&mut umem, frame)?               gives it back when the ring is full
//!   umem.give(frame)                                one that goes nowhere
//!   queue.reclaim(&mut umem); queue.refill(&mut umem);
//!   queue.flush()?                                  wakes the kernel, only where it asks for it
//! ```
//!
//! Kernel document: Documentation/networking/af_xdp.rst; `linux/if_xdp.h`.

mod error;
mod facts;
mod frame;
mod mapping;
mod queue;
mod ring;
mod rings;
#[doc(hidden)]
pub mod simulation;
mod sys;
#[cfg(test)]
pub(crate) mod tests;
mod umem;

pub use error::Error;
pub use facts::{Features, driver, queues, zero_copy_advertised};
pub use frame::{Frame, View};
pub use queue::{BusyPoll, Copying, Mode, Options, Queue, Statistics};
pub use rings::Counts;
pub use umem::{Census, FRAMES_MAX, FrameSize, HEADROOM, KERNEL_HEADROOM, START, STRANDED, Umem};
