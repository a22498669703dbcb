//! Clients over TCP, TLS and DTLS: what is the same as over UDP, and what is not.

use turn::message::{Class, Message, Method};
use turn::{Client, Config, Input, Origin, Reason, Transport};

use crate::lab::{Lab, address, client, code, config, over};
use crate::user::{Mode, User};
use crate::wire::Event;

const CONNECTED: [Transport; 3] = [Transport::Tcp, Transport::Tls, Transport::Dtls];

fn gone(lab: &mut Lab, client: Client) -> Vec<Event> {
    lab.wire.take();
    lab.server.handle(lab.now, Input::Gone { client, origin: Origin(0) }, &mut lab.wire);
    lab.wire.take()
}

#[test]
fn the_transport_is_part_of_the_five_tuple() {
    let mut lab = Lab::new();
    let mut relays = Vec::new();
    for transport in [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Dtls] {
        let mut user = User::new("alice", over(transport, client(1)), Mode::Modern);
        relays.push(user.allocate(&mut lab));
    }
    assert_eq!(lab.server.stats().allocations, 4);
    relays.sort();
    relays.dedup();
    assert_eq!(relays.len(), 4, "four allocations at one address and port");
    assert_eq!(
        lab.server.allocation(&over(Transport::Tls, client(1))).unwrap().relays().count(),
        1
    );
}

#[test]
fn a_relayed_address_is_a_source_of_our_own_by_its_own_protocol_only() {
    let mut lab = Lab::with(Config { tcp_relay: true, ..config() });
    // given a relayed address of each protocol
    let udp = User::new("alice", client(1), Mode::Modern).allocate(&mut lab);
    let mut user = User::new("alice", over(Transport::Tcp, client(2)), Mode::Modern);
    let answer = user.ask(&mut lab, Method::ALLOCATE, |b| _ = b.requested_transport(6));
    let tcp = answer.relayed()[0];
    // when a client comes from there, as one on this host may
    for (transport, ours, other) in [
        (Transport::Udp, udp, tcp),
        (Transport::Dtls, udp, tcp),
        (Transport::Tcp, tcp, udp),
        (Transport::Tls, tcp, udp),
    ] {
        // then
        let request = lab.plain(Class::Request, Method::BINDING, |_| {});
        let before = lab.refused(Reason::SourceOwn);
        let from = |remote| over(transport, Client { remote, ..client(3) });
        assert!(lab.input(from(ours), &request).is_empty(), "{transport:?}");
        assert_eq!(lab.refused(Reason::SourceOwn), before + 1, "{transport:?}");
        assert!(lab.answer(from(other), &request).is_some(), "{transport:?}");
    }
}

#[test]
fn channel_data_is_padded_on_streams_and_bare_on_datagrams() {
    for transport in [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Dtls] {
        let mut lab = Lab::new();
        let mut user = User::new("alice", over(transport, client(1)), Mode::Legacy);
        let relay = user.allocate(&mut lab);
        let peer = address("9.9.9.9:53");
        assert_eq!(user.bind(&mut lab, 0x4000, peer), 0);
        for len in 0..=9usize {
            let got = lab.by_peer(relay, peer, &vec![0xAA; len]).unwrap();
            let mut want = vec![0x40, 0, 0, len as u8];
            want.extend(vec![0xAA; len]);
            if transport.is_stream() {
                want.resize(want.len().next_multiple_of(4), 0);
            }
            assert_eq!(got, want, "{transport:?}");
        }
        // Towards the peer the data plane has cut the padding off already.
        assert_eq!(lab.channel_data(user.client, 0x4000, b"abc"), Some((relay, peer)));
    }
}

#[test]
fn the_largest_datagram_of_a_peer_fits_a_stream() {
    let mut lab = Lab::new();
    let mut user = User::new("alice", over(Transport::Tcp, client(1)), Mode::Legacy);
    let relay = user.allocate(&mut lab);
    let (bound, permitted) = (address("9.9.9.9:53"), address("9.9.9.8:53"));
    assert_eq!(user.bind(&mut lab, 0x4000, bound), 0);
    assert_eq!(user.permit(&mut lab, &[permitted]), 0);
    let largest = vec![1; 65_507];
    assert_eq!(lab.by_peer(relay, bound, &largest).unwrap().len(), 4 + 65_508);
    // As a Data indication its length field has no room for it.
    assert!(lab.by_peer(relay, permitted, &vec![1; 65_500]).is_some());
    assert!(lab.by_peer(relay, permitted, &vec![1; 65_536]).is_none());
    assert_eq!(lab.refused(Reason::PeerTooLarge), 1);
}

#[test]
fn an_allocation_ends_with_its_connection_routes_first() {
    for transport in CONNECTED {
        let mut lab = Lab::new();
        let mut user = User::new("alice", over(transport, client(1)), Mode::Legacy);
        let [v4, v6] = user.allocate_dual(&mut lab);
        assert_eq!(user.bind(&mut lab, 0x4000, address("9.9.9.9:53")), 0);
        let events = gone(&mut lab, user.client);
        let [Event::Remove(route), Event::Forbid(_), Event::Close(first), Event::Close(second)] =
            events.as_slice()
        else {
            panic!("{events:?}")
        };
        assert_eq!((route.relay, *first, *second), (v4, v4, v6));
        assert!(lab.server.holds_nothing());
        assert_eq!(lab.server.deadline(), None);
        assert!(gone(&mut lab, user.client).is_empty(), "twice is once");
        assert!(gone(&mut lab, over(transport, client(9))).is_empty(), "nobody's");
    }
}

#[test]
fn another_connection_of_the_same_address_keeps_its_allocation() {
    let mut lab = Lab::new();
    let mut tcp = User::new("alice", over(Transport::Tcp, client(1)), Mode::Legacy);
    let mut tls = User::new("alice", over(Transport::Tls, client(1)), Mode::Legacy);
    tcp.allocate(&mut lab);
    tls.allocate(&mut lab);
    gone(&mut lab, tcp.client);
    assert_eq!(tcp.refresh(&mut lab, 600).code(), 437);
    assert_eq!(tls.refresh(&mut lab, 600).code(), 0);
}

#[test]
fn what_is_neither_stun_nor_channel_data_ends_a_stream_without_a_byte() {
    let mut lab = Lab::new();
    let broken = lab.plain(Class::Request, Method::BINDING, |b| _ = b.software("x"));
    let cases: &[(&[u8], Reason)] = &[
        (b"GET / HTTP/1.1\r\nHost: turn.example.org\r\n\r\n", Reason::ChannelMalformed),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Reason::NotStun),
        (b"\x50\x00\x00\x00", Reason::NotStun),
        (&broken[..broken.len() - 1], Reason::Malformed),
        (b"\x40\x00\x00\x09short", Reason::ChannelMalformed),
    ];
    for &(bytes, reason) in cases {
        for transport in [Transport::Tcp, Transport::Tls] {
            let who = over(transport, client(1));
            assert_eq!(lab.input(who, bytes), [Event::CloseClient(who)], "{bytes:?}");
            assert!(lab.refused(reason) > 0, "{bytes:?}");
        }
        // A datagram is only dropped.
        assert!(lab.input(client(1), bytes).is_empty());
        assert!(lab.input(over(Transport::Dtls, client(1)), bytes).is_empty());
    }
    // A good message that is refused, or data for nobody, ends nothing.
    let who = over(Transport::Tcp, client(1));
    assert!(lab.input(who, b"\x40\x00\x00\x00").is_empty());
    let refused = lab.plain(Class::Request, Method::REFRESH, |_| {});
    assert_eq!(code(&lab.answer(who, &refused).unwrap()), Some(401));
}

#[test]
fn what_protects_victims_of_forged_sources_does_not_hurt_who_has_shown_its_address() {
    let mut config = config();
    let none = turn::limits::Rate { per_second: 0, burst: 0 };
    config.limits.unauthenticated =
        turn::limits::Budget { source: none, prefix: none, total: none };
    let mut lab = Lab::with(config);
    let bare = lab.plain(Class::Request, Method::ALLOCATE, |_| {});
    assert!(lab.answer(client(1), &bare).is_none(), "no budget, no answer");
    for transport in CONNECTED {
        let who = over(transport, client(1));
        let answer = lab.answer(who, &bare).unwrap();
        let message = Message::parse(&answer).unwrap();
        assert_eq!(code(&answer), Some(401));
        // Even to a bare header, for which it would be too long an answer over UDP.
        assert!(message.password_algorithms().unwrap().is_some(), "{transport:?}");
        // A 438 may be larger than its request.
        let mut user = User::new("alice", who, Mode::Legacy);
        user.nonce = b"x".to_vec();
        let request = user.sign(lab.transaction(), Method::REFRESH, |_| {});
        let answer = lab.answer(who, &request).unwrap();
        assert_eq!(code(&answer), Some(438));
        assert!(answer.len() > request.len());
    }
}
