//! A datagram from the server, taken apart.

use std::net::SocketAddr;
use std::time::Duration;

use super::transaction::Transaction;
use super::{Allocated, Event, Failure, Ignored, Received, Request, TurnClient};
use crate::attribute::{Code, Malformed};
use crate::message::{ChannelData, Class, Message, Method, is_channel_data};

/// How often a request may be challenged before the client gives in.
const CHALLENGES_MAX: u32 = 4;

impl TurnClient {
    /// Takes a datagram from the server. Data comes back borrowed; a response leads to an event
    /// or to a request that is sent again.
    pub fn receive<'a>(&mut self, now: Duration, bytes: &'a [u8]) -> Received<'a> {
        if is_channel_data(bytes) {
            return self.receive_channel_data(bytes);
        }
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(error) => return Received::Ignored(Ignored::Parse(error)),
        };
        match (message.class(), message.method()) {
            (Class::Indication, Method::DATA) => {
                data(&message).unwrap_or(Received::Ignored(Ignored::Data))
            }
            (Class::Indication, Method::CONNECTION_ATTEMPT) => {
                attempt(&message).unwrap_or(Received::Ignored(Ignored::Data))
            }
            (Class::Success | Class::Error, _) => self.receive_response(now, &message),
            _ => Received::Ignored(Ignored::Unexpected),
        }
    }

    fn receive_channel_data<'a>(&self, bytes: &'a [u8]) -> Received<'a> {
        let found = ChannelData::parse(bytes).and_then(|ChannelData { channel, data }| {
            let peer = self.channels.peer_of(channel)?;
            Some(Received::ChannelData { channel, peer, data })
        });
        found.unwrap_or(Received::Ignored(Ignored::Channel))
    }

    fn receive_response<'a>(&mut self, now: Duration, message: &Message<'_>) -> Received<'a> {
        let is_of = |transaction: &Transaction| {
            transaction.id == message.transaction()
                && transaction.request().method() == message.method()
        };
        let Some(at) = self.transactions.iter().position(is_of) else {
            return Received::Ignored(Ignored::Transaction);
        };
        let error = match message.class() {
            Class::Error => Some(message.error_code()),
            _ => None,
        };
        let code = error.and_then(|error| error.ok().flatten()).map(|error| error.code);
        let challenge = matches!(code, Some(Code::UNAUTHENTICATED | Code::STALE_NONCE));
        let trusted = challenge || (code.is_some() && self.settings.trust_unsigned_errors);
        if self.transactions[at].signed && !trusted && self.session.verify(message).is_err() {
            self.transactions[at].violated = true;
            return Received::Ignored(Ignored::Integrity);
        }
        let transaction = self.transactions.swap_remove(at);
        let (challenges, signed) = (transaction.challenges, transaction.signed);
        let request = self.recycle(transaction);
        match (message.class(), code) {
            (Class::Success, _) => self.succeed(request, message),
            (_, Some(code)) if challenge && self.may_retry(code, challenges, signed, message) => {
                match self.session.challenge(message, &self.settings) {
                    Ok(()) => {
                        self.start(now, request, challenges + 1);
                    }
                    Err(why) => self.fail(request, why),
                }
            }
            (_, Some(code)) => self.refuse(request, code, message),
            (_, None) => self.fail(request, Failure::Response("an error without ERROR-CODE")),
        }
        Received::Response
    }

    /// A 438 is answered with the new nonce; a 401 only if the request was not signed, or for
    /// another realm (RFC 8489 section 9.2.5).
    fn may_retry(&self, code: Code, challenges: u32, signed: bool, message: &Message<'_>) -> bool {
        let other_realm = || message.realm().ok().flatten() != self.session.realm();
        challenges < CHALLENGES_MAX && (code == Code::STALE_NONCE || !signed || other_realm())
    }

    fn refuse(&mut self, request: Request, code: Code, message: &Message<'_>) {
        if request.is_delete() && code == Code::ALLOCATION_MISMATCH {
            // It is gone already (RFC 8656 section 8.3).
            self.channels.clear();
            self.events.push_back(Event::Deleted);
            return;
        }
        let alternate_server = message.alternate_server().ok().flatten();
        self.fail(request, Failure::Error { code, alternate_server });
    }

    fn succeed(&mut self, request: Request, message: &Message<'_>) {
        let event = match &request {
            Request::Binding => mapped(message),
            Request::Allocate(_) => allocated(message),
            Request::Refresh { .. } if request.is_delete() => {
                self.channels.clear();
                Ok(Event::Deleted)
            }
            Request::Refresh { .. } => {
                lifetime(message).map(|lifetime_secs| Event::Refreshed { lifetime_secs })
            }
            Request::CreatePermission { peers } => Ok(Event::Permitted { peers: peers.clone() }),
            &Request::ChannelBind { channel, peer } => {
                self.channels.confirm(channel, peer);
                Ok(Event::Bound { channel, peer })
            }
            Request::Move { lifetime_secs: Some(0), .. } => {
                self.channels.clear();
                Ok(Event::Deleted)
            }
            Request::Move { .. } => moved(message),
            &Request::Connect { peer } => connected(message, peer),
            &Request::ConnectionBind { connection } => Ok(Event::Joined { connection }),
            Request::Discover(_) => discovered(message),
        };
        match event {
            Ok(event) => self.events.push_back(event),
            Err(why) => self.fail(request, why),
        }
    }
}

fn data<'a>(message: &Message<'a>) -> Option<Received<'a>> {
    let peer = message.xor_peer_address().ok()??;
    match message.icmp().ok()? {
        Some(icmp) => Some(Received::Icmp { peer, icmp }),
        None => Some(Received::Data { peer, data: message.data()? }),
    }
}

fn attempt<'a>(message: &Message<'_>) -> Option<Received<'a>> {
    let (peer, connection) = (message.xor_peer_address().ok()??, message.connection_id().ok()??);
    Some(Received::ConnectionAttempt { peer, connection })
}

/// A value that a success response must have.
fn required<T>(value: Result<Option<T>, Malformed>, missing: &'static str) -> Result<T, Failure> {
    value.map_err(Failure::Malformed)?.ok_or(Failure::Response(missing))
}

fn mapped(message: &Message<'_>) -> Result<Event, Failure> {
    let missing = "a success response without XOR-MAPPED-ADDRESS";
    required(message.xor_mapped_address(), missing).map(Event::Mapped)
}

fn discovered(message: &Message<'_>) -> Result<Event, Failure> {
    let missing = "a success response without XOR-MAPPED-ADDRESS";
    Ok(Event::Discovered {
        mapped: required(message.xor_mapped_address(), missing)?,
        origin: message.response_origin().map_err(Failure::Malformed)?,
        other: message.other_address().map_err(Failure::Malformed)?,
    })
}

fn moved(message: &Message<'_>) -> Result<Event, Failure> {
    let ticket = message.mobility_ticket();
    let ticket = ticket.ok_or(Failure::Response("a success response without MOBILITY-TICKET"))?;
    Ok(Event::Moved { lifetime_secs: lifetime(message)?, ticket: ticket.to_vec() })
}

fn connected(message: &Message<'_>, peer: SocketAddr) -> Result<Event, Failure> {
    let missing = "a success response without CONNECTION-ID";
    let connection = required(message.connection_id(), missing)?;
    Ok(Event::Connected { peer, connection })
}

fn lifetime(message: &Message<'_>) -> Result<u32, Failure> {
    required(message.lifetime_secs(), "a success response without LIFETIME")
}

fn allocated(message: &Message<'_>) -> Result<Event, Failure> {
    let relayed: Result<Vec<_>, _> = message.xor_relayed_addresses().collect();
    let relayed = relayed.map_err(Failure::Malformed)?;
    if relayed.is_empty() {
        return Err(Failure::Response("a success response without XOR-RELAYED-ADDRESS"));
    }
    let missing = "a success response without XOR-MAPPED-ADDRESS";
    let mapped = required(message.xor_mapped_address(), missing)?;
    let reservation_token = message.reservation_token().map_err(Failure::Malformed)?;
    let address_error = message.address_error_code().map_err(Failure::Malformed)?;
    Ok(Event::Allocated(Allocated {
        relayed,
        mapped,
        lifetime_secs: lifetime(message)?,
        reservation_token,
        ticket: message.mobility_ticket().map(<[u8]>::to_vec),
        address_error: address_error.map(|error| (error.family, error.code)),
    }))
}
