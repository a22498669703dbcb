//! Allocations that go with their client (RFC 8016).

use std::net::SocketAddr;
use std::time::Duration;

use turn::message::Method;
use turn::{Client, Config, Input, Origin, Reason, Transport};

use crate::lab::{Lab, address, client, config, over};
use crate::user::{Answer, Mode, User};
use crate::wire::Event;

const PEER: &str = "9.9.9.9:53";

fn with_mobility() -> Lab {
    Lab::with(Config { mobility: true, ..config() })
}

fn ticket(answer: &Answer) -> Vec<u8> {
    assert_eq!(answer.code(), 0);
    answer.message().mobility_ticket().expect("MOBILITY-TICKET").to_vec()
}

/// An allocation with a ticket, and a channel to [`PEER`].
fn mobile(lab: &mut Lab, at: Client) -> (User, SocketAddr, Vec<u8>) {
    let mut user = User::new("alice", at, Mode::Modern);
    let answer = user.allocate_with(lab, |b| _ = b.mobility_ticket(&[]));
    let relay = answer.relayed()[0];
    assert_eq!(user.bind(lab, 0x4000, address(PEER)), 0);
    (user, relay, ticket(&answer))
}

fn shift(lab: &mut Lab, user: &mut User, ticket: &[u8]) -> Answer {
    user.ask(lab, Method::REFRESH, |b| _ = b.lifetime_secs(600).mobility_ticket(ticket))
}

fn gone(lab: &mut Lab, client: Client) -> Vec<Event> {
    lab.wire.take();
    lab.server.handle(lab.now, Input::Gone { client, origin: Origin(0) }, &mut lab.wire);
    lab.wire.take()
}

/// To whom a peer's datagram goes.
fn reached(lab: &mut Lab, relay: SocketAddr) -> Option<Client> {
    lab.wire.take();
    let input = Input::Peer { relay, peer: address(PEER), bytes: b"x" };
    lab.server.handle(lab.now, input, &mut lab.wire);
    lab.wire.take().iter().find_map(|event| match event {
        Event::ToClient(to, _) => Some(*to),
        _ => None,
    })
}

fn relays_from(lab: &mut Lab, client: Client) -> bool {
    lab.channel_data(client, 0x4000, b"x").is_some()
}

#[test]
fn an_allocation_moves_with_the_first_data_and_nothing_on_its_way_is_lost() {
    let mut lab = with_mobility();
    let (user, relay, first) = mobile(&mut lab, client(1));
    let mut moved = user.at(client(2));
    let second = ticket(&shift(&mut lab, &mut moved, &first));
    assert_ne!(first, second);
    // Both five-tuples may send; the old one receives, by the route that stands.
    assert_eq!(reached(&mut lab, relay), Some(client(1)));
    assert!(relays_from(&mut lab, client(1)));
    assert_eq!(lab.wire.routes.keys().map(|key| key.0).collect::<Vec<_>>(), [client(1)]);
    // The first data from there: the port, the routes, and the data goes out.
    let events = lab.input(client(2), b"\x40\x00\x00\x01x");
    let [
        Event::Move(port, to),
        Event::Add(a),
        Event::Remove(r),
        Event::Add(b),
        Event::Permit(permit),
        Event::ToPeer { .. },
    ] = events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!((*port, *to), (relay, client(2)));
    assert_eq!((permit.client, permit.relay), (client(2), relay));
    assert_eq!((a.client, r.client, b), (client(2), client(1), a));
    assert_eq!((a.relay, a.peer, a.expires), (r.relay, r.peer, r.expires));
    assert_eq!(reached(&mut lab, relay), Some(client(2)));
    assert!(!relays_from(&mut lab, client(1)), "the old five-tuple is nobody's");
    let mut old = user.clone();
    assert_eq!(old.refresh(&mut lab, 600).code(), 437);
    assert_eq!(moved.refresh(&mut lab, 600).code(), 0);
    assert_eq!((lab.server.stats().moves, lab.server.stats().allocations), (1, 1));
    // And on, and to its end.
    let mut again = user.at(client(3));
    ticket(&shift(&mut lab, &mut again, &second));
    assert_eq!(again.bind(&mut lab, 0x4001, address("9.9.9.8:1")), 0, "a request shows it, too");
    assert!(lab.wire.routes.keys().all(|key| key.0 == client(3)) && lab.wire.routes.len() == 2);
    assert_eq!(again.refresh(&mut lab, 0).code(), 0);
    assert!(lab.server.holds_nothing());
}

#[test]
fn a_send_indication_moves_it_as_channel_data_does() {
    let mut lab = with_mobility();
    let (user, relay, first) = mobile(&mut lab, client(1));
    ticket(&shift(&mut lab, &mut user.at(client(2)), &first));
    assert!(lab.send(client(2), address(PEER), b"x").is_some_and(|(from, _)| from == relay));
    assert_eq!(reached(&mut lab, relay), Some(client(2)));
}

#[test]
fn mobility_is_off_by_default_and_tickets_are_given_to_who_asks() {
    let mut off = Lab::new();
    let mut user = User::new("alice", client(1), Mode::Modern);
    let fill = |b: &mut turn::message::Builder<'_>| _ = b.mobility_ticket(&[]);
    assert_eq!(user.allocate_with(&mut off, fill).code(), 405);
    assert!(off.server.holds_nothing());
    user.allocate(&mut off);
    assert_eq!(shift(&mut off, &mut user.at(client(2)), &[1; 44]).code(), 405);
    assert_eq!(off.refused(Reason::MobilityForbidden), 2);

    let mut lab = with_mobility();
    let mut user = User::new("alice", client(1), Mode::Modern);
    let answer = user.allocate_with(&mut lab, |_| {});
    assert!(answer.message().mobility_ticket().is_none());
    let mut wrong = User::new("alice", client(2), Mode::Modern);
    let answer = wrong.allocate_with(&mut lab, |b| _ = b.mobility_ticket(&[1; 44]));
    assert_eq!(answer.code(), 400, "RFC 8016 section 3.1.2");
}

#[test]
fn each_bad_ticket_has_its_code() {
    let mut lab = with_mobility();
    let (mut user, _, first) = mobile(&mut lab, client(1));
    assert_eq!(shift(&mut lab, &mut user, &first).code(), 400, "from where it is");
    let mut moved = user.at(client(2));
    for bad in [&[][..], &[7; 44], &first[1..], &[&first[..], b"x"].concat()] {
        assert_eq!(shift(&mut lab, &mut moved, bad).code(), 400);
    }
    let mut forged = first.clone();
    forged[20] ^= 1;
    assert_eq!(shift(&mut lab, &mut moved, &forged).code(), 400);
    let mut other = User::new("bob", client(2), Mode::Modern);
    assert_eq!(shift(&mut lab, &mut other, &first).code(), 441, "somebody else's");
    let mut guess = User::with_password("alice", "a guess", client(2), Mode::Modern);
    guess.learn(&mut lab);
    let request = guess.sign(lab.transaction(), Method::REFRESH, |b| _ = b.mobility_ticket(&first));
    assert_eq!(crate::lab::code(&lab.answer(client(2), &request).unwrap()), Some(401));
    // A five-tuple with an allocation of its own.
    let mut taken = User::new("alice", client(3), Mode::Modern);
    taken.allocate(&mut lab);
    assert_eq!(shift(&mut lab, &mut taken, &first).code(), 437);
    assert_eq!(user.refresh(&mut lab, 0).code(), 0);
    assert_eq!(shift(&mut lab, &mut moved, &first).code(), 437, "its allocation is gone");
    // The slot is used again: the ticket stays the old allocation's.
    mobile(&mut lab, client(4));
    assert_eq!(shift(&mut lab, &mut moved, &first).code(), 437);
    assert_eq!(lab.server.stats().moves, 0);
}

#[test]
fn a_lost_answer_is_given_again_for_thirty_seconds_and_a_ticket_is_good_once() {
    let mut lab = with_mobility();
    let (user, relay, first) = mobile(&mut lab, client(1));
    let mut moved = user.at(client(2));
    ticket(&shift(&mut lab, &mut moved, &first));
    // The same request again, and the same ticket in another, before and after the first data.
    let again = ticket(&shift(&mut lab, &mut moved, &first));
    assert!(relays_from(&mut lab, client(2)));
    lab.pass(Duration::from_millis(29_999));
    ticket(&shift(&mut lab, &mut moved, &first));
    assert_eq!(reached(&mut lab, relay), Some(client(2)));
    lab.pass(Duration::from_millis(1));
    assert_eq!(shift(&mut lab, &mut moved, &first).code(), 400);
    // From elsewhere it was never good again; the new one is, once.
    assert_eq!(shift(&mut lab, &mut user.at(client(3)), &first).code(), 400);
    let third = ticket(&shift(&mut lab, &mut user.at(client(3)), &again));
    assert!(relays_from(&mut lab, client(3)));
    assert_eq!(shift(&mut lab, &mut user.at(client(4)), &again).code(), 400);
    ticket(&shift(&mut lab, &mut user.at(client(4)), &third));
}

#[test]
fn a_client_that_moves_on_before_the_answer_finds_it_uses_the_ticket_it_has() {
    let mut lab = with_mobility();
    let (user, relay, first) = mobile(&mut lab, client(1));
    let lost = ticket(&shift(&mut lab, &mut user.at(client(2)), &first));
    let second = ticket(&shift(&mut lab, &mut user.at(client(3)), &first));
    assert_ne!(lost, second);
    assert!(!relays_from(&mut lab, client(2)), "nobody is there any more");
    assert!(relays_from(&mut lab, client(3)));
    assert_eq!(reached(&mut lab, relay), Some(client(3)));
    for used in [&first, &lost] {
        assert_eq!(shift(&mut lab, &mut user.at(client(4)), used).code(), 400);
    }
    ticket(&shift(&mut lab, &mut user.at(client(4)), &second));
}

#[test]
fn an_allocation_with_a_ticket_outlives_its_connection() {
    for transport in [Transport::Tcp, Transport::Tls, Transport::Dtls] {
        let mut lab = with_mobility();
        let (user, relay, first) = mobile(&mut lab, over(transport, client(1)));
        let events = gone(&mut lab, user.client);
        assert!(matches!(events[..], [Event::Remove(_), Event::Forbid(_)]), "its port stays");
        assert_eq!(reached(&mut lab, relay), None);
        assert_eq!(lab.refused(Reason::ClientAbsent), 1);
        assert!(gone(&mut lab, user.client).is_empty());
        // Whoever has the five-tuple next is nobody it knows.
        assert_eq!(user.at(user.client).refresh(&mut lab, 600).code(), 437);
        let mut back = user.at(over(transport, client(2)));
        ticket(&shift(&mut lab, &mut back, &first));
        // The old way is dead: the new one takes over at once.
        assert_eq!(reached(&mut lab, relay), Some(back.client));
        assert!(lab.wire.routes.keys().all(|key| key.0 == back.client));
        assert_eq!(lab.wire.routes.len(), 1);
        // Without a client it ends with its lifetime.
        gone(&mut lab, back.client);
        lab.pass_secs(600);
        assert!(lab.server.holds_nothing(), "{transport:?}");
        assert!(lab.wire.ports.is_empty() && lab.wire.routes.is_empty());
    }
}

#[test]
fn a_client_may_come_back_by_the_five_tuple_that_it_left() {
    let mut lab = with_mobility();
    let (mut user, relay, first) = mobile(&mut lab, over(Transport::Tls, client(1)));
    gone(&mut lab, user.client);
    ticket(&shift(&mut lab, &mut user, &first));
    assert_eq!(reached(&mut lab, relay), Some(user.client));
    assert!(relays_from(&mut lab, user.client));
    assert_eq!(user.refresh(&mut lab, 0).code(), 0);
    assert!(lab.server.holds_nothing());
}

#[test]
fn the_end_of_the_old_connection_is_the_beginning_of_the_new() {
    let mut lab = with_mobility();
    let (user, relay, first) = mobile(&mut lab, over(Transport::Tls, client(1)));
    let mut moved = user.at(over(Transport::Tls, client(2)));
    ticket(&shift(&mut lab, &mut moved, &first));
    let events = gone(&mut lab, user.client);
    let [Event::Remove(_), Event::Forbid(_), Event::Move(..), Event::Add(_), Event::Permit(permit)] =
        events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!(permit.client, moved.client);
    assert_eq!(reached(&mut lab, relay), Some(moved.client));

    // The other way round: the new one ends before it was used, and the old one goes on.
    let mut lab = with_mobility();
    let (user, relay, first) = mobile(&mut lab, over(Transport::Tls, client(1)));
    ticket(&shift(&mut lab, &mut user.at(over(Transport::Tls, client(2))), &first));
    assert!(gone(&mut lab, over(Transport::Tls, client(2))).is_empty());
    assert_eq!(reached(&mut lab, relay), Some(user.client));
    ticket(&shift(&mut lab, &mut user.at(over(Transport::Tls, client(3))), &first));
}

#[test]
fn the_old_connection_is_ended_when_the_new_five_tuple_takes_over() {
    let mut lab = with_mobility();
    let (user, _, first) = mobile(&mut lab, over(Transport::Tcp, client(1)));
    // To another transport, too: the data plane moves the port.
    ticket(&shift(&mut lab, &mut user.at(client(2)), &first));
    let events = lab.input(client(2), b"\x40\x00\x00\x01x");
    assert!(events.contains(&Event::CloseClient(user.client)), "{events:?}");
    assert!(gone(&mut lab, user.client).is_empty());
    assert!(relays_from(&mut lab, client(2)));
}

#[test]
fn a_move_that_the_data_plane_refuses_leaves_everything_where_it_was() {
    let mut lab = with_mobility();
    let (user, relay, first) = mobile(&mut lab, client(1));
    ticket(&shift(&mut lab, &mut user.at(client(2)), &first));
    lab.wire.exhausted = true;
    assert!(!relays_from(&mut lab, client(2)));
    assert_eq!(lab.refused(Reason::PortRefused), 1);
    assert_eq!(reached(&mut lab, relay), Some(client(1)));
    assert!(relays_from(&mut lab, client(1)));
    lab.wire.exhausted = false;
    assert!(relays_from(&mut lab, client(2)));
    assert_eq!(reached(&mut lab, relay), Some(client(2)));
    // Without room for the routes the control plane relays.
    let (user, relay, first) = mobile(&mut lab, client(3));
    ticket(&shift(&mut lab, &mut user.at(client(4)), &first));
    lab.wire.routes_max = Some(0);
    assert!(relays_from(&mut lab, client(4)));
    assert_eq!(reached(&mut lab, relay), Some(client(4)));
    assert!(lab.wire.routes.keys().all(|key| key.0 == client(2)));
}

#[test]
fn quotas_follow_the_client() {
    let mut config = Config { mobility: true, ..config() };
    config.limits.allocations_per_prefix = Some(1);
    config.limits.allocations_per_user = Some(2);
    let mut lab = Lab::with(config);
    let (user, _, first) = mobile(&mut lab, client(1));
    let (_, _, _) = mobile(&mut lab, client(2));
    assert_eq!(shift(&mut lab, &mut user.at(at(2, 6)), &first).code(), 486, "a full network");
    let second = ticket(&shift(&mut lab, &mut user.at(at(1, 6)), &first));
    assert!(relays_from(&mut lab, at(1, 6)), "within its own it may");
    ticket(&shift(&mut lab, &mut user.at(client(3)), &second));
    assert!(relays_from(&mut lab, client(3)));
    let mut other = User::new("bob", client(1), Mode::Legacy);
    other.allocate(&mut lab);
    let mut third = User::new("alice", client(5), Mode::Legacy);
    assert_eq!(third.allocate_with(&mut lab, |_| {}).code(), 486, "still two of alice's");
}

/// Another host of the n-th client's network.
fn at(n: u16, host: u8) -> Client {
    let [high, low] = n.to_be_bytes();
    Client { remote: SocketAddr::from(([81, high, low, host], 5000)), ..client(n) }
}

#[test]
fn a_ticket_deletes_an_allocation_from_afar_and_moves_both_families() {
    let mut lab = with_mobility();
    let mut user = User::new("alice", client(1), Mode::Modern);
    let answer = user.allocate_with(&mut lab, |b| {
        b.additional_address_family(turn::attribute::Family::V6).mobility_ticket(&[]);
    });
    let first = ticket(&answer);
    let peers = [address(PEER), address("[2620:fe::fe]:53")];
    assert_eq!(user.bind(&mut lab, 0x4000, peers[0]), 0);
    assert_eq!(user.bind(&mut lab, 0x4001, peers[1]), 0);
    let mut moved = user.at(client(2));
    let second = ticket(&shift(&mut lab, &mut moved, &first));
    assert!(relays_from(&mut lab, client(2)));
    assert!(lab.wire.routes.keys().all(|key| key.0 == client(2)) && lab.wire.routes.len() == 2);
    assert!(lab.wire.ports.values().all(|owner| *owner == client(2)));
    let mut last = user.at(client(3));
    let answer = last.ask(&mut lab, Method::REFRESH, |b| {
        b.lifetime_secs(0).mobility_ticket(&second);
    });
    assert_eq!((answer.code(), answer.lifetime()), (0, 0));
    assert!(answer.message().mobility_ticket().is_none());
    assert!(lab.server.holds_nothing());
}

#[test]
fn a_tcp_allocation_moves_and_keeps_its_connections() {
    let mut lab = Lab::with(Config { mobility: true, tcp_relay: true, ..config() });
    let mut user = User::new("alice", over(Transport::Tcp, client(1)), Mode::Modern);
    let answer = user.ask(&mut lab, Method::ALLOCATE, |b| {
        b.requested_transport(6).mobility_ticket(&[]);
    });
    let first = ticket(&answer);
    let request = user.sign(lab.transaction(), Method::CONNECT, |b| {
        b.xor_peer_address(address(PEER));
    });
    lab.input(user.client, &request);
    let id = *lab.wire.connections.keys().next().unwrap();
    lab.server.handle(lab.now, Input::Connected { id, result: Ok(()) }, &mut lab.wire);
    gone(&mut lab, user.client);
    let mut back = user.at(over(Transport::Tcp, client(2)));
    ticket(&shift(&mut lab, &mut back, &first));
    assert_eq!((lab.wire.listeners.len(), lab.wire.connections.len()), (1, 1));
    assert_eq!(back.refresh(&mut lab, 0).code(), 0);
    assert!(lab.server.holds_nothing() && lab.wire.connections.is_empty());
}
