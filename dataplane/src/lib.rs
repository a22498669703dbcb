//! Turnwire's data plane: one worker per core that relays channel traffic over batched sockets,
//! and the loader of the kernel program that relays it faster.
//!
//! ```text
//!                   control thread: Dataplane
//!        routes │ (shared table)      ▲ │ rings: datagrams, relay ports
//!               ▼                     │ ▼
//!   ┌──────── worker, core k ─────────────────────┐
//!   │ Link::receive ─> Batch ─> wire::decide      │
//!   │       ▲             │ in place              │
//!   │       │             ├─> Link::send          │ forwarded
//!   │    sockets          ├─> ring                │ STUN, peers without a route
//!   │                     └─> counter by Reason   │ refused
//!   └─────────────────────────────────────────────┘
//! ```
//!
//! A worker knows no users, requests or lifetimes: it forwards what its tables say (channels' data,
//! and the plainest Send and Data indications) and hands everything else to the control thread. It
//! allocates nothing, takes no lock and reads no clock for a packet.

pub mod batch;
mod config;
#[cfg(test)]
#[path = "../tests/support/counting.rs"]
mod counting;
pub mod frames;
#[cfg(test)]
#[path = "../tests/support/futexes.rs"]
mod futexes;
pub mod kernel;
pub mod link;
mod mailbox;
mod plane;
mod route;
pub mod session;
mod slots;
pub mod stats;
mod table;
mod worker;

pub use config::{
    Config, OpenPortError, SessionLimits, SessionTimers, Sessions, StartError, Tuning, lanes_max,
};
pub use link::socket::{BufferSizes, monotonic};
pub use plane::{Dataplane, WorkerInfo};
pub use route::{
    Client, Event, IpFields, Permission, PermissionHops, PortId, Relayed, Route, TableFull,
    Transport,
};
pub use session::{Identity, IdentityError};
pub use stats::RouteCounters;
pub use worker::UNREACHABLE_PER_SECOND;
#[doc(hidden)]
pub use worker::{Indication, Stepped};
