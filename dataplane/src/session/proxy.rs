//! The header of PROXY protocol version 2: a load balancer says whose connection it passes on. Pure.
//!
//! ```text
//! | 0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A | version, command 1 | family 1 | length 2 | addresses ... |
//!   command 0x20: the balancer's own (a health check), 0x21: a client's
//!   family 0x11: TCP over IPv4, 12 bytes; 0x21: TCP over IPv6, 36 bytes; extensions behind
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header, bytes: room for the extensions that load balancers add.
pub const HEADER_MAX: usize = 16 + 1024;

const SIGNATURE: [u8; 12] =
    [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A];
const FIXED: usize = 16;

/// What a connection from a load balancer begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Not all of it is there: at least `size` bytes in all are needed.
    Partial {
        /// More than there are.
        size: usize,
    },
    /// The connection is the balancer's own.
    Own {
        /// Bytes of the header.
        size: usize,
    },
    /// The connection is a client's.
    Client {
        /// Bytes of the header.
        size: usize,
        /// The client's transport address.
        remote: SocketAddr,
        /// The address that the client sends to.
        local: SocketAddr,
    },
    /// No header, one of version 1, or one that makes no sense.
    Malformed,
}

/// Reads the header at the front of `bytes`.
pub fn read(bytes: &[u8]) -> Header {
    if bytes.iter().zip(SIGNATURE).any(|(byte, expected)| *byte != expected) {
        return Header::Malformed;
    }
    let Some(fixed) = bytes.first_chunk::<FIXED>() else {
        return Header::Partial { size: FIXED };
    };
    let size = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if size > HEADER_MAX {
        return Header::Malformed;
    }
    let Some(body) = bytes.get(FIXED..size) else { return Header::Partial { size } };
    match (fixed[12], fixed[13]) {
        (0x20, _) | (0x21, 0x00) => Header::Own { size },
        (0x21, 0x11) => client(size, v4(body)),
        (0x21, 0x21) => client(size, v6(body)),
        _ => Header::Malformed,
    }
}

fn client(size: usize, pair: Option<[SocketAddr; 2]>) -> Header {
    match pair {
        Some([remote, local]) if is_one_host(remote) && is_one_host(local) => {
            Header::Client { size, remote, local }
        }
        _ => Header::Malformed,
    }
}

/// An address that a client can have.
fn is_one_host(address: SocketAddr) -> bool {
    let ip = address.ip();
    !ip.is_unspecified() && !ip.is_multicast() && address.port() != 0
}

fn v4(body: &[u8]) -> Option<[SocketAddr; 2]> {
    let &[a, b, c, d, e, f, g, h, i, j, k, l] = body.first_chunk::<12>()?;
    let remote = (IpAddr::V4(Ipv4Addr::new(a, b, c, d)), u16::from_be_bytes([i, j]));
    let local = (IpAddr::V4(Ipv4Addr::new(e, f, g, h)), u16::from_be_bytes([k, l]));
    Some([remote.into(), local.into()])
}

fn v6(body: &[u8]) -> Option<[SocketAddr; 2]> {
    let (ips, ports) = body.first_chunk::<36>()?.split_at(32);
    let ip = |at: usize| {
        let octets: [u8; 16] = ips[at..at + 16].try_into().ok()?;
        Some(Ipv6Addr::from(octets).to_canonical())
    };
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some([(ip(0)?, port(0)).into(), (ip(16)?, port(2)).into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0x30, 0x39, 0x0D, 0x96];

    #[test]
    fn a_header_names_client_and_listener() {
        let bytes = header(0x21, 0x11, &[&V4[..], &[4, 0, 1, 0]].concat());
        let expected = Header::Client {
            size: 32,
            remote: "192.0.2.1:12345".parse().unwrap(),
            local: "198.51.100.1:3478".parse().unwrap(),
        };
        assert_eq!(read(&[&bytes[..], b"more"].concat()), expected);
        for end in 0..bytes.len() {
            let Header::Partial { size } = read(&bytes[..end]) else { panic!("{end}") };
            assert!(size > end && size <= bytes.len());
        }
        let mut body = [0; 36];
        body[..2].copy_from_slice(&[0x20, 1]);
        body[15] = 1;
        body[26..32].copy_from_slice(&[0xFF, 0xFF, 198, 51, 100, 1]);
        body[32..].copy_from_slice(&[0x30, 0x39, 0x0D, 0x96]);
        let expected = Header::Client {
            size: 52,
            remote: "[2001::1]:12345".parse().unwrap(),
            local: "198.51.100.1:3478".parse().unwrap(),
        };
        assert_eq!(read(&header(0x21, 0x21, &body)), expected);
    }

    #[test]
    fn health_checks_are_the_balancers_own() {
        assert_eq!(read(&header(0x20, 0x00, &[])), Header::Own { size: 16 });
        assert_eq!(read(&header(0x20, 0x11, &V4)), Header::Own { size: 28 });
        assert_eq!(read(&header(0x21, 0x00, &[])), Header::Own { size: 16 });
    }

    #[test]
    fn version_1_and_what_makes_no_sense_is_malformed() {
        let mut zero_port = V4;
        zero_port[8..10].copy_from_slice(&[0, 0]);
        let mut nobody = V4;
        nobody[..4].copy_from_slice(&[0; 4]);
        let cases = [
            b"PROXY TCP4 192.0.2.1 198.51.100.1 12345 3478\r\n".to_vec(),
            b"\0\x01\0\0\x21\x12\xA4\x42".to_vec(),
            header(0x11, 0x11, &V4),
            header(0x22, 0x11, &V4),
            header(0x21, 0x12, &V4),
            header(0x21, 0x31, &[0; 216]),
            header(0x21, 0x11, &V4[..11]),
            header(0x21, 0x21, &[1; 35]),
            header(0x21, 0x11, &zero_port),
            header(0x21, 0x11, &nobody),
            header(0x21, 0x11, &[1; 1025]),
        ];
        for bytes in cases {
            assert_eq!(read(&bytes), Header::Malformed, "{bytes:02x?}");
        }
    }
}
