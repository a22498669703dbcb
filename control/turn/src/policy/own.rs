//! Which addresses are this server's own.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

/// This host's addresses: its services, its relay addresses, and the relayed transport addresses
/// that are live.
#[derive(Debug, Default)]
pub struct Own {
    /// Listeners, admin, metrics, stores. An unspecified address stands for every local one.
    services: HashSet<SocketAddr>,
    /// Every address of this host, relay addresses among them.
    local: HashSet<IpAddr>,
    relay_ips: HashSet<IpAddr>,
    /// Live relayed transport addresses and the allocation that has each.
    relayed: HashMap<SocketAddr, u32>,
    /// The same, of TCP allocations. No address is in both: they share the ports.
    listening: HashMap<SocketAddr, u32>,
}

impl Own {
    /// `services`: every transport address that something of ours listens on. `local`: every other
    /// address of this host. `relay_ips`: the addresses that relay ports are opened on.
    pub fn new(services: &[SocketAddr], local: &[IpAddr], relay_ips: &[IpAddr]) -> Self {
        let mut own = Self {
            services: services.iter().map(|&a| super::canonical(a)).collect(),
            relay_ips: relay_ips.iter().copied().collect(),
            ..Self::default()
        };
        own.local.extend(relay_ips);
        own.local.extend(local);
        let bound = own.services.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified());
        own.local.extend(bound.collect::<Vec<_>>());
        own
    }

    /// Marks a relayed transport address live.
    pub fn insert_relayed(&mut self, relay: SocketAddr, allocation: u32) {
        self.relayed.insert(relay, allocation);
    }

    /// A relayed transport address is gone.
    pub fn remove_relayed(&mut self, relay: SocketAddr) {
        self.relayed.remove(&relay);
    }

    /// Marks a TCP allocation's relayed transport address live.
    pub fn insert_listening(&mut self, relay: SocketAddr, allocation: u32) {
        self.listening.insert(relay, allocation);
    }

    /// A TCP allocation's relayed transport address is gone.
    pub fn remove_listening(&mut self, relay: SocketAddr) {
        self.listening.remove(&relay);
    }

    /// The TCP allocation that has this live relayed transport address.
    pub(crate) fn listener_of(&self, relay: SocketAddr) -> Option<u32> {
        self.listening.get(&relay).copied()
    }

    /// The allocation that has this live relayed transport address.
    pub(crate) fn allocation_of(&self, relay: SocketAddr) -> Option<u32> {
        self.relayed.get(&relay).copied()
    }

    /// How many relayed transport addresses are live.
    pub fn relayed_len(&self) -> usize {
        self.relayed.len() + self.listening.len()
    }

    /// Whether the address is a live relayed transport address of ours, by TCP.
    pub fn is_listening(&self, address: SocketAddr) -> bool {
        self.listening.contains_key(&address)
    }

    /// Whether the address is a live relayed transport address of ours, by UDP.
    pub fn is_relayed(&self, address: SocketAddr) -> bool {
        self.relayed.contains_key(&address)
    }

    /// Whether something of ours listens there.
    pub fn is_service(&self, address: SocketAddr) -> bool {
        let any = match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        };
        self.services.contains(&address)
            || (self.is_local(address.ip())
                && self.services.contains(&SocketAddr::new(any, address.port())))
    }

    /// Whether the address is one of this host's; every loopback address is.
    pub fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.local.contains(&ip)
    }

    /// Whether relay ports are opened on this address.
    pub fn is_relay_ip(&self, ip: IpAddr) -> bool {
        self.relay_ips.contains(&ip)
    }
}
