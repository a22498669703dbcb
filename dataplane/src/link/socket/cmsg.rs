//! Control messages, read and written as bytes: no pointer is followed, so that a length that lies
//! can only end the walk.
//!
//! ```text
//! | length (8) | level (4) | type (4) | data ... | to a multiple of 8 | next ...
//!   length: of the header and the data
//! ```

use super::sys::Control;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes kept for control messages: addresses, TTL, TOS, the drop counter and the size of merged
/// datagrams take 136 (IPv6).
pub(super) const CONTROL_MAX: usize = 192;

const HEADER: usize = size_of::<libc::cmsghdr>();
const ALIGN: usize = size_of::<usize>();

/// One control message.
pub(super) struct Item<'c> {
    pub(super) level: i32,
    pub(super) kind: i32,
    pub(super) data: &'c [u8],
}

/// All control messages in `bytes`, up to the first whose length makes no sense.
pub(super) fn walk(bytes: &[u8]) -> impl Iterator<Item = Item<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<ALIGN>()?;
        let (level, after) = after.split_first_chunk::<4>()?;
        let (kind, _) = after.split_first_chunk::<4>()?;
        let length = usize::from_ne_bytes(*length);
        let data = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some(Item { level: i32::from_ne_bytes(*level), kind: i32::from_ne_bytes(*kind), data })
    })
}

/// What the control messages of a received datagram tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    /// Destination address, where the socket asks for it.
    pub(super) local: Option<IpAddr>,
    /// TTL or hop limit; 0 when the kernel did not say.
    pub(super) ttl: u8,
    /// TOS or traffic class.
    pub(super) tos: u8,
    /// Datagrams this socket has dropped since it was made, for want of room. Wraps.
    pub(super) overflowed: Option<u32>,
    /// Size of the datagrams that the kernel has merged into this message (UDP_GRO).
    pub(super) segment: Option<usize>,
}

/// Reads the control messages of a received datagram.
pub(super) fn received(bytes: &[u8]) -> Received {
    let mut found = Received::default();
    for Item { level, kind, data } in walk(bytes) {
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                found.ttl = octet(data);
            }
            (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                found.tos = octet(data);
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // struct in_pktinfo: interface (4), local address of the route (4), destination (4)
                let address = data.get(8..12).and_then(|bytes| bytes.first_chunk::<4>());
                found.local = address.map(|octets| Ipv4Addr::from(*octets).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // struct in6_pktinfo: destination (16), interface (4)
                let address = data.first_chunk::<16>();
                found.local = address.map(|octets| Ipv6Addr::from(*octets).into());
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                found.overflowed = data.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes));
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let size = data.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes));
                found.segment = size.and_then(|size| usize::try_from(size).ok());
            }
            _ => {}
        }
    }
    found
}

/// An octet that the kernel gives as one byte (IP_TOS) or as an int (the others).
fn octet(data: &[u8]) -> u8 {
    match data {
        [octet] => *octet,
        [a, b, c, d, ..] => u8::try_from(i32::from_ne_bytes([*a, *b, *c, *d])).unwrap_or(0),
        _ => 0,
    }
}

/// What a message that is to be sent is told beside its destination.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    /// Source address.
    pub(super) from: Option<IpAddr>,
    /// TTL or hop limit.
    pub(super) ttl: Option<u8>,
    /// TOS or traffic class.
    pub(super) tos: Option<u8>,
    /// The size of the datagrams that the kernel is to make of it; 0 to send it as it is.
    pub(super) segment: u16,
}

/// Writes the control messages of what is to be sent; how many bytes they are. For more than 36 the
/// kernel allocates.
pub(super) fn departing(control: &mut Control, manner: Manner, v4: bool) -> usize {
    let mut writer = Writer { control, used: 0 };
    if manner.segment != 0 {
        writer.push(libc::SOL_UDP, libc::UDP_SEGMENT, &manner.segment.to_ne_bytes());
    }
    match manner.from {
        Some(IpAddr::V4(ip)) => {
            let mut info = [0; 12];
            // ipi_spec_dst chooses the source address
            info[4..8].copy_from_slice(&ip.octets());
            writer.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        }
        Some(IpAddr::V6(ip)) => {
            let mut info = [0; 20];
            info[..16].copy_from_slice(&ip.octets());
            writer.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        }
        None => {}
    }
    let (level, of_ttl, of_class) = if v4 {
        (libc::IPPROTO_IP, libc::IP_TTL, libc::IP_TOS)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, libc::IPV6_TCLASS)
    };
    if let Some(ttl) = manner.ttl {
        writer.push(level, of_ttl, &i32::from(ttl).to_ne_bytes());
    }
    if let Some(tos) = manner.tos {
        writer.push(level, of_class, &i32::from(tos).to_ne_bytes());
    }
    writer.used
}

struct Writer<'c> {
    control: &'c mut Control,
    used: usize,
}

impl Writer<'_> {
    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let length = HEADER + data.len();
        let place = &mut self.control.0[self.used..][..length.next_multiple_of(ALIGN)];
        place[..ALIGN].copy_from_slice(&length.to_ne_bytes());
        place[ALIGN..ALIGN + 4].copy_from_slice(&level.to_ne_bytes());
        place[ALIGN + 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
        place[HEADER..length].copy_from_slice(data);
        self.used += place.len();
    }
}

/// An ICMP error from the error queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IcmpError {
    /// ICMP or ICMPv6 type.
    pub(super) kind: u8,
    /// ICMP or ICMPv6 code.
    pub(super) code: u8,
    /// The next hop's MTU, where the error is about it; else 0.
    pub(super) data: u32,
    /// One of the types that a TURN client is told (RFC 8656 section 11.5).
    pub(super) is_told: bool,
}

/// The ICMP error among the control messages of an error queue entry; nothing where the error is
/// this host's own.
///
/// ```text
/// struct sock_extended_err: errno 4 | origin 1 | type 1 | code 1 | 0 1 | info 4 | data 4
/// ```
pub(super) fn icmp_error(bytes: &[u8]) -> Option<IcmpError> {
    const ORIGIN_ICMP: u8 = 2;
    const ORIGIN_ICMP6: u8 = 3;
    walk(bytes).find_map(|Item { level, kind, data }| match (level, kind) {
        (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
            let [_, _, _, _, origin, kind, code, _, a, b, c, d, ..] = *data else { return None };
            let info = u32::from_ne_bytes([a, b, c, d]);
            let (is_told, is_about_mtu) = match origin {
                ORIGIN_ICMP => (matches!(kind, 3 | 11), (kind, code) == (3, 4)),
                ORIGIN_ICMP6 => (matches!(kind, 1..=3), kind == 2),
                _ => return None,
            };
            let data = if is_about_mtu { info } else { 0 };
            Some(IcmpError { kind, code, data, is_told })
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(messages: &[(i32, i32, &[u8])]) -> (Control, usize) {
        let mut control = Control([0; CONTROL_MAX]);
        let mut writer = Writer { control: &mut control, used: 0 };
        messages.iter().for_each(|(level, kind, data)| writer.push(*level, *kind, data));
        let used = writer.used;
        (control, used)
    }

    #[test]
    fn every_control_message_is_found_behind_others() {
        let (control, used) = items(&[
            (99, 99, &[1, 2, 3]),
            (libc::IPPROTO_IP, libc::IP_TOS, &[0xb9]),
            (libc::IPPROTO_IP, libc::IP_TTL, &17_i32.to_ne_bytes()),
            (libc::IPPROTO_IP, libc::IP_PKTINFO, &[1, 0, 0, 0, 9, 9, 9, 9, 10, 0, 0, 7]),
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &5_u32.to_ne_bytes()),
            (libc::SOL_UDP, libc::UDP_GRO, &1200_i32.to_ne_bytes()),
        ]);
        let local = Some(IpAddr::from([10, 0, 0, 7]));
        let expected =
            Received { local, ttl: 17, tos: 0xb9, overflowed: Some(5), segment: Some(1200) };
        assert_eq!(received(&control.0[..used]), expected);
    }

    #[test]
    fn a_length_that_lies_ends_the_walk() {
        let good: (i32, i32, &[u8]) = (libc::IPPROTO_IP, libc::IP_TTL, &[9, 0, 0, 0]);
        for length in [0_usize, 1, 15, 200, usize::MAX] {
            let (mut control, used) = items(&[good, good]);
            control.0[24..32].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(walk(&control.0[..used]).count(), 1, "length {length}");
        }
        let (control, used) = items(&[good]);
        for cut in 0..20 {
            assert_eq!(walk(&control.0[..cut]).count(), 0, "cut at {cut}");
        }
        assert_eq!(walk(&control.0[..used]).count(), 1);
    }

    /// The control message of an error queue entry, with the address of who reported it behind.
    fn error(origin: u8, kind: u8, code: u8, info: u32) -> Vec<u8> {
        let mut bytes = 111_u32.to_ne_bytes().to_vec();
        bytes.extend([origin, kind, code, 0]);
        bytes.extend(info.to_ne_bytes());
        bytes.resize(16 + 28, 0xee);
        bytes
    }

    #[test]
    fn icmp_errors_are_read_and_only_what_rfc_8656_names_is_told() {
        const V4: (i32, i32) = (libc::IPPROTO_IP, libc::IP_RECVERR);
        const V6: (i32, i32) = (libc::IPPROTO_IPV6, libc::IPV6_RECVERR);
        // origin, type, code, info; told, data
        let cases = [
            (V4, (2, 3, 3, 7), Some((true, 0))),
            (V4, (2, 3, 4, 1400), Some((true, 1400))),
            (V4, (2, 11, 0, 0), Some((true, 0))),
            (V4, (2, 12, 0, 9), Some((false, 0))),
            (V4, (2, 4, 0, 0), Some((false, 0))),
            (V6, (3, 1, 4, 5), Some((true, 0))),
            (V6, (3, 2, 0, 1280), Some((true, 1280))),
            (V6, (3, 3, 1, 0), Some((true, 0))),
            (V6, (3, 4, 1, 40), Some((false, 0))),
            (V4, (1, 3, 4, 1400), None),
            (V6, (4, 0, 0, 0), None),
            (V4, (0, 0, 0, 0), None),
        ];
        for ((level, option), (origin, kind, code, info), expected) in cases {
            let bytes = error(origin, kind, code, info);
            let (control, used) = items(&[(99, 1, &[1]), (level, option, &bytes)]);
            let expected = expected.map(|(is_told, data)| IcmpError { kind, code, data, is_told });
            assert_eq!(icmp_error(&control.0[..used]), expected, "{origin} {kind} {code}");
        }
    }

    #[test]
    fn an_icmp_error_that_is_cut_off_is_none() {
        let whole = error(2, 3, 3, 0);
        for cut in 0..12 {
            let (control, used) = items(&[(libc::IPPROTO_IP, libc::IP_RECVERR, &whole[..cut])]);
            assert_eq!(icmp_error(&control.0[..used]), None, "cut at {cut}");
        }
        let (control, used) = items(&[(libc::IPPROTO_IP, libc::IP_TTL, &whole)]);
        assert_eq!(icmp_error(&control.0[..used]), None, "another option");
    }
}
