//! The PROXY protocol's header, version 2: what a plain reader of its specification reads, whatever
//! has come of it, and nothing beyond its end.
//!
//! ```text
//!   | even 1 | bytes ... |
//!   | odd 1  | version and command 1, family 1, size 2 | bytes behind the fixed part ... |
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dataplane::session::proxy::{HEADER_MAX, Header, read};

use crate::input::Input;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED: usize = 16;

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let stream = match input.byte().is_multiple_of(2) {
        true => input.rest().to_vec(),
        false => [&SIGNATURE[..], &input.array::<4>(), input.rest()].concat(),
    };
    let whole = read(&stream);
    assert_eq!(whole, plain(&stream));
    // every beginning of it: undecided, and then what the whole is
    let mut decided = None;
    for end in 0..=stream.len() {
        let told = read(&stream[..end]);
        match (told, decided) {
            (Header::Partial { size }, None) => {
                assert!(size > end, "waits for {size} bytes, and has {end}");
                assert!(size <= HEADER_MAX, "waits for {size} bytes");
            }
            (told, _) => {
                assert_eq!(told, *decided.get_or_insert(told), "decided otherwise at {end}");
                assert_eq!(told, whole, "at {end} of {}", stream.len());
            }
        }
    }
    let (Header::Own { size } | Header::Client { size, .. }) = whole else { return };
    assert!((FIXED..=HEADER_MAX.min(stream.len())).contains(&size));
    // what follows is the client's
    let mut followed = stream;
    followed.truncate(size);
    followed.extend(*b"\xff\0\x01");
    assert_eq!(read(&followed), whole, "what follows changes it");
    assert_eq!(read(&followed[..size]), whole, "what follows is waited for");
    assert!(matches!(read(&followed[..size - 1]), Header::Partial { .. }), "{size} is too much");
}

/// A header by arithmetic alone.
fn plain(bytes: &[u8]) -> Header {
    let have = bytes.len();
    if bytes[..have.min(12)] != SIGNATURE[..have.min(12)] {
        return Header::Malformed;
    }
    if have < FIXED {
        return Header::Partial { size: FIXED };
    }
    let body = 256 * usize::from(bytes[14]) + usize::from(bytes[15]);
    if body > 1024 {
        return Header::Malformed;
    }
    let size = FIXED + body;
    if have < size {
        return Header::Partial { size };
    }
    let width = match (bytes[12] >> 4, bytes[12] & 15, bytes[13]) {
        (2, 0, _) | (2, 1, 0) => return Header::Own { size },
        (2, 1, 0x11) => 4,
        (2, 1, 0x21) => 16,
        _ => return Header::Malformed,
    };
    if body < 2 * width + 4 {
        return Header::Malformed;
    }
    let number = |at: usize, count: usize| {
        bytes[FIXED + at..][..count].iter().fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte))
    };
    let ends = [0, 1].map(|end| {
        let port = number(2 * width + 2 * end, 2) as u16;
        host(number(end * width, width), width).filter(|_| port > 0).map(|ip| (ip, port).into())
    });
    match ends {
        [Some(remote), Some(local)] => Header::Client { size, remote, local },
        _ => Header::Malformed,
    }
}

/// The address of one host; an IPv4 address within IPv6 is one of IPv4.
fn host(number: u128, width: usize) -> Option<IpAddr> {
    let v4 = width == 4 || number >> 32 == 0xffff;
    if v4 {
        let number = number as u32;
        return (number != 0 && number >> 28 != 0xe).then(|| Ipv4Addr::from(number).into());
    }
    (number != 0 && number >> 120 != 0xff).then(|| Ipv6Addr::from(number).into())
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let ends = |remote: SocketAddr, local: SocketAddr| {
        let ip = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let ports = [remote.port().to_be_bytes(), local.port().to_be_bytes()].concat();
        [ip(remote), ip(local), ports].concat()
    };
    let v4 = ends(([192, 0, 2, 1], 5000).into(), ([198, 51, 100, 1], 3478).into());
    let mapped = Ipv4Addr::new(198, 51, 100, 1).to_ipv6_mapped();
    let v6 = ends(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 5000).into(), (mapped, 3478).into());
    let extension: &[u8] = &[4, 0, 3, 0, 0, 0];
    let header = |command: u8, family: u8, body: &[u8], behind: &[u8]| {
        let size = (body.len() as u16).to_be_bytes();
        [&[1, command, family][..], &size, body, behind].concat()
    };
    vec![
        header(0x21, 0x11, &v4, b"\0\x01\0\0\x21\x12\xa4\x42"),
        header(0x21, 0x11, &[&v4, extension].concat(), b""),
        header(0x21, 0x21, &v6, b"\x16\x03\x01"),
        header(0x21, 0x21, &[&v6, extension].concat(), b""),
        header(0x20, 0x00, b"", b"next"),
        header(0x21, 0x00, b"", b""),
        header(0x21, 0x31, &[1; 216], b""),
        header(0x21, 0x11, &[9; 1024], b""),
        b"\0PROXY TCP4 192.0.2.1 198.51.100.1 5000 3478\r\n".to_vec(),
        [&[0], &SIGNATURE[..], b"\x21\x11\0\x0c", &v4].concat(),
    ]
}
