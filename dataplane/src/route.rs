//! The nouns that the control thread speaks to the data plane in.

use crate::batch::Marks;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A relay port that is open on a worker: its slot, and which of the slot's owners it is.
///
/// A slot is used again after its port was closed; what still names the old owner (a datagram on
/// its way, a second close) then reaches nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortId {
    worker: u16,
    slot: u32,
    generation: u32,
}

impl PortId {
    /// No port's.
    pub const NOBODY: Self = Self { worker: u16::MAX, slot: 0, generation: 0 };

    /// Bits of [`bits`](Self::bits) that are the slot.
    pub(crate) const SLOT_BITS: u32 = 20;

    pub(crate) fn new(worker: usize, slot: u32, generation: u32) -> Self {
        Self { worker: worker as u16, slot, generation }
    }

    /// The worker that serves the port.
    pub fn worker(self) -> usize {
        self.worker.into()
    }

    pub(crate) fn slot(self) -> u32 {
        self.slot
    }

    pub(crate) fn generation(self) -> u32 {
        self.generation
    }

    /// Slot and the generation's low bits in one word, for a route.
    pub(crate) fn bits(self) -> u32 {
        self.generation << Self::SLOT_BITS | self.slot
    }
}

/// How a client reaches us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Datagrams, served by a worker; everything else is served by a session thread.
    #[default]
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// DTLS over UDP.
    Dtls,
}

impl Transport {
    /// All of them, in the order of their counters.
    pub const ALL: [Transport; 4] = [Self::Udp, Self::Tcp, Self::Tls, Self::Dtls];

    /// The label in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Dtls => "dtls",
        }
    }
}

/// A client by its five-tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// How it reaches us.
    pub transport: Transport,
    /// The address of ours that it sends to; behind a load balancer that speaks the PROXY protocol,
    /// the balancer's.
    pub local: SocketAddr,
    /// The client's transport address; behind a load balancer, as the balancer sees it.
    pub remote: SocketAddr,
}

/// One channel, both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// How the client reaches us. A UDP client's route goes into the table that all workers share,
    /// any other's to the session thread that has its relay port.
    pub transport: Transport,
    /// The client's transport address.
    pub client: SocketAddr,
    /// The listening address that it sends to, as on the wire: never a wildcard.
    pub listener: SocketAddr,
    /// Channel number, 0x4000 to 0x4FFF.
    pub channel: u16,
    /// The relayed transport address.
    pub relay: SocketAddr,
    /// The relay port's socket.
    pub port: PortId,
    /// The peer's transport address.
    pub peer: SocketAddr,
    /// Not forwarded at or after this time, CLOCK_MONOTONIC since boot.
    pub expires: Duration,
    /// The peer is a live relayed address of our own.
    pub inner: bool,
}

/// A UDP client's relayed transport address: what its Send indications leave from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// The client's transport address.
    pub client: SocketAddr,
    /// The listening address that it sends to, as on the wire: never a wildcard.
    pub listener: SocketAddr,
    /// The relayed transport address.
    pub relay: SocketAddr,
    /// The relay port's socket.
    pub port: PortId,
}

/// A UDP client's permission: datagrams to and from all ports of the peer's address go through the
/// relayed address, in Send and Data indications (RFC 8656 section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The client's transport address.
    pub client: SocketAddr,
    /// The listening address that it sends to, as on the wire: never a wildcard.
    pub listener: SocketAddr,
    /// The relayed transport address.
    pub relay: SocketAddr,
    /// The peer's address. Not one of this host: whether a datagram may go there depends on its
    /// port, which the control thread knows.
    pub peer: IpAddr,
    /// Nothing is forwarded at or after this time, CLOCK_MONOTONIC since boot.
    pub expires: Duration,
}

/// The next hops of a permission's two ends, by their indexes in the table that the kernel program and
/// the AF_XDP tier share; 0 for none, so by sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PermissionHops {
    /// From the relayed address to the peer.
    pub to_peer: u16,
    /// From the listening address to the client.
    pub to_client: u16,
}

/// What the IP header says of a datagram that goes on to a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpFields {
    /// DF is set: a Send indication asked for it (RFC 8656 section 14).
    pub dont_fragment: bool,
    /// TTL, a hop less than it came with, and DSCP and ECN as they came (RFC 8656 section 14); the
    /// host's own where absent. A TTL of 0 never leaves.
    pub marks: Option<Marks>,
}

/// Something from outside for the control thread.
#[derive(Debug)]
pub enum Event<'a> {
    /// A message from a client: STUN, or ChannelData for which there is no route. A datagram; over
    /// DTLS one record; over TCP and TLS one message, ChannelData without its padding.
    Client {
        /// The worker or session thread that the client reached, which also answers it.
        worker: usize,
        /// How the client reaches us.
        transport: Transport,
        /// The address of ours that it was sent to.
        local: SocketAddr,
        /// The client's transport address.
        remote: SocketAddr,
        /// What it leaves with if it goes on to a peer; nothing where it came over TCP, TLS or DTLS.
        marks: Option<Marks>,
        /// Payload.
        bytes: &'a [u8],
    },
    /// The connection of a TCP or TLS client, or the association of a DTLS client, has ended. Said
    /// once, for each that an [`Event::Client`] was told of, and never before the last of those.
    Gone {
        /// The session thread that served it.
        worker: usize,
        /// How it reached us.
        transport: Transport,
        /// The address of ours that it sent to.
        local: SocketAddr,
        /// The client's transport address.
        remote: SocketAddr,
    },
    /// A datagram from a peer to an open relay port, for which there is no route.
    Peer {
        /// The relay port; [`PortId::NOBODY`] for what came by AF_XDP, where the address tells.
        port: PortId,
        /// The relayed transport address.
        relay: SocketAddr,
        /// The peer's transport address.
        peer: SocketAddr,
        /// What it leaves with if it goes on to a client over UDP; nothing where a session thread has
        /// the port.
        marks: Option<Marks>,
        /// Payload.
        bytes: &'a [u8],
    },
    /// An ICMP error for a datagram that a relay port had sent, by whichever tier: type 3 or 11 of
    /// ICMP, 1, 2 or 3 of ICMPv6 (RFC 8656 section 11.5). At most
    /// [`UNREACHABLE_PER_SECOND`](crate::UNREACHABLE_PER_SECOND) of each worker.
    Unreachable {
        /// The relay port.
        port: PortId,
        /// The relayed transport address.
        relay: SocketAddr,
        /// The peer that the datagram was sent to.
        peer: SocketAddr,
        /// Type, of ICMP or of ICMPv6 by the family of the two addresses.
        kind: u8,
        /// Code.
        code: u8,
        /// The next hop's MTU in bytes for "fragmentation needed" and "packet too big", else 0.
        data: u32,
    },
}

/// The route table has no room for a further channel. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the route table is full")]
pub struct TableFull;
