//! Messages written byte by byte, as the RFCs have them.

use super::*;

const ID: TransactionId = [0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab];

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn attribute(kind: [u8; 2], value: &[u8]) -> Vec<u8> {
    let mut bytes = [kind, (value.len() as u16).to_be_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The value of XOR-PEER-ADDRESS, written byte by byte.
fn masked(peer: SocketAddr) -> Vec<u8> {
    let mask = [&COOKIE[..], &ID].concat();
    let ip = match peer.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut value = vec![0, if peer.is_ipv4() { 1 } else { 2 }];
    value.extend((peer.port() ^ 0x2112).to_be_bytes());
    value.extend(ip.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    value
}

fn message(attributes: &[Vec<u8>]) -> Vec<u8> {
    let body = attributes.concat();
    let length = (body.len() as u16).to_be_bytes();
    [&SEND[..], &length, &COOKIE, &ID, &body].concat()
}

fn read(attributes: &[Vec<u8>]) -> Option<(SocketAddr, Vec<u8>, bool)> {
    let bytes = message(attributes);
    let send = parse(&bytes)?;
    Some((send.peer, bytes[send.data].to_vec(), send.dont_fragment))
}

#[test]
fn the_three_attributes_are_read_in_any_order() {
    for peer in ["203.0.113.9:6000", "[2001:db8::9]:6000"].map(address) {
        let (to, whole) =
            (attribute(XOR_PEER_ADDRESS, &masked(peer)), attribute(DONT_FRAGMENT, &[]));
        for data in [&b""[..], b"1", b"four", b"seven77"] {
            let data_attribute = attribute(DATA_ATTRIBUTE, data);
            let (to, whole) = (&to, &whole);
            let expected = |whole| Some((peer, data.to_vec(), whole));
            assert_eq!(read(&[to.clone(), data_attribute.clone()]), expected(false));
            assert_eq!(read(&[data_attribute.clone(), to.clone()]), expected(false));
            assert_eq!(read(&[whole.clone(), data_attribute.clone(), to.clone()]), expected(true));
            assert_eq!(read(&[to.clone(), data_attribute, whole.clone()]), expected(true));
        }
    }
}

#[test]
fn everything_else_is_left_to_the_control_thread() {
    let peer = attribute(XOR_PEER_ADDRESS, &masked(address("203.0.113.9:6000")));
    let (data, whole) = (attribute(DATA_ATTRIBUTE, b"data"), attribute(DONT_FRAGMENT, &[]));
    let other = |kind: u16, value: &[u8]| attribute(kind.to_be_bytes(), value);
    let good = vec![peer.clone(), data.clone()];
    assert!(read(&good).is_some());
    let with = |more: &[Vec<u8>]| [&good[..], more].concat();
    let cases = [
        ("no peer", vec![data.clone()]),
        ("no data", vec![peer.clone()]),
        ("nothing", vec![]),
        ("two peers", with(std::slice::from_ref(&peer))),
        ("two data", with(std::slice::from_ref(&data))),
        ("twice whole", with(&[whole.clone(), whole])),
        ("whole with a value", with(&[attribute(DONT_FRAGMENT, b"1")])),
        ("SOFTWARE", with(&[other(0x8022, b"client")])),
        ("FINGERPRINT", with(&[other(0x8028, &[0; 4])])),
        ("MESSAGE-INTEGRITY", with(&[other(0x0008, &[0; 20])])),
        ("unknown", with(&[other(0x7777, b"")])),
        ("short address", vec![other(0x0012, &[0, 1, 0, 0, 1, 2, 3]), data.clone()]),
        ("long address", vec![other(0x0012, &[0, 1, 9, 9, 1, 2, 3, 4, 5]), data.clone()]),
        ("IPv4 of 16 bytes", vec![other(0x0012, &[1; 20]), data.clone()]),
        ("family 3", vec![other(0x0012, &[0, 3, 9, 9, 1, 2, 3, 4]), data.clone()]),
        ("no address", vec![other(0x0012, &[]), data.clone()]),
        ("port 0", vec![other(0x0012, &masked(address("203.0.113.9:0"))), data.clone()]),
        (
            "mapped",
            vec![other(0x0012, &masked(address("[::ffff:203.0.113.9]:6000"))), data.clone()],
        ),
    ];
    for (name, attributes) in cases {
        assert_eq!(read(&attributes), None, "{name}");
    }
}

#[test]
fn lengths_that_disagree_and_other_messages_are_left_too() {
    let peer = attribute(XOR_PEER_ADDRESS, &masked(address("203.0.113.9:6000")));
    let bytes = message(&[peer, attribute(DATA_ATTRIBUTE, b"data!")]);
    assert!(parse(&bytes).is_some());
    for cut in 0..bytes.len() {
        assert_eq!(parse(&bytes[..cut]), None, "{cut} bytes");
    }
    assert_eq!(parse(&[&bytes[..], &[0; 4]].concat()), None, "bytes behind it");
    // type, length, cookie, and the lengths of both attributes
    for at in [0, 1, 2, 3, 4, 5, 6, 7, 22, 23, 34, 35] {
        for bit in 0..8 {
            let mut other = bytes.clone();
            other[at] ^= 1 << bit;
            // within DATA's own padding its length may differ
            let padding = at == 35 && (5..=8).contains(&other[at]);
            assert_eq!(parse(&other).is_some(), padding, "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn a_data_indication_is_as_rfc_8656_has_it() {
    for peer in ["203.0.113.9:6000", "[2001:db8::9]:6000"].map(address) {
        for size in [0, 1, 2, 3, 4, 1200] {
            let data = vec![0xc5; size];
            let header = DataHeader::new(peer, size, &ID).unwrap();
            let padding = vec![0; header.padding];
            let bytes = [header.bytes(), &data, &padding].concat();
            let body =
                [attribute(XOR_PEER_ADDRESS, &masked(peer)), attribute(DATA_ATTRIBUTE, &data)];
            let mut expected = message(&body);
            expected[..2].copy_from_slice(&[0x00, 0x17]);
            assert_eq!(bytes, expected, "{peer}, {size}");
        }
    }
}

#[test]
fn no_data_indication_is_longer_than_a_datagram() {
    for (peer, header) in [("203.0.113.9:6000", 36), ("[2001:db8::9]:6000", 48)] {
        let most = (DATAGRAM_MAX - header) / 4 * 4;
        assert!(DataHeader::new(address(peer), most, &ID).is_some());
        assert!(DataHeader::new(address(peer), most + 1, &ID).is_none());
    }
}

#[test]
fn no_transaction_id_comes_twice_and_none_is_left_out() {
    let mut ids = Ids::new();
    let drawn: Vec<_> = (0..3 * Ids::DRAWN).map(|_| *ids.draw().unwrap()).collect();
    let mut sorted = drawn.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), drawn.len());
    // every bit is now 0 and now 1: in 1023 draws one that is not is a miracle
    for bit in 0..96 {
        let ones = drawn.iter().filter(|id| id[bit / 8] >> (bit % 8) & 1 == 1).count();
        assert!((300..724).contains(&ones), "bit {bit}: {ones} of {}", drawn.len());
    }
}
