//! Checks of a TURN server against RFC 8489, RFC 8656 and their extensions, over its public protocol
//! alone. See the README beside this crate.
//!
//! ```text
//!   cli -> facts::discover -> runner ─┬─ Trial ── Client ── dial::Link ──> server
//!                                     │     └──── Peer  <── relayed data ────┘
//!            report <── Outcome ──────┘
//! ```

pub mod call;
pub mod check;
pub mod checks;
pub mod cli;
pub mod client;
pub mod codec;
pub mod facts;
pub mod options;
pub mod report;
pub mod runner;
pub mod trial;
