//! ICMP errors on the way to a peer, told to the client (RFC 8656 sections 11.5 and 18.13).

use std::net::SocketAddr;

use turn::message::{Class, Message, Method};
use turn::{Icmp, Input, Reason, Transport};

use crate::lab::{Lab, address, client, over};
use crate::user::{Mode, User, alice};
use crate::wire::Event;

const REFUSED: Icmp = Icmp { kind: 3, code: 3, data: 0 };

fn unreachable(lab: &mut Lab, relay: SocketAddr, peer: SocketAddr, icmp: Icmp) -> Vec<Event> {
    lab.wire.take();
    lab.server.handle(lab.now, Input::Unreachable { relay, peer, icmp }, &mut lab.wire);
    lab.wire.take()
}

#[test]
fn an_error_becomes_a_data_indication_with_the_peer_and_the_error_and_no_data() {
    let mut lab = Lab::new();
    let mut user = User::new("alice", client(1), Mode::Legacy);
    let [v4, v6] = user.allocate_dual(&mut lab);
    let (peer_v4, peer_v6) = (address("9.9.9.9:53"), address("[2620:fe::fe]:53"));
    assert_eq!(user.permit(&mut lab, &[peer_v4, peer_v6]), 0);
    // Type and code as they came; the data only where it is an MTU (section 18.13).
    for (relay, peer, [kind, code], data, told) in [
        (v4, peer_v4, [3, 3], 7, 0),
        (v4, peer_v4, [3, 4], 1400, 1400),
        (v4, peer_v4, [11, 0], 9, 0),
        (v6, peer_v6, [1, 4], 9, 0),
        (v6, peer_v6, [2, 0], 1280, 1280),
        (v6, peer_v6, [3, 0], 9, 0),
    ] {
        let events = unreachable(&mut lab, relay, peer, Icmp { kind, code, data });
        let [Event::ToClient(to, bytes)] = events.as_slice() else { panic!("{events:?}") };
        let message = Message::parse(bytes).unwrap();
        assert_eq!(*to, client(1));
        assert_eq!((message.class(), message.method()), (Class::Indication, Method::DATA));
        assert_eq!(message.xor_peer_address().unwrap(), Some(peer));
        assert_eq!(message.icmp().unwrap(), Some(Icmp { kind, code, data: told }));
        assert_eq!(message.attributes().count(), 2, "no DATA");
    }
    assert_eq!(lab.server.stats().icmp, 6);
}

#[test]
fn errors_of_other_kinds_peers_and_ports_are_dropped_with_a_reason() {
    let mut lab = Lab::new();
    let (mut user, relay) = alice(&mut lab, 1);
    let peer = address("9.9.9.9:53");
    assert_eq!(user.permit(&mut lab, &[peer]), 0);
    for kind in (0..=255).filter(|kind| ![3, 11].contains(kind)) {
        let icmp = Icmp { kind, code: 0, data: 0 };
        assert!(unreachable(&mut lab, relay, peer, icmp).is_empty(), "{kind}");
    }
    assert_eq!(lab.refused(Reason::IcmpKind), 254);
    assert!(unreachable(&mut lab, relay, address("9.9.9.8:53"), REFUSED).is_empty());
    assert_eq!(lab.refused(Reason::DataNoPermission), 1);
    assert!(unreachable(&mut lab, address("93.184.216.10:1"), peer, REFUSED).is_empty());
    assert_eq!(lab.refused(Reason::PeerNoAllocation), 1);
    // The permission's time is over; another peer's channel lasts longer.
    let bound = address("9.9.9.7:7");
    assert_eq!(user.bind(&mut lab, 0x4000, bound), 0);
    lab.pass_secs(300);
    assert!(unreachable(&mut lab, relay, peer, REFUSED).is_empty());
    assert_eq!(unreachable(&mut lab, relay, bound, REFUSED).len(), 1);
}

#[test]
fn a_flood_of_errors_is_told_ten_times_a_second() {
    let mut lab = Lab::new();
    let (mut user, relay) = alice(&mut lab, 1);
    let peer = address("9.9.9.9:53");
    assert_eq!(user.permit(&mut lab, &[peer]), 0);
    let flood = |lab: &mut Lab| {
        (0..1000).filter(|_| !unreachable(lab, relay, peer, REFUSED).is_empty()).count()
    };
    assert_eq!(flood(&mut lab), 20);
    lab.pass_secs(1);
    assert_eq!(flood(&mut lab), 10);
    assert_eq!(lab.refused(Reason::IcmpLimited), 1970);
    // Others' are counted apart.
    let (mut other, relay) = alice(&mut lab, 2);
    assert_eq!(other.permit(&mut lab, &[peer]), 0);
    assert_eq!(unreachable(&mut lab, relay, peer, REFUSED).len(), 1);
}

#[test]
fn a_stream_client_is_told_too() {
    let mut lab = Lab::new();
    let mut user = User::new("alice", over(Transport::Tls, client(1)), Mode::Modern);
    let relay = user.allocate(&mut lab);
    let peer = address("9.9.9.9:53");
    assert_eq!(user.permit(&mut lab, &[peer]), 0);
    let events = unreachable(&mut lab, relay, peer, REFUSED);
    let [Event::ToClient(to, bytes)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(*to, user.client);
    assert_eq!(Message::parse(bytes).unwrap().icmp().unwrap(), Some(REFUSED));
}
