//! The client against a server of a few lines, under a virtual clock.
#![allow(clippy::unwrap_used, reason = "the code of a test")]

#[path = "client/server.rs"]
mod server;

use std::time::Duration;

use server::{Server, address, client_address, drop};

use turn::attribute::{ChannelNumber, Code, Family, Icmp, PasswordAlgorithm};
use turn::client::{
    Allocate, Event, Failure, Ignored, Negotiation, Received, Request, Retransmission, Settings,
    TRANSACTIONS_MAX, TurnClient,
};
use turn::integrity::Hash;
use turn::message::{Builder, ChannelData, Class, Message, Method, TransactionId};
use turn::nonce::{Nonces, SecurityFeatures};
use turn::{Random, Seeded};

const START: Duration = Duration::from_secs(1000);

fn settings() -> Settings {
    Settings::new("alice", "secret")
}

fn client(settings: Settings) -> TurnClient {
    TurnClient::new(settings, Box::new(Seeded::new(7)))
}

/// Carries datagrams both ways until neither side has any more, and says how many there were.
fn run(client: &mut TurnClient, server: &Server, now: Duration) -> usize {
    let mut datagrams = 0;
    while let Some(bytes) = client.poll_transmit(now) {
        let answer = server.answer(bytes, now);
        client.receive(now, &answer);
        datagrams += 1;
        assert!(datagrams < 100, "they never stop");
    }
    datagrams
}

fn allocated(client: &mut TurnClient, server: &Server) {
    client.request(START, Request::Allocate(Allocate::default())).unwrap();
    run(client, server, START);
    assert!(matches!(client.poll_event(), Some(Event::Allocated(_))));
    assert_eq!((client.poll_event(), client.deadline()), (None, None));
}

fn failure(event: Option<Event>) -> Failure {
    match event {
        Some(Event::Failed { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

fn code(code: Code) -> Failure {
    Failure::Error { code, alternate_server: None }
}

#[test]
fn an_allocation_lives_its_life() {
    let server = Server::new(&[], false);
    let mut client = client(settings());
    let allocate = Allocate {
        additional_family: Some(Family::V6),
        even_port: Some(true),
        lifetime_secs: Some(777),
        ..Allocate::default()
    };
    client.request(START, Request::Allocate(allocate)).unwrap();
    assert_eq!(run(&mut client, &server, START), 2);
    let Some(Event::Allocated(allocated)) = client.poll_event() else { panic!() };
    assert_eq!(allocated.relayed, [address("198.51.100.1:50000")]);
    assert_eq!(allocated.mapped, client_address());
    assert_eq!((allocated.lifetime_secs, allocated.reservation_token), (777, Some([8; 8])));
    let unsupported = (Family::V6, Code::ADDRESS_FAMILY_NOT_SUPPORTED);
    assert_eq!(allocated.address_error, Some(unsupported));

    let peers = vec![address("203.0.113.1:9"), address("203.0.113.2:0")];
    let (channel, peer) = (ChannelNumber::MIN, peers[0]);
    for (request, event) in [
        (
            Request::Refresh { lifetime_secs: Some(60), family: None },
            Event::Refreshed { lifetime_secs: 60 },
        ),
        (Request::CreatePermission { peers: peers.clone() }, Event::Permitted { peers }),
        (Request::ChannelBind { channel, peer }, Event::Bound { channel, peer }),
        (Request::Binding, Event::Mapped(client_address())),
        (Request::delete(), Event::Deleted),
    ] {
        client.request(START, request).unwrap();
        assert_eq!(run(&mut client, &server, START), 1);
        assert_eq!(client.poll_event(), Some(event));
    }
    assert_eq!(client.channel_of(peer), None);
}

#[test]
fn every_mechanism_gets_in() {
    type Case = (&'static [PasswordAlgorithm], bool, Option<&'static [u8; 13]>, Negotiation, Hash);
    let (both, offered) =
        (&[PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5], Negotiation::AsOffered);
    let cases: [Case; 8] = [
        (&[], false, None, offered, Hash::Sha1),
        (&[], true, None, offered, Hash::Sha1),
        (&[PasswordAlgorithm::Md5], false, None, offered, Hash::Sha256),
        (both, false, None, offered, Hash::Sha256),
        (both, true, None, offered, Hash::Sha256),
        // The features in the other bit order.
        (both, false, Some(b"obMatJos2gAAA"), offered, Hash::Sha256),
        (both, true, Some(b"obMatJos2wAAA"), offered, Hash::Sha256),
        (both, true, None, Negotiation::Legacy, Hash::Sha1),
    ];
    for (offered, anonymity, cookie, negotiation, hash) in cases {
        let mut server = Server::new(offered, anonymity);
        server.cookie = cookie;
        let mut client = client(Settings { negotiation, ..settings() });
        client.request(START, Request::Allocate(Allocate::default())).unwrap();
        let first = client.poll_transmit(START).unwrap().to_vec();
        client.receive(START, &server.answer(&first, START));
        let second = client.poll_transmit(START).unwrap().to_vec();
        let request = Message::parse(&second).unwrap();
        assert_ne!(request.transaction(), Message::parse(&first).unwrap().transaction());
        let anonymous = anonymity && negotiation == Negotiation::AsOffered;
        assert_eq!(request.userhash().unwrap().is_some(), anonymous);
        assert_eq!(request.username().unwrap().is_none(), anonymous);
        assert!(request.signature(hash).is_some());
        assert_eq!(request.password_algorithm().unwrap().is_some(), hash == Hash::Sha256);
        client.receive(START, &server.answer(&second, START));
        assert!(matches!(client.poll_event(), Some(Event::Allocated(_))));
    }
}

#[test]
fn a_wrong_password_is_tried_once() {
    let server = Server::new(&[], false);
    let mut client = client(Settings::new("alice", "wrong"));
    client.request(START, Request::Allocate(Allocate::default())).unwrap();
    assert_eq!(run(&mut client, &server, START), 2);
    assert_eq!(failure(client.poll_event()), code(Code::UNAUTHENTICATED));
}

#[test]
fn a_stale_nonce_is_replaced_without_the_callers_help() {
    let server = Server::new(&[PasswordAlgorithm::Sha256], false);
    let mut client = client(settings());
    allocated(&mut client, &server);
    let later = START + Duration::from_secs(600);
    let old = client.nonce().unwrap().to_vec();
    client.request(later, Request::Refresh { lifetime_secs: None, family: None }).unwrap();
    assert_eq!(run(&mut client, &server, later), 2);
    assert_eq!(client.poll_event(), Some(Event::Refreshed { lifetime_secs: 600 }));
    assert_ne!(client.nonce().unwrap(), old);
}

#[test]
fn a_server_that_never_likes_a_nonce_is_given_up() {
    let mut server = Server::new(&[], false);
    let mut client = client(settings());
    allocated(&mut client, &server);
    server.nonces = Nonces::new(&[2; 32], Duration::ZERO, server.nonces.features());
    client.request(START, Request::delete()).unwrap();
    assert_eq!(run(&mut client, &server, START), 5);
    assert_eq!(failure(client.poll_event()), code(Code::STALE_NONCE));
}

#[test]
fn requests_are_sent_again_as_rfc_8489_says() {
    for (retransmission, expected, end) in [
        (Retransmission::UDP, &[0, 500, 1500, 3500, 7500, 15500, 31500][..], 39500),
        (Retransmission::STREAM, &[0][..], 39500),
    ] {
        let mut client = client(Settings { retransmission, ..settings() });
        client.request(START, Request::Binding).unwrap();
        let (mut sent, mut first) = (Vec::new(), None);
        while let Some(now) = client.deadline() {
            assert_eq!(client.poll_transmit(now - Duration::from_millis(1)), None);
            let millis = (now - START).as_millis() as u64;
            match client.poll_transmit(now) {
                Some(bytes) => {
                    assert_eq!(bytes, first.get_or_insert(bytes.to_vec()));
                    sent.push(millis);
                }
                None => assert_eq!(millis, end),
            }
        }
        assert_eq!(sent, expected);
        assert_eq!(failure(client.poll_event()), Failure::Timeout);
    }
}

#[test]
fn an_unsigned_answer_to_a_signed_request_does_not_count() {
    let mut server = Server::new(&[], false);
    let mut client = client(settings());
    allocated(&mut client, &server);
    server.unsigned = true;
    for refuse in [None, Some(Code::BAD_REQUEST), Some(Code::ALLOCATION_MISMATCH)] {
        server.refuse = refuse;
        client.request(START, Request::delete()).unwrap();
        let bytes = client.poll_transmit(START).unwrap().to_vec();
        let answer = server.answer(&bytes, START);
        assert_eq!(client.receive(START, &answer), Received::Ignored(Ignored::Integrity));
        assert!(client.poll_event().is_none());
        while let Some(now) = client.deadline() {
            client.poll_transmit(now);
        }
        assert_eq!(failure(client.poll_event()), Failure::Integrity);
    }
}

#[test]
fn a_weaker_signature_than_was_agreed_on_does_not_count() {
    let mut server = Server::new(&[PasswordAlgorithm::Sha256], false);
    let mut client = client(settings());
    allocated(&mut client, &server);
    server.hash = Some(Hash::Sha1);
    client.request(START, Request::delete()).unwrap();
    let bytes = client.poll_transmit(START).unwrap().to_vec();
    let answer = server.answer(&bytes, START);
    assert_eq!(client.receive(START, &answer), Received::Ignored(Ignored::Integrity));
}

#[test]
fn an_unsigned_error_counts_if_the_caller_says_so() {
    let mut server = Server::new(&[], false);
    let mut client = client(Settings { trust_unsigned_errors: true, ..settings() });
    allocated(&mut client, &server);
    server.unsigned = true;
    server.refuse = Some(Code::BAD_REQUEST);
    client.request(START, Request::Refresh { lifetime_secs: None, family: None }).unwrap();
    run(&mut client, &server, START);
    assert_eq!(failure(client.poll_event()), code(Code::BAD_REQUEST));
}

#[test]
fn announced_algorithms_that_do_not_come_are_a_bid_down() {
    let mut server = Server::new(&[], false);
    let features = SecurityFeatures { password_algorithms: true, username_anonymity: false };
    server.nonces = Nonces::new(&[1; 32], Duration::from_secs(600), features);
    let mut client = client(settings());
    client.request(START, Request::Allocate(Allocate::default())).unwrap();
    assert_eq!(run(&mut client, &server, START), 1);
    assert_eq!(failure(client.poll_event()), Failure::Algorithms);
}

#[test]
fn a_signed_refusal_is_told_with_its_request() {
    let mut server = Server::new(&[], false);
    let mut client = client(settings());
    allocated(&mut client, &server);
    server.refuse = Some(Code::FORBIDDEN);
    let (channel, peer) = (ChannelNumber::MAX, address("203.0.113.1:9"));
    let request = Request::ChannelBind { channel, peer };
    client.request(START, request.clone()).unwrap();
    run(&mut client, &server, START);
    let why = code(Code::FORBIDDEN);
    assert_eq!(client.poll_event(), Some(Event::Failed { request, why }));
    let mut out = Vec::new();
    let datagram = ChannelData { channel, data: b"x" }.write(&mut out, false).unwrap();
    assert_eq!(client.receive(START, datagram), Received::Ignored(Ignored::Channel));
    // A Refresh of 0 s for an allocation that is gone has done its work.
    server.refuse = Some(Code::ALLOCATION_MISMATCH);
    client.request(START, Request::delete()).unwrap();
    run(&mut client, &server, START);
    assert_eq!(client.poll_event(), Some(Event::Deleted));
}

#[test]
fn data_passes_both_ways() {
    let server = Server::new(&[], false);
    let mut client = client(Settings { fingerprint: true, ..settings() });
    allocated(&mut client, &server);
    let (channel, peer) = (ChannelNumber::MIN, address("[2001:db8::9]:9"));
    client.request(START, Request::ChannelBind { channel, peer }).unwrap();
    let mut out = Vec::new();
    // The server may send on the channel before its answer is here.
    let early = ChannelData { channel, data: b"early" }.write(&mut out, true).unwrap().to_vec();
    let received = Received::ChannelData { channel, peer, data: b"early" };
    assert_eq!(client.receive(START, &early), received);
    assert_eq!(client.channel_of(peer), None);
    run(&mut client, &server, START);
    assert_eq!(client.poll_event(), Some(Event::Bound { channel, peer }));
    assert_eq!(client.channel_of(peer), Some(channel));
    let sent = client.channel_data(&mut out, channel, b"hello").unwrap();
    assert_eq!(ChannelData::parse(sent), Some(ChannelData { channel, data: b"hello" }));

    let sent = client.send_indication(&mut out, peer, b"hello", true).unwrap();
    let message = Message::parse(sent).unwrap();
    assert_eq!((message.class(), message.method()), (Class::Indication, Method::SEND));
    assert_eq!(message.xor_peer_address(), Ok(Some(peer)));
    assert_eq!((message.data(), message.dont_fragment()), (Some(&b"hello"[..]), Ok(true)));
    assert!(message.has_fingerprint() && !message.has_integrity());

    let indication = |write: &dyn Fn(&mut Builder<'_>)| {
        let mut out = Vec::new();
        let id = TransactionId([3; 12]);
        let mut builder = Builder::new(&mut out, Class::Indication, Method::DATA, id);
        write(&mut builder);
        builder.finish().unwrap();
        out
    };
    let data = indication(&|b| drop(b.xor_peer_address(peer).data(b"hi")));
    assert_eq!(client.receive(START, &data), Received::Data { peer, data: b"hi" });
    let icmp = Icmp { kind: 3, code: 4, data: 1280 };
    let error = indication(&|b| drop(b.xor_peer_address(peer).icmp(icmp)));
    assert_eq!(client.receive(START, &error), Received::Icmp { peer, icmp });
    let empty = indication(&|b| drop(b.xor_peer_address(peer)));
    assert_eq!(client.receive(START, &empty), Received::Ignored(Ignored::Data));
}

#[test]
fn what_is_not_for_the_client_is_ignored() {
    let server = Server::new(&[], false);
    let mut client = client(settings());
    client.request(START, Request::Binding).unwrap();
    let bytes = client.poll_transmit(START).unwrap().to_vec();
    assert_eq!(client.receive(START, &bytes), Received::Ignored(Ignored::Unexpected));
    let request = Message::parse(&bytes).unwrap();
    // The right id under another method, and another id.
    let mut out = Vec::new();
    let id = request.transaction();
    let other = Builder::new(&mut out, Class::Success, Method::REFRESH, id).finish().unwrap();
    assert_eq!(client.receive(START, other), Received::Ignored(Ignored::Transaction));
    let id = TransactionId([0; 12]);
    let other = Builder::new(&mut out, Class::Success, Method::BINDING, id).finish().unwrap();
    assert_eq!(client.receive(START, other), Received::Ignored(Ignored::Transaction));
    assert!(matches!(client.receive(START, b"garbage"), Received::Ignored(Ignored::Parse(_))));
    // The answer still counts; a second time it does not.
    let answer = server.challenge(&request, Code::BAD_REQUEST, START);
    assert_eq!(client.receive(START, &answer), Received::Response);
    assert_eq!(failure(client.poll_event()), code(Code::BAD_REQUEST));
    assert_eq!(client.receive(START, &answer), Received::Ignored(Ignored::Transaction));
}

#[test]
fn an_answer_without_what_it_must_have_is_a_failure() {
    let mut client = client(settings());
    for (request, write) in [
        (Request::Binding, false),
        (Request::Refresh { lifetime_secs: None, family: None }, false),
        (Request::Allocate(Allocate::default()), false),
        (Request::Allocate(Allocate::default()), true),
    ] {
        client.request(START, request).unwrap();
        let bytes = client.poll_transmit(START).unwrap().to_vec();
        let mut out = Vec::new();
        let message = Message::parse(&bytes).unwrap();
        let mut builder = Builder::reply(&mut out, &message, Class::Success);
        if write {
            builder.xor_relayed_address(address("198.51.100.1:5"));
        }
        let answer = builder.finish().unwrap();
        assert_eq!(client.receive(START, answer), Received::Response);
        assert!(matches!(failure(client.poll_event()), Failure::Response(_)));
    }
}

#[test]
fn requests_under_way_are_limited() {
    let mut client = client(settings());
    for _ in 0..TRANSACTIONS_MAX {
        client.request(START, Request::Binding).unwrap();
    }
    assert!(client.request(START, Request::Binding).is_err());
    let mut sent = 0;
    while client.poll_transmit(START).is_some() {
        sent += 1;
    }
    assert_eq!(sent, TRANSACTIONS_MAX);
}

#[test]
fn garbage_never_makes_the_client_panic() {
    let seed = 0x5EED_0007;
    println!("seed {seed:#x}");
    let mut random = Seeded::new(seed);
    let server = Server::new(&[PasswordAlgorithm::Sha256], true);
    let mut client = client(settings());
    for round in 0..2_000 {
        let now = START + Duration::from_secs(round);
        let _ = client.request(now, Request::Allocate(Allocate::default()));
        while let Some(bytes) = client.poll_transmit(now) {
            let mut answer = server.answer(bytes, now);
            if random.below(3) == 0 {
                let at = random.below(answer.len());
                random.fill(&mut answer[at..]);
            } else {
                let bit = random.below(answer.len() * 8);
                answer[bit / 8] ^= 1 << (bit % 8);
            }
            client.receive(now, &answer);
        }
        while client.poll_event().is_some() {}
    }
}
