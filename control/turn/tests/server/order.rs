//! The order of effects: a driver may act on each as it comes.

use turn::message::Method;
use turn::{ChannelNumber, Input, Origin};

use crate::lab::{Lab, address, client};
use crate::user::{Mode, User, alice};
use crate::wire::Event;

fn names(events: &[Event]) -> Vec<&'static str> {
    events
        .iter()
        .map(|event| match event {
            Event::Open(_) => "open",
            Event::Close(_) => "close",
            Event::Add(_) => "add",
            Event::Remove(_) => "remove",
            Event::Permit(_) => "permit",
            Event::Forbid(_) => "forbid",
            Event::ToClient(..) => "answer",
            Event::ToPeer { .. } => "data",
            Event::Move(..) => "move",
            Event::CloseClient(_) => "hang up",
            Event::Listen(_) => "listen",
            Event::Unlisten(_) => "unlisten",
            Event::Connect { .. } => "connect",
            Event::Splice(..) => "splice",
            Event::ClosePeer(_) => "close peer",
        })
        .collect()
}

#[test]
fn what_is_added_stands_before_the_success_and_routes_go_before_their_port() {
    let mut lab = Lab::new();
    let mut user = User::new("alice", client(1), Mode::Legacy);
    user.learn(&mut lab);
    let request = user.sign(lab.transaction(), Method::ALLOCATE, |b| _ = b.requested_transport(17));
    assert_eq!(names(&lab.input(client(1), &request)), ["open", "answer"]);
    for number in [0x4000, 0x4001] {
        let request = user.sign(lab.transaction(), Method::CHANNEL_BIND, |b| {
            b.channel_number(ChannelNumber::new(number).unwrap());
            b.xor_peer_address(std::net::SocketAddr::from(([9, 9, 9, 9], number)));
        });
        assert_eq!(names(&lab.input(client(1), &request)), ["add", "permit", "answer"]);
        assert_eq!(
            names(&lab.input(client(1), &request)),
            ["add", "permit", "answer"],
            "a retransmission"
        );
    }
    // Another client has a route to this one's port: it goes before the port, too.
    let relay = *lab.wire.ports.keys().next().unwrap();
    let (mut other, _) = alice(&mut lab, 2);
    assert_eq!(other.bind(&mut lab, 0x4000, relay), 0);
    let request = user.sign(lab.transaction(), Method::REFRESH, |b| _ = b.lifetime_secs(0));
    let events = lab.input(client(1), &request);
    assert_eq!(names(&events), ["remove", "remove", "forbid", "remove", "close", "answer"]);
}

#[test]
fn expiry_removes_routes_before_their_port() {
    let mut lab = Lab::new();
    let (mut user, _) = alice(&mut lab, 1);
    assert_eq!(user.bind(&mut lab, 0x4000, address("9.9.9.9:1")), 0);
    lab.wire.take();
    lab.pass_secs(600);
    assert_eq!(names(&lab.wire.take()), ["forbid", "remove", "close"]);
}

#[test]
fn a_client_stays_with_the_worker_that_its_allocate_came_by() {
    let mut lab = Lab::new();
    let (mut user, relay) = alice(&mut lab, 1);
    let bind = |lab: &mut Lab, user: &User, number: u16| {
        let bytes = user.sign(lab.transaction(), Method::CHANNEL_BIND, |b| {
            b.channel_number(ChannelNumber::new(number).unwrap());
            b.xor_peer_address(std::net::SocketAddr::from(([9, 9, 9, 9], number)));
        });
        let origin = Origin(number);
        let input = Input::Client { client: user.client, origin, bytes: &bytes };
        lab.server.handle(lab.now, input, &mut lab.wire);
    };
    bind(&mut lab, &user, 0x4000);
    bind(&mut lab, &user, 0x4001);
    assert!(lab.wire.routes.values().all(|route| route.origin == Origin(5000)));
    assert!(lab.by_peer(relay, address("9.9.9.9:16384"), b"x").is_some());
    // The outbox checks that what is withdrawn is what was published.
    assert_eq!(user.refresh(&mut lab, 0).code(), 0);
}

#[test]
fn a_server_may_be_moved_to_its_thread() {
    fn is_send<T: Send>() {}
    is_send::<turn::Server>();
}
