//! `struct sockaddr_in` and `sockaddr_in6` as bytes, both ways.
//!
//! ```text
//! in    family (2, host) | port (2) | address (4)  | zero (8)                      16 bytes
//! in6   family (2, host) | port (2) | flowinfo (4) | address (16) | scope (4, host)  28 bytes
//! ```

use super::sys::Name;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes kept for a name: the longer of the two, to a multiple of eight.
pub(super) const NAME_MAX: usize = 32;

const IN: usize = 16;
const IN6: usize = 28;

/// Writes `address`; how many bytes it is.
pub(super) fn encode(Name(name): &mut Name, address: &SocketAddr) -> usize {
    *name = [0; NAME_MAX];
    name[2..4].copy_from_slice(&address.port().to_be_bytes());
    let (family, size) = match address {
        SocketAddr::V4(v4) => {
            name[4..8].copy_from_slice(&v4.ip().octets());
            (libc::AF_INET, IN)
        }
        SocketAddr::V6(v6) => {
            name[8..24].copy_from_slice(&v6.ip().octets());
            name[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            (libc::AF_INET6, IN6)
        }
    };
    name[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    size
}

/// The address in `name`, or nothing when it is of another family or too short.
pub(super) fn decode(name: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = name.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let ip = Ipv4Addr::from(*rest.first_chunk::<4>()?);
            Some(SocketAddrV4::new(ip, port).into())
        }
        libc::AF_INET6 => {
            let (ip, rest) = rest.get(4..)?.split_first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(*ip), port, 0, scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_way_out_and_back() {
        for address in ["192.0.2.1:3478", "[2001:db8::1]:65535", "[fe80::1%3]:1"] {
            let address: SocketAddr = address.parse().unwrap();
            let mut name = Name([0xee; NAME_MAX]);
            let size = encode(&mut name, &address);
            assert_eq!(decode(&name.0[..size]), Some(address));
        }
    }

    #[test]
    fn short_and_foreign_names_are_nothing() {
        let mut name = Name([0; NAME_MAX]);
        let size = encode(&mut name, &SocketAddr::from(([1, 2, 3, 4], 5)));
        for cut in 0..8 {
            assert_eq!(decode(&name.0[..cut]), None);
        }
        assert!(decode(&name.0[..size]).is_some());
        assert_eq!(decode(&[1, 0, 0, 0, 0, 0, 0, 0]), None, "AF_UNIX");
    }
}
