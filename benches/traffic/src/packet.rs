//! Ethernet frames with a UDP datagram in them, whole checksums included.

use std::net::{IpAddr, SocketAddr};

/// The internet checksum's sum (RFC 1071), not yet complemented.
pub fn sum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// What the UDP checksum covers beside the datagram itself (RFC 768, RFC 8200 section 8.1).
pub fn pseudo_header(src: IpAddr, dst: IpAddr, size: u16) -> Vec<u8> {
    let mut bytes = [octets(src), octets(dst)].concat();
    bytes.extend([0, 17]);
    bytes.extend(size.to_be_bytes());
    bytes
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Ethernet and IP headers in front of a UDP datagram of `size` bytes.
pub fn head(to: [u8; 6], from: [u8; 6], src: IpAddr, dst: IpAddr, size: u16) -> Vec<u8> {
    let mut frame = [to, from].concat();
    match dst {
        IpAddr::V4(_) => {
            frame.extend([0x08, 0x00]);
            let mut ip = vec![0x45, 0];
            ip.extend((20 + size).to_be_bytes());
            ip.extend([0x12, 0x34, 0x40, 0, 64, 17, 0, 0]);
            ip.extend([octets(src), octets(dst)].concat());
            let checksum = !sum(&ip);
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            frame.extend(ip);
        }
        IpAddr::V6(_) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(size.to_be_bytes());
            frame.extend([17, 64]);
            frame.extend([octets(src), octets(dst)].concat());
        }
    }
    frame
}

/// A whole frame.
pub fn udp(
    to: [u8; 6],
    from: [u8; 6],
    src: SocketAddr,
    dst: SocketAddr,
    payload: &[u8],
) -> Vec<u8> {
    let size = 8 + payload.len() as u16;
    let mut datagram = [src.port().to_be_bytes(), dst.port().to_be_bytes()].concat();
    datagram.extend(size.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let covered = [pseudo_header(src.ip(), dst.ip(), size), datagram.clone()].concat();
    let checksum = match !sum(&covered) {
        0 => 0xffff,
        checksum => checksum,
    };
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    [head(to, from, src.ip(), dst.ip(), size), datagram].concat()
}
