//! IP addresses and transport addresses in one shape for both families.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, network_endian::U16};

/// Which IP a datagram travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// An IPv6 address, or an IPv4 address mapped into IPv6 (`::ffff:a.b.c.d`), in network order.
///
/// A mapped address never travels in an IPv6 header here: the parser refuses it, so the two
/// families cannot be confused. Two words rather than sixteen bytes, because the BPF target
/// copies and compares words well and bytes badly.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Address([u64; 2]);

/// Bytes 8 to 11 of a mapped address; bytes 12 to 15 are the IPv4 address.
const MAPPED: u64 = u32::from_le_bytes([0, 0, 0xff, 0xff]) as u64;

impl Address {
    /// The IPv4 address `octets`, mapped.
    #[inline(always)]
    pub const fn v4(octets: [u8; 4]) -> Self {
        Self([0, MAPPED | (u32::from_le_bytes(octets) as u64) << 32])
    }

    /// The IPv6 address `octets`.
    #[inline(always)]
    pub const fn v6([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]: [u8; 16]) -> Self {
        Self([
            u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            u64::from_le_bytes([i, j, k, l, m, n, o, p]),
        ])
    }

    #[inline(always)]
    pub(crate) const fn from_words(words: [u64; 2]) -> Self {
        Self(words)
    }

    #[inline(always)]
    pub(crate) const fn words(&self) -> [u64; 2] {
        self.0
    }

    /// The family that a datagram to this address travels in.
    #[inline(always)]
    pub const fn family(&self) -> Family {
        if self.0[0] == 0 && self.0[1] & 0xffff_ffff == MAPPED { Family::V4 } else { Family::V6 }
    }

    /// All sixteen bytes.
    #[inline(always)]
    pub const fn octets(&self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.0[0].to_le_bytes();
        let [i, j, k, l, m, n, o, p] = self.0[1].to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// The four bytes of a mapped IPv4 address; meaningless for IPv6.
    #[inline(always)]
    pub(crate) const fn octets4(&self) -> [u8; 4] {
        ((self.0[1] >> 32) as u32).to_le_bytes()
    }
}

impl core::fmt::Debug for Address {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        IpAddr::from(*self).fmt(formatter)
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::v4(ip.octets()),
            IpAddr::V6(ip) => Self::v6(ip.octets()),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        match address.family() {
            Family::V4 => IpAddr::V4(address.octets4().into()),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(address.octets())),
        }
    }
}

/// A transport address: IP address and UDP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// IP address.
    pub address: Address,
    /// UDP port, network order.
    pub port: U16,
}

impl From<SocketAddr> for Endpoint {
    fn from(socket: SocketAddr) -> Self {
        Self { address: socket.ip().into(), port: socket.port().into() }
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(endpoint: Endpoint) -> Self {
        SocketAddr::new(endpoint.address.into(), endpoint.port.get())
    }
}
