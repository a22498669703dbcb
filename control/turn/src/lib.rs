//! A TURN server (RFC 8656, over STUN, RFC 8489) without sockets, clocks, threads or globals, and a
//! client of the same kind.
//!
//! ```text
//!  datagrams, time ──> Server::handle ──> Outbox: open and close ports, add and remove routes,
//!                            │                    send to clients, send to peers
//!                       deadline()
//! ```
//!
//! [`Server`] is the truth about allocations, permissions and channels. It is handed datagrams and
//! the time, and calls an [`Outbox`] with what must happen, in the order in which it must take
//! effect. The whole of it runs under a virtual clock and a seed.

mod allocation;
pub mod attribute;
pub mod channel;
pub mod client;
mod config;
pub mod connection;
pub mod credentials;
pub mod integrity;
pub mod limits;
pub mod message;
pub mod nonce;
mod outbox;
pub mod permission;
pub mod policy;
pub mod ports;
mod random;
mod server;
mod stats;
mod ticket;
pub mod timers;

pub use allocation::{AllocationView, ChannelView, ConnectionView, RelayView};
pub use attribute::{ChannelNumber, Icmp};
pub use config::{Alternate, Config, NatDiscovery, RelayAddress};
pub use credentials::Credentials;
pub use limits::Limits;
pub use outbox::{
    ChannelRoute, Client, ConnectRefusal, Input, Now, Origin, Outbox, PeerConnection, Permit,
    PortRefusal, RouteRefusal, Transport,
};
pub use policy::Policy;
pub use random::{Random, Seeded};
pub use server::Server;
pub use stats::{BothWays, Reason, Refusals, Request, Stats, Traffic};
