//! NAT behaviour discovery (RFC 5780): Binding answered from another address or port, to another
//! port, or padded.
//!
//! ```text
//!              ports      0    1
//!  addresses 0            Da:Dp ──change port──> Da:Cp
//!            1            Ca:Dp                  Ca:Cp = OTHER-ADDRESS
//! ```
//!
//! Such answers reach whom the request has not shown to be there, and are three times its size: so
//! they are counted out (RULES: amplification). Without budget a plain Binding is answered plainly,
//! and the rest is not.

use std::net::SocketAddr;

use super::{Sender, Server};
use crate::attribute::{AttributeType, ChangeRequest, Malformed};
use crate::config::NatDiscovery;
use crate::message::{Builder, Class, Message};
use crate::outbox::{Client, Now, Outbox, Transport};
use crate::stats::{Reason, Request};

/// The attributes that ask for something of this.
pub(super) const ASKING: [AttributeType; 3] =
    [AttributeType::CHANGE_REQUEST, AttributeType::RESPONSE_PORT, AttributeType::PADDING];

/// The longest PADDING that is answered with: the MTU of an Ethernet.
const PADDING_MAX: usize = 1500;

/// One of the four listeners, as indexes into a [`NatDiscovery`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    nat: NatDiscovery,
    address: usize,
    port: usize,
}

/// What a Binding request asks for.
struct Wanted {
    change: ChangeRequest,
    response_port: Option<u16>,
    padding: Option<usize>,
}

impl Wanted {
    fn of(message: &Message<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            change: message.change_request()?.unwrap_or_default(),
            response_port: message.response_port()?,
            padding: message.padding().map(<[u8]>::len),
        })
    }

    fn is_plain(&self) -> bool {
        self.change == ChangeRequest::default()
            && self.response_port.is_none()
            && self.padding.is_none()
    }
}

impl Place {
    fn local(&self, change: ChangeRequest) -> SocketAddr {
        let (address, port) = self.changed(change);
        SocketAddr::new(self.nat.addresses[address].local, self.nat.ports[port])
    }

    /// As clients see it.
    fn advertised(&self, change: ChangeRequest) -> SocketAddr {
        let (address, port) = self.changed(change);
        SocketAddr::new(self.nat.addresses[address].advertised, self.nat.ports[port])
    }

    fn changed(&self, change: ChangeRequest) -> (usize, usize) {
        (self.address ^ usize::from(change.ip), self.port ^ usize::from(change.port))
    }
}

impl Server {
    /// Where in a discovery's addresses a client has sent to.
    pub(super) fn place_of(&self, client: &Client) -> Option<Place> {
        self.discovery.iter().find_map(|nat| {
            let address = nat.addresses.iter().position(|a| a.local == client.local.ip())?;
            let port = nat.ports.iter().position(|&port| port == client.local.port())?;
            Some(Place { nat: *nat, address, port })
        })
    }

    /// Whether a client may ask for another source, port, or padding: a connection has but one.
    pub(super) fn may_discover(&self, client: &Client) -> bool {
        client.transport == Transport::Udp && self.place_of(client).is_some()
    }

    /// Answers a Binding request on one of the four listeners.
    pub(super) fn discover(
        &mut self,
        now: Now,
        sender: Sender,
        message: &Message<'_>,
        place: Place,
        outbox: &mut dyn Outbox,
    ) -> Result<(), Reason> {
        let wanted = match Wanted::of(message) {
            Ok(Wanted { response_port: Some(_), padding: Some(_), .. }) => {
                let reason = Reason::ConflictingAttributes;
                return self.refuse_stranger(now, sender, message, reason, outbox);
            }
            Ok(Wanted { response_port: Some(0), .. }) | Err(_) => {
                let reason = Reason::MalformedAttribute;
                return self.refuse_stranger(now, sender, message, reason, outbox);
            }
            Ok(wanted) => wanted,
        };
        let mut remote = sender.client.remote;
        if let Some(port) = wanted.response_port {
            remote.set_port(port);
            // No better a target than a source.
            self.check_source(remote, sender.client.transport)?;
        }
        let budget = self.discovery_budgets.spend(remote.ip(), now.monotonic);
        if let Err(exhausted) = budget {
            return if wanted.is_plain() {
                self.answer_binding(sender, message, outbox);
                Ok(())
            } else {
                Err(exhausted.into())
            };
        }
        let other = ChangeRequest { ip: true, port: true };
        let client = Client { remote, local: place.local(wanted.change), ..sender.client };
        let mut reply = Builder::reply(&mut self.out, message, Class::Success);
        reply.xor_mapped_address(sender.client.remote).mapped_address(sender.client.remote);
        reply.response_origin(place.advertised(wanted.change));
        reply.other_address(place.advertised(other));
        if let Some(len) = wanted.padding {
            // No longer than what came: the answer is not much larger than its request.
            reply.padding(len.min(PADDING_MAX).next_multiple_of(4));
        }
        if let Ok(bytes) = reply.finish() {
            outbox.to_client(&client, sender.origin, bytes);
        }
        self.stats.successes[Request::Binding as usize] += 1;
        Ok(())
    }
}
