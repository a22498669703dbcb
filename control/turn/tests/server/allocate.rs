//! Allocate (RFC 8656 section 7.2): every check, in order, and what is given.

use std::time::Duration;

use turn::attribute::{AttributeType, Code, Family};
use turn::message::{Builder, Class, Message, Method};
use turn::{Limits, Reason, RelayAddress};

use crate::lab::{Lab, RELAY_V4, RELAY_V6, address, client, config, ip};
use crate::user::{Mode, User, alice};
use crate::wire::Event;

fn ask(lab: &mut Lab, n: u16, fill: impl Fn(&mut Builder<'_>)) -> u16 {
    let mut user = User::new("alice", client(n), Mode::Legacy);
    user.ask(lab, Method::ALLOCATE, fill).code()
}

#[test]
fn a_plain_request_gives_an_ipv4_address_for_ten_minutes() {
    for mode in [Mode::Legacy, Mode::Modern] {
        let mut lab = Lab::new();
        let mut user = User::new("alice", client(1), mode);
        let answer = user.allocate_with(&mut lab, |_| {});
        assert_eq!(answer.relayed()[0].ip(), ip(RELAY_V4));
        assert!(answer.relayed()[0].port() >= 49152);
        assert_eq!(answer.lifetime(), 600);
        let message = answer.message();
        assert_eq!(message.xor_mapped_address().unwrap(), Some(client(1).remote));
        assert!(answer.signed && !message.has(AttributeType::SOFTWARE));
        assert_eq!(message.attributes().count(), 3);
        assert_eq!(lab.server.stats().allocations, 1);
    }
}

#[test]
fn each_malformed_or_impossible_wish_has_its_code() {
    type Fill = fn(&mut Builder<'_>);
    let cases: &[(u16, Fill, Reason)] = &[
        (400, |_| {}, Reason::MissingAttribute),
        (
            400,
            |b| _ = b.attribute(AttributeType::REQUESTED_TRANSPORT, &[17]),
            Reason::MalformedAttribute,
        ),
        (442, |b| _ = b.requested_transport(6), Reason::UnsupportedTransport),
        (442, |b| _ = b.requested_transport(0), Reason::UnsupportedTransport),
        // The first of two transports counts.
        (
            442,
            |b| _ = b.requested_transport(6).requested_transport(17),
            Reason::UnsupportedTransport,
        ),
        (
            400,
            |b| _ = b.requested_transport(17).attribute(AttributeType::DONT_FRAGMENT, &[1]),
            Reason::MalformedAttribute,
        ),
        (508, |b| _ = b.requested_transport(17).reservation_token(&[7; 8]), Reason::BadReservation),
        (
            400,
            |b| _ = b.requested_transport(17).attribute(AttributeType::RESERVATION_TOKEN, &[7; 7]),
            Reason::MalformedAttribute,
        ),
        (
            400,
            |b| _ = b.requested_transport(17).reservation_token(&[7; 8]).even_port(false),
            Reason::ConflictingAttributes,
        ),
        (
            400,
            |b| {
                _ = b
                    .requested_transport(17)
                    .reservation_token(&[7; 8])
                    .requested_address_family(Family::V4)
            },
            Reason::ConflictingAttributes,
        ),
        (
            400,
            |b| {
                _ = b
                    .requested_transport(17)
                    .reservation_token(&[7; 8])
                    .additional_address_family(Family::V6)
            },
            Reason::ConflictingAttributes,
        ),
        (
            400,
            |b| {
                _ = b
                    .requested_transport(17)
                    .requested_address_family(Family::V4)
                    .additional_address_family(Family::V6)
            },
            Reason::ConflictingAttributes,
        ),
        (
            440,
            |b| {
                _ = b
                    .requested_transport(17)
                    .attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[3, 0, 0, 0])
            },
            Reason::FamilyUnsupported,
        ),
        (
            440,
            |b| {
                _ = b
                    .requested_transport(17)
                    .attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[0, 0, 0, 0])
            },
            Reason::FamilyUnsupported,
        ),
        (
            400,
            |b| {
                _ = b
                    .requested_transport(17)
                    .attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[1])
            },
            Reason::MalformedAttribute,
        ),
        (
            400,
            |b| _ = b.requested_transport(17).even_port(true).additional_address_family(Family::V6),
            Reason::ConflictingAttributes,
        ),
        (
            400,
            |b| _ = b.requested_transport(17).attribute(AttributeType::EVEN_PORT, &[]),
            Reason::MalformedAttribute,
        ),
        (
            400,
            |b| _ = b.requested_transport(17).additional_address_family(Family::V4),
            Reason::MalformedAttribute,
        ),
        (
            400,
            |b| {
                _ = b
                    .requested_transport(17)
                    .attribute(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[9, 0, 0, 0])
            },
            Reason::MalformedAttribute,
        ),
        (
            400,
            |b| _ = b.requested_transport(17).attribute(AttributeType::LIFETIME, &[0; 3]),
            Reason::MalformedAttribute,
        ),
        (
            420,
            |b| _ = b.requested_transport(6).attribute(AttributeType(0x0003), &[0; 4]),
            Reason::UnknownAttribute,
        ),
        // The reserved BANDWIDTH and TIMER-VAL are unknown (RFC 8656 section 18).
        (
            420,
            |b| _ = b.requested_transport(17).attribute(AttributeType(0x0010), &[0; 4]),
            Reason::UnknownAttribute,
        ),
    ];
    let mut lab = Lab::new();
    for (n, &(code, fill, reason)) in cases.iter().enumerate() {
        let before = lab.refused(reason);
        assert_eq!(ask(&mut lab, n as u16, fill), code, "case {n}");
        assert_eq!(lab.refused(reason), before + 1, "case {n}");
    }
    assert!(lab.server.holds_nothing() && lab.wire.opened == 0);
}

#[test]
fn unknown_optional_and_unexpected_known_attributes_are_ignored() {
    let mut lab = Lab::new();
    assert_eq!(
        ask(&mut lab, 1, |b| {
            b.requested_transport(17)
                .attribute(AttributeType(0xC000), &[1, 2, 3])
                .data(b"x")
                .xor_peer_address(address("127.0.0.1:1"))
                .icmp(turn::attribute::Icmp { kind: 1, code: 2, data: 3 });
        }),
        0
    );
}

#[test]
fn a_420_lists_what_is_unknown() {
    let mut lab = Lab::new();
    let mut user = User::new("alice", client(1), Mode::Modern);
    let answer = user.allocate_with(&mut lab, |b| {
        b.attribute(AttributeType(0x7001), &[]).attribute(AttributeType(0x7002), &[]);
        b.attribute(AttributeType(0x7001), &[]).attribute(AttributeType(0x8999), &[]);
    });
    let unknown: Vec<_> = answer.message().unknown_attributes().unwrap().unwrap().collect();
    assert_eq!(unknown, [AttributeType(0x7001), AttributeType(0x7002)]);
    assert!(answer.signed);
}

#[test]
fn lifetimes_are_kept_between_the_default_and_the_maximum() {
    let mut lab = Lab::new();
    for (n, (asked, given)) in
        [(0, 600), (1, 600), (599, 600), (601, 601), (3600, 3600), (3601, 3600), (u32::MAX, 3600)]
            .into_iter()
            .enumerate()
    {
        let mut user = User::new("alice", client(n as u16), Mode::Legacy);
        let answer = user.allocate_with(&mut lab, |b| _ = b.lifetime_secs(asked));
        assert_eq!(answer.lifetime(), given, "asked for {asked}");
    }
}

#[test]
fn a_retransmission_gets_the_same_answer_and_anything_else_a_437() {
    let mut lab = Lab::new();
    let mut user = User::new("alice", client(1), Mode::Legacy);
    user.learn(&mut lab);
    for even in [false, true] {
        let fill = |b: &mut Builder<'_>| {
            b.requested_transport(17);
            if even {
                b.even_port(true);
            }
        };
        let request = user.sign(lab.transaction(), Method::ALLOCATE, fill);
        let first = lab.answer(user.client, &request).unwrap();
        for _ in 0..3 {
            assert_eq!(lab.answer(user.client, &request).as_ref(), Some(&first));
        }
        assert_eq!(lab.wire.ports.len(), 1);
        // Another transaction; another user with the same transaction.
        assert_eq!(user.allocate_with(&mut lab, |_| {}).code(), 437);
        let mut bob = User::new("bob", client(1), Mode::Legacy);
        bob.nonce = user.nonce.clone();
        let id = Message::parse(&request).unwrap().transaction();
        let stolen = bob.sign(id, Method::ALLOCATE, fill);
        assert_eq!(bob.exchange(&mut lab, &stolen).unwrap().code(), 437);
        lab.pass_secs(10);
        let later = user.exchange(&mut lab, &request).unwrap();
        assert_eq!(later.lifetime(), 590, "the time that is left");
        assert_eq!(user.refresh(&mut lab, 0).code(), 0);
    }
    assert_eq!(lab.server.stats().retransmissions, 8);
}

#[test]
fn families_are_as_asked() {
    let mut lab = Lab::new();
    let mut user = User::new("alice", client(1), Mode::Legacy);
    let v6 = user.allocate_with(&mut lab, |b| _ = b.requested_address_family(Family::V6));
    assert_eq!(v6.relayed()[0].ip(), ip(RELAY_V6));
    let mut user = User::new("alice", client(2), Mode::Legacy);
    let [v4, v6] = user.allocate_dual(&mut lab);
    assert_eq!((v4.ip(), v6.ip()), (ip(RELAY_V4), ip(RELAY_V6)));
    assert_eq!(lab.server.stats().allocations, 2);
    assert_eq!(lab.server.stats().relayed_addresses, 3);
}

#[test]
fn a_family_that_is_not_there_is_a_440_or_half_a_dual_allocation() {
    let only = |ip: &str| vec![RelayAddress::plain(ip.parse().unwrap())];
    let mut lab = Lab::with(turn::Config { relays: only(RELAY_V6), ..config() });
    assert_eq!(ask(&mut lab, 1, |b| _ = b.requested_transport(17)), 440);
    let mut lab = Lab::with(turn::Config { relays: only(RELAY_V4), ..config() });
    let v6 =
        |b: &mut Builder<'_>| _ = b.requested_transport(17).requested_address_family(Family::V6);
    assert_eq!(ask(&mut lab, 1, v6), 440);
    let mut user = User::new("alice", client(2), Mode::Legacy);
    let answer = user.allocate_with(&mut lab, |b| _ = b.additional_address_family(Family::V6));
    assert_eq!(answer.relayed().len(), 1);
    let error = answer.message().address_error_code().unwrap().expect("ADDRESS-ERROR-CODE");
    assert_eq!((error.family, error.code), (Family::V6, Code::ADDRESS_FAMILY_NOT_SUPPORTED));
}

#[test]
fn half_a_dual_allocation_says_508_for_the_other_half() {
    let mut lab = Lab::new();
    lab.wire.ports_max = Some(1);
    let mut user = User::new("alice", client(1), Mode::Legacy);
    let answer = user.allocate_with(&mut lab, |b| _ = b.additional_address_family(Family::V6));
    assert_eq!(answer.relayed().len(), 1);
    let error = answer.message().address_error_code().unwrap().expect("ADDRESS-ERROR-CODE");
    assert_eq!((error.family, error.code), (Family::V6, Code::INSUFFICIENT_CAPACITY));
    let mut other = User::new("alice", client(2), Mode::Legacy);
    let answer = other.allocate_with(&mut lab, |b| _ = b.additional_address_family(Family::V6));
    assert_eq!(answer.code(), 508);
    assert_eq!(lab.refused(Reason::PortRefused), 1);
    assert_eq!(user.refresh(&mut lab, 0).code(), 0);
    assert!(lab.server.holds_nothing());
}

#[test]
fn even_ports_and_reservations() {
    let mut lab = Lab::new();
    let mut user = User::new("alice", client(1), Mode::Legacy);
    let lone = user.allocate_with(&mut lab, |b| _ = b.even_port(false));
    assert_eq!(lone.relayed()[0].port() % 2, 0);
    assert!(!lone.message().has(AttributeType::RESERVATION_TOKEN));
    assert_eq!(lab.server.stats().reservations, 0);

    let mut user = User::new("alice", client(2), Mode::Legacy);
    let pair = user.allocate_with(&mut lab, |b| _ = b.even_port(true));
    let token = pair.message().reservation_token().unwrap().expect("RESERVATION-TOKEN");
    let even = pair.relayed()[0];
    assert_eq!(even.port() % 2, 0);
    // Anybody who has the token may have the port, once.
    let mut bob = User::new("bob", client(3), Mode::Modern);
    let odd = bob.allocate_with(&mut lab, |b| _ = b.reservation_token(&token)).relayed()[0];
    assert_eq!((odd.ip(), odd.port()), (even.ip(), even.port() + 1));
    let mut late = User::new("bob", client(4), Mode::Modern);
    let answer = late.allocate_with(&mut lab, |b| _ = b.reservation_token(&token));
    assert_eq!(answer.code(), 508);
}

#[test]
fn ports_in_use_are_passed_over_and_exhaustion_is_a_508() {
    let mut lab = Lab::with(turn::Config { ports: 50_000..=50_007, ..config() });
    for port in [50_000, 50_002, 50_004, 50_006] {
        lab.wire.in_use.insert((ip(RELAY_V4), port).into());
    }
    let even = |b: &mut Builder<'_>| _ = b.requested_transport(17).even_port(false);
    assert_eq!(ask(&mut lab, 9, even), 508);
    for n in 0..4 {
        let (_, relay) = alice(&mut lab, n);
        assert_eq!(relay.port() % 2, 1);
    }
    assert_eq!(ask(&mut lab, 9, |b| _ = b.requested_transport(17)), 508);
    assert_eq!(lab.refused(Reason::PortsExhausted), 2);
    // Four taken, four back in the queue.
    assert_eq!(lab.server.ports_free(), 4 + 8);
    lab.wire.exhausted = true;
    let v6 =
        |b: &mut Builder<'_>| _ = b.requested_transport(17).requested_address_family(Family::V6);
    assert_eq!(ask(&mut lab, 9, v6), 508);
    assert_eq!(lab.refused(Reason::PortRefused), 1);
}

#[test]
fn quotas_are_by_user_by_network_and_in_all() {
    let limits = Limits {
        allocations: 5,
        allocations_per_user: Some(3),
        allocations_per_prefix: Some(2),
        ..Limits::default()
    };
    let mut lab = Lab::with(turn::Config { limits, ..config() });
    let mut users: Vec<User> = (0..3).map(|n| alice(&mut lab, n).0).collect();
    assert_eq!(ask(&mut lab, 9, |b| _ = b.requested_transport(17)), 486);
    assert_eq!(lab.refused(Reason::UserQuota), 1);
    // A REST user is one user, whatever the expiry in the name.
    for n in 10..14 {
        let name = format!("{}:carol", 1_900_000_000 + u64::from(n));
        let mut carol = User::rest(&name, client(n));
        let expected = if n < 12 { 0 } else { 508 };
        assert_eq!(carol.allocate_with(&mut lab, |_| {}).code(), expected);
    }
    assert_eq!(lab.refused(Reason::AllocationsFull), 2);
    assert_eq!(users[0].refresh(&mut lab, 0).code(), 0);
    let mut carol = User::rest("1900000099:carol", client(15));
    assert_eq!(carol.allocate_with(&mut lab, |_| {}).code(), 0);
    assert_eq!(users[1].refresh(&mut lab, 0).code(), 0);
    let mut carol = User::rest("1900000099:carol", client(16));
    assert_eq!(carol.allocate_with(&mut lab, |_| {}).code(), 486);
    // The network of client 2 holds one; a second is good, a third is not.
    let neighbour = |host: u8| {
        let mut neighbour = client(2);
        neighbour.remote.set_port(6000 + u16::from(host));
        neighbour
    };
    let mut bob = User::new("bob", neighbour(1), Mode::Legacy);
    assert_eq!(bob.allocate_with(&mut lab, |_| {}).code(), 0);
    users[2].refresh(&mut lab, 0);
    let (_, _) = alice(&mut lab, 3);
    let mut bob = User::new("bob", neighbour(2), Mode::Legacy);
    assert_eq!(bob.allocate_with(&mut lab, |_| {}).code(), 508);
}

#[test]
fn a_reservation_counts_for_its_user_until_it_is_used_or_over() {
    let limits = Limits { allocations_per_user: Some(2), reservations: 1, ..Limits::default() };
    let mut lab = Lab::with(turn::Config { limits, ..config() });
    let mut user = User::new("alice", client(1), Mode::Legacy);
    let pair = user.allocate_with(&mut lab, |b| _ = b.even_port(true));
    let token = pair.message().reservation_token().unwrap().unwrap();
    assert_eq!(ask(&mut lab, 2, |b| _ = b.requested_transport(17)), 486);
    let mut bob = User::new("bob", client(3), Mode::Legacy);
    assert_eq!(bob.allocate_with(&mut lab, |b| _ = b.even_port(true)).code(), 508);
    assert_eq!(lab.refused(Reason::ReservationsFull), 1);
    let used = |b: &mut Builder<'_>| _ = b.requested_transport(17).reservation_token(&token);
    assert_eq!(ask(&mut lab, 4, used), 0);
    assert_eq!(ask(&mut lab, 5, |b| _ = b.requested_transport(17)), 486);
    assert_eq!(bob.allocate_with(&mut lab, |b| _ = b.even_port(true)).code(), 0);
    lab.pass(Duration::from_secs(30));
    assert_eq!(lab.server.stats().reservations, 0);
    let mut again = User::new("bob", client(6), Mode::Legacy);
    assert_eq!(again.allocate_with(&mut lab, |_| {}).code(), 0);
}

#[test]
fn a_1_to_1_nat_is_seen_only_inside_messages() {
    let nat = RelayAddress { local: ip("10.0.0.10"), advertised: ip("93.184.216.99") };
    let mut lab = Lab::with(turn::Config { relays: vec![nat], ..config() });
    let (mut a, relay_a) = alice(&mut lab, 1);
    let (mut b, relay_b) = alice(&mut lab, 2);
    assert_eq!((relay_a.ip(), relay_b.ip()), (ip("93.184.216.99"), ip("93.184.216.99")));
    let local = |relay: std::net::SocketAddr| (ip("10.0.0.10"), relay.port()).into();
    assert!(lab.wire.ports.contains_key(&local(relay_a)));
    // Two clients of this server meet by their advertised addresses.
    assert_eq!(a.permit(&mut lab, &[relay_b]), 0);
    assert_eq!(b.bind(&mut lab, 0x4001, relay_a), 0);
    let route = *lab.wire.route(b.client, 0x4001, lab.now.monotonic).unwrap();
    assert!(route.inner);
    assert_eq!((route.relay, route.peer), (local(relay_b), local(relay_a)));
    let send = lab.plain(Class::Indication, Method::SEND, |m| {
        m.xor_peer_address(relay_b).data(b"x");
    });
    let expected = Event::ToPeer {
        relay: local(relay_a),
        peer: local(relay_b),
        bytes: b"x".to_vec(),
        dont_fragment: false,
    };
    assert_eq!(lab.input(a.client, &send), [expected]);
    // What the other sees of it is the advertised address again.
    assert_eq!(a.permit(&mut lab, &[relay_a]), 0);
    let (mut c, relay_c) = alice(&mut lab, 3);
    assert_eq!(c.permit(&mut lab, &[relay_a]), 0);
    let data = lab.by_peer(local(relay_c), local(relay_a), b"y").unwrap();
    let peer = Message::parse(&data).unwrap().xor_peer_address().unwrap();
    assert_eq!(peer, Some(relay_a));
    // And our own traffic that comes back by the NAT is not a client's.
    let mut own = client(9);
    own.remote = relay_a;
    let binding = lab.plain(Class::Request, Method::BINDING, |_| {});
    assert!(lab.input(own, &binding).is_empty());
    assert_eq!(lab.refused(Reason::SourceOwn), 1);
}

#[test]
fn an_allocation_shows_what_it_has() {
    let mut lab = Lab::new();
    let mut user = User::rest("1900000000:carol", client(1));
    let [v4, v6] = user.allocate_dual(&mut lab);
    lab.pass_secs(5);
    assert_eq!(user.bind(&mut lab, 0x4001, address("9.9.9.9:53")), 0);
    assert_eq!(user.permit(&mut lab, &[address("[2620:fe::fe]:53")]), 0);
    let view = lab.server.allocation(&client(1)).unwrap();
    assert_eq!((view.user(), view.username()), ("carol", "1900000000:carol"));
    assert_eq!(lab.now.monotonic - view.created(), Duration::from_secs(5));
    assert_eq!(view.expires() - view.created(), Duration::from_secs(600));
    let relays: Vec<_> = view.relays().map(|relay| (relay.local(), relay.advertised())).collect();
    assert_eq!(relays, [(v4, v4), (v6, v6)]);
    let routes: Vec<_> = view.routes().collect();
    assert_eq!(routes, lab.wire.routes.values().copied().collect::<Vec<_>>());
    let permissions: usize = view.relays().map(|relay| relay.permissions().count()).sum();
    assert_eq!((permissions, lab.server.stats().permissions), (2, 2));
    assert_eq!(lab.server.allocations().count(), 1);
}
