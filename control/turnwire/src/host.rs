//! What this host offers: addresses, routes and cores, as a value, so that choices made of it can
//! be tested.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use crate::sys::{self, InterfaceAddress};

/// What was found on a host.
#[derive(Debug, Clone)]
pub struct Host {
    /// Every address of every interface.
    pub addresses: Vec<InterfaceAddress>,
    /// Addresses that will go away by themselves, or are not good yet (RFC 8981, RFC 4862).
    pub passing: HashSet<Ipv6Addr>,
    /// The addresses that the host itself sends from to the internet, one for each family.
    pub routed: Vec<IpAddr>,
    /// The cores that this process may run on.
    pub cores: Vec<usize>,
    /// How many of them it gets the time of (a container may have a share only).
    pub parallelism: usize,
    /// Whether a socket can be bound to an address.
    pub can_bind: fn(IpAddr) -> bool,
    /// Whether there is a network interface of this name.
    pub has_interface: fn(&str) -> bool,
}

impl Host {
    /// Looks at this host.
    ///
    /// # Errors
    /// Interfaces or cores cannot be read.
    pub fn look() -> io::Result<Host> {
        let inet6 = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        let documentation = [
            (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv4Addr::new(192, 0, 2, 1))),
            (
                IpAddr::from(Ipv6Addr::UNSPECIFIED),
                "2001:db8::1".parse().unwrap_or(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            ),
        ];
        let cores = sys::allowed_cores()?;
        Ok(Host {
            addresses: sys::interface_addresses()?,
            passing: passing(&inet6),
            routed: documentation.into_iter().filter_map(|(any, to)| source_to(any, to)).collect(),
            parallelism: std::thread::available_parallelism().map_or(cores.len(), usize::from),
            cores,
            can_bind: |ip| UdpSocket::bind((ip, 0)).is_ok(),
            has_interface: |name| Path::new("/sys/class/net").join(name).exists(),
        })
    }

    /// Whether `ip` is an address of this host.
    pub fn has(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|address| address.ip == ip) || (self.can_bind)(ip)
    }

    /// The broadcast addresses of the networks that this host is in.
    pub fn broadcasts(&self) -> Vec<Ipv4Addr> {
        let broadcast = |address: &InterfaceAddress| match address.ip {
            IpAddr::V4(ip) if address.prefix_len < 31 => {
                let host_bits = u32::MAX.checked_shr(address.prefix_len.into()).unwrap_or(0);
                Some(Ipv4Addr::from_bits(ip.to_bits() | host_bits))
            }
            _ => None,
        };
        let mut found: Vec<Ipv4Addr> = self.addresses.iter().filter_map(broadcast).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The best relay address of one family, unless all there is are loopback and link-local:
    /// one that is global before one that is not, then the one this host sends from.
    pub fn relay_ip(&self, ipv4: bool) -> Option<IpAddr> {
        let good = |address: &&InterfaceAddress| {
            address.ip.is_ipv4() == ipv4
                && address.up
                && !address.loopback
                && match address.ip {
                    IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_loopback(),
                    IpAddr::V6(ip) => {
                        !ip.is_unicast_link_local()
                            && !ip.is_loopback()
                            && !self.passing.contains(&ip)
                    }
                }
        };
        let rank = |ip: &IpAddr| (!is_global(*ip), !self.routed.contains(ip));
        self.addresses.iter().filter(good).map(|address| address.ip).min_by_key(rank)
    }
}

/// Whether an address can be reached from anywhere, as far as its range tells.
pub fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || (a == 100 && b & 0xc0 == 64)
                || (a == 198 && b & 0xfe == 18)
                || a == 0
                || a >= 224)
        }
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            first & 0xe000 == 0x2000 && !(first == 0x2001 && second == 0xdb8)
        }
    }
}

/// The address from which this host would send to `to`. No packet is sent.
fn source_to(any: IpAddr, to: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(to, 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// The addresses that /proc/net/if_inet6 marks temporary, deprecated, tentative or duplicate.
///
/// ```text
/// fe80000000000000505400fffe123456 02 40 20 80     eth0
/// address                          if  prefix scope flags name
/// ```
fn passing(if_inet6: &str) -> HashSet<Ipv6Addr> {
    const TEMPORARY: u8 = 0x01;
    const DUPLICATE: u8 = 0x08;
    const DEPRECATED: u8 = 0x20;
    const TENTATIVE: u8 = 0x40;
    let mut found = HashSet::new();
    for line in if_inet6.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [address, _, _, _, flags, _] = fields.as_slice() else { continue };
        let (Ok(bits), Ok(flags)) =
            (u128::from_str_radix(address, 16), u8::from_str_radix(flags, 16))
        else {
            continue;
        };
        if flags & (TEMPORARY | DUPLICATE | DEPRECATED | TENTATIVE) != 0 {
            found.insert(Ipv6Addr::from_bits(bits));
        }
    }
    found
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A host with these addresses (`name ip/prefix`), which sends from the first of each family.
    pub(crate) fn host(addresses: &[&str]) -> Host {
        let addresses: Vec<InterfaceAddress> = addresses
            .iter()
            .map(|text| {
                let (name, net) = text.split_once(' ').expect("name ip/prefix");
                let (ip, prefix) = net.split_once('/').expect("ip/prefix");
                InterfaceAddress {
                    name: name.to_owned(),
                    ip: ip.parse().expect("an address"),
                    prefix_len: prefix.parse().expect("a prefix"),
                    up: true,
                    loopback: name == "lo",
                }
            })
            .collect();
        Host {
            addresses,
            passing: HashSet::new(),
            routed: Vec::new(),
            cores: vec![0, 1],
            parallelism: 2,
            can_bind: |ip| ip.is_unspecified() || ip.is_loopback(),
            has_interface: |name| ["lo", "eth0"].contains(&name),
        }
    }

    #[test]
    fn a_global_address_is_chosen_before_a_private_one_and_a_routed_one_before_others() {
        let mut found = host(&["lo 127.0.0.1/8", "docker0 172.17.0.1/16", "eth0 10.0.0.7/24"]);
        found.routed = vec!["10.0.0.7".parse().expect("an address")];
        assert_eq!(found.relay_ip(true), "10.0.0.7".parse().ok());
        let found = host(&["eth0 10.0.0.7/24", "eth1 8.8.4.4/24"]);
        assert_eq!(found.relay_ip(true), "8.8.4.4".parse().ok());
        assert_eq!(found.relay_ip(false), None);
    }

    #[test]
    fn loopback_link_local_and_temporary_addresses_are_not_chosen() {
        let mut found = host(&[
            "lo ::1/128",
            "eth0 fe80::1/64",
            "eth0 2001:4860::1234/64",
            "eth0 2001:4860::7/64",
        ]);
        found.passing = passing("20014860000000000000000000001234 02 40 00 01     eth0\n");
        assert_eq!(found.relay_ip(false), "2001:4860::7".parse().ok());
    }

    #[test]
    fn broadcasts_are_those_of_the_hosts_networks() {
        let found = host(&["lo 127.0.0.1/8", "eth0 10.0.0.7/24", "ppp0 10.9.9.9/32"]);
        let expected: Vec<Ipv4Addr> =
            ["10.0.0.255", "127.255.255.255"].map(|ip| ip.parse().expect("an address")).into();
        assert_eq!(found.broadcasts(), expected);
    }

    #[test]
    fn ranges_that_nobody_can_reach_are_not_global() {
        for (ip, global) in [
            ("8.8.8.8", true),
            ("100.64.0.1", false),
            ("198.19.0.1", false),
            ("203.0.113.1", false),
            ("2001:4860::1", true),
            ("fd00::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_global(ip.parse().expect("an address")), global, "{ip}");
        }
    }
}
