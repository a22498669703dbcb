//! Allocate (RFC 8656 section 7.2).

use std::net::SocketAddr;
use std::time::Duration;

use super::wish::{Place, Protocol, Wish};
use super::{Ask, Server};
use crate::allocation::{Allocation, Leg};
use crate::attribute::{Code, Family};
use crate::limits::{Bucket, prefix_of};
use crate::outbox::{Outbox, PortRefusal};
use crate::ports::Wanted;
use crate::stats::{Reason, Request};

/// How many ports are tried that someone else on this host turns out to hold.
const OPEN_TRIES: usize = 16;

/// What an Allocate request was given.
#[derive(Default)]
struct Granted {
    /// IPv4, IPv6.
    relays: [Option<SocketAddr>; 2],
    token: Option<[u8; 8]>,
    address_error: Option<(Family, Code)>,
}

impl Server {
    pub(super) fn allocate(
        &mut self,
        ask: &Ask<'_>,
        outbox: &mut dyn Outbox,
    ) -> Result<(), Reason> {
        let client = &ask.sender.client;
        if let Some(slot) = self.allocations.slot_of(client) {
            self.tend(slot, ask.now, outbox);
        }
        if let Some(slot) = self.allocations.slot_of(client) {
            let same = self.allocations.get(slot).is_some_and(|allocation| {
                allocation.transaction == ask.message.transaction()
                    && allocation.account.username() == ask.signer.account.username()
            });
            if !same {
                return Err(Reason::AllocationExists);
            }
            self.stats.retransmissions += 1;
            self.answer_allocate(slot, ask, outbox);
            return Ok(());
        }
        let tcp = (self.tcp_relay, client.transport.is_stream());
        let wish = Wish::of(ask.message, tcp, |family| self.relays.has(family))?;
        self.check_open(client)?;
        if wish.mobile && !self.mobility {
            return Err(Reason::MobilityForbidden);
        }
        self.check_room(&wish, ask)?;
        let granted = self.grant(&wish, ask, outbox)?;
        let lifetime = self.lifetime(wish.lifetime_secs, ask);
        let slot = self.install(granted, &wish, lifetime, ask);
        self.answer_allocate(slot, ask, outbox);
        Ok(())
    }

    /// The lifetime that a client gets (RFC 8656 sections 7.2 and 8.2): what it asks for, but not
    /// less than the default and not more than the maximum; and never more than is left of the access
    /// token that it rests on (RFC 7635 section 9).
    pub(super) fn lifetime(&self, asked_secs: Option<u32>, ask: &Ask<'_>) -> Duration {
        let asked = Duration::from_secs(asked_secs.unwrap_or(0).into());
        let lifetime = asked.min(self.lifetime_max).max(self.lifetime_default);
        let expires = ask.signer.account.token_expires();
        expires.map_or(lifetime, |expires| {
            // LIFETIME is in whole seconds.
            lifetime.min(Duration::from_secs(expires.saturating_sub(ask.unix).as_secs()))
        })
    }

    /// Tokens and quotas, before anything is taken.
    fn check_room(&self, wish: &Wish, ask: &Ask<'_>) -> Result<(), Reason> {
        let user = ask.signer.account.user();
        let mut counted = 1;
        match wish.place {
            Place::Reserved(token) => {
                let found = self.reservations.find(&token, ask.now);
                let (_, holder) = found.ok_or(Reason::BadReservation)?;
                // One's own reservation is counted already.
                counted -= usize::from(holder == user);
            }
            Place::One(_, Wanted::Pair) => {
                counted += 1;
                if self.reservations.len() >= self.limits.reservations {
                    return Err(Reason::ReservationsFull);
                }
            }
            Place::One(..) | Place::Both(_) => {}
        }
        if self.limits.allocations_per_user.is_some_and(|max| self.users.of(user) + counted > max) {
            return Err(Reason::UserQuota);
        }
        let prefix = prefix_of(ask.sender.client.remote.ip());
        if self.limits.allocations_per_prefix.is_some_and(|max| self.prefixes.of(&prefix) >= max) {
            return Err(Reason::PrefixQuota);
        }
        if self.allocations.len() >= self.limits.allocations {
            return Err(Reason::AllocationsFull);
        }
        Ok(())
    }

    /// Takes and opens the ports. On an error nothing is held.
    fn grant(
        &mut self,
        wish: &Wish,
        ask: &Ask<'_>,
        outbox: &mut dyn Outbox,
    ) -> Result<Granted, Reason> {
        let mut granted = Granted::default();
        match wish.place {
            Place::Reserved(token) => {
                let relay = self.open_reserved(&token, ask, outbox)?;
                granted.relays[Family::of(&relay.ip()) as usize] = Some(relay);
            }
            Place::One(family, wanted) => {
                let relay = self.open(family, (wanted, wish.protocol), ask, outbox)?;
                granted.relays[family as usize] = Some(relay);
                if wanted == Wanted::Pair {
                    let sibling = SocketAddr::new(relay.ip(), relay.port() + 1);
                    let user = ask.signer.account.user();
                    granted.token =
                        Some(self.reservations.hold(sibling, user, ask.now, &mut self.random));
                    self.users.add(user.into());
                    self.stats.reservations += 1;
                }
            }
            Place::Both(wanted) => {
                let wanted = (wanted, wish.protocol);
                let v4 = self.open(Family::V4, wanted, ask, outbox);
                let v6 = self.open(Family::V6, wanted, ask, outbox);
                let why = |reason: Reason| reason.code().unwrap_or(Code::INSUFFICIENT_CAPACITY);
                granted.address_error = match (v4, v6) {
                    (Err(reason), Err(_)) => return Err(reason),
                    (Err(reason), _) => Some((Family::V4, why(reason))),
                    (_, Err(reason)) => Some((Family::V6, why(reason))),
                    _ => None,
                };
                granted.relays = [v4.ok(), v6.ok()];
            }
        }
        Ok(granted)
    }

    /// Takes a port of this family and opens it.
    fn open(
        &mut self,
        family: Family,
        (wanted, protocol): (Wanted, Protocol),
        ask: &Ask<'_>,
        outbox: &mut dyn Outbox,
    ) -> Result<SocketAddr, Reason> {
        if !self.relays.has(family) {
            return Err(Reason::FamilyUnsupported);
        }
        for _ in 0..OPEN_TRIES {
            let taken = self.relays.take(family, wanted, ask.now, &mut self.random);
            let relay = taken.ok_or(Reason::PortsExhausted)?;
            let (client, origin) = (&ask.sender.client, ask.sender.origin);
            let opened = match protocol {
                Protocol::Udp => outbox.open_port(relay, client, origin),
                Protocol::Tcp => outbox.open_listener(relay, client, origin),
            };
            let refusal = match opened {
                Ok(()) => return Ok(relay),
                Err(refusal) => refusal,
            };
            // Back to the end of the queue: it is not tried again soon.
            self.relays.free(relay, ask.now);
            if wanted == Wanted::Pair {
                self.relays.free(SocketAddr::new(relay.ip(), relay.port() + 1), ask.now);
            }
            if refusal == PortRefusal::Exhausted {
                return Err(Reason::PortRefused);
            }
        }
        Err(Reason::PortsExhausted)
    }

    /// Opens the port that is held for a token, and uses the token up if that succeeds.
    fn open_reserved(
        &mut self,
        token: &[u8; 8],
        ask: &Ask<'_>,
        outbox: &mut dyn Outbox,
    ) -> Result<SocketAddr, Reason> {
        let (relay, _) = self.reservations.find(token, ask.now).ok_or(Reason::BadReservation)?;
        match outbox.open_port(relay, &ask.sender.client, ask.sender.origin) {
            Ok(()) => {}
            Err(PortRefusal::InUse) => return Err(Reason::BadReservation),
            Err(PortRefusal::Exhausted) => return Err(Reason::PortRefused),
        }
        if let Some((_, holder)) = self.reservations.redeem(token) {
            self.users.remove(&*holder);
            self.stats.reservations -= 1;
        }
        Ok(relay)
    }

    fn install(&mut self, granted: Granted, wish: &Wish, lifetime: Duration, ask: &Ask<'_>) -> u32 {
        let mobile = wish.mobile.then(|| self.new_mobile());
        let expires = ask.now + lifetime;
        let slot = self.allocations.next_slot();
        for relay in granted.relays.into_iter().flatten() {
            match wish.protocol {
                Protocol::Udp => self.own.insert_relayed(relay, slot),
                Protocol::Tcp => self.own.insert_listening(relay, slot),
            }
            self.stats.relayed_addresses += 1;
        }
        let relays = &self.relays;
        let leg = |relay: SocketAddr| Leg::new(relay, relays.advertised(relay), expires);
        let account = ask.signer.account.clone();
        self.users.add(account.user().into());
        self.prefixes.add(prefix_of(ask.sender.client.remote.ip()));
        self.allocations.insert(Allocation {
            client: ask.sender.client,
            origin: ask.sender.origin,
            account,
            transaction: ask.message.transaction(),
            created: ask.now,
            token: granted.token,
            address_error: granted.address_error,
            tcp: (wish.protocol == Protocol::Tcp).then(Box::default),
            mobile,
            icmp: Bucket::default(),
            legs: granted.relays.map(|relay| relay.map(leg)),
        });
        self.stats.allocations += 1;
        self.rearm(slot, ask.now);
        slot
    }

    /// The success response, first or again: it is made from the allocation.
    fn answer_allocate(&mut self, slot: u32, ask: &Ask<'_>, outbox: &mut dyn Outbox) {
        let ticket = self.ticket_of(slot);
        let Some(allocation) = self.allocations.get(slot) else { return };
        let relays = allocation.legs.each_ref().map(|leg| leg.as_ref().map(|leg| leg.advertised));
        let left = allocation.legs().map(|leg| leg.expires - ask.now).max().unwrap_or_default();
        let (token, address_error) = (allocation.token, allocation.address_error);
        let fill = |reply: &mut crate::message::Builder<'_>| {
            for relay in relays.into_iter().flatten() {
                reply.xor_relayed_address(relay);
            }
            reply.lifetime_secs(whole_secs(left));
            if let Some(token) = token {
                reply.reservation_token(&token);
            }
            if let Some(ticket) = &ticket {
                reply.mobility_ticket(ticket);
            }
            reply.xor_mapped_address(ask.sender.client.remote);
            if let Some((family, code)) = address_error {
                reply.address_error_code(family, code);
            }
        };
        self.succeed(ask, Request::Allocate, fill, outbox);
    }
}

/// A lifetime as LIFETIME says it: a started second counts, so that a retransmission a moment later
/// is answered with the same bytes.
pub(super) fn whole_secs(left: Duration) -> u32 {
    let secs = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    u32::try_from(secs).unwrap_or(u32::MAX)
}
