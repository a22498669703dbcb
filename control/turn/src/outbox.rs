//! The server's seam: what goes in, what comes out.
//!
//! ```text
//!   Input::Client ─┐                   ┌─> open_port, add_route    (before the success response)
//!   Input::Peer  ──┼─> Server::handle ─┼─> to_client, to_peer
//!   Input::Timer ──┘                   └─> remove_route, close_port (in this order)
//! ```
//!
//! Every address here is one seen on this host's wire. Advertised addresses (of a 1:1 NAT in front
//! of the host) exist only inside STUN messages.

use std::net::SocketAddr;
use std::time::Duration;

use crate::attribute::ChannelNumber;

/// Both clocks, as the caller read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// CLOCK_MONOTONIC, since boot: every lifetime is measured by it.
    pub monotonic: Duration,
    /// The wall clock, since 1970: for expiring usernames and nonces.
    pub unix: Duration,
}

/// How a client reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// DTLS over UDP.
    Dtls,
}

/// A client's five-tuple: the identity of an allocation (RFC 8656 section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client {
    /// The client's address as this host sees it.
    pub remote: SocketAddr,
    /// The listening address it sent to.
    pub local: SocketAddr,
    /// The transport between them.
    pub transport: Transport,
}

/// The worker a client is served by. Opaque here, and handed back with everything for that client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin(pub u16);

/// What the server is told.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A datagram from a client on a listening address: STUN, or ChannelData that no fast tier took.
    Client {
        /// Who sent it, and to which listening address.
        client: Client,
        /// The worker that received it.
        origin: Origin,
        /// The datagram's payload, and nothing beyond it.
        bytes: &'a [u8],
    },
    /// A datagram from a peer to a relayed transport address for which no route was found.
    Peer {
        /// The relayed transport address it was sent to.
        relay: SocketAddr,
        /// Who sent it.
        peer: SocketAddr,
        /// The datagram's payload.
        bytes: &'a [u8],
    },
    /// [`deadline`](crate::Server::deadline) has passed.
    Timer,
}

/// One channel, both ways, as the fast tiers need it. A cache of what the server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelRoute {
    /// The client's five-tuple.
    pub client: Client,
    /// The worker that serves the client.
    pub origin: Origin,
    /// The channel's number in ChannelData to and from this client.
    pub channel: ChannelNumber,
    /// The local relayed transport address.
    pub relay: SocketAddr,
    /// The peer's transport address.
    pub peer: SocketAddr,
    /// When the route stops by itself (monotonic): the channel's or its allocation's expiry,
    /// whichever is earlier.
    pub expires: Duration,
    /// The peer is one of our own live relayed addresses: forwarded inside.
    pub inner: bool,
}

impl ChannelRoute {
    /// Whether both are the same channel, whatever their expiry.
    pub fn same_path(&self, other: &Self) -> bool {
        let path = |r: &Self| (r.client, r.channel, r.relay, r.peer);
        path(self) == path(other)
    }
}

/// Why a relay port could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortRefusal {
    /// Someone else on this host holds it: the server tries another.
    InUse,
    /// No descriptors, no memory, no room in a table: the server answers 508.
    Exhausted,
}

/// Why a route could not be published: the table is full. The server answers 508.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRefusal;

/// Where the server's effects go, in the order in which they must take effect.
///
/// The success response comes last on adding, and the route goes before the port on removing. What
/// an outbox drops never corrupts the server.
pub trait Outbox {
    /// Holds this relay port for the client. Called before the success response is sent.
    fn open_port(
        &mut self,
        relay: SocketAddr,
        client: &Client,
        origin: Origin,
    ) -> Result<(), PortRefusal>;
    /// Lets a relay port go. Its routes were removed before.
    fn close_port(&mut self, relay: SocketAddr);
    /// Publishes one channel both ways, or publishes it again with another expiry. On an error
    /// nothing has changed.
    fn add_route(&mut self, route: &ChannelRoute) -> Result<(), RouteRefusal>;
    /// Withdraws a channel.
    fn remove_route(&mut self, route: &ChannelRoute);
    /// Sends a datagram to a client, from the listening address that it uses.
    fn to_client(&mut self, client: &Client, origin: Origin, bytes: &[u8]);
    /// Sends a datagram to a peer, from a relayed transport address. `dont_fragment` sets DF.
    fn to_peer(&mut self, relay: SocketAddr, peer: SocketAddr, bytes: &[u8], dont_fragment: bool);
}
