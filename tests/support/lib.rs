//! What the tests of whole relays share: a lab of three hosts, a relay to put in it, clients and
//! peers, and eyes on the wire.
//!
//! Nothing here but [`buffer`] uses Turnwire's own crates. Messages, frames and checksums are written a second
//! time, plainly and slowly, so that a fault of the relay cannot hide behind the same fault in its
//! test.

pub mod buffer;
pub mod cable;
pub mod call;
pub mod client;
pub mod faults;
pub mod frame;
pub mod lab;
pub mod metrics;
pub mod namespace;
pub mod open_loop;
pub mod packet_socket;
pub mod ports;
pub mod process;
pub mod random;
pub mod relay;
pub mod rtnl;
pub mod stun;
pub mod traffic;
pub mod wait;
