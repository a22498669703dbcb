//! The server's seam: what goes in, what comes out.
//!
//! ```text
//!   Client, Gone ──────┐                   ┌─> open_port, add_route, permit  (before the success)
//!   Peer, Unreachable ─┼─> Server::handle ─┼─> to_client, to_peer
//!   Timer ─────────────┘                   └─> remove_route, forbid, close_port (in this order)
//! ```
//!
//! A TCP allocation (RFC 6062) has a listener in place of a port, and peer connections:
//!
//! ```text
//!   Allocate          open_listener ────────────────────────────> success
//!   Connect           connect ─> Input::Connected ──────────────> success with CONNECTION-ID, or 447
//!   a peer connects   Input::Accepted ──────────────────────────> ConnectionAttempt
//!   ConnectionBind    on a connection of its own: success ──────> splice
//!   the end           Input::PeerClosed while unbound, Input::Gone once spliced;
//!                     or by the server: close_peer_connection while unbound, close_client after
//! ```
//!
//! Every address here is one seen on this host's wire. Advertised addresses (of a 1:1 NAT in front
//! of the host) exist only inside STUN messages.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::attribute::{ChannelNumber, Icmp};

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

impl Transport {
    /// A stream of bytes: ChannelData is padded, nothing is lost or doubled on the way.
    pub const fn is_stream(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }

    /// Whether a client has shown that it receives at its address before its first message: by a
    /// handshake, or by the cookie of DTLS. What it is told goes to no victim.
    pub const fn proves_address(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// Whether it is encrypted.
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Dtls)
    }
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

/// A TCP connection between a relayed transport address and a peer (RFC 6062). Not what the client
/// sees: CONNECTION-ID is another number, which cannot be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerConnection(pub u32);

impl PeerConnection {
    /// Set in the numbers that the driver gives ([`Input::Accepted`]), clear in those that the
    /// server gives ([`Outbox::connect`]): neither meets the other's.
    pub const ACCEPTED: u32 = 1 << 31;
}

/// Why a connection to a peer was not made; the client is told 447 whichever it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectRefusal {
    /// The peer refused, or cannot be reached, or did not answer.
    Failed,
    /// This host has no descriptors or no memory left, or the same connection exists.
    Exhausted,
}

/// What the server is told.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// From a client on a listening address: STUN, or ChannelData that no fast tier took. A
    /// datagram; over DTLS one decrypted record; over TCP and TLS exactly one STUN message, or
    /// one ChannelData message without its padding (the data plane cuts the stream).
    Client {
        /// Who sent it, and to which listening address.
        client: Client,
        /// The worker that received it.
        origin: Origin,
        /// The datagram's payload, and nothing beyond it.
        bytes: &'a [u8],
    },
    /// A client's TCP or TLS connection, or DTLS association, has ended, by whichever side. Nothing
    /// more comes from it, and what is sent to it is lost. Said once, also after
    /// [`Outbox::close_client`], and for spliced connections when both halves have ended.
    Gone {
        /// Whose.
        client: Client,
        /// The worker that served it.
        origin: Origin,
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
    /// An ICMP error for a datagram that was sent from a relayed transport address to a peer, by
    /// whichever tier.
    Unreachable {
        /// The relayed transport address that the datagram was sent from.
        relay: SocketAddr,
        /// The peer that it was sent to.
        peer: SocketAddr,
        /// Type and code as in the header of the relayed address's family; the data is the next
        /// hop's MTU for "fragmentation needed" and "packet too big".
        icmp: Icmp,
    },
    /// The end of what [`Outbox::connect`] began. Not told of an id that the server has closed since.
    Connected {
        /// Which connection.
        id: PeerConnection,
        /// Whether it stands. If not, the driver has forgotten it.
        result: Result<(), ConnectRefusal>,
    },
    /// A peer has connected to a relayed transport address with a listener. The driver holds the
    /// connection, and buffers a little of what comes by it, until it is spliced or closed; the
    /// server closes at once what it does not want.
    Accepted {
        /// The relayed transport address.
        relay: SocketAddr,
        /// Who connected.
        peer: SocketAddr,
        /// The driver's number for it, with [`PeerConnection::ACCEPTED`].
        id: PeerConnection,
    },
    /// A connection that is established and not spliced was ended by its peer; the driver has
    /// forgotten it.
    PeerClosed {
        /// Which connection.
        id: PeerConnection,
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

/// A permission, as the fast tiers need it: datagrams between the client and every port of a peer's
/// address may go through the relayed address, in Send and Data indications, where the peer has no
/// channel. A cache of what the server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    /// The client's five-tuple.
    pub client: Client,
    /// The worker that serves the client.
    pub origin: Origin,
    /// The local relayed transport address.
    pub relay: SocketAddr,
    /// The peer's address; never one of this host.
    pub peer: IpAddr,
    /// When it stops by itself (monotonic): the permission's or its allocation's expiry, whichever
    /// is earlier.
    pub expires: Duration,
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
/// The success response comes last on adding, and the route goes before the port on removing. When
/// an allocation moves to another five-tuple (RFC 8016), the order is: [`move_port`](Self::move_port),
/// the new client's routes, away with the old client's, and the new ones once more, because a table
/// may have one entry for both (from the peer to the relayed address); then the permits for the new
/// client. What an outbox drops never corrupts the server.
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
    /// An open relay port is another client's from here on, perhaps of another worker (RFC 8016). On
    /// an error nothing has changed.
    fn move_port(
        &mut self,
        relay: SocketAddr,
        client: &Client,
        origin: Origin,
    ) -> Result<(), PortRefusal>;
    /// Publishes one channel both ways, or publishes it again with another expiry. On an error
    /// nothing has changed.
    fn add_route(&mut self, route: &ChannelRoute) -> Result<(), RouteRefusal>;
    /// Withdraws a channel.
    fn remove_route(&mut self, route: &ChannelRoute);
    /// Publishes a permission, or publishes it again with another expiry or for the client that the
    /// allocation has moved to. Nothing is lost where there is no room: what is not known there comes
    /// as an input.
    fn permit(&mut self, permit: &Permit);
    /// Withdraws what was published for this relayed address and peer.
    fn forbid(&mut self, permit: &Permit);
    /// Sends to a client, from `client.local`: the listening address that it uses, or for NAT
    /// behaviour discovery (RFC 5780) another one. Over TCP and TLS the bytes are one whole
    /// message, ChannelData with its padding.
    fn to_client(&mut self, client: &Client, origin: Origin, bytes: &[u8]);
    /// Sends a datagram to a peer, from a relayed transport address. `dont_fragment` sets DF.
    fn to_peer(&mut self, relay: SocketAddr, peer: SocketAddr, bytes: &[u8], dont_fragment: bool);
    /// Ends a TCP or TLS connection, or a DTLS association, once what was queued for it is sent; with
    /// a spliced one its peer's connection ends too. [`Input::Gone`] follows. Unknown clients are
    /// ignored: it may have ended by itself.
    fn close_client(&mut self, client: &Client, origin: Origin);

    /// Listens on this relayed transport address by TCP (RFC 6062). Called before the success
    /// response is sent. Connections to peers come from the same address.
    fn open_listener(
        &mut self,
        relay: SocketAddr,
        client: &Client,
        origin: Origin,
    ) -> Result<(), PortRefusal>;
    /// Lets the address go. Its connections were closed before, each by its own call.
    fn close_listener(&mut self, relay: SocketAddr);
    /// Begins to connect to a peer from a relayed transport address with a listener. Every end of it
    /// is an [`Input::Connected`], never before this call has returned.
    fn connect(&mut self, id: PeerConnection, relay: SocketAddr, peer: SocketAddr);
    /// Joins a client's data connection with a peer's: from here on bytes flow raw, both ways, and
    /// first what the peer has sent already. The response to ConnectionBind was handed to
    /// [`to_client`](Self::to_client) before and goes out first. The id is forgotten: the pair is
    /// known by its client from here on, and ends by [`close_client`](Self::close_client) or
    /// [`Input::Gone`].
    fn splice(&mut self, id: PeerConnection, client: &Client, origin: Origin);
    /// Ends a connection that is being made, or is established and not spliced. Nothing more is said
    /// about it.
    fn close_peer_connection(&mut self, id: PeerConnection);
}
