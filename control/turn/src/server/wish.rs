//! What an Allocate request asks for, checked in the order of RFC 8656 section 7.2.

use crate::attribute::{AttributeType, Family, Fault, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::message::Message;
use crate::ports::Wanted;
use crate::stats::Reason;

/// The transport of a relayed address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Udp,
    Tcp,
}

/// A well-formed wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) protocol: Protocol,
    pub(super) place: Place,
    /// LIFETIME in seconds, if there is one.
    pub(super) lifetime_secs: Option<u32>,
    /// Whether a MOBILITY-TICKET is asked for.
    pub(super) mobile: bool,
}

/// Which relayed addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The port held for this token.
    Reserved([u8; 8]),
    /// One of this family.
    One(Family, Wanted),
    /// One of each family, or one of either and the reason why not the other.
    Both(Wanted),
}

impl Wish {
    /// `tcp`: whether there are TCP allocations, and whether this client can have one; `has`:
    /// whether there are relay addresses of a family.
    pub(super) fn of(
        message: &Message<'_>,
        tcp: (bool, bool),
        has: impl Fn(Family) -> bool,
    ) -> Result<Self, Reason> {
        let protocol = match (message.requested_transport()?, tcp) {
            (None, _) => return Err(Reason::MissingAttribute),
            (Some(PROTOCOL_UDP), _) => Protocol::Udp,
            (Some(PROTOCOL_TCP), (true, true)) => Protocol::Tcp,
            (Some(PROTOCOL_TCP), (true, false)) => return Err(Reason::NotAStream),
            (Some(_), _) => return Err(Reason::UnsupportedTransport),
        };
        let dont_fragment = message.dont_fragment()?;
        if protocol == Protocol::Tcp {
            let even_port = message.even_port()?.is_some();
            if dont_fragment || even_port || message.reservation_token()?.is_some() {
                return Err(Reason::ConflictingAttributes);
            }
        }
        let requested = message.has(AttributeType::REQUESTED_ADDRESS_FAMILY);
        let additional = message.has(AttributeType::ADDITIONAL_ADDRESS_FAMILY);
        let place = if let Some(token) = message.reservation_token()? {
            if requested || additional || message.has(AttributeType::EVEN_PORT) {
                return Err(Reason::ConflictingAttributes);
            }
            Place::Reserved(token)
        } else if requested && additional {
            return Err(Reason::ConflictingAttributes);
        } else if additional {
            Self::both(message, has)?
        } else {
            Self::one(message, has)?
        };
        let lifetime_secs = message.lifetime_secs()?;
        let mobile = match message.mobility_ticket() {
            None => false,
            Some([]) => true,
            // RFC 8016 section 3.1.2.
            Some(_) => return Err(Reason::BadTicket),
        };
        Ok(Self { protocol, place, lifetime_secs, mobile })
    }

    fn one(message: &Message<'_>, has: impl Fn(Family) -> bool) -> Result<Place, Reason> {
        let family = match message.requested_address_family() {
            Ok(family) => family.unwrap_or(Family::V4),
            Err(malformed) if matches!(malformed.fault, Fault::Family(_)) => {
                return Err(Reason::FamilyUnsupported);
            }
            Err(malformed) => return Err(malformed.into()),
        };
        if !has(family) {
            return Err(Reason::FamilyUnsupported);
        }
        let wanted = match message.even_port()? {
            None => Wanted::Any,
            Some(false) => Wanted::Even,
            Some(true) => Wanted::Pair,
        };
        Ok(Place::One(family, wanted))
    }

    fn both(message: &Message<'_>, has: impl Fn(Family) -> bool) -> Result<Place, Reason> {
        if !has(Family::V4) && !has(Family::V6) {
            return Err(Reason::FamilyUnsupported);
        }
        let wanted = match message.even_port()? {
            None => Wanted::Any,
            Some(false) => Wanted::Even,
            Some(true) => return Err(Reason::ConflictingAttributes),
        };
        match message.additional_address_family() {
            Ok(Some(Family::V6)) => Ok(Place::Both(wanted)),
            _ => Err(Reason::MalformedAttribute),
        }
    }
}
