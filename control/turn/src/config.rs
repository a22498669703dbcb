//! What a server is made with. The caller has checked it: addresses are the host's, the port range
//! is not empty.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::limits::Limits;
use crate::nonce::NONCE_LIFETIME;
use crate::policy::Policy;

/// An address of this host that relay ports are opened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayAddress {
    /// As this host has it.
    pub local: IpAddr,
    /// As clients and peers see it: the same, or that of a 1:1 NAT in front of this host.
    pub advertised: IpAddr,
}

impl RelayAddress {
    /// Without a NAT in front.
    pub fn plain(ip: IpAddr) -> Self {
        Self { local: ip, advertised: ip }
    }
}

/// Another server that clients are sent to (RFC 8489 section 10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternate {
    /// Its address: ALTERNATE-SERVER. A client is only sent to one of its own family.
    pub address: SocketAddr,
    /// The name in its certificate, at most 255 bytes: ALTERNATE-DOMAIN, over TLS and DTLS.
    pub domain: Option<String>,
}

/// Two addresses and two ports for NAT behaviour discovery (RFC 5780 section 6). All four pairs are
/// listeners. Off by default: answers go to where the client asks (CHANGE-REQUEST,
/// RESPONSE-PORT), within [`Limits::nat_discovery`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NatDiscovery {
    /// Two addresses of one family, each as this host has it and as clients see it.
    pub addresses: [RelayAddress; 2],
    /// Two ports, not the same.
    pub ports: [u16; 2],
}

/// A server's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where relay ports are opened, any number of each family. A family without one is answered
    /// with 440.
    pub relays: Vec<RelayAddress>,
    /// The relay ports, on each relay address.
    pub ports: RangeInclusive<u16>,
    /// Every transport address that something of ours listens on: listeners, admin, metrics,
    /// stores. Never a peer. An unspecified address stands for all of this host's.
    pub services: Vec<SocketAddr>,
    /// The other addresses of this host.
    pub local_addresses: Vec<IpAddr>,
    /// Which addresses may be peers.
    pub policy: Policy,
    /// An allocation's lifetime unless its client asks for more (RFC 8656 section 3.2: 600 s).
    pub lifetime_default: Duration,
    /// The longest lifetime that a client is given (RFC 8656 section 7.2: at most 3600 s).
    pub lifetime_max: Duration,
    /// How long a nonce is good (RFC 8656 section 5: at most an hour).
    pub nonce_lifetime: Duration,
    /// The key of nonces, shared by the servers of a fleet; `None` for a random one.
    pub nonce_key: Option<[u8; 32]>,
    /// Announce "username anonymity" (RFC 8489 section 9.2.1), if all users can be found by hash.
    pub username_anonymity: bool,
    /// Give TCP allocations (RFC 6062) to clients over TCP and TLS; else 442 answers them.
    pub tcp_relay: bool,
    /// Let allocations move to another five-tuple (RFC 8016); else 405 answers MOBILITY-TICKET.
    pub mobility: bool,
    /// NAT behaviour discovery: at most one for each family; none means off.
    pub nat_discovery: Vec<NatDiscovery>,
    /// Where new clients are sent while this server drains, or always.
    pub alternates: Vec<Alternate>,
    /// Send every new allocation to an alternate, as a server that only distributes.
    pub redirect: bool,
    /// SOFTWARE in responses to authenticated requests; `None` leaves it out.
    pub software: Option<String>,
    /// Everything that is bounded.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            relays: Vec::new(),
            ports: 49152..=65535,
            services: Vec::new(),
            local_addresses: Vec::new(),
            policy: Policy::default(),
            lifetime_default: Duration::from_secs(600),
            lifetime_max: Duration::from_secs(3600),
            nonce_lifetime: NONCE_LIFETIME,
            nonce_key: None,
            username_anonymity: false,
            tcp_relay: false,
            mobility: false,
            nat_discovery: Vec::new(),
            alternates: Vec::new(),
            redirect: false,
            software: None,
            limits: Limits::default(),
        }
    }
}
