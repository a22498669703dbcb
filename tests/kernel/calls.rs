//! The channels of the tests' relay: every mix of families, several addresses and peers, relay to
//! relay, and every reason for a route not to be used.

use std::net::SocketAddr;

use turnwire_tests::frame::{Datagram, Mac};
use wire::{Checksums, Hop};

use crate::world::{Call, INGRESS, World};

pub(crate) const OUR_MAC: Mac = [2, 0, 0, 0, 0, 1];
pub(crate) const THEIR_MAC: Mac = [2, 0, 0, 0, 0, 9];
pub(crate) const OUR_VLAN: u16 = 5;

/// Next hops: by the same interface, by another one with a VLAN tag, unusable, and a narrow one.
pub(crate) const SAME: u16 = 0;
pub(crate) const TAGGED: u16 = 1;
pub(crate) const UNUSABLE: u16 = 2;
pub(crate) const NARROW: u16 = 3;
pub(crate) const NARROW_MTU: u16 = 200;

const FOREVER: u64 = u64::MAX;

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address of the test")
}

/// By name, so that a case can say which it means.
pub(crate) fn call(name: &str) -> Call {
    let (client4, client6) = ("44.1.0.10:40000", "[2e00::10]:40000");
    let (listener4, listener6) = ("44.1.0.1:3478", "[2e00::1]:3478");
    let (peer4, peer6) = ("44.9.0.20:41000", "[2e09::20]:41000");
    let new = |client: &str, number, relay: &str, peer: &str| Call {
        client: at(client),
        listener: at(if at(client).is_ipv4() { listener4 } else { listener6 }),
        number,
        relay: at(relay),
        peer: at(peer),
        inner: false,
        expires: FOREVER,
        hops: [SAME, SAME],
    };
    match name {
        "44" => new(client4, 0x4000, "44.1.0.2:50000", peer4),
        "66" => new(client6, 0x4001, "[2e00::2]:50001", peer6),
        "46" => new(client4, 0x4fff, "[2e00::2]:50002", peer6),
        "64" => new(client6, 0x4003, "44.1.0.2:50003", peer4),
        // the same relay port, another peer on the same host
        "second peer" => new(client4, 0x4004, "44.1.0.2:50000", "44.9.0.20:41001"),
        // the same relay port number on another relay address, for another client
        "second address" => new("44.1.0.11:40000", 0x4000, "44.1.0.3:50000", peer4),
        "tagged" => Call { hops: [TAGGED; 2], ..new(client4, 0x4005, "44.1.0.2:50005", peer4) },
        "tagged 6" => Call { hops: [TAGGED; 2], ..new(client6, 0x4006, "[2e00::2]:50006", peer6) },
        "no hop" => Call { hops: [UNUSABLE; 2], ..new(client4, 0x4007, "44.1.0.2:50007", peer4) },
        "narrow" => Call { hops: [NARROW; 2], ..new(client4, 0x4008, "44.1.0.2:50008", peer4) },
        "narrow 6" => Call { hops: [NARROW; 2], ..new(client6, 0x4009, "[2e00::2]:50009", peer6) },
        "expired" => Call { expires: 1, ..new(client4, 0x400a, "44.1.0.2:50010", peer4) },
        // two clients of this relay, each the other's peer; the second over IPv6
        "inner a" => {
            Call { inner: true, ..new(client4, 0x4011, "44.1.0.2:50011", "44.1.0.2:50012") }
        }
        "inner b" => {
            Call { inner: true, ..new(client6, 0x4012, "44.1.0.2:50012", "44.1.0.2:50011") }
        }
        // the other client has no channel for this one
        "inner lone" => {
            Call { inner: true, ..new(client4, 0x4013, "44.1.0.2:50013", "44.1.0.2:50000") }
        }
        // the other client's channel has run out
        "inner stale" => {
            Call { inner: true, ..new(client4, 0x4014, "44.1.0.2:50014", "44.1.0.2:50015") }
        }
        "inner ended" => Call {
            inner: true,
            expires: 1,
            ..new(client6, 0x4015, "44.1.0.2:50015", "44.1.0.2:50014")
        },
        _ => panic!("no call of the name {name}"),
    }
}

pub(crate) const NAMES: [&str; 17] = [
    "44",
    "66",
    "46",
    "64",
    "second peer",
    "second address",
    "tagged",
    "tagged 6",
    "no hop",
    "narrow",
    "narrow 6",
    "expired",
    "inner a",
    "inner b",
    "inner lone",
    "inner stale",
    "inner ended",
];

/// The relay with all these calls, and one allocation without a channel, on port 50020.
pub(crate) fn world() -> World {
    let usual = Hop { dst: THEIR_MAC, src: OUR_MAC, ifindex: INGRESS, mtu: 1500, vlan: 0.into() };
    let other = World::OTHER_INTERFACE;
    World {
        mac: OUR_MAC,
        checksums: Checksums::MayBeLeft,
        listeners: vec![3478],
        relay_ports: (50_000..=50_020).collect(),
        vlans: vec![OUR_VLAN],
        hops: vec![
            Some(usual),
            Some(Hop { ifindex: other, vlan: 7.into(), ..usual }),
            None,
            Some(Hop { mtu: NARROW_MTU, ..usual }),
        ],
        calls: NAMES.iter().map(|name| call(name)).collect(),
    }
}

/// From the client, with `data` as ChannelData.
pub(crate) fn from_client(call: &Call, data: &[u8]) -> Datagram {
    let header = [call.number.to_be_bytes(), (data.len() as u16).to_be_bytes()].concat();
    Datagram::new((THEIR_MAC, OUR_MAC), call.client, call.listener)
        .carrying(&[&header, data].concat())
}

/// From the peer.
pub(crate) fn from_peer(call: &Call, data: &[u8]) -> Datagram {
    Datagram::new((THEIR_MAC, OUR_MAC), call.peer, call.relay).carrying(data)
}
