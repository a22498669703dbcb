//! RFC 8656's rules for one server, written plainly: maps and a clock, no timers, nothing published.
//! What should be published follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use turn::Client;

use crate::lab::client;

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[derive(Debug, Clone)]
pub(super) enum Op {
    Allocate { v4: bool, v6: bool },
    Refresh { family: Option<bool>, secs: u32 },
    Permit(Vec<SocketAddr>),
    Bind(u16, SocketAddr),
}

struct Bound {
    peer: SocketAddr,
    expires: Duration,
    /// The peer was a relayed address of ours that is gone.
    withdrawn: bool,
}

struct Leg {
    relay: SocketAddr,
    expires: Duration,
    permissions: BTreeMap<IpAddr, Duration>,
    channels: BTreeMap<u16, Bound>,
}

/// By "is IPv6".
type Legs = BTreeMap<bool, Leg>;

pub(super) struct Model {
    now: Duration,
    allocations: BTreeMap<Client, Legs>,
    pub(super) no_ports: bool,
    pub(super) no_routes: bool,
}

impl Model {
    pub(super) fn new(now: Duration) -> Self {
        Self { now, allocations: BTreeMap::new(), no_ports: false, no_routes: false }
    }

    /// Forgets what is over.
    pub(super) fn advance(&mut self, now: Duration) {
        self.now = now;
        let mut gone = BTreeSet::new();
        for legs in self.allocations.values_mut() {
            let over = legs.values().filter(|leg| leg.expires <= now);
            gone.extend(over.map(|leg| leg.relay));
            legs.retain(|_, leg| now < leg.expires);
            for leg in legs.values_mut() {
                leg.permissions.retain(|_, expires| now < *expires);
                // the number and the peer cool for five minutes
                leg.channels.retain(|_, bound| now < bound.expires + secs(300));
            }
        }
        self.allocations.retain(|_, legs| !legs.is_empty());
        for bound in self.legs_mut().flat_map(|leg| leg.channels.values_mut()) {
            bound.withdrawn |= gone.contains(&bound.peer);
        }
    }

    fn legs(&self) -> impl Iterator<Item = &Leg> {
        self.allocations.values().flat_map(BTreeMap::values)
    }

    fn legs_mut(&mut self) -> impl Iterator<Item = &mut Leg> {
        self.allocations.values_mut().flat_map(BTreeMap::values_mut)
    }

    fn leg(&self, client: Client, peer: SocketAddr) -> Option<&Leg> {
        self.allocations.get(&client)?.get(&peer.is_ipv6())
    }

    pub(super) fn relays(&self) -> BTreeSet<SocketAddr> {
        self.legs().map(|leg| leg.relay).collect()
    }

    /// 0, 403 or 443. A permission is for an address, so there the port does not count.
    fn policy(&self, peer: SocketAddr, with_port: bool) -> u16 {
        if matches!(peer.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some()) {
            return 443;
        }
        let own = [client(0).local.ip(), client(1).local.ip()].contains(&peer.ip());
        let dead = own && with_port && !self.relays().contains(&peer);
        if dead || peer.ip().is_loopback() { 403 } else { 0 }
    }

    /// The code that the operation is answered with. 0 is success.
    pub(super) fn predict(&self, client: Client, op: &Op) -> u16 {
        let Some(legs) = self.allocations.get(&client) else {
            return match op {
                Op::Allocate { .. } if self.no_ports => 508,
                Op::Allocate { .. } => 0,
                _ => 437,
            };
        };
        match op {
            Op::Allocate { .. } => 437,
            Op::Refresh { family: Some(v6), .. } if !legs.contains_key(v6) => 443,
            Op::Refresh { .. } => 0,
            Op::Permit(peers) if peers.is_empty() => 400,
            Op::Permit(peers) => {
                let each = |peer: &SocketAddr| {
                    self.leg(client, *peer).map_or(443, |_| self.policy(*peer, false))
                };
                peers.iter().map(each).find(|code| *code != 0).unwrap_or(0)
            }
            Op::Bind(number, peer) => {
                let mut bound = legs.values().flat_map(|leg| &leg.channels);
                if bound.any(|(n, b)| (n == number) != (b.peer == *peer)) {
                    return 400;
                }
                let Some(leg) = self.leg(client, *peer) else { return 443 };
                let stands = |b: &Bound| !b.withdrawn && self.now < b.expires;
                let standing = leg.channels.get(number).is_some_and(stands);
                match self.policy(*peer, true) {
                    0 if self.no_routes && !standing => 508,
                    code => code,
                }
            }
        }
    }

    /// Carries out what was answered with success; `relays` are the server's choice.
    pub(super) fn apply(&mut self, client: Client, op: &Op, relays: &[SocketAddr]) {
        let now = self.now;
        match op {
            Op::Allocate { v4, v6 } => {
                let families: BTreeSet<bool> = relays.iter().map(SocketAddr::is_ipv6).collect();
                let asked =
                    if *v4 { [Some(false), v6.then_some(true)] } else { [None, Some(true)] };
                assert_eq!(families, asked.into_iter().flatten().collect());
                assert!(relays.iter().all(|relay| !self.relays().contains(relay)), "two owners");
                let leg = |relay: &SocketAddr| {
                    let (permissions, channels) = Default::default();
                    let expires = now + secs(600);
                    (relay.is_ipv6(), Leg { relay: *relay, expires, permissions, channels })
                };
                self.allocations.insert(client, relays.iter().map(leg).collect());
            }
            Op::Refresh { family, secs: asked } => {
                let expires = match asked {
                    0 => now,
                    asked => now + secs(u64::from(*asked).clamp(600, 3600)),
                };
                let legs = self.allocations.get_mut(&client).expect("predicted");
                let refreshed = legs.iter_mut().filter(|(v6, _)| family.is_none_or(|f| f == **v6));
                refreshed.for_each(|(_, leg)| leg.expires = expires);
                self.advance(now);
            }
            Op::Permit(peers) => peers.iter().for_each(|peer| _ = self.permit(client, *peer)),
            Op::Bind(number, peer) => {
                let bound = Bound { peer: *peer, expires: now + secs(600), withdrawn: false };
                self.permit(client, *peer).channels.insert(*number, bound);
            }
        }
    }

    fn permit(&mut self, client: Client, peer: SocketAddr) -> &mut Leg {
        let expires = self.now + secs(300);
        let legs = self.allocations.get_mut(&client).expect("predicted");
        let leg = legs.get_mut(&peer.is_ipv6()).expect("predicted");
        leg.permissions.insert(peer.ip(), expires);
        leg
    }

    /// What should be published: (client, number) to (relay, peer, expiry, inner).
    pub(super) fn routes(&self) -> super::Published {
        let relays = self.relays();
        let mut routes = super::Published::new();
        for (client, legs) in &self.allocations {
            for leg in legs.values() {
                for (number, bound) in &leg.channels {
                    if self.now < bound.expires && !bound.withdrawn {
                        let expires = bound.expires.min(leg.expires);
                        let inner = relays.contains(&bound.peer);
                        routes.insert((*client, *number), (leg.relay, bound.peer, expires, inner));
                    }
                }
            }
        }
        routes
    }

    /// Where a Send indication leaves, if it does.
    pub(super) fn send(&self, client: Client, peer: SocketAddr) -> Option<SocketAddr> {
        let leg = self.leg(client, peer)?;
        let good = leg.permissions.contains_key(&peer.ip()) && self.policy(peer, true) == 0;
        good.then_some(leg.relay)
    }

    /// Where ChannelData leaves and goes, if it does.
    pub(super) fn channel_data(
        &self,
        client: Client,
        number: u16,
    ) -> Option<(SocketAddr, SocketAddr)> {
        self.allocations.get(&client)?.values().find_map(|leg| {
            let bound = leg.channels.get(&number).filter(|bound| self.now < bound.expires)?;
            (self.policy(bound.peer, true) == 0).then_some((leg.relay, bound.peer))
        })
    }

    /// How a peer's datagram reaches a client: 0 as a Data indication, or by its channel.
    pub(super) fn by_peer(&self, relay: SocketAddr, peer: SocketAddr) -> Option<(Client, u16)> {
        let mut all =
            self.allocations.iter().flat_map(|(c, legs)| legs.values().map(move |l| (c, l)));
        let (client, leg) = all.find(|(_, leg)| leg.relay == relay)?;
        if self.policy(peer, true) != 0 {
            return None;
        }
        let live = |(_, bound): &(&u16, &Bound)| bound.peer == peer && self.now < bound.expires;
        let channel = leg.channels.iter().find(live).map(|(number, _)| *number);
        let number = channel.or(leg.permissions.contains_key(&peer.ip()).then_some(0))?;
        Some((*client, number))
    }
}
