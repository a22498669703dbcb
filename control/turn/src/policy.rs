//! The peer policy: which addresses may be a peer. One pure function, applied to what an address
//! means and not to how it is written.
//!
//! ```text
//!  canonicalise ─> port 0, embedded IPv4, never a peer ─> our own services ─> deny/allow lists
//!                                             (the most specific rule wins, deny on a tie)
//!     ─> our own addresses (live relayed address: good; anything else: bad) ─> the profile
//! ```
//!
//! The control plane asks before any permission or route exists, so a fast tier can never hold a
//! forbidden route. Servers have failed here again and again: CVE-2020-26262 (0.0.0.0, `[::]` and
//! `[::1]` reached loopback), CVE-2026-27624 (`::ffff:127.0.0.1` passed), 6to4 and NAT64 encodings.

use std::net::{IpAddr, SocketAddr};

mod own;
mod ranges;
mod rule;

use ipnet::IpNet;

pub use own::Own;
pub use ranges::Embedding;
pub use rule::{RuleError, parse_rule};

/// What is allowed when neither list says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Only what is reachable on the public Internet.
    #[default]
    Public,
    /// The public Internet, and the private ranges 10/8, 172.16/12, 192.168/16 and fc00::/7. Not
    /// link-local and not the clouds' metadata addresses: those need an `allow` rule.
    Lan,
}

impl std::str::FromStr for Profile {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        match text {
            "public" => Ok(Self::Public),
            "lan" => Ok(Self::Lan),
            other => Err(RuleError::profile(other)),
        }
    }
}

/// Why a peer is refused; the name says which STUN error answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 403 Forbidden.
    Forbidden403,
    /// 443 Peer Address Family Mismatch: an IPv4 address in IPv6's clothes.
    FamilyMismatch443,
}

/// The rules of one configuration. Replaced as a whole on a reload.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    profile: Profile,
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

impl Policy {
    /// `deny` also takes what only the host knows: the directed broadcast addresses of its
    /// interfaces, each as a /32.
    pub fn new(profile: Profile, allow: Vec<IpNet>, deny: Vec<IpNet>) -> Self {
        Self { profile, allow, deny }
    }

    /// Whether datagrams may be exchanged with this transport address (ChannelBind, Send
    /// indications, and datagrams that arrive from it).
    pub fn decide(&self, peer: SocketAddr, own: &Own) -> Result<(), Refusal> {
        self.decide_by(peer, own, Own::is_relayed)
    }

    /// Whether a TCP connection may be made to, or taken from, this transport address (Connect, and
    /// peers that connect, RFC 6062). Of our own addresses only those that listen for a TCP
    /// allocation are good: behind another port somebody else of this host may listen.
    pub fn decide_connection(&self, peer: SocketAddr, own: &Own) -> Result<(), Refusal> {
        self.decide_by(peer, own, Own::is_listening)
    }

    /// Whether a TCP connection that this peer has made may stay. Its port is any: of our own
    /// addresses those that relay ports are opened on are good.
    pub fn decide_accepted(&self, peer: SocketAddr, own: &Own) -> Result<(), Refusal> {
        self.decide_by(peer, own, |own, peer| own.is_relay_ip(peer.ip()))
    }

    fn decide_by(
        &self,
        peer: SocketAddr,
        own: &Own,
        is_live: fn(&Own, SocketAddr) -> bool,
    ) -> Result<(), Refusal> {
        let peer = canonical(peer);
        self.well_formed(peer.ip())?;
        if peer.port() == 0 || own.is_service(peer) {
            return Err(Refusal::Forbidden403);
        }
        match self.listed(peer.ip()) {
            Some(verdict) => verdict,
            None if is_live(own, peer) => Ok(()),
            None if own.is_local(peer.ip()) => Err(Refusal::Forbidden403),
            None => self.profiled(peer.ip()),
        }
    }

    /// Whether a permission may be installed for an address (CreatePermission). RFC 8656 section
    /// 10.2 ignores the port, so an address of our own passes, as one of its ports may be relayed;
    /// each datagram is decided again by its port. The one port that is not ignored is that of a
    /// service of ours.
    pub fn decide_permission(&self, peer: SocketAddr, own: &Own) -> Result<(), Refusal> {
        let peer = canonical(peer);
        self.well_formed(peer.ip())?;
        if own.is_service(peer) {
            return Err(Refusal::Forbidden403);
        }
        match self.listed(peer.ip()) {
            Some(verdict) => verdict,
            None if own.is_relay_ip(peer.ip()) => Ok(()),
            None if own.is_local(peer.ip()) => Err(Refusal::Forbidden403),
            None => self.profiled(peer.ip()),
        }
    }

    /// Whether an address may be a peer whatever the port, so that who looks at addresses alone may be
    /// told. None of this host's: which of its ports are good changes with every allocation.
    pub fn admits_all_ports(&self, peer: IpAddr, own: &Own) -> bool {
        let any = SocketAddr::new(peer, 1);
        // where a service of ours listens, the address is local
        !own.is_local(peer) && self.decide(any, own).is_ok()
    }

    /// What no list can allow.
    fn well_formed(&self, ip: IpAddr) -> Result<(), Refusal> {
        match ip {
            IpAddr::V6(v6) => match ranges::embedding(v6) {
                Some(Embedding::Mapped) => Err(Refusal::FamilyMismatch443),
                Some(_) => Err(Refusal::Forbidden403),
                None if v6.is_unspecified() || v6.is_multicast() => Err(Refusal::Forbidden403),
                None => Ok(()),
            },
            IpAddr::V4(v4) => {
                // All of 0/8: Linux takes 0.0.0.0 for this host.
                let never = v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast();
                if never { Err(Refusal::Forbidden403) } else { Ok(()) }
            }
        }
    }

    fn listed(&self, ip: IpAddr) -> Option<Result<(), Refusal>> {
        let best = |list: &[IpNet]| {
            list.iter().filter(|net| net.contains(&ip)).map(IpNet::prefix_len).max()
        };
        match (best(&self.allow), best(&self.deny)) {
            (None, None) => None,
            (allow, deny) if allow > deny => Some(Ok(())),
            _ => Some(Err(Refusal::Forbidden403)),
        }
    }

    fn profiled(&self, ip: IpAddr) -> Result<(), Refusal> {
        let private = self.profile == Profile::Lan && ranges::is_private(ip);
        if private || ranges::is_global(ip) { Ok(()) } else { Err(Refusal::Forbidden403) }
    }
}

/// The address alone: flow label and scope are not part of an identity.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

#[cfg(test)]
mod tests;
