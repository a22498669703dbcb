//! A TURN server (RFC 8656, over STUN, RFC 8489) without sockets, clocks, threads or globals.
//!
//! [`Server`] is a state machine: it is handed datagrams and the time, and calls an [`Outbox`] with
//! what must happen. The whole of it runs under a virtual clock and a seed.

pub mod channel;
mod outbox;
pub mod permission;
mod random;

pub use channel::ChannelNumber;
pub use outbox::{
    ChannelRoute, Client, Input, Now, Origin, Outbox, PortRefusal, RouteRefusal, Transport,
};
pub use random::{Random, Seeded};
