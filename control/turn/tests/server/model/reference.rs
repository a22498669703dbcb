//! A second, plain implementation of RFC 8656's rules for one server, and of RFC 6062's and RFC 8016's:
//! maps and clocks, no indexes, no timers, nothing published. What should be published follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use turn::Client;

mod extensions;

/// TCP connections of one allocation, in the model's server.
pub(crate) const CONNECTIONS_MAX: usize = 2;

fn expiry(now: Duration, secs: u32) -> Duration {
    match secs {
        0 => now,
        secs => now + SECS(u64::from(secs).clamp(600, 3600)),
    }
}

const SECS: fn(u64) -> Duration = Duration::from_secs;

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Allocate {
        v4: bool,
        v6: bool,
        pair: bool,
        token: Option<[u8; 8]>,
        mobile: bool,
        tcp: bool,
    },
    /// With a ticket's bytes.
    Move {
        ticket: Vec<u8>,
        secs: u32,
    },
    Connect(SocketAddr),
    ConnectionBind(u32),
    Refresh {
        family: Option<bool>,
        secs: u32,
    },
    Permit(Vec<SocketAddr>),
    Bind(u16, SocketAddr),
}

#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) peer: SocketAddr,
    pub(crate) expires: Duration,
    /// No route stands: the peer was a relayed address of ours that is gone, or there was no room.
    pub(crate) withdrawn: bool,
    /// The peer was a relayed address of ours when it was bound.
    pub(crate) inner: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Leg {
    pub(crate) relay: SocketAddr,
    pub(crate) expires: Duration,
    pub(crate) permissions: BTreeMap<IpAddr, Duration>,
    pub(crate) channels: BTreeMap<u16, Bound>,
}

#[derive(Debug, Clone)]
pub(crate) struct Allocation {
    pub(crate) user: String,
    pub(crate) transaction: [u8; 12],
    /// By "is IPv6".
    pub(crate) legs: BTreeMap<bool, Leg>,
    pub(crate) mobile: Option<Mobile>,
    /// Of a TCP allocation, by the driver's number.
    pub(crate) tcp: Option<BTreeMap<u32, Connection>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Mobile {
    pub(crate) id: u64,
    pub(crate) count: u32,
    spent: Option<(u32, Client, Duration, bool)>,
    pub(crate) next: Option<Client>,
}

#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) peer: SocketAddr,
    pub(crate) public: u32,
    pub(crate) until: Option<Duration>,
    pub(crate) data: Option<Client>,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) now: Duration,
    pub(crate) allocations: BTreeMap<Client, Allocation>,
    /// Those whose connection has ended.
    pub(crate) absent: Vec<Allocation>,
    /// Which allocation, by number, and which of its tickets each is.
    pub(crate) tickets: BTreeMap<Vec<u8>, (u64, u32)>,
    pub(crate) ids: u64,
    pub(crate) draining: bool,
    pub(crate) tokens: BTreeMap<[u8; 8], Duration>,
    pub(crate) denied: Option<[u8; 3]>,
    pub(crate) own: BTreeSet<IpAddr>,
    pub(crate) services: BTreeSet<SocketAddr>,
    pub(crate) no_ports: bool,
    pub(crate) no_routes: bool,
}

impl Model {
    /// Forgets what is over.
    pub(crate) fn advance(&mut self, now: Duration) {
        self.now = now;
        let mut gone = Vec::new();
        for allocation in self.allocations.values_mut().chain(&mut self.absent) {
            let mut families = Vec::new();
            allocation.legs.retain(|v6, leg| {
                if leg.expires <= now {
                    gone.push(leg.relay);
                    families.push(*v6);
                }
                now < leg.expires
            });
            if let Some(tcp) = &mut allocation.tcp {
                tcp.retain(|_, c| {
                    c.until.is_none_or(|until| now < until) && !families.contains(&c.peer.is_ipv6())
                });
            }
            for leg in allocation.legs.values_mut() {
                leg.permissions.retain(|_, expires| now < *expires);
                leg.channels.retain(|_, bound| now < bound.expires + SECS(300));
            }
        }
        self.allocations.retain(|_, allocation| !allocation.legs.is_empty());
        self.absent.retain(|allocation| !allocation.legs.is_empty());
        self.tokens.retain(|_, expires| now < *expires);
        gone.into_iter().for_each(|relay| self.withdraw(relay));
    }

    fn withdraw(&mut self, relay: SocketAddr) {
        let all = self.allocations.values_mut().chain(&mut self.absent);
        let legs = all.flat_map(|a| a.legs.values_mut());
        for bound in legs.flat_map(|leg| leg.channels.values_mut()) {
            bound.withdrawn |= bound.peer == relay;
        }
    }

    pub(crate) fn everybody(&self) -> impl Iterator<Item = &Allocation> {
        self.allocations.values().chain(&self.absent)
    }

    /// The relayed addresses that take datagrams.
    pub(crate) fn relays(&self) -> BTreeSet<SocketAddr> {
        let udp = self.everybody().filter(|a| a.tcp.is_none());
        udp.flat_map(|a| a.legs.values()).map(|leg| leg.relay).collect()
    }

    /// Those that listen for TCP.
    pub(crate) fn listeners(&self) -> BTreeSet<SocketAddr> {
        let tcp = self.everybody().filter(|a| a.tcp.is_some());
        tcp.flat_map(|a| a.legs.values()).map(|leg| leg.relay).collect()
    }

    /// The allocation that is known by a five-tuple: its own, or the one that it takes over.
    pub(crate) fn find(&self, client: &Client) -> Option<&Allocation> {
        let next = |a: &&Allocation| a.mobile.as_ref().is_some_and(|m| m.next == Some(*client));
        self.allocations.get(client).or_else(|| self.everybody().find(next))
    }

    fn denied(&self, ip: IpAddr) -> bool {
        match (ip, self.denied) {
            (IpAddr::V4(v4), Some(net)) => v4.octets()[..3] == net,
            _ => false,
        }
    }

    /// 0, 403 or 443; `port`: whether the port counts.
    pub(crate) fn policy(&self, peer: SocketAddr, port: bool) -> u16 {
        self.policy_of(peer, port, &self.relays())
    }

    /// The same for a TCP connection: to a peer, or from one, whose port is any.
    pub(crate) fn policy_tcp(&self, peer: SocketAddr, accepted: bool) -> u16 {
        self.policy_of(peer, !accepted, &self.listeners())
    }

    fn policy_of(&self, peer: SocketAddr, port: bool, live: &BTreeSet<SocketAddr>) -> u16 {
        let ip = peer.ip();
        if matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
            return 443;
        }
        let own = self.own.contains(&ip) && port && !live.contains(&peer);
        if self.services.contains(&peer) || self.denied(ip) || own || ip.is_loopback() {
            return 403;
        }
        0
    }

    /// The code that the operation is answered with. 0 is success.
    pub(crate) fn predict(&self, client: Client, user: &str, id: [u8; 12], op: &Op) -> u16 {
        let allocation = self.find(&client);
        match op {
            Op::Move { ticket, .. } => return self.predict_move(client, user, ticket),
            Op::ConnectionBind(public) => return self.predict_bind(user, *public),
            _ => {}
        }
        if let Op::Allocate { token, tcp, .. } = op {
            return match allocation {
                Some(found) if found.transaction == id && found.user == user => 0,
                Some(_) => 437,
                None if *tcp && !client.transport.is_stream() => 400,
                None if self.draining => 508,
                None if token.is_some_and(|token| !self.tokens.contains_key(&token)) => 508,
                None if self.no_ports => 508,
                None => 0,
            };
        }
        let Some(allocation) = allocation else { return 437 };
        if allocation.user != user {
            return 441;
        }
        if self.no_ports && allocation.tcp.is_none() && !self.allocations.contains_key(&client) {
            // It cannot take over.
            return 508;
        }
        let leg = |peer: &SocketAddr| allocation.legs.get(&peer.is_ipv6());
        match op {
            Op::Allocate { .. } | Op::Move { .. } | Op::ConnectionBind(_) => {
                unreachable!("answered above")
            }
            Op::Bind(..) if allocation.tcp.is_some() => 403,
            Op::Connect(peer) => {
                let Some(connections) = &allocation.tcp else { return 403 };
                if connections.values().any(|connection| connection.peer == *peer) {
                    return 446;
                }
                match (leg(peer), self.policy_tcp(*peer, false)) {
                    (None, _) => 443,
                    (_, 0) if connections.len() >= CONNECTIONS_MAX => 486,
                    (_, code) => code,
                }
            }
            Op::Refresh { family: Some(v6), .. } if !allocation.legs.contains_key(v6) => 443,
            Op::Refresh { .. } => 0,
            Op::Permit(peers) if peers.is_empty() => 400,
            Op::Permit(peers) => {
                let each = |peer| leg(peer).map_or(443, |_| self.policy(*peer, false));
                peers.iter().map(each).find(|&code| code != 0).unwrap_or(0)
            }
            Op::Bind(number, peer) => {
                let mut bound = allocation.legs.values().flat_map(|leg| &leg.channels);
                if bound.any(|(n, b)| (n == number) != (b.peer == *peer)) {
                    return 400;
                }
                let Some(leg) = leg(peer) else { return 443 };
                // On its way to another five-tuple there is no route to publish again.
                let here = self.allocations.contains_key(&client);
                let standing = leg
                    .channels
                    .get(number)
                    .is_some_and(|b| here && !b.withdrawn && self.now < b.expires);
                match self.policy(*peer, true) {
                    0 if self.no_routes && !standing => 508,
                    code => code,
                }
            }
        }
    }

    /// Carries out an operation that was answered with success. `relays` and `token` are the
    /// server's choice.
    pub(crate) fn apply(
        &mut self,
        client: Client,
        user: &str,
        id: [u8; 12],
        op: &Op,
        relays: &[SocketAddr],
        made: Option<[u8; 8]>,
    ) {
        let now = self.now;
        match op {
            Op::Move { .. } | Op::Connect(_) | Op::ConnectionBind(_) => {
                unreachable!("carried out apart")
            }
            Op::Allocate { token, mobile, tcp, .. } => {
                if self.find(&client).is_some() || self.allocations.contains_key(&client) {
                    return;
                }
                token.inspect(|token| assert!(self.tokens.remove(token).is_some()));
                made.inspect(|token| assert!(self.tokens.insert(*token, now + SECS(30)).is_none()));
                let taken: Vec<_> = self.relays().into_iter().chain(self.listeners()).collect();
                assert!(relays.iter().all(|relay| !taken.contains(relay)), "a port has two owners");
                let leg = |&relay: &SocketAddr| {
                    let (permissions, channels) = Default::default();
                    let expires = now + SECS(600);
                    (relay.is_ipv6(), Leg { relay, expires, permissions, channels })
                };
                let legs = relays.iter().map(leg).collect();
                self.ids += 1;
                let id_of = self.ids;
                let mobile =
                    mobile.then_some(Mobile { id: id_of, count: 1, spent: None, next: None });
                let tcp = tcp.then(BTreeMap::new);
                let user = user.into();
                let made = Allocation { user, transaction: id, legs, mobile, tcp };
                self.allocations.insert(client, made);
            }
            Op::Refresh { family, secs } => {
                let allocation = self.allocations.get_mut(&client).expect("predicted");
                let expires = expiry(now, *secs);
                for (v6, leg) in &mut allocation.legs {
                    if family.is_none_or(|only| only == *v6) {
                        leg.expires = expires;
                    }
                }
                self.advance(now);
            }
            Op::Permit(peers) => peers.iter().for_each(|peer| self.permit(client, *peer)),
            Op::Bind(number, peer) => {
                let inner = self.relays().contains(peer);
                let allocation = self.allocations.get_mut(&client).expect("predicted");
                let leg = allocation.legs.get_mut(&peer.is_ipv6()).expect("predicted");
                let expires = now + SECS(600);
                let bound = Bound { peer: *peer, expires, withdrawn: false, inner };
                leg.channels.insert(*number, bound);
                self.permit(client, *peer);
            }
        }
    }

    fn permit(&mut self, client: Client, peer: SocketAddr) {
        let allocation = self.allocations.get_mut(&client).expect("predicted");
        let leg = allocation.legs.get_mut(&peer.is_ipv6()).expect("predicted");
        leg.permissions.insert(peer.ip(), self.now + SECS(300));
    }

    /// Takes another deny list.
    pub(crate) fn reload(&mut self, denied: Option<[u8; 3]>) {
        self.denied = denied;
        let (now, denies) = (self.now, |ip| match (ip, denied) {
            (IpAddr::V4(v4), Some(net)) => v4.octets()[..3] == net,
            _ => false,
        });
        for allocation in self.allocations.values_mut().chain(&mut self.absent) {
            if let Some(tcp) = &mut allocation.tcp {
                tcp.retain(|_, connection| !denies(connection.peer.ip()));
            }
        }
        let all = self.allocations.values_mut().chain(&mut self.absent);
        for leg in all.flat_map(|a| a.legs.values_mut()) {
            leg.permissions.retain(|ip, _| !denies(*ip));
            for bound in leg.channels.values_mut().filter(|bound| denies(bound.peer.ip())) {
                bound.expires = bound.expires.min(now);
            }
        }
        self.advance(now);
    }

    /// What should be published: (client, number) to (relay, peer, expiry, inner).
    pub(crate) fn routes(
        &self,
    ) -> BTreeMap<(Client, u16), (SocketAddr, SocketAddr, Duration, bool)> {
        let relays = self.relays();
        let mut routes = BTreeMap::new();
        for (client, allocation) in &self.allocations {
            for leg in allocation.legs.values() {
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

    /// Permissions that may be published, by relayed and peer's address: whose, until when, and
    /// whether the peer has a channel without a route.
    pub(crate) fn permits(&self) -> BTreeMap<(SocketAddr, IpAddr), (Client, Duration, bool)> {
        let mut permits = BTreeMap::new();
        for (client, allocation) in self.allocations.iter().filter(|(_, a)| a.tcp.is_none()) {
            for leg in allocation.legs.values() {
                for (ip, expires) in &leg.permissions {
                    if self.own.contains(ip) || self.policy(SocketAddr::new(*ip, 9), true) != 0 {
                        continue;
                    }
                    let of_peer = |bound: &&Bound| bound.peer.ip() == *ip;
                    let unrouted = leg.channels.values().filter(of_peer).any(|b| b.withdrawn);
                    let expires = leg.expires.min(*expires);
                    permits.insert((leg.relay, *ip), (*client, expires, unrouted));
                }
            }
        }
        permits
    }

    /// Where a Send indication leaves, if it does.
    pub(crate) fn send(&self, client: Client, peer: SocketAddr) -> Option<SocketAddr> {
        let allocation = self.find(&client).filter(|a| a.tcp.is_none())?;
        let leg = allocation.legs.get(&peer.is_ipv6())?;
        let good = leg.permissions.contains_key(&peer.ip()) && self.policy(peer, true) == 0;
        good.then_some(leg.relay)
    }

    /// Where ChannelData leaves and goes, if it does.
    pub(crate) fn channel_data(
        &self,
        client: Client,
        number: u16,
    ) -> Option<(SocketAddr, SocketAddr)> {
        let mut legs = self.find(&client)?.legs.values();
        legs.find_map(|leg| {
            let bound = leg.channels.get(&number).filter(|bound| self.now < bound.expires)?;
            (self.policy(bound.peer, true) == 0).then_some((leg.relay, bound.peer))
        })
    }

    /// How a peer's datagram reaches the client: 0 as a Data indication, or by its channel.
    pub(crate) fn by_peer(&self, relay: SocketAddr, peer: SocketAddr) -> Option<u16> {
        let udp = self.allocations.values().filter(|a| a.tcp.is_none());
        let leg = udp.flat_map(|a| a.legs.values()).find(|leg| leg.relay == relay)?;
        if self.policy(peer, true) != 0 {
            return None;
        }
        let bound = |(_, bound): &(&u16, &Bound)| bound.peer == peer && self.now < bound.expires;
        let channel = leg.channels.iter().find(bound).map(|(number, _)| *number);
        channel.or(leg.permissions.contains_key(&peer.ip()).then_some(0))
    }
}
