//! ICMP errors from the way to a peer, told to the client (RFC 8656 section 11.5).
//!
//! ```text
//!  relay ──datagram──> router or peer
//!        <──ICMP─────            to the client: Data indication | XOR-PEER-ADDRESS | ICMP
//! ```
//!
//! Anyone on the way can make such errors, so a client is told so many in a second and no more.

use std::net::SocketAddr;
use std::time::Duration;

use super::Server;
use super::permit::family_of;
use crate::allocation::Allocation;
use crate::attribute::{Family, Icmp};
use crate::limits::Rate;
use crate::message::{Builder, Class, Method, TransactionId};
use crate::outbox::Outbox;
use crate::policy::canonical;
use crate::stats::Reason;

/// How many ICMP errors a client is told, for each allocation.
const ICMP_RATE: Rate = Rate { per_second: 10, burst: 20 };

/// ICMP: destination unreachable, time exceeded.
const KINDS_V4: [u8; 2] = [3, 11];
/// ICMPv6: destination unreachable, packet too big, time exceeded.
const KINDS_V6: [u8; 3] = [1, 2, 3];

impl Server {
    pub(super) fn unreachable(
        &mut self,
        now: Duration,
        (relay, peer): (SocketAddr, SocketAddr),
        icmp: Icmp,
        outbox: &mut dyn Outbox,
    ) -> Result<(), Reason> {
        let (relay, peer) = (canonical(relay), canonical(peer));
        let family = family_of(relay);
        let icmp = told(family, icmp).ok_or(Reason::IcmpKind)?;
        let slot = self.own.allocation_of(relay).ok_or(Reason::PeerNoAllocation)?;
        let allocation = self.allocations.get_mut(slot).ok_or(Reason::PeerNoAllocation)?;
        if !admits(allocation, family, peer, now) {
            return Err(Reason::DataNoPermission);
        }
        if allocation.is_absent() {
            return Err(Reason::ClientAbsent);
        }
        if !allocation.icmp.try_spend(self.started, now, ICMP_RATE) {
            return Err(Reason::IcmpLimited);
        }
        let mut id = [0; 12];
        self.random.fill(&mut id);
        let id = TransactionId(id);
        let mut data = Builder::new(&mut self.out, Class::Indication, Method::DATA, id);
        data.xor_peer_address(self.relays.advertised(peer)).icmp(icmp);
        let (client, origin) = (allocation.client, allocation.origin);
        if let Ok(bytes) = data.finish() {
            outbox.to_client(&client, origin, bytes);
        }
        self.stats.icmp += 1;
        Ok(())
    }
}

/// What section 18.13 passes on: the error's data only where it is a next hop's MTU.
fn told(family: Family, icmp: Icmp) -> Option<Icmp> {
    let (known, has_mtu) = match family {
        Family::V4 => (KINDS_V4.contains(&icmp.kind), (icmp.kind, icmp.code) == (3, 4)),
        Family::V6 => (KINDS_V6.contains(&icmp.kind), icmp.kind == 2),
    };
    known.then_some(Icmp { data: if has_mtu { icmp.data } else { 0 }, ..icmp })
}

/// Whether the client may exchange data with this peer: what else would the error be about?
fn admits(allocation: &Allocation, family: Family, peer: SocketAddr, now: Duration) -> bool {
    let leg = allocation.leg(family).filter(|leg| now < leg.expires);
    leg.is_some_and(|leg| {
        leg.permissions.is_live(peer.ip(), now)
            || leg.channels.by_peer(peer).is_some_and(|channel| channel.is_live(now))
    })
}
