//! What time does: allocations, channels, permissions and reservations end.

use std::net::SocketAddr;
use std::time::Duration;

use super::permits::forbid;
use super::{EXPIRE_MAX, Server};
use crate::attribute::Family;
use crate::outbox::{Now, Outbox};
use crate::policy::Policy;

impl Server {
    /// Takes care of what is due, at most [`EXPIRE_MAX`] at a time of each kind.
    pub(super) fn expire(&mut self, now: Duration, outbox: &mut dyn Outbox) {
        for _ in 0..EXPIRE_MAX {
            let Some(slot) = self.timers.pop(now) else { break };
            self.tend(slot, now, outbox);
        }
        for _ in 0..EXPIRE_MAX {
            let Some((relay, user)) = self.reservations.expire(now) else { break };
            self.relays.free(relay, now);
            self.users.remove(&*user);
            self.stats.reservations -= 1;
        }
    }

    /// Ends what has expired of one allocation, perhaps the allocation itself.
    pub(super) fn tend(&mut self, slot: u32, now: Duration, outbox: &mut dyn Outbox) {
        for family in [Family::V4, Family::V6] {
            let leg = self.allocations.get(slot).and_then(|allocation| allocation.leg(family));
            match leg.map(|leg| leg.expires <= now) {
                Some(true) => {
                    self.close_leg(slot, family, now, outbox);
                    self.stats.expired += u64::from(self.allocations.get(slot).is_none());
                }
                Some(false) => self.tend_leg(slot, family, now, outbox),
                None => {}
            }
        }
        self.tend_connections(slot, now, outbox);
        self.rearm(slot, now);
    }

    fn tend_leg(&mut self, slot: u32, family: Family, now: Duration, outbox: &mut dyn Outbox) {
        let Some(allocation) = self.allocations.get_mut(slot) else { return };
        let Some(mut leg) = allocation.legs[family as usize].take() else { return };
        for at in leg.channels.ended(now) {
            outbox.remove_route(&allocation.route(&leg, &leg.channels.at(at)));
            leg.channels.at_mut(at).published = None;
        }
        let cooled = leg.channels.take_cooled(now);
        let lapsed = leg.permissions.take_unless(|permission| now < permission.expires);
        forbid(allocation, &leg, &lapsed, outbox);
        allocation.legs[family as usize] = Some(leg);
        self.stats.permissions -= lapsed.len();
        self.stats.channels -= cooled.len();
        for channel in &cooled {
            self.forget_own_peer(slot, channel);
        }
    }

    /// Sets the allocation's one timer to what happens next to it.
    pub(super) fn rearm(&mut self, slot: u32, now: Duration) {
        match self.allocations.get(slot).and_then(|allocation| allocation.next_event(now)) {
            Some(at) => self.timers.set(slot, at),
            None => self.timers.clear(slot),
        }
    }

    /// Takes another policy. What it denies ends at once: routes are removed, bindings cool, and
    /// permissions go.
    pub fn replace_policy(&mut self, policy: Policy, now: Now, outbox: &mut dyn Outbox) {
        self.policy = policy;
        for slot in self.allocations.slots() {
            for family in [Family::V4, Family::V6] {
                self.apply_policy(slot, family, now.monotonic, outbox);
            }
            let denied = self.denied_connections(slot);
            self.close_connections(slot, outbox, |connection| denied.contains(&connection.peer));
            if self.allocations.get(slot).is_some() {
                self.tend(slot, now.monotonic, outbox);
            }
        }
    }

    /// The peers of an allocation's TCP connections that the policy forbids.
    fn denied_connections(&self, slot: u32) -> Vec<SocketAddr> {
        let Some(allocation) = self.allocations.get(slot) else { return Vec::new() };
        let peers = allocation.connections().iter().map(|connection| connection.peer);
        peers.filter(|&peer| self.policy.decide_accepted(peer, &self.own).is_err()).collect()
    }

    fn apply_policy(&mut self, slot: u32, family: Family, now: Duration, outbox: &mut dyn Outbox) {
        let Some(allocation) = self.allocations.get_mut(slot) else { return };
        let Some(mut leg) = allocation.legs[family as usize].take() else { return };
        for channel in leg.channels.iter_mut() {
            let vanished = channel.inner && !self.own.is_relayed(channel.peer);
            if !vanished && self.policy.decide(channel.peer, &self.own).is_err() {
                channel.expires = channel.expires.min(now);
            }
        }
        let (policy, own) = (&self.policy, &self.own);
        let lapsed = leg.permissions.take_unless(|permission| {
            policy.decide_permission(SocketAddr::new(permission.ip, 0), own).is_ok()
        });
        forbid(allocation, &leg, &lapsed, outbox);
        allocation.legs[family as usize] = Some(leg);
        self.stats.permissions -= lapsed.len();
    }
}
