//! What is published: channels' routes, and relay ports.
//!
//! ```text
//!  bind        add_route, permit ─────────────────────> success
//!  refresh     add_route with the later expiry ───────> success
//!  end         remove_route, others' routes to the port, close_port
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use super::Server;
use super::permit::family_of;
use super::permits::forbid;
use crate::attribute::Family;
use crate::channel::Channel;
use crate::limits::prefix_of;
use crate::outbox::{ChannelRoute, Outbox};
use crate::permission::Permission;

impl Server {
    /// Moves a leg's expiry, and that of the routes that end with it. A channel without a route (its
    /// peer was an address of ours that is gone) gets one again from its next ChannelBind.
    pub(super) fn extend_leg(
        &mut self,
        slot: u32,
        family: Family,
        expires: Duration,
        now: Duration,
        outbox: &mut dyn Outbox,
    ) {
        let Some(allocation) = self.allocations.get_mut(slot) else { return };
        let (client, origin) = (allocation.client, allocation.origin);
        let Some(leg) = allocation.leg_mut(family) else { return };
        let before = std::mem::replace(&mut leg.expires, expires);
        let moved = |permission: &Permission| {
            permission.expires.min(before) != permission.expires.min(expires)
        };
        let permits_move = leg.permissions.iter().any(moved);
        let relay = leg.relay;
        for channel in leg.channels.iter_mut() {
            let until = channel.expires.min(expires);
            let Some(published) = channel.published else { continue };
            if published == until {
                continue;
            }
            let (number, peer, inner) = (channel.number, channel.peer, channel.inner);
            let route = ChannelRoute {
                client,
                origin,
                channel: number,
                relay,
                peer,
                expires: until,
                inner,
            };
            // Without room the route that stands stays: it ends too early, or with its port.
            if outbox.add_route(&route).is_ok() {
                channel.published = Some(until);
            }
        }
        if permits_move {
            self.publish_permits((slot, family), None, now, outbox);
        }
    }

    /// Ends one relayed address: routes first, then the port. The allocation goes with its last one.
    pub(super) fn close_leg(
        &mut self,
        slot: u32,
        family: Family,
        now: Duration,
        outbox: &mut dyn Outbox,
    ) {
        self.close_connections(slot, outbox, |connection| family_of(connection.peer) == family);
        let Some(allocation) = self.allocations.get_mut(slot) else { return };
        let Some(leg) = allocation.legs[family as usize].take() else { return };
        let is_tcp = allocation.tcp.is_some();
        let is_last = allocation.legs().next().is_none();
        for channel in leg.channels.iter().filter(|channel| channel.published.is_some()) {
            outbox.remove_route(&allocation.route(&leg, channel));
        }
        forbid(allocation, &leg, leg.permissions.iter(), outbox);
        self.stats.channels -= leg.channels.len();
        self.stats.permissions -= leg.permissions.len();
        self.stats.relayed_addresses -= 1;
        for channel in leg.channels.iter() {
            self.forget_own_peer(slot, channel);
        }
        if is_tcp {
            self.own.remove_listening(leg.relay);
            outbox.close_listener(leg.relay);
        } else {
            self.own.remove_relayed(leg.relay);
            self.withdraw_to(leg.relay, outbox);
            outbox.close_port(leg.relay);
        }
        self.relays.free(leg.relay, now);
        if is_last && let Some(allocation) = self.allocations.remove(slot) {
            self.timers.clear(slot);
            self.users.remove(allocation.account.user());
            self.prefixes.remove(&prefix_of(allocation.client.remote.ip()));
            self.stats.allocations -= 1;
        }
    }

    /// Withdraws every route to an address of ours that is gone: the address is no good peer any
    /// more, and may soon be another client's. The bindings stay.
    fn withdraw_to(&mut self, peer: SocketAddr, outbox: &mut dyn Outbox) {
        for &(slot, number) in self.own_peers.get(&peer).map_or(&[][..], Vec::as_slice) {
            let Some(allocation) = self.allocations.get_mut(slot) else { continue };
            let family = Family::of(&peer.ip());
            let Some(leg) = allocation.leg(family) else { continue };
            let Some(channel) = leg.channels.by_number(number) else { continue };
            if channel.published.is_some() {
                outbox.remove_route(&allocation.route(leg, channel));
                let gone = Channel { published: None, ..*channel };
                if let Some(leg) = allocation.leg_mut(family) {
                    leg.channels.put(gone);
                }
            }
        }
    }

    /// Remembers a channel whose peer is on one of our relay addresses.
    pub(super) fn note_own_peer(&mut self, slot: u32, channel: &Channel) {
        if self.own.is_relay_ip(channel.peer.ip()) {
            self.own_peers.entry(channel.peer).or_default().push((slot, channel.number));
        }
    }

    pub(super) fn forget_own_peer(&mut self, slot: u32, channel: &Channel) {
        if let Some(entries) = self.own_peers.get_mut(&channel.peer) {
            entries.retain(|&entry| entry != (slot, channel.number));
            if entries.is_empty() {
                self.own_peers.remove(&channel.peer);
            }
        }
    }
}
