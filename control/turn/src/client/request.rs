//! What a client can ask for, and how it is written.

use std::net::SocketAddr;

use crate::attribute::ChannelNumber;
use crate::attribute::{Family, PROTOCOL_UDP};
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
        }
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
}

impl Request {
    /// A Refresh that deletes the allocation.
    pub const fn delete() -> Request {
        Request::Refresh { lifetime_secs: Some(0), family: None }
    }

    /// The STUN method.
    pub const fn method(&self) -> Method {
        match self {
            Request::Binding => Method::BINDING,
            Request::Allocate(_) => Method::ALLOCATE,
            Request::Refresh { .. } => Method::REFRESH,
            Request::CreatePermission { .. } => Method::CREATE_PERMISSION,
            Request::ChannelBind { .. } => Method::CHANNEL_BIND,
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
        }
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
    }
}
