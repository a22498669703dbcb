//! CreatePermission and ChannelBind (RFC 8656 sections 10.2 and 12.2).

use std::net::SocketAddr;

use super::{Ask, Server};
use crate::allocation::{Allocation, Leg};
use crate::attribute::{ChannelNumber, Family};
use crate::channel::{CHANNEL_LIFETIME, Channel};
use crate::outbox::Outbox;
use crate::permission::PERMISSION_LIFETIME;
use crate::policy::Refusal;
use crate::stats::{Reason, Request};

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Forbidden403 => Reason::PeerForbidden,
            Refusal::FamilyMismatch443 => Reason::PeerMapped,
        }
    }
}

pub(super) fn family_of(address: SocketAddr) -> Family {
    Family::of(&address.ip())
}

impl Server {
    /// All addresses, or none.
    pub(super) fn create_permission(
        &mut self,
        ask: &Ask<'_>,
        outbox: &mut dyn Outbox,
    ) -> Result<(), Reason> {
        let slot = self.owned(ask, outbox)?;
        let mut peers = Vec::new();
        for peer in ask.message.xor_peer_addresses() {
            peers.push(self.local_form(peer?));
        }
        if peers.is_empty() {
            return Err(Reason::MissingAttribute);
        }
        let allocation = self.allocations.get(slot).ok_or(Reason::NoAllocation)?;
        for &peer in &peers {
            allocation.leg(family_of(peer)).ok_or(Reason::FamilyMismatch)?;
            self.policy.decide_permission(peer, &self.own)?;
        }
        peers.sort_unstable_by_key(SocketAddr::ip);
        peers.dedup_by_key(|peer| peer.ip());
        for leg in allocation.legs() {
            let here = |peer: &&SocketAddr| family_of(**peer) == family_of(leg.relay);
            let new = |peer: &&SocketAddr| here(peer) && !leg.permissions.contains(peer.ip());
            let wanted = leg.permissions.len() + peers.iter().filter(new).count();
            if wanted > self.limits.permissions_per_allocation {
                return Err(Reason::PermissionsFull);
            }
        }
        for peer in peers {
            self.permit(slot, peer, ask, outbox);
        }
        self.rearm(slot, ask.now);
        self.succeed(ask, Request::CreatePermission, |_| {}, outbox);
        Ok(())
    }

    fn permit(&mut self, slot: u32, peer: SocketAddr, ask: &Ask<'_>, outbox: &mut dyn Outbox) {
        let allocation = self.allocations.get_mut(slot);
        let Some(leg) = allocation.and_then(|a| a.leg_mut(family_of(peer))) else { return };
        let before = leg.permissions.len();
        leg.permissions.put(peer.ip(), ask.now + PERMISSION_LIFETIME);
        self.stats.permissions += leg.permissions.len() - before;
        self.publish_permits((slot, family_of(peer)), Some(peer.ip()), ask.now, outbox);
    }

    pub(super) fn channel_bind(
        &mut self,
        ask: &Ask<'_>,
        outbox: &mut dyn Outbox,
    ) -> Result<(), Reason> {
        let slot = self.owned(ask, outbox)?;
        if self.allocations.get(slot).is_some_and(|allocation| allocation.tcp.is_some()) {
            return Err(Reason::TcpAllocation);
        }
        let number = ask.message.channel_number()?.ok_or(Reason::MissingAttribute)?;
        let peer = ask.message.xor_peer_address()?.ok_or(Reason::MissingAttribute)?;
        let peer = self.local_form(peer);
        let allocation = self.allocations.get(slot).ok_or(Reason::NoAllocation)?;
        check_conflict(allocation, number, peer)?;
        let leg = allocation.leg(family_of(peer)).ok_or(Reason::FamilyMismatch)?;
        self.policy.decide(peer, &self.own)?;
        let is_new = leg.channels.by_number(number).is_none();
        self.check_channel_room(leg, peer, is_new)?;

        let mut channel = Channel {
            number,
            peer,
            expires: ask.now + CHANNEL_LIFETIME,
            published: None,
            inner: self.own.is_relayed(peer),
        };
        let route = allocation.route(leg, &channel);
        outbox.add_route(&route).map_err(|_| Reason::RoutesFull)?;
        channel.published = Some(route.expires);

        // From here on nothing fails.
        if is_new {
            self.stats.channels += 1;
            self.note_own_peer(slot, &channel);
        }
        let allocation = self.allocations.get_mut(slot);
        if let Some(leg) = allocation.and_then(|allocation| allocation.leg_mut(family_of(peer))) {
            leg.channels.put(channel);
        }
        self.permit(slot, peer, ask, outbox);
        self.rearm(slot, ask.now);
        self.succeed(ask, Request::ChannelBind, |_| {}, outbox);
        Ok(())
    }

    fn check_channel_room(&self, leg: &Leg, peer: SocketAddr, is_new: bool) -> Result<(), Reason> {
        if is_new && leg.channels.len() >= self.limits.channels_per_allocation {
            return Err(Reason::AllocationChannelsFull);
        }
        if is_new && self.stats.channels >= self.limits.channels {
            return Err(Reason::ChannelsFull);
        }
        let permitted = leg.permissions.contains(peer.ip());
        if !permitted && leg.permissions.len() >= self.limits.permissions_per_allocation {
            return Err(Reason::PermissionsFull);
        }
        Ok(())
    }
}

/// The number and the peer belong to each other, live or cooling, or to nobody. Numbers are the
/// whole allocation's: ChannelData does not say a family.
fn check_conflict(
    allocation: &Allocation,
    number: ChannelNumber,
    peer: SocketAddr,
) -> Result<(), Reason> {
    for leg in allocation.legs() {
        let other_peer = leg.channels.by_number(number).is_some_and(|c| c.peer != peer);
        let other_number = leg.channels.by_peer(peer).is_some_and(|c| c.number != number);
        if other_peer || other_number {
            return Err(Reason::ChannelConflict);
        }
    }
    Ok(())
}
