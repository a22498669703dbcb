//! Permissions (RFC 8656 sections 9 and 10).

use std::net::{IpAddr, SocketAddr};

use super::{UNKNOWN, code, success};
use crate::call::Peer;
use crate::check::{Check, Stop, Verdict, fail, must, skip};
use crate::client::{Client, Data};
use crate::codec::{Answer, attribute, kind};
use crate::trial::Trial;

const RULE: &str = "RFC 8656 section 10.2";

pub(super) const CHECKS: &[Check] = &[
    must("permission.one", "A permission for one peer", RULE, |t| t.call().map(|_| ())),
    must("permission.several", "Permissions for several peers at once", RULE, |t| {
        let (mut client, peer) = t.call()?;
        let ports = [1, 2, 3, 4].map(|port| SocketAddr::new(peer.address().ip(), port));
        success(&permit(&mut client, &ports)?)
    }),
    must("permission.again", "A permission can be refreshed", RULE, |t| {
        let (mut client, peer) = t.call()?;
        success(&permit(&mut client, &[peer.address()])?)
    }),
    must("permission.none", "Without XOR-PEER-ADDRESS it is a 400", RULE, |t| {
        let mut client = t.allocated()?;
        code(&permit(&mut client, &[])?, &[400])
    }),
    must(
        "permission.no-allocation",
        "Without an allocation it is a 437",
        "RFC 8656 section 5",
        |t| {
            let mut client = t.client()?;
            code(&permit(&mut client, &[SocketAddr::new(t.options.peer_ip, 9)])?, &[437])
        },
    ),
    must("permission.length", "An XOR-PEER-ADDRESS of a wrong length is a 400", RULE, |t| {
        malformed(t, &[0, 1, 0, 0, 9, 9, 9])
    }),
    must("permission.v4-as-v6", "An IPv6 family with 4 bytes of address is a 400", RULE, |t| {
        malformed(t, &[0, 2, 0, 0, 9, 9, 9, 9])
    }),
    must("permission.family.unknown", "An unknown address family is refused", RULE, |t| {
        let mut client = t.allocated()?;
        let answer = client.ask(kind::CREATE_PERMISSION, |w| {
            w.with(attribute::XOR_PEER_ADDRESS, &[0, 9, 0, 0, 9, 9, 9, 9])
        })?;
        code(&answer, &[400, 443])
    }),
    must(
        "permission.family",
        "A peer of another family than the relayed address is a 443",
        RULE,
        |t| {
            let mut client = t.client()?;
            let answer = client.ask(kind::ALLOCATE, super::auth::transport)?;
            client.took(&answer)?;
            let peer = "[2620:fe::fe]:9".parse().expect("an address");
            code(&permit(&mut client, &[peer])?, &[443])
        },
    ),
    must("permission.unknown", "An unknown required attribute is a 420", RULE, |t| {
        let mut client = t.allocated()?;
        let peer = SocketAddr::new(t.options.peer_ip, 9);
        let answer = client.ask(kind::CREATE_PERMISSION, |w| {
            w.with_xor_address(attribute::XOR_PEER_ADDRESS, peer).with(UNKNOWN, b"")
        })?;
        code(&answer, &[420])
    }),
    must("permission.all-or-nothing", "Of several peers all are permitted, or none", RULE, |t| {
        let mut client = t.allocated()?;
        let peer = Peer::new(t)?;
        let forbidden = SocketAddr::new(IpAddr::from([255, 255, 255, 255]), 9);
        let answer = permit(&mut client, &[peer.address(), forbidden])?;
        if answer.is_success() {
            return Err(fail("403", "success for 255.255.255.255"));
        }
        client.send_data(peer.address(), b"not permitted")?;
        client.sentinel()?;
        peer.expect_nothing("a peer in a list that was refused")
    }),
    must(
        "permission.needed.out",
        "Without a permission nothing reaches a peer",
        "RFC 8656 section 11.2",
        |t| {
            let mut client = t.allocated()?;
            let peer = Peer::new(t)?;
            client.send_data(peer.address(), b"not permitted")?;
            client.sentinel()?;
            peer.expect_nothing("a peer without a permission")
        },
    ),
    must(
        "permission.needed.in",
        "Without a permission nothing comes from a peer",
        "RFC 8656 section 11.3",
        |t| {
            let mut client = t.allocated()?;
            let peer = Peer::new(t)?;
            peer.send(client.relay(), b"not permitted")?;
            client.expect_silence(&[], "a peer without a permission")
        },
    ),
    must(
        "permission.any-port",
        "A permission is for an address, whatever the port",
        "RFC 8656 section 9",
        |t| {
            let mut client = t.allocated()?;
            let peer = Peer::new(t)?;
            let other_port = Peer::new(t)?;
            t.permit(&mut client, &other_port)?;
            client.expect_relay(&peer, b"any port")?;
            let relay = client.relay();
            let expected = Data::Indication(peer.address(), b"back".to_vec());
            client.expect_data(&expected, || peer.send(relay, b"back"))
        },
    ),
    must(
        "permission.other-address",
        "A permission for one address is none for another",
        "RFC 8656 section 9",
        |t| {
            let other = second_address(t).ok_or_else(|| skip("needs a peer address in 127/8"))?;
            let (mut client, _peer) = t.call()?;
            let stranger = Peer::at(t, other)?;
            client.send_data(stranger.address(), b"not permitted")?;
            client.sentinel()?;
            stranger.expect_nothing("a peer without a permission")?;
            stranger.send(client.relay(), b"not permitted")?;
            client.expect_silence(&[], "a peer without a permission")
        },
    ),
    must(
        "permission.own-allocation",
        "A permission of one allocation is none of another",
        "RFC 8656 section 9",
        |t| {
            let (_client, peer) = t.call()?;
            let mut other = t.allocated()?;
            other.send_data(peer.address(), b"not permitted")?;
            other.sentinel()?;
            peer.expect_nothing("another allocation's permission")
        },
    ),
    must("permission.dual", "Of two families each has its permissions", RULE, |t| {
        let mut client = t.allocated_dual()?;
        let peer = Peer::new(t)?;
        t.permit(&mut client, &peer)?;
        client.expect_relay(&peer, b"one of two families").map(|_| ())
    }),
];

/// Another address of this host, if the peers are on its loopback.
pub(super) fn second_address(t: &Trial<'_>) -> Option<IpAddr> {
    match t.options.peer_ip {
        IpAddr::V4(ip) if ip.is_loopback() => Some(IpAddr::from([127, 0, 0, 77])),
        _ => None,
    }
}

pub(super) fn permit(client: &mut Client<'_>, peers: &[SocketAddr]) -> Result<Answer, Stop> {
    client.ask(kind::CREATE_PERMISSION, |w| {
        let add = |w: crate::codec::Writer, peer: &SocketAddr| {
            w.with_xor_address(attribute::XOR_PEER_ADDRESS, *peer)
        };
        peers.iter().fold(w, add)
    })
}

fn malformed(t: &Trial<'_>, value: &[u8]) -> Verdict {
    let mut client = t.allocated()?;
    let answer =
        client.ask(kind::CREATE_PERMISSION, |w| w.with(attribute::XOR_PEER_ADDRESS, value))?;
    code(&answer, &[400])
}
