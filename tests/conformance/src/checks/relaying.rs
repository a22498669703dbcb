//! Send and Data indications (RFC 8656 section 11), ICMP included.

use std::net::SocketAddr;
use std::time::Duration;

use super::UNKNOWN;
use crate::call::Peer;
use crate::check::{Check, Over, Verdict, fail, must, should, want};
use crate::client::Data;
use crate::codec::{attribute, kind};
use crate::trial::Trial;

const SEND: &str = "RFC 8656 section 11.2";
const DATA: &str = "RFC 8656 section 11.3";
/// How long an ICMP error may take to come back.
const ICMP: Duration = Duration::from_secs(1);

pub(super) const CHECKS: &[Check] = &[
    must("relay.send", "A Send indication reaches the peer from the relayed address", SEND, |t| {
        let (mut client, peer) = t.call()?;
        let source = client.expect_relay(&peer, b"to the peer")?;
        let relay = client.relay();
        want(source == relay, &relay.to_string(), || source.to_string())
    }),
    must(
        "relay.data",
        "A peer's datagram comes as a Data indication with its address",
        DATA,
        |t| {
            let (mut client, peer) = t.call()?;
            let relay = client.relay();
            let expected = Data::Indication(peer.address(), b"to the client".to_vec());
            client.expect_data(&expected, || peer.send(relay, b"to the client"))
        },
    ),
    must("relay.sizes", "Data of 0 to 9, 100, 1000 and 1200 bytes passes both ways", SEND, |t| {
        let (mut client, peer) = t.call()?;
        let relay = client.relay();
        for len in (0..10).chain([100, 1000, 1200]) {
            let data: Vec<u8> = (0..len).map(|at| (at * 5 + len) as u8).collect();
            client.expect_relay(&peer, &data)?;
            let expected = Data::Indication(peer.address(), data.clone());
            client.expect_data(&expected, || peer.send(relay, &data))?;
        }
        Ok(())
    }),
    must("relay.stun-data", "Data that looks like STUN or ChannelData is data", SEND, |t| {
        let (mut client, peer) = t.call()?;
        let relay = client.relay();
        let stun = client.write(kind::BINDING).bytes();
        let channel = crate::codec::channel_data(0x4000, b"no channel");
        for data in [stun, channel] {
            client.expect_relay(&peer, &data)?;
            let expected = Data::Indication(peer.address(), data.clone());
            client.expect_data(&expected, || peer.send(relay, &data))?;
        }
        Ok(())
    }),
    should(
        "relay.data.bare",
        "A Data indication has XOR-PEER-ADDRESS and DATA, no integrity",
        DATA,
        |t| {
            let (mut client, peer) = t.call()?;
            let relay = client.relay();
            peer.send(relay, b"bare")?;
            let Some(bytes) = client.receive(Duration::from_secs(2))? else {
                return Err(fail("a Data indication", "nothing"));
            };
            let kinds: Vec<u16> = client
                .read(&bytes)
                .map(|answer| answer.attributes.iter().map(|a| a.kind).collect())
                .unwrap_or_default();
            let allowed = [
                attribute::XOR_PEER_ADDRESS,
                attribute::DATA,
                attribute::FINGERPRINT,
                attribute::SOFTWARE,
            ];
            let good = kinds.len() >= 2 && kinds.iter().all(|kind| allowed.contains(kind));
            want(good, "two attributes", || format!("{kinds:04x?}"))
        },
    ),
    must("relay.no-data", "A Send indication without DATA is dropped", SEND, |t| {
        dropped(t, |client, peer| {
            let w = client.write(kind::SEND);
            w.with_xor_address(attribute::XOR_PEER_ADDRESS, peer).bytes()
        })
    }),
    must("relay.no-peer", "A Send indication without XOR-PEER-ADDRESS is dropped", SEND, |t| {
        dropped(t, |client, _| client.write(kind::SEND).with(attribute::DATA, b"data").bytes())
    }),
    must(
        "relay.malformed-peer",
        "A Send indication with a malformed address is dropped",
        SEND,
        |t| {
            dropped(t, |client, _| {
                client
                    .write(kind::SEND)
                    .with(attribute::XOR_PEER_ADDRESS, &[0, 1, 0, 0, 1])
                    .with(attribute::DATA, b"data")
                    .bytes()
            })
        },
    ),
    must(
        "relay.unknown",
        "A Send indication with an unknown required attribute is dropped",
        "RFC 8489 section 6.3.2",
        |t| {
            dropped(t, |client, peer| {
                client
                    .write(kind::SEND)
                    .with_xor_address(attribute::XOR_PEER_ADDRESS, peer)
                    .with(attribute::DATA, b"data")
                    .with(UNKNOWN, b"")
                    .bytes()
            })
        },
    ),
    must(
        "relay.optional",
        "An unknown optional attribute in it is ignored",
        "RFC 8489 section 6.3.2",
        |t| {
            let (mut client, peer) = t.call()?;
            let address = peer.address();
            peer.expect(b"optional", || {
                let w = client
                    .write(kind::SEND)
                    .with_xor_address(attribute::XOR_PEER_ADDRESS, address)
                    .with(attribute::DATA, b"optional")
                    .with(super::UNKNOWN_OPTIONAL, b"abc");
                client.send(&w.bytes())
            })
            .map(|_| ())
        },
    ),
    must("relay.attribute-order", "The order of its attributes is no matter", SEND, |t| {
        let (mut client, peer) = t.call()?;
        let address = peer.address();
        peer.expect(b"order", || {
            let w = client
                .write(kind::SEND)
                .with(attribute::DATA, b"order")
                .with_xor_address(attribute::XOR_PEER_ADDRESS, address);
            client.send(&w.bytes())
        })
        .map(|_| ())
    }),
    should("relay.dont-fragment", "A Send indication with DONT-FRAGMENT is relayed", SEND, |t| {
        let (mut client, peer) = t.call()?;
        let address = peer.address();
        peer.expect(b"whole", || {
            let w = client
                .write(kind::SEND)
                .with_xor_address(attribute::XOR_PEER_ADDRESS, address)
                .with(attribute::DONT_FRAGMENT, b"")
                .with(attribute::DATA, b"whole");
            client.send(&w.bytes())
        })
        .map(|_| ())
    }),
    must(
        "relay.no-allocation",
        "Without an allocation a Send indication does nothing",
        SEND,
        |t| {
            let peer = Peer::new(t)?;
            let mut client = t.stranger()?;
            client.send_data(peer.address(), b"no allocation")?;
            client.expect_silence(&[], "a Send indication of nobody")?;
            peer.expect_nothing("a Send indication of nobody")
        },
    ),
    must(
        "relay.data-indication",
        "A Data indication from a client is dropped",
        "RFC 8656 section 11.6",
        |t| {
            dropped(t, |client, peer| {
                client
                    .write(kind::DATA)
                    .with_xor_address(attribute::XOR_PEER_ADDRESS, peer)
                    .with(attribute::DATA, b"data")
                    .bytes()
            })
        },
    ),
    must(
        "relay.icmp",
        "An ICMP error of a peer comes as a Data indication with ICMP",
        "RFC 8656 section 11.5",
        icmp,
    )
    .over(Over::Any),
    must(
        "relay.two-clients",
        "Two clients of one server reach each other",
        "RFC 8656 section 11",
        |t| {
            let (mut one, mut two) = (t.allocated()?, t.allocated()?);
            let (a, b) = (one.relay(), two.relay());
            for (client, other) in [(&mut one, b), (&mut two, a)] {
                let answer = super::permission::permit(client, &[other])?;
                want(answer.is_success(), "the other relayed address as a peer", || {
                    answer.summary()
                })?;
            }
            let expected = Data::Indication(a, b"from one to two".to_vec());
            two.expect_data(&expected, || one.send_data(b, b"from one to two"))
        },
    ),
    must("relay.v6", "An IPv6 relayed address reaches IPv6 peers", "RFC 8656 section 7.2", |t| {
        let mut client = t.allocated_dual()?;
        let Some(relay) = client.relayed.iter().copied().find(SocketAddr::is_ipv6) else {
            return Err(fail("an IPv6 relayed address", "none"));
        };
        let ip = match t.options.peer_ip {
            std::net::IpAddr::V4(ip) if ip.is_loopback() => "::1".parse().expect("an address"),
            ip if ip.is_ipv6() => ip,
            _ => return Err(crate::check::skip("needs a peer address that has an IPv6 twin")),
        };
        let peer = Peer::at(t, ip)?;
        t.permit(&mut client, &peer)?;
        let source = client.expect_relay(&peer, b"six")?;
        want(source == relay, &relay.to_string(), || source.to_string())
    }),
];

/// A message that must relay nothing, and a good one after it.
fn dropped(
    t: &Trial<'_>,
    write: impl Fn(&crate::client::Client<'_>, SocketAddr) -> Vec<u8>,
) -> Verdict {
    let (mut client, peer) = t.call()?;
    let message = write(&client, peer.address());
    client.expect_silence(&[message], "an indication")?;
    if client.closed {
        return Ok(());
    }
    client.expect_relay(&peer, b"good").map(|_| ())
}

/// A port that was just closed refuses by ICMP, or ICMPv6.
fn icmp(t: &Trial<'_>) -> Verdict {
    let (mut client, peer) = t.call()?;
    let closed = Peer::new(t)?.address();
    let unreachable: &[u8] = if closed.is_ipv4() { &[0, 0, 3, 3] } else { &[0, 0, 1, 4] };
    for _ in 0..3 {
        client.send_data(closed, b"anybody there?")?;
        if let Some(came) = client.data(ICMP)? {
            let right = matches!(&came, Data::Icmp(from, value)
                if *from == closed && value.starts_with(unreachable));
            let expected = format!("ICMP {unreachable:02x?} from {closed}");
            want(right, &expected, || format!("{came:02x?}"))?;
            return client.expect_relay(&peer, b"and it goes on").map(|_| ());
        }
    }
    Err(fail("a Data indication with ICMP", "nothing"))
}
