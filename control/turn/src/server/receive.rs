//! A client's datagram: what it is, and who takes it.

use std::net::{IpAddr, SocketAddr};

use super::{Ask, Sender, Server};
use crate::attribute::Malformed;
use crate::message::{Class, Message, Method, ParseError, is_channel_data};
use crate::outbox::{Now, Outbox, Transport};
use crate::stats::{Reason, Request};

/// A known attribute that breaks its format.
impl From<Malformed> for Reason {
    fn from(_: Malformed) -> Self {
        Reason::MalformedAttribute
    }
}

impl Server {
    /// `Err`: nothing was sent, for this reason.
    pub(super) fn client_datagram(
        &mut self,
        now: Now,
        sender: Sender,
        bytes: &[u8],
        outbox: &mut dyn Outbox,
    ) -> Result<(), Reason> {
        self.check_source(sender.client.remote, sender.client.transport)?;
        if self.is_data_connection(&sender.client) {
            return Err(Reason::DataConnection);
        }
        if is_channel_data(bytes) {
            return self.channel_data(now.monotonic, &sender.client, bytes, outbox);
        }
        let message = Message::parse(bytes).map_err(|error| match error {
            ParseError::Short(_) | ParseError::NotStun | ParseError::Cookie => Reason::NotStun,
            ParseError::Fingerprint => Reason::BadFingerprint,
            _ => Reason::Malformed,
        })?;
        match (message.class(), message.method()) {
            (Class::Request, method) => {
                let kind = Request::of(method).ok_or(Reason::UnknownMethod)?;
                self.request(now, sender, kind, &message, outbox)
            }
            (Class::Indication, Method::SEND) => {
                self.send_indication(now.monotonic, &sender.client, &message, outbox)
            }
            (Class::Indication, Method::BINDING) => Err(Reason::Keepalive),
            (Class::Indication, _) => Err(Reason::UnknownMethod),
            (Class::Success | Class::Error, _) => Err(Reason::Response),
        }
    }

    /// Nobody is answered who could not have sent the datagram, nor we ourselves: an answer to one
    /// of our own addresses may loop. A client on a relay address of ours may well have the port of
    /// a relayed address of the other protocol.
    pub(super) fn check_source(
        &self,
        source: SocketAddr,
        transport: Transport,
    ) -> Result<(), Reason> {
        if source.port() == 0 {
            return Err(Reason::SourcePort);
        }
        let unicast = match source.ip().to_canonical() {
            // 0/8, multicast, and all above it.
            IpAddr::V4(v4) => (1..224).contains(&v4.octets()[0]),
            IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
        };
        if !unicast {
            return Err(Reason::SourceAddress);
        }
        let local = self.local_form(source);
        let relays = match transport {
            Transport::Udp | Transport::Dtls => self.own.is_relayed(local),
            Transport::Tcp | Transport::Tls => self.own.is_listening(local),
        };
        if relays || self.own.is_service(local) {
            return Err(Reason::SourceOwn);
        }
        Ok(())
    }

    fn request(
        &mut self,
        now: Now,
        sender: Sender,
        kind: Request,
        message: &Message<'_>,
        outbox: &mut dyn Outbox,
    ) -> Result<(), Reason> {
        self.stats.requests[kind as usize] += 1;
        if kind == Request::Binding {
            return self.binding(now, sender, message, outbox);
        }
        let signer = match self.authenticate(now, &sender.client, message) {
            Ok(signer) => signer,
            Err(reason) => {
                let moves_on = reason == Reason::NoIntegrity
                    && kind == Request::Allocate
                    && self.redirects_strangers(&sender.client);
                let reason = if moves_on { Reason::Redirected } else { reason };
                return self.refuse_stranger(now, sender, message, reason, outbox);
            }
        };
        let ask = Ask { now: now.monotonic, unix: now.unix, sender, message, signer: &signer };
        let done = match kind {
            _ if self.unknown_attributes(&ask.sender.client, message).next().is_some() => {
                Err(Reason::UnknownAttribute)
            }
            Request::Allocate => self.allocate(&ask, outbox),
            Request::Refresh => self.refresh(&ask, outbox),
            Request::CreatePermission => self.create_permission(&ask, outbox),
            Request::ChannelBind => self.channel_bind(&ask, outbox),
            Request::Connect => self.connect(&ask, outbox),
            Request::ConnectionBind => self.connection_bind(&ask, outbox),
            // Answered above; it needs no authentication.
            Request::Binding => Ok(()),
        };
        if let Err(reason) = done {
            self.refuse(&ask, reason, outbox);
        }
        Ok(())
    }

    /// The slot of the asker's own allocation, with nothing expired in it: 437 without one, 441 when
    /// it is another user's (RFC 8656 section 5).
    pub(super) fn owned(&mut self, ask: &Ask<'_>, outbox: &mut dyn Outbox) -> Result<u32, Reason> {
        let client = &ask.sender.client;
        if let Some(slot) = self.allocations.slot_of(client) {
            self.tend(slot, ask.now, outbox);
        }
        let slot = self.allocations.slot_of(client).ok_or(Reason::NoAllocation)?;
        let allocation = self.allocations.get(slot).ok_or(Reason::NoAllocation)?;
        if allocation.account.username() != ask.signer.account.username() {
            return Err(Reason::WrongUser);
        }
        self.arrive(client, ask.now, outbox)?;
        Ok(slot)
    }

    /// An address as this host has it: one that we advertise for ours becomes ours. Where several
    /// of ours share it, the one that is relayed at this port.
    pub(super) fn local_form(&self, address: SocketAddr) -> SocketAddr {
        let locals = || {
            let at_port = |ip| SocketAddr::new(ip, address.port());
            self.relays.locals(address.ip()).map(at_port)
        };
        locals().find(|&local| self.is_live_relay(local)).or(locals().next()).unwrap_or(address)
    }

    /// Whether this is a relayed transport address of somebody's, by UDP or TCP.
    fn is_live_relay(&self, local: SocketAddr) -> bool {
        self.own.is_relayed(local) || self.own.is_listening(local)
    }
}
