//! The relay's per-packet work, written once: the same functions are compiled into the XDP program
//! and into the workers, and run on the host in tests.
//!
//! ```text
//!  frame ──Packet::parse──> Packet ──datagram──> Datagram ──decide──> Forward   (where it goes)
//!                              │                     ▲                   │
//!                              │              route table            plan │       (how it changes)
//!                              └────────────────────────────────> Plan ──rewrite──> frame
//! ```
//!
//! A worker on sockets has no frame: it starts at [`Datagram`] and stops at [`Forward`]. The kernel
//! program goes all the way. `decide` and `plan` read and change nothing; `rewrite` then carries
//! the plan out and cannot fail halfway on a good plan.
//!
//! Everything that lies in shared memory (route table, hops, ports) is defined here with its exact
//! size, because the kernel program and the control thread both look at it.
#![no_std]

mod address;
mod datagram;
mod decide;
mod frame;
pub mod headers;
mod hop;
mod ingress;
mod packet;
mod plan;
mod ports;
mod punt;
mod reason;
mod rewrite;
mod route;
mod sum;
pub mod table;
mod word;

pub use address::{Address, Endpoint, Family};
pub use datagram::Datagram;
pub use decide::{Forward, Tables, decide};
pub use frame::{Frame, Plain};
pub use hop::{HOPS_MAX, Hop, HopCell};
pub use ingress::{Checksums, Ingress};
pub use packet::{Carried, Packet, mac_word};
pub use plan::{DONT_FRAGMENT, Network, Plan, arrange, plan};
pub use ports::{LISTENER, PortUse, RELAY_ADDRESSES_MAX};
pub use punt::{PUNTED_MAX, Place, Places, Punt, QUEUES_MAX, SLOTS_MAX, is_punted};
pub use reason::{Counters, Direction, Reason};
pub use rewrite::rewrite;
pub use route::{Key, Route, Tuple};
pub use sum::Sum;
