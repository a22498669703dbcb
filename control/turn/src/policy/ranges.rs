//! What the address registries say: special ranges, and IPv4 addresses inside IPv6 addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The ways to write an IPv4 address inside an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embedding {
    /// `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2).
    Mapped,
    /// `::a.b.c.d` (RFC 4291 section 2.5.5.1), but for `::` and `::1`, which are no IPv4 addresses.
    Compatible,
    /// `2002:ab:cd::/48` (RFC 3056).
    SixToFour,
    /// `2001:0::/32`, the client's address inverted (RFC 4380).
    Teredo,
    /// `64:ff9b::/96` and `64:ff9b:1::/48` (RFC 6052, RFC 8215).
    Nat64,
    /// `::ffff:0:a.b.c.d` (RFC 7915).
    Siit,
    /// An interface identifier of `[0200:]5efe:a.b.c.d` (RFC 5214).
    Isatap,
}

/// Whether and how an IPv6 address embeds an IPv4 address.
pub(super) fn embedding(ip: Ipv6Addr) -> Option<Embedding> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, _, _] => Some(Embedding::Mapped),
        // Unspecified and loopback (RFC 4291 sections 2.5.2 and 2.5.3).
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0, _, _] => Some(Embedding::Compatible),
        [0, 0, 0, 0, 0xffff, 0, _, _] => Some(Embedding::Siit),
        [0x2002, ..] => Some(Embedding::SixToFour),
        [0x2001, 0, ..] => Some(Embedding::Teredo),
        [0x64, 0xff9b, 0 | 1, ..] => Some(Embedding::Nat64),
        // The universal/local bit may be either way, and so may the group bit.
        [_, _, _, _, iid, 0x5efe, _, _] if iid & !0x0300 == 0 => Some(Embedding::Isatap),
        _ => None,
    }
}

/// IPv4 ranges that are not the public Internet, as (address, prefix length).
const SPECIAL_V4: &[([u8; 4], u8)] = &[
    ([0, 0, 0, 0], 8),        // this host (RFC 791)
    ([10, 0, 0, 0], 8),       // private (RFC 1918)
    ([100, 64, 0, 0], 10),    // shared, carrier-grade NAT (RFC 6598)
    ([127, 0, 0, 0], 8),      // loopback
    ([168, 63, 129, 16], 32), // Azure's host agent
    ([169, 254, 0, 0], 16),   // link-local; the clouds' metadata
    ([172, 16, 0, 0], 12),    // private
    ([192, 0, 0, 0], 24),     // IETF protocol assignments; Oracle's metadata
    ([192, 0, 2, 0], 24),     // documentation
    ([192, 88, 99, 0], 24),   // 6to4 relay anycast, withdrawn
    ([192, 168, 0, 0], 16),   // private
    ([198, 18, 0, 0], 15),    // benchmarks
    ([198, 51, 100, 0], 24),  // documentation
    ([203, 0, 113, 0], 24),   // documentation
    ([224, 0, 0, 0], 4),      // multicast
    ([240, 0, 0, 0], 4),      // reserved, and broadcast
];

/// IPv6 ranges inside 2000::/3 that are not the public Internet. 2001::/23 has exceptions below.
const SPECIAL_V6: &[([u16; 8], u8)] = &[
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), // IETF protocol assignments
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), // 6to4
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), // documentation (RFC 9637)
];

/// What IANA's registry marks globally reachable inside 2001::/23.
const GLOBAL_ASSIGNMENTS_V6: &[([u16; 8], u8)] = &[
    ([0x2001, 1, 0, 0, 0, 0, 0, 1], 128), // Port Control Protocol anycast (RFC 7723)
    ([0x2001, 1, 0, 0, 0, 0, 0, 2], 128), // TURN anycast (RFC 8155)
    ([0x2001, 1, 0, 0, 0, 0, 0, 3], 128), // DNS-SD service registration anycast (RFC 9665)
    ([0x2001, 3, 0, 0, 0, 0, 0, 0], 32),  // AMT (RFC 7450)
    ([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48), // AS112-v6 (RFC 7535)
    ([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28), // ORCHIDv2 (RFC 7343)
    ([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28), // drone remote identification (RFC 9374)
];

/// Amazon's metadata service, in the middle of fc00::/7.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Whether the address is one of the public Internet's.
pub(super) fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !SPECIAL_V4.iter().any(|&range| within_v4(v4, range)),
        IpAddr::V6(v6) => {
            let listed = |list: &[([u16; 8], u8)]| list.iter().any(|&range| within_v6(v6, range));
            within_v6(v6, ([0x2000, 0, 0, 0, 0, 0, 0, 0], 3))
                && (!listed(SPECIAL_V6) || listed(GLOBAL_ASSIGNMENTS_V6))
        }
    }
}

/// Whether the address is one of those that anyone may use at home: RFC 1918 and RFC 4193.
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(v6) => v6.is_unique_local() && v6 != METADATA_V6,
    }
}

fn within_v4(ip: Ipv4Addr, (net, len): ([u8; 4], u8)) -> bool {
    let mask = u32::MAX << (32 - u32::from(len));
    (u32::from(ip) ^ u32::from_be_bytes(net)) & mask == 0
}

fn within_v6(ip: Ipv6Addr, (net, len): ([u16; 8], u8)) -> bool {
    let mask = u128::MAX << (128 - u32::from(len));
    (u128::from(ip) ^ u128::from(Ipv6Addr::from(net))) & mask == 0
}
