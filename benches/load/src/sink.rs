//! The peer's side on another host: counts what arrives, and sends when it is asked to.
//!
//! ```text
//!  run ──> client ══ relay ══> sink        datagrams, judged and counted by tag and flow
//!  run <── client ══ relay <══ sink        datagrams by a schedule, for the other direction
//!  run <── client ══ relay ══> sink        commands and answers, small, before and after
//! ```
//!
//! Commands come through the relay too, so that only the relay needs to be able to reach the sink.
//! Whoever wants datagrams must first send back a cookie that went to the same address: a forged
//! source cannot make the sink flood anybody.

mod protocol;
mod serve;
mod state;

pub use protocol::{Answer, Command, MAGIC, Outgoing, Results, read, write};
pub use serve::{Sink, SinkOptions};
