//! Allocations: many TURN clients at once, with a bounded number of requests under way.
//!
//! ```text
//! enqueue(session, requests) ──> waiting ──> active (at most IN_FLIGHT) ──> poll() ──> Outcome
//!                                              │ ^
//!                                   Link::send │ │ input(session, bytes)
//! ```
//!
//! A server may count out its challenges to strangers, as Turnwire does: 20 a second for one address.
//! So only the first session lets itself be challenged. The others answer that same challenge; a
//! server whose nonces are for one client says 438 and gives them their own.

mod challenge;
mod engine;
mod error;
mod pump;
mod session;

pub use engine::{Engine, EngineSettings, Outcome};
pub use error::{ControlError, Why};
pub use pump::{Ended, Pump};
pub use session::{Kind, Session};
