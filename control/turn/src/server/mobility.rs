//! An allocation that goes with its client to another five-tuple (RFC 8016).
//!
//! ```text
//!  Refresh with a ticket from F    F is known beside the old five-tuple; a new ticket
//!  data or a request from F        move_port, routes to F, away with the old ones; F is the client
//!  the old connection has ended    the same at once; without an F the routes go, and the ports wait
//! ```
//!
//! Between the two both five-tuples may send, and the old one receives: what is on its way is not
//! lost (section 3.2.2).

use std::time::Duration;

use super::{Ask, Server};
use crate::allocation::{Allocation, Mobile, Worth};
use crate::attribute::Family;
use crate::channel::Channel;
use crate::limits::prefix_of;
use crate::message::{Message, Method};
use crate::outbox::{ChannelRoute, Client, Origin, Outbox};
use crate::random::Random;
use crate::stats::Reason;
use crate::ticket::Ticket;

impl Server {
    /// What an Allocate with an empty MOBILITY-TICKET gets.
    pub(super) fn new_mobile(&mut self) -> Box<Mobile> {
        let mut serial = [0; 8];
        self.random.fill(&mut serial);
        Box::new(Mobile::new(u64::from_ne_bytes(serial)))
    }

    /// The newest ticket of an allocation, sealed anew each time.
    pub(super) fn ticket_of(&mut self, slot: u32) -> Option<Vec<u8>> {
        let mobile = self.allocations.get(slot)?.mobile.as_ref()?;
        let ticket = Ticket { slot, serial: mobile.serial, count: mobile.count };
        Some(self.tickets.seal(ticket, &mut self.random))
    }

    /// The live allocation that a ticket is of.
    fn ticketed(&self, ticket: &[u8], now: Duration) -> Result<(Ticket, &Allocation), Reason> {
        let ticket = self.tickets.open(ticket).ok_or(Reason::BadTicket)?;
        let allocation = self.allocations.get(ticket.slot).filter(|allocation| {
            let ours = allocation.mobile.as_ref().is_some_and(|m| m.serial == ticket.serial);
            ours && allocation.legs().any(|leg| now < leg.expires)
        });
        Ok((ticket, allocation.ok_or(Reason::NoAllocation)?))
    }

    /// The allocation that a Refresh wants to move: it is verified with that account.
    pub(super) fn allocation_to_move(
        &self,
        now: Duration,
        message: &Message<'_>,
    ) -> Option<&Allocation> {
        if !self.mobility || message.method() != Method::REFRESH {
            return None;
        }
        self.ticketed(message.mobility_ticket()?, now).ok().map(|(_, allocation)| allocation)
    }

    /// Checks a Refresh with a ticket; nothing changes yet.
    pub(super) fn check_ticket(
        &mut self,
        ask: &Ask<'_>,
        ticket: &[u8],
        outbox: &mut dyn Outbox,
    ) -> Result<(u32, Ticket, Worth), Reason> {
        if !self.mobility {
            return Err(Reason::MobilityForbidden);
        }
        let slot = self.ticketed(ticket, ask.now)?.0.slot;
        self.tend(slot, ask.now, outbox);
        let (ticket, allocation) = self.ticketed(ticket, ask.now)?;
        if allocation.account.username() != ask.signer.account.username() {
            return Err(Reason::WrongUser);
        }
        let from = &ask.sender.client;
        let worth = allocation.mobile.as_ref().map_or(Worth::Nothing, |mobile| {
            mobile.worth(ticket.count, from, &allocation.client, ask.now)
        });
        if worth == Worth::Nothing {
            return Err(Reason::BadTicket);
        }
        if worth == Worth::Moves {
            self.check_destination(slot, from)?;
        }
        Ok((slot, ticket, worth))
    }

    /// Whether an allocation may come to this five-tuple.
    fn check_destination(&self, slot: u32, from: &Client) -> Result<(), Reason> {
        if self.allocations.slot_of(from).is_some_and(|other| other != slot) {
            return Err(Reason::AllocationExists);
        }
        let Some(allocation) = self.allocations.get(slot) else { return Ok(()) };
        let (new, old) = (prefix_of(from.remote.ip()), prefix_of(allocation.client.remote.ip()));
        let max = self.limits.allocations_per_prefix;
        if new != old && max.is_some_and(|max| self.prefixes.of(&new) >= max) {
            return Err(Reason::PrefixQuota);
        }
        Ok(())
    }

    /// The five-tuple of the request is the allocation's next one.
    pub(super) fn begin_move(
        &mut self,
        slot: u32,
        ticket: Ticket,
        ask: &Ask<'_>,
        outbox: &mut dyn Outbox,
    ) {
        let (client, origin) = (ask.sender.client, ask.sender.origin);
        let Some(allocation) = self.allocations.get_mut(slot) else { return };
        let Some(mobile) = &mut allocation.mobile else { return };
        mobile.spend(ticket.count, client, ask.now);
        let before = mobile.next.replace((client, origin));
        let absent = mobile.absent;
        if let Some((before, _)) = before {
            self.allocations.remove_client(&before, slot);
        }
        self.allocations.add_client(client, slot);
        if absent && let Err(reason) = self.settle(slot, ask.now, outbox) {
            self.count(reason);
        }
    }

    /// A message that shows that the client is at its next five-tuple.
    pub(super) fn arrive(
        &mut self,
        client: &Client,
        now: Duration,
        outbox: &mut dyn Outbox,
    ) -> Result<(), Reason> {
        let Some(slot) = self.allocations.slot_of(client).filter(|_| self.mobility) else {
            return Ok(());
        };
        let mobile = self.allocations.get(slot).and_then(|allocation| allocation.mobile.as_ref());
        if mobile.is_some_and(|mobile| mobile.is_next(client)) {
            return self.settle(slot, now, outbox);
        }
        Ok(())
    }

    /// The next five-tuple takes over. On an error nothing has changed.
    fn settle(&mut self, slot: u32, now: Duration, outbox: &mut dyn Outbox) -> Result<(), Reason> {
        let Some(allocation) = self.allocations.get_mut(slot) else { return Ok(()) };
        let Some(mobile) = &mut allocation.mobile else { return Ok(()) };
        let Some(next) = mobile.next else { return Ok(()) };
        let old = (allocation.client, allocation.origin);
        if allocation.tcp.is_none() {
            move_ports(allocation, old, next, outbox)?;
        }
        let Some(mobile) = &mut allocation.mobile else { return Ok(()) };
        mobile.next = None;
        let was_absent = std::mem::take(&mut mobile.absent);
        mobile.spent.iter_mut().for_each(|spent| spent.superseded = true);
        (allocation.client, allocation.origin) = next;
        if old.0 != next.0 {
            self.allocations.remove_client(&old.0, slot);
        }
        self.prefixes.remove(&prefix_of(old.0.remote.ip()));
        self.prefixes.add(prefix_of(next.0.remote.ip()));
        self.stats.moves += 1;
        for family in [Family::V4, Family::V6] {
            self.move_routes(slot, family, old, now, outbox);
            self.publish_permits((slot, family), None, now, outbox);
        }
        if !was_absent && old.0.transport.proves_address() {
            outbox.close_client(&old.0, old.1);
        }
        Ok(())
    }

    /// Publishes a leg's channels for the allocation's client, who was `old` until now.
    fn move_routes(
        &mut self,
        slot: u32,
        family: Family,
        old: (Client, Origin),
        now: Duration,
        outbox: &mut dyn Outbox,
    ) {
        let Some(allocation) = self.allocations.get_mut(slot) else { return };
        let Some(mut leg) = allocation.legs[family as usize].take() else { return };
        for channel in leg.channels.iter_mut() {
            let published = channel.published;
            // Withdrawn for the client's absence, and not because its peer is gone.
            let comes_back =
                channel.is_live(now) && (!channel.inner || self.own.is_relayed(channel.peer));
            if published.is_none() && !comes_back {
                continue;
            }
            let until = published.unwrap_or(channel.expires.min(leg.expires));
            channel.published = Some(until);
            let route = ChannelRoute {
                client: allocation.client,
                origin: allocation.origin,
                channel: channel.number,
                relay: leg.relay,
                peer: channel.peer,
                expires: until,
                inner: channel.inner,
            };
            let mut added = outbox.add_route(&route).is_ok();
            if published.is_some() {
                outbox.remove_route(&ChannelRoute { client: old.0, origin: old.1, ..route });
                // A table may have had one entry for both, from the peer to the relayed address.
                added = added && outbox.add_route(&route).is_ok();
            }
            if !added {
                // The control plane relays until the next ChannelBind.
                channel.published = None;
                self.stats.refused[Reason::RoutesFull] += 1;
            }
        }
        allocation.legs[family as usize] = Some(leg);
    }

    /// The connection of a mobile allocation, or of its next five-tuple, has ended. `false` if the
    /// allocation cannot move, and so ends.
    pub(super) fn outlives(
        &mut self,
        slot: u32,
        client: &Client,
        now: Duration,
        outbox: &mut dyn Outbox,
    ) -> bool {
        let Some(allocation) = self.allocations.get_mut(slot) else { return true };
        let Some(mobile) = allocation.mobile.as_mut().filter(|_| self.mobility) else {
            return false;
        };
        if mobile.is_next(client) {
            mobile.next = None;
            self.allocations.remove_client(client, slot);
            return true;
        }
        mobile.absent = true;
        let has_next = mobile.next.is_some();
        self.allocations.remove_client(client, slot);
        self.withdraw_routes(slot, outbox);
        self.withdraw_permits(slot, outbox);
        if has_next && let Err(reason) = self.settle(slot, now, outbox) {
            self.count(reason);
        }
        true
    }

    /// Withdraws the routes of an allocation that has nobody to send to.
    fn withdraw_routes(&mut self, slot: u32, outbox: &mut dyn Outbox) {
        let Some(allocation) = self.allocations.get_mut(slot) else { return };
        for at in 0..allocation.legs.len() {
            let Some(mut leg) = allocation.legs[at].take() else { continue };
            let standing = |channel: &&Channel| channel.published.is_some();
            for channel in leg.channels.iter().filter(standing) {
                outbox.remove_route(&allocation.route(&leg, channel));
            }
            leg.channels.iter_mut().for_each(|channel| channel.published = None);
            allocation.legs[at] = Some(leg);
        }
    }
}

/// Gives all relay ports to the next client, or none.
fn move_ports(
    allocation: &Allocation,
    old: (Client, Origin),
    next: (Client, Origin),
    outbox: &mut dyn Outbox,
) -> Result<(), Reason> {
    let relays: Vec<_> = allocation.legs().map(|leg| leg.relay).collect();
    for (at, &relay) in relays.iter().enumerate() {
        if outbox.move_port(relay, &next.0, next.1).is_err() {
            for &moved in &relays[..at] {
                // Back where it came from: there it had its place.
                if outbox.move_port(moved, &old.0, old.1).is_err() {
                    return Err(Reason::PortLost);
                }
            }
            return Err(Reason::PortRefused);
        }
    }
    Ok(())
}
