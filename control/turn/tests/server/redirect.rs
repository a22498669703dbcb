//! Draining, and clients sent to another server (RFC 8489 section 10).

use turn::attribute::AttributeType;
use turn::message::{Class, Message, Method};
use turn::{Alternate, Config, Reason, Transport};

use crate::lab::{Lab, address, client, client_v6, code, config, over};
use crate::user::{Answer, Mode, User};

const V4: &str = "93.184.216.99:3478";
const V6: &str = "[2a02:100::99]:3478";

fn alternates() -> Vec<Alternate> {
    let domain = Some("turn2.example.org".into());
    vec![
        Alternate { address: address(V4), domain: domain.clone() },
        Alternate { address: address(V6), domain },
    ]
}

fn lab(redirect: bool) -> Lab {
    Lab::with(Config { alternates: alternates(), redirect, ..config() })
}

/// Every ALTERNATE-SERVER of a 300, in order.
fn servers(bytes: &[u8]) -> Vec<std::net::SocketAddr> {
    let message = Message::parse(bytes).unwrap();
    let of_kind = message.attributes().filter(|a| a.kind == AttributeType::ALTERNATE_SERVER);
    of_kind.map(|a| turn::attribute::decode_address(a.value).unwrap()).collect()
}

fn allocate(lab: &mut Lab, user: &mut User) -> Answer {
    user.allocate_with(lab, |_| {})
}

#[test]
fn a_draining_server_refuses_new_allocations_and_keeps_its_own() {
    let mut lab = Lab::new();
    let mut old = User::new("alice", client(1), Mode::Legacy);
    old.learn(&mut lab);
    let request = old.sign(lab.transaction(), Method::ALLOCATE, |b| _ = b.requested_transport(17));
    assert_eq!(old.exchange(&mut lab, &request).unwrap().code(), 0);
    assert!(!lab.server.is_draining());
    lab.server.set_draining(true);
    let mut new = User::new("alice", client(2), Mode::Legacy);
    assert_eq!(allocate(&mut lab, &mut new).code(), 508);
    assert_eq!(lab.refused(Reason::Draining), 1);
    assert_eq!(old.exchange(&mut lab, &request).unwrap().code(), 0, "a retransmission");
    assert_eq!(old.refresh(&mut lab, 900).code(), 0);
    assert_eq!(old.bind(&mut lab, 0x4000, address("9.9.9.9:1")), 0);
    lab.server.set_draining(false);
    assert_eq!(allocate(&mut lab, &mut new).code(), 0);
}

#[test]
fn with_an_alternate_of_the_clients_family_it_sends_on_authenticated() {
    let mut lab = lab(false);
    let mut user = User::new("alice", client(1), Mode::Modern);
    assert_eq!(allocate(&mut lab, &mut user).code(), 0, "only while it drains");
    lab.server.set_draining(true);
    for (at, order) in [(client(2), [V4, V6]), (client_v6(2), [V6, V4])] {
        let answer = allocate(&mut lab, &mut User::new("alice", at, Mode::Modern));
        assert_eq!((answer.code(), answer.signed), (300, true));
        assert_eq!(servers(&answer.bytes), order.map(address), "the mandatory one is first");
        assert!(!answer.message().has(AttributeType::ALTERNATE_DOMAIN), "not over UDP");
    }
    assert_eq!(lab.refused(Reason::Redirected), 2);
    // Without one of the client's family there is nowhere to go.
    lab.server.replace_alternates(alternates().split_off(1), false);
    assert_eq!(allocate(&mut lab, &mut User::new("bob", client(3), Mode::Modern)).code(), 508);
}

#[test]
fn the_domain_is_told_over_tls_and_dtls_to_who_authenticates_by_sha256() {
    let mut lab = lab(false);
    lab.server.set_draining(true);
    for transport in [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Dtls] {
        for mode in [Mode::Legacy, Mode::Modern] {
            let mut user = User::new("alice", over(transport, client(2)), mode);
            let answer = allocate(&mut lab, &mut user);
            let domain = answer.message().alternate_domain().unwrap().map(str::to_owned);
            let told = transport.is_secure() && mode == Mode::Modern;
            assert_eq!(domain.is_some(), told, "{transport:?} {mode:?}");
        }
    }
}

#[test]
fn a_distributor_sends_on_at_once_without_a_user_and_within_its_budget() {
    let mut lab = lab(true);
    let request = lab.plain(Class::Request, Method::ALLOCATE, |b| _ = b.requested_transport(17));
    let answer = lab.answer(client(1), &request).unwrap();
    assert_eq!(code(&answer), Some(300));
    assert_eq!(servers(&answer), [V4, V6].map(address));
    assert!(!Message::parse(&answer).unwrap().has_integrity());
    assert!(answer.len() <= 80, "at most four bare headers: {}", answer.len());
    // Other methods are challenged as ever, and who signs is sent on signed.
    let request = lab.plain(Class::Request, Method::REFRESH, |b| _ = b.lifetime_secs(600));
    let challenge = lab.answer(client(1), &request).unwrap();
    assert_eq!(code(&challenge), Some(401));
    let mut user = User::new("alice", client(1), Mode::Legacy);
    user.learn_from(&challenge);
    let answer = allocate(&mut lab, &mut user);
    assert_eq!((answer.code(), answer.signed), (300, true));
    // Strangers' answers are counted out.
    let none = turn::limits::Rate { per_second: 0, burst: 0 };
    let mut config = Config { alternates: alternates(), redirect: true, ..config() };
    config.limits.unauthenticated =
        turn::limits::Budget { source: none, prefix: none, total: none };
    let mut lab = Lab::with(config);
    let request = lab.plain(Class::Request, Method::ALLOCATE, |_| {});
    assert_eq!(lab.answer(client(1), &request), None);
    assert_eq!(lab.refused(Reason::BudgetSource), 1);
}

#[test]
fn who_is_here_already_is_not_sent_away() {
    let mut lab = Lab::new();
    let mut user = User::new("alice", client(1), Mode::Legacy);
    user.allocate(&mut lab);
    lab.server.replace_alternates(alternates(), true);
    assert_eq!(user.refresh(&mut lab, 600).code(), 0);
    assert_eq!(allocate(&mut lab, &mut user).code(), 437);
    let request = lab.plain(Class::Request, Method::ALLOCATE, |_| {});
    assert_eq!(code(&lab.answer(client(1), &request).unwrap()), Some(401));
}

#[test]
fn software_is_told_to_who_has_authenticated_if_the_operator_wants_it() {
    let mut lab = Lab::with(Config { software: Some("Turnwire".into()), ..config() });
    let mut user = User::new("alice", client(1), Mode::Modern);
    let answer = allocate(&mut lab, &mut user);
    assert_eq!(answer.message().software().unwrap(), Some("Turnwire"));
    let refusal = user.ask(&mut lab, Method::CHANNEL_BIND, |_| {});
    assert_eq!((refusal.code(), refusal.message().software().unwrap()), (400, Some("Turnwire")));
    // Strangers get no more than they need.
    for method in [Method::BINDING, Method::ALLOCATE] {
        let request = lab.plain(Class::Request, method, |_| {});
        let answer = lab.answer(client(2), &request).unwrap();
        assert_eq!(Message::parse(&answer).unwrap().software().unwrap(), None);
    }
    let mut quiet = Lab::new();
    let answer = allocate(&mut quiet, &mut User::new("alice", client(1), Mode::Modern));
    assert_eq!(answer.message().software().unwrap(), None, "off by default");
}
