//! What a client tells its caller.

use std::net::SocketAddr;

use super::Request;
use crate::attribute::ChannelNumber;
use crate::attribute::{Code, Family, Icmp, Malformed};
use crate::message::{BuildError, ParseError};

/// What an Allocate brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocated {
    /// The relayed transport addresses: one, or two of different families.
    pub relayed: Vec<SocketAddr>,
    /// The client's address as the server sees it.
    pub mapped: SocketAddr,
    /// Seconds until it expires.
    pub lifetime_secs: u32,
    /// The reserved next higher port.
    pub reservation_token: Option<[u8; 8]>,
    /// The additional family that was not allocated, and why.
    pub address_error: Option<(Family, Code)>,
    /// MOBILITY-TICKET, if one was asked for.
    pub ticket: Option<Vec<u8>>,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server answered a Binding request.
    Mapped(SocketAddr),
    /// There is an allocation.
    Allocated(Allocated),
    /// The allocation lives for so many seconds more.
    Refreshed {
        /// Seconds until it expires.
        lifetime_secs: u32,
    },
    /// There is no allocation any more.
    Deleted,
    /// These peers may send.
    Permitted {
        /// As requested.
        peers: Vec<SocketAddr>,
    },
    /// The channel is bound, or bound for longer.
    Bound {
        /// The channel.
        channel: ChannelNumber,
        /// Its peer.
        peer: SocketAddr,
    },
    /// The allocation goes with the client to this five-tuple (RFC 8016). The old one receives until
    /// data is sent from here.
    Moved {
        /// Seconds until it expires.
        lifetime_secs: u32,
        /// For the next time: the old one is used up.
        ticket: Vec<u8>,
    },
    /// There is a TCP connection to a peer (RFC 6062): bind it within 30 s.
    Connected {
        /// The peer.
        peer: SocketAddr,
        /// Its CONNECTION-ID.
        connection: u32,
    },
    /// This connection carries a peer's bytes from here on, and no STUN.
    Joined {
        /// Its CONNECTION-ID.
        connection: u32,
    },
    /// The answer to [`Request::Discover`].
    Discovered {
        /// The client's address as the server sees it.
        mapped: SocketAddr,
        /// RESPONSE-ORIGIN: where the answer came from.
        origin: Option<SocketAddr>,
        /// OTHER-ADDRESS: the server's other address and port.
        other: Option<SocketAddr>,
    },
    /// It was not to be.
    Failed {
        /// What was asked for.
        request: Request,
        /// Why not.
        why: Failure,
    },
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server's error response.
    Error {
        /// The code.
        code: Code,
        /// ALTERNATE-SERVER of a 300.
        alternate_server: Option<SocketAddr>,
    },
    /// No answer.
    Timeout,
    /// Only answers that were not authentic (RFC 8489 section 9.2.5).
    Integrity,
    /// An authentic answer without something that it must have.
    Response(&'static str),
    /// An authentic answer with a malformed attribute.
    Malformed(Malformed),
    /// The server offers no password algorithm that the client supports, or announces
    /// PASSWORD-ALGORITHMS without sending it: somebody may have bid it down.
    Algorithms,
    /// The request could not be written.
    Build(BuildError),
}

/// What a datagram from the server was.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// ChannelData on a bound channel.
    ChannelData {
        /// The channel.
        channel: ChannelNumber,
        /// Its peer.
        peer: SocketAddr,
        /// The peer's datagram.
        data: &'a [u8],
    },
    /// A Data indication.
    Data {
        /// Who sent it.
        peer: SocketAddr,
        /// The peer's datagram.
        data: &'a [u8],
    },
    /// A Data indication with ICMP: a datagram to this peer was dropped.
    Icmp {
        /// The peer.
        peer: SocketAddr,
        /// Why.
        icmp: Icmp,
    },
    /// A peer has connected by TCP (RFC 6062): bind it within 30 s.
    ConnectionAttempt {
        /// The peer.
        peer: SocketAddr,
        /// Its CONNECTION-ID.
        connection: u32,
    },
    /// A response: ask [`super::TurnClient::poll_event`] and
    /// [`super::TurnClient::poll_transmit`].
    Response,
    /// Nothing to this client.
    Ignored(Ignored),
}

/// Why a datagram was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// Neither STUN nor ChannelData.
    Parse(ParseError),
    /// ChannelData with a wrong length, or on a channel that is not bound.
    Channel,
    /// A response to no request of this client's that is under way.
    Transaction,
    /// A response that is not authentic; the request goes on.
    Integrity,
    /// A request, or an indication other than Data.
    Unexpected,
    /// A Data indication without a peer or data, or with a malformed one.
    Data,
}
