//! ChannelBind (RFC 8656 section 12.2).

use turn::attribute::AttributeType;
use turn::message::Method;
use turn::{Config, Limits, Reason};

use crate::lab::{Lab, address, client, config};
use crate::user::{Mode, User, alice};

#[test]
fn a_binding_publishes_a_route_both_ways_and_a_permission() {
    for mode in [Mode::Legacy, Mode::Modern] {
        let mut lab = Lab::new();
        let mut user = User::new("alice", client(1), mode);
        let relay = user.allocate(&mut lab);
        let peer = address("9.9.9.9:1234");
        assert_eq!(user.bind(&mut lab, 0x4000, peer), 0);
        let route = *lab.wire.route(client(1), 0x4000, lab.now.monotonic).unwrap();
        assert_eq!((route.relay, route.peer, route.inner), (relay, peer, false));
        assert_eq!(route.origin, turn::Origin(5000));
        assert_eq!(lab.channel_data(client(1), 0x4000, b""), Some((relay, peer)));
        assert_eq!(lab.by_peer(relay, peer, b"abc").unwrap(), b"\x40\x00\x00\x03abc");
        // Another port of the same address has the permission, and no channel.
        assert!(lab.by_peer(relay, address("9.9.9.9:1235"), b"abc").unwrap().len() > 20);
    }
}

#[test]
fn all_65536_channel_numbers() {
    let limits = Limits {
        channels_per_allocation: 4096,
        permissions_per_allocation: 4096,
        ..Limits::default()
    };
    let mut lab = Lab::with(Config { limits, ..config() });
    let (mut user, _) = alice(&mut lab, 1);
    let (bound, unbound) = (address("9.9.9.9:1"), 0x4ABC);
    assert_eq!(user.bind(&mut lab, unbound, bound), 0);
    for number in 0..=u16::MAX {
        // ChannelData: only the one that is bound relays.
        let relayed = lab.channel_data(client(1), number, b"").is_some();
        assert_eq!(relayed, number == unbound, "{number:#06x}");
        // ChannelBind by all in the range and near it, and by some of the others.
        let near = (0x3FF0..=0x4010).contains(&number) || (0x4FF0..=0x5010).contains(&number);
        if !near && !number.is_multiple_of(509) {
            continue;
        }
        let peer = std::net::SocketAddr::from(([9, 9, 9, 8], number.max(1)));
        let answer = user.ask(&mut lab, Method::CHANNEL_BIND, |b| {
            let [high, low] = number.to_be_bytes();
            b.attribute(AttributeType::CHANNEL_NUMBER, &[high, low, 0xff, 0xff]);
            b.xor_peer_address(peer);
        });
        let good = (0x4000..=0x4FFF).contains(&number);
        assert_eq!(answer.code(), if good { 0 } else { 400 }, "{number:#06x}");
        assert_eq!(lab.channel_data(client(1), number, b"").is_some(), good, "{number:#06x}");
    }
}

#[test]
fn a_number_has_one_peer_and_a_peer_one_number() {
    let mut lab = Lab::new();
    let mut user = User::new("alice", client(1), Mode::Legacy);
    user.allocate_dual(&mut lab);
    let (a, b) = (address("9.9.9.9:1"), address("9.9.9.9:2"));
    assert_eq!(user.bind(&mut lab, 0x4000, a), 0);
    for (number, peer) in [(0x4000, b), (0x4001, a), (0x4000, address("[2620:fe::9]:1"))] {
        assert_eq!(user.bind(&mut lab, number, peer), 400, "{number:#x} {peer}");
    }
    assert_eq!(lab.refused(Reason::ChannelConflict), 3);
    assert_eq!(user.bind(&mut lab, 0x4000, a), 0);
    assert_eq!(user.bind(&mut lab, 0x4001, b), 0);
    assert_eq!(lab.server.stats().channels, 2);
    // Another allocation is another matter.
    let (mut other, _) = alice(&mut lab, 2);
    assert_eq!(other.bind(&mut lab, 0x4000, b), 0);
}

#[test]
fn malformed_and_forbidden_bindings_change_nothing() {
    let mut lab = Lab::new();
    let (mut user, _) = alice(&mut lab, 1);
    for (code, peer) in [
        (403, "127.0.0.1:1"),
        (403, "9.9.9.9:0"),
        (403, "93.184.216.10:22"),
        (403, "93.184.216.10:3478"),
        (443, "[2620:fe::9]:1"),
        (443, "[::ffff:9.9.9.9]:1"),
    ] {
        assert_eq!(user.bind(&mut lab, 0x4000, address(peer)), code, "{peer}");
    }
    let channel = turn::ChannelNumber::MIN;
    let peer = address("9.9.9.9:1");
    let no_peer = user.ask(&mut lab, Method::CHANNEL_BIND, |b| _ = b.channel_number(channel));
    let no_channel = user.ask(&mut lab, Method::CHANNEL_BIND, |b| _ = b.xor_peer_address(peer));
    let short = user.ask(&mut lab, Method::CHANNEL_BIND, |b| {
        b.attribute(AttributeType::CHANNEL_NUMBER, &[0x40, 0]).xor_peer_address(peer);
    });
    assert_eq!([no_peer.code(), no_channel.code(), short.code()], [400; 3]);
    assert!(lab.wire.routes.is_empty());
    assert_eq!((lab.server.stats().channels, lab.server.stats().permissions), (0, 0));
}

#[test]
fn full_tables_refuse_with_508_and_leave_what_is_open_alone() {
    let limits = Limits { channels: 3, channels_per_allocation: 2, ..Limits::default() };
    let mut lab = Lab::with(Config { limits, ..config() });
    let (mut a, _) = alice(&mut lab, 1);
    let (mut b, _) = alice(&mut lab, 2);
    let peer = |n: u8| std::net::SocketAddr::from(([9, 9, 9, n], 1));
    assert_eq!(a.bind(&mut lab, 0x4000, peer(1)), 0);
    assert_eq!(a.bind(&mut lab, 0x4001, peer(2)), 0);
    assert_eq!(a.bind(&mut lab, 0x4002, peer(3)), 508);
    assert_eq!(b.bind(&mut lab, 0x4000, peer(1)), 0);
    assert_eq!(b.bind(&mut lab, 0x4001, peer(2)), 508);
    assert_eq!(
        (lab.refused(Reason::AllocationChannelsFull), lab.refused(Reason::ChannelsFull)),
        (1, 1)
    );
    lab.wire.routes_max = Some(3);
    assert_eq!(a.refresh(&mut lab, 0).code(), 0);
    let (mut c, _) = alice(&mut lab, 3);
    lab.wire.routes_max = Some(1);
    assert_eq!(c.bind(&mut lab, 0x4000, peer(9)), 508);
    assert_eq!(lab.refused(Reason::RoutesFull), 1);
    assert!(lab.send(client(3), peer(9), b"x").is_none(), "nor is there a permission");
    assert_eq!(b.bind(&mut lab, 0x4000, peer(1)), 0, "a refresh needs no room");
}

#[test]
fn two_clients_of_one_server_are_forwarded_inside_until_one_goes() {
    let mut lab = Lab::new();
    let (mut a, relay_a) = alice(&mut lab, 1);
    let (mut b, relay_b) = alice(&mut lab, 2);
    assert_eq!(a.bind(&mut lab, 0x4000, relay_b), 0);
    assert_eq!(b.bind(&mut lab, 0x4000, relay_a), 0);
    assert!(lab.wire.routes.values().all(|route| route.inner));
    assert_eq!(lab.by_peer(relay_b, relay_a, b"x").unwrap(), b"\x40\x00\x00\x01x");
    // The outbox checks that no route is left to a port that closes.
    assert_eq!(b.refresh(&mut lab, 0).code(), 0);
    assert!(lab.wire.routes.is_empty());
    assert!(lab.channel_data(client(1), 0x4000, b"x").is_none());
    assert_eq!(lab.refused(Reason::DataForbidden), 1);
    assert_eq!(a.bind(&mut lab, 0x4000, relay_b), 403);
    assert_eq!(a.bind(&mut lab, 0x4000, address("9.9.9.9:1")), 400);
    // To itself: one datagram out, one back.
    let (mut c, relay_c) = alice(&mut lab, 3);
    assert_eq!(c.bind(&mut lab, 0x4000, relay_c), 0);
    assert_eq!(lab.channel_data(client(3), 0x4000, b"x"), Some((relay_c, relay_c)));
    for user in [&mut a, &mut c] {
        assert_eq!(user.refresh(&mut lab, 0).code(), 0);
    }
    assert!(lab.server.holds_nothing());
}
