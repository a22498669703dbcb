//! A client whose datagrams reach one worker, and whose relay port is on another.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/rig.rs"]
mod rig;

use dataplane::batch::Marks;
use dataplane::{IpFields, Route, Transport, monotonic};
use rig::{Host, PATIENCE, Rig, Told, channel_data, stun, udp};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use wire::Reason;

/// A relay with two workers, a client, and the worker that the client reaches.
fn parted() -> (Rig, Host, usize) {
    let mut rig = Rig::start(2, &["127.0.0.1:0"]);
    let mut client = Host::new("127.0.0.1");
    client.send(rig.listener(0), &stun(0));
    let told = rig.told(1, PATIENCE);
    let [Told::Client { worker, .. }] = told[..] else { panic!("{told:?}") };
    (rig, client, worker)
}

/// Opens a port on the other worker and a channel through it.
fn channel(rig: &mut Rig, client: &Host, peer: &Host, worker: usize) -> Route {
    let (port, relay) = rig.open(1 - worker, "127.0.0.1");
    let route = Route {
        transport: Transport::Udp,
        client: client.address,
        listener: rig.listener(0),
        channel: 0x4001,
        relay,
        port,
        peer: peer.address,
        expires: monotonic() + Duration::from_secs(60),
        inner: false,
    };
    rig.plane.add_route(&route).unwrap();
    route
}

/// Sends `data` until a worker has relayed it by itself; how often it went by the control thread,
/// which is this test.
fn until_direct(
    rig: &mut Rig,
    client: &mut Host,
    peer: &mut Host,
    route: &Route,
    data: &[u8],
) -> usize {
    for around in 0..100 {
        client.send(route.listener, &channel_data(0x4001, data, 0));
        // by either way; what comes of earlier channels is late
        loop {
            let (mut got, mut told) = rig.either(peer);
            got.retain(|got| got.bytes == data);
            told.retain(|told| matches!(told, Told::Client { bytes, .. } if bytes[4..] == *data));
            if let [got] = &got[..] {
                assert_eq!((got.from, told.len()), (route.relay, 0));
                return around;
            }
            if told.len() == 1 {
                break;
            }
            assert!(got.is_empty() && told.is_empty(), "{got:?} {told:?}");
        }
        rig.plane.to_peer(route.port, route.peer, data, IpFields::default());
        rig.plane.flush();
        loop {
            let got = peer.receive(1, PATIENCE);
            assert!(!got.is_empty(), "round the control thread");
            if let Some(got) = got.iter().find(|got| got.bytes == data) {
                assert_eq!(got.from, route.relay);
                break;
            }
        }
    }
    panic!("never relayed by a worker");
}

#[test]
fn the_first_datagram_goes_around_and_the_others_straight() {
    let (mut rig, mut client, worker) = parted();
    let mut peer = Host::new("127.0.0.1");
    let route = channel(&mut rig, &client, &peer, worker);
    let around = until_direct(&mut rig, &mut client, &mut peer, &route, b"first");
    assert!((1..10).contains(&around), "{around}");
    for _ in 0..100 {
        (0..20).for_each(|_| client.put(route.listener, &channel_data(0x4001, b"there", 3), None));
        client.flush();
        let straight = peer.each(20, PATIENCE, |arrival, bytes| {
            assert_eq!((arrival.remote, bytes), (route.relay, &b"there"[..]));
        });
        assert_eq!(straight, 20);
        // and the way back is the port's own worker's
        peer.send(route.relay, b"back");
        assert_eq!(client.receive_one().bytes, channel_data(0x4001, b"back", 0));
    }
    assert_eq!(rig.told(1, Duration::from_millis(20)), []);
    rig.until("all are settled", |stats| {
        stats.workers.iter().all(|worker| worker.settled() == worker.received)
    });
}

#[test]
fn what_goes_around_keeps_its_ttl_and_traffic_class_and_ends_with_its_last_hop() {
    let (mut rig, mut client, worker) = parted();
    let mut peer = Host::new("127.0.0.1");
    let route = channel(&mut rig, &client, &peer, worker);
    // given a first datagram, on its way to the control thread
    client.put(
        route.listener,
        &channel_data(0x4001, b"round", 0),
        Some(Marks { ttl: 9, tos: 0xb9 }),
    );
    client.flush();
    let told = rig.told(1, PATIENCE);
    let [Told::Client { marks, .. }] = told[..] else { panic!("{told:?}") };
    // when it is sent on, behind one that had come with a TTL of 1
    let last = Some(Marks { ttl: 0, tos: 0xb9 });
    for marks in [last, marks] {
        let fields = IpFields { dont_fragment: false, marks };
        rig.plane.to_peer(route.port, route.peer, b"round", fields);
    }
    rig.plane.flush();
    // then
    let got = peer.receive_one();
    assert_eq!((got.from, got.marks), (route.relay, Marks { ttl: 8, tos: 0xb9 }));
    // and so are a peer's, for which no worker has a permission
    peer.put(route.relay, b"back", None);
    peer.flush();
    assert_eq!(client.receive_one().bytes, channel_data(0x4001, b"back", 0));
    rig.plane.remove_route(&route);
    peer.put(route.relay, b"data", Some(Marks { ttl: 200, tos: 0x28 }));
    peer.flush();
    let told = rig.told(1, PATIENCE);
    let [Told::Peer { marks, .. }] = told[..] else { panic!("{told:?}") };
    for marks in [last, marks] {
        rig.plane.data_to_client(worker, udp(route.listener, client.address), b"data", marks);
    }
    rig.plane.flush();
    assert_eq!(client.receive_one().marks, Marks { ttl: 199, tos: 0x28 });
    assert_eq!(rig.plane.stats().refused_control[Reason::LastHop as usize], 2);
    // an answer has the host's own
    rig.plane.to_client(worker, udp(route.listener, client.address), &stun(0));
    rig.plane.flush();
    let marks = client.receive_one().marks;
    assert!(marks.ttl != 199 && marks.tos == 0, "{marks:?}");
}

#[test]
fn ports_that_close_and_descriptors_that_are_used_again_never_mix_two_channels() {
    let (mut rig, mut client, worker) = parted();
    let mut peer = Host::new("127.0.0.1");
    let mut relays: Vec<SocketAddr> = Vec::new();
    for round in 0..100_u8 {
        // given a port of the other worker, lent, and used
        let route = channel(&mut rig, &client, &peer, worker);
        relays.push(route.relay);
        until_direct(&mut rig, &mut client, &mut peer, &route, &[round]);
        // when it is closed while datagrams are on their way, and its descriptors are given out again
        for _ in 0..20 {
            client.put(route.listener, &channel_data(0x4001, &[round], 0), None);
        }
        client.flush();
        if round % 2 == 0 {
            rig.plane.remove_route(&route);
        }
        rig.plane.close_port(route.port);
        rig.plane.flush();
        let decoys: Vec<_> = (0..4).map(|_| rig.open(1 - worker, "127.0.0.1")).collect();
        client.send(route.listener, &channel_data(0x4001, &[round], 0));
        // then what still comes came from its own port
        peer.each(usize::MAX, Duration::from_millis(2), |arrival, bytes| {
            assert_eq!(arrival.remote, relays[usize::from(bytes[0])], "round {round}");
        });
        rig.told(0, Duration::ZERO);
        rig.plane.remove_route(&route);
        decoys.into_iter().for_each(|(port, _)| rig.plane.close_port(port));
        rig.plane.flush();
        // and the address is free once both workers have let go of it
        let end = monotonic() + PATIENCE;
        while UdpSocket::bind(route.relay).is_err() {
            assert!(monotonic() < end, "round {round}: still in use");
            rig.told(1, Duration::from_millis(1));
        }
        while !peer.receive(1, Duration::from_millis(1)).is_empty() {}
        while !rig.told(1, Duration::from_millis(1)).is_empty() {}
    }
}
