//! Data that no fast tier took: Send and Data indications, and ChannelData (RFC 8656 sections 11
//! and 12).
//!
//! The policy is asked for every datagram: a peer that was good when its permission was installed may
//! have been a relayed address of ours that is gone.

use std::net::SocketAddr;
use std::time::Duration;

use super::Server;
use super::permit::family_of;
use crate::allocation::{Allocation, Leg};
use crate::attribute::Family;
use crate::message::{Builder, ChannelData, Class, Message, Method, TransactionId};
use crate::outbox::{Client, Outbox};
use crate::policy::canonical;
use crate::stats::{BothWays, Reason, Traffic};

/// The longest UDP payload, over IPv4; what is longer cannot be sent.
const DATAGRAM_MAX: usize = 65_507;

impl Server {
    pub(super) fn send_indication(
        &mut self,
        now: Duration,
        client: &Client,
        message: &Message<'_>,
        outbox: &mut dyn Outbox,
    ) -> Result<(), Reason> {
        if self.unknown_attributes(client, message).next().is_some() {
            return Err(Reason::DataUnknownAttribute);
        }
        self.arrive(client, now, outbox)?;
        let (Ok(Some(peer)), Some(data), Ok(dont_fragment)) =
            (message.xor_peer_address(), message.data(), message.dont_fragment())
        else {
            return Err(Reason::DataIncomplete);
        };
        let peer = self.local_form(peer);
        let (slot, allocation) = self.live(client, now).ok_or(Reason::DataNoAllocation)?;
        if allocation.tcp.is_some() {
            return Err(Reason::DataTcpAllocation);
        }
        let family = family_of(peer);
        let leg = allocation.leg(family).ok_or(Reason::DataFamily)?;
        if leg.expires <= now || !leg.permissions.is_live(peer.ip(), now) {
            return Err(Reason::DataNoPermission);
        }
        self.policy.decide(peer, &self.own).map_err(|_| Reason::DataForbidden)?;
        outbox.to_peer(leg.relay, peer, data, dont_fragment);
        self.carried(slot, family, |carried| &mut carried.to_peer, data.len());
        Ok(())
    }

    pub(super) fn channel_data(
        &mut self,
        now: Duration,
        client: &Client,
        bytes: &[u8],
        outbox: &mut dyn Outbox,
    ) -> Result<(), Reason> {
        let ChannelData { channel, data } =
            ChannelData::parse(bytes).ok_or(Reason::ChannelMalformed)?;
        self.arrive(client, now, outbox)?;
        let (slot, allocation) = self.live(client, now).ok_or(Reason::DataNoAllocation)?;
        let bound = allocation.legs().filter(|leg| now < leg.expires).find_map(|leg| {
            let channel = leg.channels.by_number(channel)?;
            channel.is_live(now).then_some((leg.relay, channel.peer))
        });
        let (relay, peer) = bound.ok_or(Reason::ChannelNotBound)?;
        self.policy.decide(peer, &self.own).map_err(|_| Reason::DataForbidden)?;
        outbox.to_peer(relay, peer, data, false);
        self.carried(slot, family_of(relay), |carried| &mut carried.to_peer, data.len());
        Ok(())
    }

    /// A peer's datagram: to the client as ChannelData if the peer has a live channel, else as a
    /// Data indication if its address has a live permission.
    pub(super) fn peer_datagram(
        &mut self,
        now: Duration,
        relay: SocketAddr,
        peer: SocketAddr,
        bytes: &[u8],
        outbox: &mut dyn Outbox,
    ) -> Result<(), Reason> {
        let (relay, peer) = (canonical(relay), canonical(peer));
        let slot = self.own.allocation_of(relay).ok_or(Reason::PeerNoAllocation)?;
        let allocation = self.allocations.get(slot).ok_or(Reason::PeerNoAllocation)?;
        let family = family_of(relay);
        let leg = allocation.leg(family).filter(|leg| now < leg.expires);
        let leg = leg.ok_or(Reason::PeerNoAllocation)?;
        self.policy.decide(peer, &self.own).map_err(|_| Reason::DataForbidden)?;
        if allocation.is_absent() {
            return Err(Reason::ClientAbsent);
        }
        if let Some(channel) = leg.channels.by_peer(peer).filter(|channel| channel.is_live(now)) {
            let data = ChannelData { channel: channel.number, data: bytes };
            let padded = allocation.client.transport.is_stream();
            data.write(&mut self.out, padded).ok_or(Reason::PeerTooLarge)?;
        } else if leg.permissions.is_live(peer.ip(), now) {
            let mut id = [0; 12];
            self.random.fill(&mut id);
            let id = TransactionId(id);
            let mut data = Builder::new(&mut self.out, Class::Indication, Method::DATA, id);
            data.xor_peer_address(self.relays.advertised(peer)).data(bytes);
            data.finish().map_err(|_| Reason::PeerTooLarge)?;
        } else {
            return Err(Reason::DataNoPermission);
        }
        if !allocation.client.transport.is_stream() && self.out.len() > DATAGRAM_MAX {
            return Err(Reason::PeerTooLarge);
        }
        outbox.to_client(&allocation.client, allocation.origin, &self.out);
        self.carried(slot, family, |carried| &mut carried.to_client, bytes.len());
        Ok(())
    }

    /// Counts data that was relayed here, in all and for the relayed address.
    fn carried(
        &mut self,
        slot: u32,
        family: Family,
        way: fn(&mut BothWays) -> &mut Traffic,
        len: usize,
    ) {
        way(&mut self.stats.carried).add(len);
        let allocation = self.allocations.get_mut(slot);
        if let Some(leg) = allocation.and_then(|allocation| allocation.leg_mut(family)) {
            way(&mut leg.carried).add(len);
        }
    }

    /// A client's allocation and its slot, if any of it has not expired.
    pub(super) fn live(&self, client: &Client, now: Duration) -> Option<(u32, &Allocation)> {
        let slot = self.allocations.slot_of(client)?;
        let allocation = self.allocations.get(slot)?;
        let live = |leg: &Leg| now < leg.expires;
        allocation.legs().any(live).then_some((slot, allocation))
    }
}
