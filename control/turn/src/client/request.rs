//! What a client can ask for, and how it is written.

use std::net::SocketAddr;

use crate::attribute::ChannelNumber;
use crate::attribute::{ChangeRequest, Family, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::message::{Builder, Method};

/// The attributes of an Allocate request (RFC 8656 section 7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocate {
    /// REQUESTED-TRANSPORT; `None` leaves it out, which is an error.
    pub transport: Option<u8>,
    /// REQUESTED-ADDRESS-FAMILY.
    pub family: Option<Family>,
    /// ADDITIONAL-ADDRESS-FAMILY.
    pub additional_family: Option<Family>,
    /// EVEN-PORT and its R bit.
    pub even_port: Option<bool>,
    /// RESERVATION-TOKEN.
    pub reservation_token: Option<[u8; 8]>,
    /// DONT-FRAGMENT.
    pub dont_fragment: bool,
    /// LIFETIME in seconds.
    pub lifetime_secs: Option<u32>,
    /// Ask for a MOBILITY-TICKET (RFC 8016).
    pub mobile: bool,
}

impl Default for Allocate {
    /// UDP, and the rest as the server likes.
    fn default() -> Allocate {
        Allocate {
            transport: Some(PROTOCOL_UDP),
            family: None,
            additional_family: None,
            even_port: None,
            reservation_token: None,
            dont_fragment: false,
            lifetime_secs: None,
            mobile: false,
        }
    }
}

impl Allocate {
    /// TCP towards peers (RFC 6062); the client itself must use TCP or TLS.
    pub fn tcp() -> Allocate {
        Allocate { transport: Some(PROTOCOL_TCP), ..Allocate::default() }
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// What is my address?
    Binding,
    /// Create an allocation.
    Allocate(Allocate),
    /// Keep the allocation; 0 seconds delete it.
    Refresh {
        /// LIFETIME in seconds; `None` leaves it to the server.
        lifetime_secs: Option<u32>,
        /// REQUESTED-ADDRESS-FAMILY: of a dual allocation, only this one.
        family: Option<Family>,
    },
    /// Let these peers send, for 300 s.
    CreatePermission {
        /// The ports do not count.
        peers: Vec<SocketAddr>,
    },
    /// Bind a channel, for 600 s.
    ChannelBind {
        /// The channel.
        channel: ChannelNumber,
        /// The peer.
        peer: SocketAddr,
    },
    /// Take an allocation along to the five-tuple that this is sent from (RFC 8016).
    Move {
        /// The newest one: [`super::Allocated::ticket`], [`super::Event::Moved`].
        ticket: Vec<u8>,
        /// LIFETIME in seconds; `None` leaves it to the server.
        lifetime_secs: Option<u32>,
    },
    /// Connect to a peer by TCP (RFC 6062).
    Connect {
        /// The peer.
        peer: SocketAddr,
    },
    /// Join the connection that this is sent on with a peer's (RFC 6062).
    ConnectionBind {
        /// CONNECTION-ID.
        connection: u32,
    },
    /// What is my address, and how does my NAT behave (RFC 5780)?
    Discover(Discover),
}

/// The attributes of a Binding request that looks into a NAT's behaviour (RFC 5780).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discover {
    /// CHANGE-REQUEST; without a flag it is left out. The answer then comes from elsewhere, and is
    /// to be given to [`super::TurnClient::receive`] all the same.
    pub change: ChangeRequest,
    /// RESPONSE-PORT: where the answer is to go.
    pub response_port: Option<u16>,
    /// PADDING of so many bytes.
    pub padding: Option<usize>,
}

impl Request {
    /// A Refresh that deletes the allocation.
    pub const fn delete() -> Request {
        Request::Refresh { lifetime_secs: Some(0), family: None }
    }

    /// The STUN method.
    pub const fn method(&self) -> Method {
        match self {
            Request::Binding | Request::Discover(_) => Method::BINDING,
            Request::Allocate(_) => Method::ALLOCATE,
            Request::Refresh { .. } | Request::Move { .. } => Method::REFRESH,
            Request::CreatePermission { .. } => Method::CREATE_PERMISSION,
            Request::ChannelBind { .. } => Method::CHANNEL_BIND,
            Request::Connect { .. } => Method::CONNECT,
            Request::ConnectionBind { .. } => Method::CONNECTION_BIND,
        }
    }

    /// Whether this is the whole allocation's end.
    pub(super) const fn is_delete(&self) -> bool {
        matches!(self, Request::Refresh { lifetime_secs: Some(0), family: None })
    }

    pub(super) fn write(&self, builder: &mut Builder<'_>) {
        match self {
            Request::Binding => {}
            Request::Allocate(allocate) => allocate.write(builder),
            Request::Refresh { lifetime_secs, family } => {
                lifetime_secs.map(|secs| builder.lifetime_secs(secs));
                family.map(|family| builder.requested_address_family(family));
            }
            Request::CreatePermission { peers } => {
                for &peer in peers {
                    builder.xor_peer_address(peer);
                }
            }
            Request::ChannelBind { channel, peer } => {
                builder.channel_number(*channel).xor_peer_address(*peer);
            }
            Request::Move { ticket, lifetime_secs } => {
                lifetime_secs.map(|secs| builder.lifetime_secs(secs));
                builder.mobility_ticket(ticket);
            }
            Request::Connect { peer } => drop_chain(builder.xor_peer_address(*peer)),
            Request::ConnectionBind { connection } => {
                drop_chain(builder.connection_id(*connection));
            }
            Request::Discover(discover) => discover.write(builder),
        }
    }
}

/// The end of a chain of writers.
fn drop_chain(_: &mut Builder<'_>) {}

impl Discover {
    fn write(&self, builder: &mut Builder<'_>) {
        if self.change != ChangeRequest::default() {
            builder.change_request(self.change);
        }
        self.response_port.map(|port| builder.response_port(port));
        self.padding.map(|len| builder.padding(len));
    }
}

impl Allocate {
    fn write(&self, builder: &mut Builder<'_>) {
        self.transport.map(|protocol| builder.requested_transport(protocol));
        self.lifetime_secs.map(|secs| builder.lifetime_secs(secs));
        self.family.map(|family| builder.requested_address_family(family));
        self.additional_family.map(|family| builder.additional_address_family(family));
        self.even_port.map(|reserve_next| builder.even_port(reserve_next));
        self.reservation_token.map(|token| builder.reservation_token(&token));
        if self.dont_fragment {
            builder.dont_fragment();
        }
        if self.mobile {
            builder.mobility_ticket(&[]);
        }
    }
}
