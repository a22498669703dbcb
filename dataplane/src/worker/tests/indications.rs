//! Send and Data indications that the worker carries itself, and those that it does not.

use super::*;
use crate::batch::Marks;
use crate::route::{Permission, Relayed};
use crate::worker::indication::{self, DataHeader};

const OTHER: &str = "203.0.113.77:6000";

/// A Send indication to `peer`.
pub(super) fn send_to(peer: &str, data: &[u8], dont_fragment: bool) -> Vec<u8> {
    // a Data indication is the same but for its type
    let header = DataHeader::new(address(peer), data.len(), &[7; 12]).unwrap();
    let mut bytes = [header.bytes(), data, &[0; 3][..header.padding]].concat();
    bytes[1] = 0x16;
    if dont_fragment {
        bytes.extend([0, 0x1a, 0, 0]);
        let length = bytes.len() as u16 - 20;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
    }
    bytes
}

/// The data of a Data indication, and whom it says it is from.
pub(super) fn data_of(bytes: &[u8]) -> (SocketAddr, Vec<u8>) {
    assert_eq!(bytes[1], 0x17);
    let mut send = bytes.to_vec();
    send[1] = 0x16;
    let read = indication::parse(&send).expect("well-formed");
    (read.peer, send[read.data].to_vec())
}

/// A bench whose client has a permission for the peer, and no channel.
fn permitted() -> Bench {
    let mut bench = bench();
    bench.routes.remove(&bench.route);
    let Route { client, listener, relay, port, .. } = bench.route;
    bench.permits.insert_relayed(&Relayed { client, listener, relay, port }).unwrap();
    let (peer, expires) = (address(PEER).ip(), NOW + Duration::from_secs(300));
    let permission = Permission { client, listener, relay, peer, expires };
    bench.permits.insert_permission(&permission).unwrap();
    bench
}

impl Bench {
    fn told(&mut self) -> Vec<(LetterKind, u32, Vec<u8>)> {
        let mut told = Vec::new();
        while self
            .control
            .events
            .take(|letter, bytes| told.push((letter.kind, letter.slot, bytes.to_vec())))
            .is_some()
        {}
        told
    }
}

#[test]
fn a_send_goes_to_its_peer_and_what_comes_back_goes_to_the_client() {
    let mut bench = permitted();
    for size in [0, 1, 3, 4, 160, 1201] {
        for port in ["6000", "1"] {
            // permissions are for all ports
            let (peer, data) = (format!("203.0.113.9:{port}"), vec![0xc5; size]);
            let send = send_to(&peer, &data, port == "1");
            bench.arrive(SocketId::listener(0), [CLIENT, LISTENER], &send);
            bench.arrive(SocketId::port(3), [&peer, RELAY], &data);
            bench.worker.round(NOW);
            let sent = std::mem::take(&mut bench.worker.link.sent);
            let [(out, there), (back, wrapped)] = &sent[..] else { panic!("two: {sent:?}") };
            assert_eq!((out.by, out.to, there), (SocketId::port(3), address(&peer), &data));
            // as received, a hop further on
            let marks = Some(Marks { ttl: 8, tos: 0x2e });
            assert_eq!((out.marks, out.dont_fragment), (marks, port == "1"));
            assert_eq!((back.by, back.to), (SocketId::listener(0), address(CLIENT)));
            assert_eq!((back.marks, back.dont_fragment), (marks, false));
            assert_eq!(data_of(wrapped), (address(&peer), data));
        }
    }
    let stats = bench.counters.snapshot();
    assert_eq!((stats.received, stats.settled(), stats.indications), (24, 24, [12, 12]));
    assert_eq!(stats.forwarded[0].bytes, 2 * (1 + 3 + 4 + 160 + 1201));
    assert_eq!(stats.forwarded[0], stats.forwarded[1]);
    // and it is all accounted for, until it is taken out
    let Route { client, listener, relay, port, .. } = bench.route;
    let (relayed, peer) = (Relayed { client, listener, relay, port }, address(PEER).ip());
    assert_eq!(bench.permits.sent(&relayed), stats.forwarded[0]);
    assert_eq!(bench.permits.came(peer, relay), stats.forwarded[1]);
    assert_eq!(bench.permits.remove_relayed(&relayed), stats.forwarded[0]);
    assert_eq!(bench.permits.remove_permission(peer, relay), stats.forwarded[1]);
    assert_eq!(bench.permits.remove_permission(peer, relay), Default::default());
    assert!(bench.told().is_empty());
}

#[test]
fn without_a_permission_both_ways_lead_to_the_control_thread() {
    let end = NOW + Duration::from_secs(300);
    let cases = [(OTHER, NOW), (PEER, end), ("[2001:db8::9]:6000", NOW)];
    for (peer, now) in cases {
        let mut bench = permitted();
        let send = send_to(peer, b"data", false);
        bench.arrive(SocketId::listener(0), [CLIENT, LISTENER], &send);
        bench.arrive(SocketId::port(3), [peer, RELAY], b"data");
        bench.worker.round(now);
        assert_eq!(
            bench.told(),
            [(LetterKind::Client, 0, send), (LetterKind::Peer, 3, b"data".to_vec())],
            "{peer} at {now:?}"
        );
        assert!(bench.worker.link.sent.is_empty());
    }
    // nor for another client, nor on another listener
    let mut bench = permitted();
    let send = send_to(PEER, b"data", false);
    bench.arrive(SocketId::listener(0), ["192.0.2.1:5001", LISTENER], &send);
    bench.arrive(SocketId::listener(0), [CLIENT, "198.51.100.2:3478"], &send);
    bench.worker.round(NOW);
    assert_eq!(bench.told().len(), 2);
}

#[test]
fn a_channel_goes_before_a_permission_and_after_its_end_the_permission_is_left() {
    let mut bench = permitted();
    bench.routes.insert(&bench.route).unwrap();
    for (now, channel) in [(NOW, true), (NOW + Duration::from_secs(1), false)] {
        bench.arrive(SocketId::port(3), [PEER, RELAY], b"back");
        bench.worker.round(now);
        let sent = std::mem::take(&mut bench.worker.link.sent);
        let [(_, bytes)] = &sent[..] else { panic!("one: {sent:?}") };
        assert_eq!(bytes.starts_with(&[0x40, 0]), channel);
        if !channel {
            assert_eq!(data_of(bytes), (address(PEER), b"back".to_vec()));
        }
    }
}

#[test]
fn sources_that_cannot_be_answered_are_refused_with_a_permission_too() {
    let mut bench = permitted();
    let Route { client, listener, relay, .. } = bench.route;
    let sources = ["203.0.113.9:0", LISTENER, "224.0.0.1:9", RELAY];
    for source in sources {
        let (peer, expires) = (address(source).ip(), NOW + Duration::from_secs(300));
        let permission = Permission { client, listener, relay, peer, expires };
        bench.permits.insert_permission(&permission).unwrap();
        bench.arrive(SocketId::port(3), [source, RELAY], b"data");
    }
    bench.worker.round(NOW);
    let stats = bench.counters.snapshot();
    assert_eq!(stats.refused(Reason::BadSource), sources.len() as u64);
    assert!(bench.worker.link.sent.is_empty());
}

#[test]
fn a_send_by_a_port_of_another_worker_is_marked_until_it_is_lent() {
    let mut bench = permitted();
    let Route { client, listener, relay, .. } = bench.route;
    let port = PortId::new(1, 3, 5);
    bench.control.command(Command::Close { id: bench.route.port });
    bench.permits.insert_relayed(&Relayed { client, listener, relay, port }).unwrap();
    let send = send_to(PEER, b"data", false);
    bench.arrive(SocketId::listener(0), [CLIENT, LISTENER], &send);
    bench.worker.round(NOW);
    assert_eq!(bench.told(), [(LetterKind::Client, crate::mailbox::ELSEWHERE, send.clone())]);
    bench.control.command(Command::Lend { id: port, local: relay, port: () });
    bench.arrive(SocketId::listener(0), [CLIENT, LISTENER], &send);
    bench.worker.round(NOW);
    let sent = &bench.worker.link.sent;
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].0.by, &sent[0].1[..]), (SocketId::loan(0), &b"data"[..]));
}

#[test]
fn datagrams_that_came_merged_are_wrapped_one_by_one() {
    for size in [160, 161] {
        let mut bench = permitted();
        let mut batch = Batch::new(1, 2000);
        let (remote, local) = (address(PEER), address(RELAY));
        let arrival = Arrival { remote, local, ttl: 9, tos: 0, truncated: false };
        let bytes: Vec<u8> = (0..5 * size + 7).map(|at| (at / size) as u8).collect();
        batch.push_from(SocketId::port(3), &bytes, Some(size), arrival);
        bench.worker.batch = batch;
        bench.pass(NOW);
        let got: Vec<_> =
            bench.worker.link.sent.iter().map(|(_, bytes)| data_of(bytes).1).collect();
        let expected: Vec<_> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
        assert_eq!(got, expected);
        let ids: std::collections::BTreeSet<_> =
            bench.worker.link.sent.iter().map(|(_, bytes)| bytes[8..20].to_vec()).collect();
        assert_eq!(ids.len(), 6, "each has a transaction id of its own");
    }
}

#[test]
fn what_does_not_fit_a_datagram_once_wrapped_is_the_control_threads() {
    let mut bench = permitted();
    bench.worker.batch = Batch::new(1, 65_535);
    let data = vec![1; 65_500];
    bench.arrive(SocketId::port(3), [PEER, RELAY], &data);
    bench.worker.round(NOW);
    assert_eq!(bench.told().len(), 1);
    assert!(bench.worker.link.sent.is_empty());
}

#[test]
fn an_indication_that_the_link_refuses_is_refused_and_not_forwarded() {
    let mut bench = permitted();
    bench.worker.link.refuse = Some(Reason::SocketFull);
    let send = send_to(PEER, b"data", false);
    bench.arrive(SocketId::listener(0), [CLIENT, LISTENER], &send);
    bench.arrive(SocketId::port(3), [PEER, RELAY], b"data");
    bench.worker.round(NOW);
    let stats = bench.counters.snapshot();
    assert_eq!((stats.received, stats.settled(), stats.indications), (2, 2, [0, 0]));
    assert_eq!(stats.refused(Reason::SocketFull), 2);
}
