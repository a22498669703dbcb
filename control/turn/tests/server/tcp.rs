//! TCP allocations (RFC 6062): connections to peers, and the data connections that they are spliced
//! with.

use std::net::SocketAddr;
use std::time::Duration;

use turn::message::{Builder, Class, Message, Method};
use turn::{
    Client, Config, ConnectRefusal, Input, Origin, PeerConnection, Reason, Transport, policy,
};

use crate::lab::{Lab, address, client, code, config, over};
use crate::user::{Mode, User};
use crate::wire::Event;

const PEER: &str = "9.9.9.9:80";

fn lab() -> Lab {
    Lab::with(Config { tcp_relay: true, ..config() })
}

/// The n-th connection of the same client host.
fn connection(n: u16) -> Client {
    let mut client = over(Transport::Tcp, client(1));
    client.remote.set_port(6000 + n);
    client
}

fn allocate(lab: &mut Lab, user: &mut User) -> SocketAddr {
    let answer = user.ask(lab, Method::ALLOCATE, |b| _ = b.requested_transport(6));
    answer.relayed()[0]
}

fn control(lab: &mut Lab) -> (User, SocketAddr) {
    let mut user = User::new("alice", connection(0), Mode::Modern);
    let relay = allocate(lab, &mut user);
    (user, relay)
}

fn give(lab: &mut Lab, input: Input<'_>) -> Vec<Event> {
    lab.wire.take();
    lab.server.handle(lab.now, input, &mut lab.wire);
    lab.wire.take()
}

/// Asks to connect: the effects, one of which may be an answer.
fn ask_connect(lab: &mut Lab, user: &User, peer: SocketAddr) -> Vec<Event> {
    let request = user.sign(lab.transaction(), Method::CONNECT, |b| _ = b.xor_peer_address(peer));
    lab.input(user.client, &request)
}

/// A Connect that is under way.
fn connecting(lab: &mut Lab, user: &User, peer: SocketAddr) -> PeerConnection {
    match ask_connect(lab, user, peer).as_slice() {
        [Event::Connect { id, peer: to, .. }] if *to == peer => *id,
        other => panic!("{other:?}"),
    }
}

fn refusal(lab: &mut Lab, user: &User, peer: &str) -> u16 {
    match ask_connect(lab, user, address(peer)).as_slice() {
        [Event::ToClient(_, bytes)] => code(bytes).expect("an error"),
        other => panic!("{other:?}"),
    }
}

fn answer_of(events: &[Event], user: &User) -> (u16, Option<u32>) {
    let [Event::ToClient(to, bytes)] = events else { panic!("{events:?}") };
    assert_eq!(*to, user.client);
    let message = Message::parse(bytes).unwrap();
    user.key.verify(&message).expect("signed with our key");
    (code(bytes).unwrap_or(0), message.connection_id().unwrap())
}

/// An established connection: its CONNECTION-ID.
fn connected(lab: &mut Lab, user: &User, peer: SocketAddr) -> (PeerConnection, u32) {
    let id = connecting(lab, user, peer);
    let events = give(lab, Input::Connected { id, result: Ok(()) });
    let (code, public) = answer_of(&events, user);
    assert_eq!(code, 0);
    (id, public.expect("CONNECTION-ID"))
}

/// A peer's connection, taken: its CONNECTION-ID.
fn accepted(lab: &mut Lab, user: &User, relay: SocketAddr, peer: SocketAddr, n: u32) -> u32 {
    let events = accept(lab, relay, peer, n);
    let [Event::ToClient(to, bytes)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(*to, user.client);
    let message = Message::parse(bytes).unwrap();
    assert_eq!(
        (message.class(), message.method()),
        (Class::Indication, Method::CONNECTION_ATTEMPT)
    );
    assert_eq!(message.xor_peer_address().unwrap(), Some(peer));
    message.connection_id().unwrap().expect("CONNECTION-ID")
}

fn accept(lab: &mut Lab, relay: SocketAddr, peer: SocketAddr, n: u32) -> Vec<Event> {
    let id = PeerConnection(PeerConnection::ACCEPTED | n);
    lab.wire.connections.insert(id, relay);
    give(lab, Input::Accepted { relay, peer, id })
}

fn bind(lab: &mut Lab, data: &mut User, public: u32) -> u16 {
    data.ask(lab, Method::CONNECTION_BIND, |b| _ = b.connection_id(public)).code()
}

#[test]
fn a_connection_is_made_bound_and_spliced_behind_its_success() {
    let mut lab = lab();
    let (user, relay) = control(&mut lab);
    assert!(lab.wire.listeners.contains_key(&relay) && lab.wire.ports.is_empty());
    let (id, public) = connected(&mut lab, &user, address(PEER));
    let mut data = user.at(connection(1));
    data.learn(&mut lab);
    let request = data.sign(lab.transaction(), Method::CONNECTION_BIND, |b| {
        b.connection_id(public);
    });
    let events = lab.input(data.client, &request);
    let [Event::ToClient(to, bytes), Event::Splice(spliced, with)] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!((*to, code(bytes)), (data.client, None));
    assert_eq!((*spliced, *with), (id, data.client));
    // From here on there is no STUN on it, whatever comes.
    assert!(lab.input(data.client, &request).is_empty());
    assert_eq!(lab.refused(Reason::DataConnection), 1);
    let view = lab.server.allocation(&user.client).unwrap();
    assert!(view.is_tcp());
    let seen: Vec<_> = view.connections().map(|c| (c.peer, c.data_client)).collect();
    assert_eq!(seen, [(address(PEER), Some(data.client))]);
    // It ends with its client's connection.
    assert!(give(&mut lab, Input::Gone { client: data.client, origin: Origin(0) }).is_empty());
    assert_eq!(lab.server.stats().connections, 0);
}

#[test]
fn a_peer_with_a_permission_is_announced_and_others_are_hung_up_on() {
    let mut lab = lab();
    let (mut user, relay) = control(&mut lab);
    let peer = address("9.9.9.9:40000");
    let hung_up = |n| [Event::ClosePeer(PeerConnection(PeerConnection::ACCEPTED | n))];
    assert_eq!(accept(&mut lab, relay, peer, 1), hung_up(1));
    assert_eq!(lab.refused(Reason::AcceptedNoPermission), 1);
    assert_eq!(user.permit(&mut lab, &[peer]), 0);
    let public = accepted(&mut lab, &user, relay, peer, 2);
    let mut data = user.at(connection(1));
    assert_eq!(bind(&mut lab, &mut data, public), 0);
    assert_eq!(bind(&mut lab, &mut user.at(connection(2)), public), 400, "bound once");
    // A relayed address that nobody has.
    let nobody = SocketAddr::new(relay.ip(), 1);
    assert_eq!(accept(&mut lab, nobody, peer, 3), hung_up(3));
    assert_eq!(lab.refused(Reason::AcceptedNoAllocation), 1);
    lab.pass_secs(300);
    assert_eq!(accept(&mut lab, relay, peer, 4), hung_up(4));
}

#[test]
fn each_refusal_of_a_connect_has_its_code() {
    let mut lab = lab();
    let (mut user, _) = control(&mut lab);
    let none = User { nonce: Vec::new(), ..user.at(connection(1)) };
    let mut stranger = none.clone();
    stranger.learn(&mut lab);
    assert_eq!(refusal(&mut lab, &stranger, PEER), 437);
    let mut udp = User::new("alice", client(2), Mode::Legacy);
    udp.allocate(&mut lab);
    assert_eq!(refusal(&mut lab, &udp, PEER), 403, "a UDP allocation");
    let mut other = User::new("bob", user.client, Mode::Legacy);
    other.learn(&mut lab);
    assert_eq!(refusal(&mut lab, &other, PEER), 441);
    assert_eq!(user.ask(&mut lab, Method::CONNECT, |_| {}).code(), 400, "no XOR-PEER-ADDRESS");
    assert_eq!(refusal(&mut lab, &user, "[2620:fe::fe]:80"), 443);
    for forbidden in ["127.0.0.1:80", "10.0.0.1:80", "9.9.9.9:0", "93.184.216.10:22"] {
        assert_eq!(refusal(&mut lab, &user, forbidden), 403, "{forbidden}");
    }
    let id = connecting(&mut lab, &user, address(PEER));
    assert_eq!(refusal(&mut lab, &user, PEER), 446, "under way");
    give(&mut lab, Input::Connected { id, result: Ok(()) });
    assert_eq!(refusal(&mut lab, &user, PEER), 446, "waiting");
    assert_eq!(lab.refused(Reason::ConnectionExists), 2);
    // ChannelBind and Send have no place here.
    assert_eq!(user.bind(&mut lab, 0x4000, address(PEER)), 403);
    assert_eq!(user.permit(&mut lab, &[address(PEER)]), 0);
    assert!(lab.send(user.client, address(PEER), b"x").is_none());
    assert_eq!(lab.refused(Reason::DataTcpAllocation), 1);
}

#[test]
fn a_connection_that_fails_or_takes_too_long_is_a_447() {
    let mut lab = lab();
    let (user, _) = control(&mut lab);
    for result in [Err(ConnectRefusal::Failed), Err(ConnectRefusal::Exhausted)] {
        let id = connecting(&mut lab, &user, address(PEER));
        // What a driver says is over, it has forgotten.
        lab.wire.connections.remove(&id);
        let events = give(&mut lab, Input::Connected { id, result });
        assert_eq!(answer_of(&events, &user), (447, None));
        assert!(give(&mut lab, Input::Connected { id, result }).is_empty());
    }
    let id = connecting(&mut lab, &user, address(PEER));
    lab.wire.take();
    lab.pass(Duration::from_millis(29_999));
    assert!(lab.wire.take().is_empty());
    lab.pass(Duration::from_millis(1));
    let events = lab.wire.take();
    assert_eq!(events[0], Event::ClosePeer(id));
    assert_eq!(answer_of(&events[1..], &user), (447, None));
    assert_eq!(lab.refused(Reason::ConnectionFailed), 3);
    connecting(&mut lab, &user, address(PEER));
}

#[test]
fn what_is_not_bound_within_thirty_seconds_is_closed() {
    let mut lab = lab();
    let (mut user, relay) = control(&mut lab);
    let from = address("9.9.9.8:40000");
    assert_eq!(user.permit(&mut lab, &[from]), 0);
    let (id, first) = connected(&mut lab, &user, address(PEER));
    let second = accepted(&mut lab, &user, relay, from, 1);
    assert_ne!(first, second);
    lab.wire.take();
    lab.pass(Duration::from_millis(29_999));
    assert!(lab.wire.take().is_empty());
    lab.pass(Duration::from_millis(1));
    let closed = [id, PeerConnection(PeerConnection::ACCEPTED | 1)].map(Event::ClosePeer);
    assert_eq!(lab.wire.take(), closed);
    for public in [first, second] {
        assert_eq!(bind(&mut lab, &mut user.at(connection(1)), public), 400);
    }
    // And what its peer closed before.
    let (id, public) = connected(&mut lab, &user, address(PEER));
    lab.wire.connections.remove(&id);
    assert!(give(&mut lab, Input::PeerClosed { id }).is_empty());
    assert_eq!(bind(&mut lab, &mut user.at(connection(1)), public), 400);
    assert_eq!(lab.refused(Reason::NoConnection), 3);
}

#[test]
fn a_connection_bind_is_its_users_on_a_stream_of_its_own() {
    let mut lab = lab();
    let (mut user, _) = control(&mut lab);
    let (_, public) = connected(&mut lab, &user, address(PEER));
    let mut other = User::new("bob", connection(1), Mode::Modern);
    assert_eq!(bind(&mut lab, &mut other, public), 441);
    assert_eq!(bind(&mut lab, &mut user, public), 400, "on the control connection");
    for transport in [Transport::Udp, Transport::Dtls] {
        let mut datagrams = User::new("alice", over(transport, client(1)), Mode::Modern);
        assert_eq!(bind(&mut lab, &mut datagrams, public), 400, "{transport:?}");
    }
    let mut data = user.at(connection(1));
    assert_eq!(data.ask(&mut lab, Method::CONNECTION_BIND, |_| {}).code(), 400);
    assert_eq!(bind(&mut lab, &mut data, public ^ 1), 400);
    assert_eq!(bind(&mut lab, &mut data, public), 0, "none of them has used it up");
}

#[test]
fn a_connection_is_bound_with_the_credentials_that_made_the_allocation() {
    let mut lab = lab();
    let name = format!("{}:carol", lab.now.unix.as_secs() + 60);
    let mut user = User::rest(&name, connection(0));
    allocate(&mut lab, &mut user);
    lab.pass_secs(100);
    let (_, public) = connected(&mut lab, &user, address(PEER));
    let mut data = user.at(connection(1));
    assert_eq!(bind(&mut lab, &mut data, public), 0, "its REST name has expired meanwhile");
    let mut late = user.at(connection(2));
    assert_eq!(late.ask(&mut lab, Method::ALLOCATE, |b| _ = b.requested_transport(6)).code(), 401);
}

#[test]
fn the_end_of_an_allocation_ends_all_its_connections() {
    for end in 0..3 {
        let mut lab = lab();
        let (mut user, relay) = control(&mut lab);
        let (_, public) = connected(&mut lab, &user, address("9.9.9.1:80"));
        let mut data = user.at(connection(1));
        assert_eq!(bind(&mut lab, &mut data, public), 0);
        // With time passing by, only what is bound would be left.
        let (waiting, _) = connected(&mut lab, &user, address("9.9.9.2:80"));
        let under_way = connecting(&mut lab, &user, address("9.9.9.3:80"));
        let events = match end {
            0 => {
                let bytes =
                    user.sign(lab.transaction(), Method::REFRESH, |b| _ = b.lifetime_secs(0));
                lab.input(user.client, &bytes)
            }
            1 => give(&mut lab, Input::Gone { client: user.client, origin: Origin(0) }),
            _ => {
                lab.step(Duration::from_secs(600));
                give(&mut lab, Input::Timer)
            }
        };
        for want in [
            Event::CloseClient(data.client),
            Event::ClosePeer(waiting),
            Event::ClosePeer(under_way),
            Event::Unlisten(relay),
        ] {
            assert_eq!(events.iter().filter(|event| **event == want).count(), 1, "{want:?} {end}");
        }
        let unlisten = events.iter().position(|e| matches!(e, Event::Unlisten(_))).unwrap();
        assert!(events[unlisten + 1..].iter().all(|e| matches!(e, Event::ToClient(..))));
        assert!(lab.server.holds_nothing(), "{end}");
        assert_eq!((lab.server.stats().connections, lab.server.deadline()), (0, None));
        assert_eq!(user.refresh(&mut lab, 600).code(), 437);
    }
}

#[test]
fn connections_are_limited_for_each_allocation_and_in_all() {
    let mut config = Config { tcp_relay: true, ..config() };
    (config.limits.connections_per_allocation, config.limits.connections) = (3, 5);
    let mut lab = Lab::with(config);
    let peer = |n: u16| SocketAddr::from(([9, 9, 9, 9], n));
    let (mut user, relay) = control(&mut lab);
    assert_eq!(user.permit(&mut lab, &[peer(1)]), 0);
    for n in 1..=3 {
        connected(&mut lab, &user, peer(n));
    }
    assert_eq!(refusal(&mut lab, &user, "9.9.9.9:4"), 486);
    assert!(matches!(accept(&mut lab, relay, peer(4), 1)[..], [Event::ClosePeer(_)]));
    assert_eq!(lab.refused(Reason::AcceptedFull), 1);
    let mut other = User::new("bob", over(Transport::Tls, client(2)), Mode::Modern);
    allocate(&mut lab, &mut other);
    connected(&mut lab, &other, peer(1));
    connected(&mut lab, &other, peer(2));
    assert_eq!(refusal(&mut lab, &other, "9.9.9.9:3"), 508);
    // What ends makes room.
    user.refresh(&mut lab, 0);
    connected(&mut lab, &other, peer(3));
}

#[test]
fn an_allocate_for_tcp_follows_its_own_rules() {
    let refuse = |lab: &mut Lab, transport, fill: fn(&mut Builder<'_>)| {
        let mut user = User::new("alice", over(transport, client(1)), Mode::Legacy);
        let fill = |b: &mut Builder<'_>| fill(b.requested_transport(6));
        user.ask(lab, Method::ALLOCATE, fill).code()
    };
    let mut off = Lab::new();
    for transport in [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Dtls] {
        assert_eq!(refuse(&mut off, transport, |_| {}), 442, "off by default");
    }
    let mut lab = lab();
    assert_eq!(refuse(&mut lab, Transport::Udp, |_| {}), 400);
    assert_eq!(refuse(&mut lab, Transport::Dtls, |_| {}), 400);
    assert_eq!(refuse(&mut lab, Transport::Tcp, |b| _ = b.dont_fragment()), 400);
    assert_eq!(refuse(&mut lab, Transport::Tcp, |b| _ = b.even_port(false)), 400);
    assert_eq!(refuse(&mut lab, Transport::Tcp, |b| _ = b.even_port(true)), 400);
    assert_eq!(refuse(&mut lab, Transport::Tcp, |b| _ = b.reservation_token(&[1; 8])), 400);
    assert!(lab.wire.listeners.is_empty());
    lab.wire.exhausted = true;
    assert_eq!(refuse(&mut lab, Transport::Tcp, |_| {}), 508);
    lab.wire.exhausted = false;
    // A stream may as well have a UDP allocation, and both families.
    let mut user = User::new("alice", over(Transport::Tcp, client(1)), Mode::Legacy);
    user.allocate(&mut lab);
    let mut both = User::new("alice", over(Transport::Tls, client(1)), Mode::Legacy);
    let answer = both.ask(&mut lab, Method::ALLOCATE, |b| {
        b.requested_transport(6).additional_address_family(turn::attribute::Family::V6);
    });
    assert_eq!(answer.relayed().len(), 2);
    assert_eq!((lab.wire.listeners.len(), lab.wire.ports.len()), (2, 1));
    connected(&mut lab, &both, address("[2620:fe::fe]:80"));
}

#[test]
fn of_our_own_addresses_only_one_that_listens_for_tcp_is_a_peer() {
    let mut lab = lab();
    let (user, relay) = control(&mut lab);
    let mut udp = User::new("alice", client(2), Mode::Legacy);
    let datagrams = udp.allocate(&mut lab);
    let mut other = User::new("bob", over(Transport::Tls, client(3)), Mode::Modern);
    let listening = allocate(&mut lab, &mut other);
    // Somebody else on this host may listen at the same port by TCP, or receive at it by UDP.
    assert_eq!(refusal(&mut lab, &user, &datagrams.to_string()), 403);
    assert_eq!(udp.bind(&mut lab, 0x4000, listening), 403);
    assert_eq!(udp.permit(&mut lab, &[listening]), 0);
    assert!(lab.send(udp.client, listening, b"x").is_none());
    // Two clients of this server meet.
    connected(&mut lab, &user, listening);
    assert_eq!(other.permit(&mut lab, &[relay]), 0);
    accepted(&mut lab, &other, listening, relay, 1);
}

#[test]
fn a_policy_that_denies_a_peer_ends_its_connections_at_once() {
    let mut lab = lab();
    let (user, _) = control(&mut lab);
    let (kept, _) = connected(&mut lab, &user, address("8.8.8.8:80"));
    let (waiting, public) = connected(&mut lab, &user, address("9.9.9.1:80"));
    let (_, bound) = connected(&mut lab, &user, address("9.9.9.2:80"));
    let mut data = user.at(connection(1));
    assert_eq!(bind(&mut lab, &mut data, bound), 0);
    let deny = vec![policy::parse_rule("9.9.9.0/24").unwrap()];
    let denied = policy::Policy::new(policy::Profile::Public, Vec::new(), deny);
    lab.wire.take();
    lab.server.replace_policy(denied, lab.now, &mut lab.wire);
    assert_eq!(lab.wire.take(), [Event::ClosePeer(waiting), Event::CloseClient(data.client)]);
    assert_eq!(lab.wire.connections.keys().copied().collect::<Vec<_>>(), [kept]);
    assert_eq!(bind(&mut lab, &mut user.at(connection(2)), public), 400);
    assert_eq!(refusal(&mut lab, &user, PEER), 403);
}
