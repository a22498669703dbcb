//! Clients that are sent to another server: by one that drains, and by one that only distributes
//! them.

use std::net::SocketAddr;

use turn::attribute::AttributeType;
use turn::client::{Allocate, Event, Failure, Request};
use turn::message::{Message, Method};

use crate::by_hand::{Line, UDP, code, request};
use crate::client::Client;
use crate::relay::{LOOPBACK, Relay, USER, program};

/// A relay that names `alternate`, and has these options too.
fn sending_to(alternate: &str, options: &[&str]) -> Relay {
    let mut command = program();
    command.args(LOOPBACK).args(["--listen=127.0.0.1:0", "--user=alice:wonderland"]);
    command.args(["--alternate-server", alternate]).args(options);
    Relay::start_as(command)
}

/// The code that an Allocate is refused with, and where the client is sent.
fn refused(client: &mut Client) -> (u16, Option<SocketAddr>) {
    match client.ask(Request::Allocate(Allocate::default())) {
        Event::Failed { why: Failure::Error { code, alternate_server }, .. } => {
            (code.value(), alternate_server)
        }
        other => panic!("{other:?}"),
    }
}

fn turned_away(relay: &Relay, reason: &str) -> u64 {
    let series = "turnwire_refused_packets_total{tier=\"control\",reason=";
    relay.metric(&format!("{series}\"{reason}\"}}"))
}

#[test]
fn a_relay_that_drains_sends_new_clients_to_the_other_and_keeps_its_own() {
    // given two relays, one of which names the other, and a client of it
    let other = Relay::start();
    let mut relay = sending_to(&other.listen.to_string(), &[]);
    let mut old = Client::new(relay.listen, USER);
    old.allocate();
    // when
    relay.signal("USR1");
    relay.logged("draining");
    // then a new one is sent on, and is served there
    let sent_to = refused(&mut Client::new(relay.listen, USER));
    assert_eq!(sent_to, (300, Some(other.listen)));
    assert_eq!(turned_away(&relay, "redirected"), 1);
    Client::new(other.listen, USER).allocate();
    // and only who is known here is told where
    assert_eq!(refused(&mut Client::new(relay.listen, ("mallory", "guessed"))), (401, None));
    // and the old one goes on until it ends, and the relay with it
    let refresh = |lifetime_secs| Request::Refresh { lifetime_secs, family: None };
    assert!(matches!(old.ask(refresh(None)), Event::Refreshed { .. }));
    assert_eq!(old.ask(refresh(Some(0))), Event::Deleted);
    // who may have missed the answer, and asks again
    assert_eq!(old.ask(refresh(Some(0))), Event::Deleted);
    relay.logged("drained");
    assert_eq!(relay.ended().code(), Some(0));
}

#[test]
fn a_drain_without_an_alternate_of_the_clients_family_is_a_508() {
    let mut relay = sending_to("[2a02:100::99]:3478", &[]);
    Client::new(relay.listen, USER).allocate();
    relay.signal("USR1");
    relay.logged("draining");
    assert_eq!(refused(&mut Client::new(relay.listen, USER)), (508, None));
    assert_eq!((turned_away(&relay, "redirected"), turned_away(&relay, "draining")), (0, 1));
}

#[test]
fn a_distributor_sends_everybody_on_at_once_and_allocates_nothing() {
    // given one alternate of each family
    let other = Relay::start();
    let v6 = "[2a02:100::99]:3478";
    let to = other.listen.to_string();
    let relay = sending_to(&to, &["--alternate-server", v6, "--redirect"]);
    // when a client that nobody knows asks
    let bare = request(Method::ALLOCATE, |b| _ = b.requested_transport(UDP));
    let answer = Line::datagrams(relay.listen).exchange(&bare);
    // then it is sent on, the server of its own family first
    assert_eq!(code(&answer), 300);
    let message = Message::parse(&answer).expect("a message");
    let named: Vec<SocketAddr> = message
        .attributes()
        .filter(|attribute| attribute.kind == AttributeType::ALTERNATE_SERVER)
        .map(|attribute| turn::attribute::decode_address(attribute.value).expect("an address"))
        .collect();
    assert_eq!(named, [other.listen, v6.parse().expect("an address")]);
    assert!(!message.has_integrity(), "there is no key yet to sign it with");
    // and what else it does, it does
    let binding = Line::datagrams(relay.listen).exchange(&request(Method::BINDING, |_| {}));
    assert_eq!(code(&binding), 0);
    assert_eq!(turned_away(&relay, "redirected"), 1);
    assert_eq!(relay.metric("turnwire_allocations"), 0);
    Client::new(other.listen, USER).allocate();
}
