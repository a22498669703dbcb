//! What strangers are told: how large it is, and how often (D1 and D2).

use std::net::SocketAddr;

use turn::attribute::AttributeType;
use turn::limits::{Budget, Rate};
use turn::message::{Class, Method};
use turn::{Client, Reason};

use crate::lab::{Lab, client, client_v6, code, config};
use crate::user::{Mode, User, alice};

#[test]
fn answers_to_strangers_are_bounded_by_their_requests() {
    let mut lab = Lab::new();
    let mut worst: Vec<(String, f64)> = Vec::new();
    for who in [client(1), client_v6(1)] {
        let v6 = who.remote.is_ipv6();
        for method in [
            Method::BINDING,
            Method::ALLOCATE,
            Method::REFRESH,
            Method::CREATE_PERMISSION,
            Method::CHANNEL_BIND,
        ] {
            for extra in 0..12usize {
                let request = lab.plain(Class::Request, method, |b| match extra {
                    0 => {}
                    1 => _ = b.requested_transport(17),
                    2 => _ = b.requested_transport(17).lifetime_secs(600),
                    3 => _ = b.username("alice"),
                    // Unknown required attributes: 1, 2, 4, ... 128 of them.
                    n => (0..1u16 << (n - 4))
                        .for_each(|k| _ = b.attribute(AttributeType(0x7000 + k), &[])),
                });
                let Some(answer) = lab.answer(who, &request) else { continue };
                let factor = answer.len() as f64 / request.len() as f64;
                let limit = match code(&answer) {
                    None if v6 => 2.2,
                    None | Some(420) => 1.6,
                    Some(401) => 4.0,
                    other => panic!("{other:?}"),
                };
                assert!(factor <= limit, "{method} {extra}: {} to {}", request.len(), answer.len());
                worst.push((format!("{method}"), factor));
                if code(&answer) == Some(401) && request.len() == 20 {
                    assert!(answer.len() <= 80, "four bare headers: {}", answer.len());
                }
            }
        }
    }
    let max = worst.iter().map(|w| w.1).fold(0.0, f64::max);
    println!("worst factor {max:.2} over {} exchanges", worst.len());
}

#[test]
fn a_401_to_a_bare_header_leaves_the_algorithms_out_and_its_nonce_says_so() {
    let mut lab = Lab::new();
    let bare = lab.plain(Class::Request, Method::ALLOCATE, |_| {});
    let answer = lab.answer(client(1), &bare).unwrap();
    let message = turn::message::Message::parse(&answer).unwrap();
    assert!(!message.has(AttributeType::PASSWORD_ALGORITHMS));
    let nonce = message.nonce().unwrap().unwrap();
    assert!(nonce.starts_with(b"obMatJos2AAAA"));
    // Whoever uses it is led on to a full one.
    let mut user = User::new("alice", client(1), Mode::Legacy);
    user.nonce = nonce.to_vec();
    let request = user.sign(lab.transaction(), Method::ALLOCATE, |b| _ = b.requested_transport(17));
    let answer = lab.answer(client(1), &request).unwrap();
    assert_eq!(code(&answer), Some(438));
    user.learn_from(&answer);
    user.allocate(&mut lab);
}

#[test]
fn a_438_is_no_larger_than_its_request_or_is_not_sent() {
    let mut lab = Lab::new();
    for name in ["alice", "1900000000", "1900000000:carol"] {
        let mut user = if name == "alice" {
            User::new(name, client(1), Mode::Legacy)
        } else {
            User::rest(name, client(1))
        };
        let mut silent = 0;
        for len in 0..100 {
            user.nonce = vec![b'n'; len];
            let request = user.sign(lab.transaction(), Method::REFRESH, |_| {});
            match lab.answer(client(1), &request) {
                Some(answer) => {
                    assert_eq!(code(&answer), Some(438));
                    assert!(answer.len() <= request.len(), "{} to {}", request.len(), answer.len());
                }
                None => silent += 1,
            }
        }
        assert_eq!(silent, lab.refused(Reason::AnswerTooLarge));
        assert!(silent < 32, "a nonce of our length is always answered");
        lab = Lab::new();
    }
}

#[test]
fn a_flood_from_65536_sources_grows_nothing_and_a_real_client_is_served() {
    let mut lab = Lab::new();
    let (mut before, _) = alice(&mut lab, 1);
    let (stats, deadline) = (lab.server.stats().clone(), lab.server.deadline());
    let allocate = lab.plain(Class::Request, Method::ALLOCATE, |b| _ = b.requested_transport(17));
    let forged = {
        let mut mallory = User::with_password("alice", "guess", client(9), Mode::Legacy);
        mallory.nonce = vec![b'n'; 32];
        mallory.sign(lab.transaction(), Method::ALLOCATE, |b| _ = b.requested_transport(17))
    };
    let binding = lab.plain(Class::Request, Method::BINDING, |_| {});
    let mut answered = 0;
    for n in 0..=u16::MAX {
        let [high, low] = n.to_be_bytes();
        let remote = SocketAddr::from(([84, 77, high, low], 1024 | n));
        let who = Client { remote, ..client(1) };
        answered += usize::from(lab.answer(who, &allocate).is_some());
        // Costs an HMAC each: not all of them.
        if n.is_multiple_of(16) {
            answered += usize::from(lab.answer(who, &forged).is_some());
            assert!(lab.answer(who, &binding).is_some());
            assert!(lab.answer(who, b"\x16\xfe\xff garbage").is_none());
        }
    }
    println!("{answered} answers to strangers");
    assert!(answered <= 40_000, "the total's burst");
    let now = lab.server.stats();
    assert_eq!((now.allocations, now.permissions, now.channels), (1, stats.permissions, 0));
    assert_eq!(lab.server.deadline(), deadline);
    assert_eq!(before.refresh(&mut lab, 600).code(), 0, "who is authenticated needs no budget");
    // A newcomer is served as soon as the total refills: at once, at 20,000 a second.
    lab.pass_secs(1);
    alice(&mut lab, 2);
}

#[test]
fn one_source_and_one_network_have_their_share() {
    let mut config = config();
    config.limits.unauthenticated = Budget {
        source: Rate { per_second: 20, burst: 100 },
        prefix: Rate { per_second: 200, burst: 1_000 },
        ..Budget::default()
    };
    let mut lab = Lab::with(config);
    let request = lab.plain(Class::Request, Method::ALLOCATE, |_| {});
    let at = |host: u8, port: u16| {
        let remote = SocketAddr::from(([84, 77, 1, host], port));
        Client { remote, ..client(1) }
    };
    let one = (0..1000u16).filter(|&p| lab.answer(at(1, 1024 + p), &request).is_some()).count();
    assert_eq!(one, 100);
    assert_eq!(lab.refused(Reason::BudgetSource), 900);
    let mut network = 0;
    for host in 2..=255 {
        for port in 1..=50 {
            network += usize::from(lab.answer(at(host, port), &request).is_some());
        }
    }
    assert_eq!(network + one, 1000);
    assert!(lab.refused(Reason::BudgetPrefix) > 0);
    alice(&mut lab, 1);
    // The unauthenticated 400 and the 420 to a Binding count, too.
    let unknown =
        lab.plain(Class::Request, Method::BINDING, |b| _ = b.attribute(AttributeType(3), &[]));
    assert!(lab.answer(at(1, 9), &unknown).is_none());
}
