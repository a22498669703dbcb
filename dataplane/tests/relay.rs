//! Channels through real sockets on loopback: every mix of families, marks, padding, inner routes.

#[path = "support/rig.rs"]
mod rig;

use dataplane::batch::Marks;
use dataplane::{IpFields, monotonic};
use rig::{Host, PATIENCE, Rig, Told, channel_data, stun};
use std::time::Duration;
use wire::{Direction, Reason};

const MIXES: [(&str, &str); 4] =
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("127.0.0.1", "::1"), ("::1", "127.0.0.1")];

#[test]
fn channel_data_crosses_both_ways_in_every_mix_of_families() {
    for (client_ip, peer_ip) in MIXES {
        // given
        let mut rig = Rig::start(1, &["127.0.0.1:0", "[::1]:0"]);
        let (mut client, mut peer) = (Host::new(client_ip), Host::new(peer_ip));
        let listener = rig.listener(usize::from(client.address.is_ipv6()));
        let route = rig.channel(client.address, listener, peer_ip, peer.address);
        // when, then
        client.send(listener, &channel_data(0x4000, b"to the peer", 0));
        let got = peer.receive_one();
        assert_eq!((got.from, &got.bytes[..]), (route.relay, &b"to the peer"[..]));
        peer.send(route.relay, b"to the client");
        let got = client.receive_one();
        assert_eq!(got.from, listener);
        assert_eq!(got.bytes, channel_data(0x4000, b"to the client", 0));
        // counted once they have left
        rig.until("both are counted", |stats| stats.workers[0].settled() == 2);
        let counters = rig.plane.route_counters(&route);
        assert_eq!((counters.to_peer.packets, counters.to_peer.bytes), (1, 11));
        assert_eq!((counters.to_client.packets, counters.to_client.bytes), (1, 13));
    }
}

#[test]
fn ttl_goes_down_by_one_and_dscp_and_ecn_stay() {
    for (client_ip, peer_ip) in MIXES {
        let mut rig = Rig::start(1, &["127.0.0.1:0", "[::1]:0"]);
        let (mut client, mut peer) = (Host::new(client_ip), Host::new(peer_ip));
        let listener = rig.listener(usize::from(client.address.is_ipv6()));
        let route = rig.channel(client.address, listener, peer_ip, peer.address);
        for (ttl, tos) in [(64, 0), (2, 0xb8), (255, 0xb9), (17, 0x02), (100, 0xff), (3, 0x03)] {
            let marks = Some(Marks { ttl, tos });
            client.put(listener, &channel_data(0x4000, b"there", 0), marks);
            client.flush();
            assert_eq!(peer.receive_one().marks, Marks { ttl: ttl - 1, tos });
            peer.put(route.relay, b"back", marks);
            peer.flush();
            assert_eq!(client.receive_one().marks, Marks { ttl: ttl - 1, tos });
        }
        let marks = Some(Marks { ttl: 1, tos: 0 });
        client.put(listener, &channel_data(0x4000, b"the last hop", 0), marks);
        client.flush();
        peer.put(route.relay, b"the last hop", marks);
        peer.flush();
        rig.until("both are dropped", |stats| stats.refused(Reason::LastHop) == 2);
        client.receive_nothing();
        peer.receive_nothing();
    }
}

#[test]
fn padding_of_up_to_three_bytes_is_stripped_and_more_is_refused() {
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let (mut client, mut peer) = (Host::new("127.0.0.1"), Host::new("127.0.0.1"));
    let listener = rig.listener(0);
    rig.channel(client.address, listener, "127.0.0.1", peer.address);
    for size in [0, 1, 2, 3, 4, 1200, 9000, 65_500] {
        let data = vec![0x5a; size];
        for padding in 0..=3 {
            client.send(listener, &channel_data(0x4000, &data, padding));
            assert_eq!(peer.receive_one().bytes, data, "{size} bytes, padding {padding}");
        }
    }
    client.send(listener, &channel_data(0x4000, b"four", 4));
    let mut short = channel_data(0x4000, b"cut", 0);
    short.pop();
    client.send(listener, &short);
    rig.until("both are refused", |stats| stats.refused(Reason::BadChannelData) == 2);
    peer.receive_nothing();
}

#[test]
fn what_does_not_fit_once_wrapped_is_refused_as_too_big() {
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let (mut client, mut peer) = (Host::new("127.0.0.1"), Host::new("127.0.0.1"));
    let route = rig.channel(client.address, rig.listener(0), "127.0.0.1", peer.address);
    peer.send(route.relay, &vec![1; 65_507]);
    rig.until("it is refused", |stats| stats.refused(Reason::TooBig) == 1);
    peer.send(route.relay, &vec![1; 65_503]);
    assert_eq!(client.receive_one().bytes.len(), 65_507);
}

#[test]
fn a_channel_ends_at_its_expiry_and_comes_back_when_it_is_refreshed() {
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let (mut client, mut peer) = (Host::new("127.0.0.1"), Host::new("127.0.0.1"));
    let listener = rig.listener(0);
    let mut route = rig.channel(client.address, listener, "127.0.0.1", peer.address);
    route.expires = monotonic();
    rig.plane.add_route(&route).unwrap();
    client.send(listener, &channel_data(0x4000, b"late", 0));
    rig.until("it is refused", |stats| stats.refused(Reason::Expired) == 1);
    // the peer may still have a permission, which only the control thread knows
    peer.send(route.relay, b"late");
    let told = rig.told(1, PATIENCE);
    assert!(matches!(&told[..], [Told::Peer { bytes, .. }] if bytes == b"late"), "{told:?}");
    route.expires = monotonic() + Duration::from_secs(60);
    rig.plane.add_route(&route).unwrap();
    client.send(listener, &channel_data(0x4000, b"again", 0));
    assert_eq!(peer.receive_one().bytes, b"again");
}

#[test]
fn a_withdrawn_channel_stops_at_once_in_both_directions() {
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let (mut client, mut peer) = (Host::new("127.0.0.1"), Host::new("127.0.0.1"));
    let listener = rig.listener(0);
    let route = rig.channel(client.address, listener, "127.0.0.1", peer.address);
    rig.plane.remove_route(&route);
    client.send(listener, &channel_data(0x4000, b"gone", 0));
    peer.send(route.relay, b"gone");
    let told = rig.told(2, PATIENCE);
    assert_eq!(told.len(), 2, "both are the control thread's now: {told:?}");
    peer.receive_nothing();
    client.receive_nothing();
}

#[test]
fn messages_go_to_the_control_thread_and_its_answers_come_back() {
    let mut rig = Rig::start(1, &["0.0.0.0:0", "[::]:0"]);
    for (client_ip, reached) in [("127.0.0.1", "127.0.0.2"), ("::1", "::1")] {
        let mut client = Host::new(client_ip);
        let mut local = rig.listener(usize::from(client.address.is_ipv6()));
        local.set_ip(reached.parse().unwrap());
        client.put(local, &stun(8), Some(Marks { ttl: 33, tos: 0x89 }));
        client.flush();
        let told = rig.told(1, PATIENCE);
        let (worker, remote, bytes) = (0, client.address, stun(8));
        let (transport, marks) = (dataplane::Transport::Udp, Some(Marks { ttl: 32, tos: 0x89 }));
        assert_eq!(told, [Told::Client { worker, transport, local, remote, marks, bytes }]);
        rig.plane.to_client(0, rig::udp(local, remote), b"an answer");
        rig.plane.flush();
        let got = client.receive_one();
        assert_eq!(
            (got.from, &got.bytes[..]),
            (local, &b"an answer"[..]),
            "from where it was sent"
        );
    }
}

#[test]
fn a_channel_through_a_listener_on_all_addresses_answers_from_the_right_one() {
    let mut rig = Rig::start(1, &["0.0.0.0:0"]);
    let (mut client, mut peer) = (Host::new("127.0.0.1"), Host::new("127.0.0.1"));
    let mut listener = rig.listener(0);
    listener.set_ip("127.0.0.3".parse().unwrap());
    let route = rig.channel(client.address, listener, "127.0.0.1", peer.address);
    client.send(listener, &channel_data(0x4000, b"there", 3));
    assert_eq!(peer.receive_one().bytes, b"there");
    peer.send(route.relay, b"back");
    assert_eq!(client.receive_one().from, listener);
}

#[test]
fn a_peer_without_a_route_goes_to_the_control_thread_and_can_be_answered() {
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let mut peer = Host::new("127.0.0.1");
    let (port, relay) = rig.open(0, "127.0.0.1");
    peer.put(relay, b"who is there", Some(Marks { ttl: 1, tos: 0 }));
    peer.flush();
    let told = rig.told(1, PATIENCE);
    let (bytes, marks) = (b"who is there".to_vec(), Some(Marks { ttl: 0, tos: 0 }));
    assert_eq!(told, [Told::Peer { port, relay, peer: peer.address, marks, bytes }]);
    for dont_fragment in [false, true, false] {
        rig.plane.to_peer(port, peer.address, b"it is me", IpFields { dont_fragment, marks: None });
        rig.plane.flush();
        let got = peer.receive_one();
        assert_eq!((got.from, &got.bytes[..]), (relay, &b"it is me"[..]));
    }
}

#[test]
fn two_clients_of_one_relay_reach_each_other_inside() {
    // given two clients whose channels lead to each other's relayed addresses
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let (mut alice, mut bob) = (Host::new("127.0.0.1"), Host::new("127.0.0.1"));
    let listener = rig.listener(0);
    let mut a = rig.channel(alice.address, listener, "127.0.0.1", listener);
    let mut b = rig.channel(bob.address, listener, "127.0.0.1", listener);
    rig.plane.remove_route(&a);
    rig.plane.remove_route(&b);
    (a.peer, a.inner, b.peer, b.inner) = (b.relay, true, a.relay, true);
    b.channel = 0x4abc;
    rig.plane.add_route(&a).unwrap();
    // when only one of them has a channel, the other's side is the control thread's
    alice.put(listener, &channel_data(0x4000, b"half", 1), Some(Marks { ttl: 50, tos: 4 }));
    alice.flush();
    let told = rig.told(1, PATIENCE);
    let (port, relay, peer, bytes) = (b.port, b.relay, a.relay, b"half".to_vec());
    let marks = Some(Marks { ttl: 48, tos: 4 });
    assert_eq!(told, [Told::Peer { port, relay, peer, marks, bytes }], "two hops later");
    // nor when the other's channel is over
    rig.plane.add_route(&dataplane::Route { expires: monotonic(), ..b }).unwrap();
    alice.send(listener, &channel_data(0x4000, b"over", 0));
    assert!(matches!(&rig.told(1, PATIENCE)[..], [Told::Peer { bytes, .. }] if bytes == b"over"));
    // then, with both, a datagram crosses both channels at once
    rig.plane.add_route(&b).unwrap();
    alice.send(listener, &channel_data(0x4000, b"to bob", 2));
    assert_eq!(bob.receive_one().bytes, channel_data(0x4abc, b"to bob", 0));
    bob.send(listener, &channel_data(0x4abc, b"to alice", 0));
    assert_eq!(alice.receive_one().bytes, channel_data(0x4000, b"to alice", 0));
    rig.until("all are settled", |stats| {
        let worker = &stats.workers[0];
        worker.received == 6 && worker.settled() == 6 && worker.inner == 2
    });
    assert_eq!(rig.plane.stats().forwarded(Direction::ToPeer).packets, 4);
    assert_eq!(rig.plane.stats().forwarded(Direction::ToClient).packets, 2);
}

#[test]
fn a_route_that_comes_and_goes_loses_nothing_and_confuses_nothing() {
    // given two channels of one client to two peers
    let mut rig = Rig::start(1, &["127.0.0.1:0"]);
    let (mut client, mut left, mut right) =
        (Host::new("127.0.0.1"), Host::new("127.0.0.1"), Host::new("127.0.0.1"));
    let listener = rig.listener(0);
    let mut flapping = rig.channel(client.address, listener, "127.0.0.1", left.address);
    let steady = dataplane::Route { channel: 0x4001, peer: right.address, ..flapping };
    rig.plane.add_route(&steady).unwrap();
    // when one is withdrawn, published and refreshed while datagrams of both are on their way
    let (mut direct, mut told) = (0, 0);
    for _ in 0..500 {
        for _ in 0..8 {
            client.put(listener, &channel_data(0x4000, b"left", 0), None);
            client.put(listener, &channel_data(0x4001, b"right", 0), None);
        }
        client.flush();
        for _ in 0..20 {
            rig.plane.remove_route(&flapping);
            rig.plane.add_route(&flapping).unwrap();
            flapping.expires += Duration::from_nanos(1);
            rig.plane.add_route(&flapping).unwrap();
        }
        // then each is relayed or handed over, and none reaches the wrong peer
        right.each(8, PATIENCE, |_, bytes| assert_eq!(bytes, b"right"));
        direct += left.each(0, Duration::ZERO, |_, bytes| assert_eq!(bytes, b"left"));
        told += rig.told(0, Duration::ZERO).len();
    }
    rig.until("all are settled", |stats| {
        let worker = &stats.workers[0];
        worker.received == 8000 && worker.settled() == 8000
    });
    told += rig.told(4000 - direct - told, Duration::from_millis(100)).len();
    direct += left.each(4000 - direct - told, PATIENCE, |_, bytes| assert_eq!(bytes, b"left"));
    println!("{direct} relayed, {told} handed over");
    assert_eq!(direct + told, 4000);
}

#[test]
fn several_workers_each_serve_their_clients() {
    let mut rig = Rig::start(2, &["127.0.0.1:0"]);
    let listener = rig.listener(0);
    let mut seen = [0, 0];
    for _ in 0..32 {
        // given a client, and the worker that the kernel chose for it
        let (mut client, mut peer) = (Host::new("127.0.0.1"), Host::new("127.0.0.1"));
        client.send(listener, &stun(0));
        let told = rig.told(1, PATIENCE);
        let [Told::Client { worker, .. }] = told[..] else { panic!("{told:?}") };
        seen[worker] += 1;
        // when its relay port is on that worker
        let (port, relay) = rig.open(worker, "127.0.0.1");
        let route = dataplane::Route {
            transport: dataplane::Transport::Udp,
            client: client.address,
            listener,
            channel: 0x4001,
            relay,
            port,
            peer: peer.address,
            expires: monotonic() + Duration::from_secs(60),
            inner: false,
        };
        rig.plane.add_route(&route).unwrap();
        // then both directions cross
        client.send(listener, &channel_data(0x4001, b"there", 0));
        assert_eq!(peer.receive_one().bytes, b"there");
        peer.send(relay, b"back");
        assert_eq!(client.receive_one().bytes, channel_data(0x4001, b"back", 0));
    }
    assert!(seen.iter().all(|clients| *clients > 0), "{seen:?}");
}
