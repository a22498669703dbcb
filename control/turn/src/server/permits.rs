//! What is published of permissions: with it a fast tier forwards the plainest Send indications, and
//! makes Data indications of what peers send.
//!
//! ```text
//!  install, refresh   permit ──────────────────────────────> success
//!  lapse, end         forbid (and after it, at the end, close_port)
//!  move (RFC 8016)    move_port, routes, permit for the client as it is now
//! ```
//!
//! Never published, so that the server goes on to carry them: what a TCP allocation has; addresses of
//! this host, whose ports differ in what they may; and a peer whose live channel has no route, since
//! it is to be sent ChannelData.

use std::net::IpAddr;
use std::time::Duration;

use super::Server;
use crate::allocation::{Allocation, Leg};
use crate::attribute::Family;
use crate::outbox::{Outbox, Permit};
use crate::permission::Permission;

impl Server {
    /// Publishes the permissions of a leg, or only that of one address, as they are now; and
    /// withdraws those that must not stand any more.
    pub(super) fn publish_permits(
        &mut self,
        (slot, family): (u32, Family),
        only: Option<IpAddr>,
        now: Duration,
        outbox: &mut dyn Outbox,
    ) {
        let (policy, own) = (&self.policy, &self.own);
        let Some(allocation) = self.allocations.get_mut(slot) else { return };
        if allocation.tcp.is_some() || allocation.is_absent() {
            return;
        }
        let Some(mut leg) = allocation.legs[family as usize].take() else { return };
        let Leg { permissions, channels, .. } = &mut leg;
        let unrouted = |ip| {
            let here = channels.iter().filter(|channel| channel.peer.ip() == ip);
            here.clone().any(|channel| channel.is_live(now) && channel.published.is_none())
        };
        let mut changed = Vec::new();
        for permission in permissions.iter_mut() {
            if only.is_some_and(|only| only != permission.ip) {
                continue;
            }
            let before = permission.published;
            permission.published =
                policy.admits_all_ports(permission.ip, own) && !unrouted(permission.ip);
            if before || permission.published {
                changed.push(*permission);
            }
        }
        for permission in changed {
            let permit = permit_of(allocation, &leg, &permission);
            if permission.published {
                outbox.permit(&permit);
            } else {
                outbox.forbid(&permit);
            }
        }
        allocation.legs[family as usize] = Some(leg);
    }

    /// Withdraws all that is published of an allocation's permissions.
    pub(super) fn withdraw_permits(&mut self, slot: u32, outbox: &mut dyn Outbox) {
        let Some(allocation) = self.allocations.get_mut(slot) else { return };
        for at in 0..allocation.legs.len() {
            let Some(mut leg) = allocation.legs[at].take() else { continue };
            forbid(allocation, &leg, leg.permissions.iter(), outbox);
            leg.permissions.iter_mut().for_each(|permission| permission.published = false);
            allocation.legs[at] = Some(leg);
        }
    }
}

/// Withdraws these permissions of a leg, as far as they are published.
pub(super) fn forbid<'p>(
    allocation: &Allocation,
    leg: &Leg,
    permissions: impl IntoIterator<Item = &'p Permission>,
    outbox: &mut dyn Outbox,
) {
    for permission in permissions.into_iter().filter(|permission| permission.published) {
        outbox.forbid(&permit_of(allocation, leg, permission));
    }
}

fn permit_of(allocation: &Allocation, leg: &Leg, permission: &Permission) -> Permit {
    Permit {
        client: allocation.client,
        origin: allocation.origin,
        relay: leg.relay,
        peer: permission.ip,
        expires: permission.expires.min(leg.expires),
    }
}
