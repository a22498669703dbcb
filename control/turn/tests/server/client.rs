//! `turn::client` against `turn::Server`: the methods that its test server does not know.

use turn::attribute::{ChangeRequest, Code};
use turn::client::{Allocate, Discover, Event, Failure, Received, Request, Settings, TurnClient};
use turn::{Client, Config, Input, NatDiscovery, Origin, RelayAddress, Seeded, Transport};

use crate::lab::{Lab, address, client, config, over};
use crate::wire;

const PEER: &str = "9.9.9.9:53";

fn lab() -> Lab {
    let nat = NatDiscovery {
        addresses: ["93.184.216.10", "93.184.216.11"]
            .map(|ip| RelayAddress::plain(ip.parse().unwrap())),
        ports: [3478, 3479],
    };
    Lab::with(Config { mobility: true, tcp_relay: true, nat_discovery: vec![nat], ..config() })
}

fn turn_client(seed: u64) -> TurnClient {
    TurnClient::new(Settings::new("alice", "alice's password"), Box::new(Seeded::new(seed)))
}

/// Carries a request there and what comes of it back, until the client has something to tell.
fn ask(lab: &mut Lab, turn: &mut TurnClient, from: Client, request: Request) -> Option<Event> {
    turn.request(lab.now.monotonic, request).unwrap();
    while let Some(bytes) = turn.poll_transmit(lab.now.monotonic).map(<[u8]>::to_vec) {
        for event in lab.input(from, &bytes) {
            if let wire::Event::ToClient(_, answer) = event {
                turn.receive(lab.now.monotonic, &answer);
            }
        }
    }
    turn.poll_event()
}

#[test]
fn it_takes_its_allocation_along_and_keeps_its_channels() {
    let (mut lab, mut turn) = (lab(), turn_client(1));
    let allocate = Request::Allocate(Allocate { mobile: true, ..Allocate::default() });
    let Some(Event::Allocated(allocated)) = ask(&mut lab, &mut turn, client(1), allocate) else {
        panic!("no allocation")
    };
    let (channel, peer) = (turn::ChannelNumber::MIN, address(PEER));
    let bind = Request::ChannelBind { channel, peer };
    assert!(matches!(ask(&mut lab, &mut turn, client(1), bind), Some(Event::Bound { .. })));
    let mut ticket = allocated.ticket.expect("a ticket");
    for n in 2..5 {
        let go = Request::Move { ticket: ticket.clone(), lifetime_secs: None };
        let moved = ask(&mut lab, &mut turn, client(n), go);
        let Some(Event::Moved { ticket: newer, lifetime_secs: 600 }) = moved else {
            panic!("{moved:?}")
        };
        ticket = newer;
        let mut out = Vec::new();
        let data = turn.channel_data(&mut out, channel, b"x").unwrap();
        assert!(lab.input(client(n), data).iter().any(|e| matches!(e, wire::Event::ToPeer { .. })));
        let came = lab.by_peer(allocated.relayed[0], peer, b"y").unwrap();
        let now = lab.now.monotonic;
        assert_eq!(turn.receive(now, &came), Received::ChannelData { channel, peer, data: b"y" });
    }
    let end = Request::Move { ticket, lifetime_secs: Some(0) };
    assert_eq!(ask(&mut lab, &mut turn, client(9), end), Some(Event::Deleted));
    assert!(lab.server.holds_nothing());
}

#[test]
fn it_connects_and_is_connected_to_by_tcp() {
    let (mut lab, mut turn) = (lab(), turn_client(2));
    let control = over(Transport::Tcp, client(1));
    let allocate = Request::Allocate(Allocate::tcp());
    let Some(Event::Allocated(allocated)) = ask(&mut lab, &mut turn, control, allocate) else {
        panic!("no allocation")
    };
    let peer = address(PEER);
    assert_eq!(ask(&mut lab, &mut turn, control, Request::Connect { peer }), None, "under way");
    let id = *lab.wire.connections.keys().next().unwrap();
    lab.wire.take();
    lab.server.handle(lab.now, Input::Connected { id, result: Ok(()) }, &mut lab.wire);
    let [wire::Event::ToClient(_, answer)] = &lab.wire.take()[..] else { panic!("no answer") };
    turn.receive(lab.now.monotonic, answer);
    let Some(Event::Connected { connection, peer: to }) = turn.poll_event() else {
        panic!("not connected")
    };
    assert_eq!(to, peer);
    let join = |connection| Request::ConnectionBind { connection };
    let data = over(Transport::Tcp, client(2));
    let joined = ask(&mut lab, &mut turn_client(3), data, join(connection));
    assert_eq!(joined, Some(Event::Joined { connection }));
    let again =
        ask(&mut lab, &mut turn_client(4), over(Transport::Tcp, client(3)), join(connection));
    let Some(Event::Failed { why: Failure::Error { code, .. }, .. }) = again else { panic!() };
    assert_eq!(code, Code::BAD_REQUEST);

    let permit = Request::CreatePermission { peers: vec![peer] };
    assert!(matches!(ask(&mut lab, &mut turn, control, permit), Some(Event::Permitted { .. })));
    let (relay, id) = (allocated.relayed[0], turn::PeerConnection(turn::PeerConnection::ACCEPTED));
    lab.wire.connections.insert(id, relay);
    lab.wire.take();
    lab.server.handle(lab.now, Input::Accepted { relay, peer, id }, &mut lab.wire);
    let [wire::Event::ToClient(_, told)] = &lab.wire.take()[..] else { panic!("not told") };
    let Received::ConnectionAttempt { peer: from, connection } =
        turn.receive(lab.now.monotonic, told)
    else {
        panic!("no attempt")
    };
    assert_eq!(from, peer);
    let joined =
        ask(&mut lab, &mut turn_client(5), over(Transport::Tcp, client(4)), join(connection));
    assert_eq!(joined, Some(Event::Joined { connection }));
    lab.server.handle(lab.now, Input::Gone { client: control, origin: Origin(0) }, &mut lab.wire);
    assert!(lab.server.holds_nothing());
}

#[test]
fn it_asks_how_its_nat_behaves() {
    let (mut lab, mut turn) = (lab(), turn_client(6));
    let discover = |change| Request::Discover(Discover { change, ..Discover::default() });
    for (change, origin) in [
        (ChangeRequest::default(), "93.184.216.10:3478"),
        (ChangeRequest { ip: true, port: true }, "93.184.216.11:3479"),
    ] {
        let answer = ask(&mut lab, &mut turn, client(1), discover(change));
        let (mapped, other) = (client(1).remote, Some(address("93.184.216.11:3479")));
        let origin = Some(address(origin));
        assert_eq!(answer, Some(Event::Discovered { mapped, origin, other }));
    }
}
