//! A load generator for TURN relays (RFC 8656), over their public protocol.
//!
//! ```text
//!                control: sans-IO clients, a bounded number of requests under way
//!                   │
//!  plan ──> lab ────┤                          ┌─ senders: schedule, framing, stamp ──> relay
//!                   └─ measure: threads ───────┤
//!                                              └─ receivers: stamp, tracker, histogram <── relay
//!                         │
//!                         └──> report (JSON) ──> summary, HTML, comparison
//! ```
//!
//! Every datagram carries its flow, its number, the time when it was due and a check of its bytes
//! ([`stamp`]), so that loss, reordering, duplication and corruption are seen as what they are and
//! latency counts from the schedule. README.md says how to use it and how far to trust it.

pub mod bisect;
pub mod churn;
pub mod cli;
pub mod commands;
pub mod compare;
pub mod control;
pub mod cpu;
pub mod framing;
pub mod html;
pub mod lab;
pub mod latency;
pub mod link;
pub mod mix;
pub mod options;
pub mod plan;
pub mod progress;
pub mod report;
pub mod schedule;
pub mod server;
pub mod sink;
pub mod stamp;
pub mod stream;
pub mod sys;
pub mod tracker;
pub mod traffic;
mod xdp;
