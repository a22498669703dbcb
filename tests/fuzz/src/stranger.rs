//! Whoever has not shown who he is: nothing is kept for him, nobody else hears of him, and he gets
//! at most one short answer to a request.
//!
//! ```text
//!   | sender 1 | kind 1 | length 2 | bytes | sender 1 | ...
//! ```

use turn::message::{Builder, Class, Message, Method, TransactionId};
use turn::{Client, Config, Icmp, Origin, Transport};

use crate::input::{Input, chunk};
use crate::lab::{Lab, Sent, address, client, config};
use crate::stun::repaired;

/// Most datagrams of one input.
const DATAGRAMS_MAX: usize = 16;

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut lab = Lab::new(Config { tcp_relay: true, mobility: true, ..config() });
    for _ in 0..DATAGRAMS_MAX {
        if input.is_empty() {
            break;
        }
        let client = client(input.below(6));
        let kind = input.below(6);
        let raw = input.chunk();
        let (relay, peer) = (address("93.184.216.10:50001"), address("9.9.9.9:9"));
        let sent = match kind {
            0 | 1 => answered(&mut lab, client, &repaired(raw)),
            2 => answered(&mut lab, client, raw),
            3 => lab.input(turn::Input::Peer { relay, peer, bytes: raw }),
            4 => lab.input(turn::Input::Gone { client, origin: Origin(0) }),
            _ => {
                let icmp = Icmp { kind: 3, code: raw.first().copied().unwrap_or(0), data: 0 };
                lab.input(turn::Input::Unreachable { relay, peer, icmp })
            }
        };
        assert!(sent.is_empty(), "{sent:?}");
        assert!(lab.server.holds_nothing(), "something is kept for a stranger");
    }
}

/// Takes out the answer, if it is one that may be given.
fn answered(lab: &mut Lab, client: Client, bytes: &[u8]) -> Vec<Sent> {
    let mut sent = lab.datagram(client, bytes);
    let closed = |sent: &Sent| *sent == Sent::Closed(client);
    sent.retain(|sent| client.transport == Transport::Udp || !closed(sent));
    match sent.as_slice() {
        [Sent::Client(to, answer)] => {
            assert_eq!(*to, client, "somebody else is answered");
            check(client, bytes, answer);
            Vec::new()
        }
        _ => sent,
    }
}

fn check(client: Client, request: &[u8], answer: &[u8]) {
    let asked = Message::parse(request).expect("only STUN is answered");
    assert_eq!(asked.class(), Class::Request, "only requests are answered");
    let told = Message::parse(answer).expect("we send STUN");
    stun_types::message::Message::from_bytes(answer).expect("and others can read it");
    assert_eq!((told.method(), told.transaction()), (asked.method(), asked.transaction()));
    assert!(!told.has_integrity(), "signed for a stranger");
    let most = match told.class() {
        // XOR-MAPPED-ADDRESS and no more: 12 or 24 bytes, and maybe a FINGERPRINT
        Class::Success => {
            assert_eq!(asked.method(), Method::BINDING, "a stranger succeeds");
            20 + 24 + if asked.has_fingerprint() { 8 } else { 0 }
        }
        // who sends by anything but UDP has shown that he receives
        Class::Error if client.transport != Transport::Udp => usize::MAX,
        Class::Error
            if told.error_code().is_ok_and(|e| e.is_some_and(|e| e.code.value() == 438)) =>
        {
            request.len()
        }
        Class::Error => 4 * request.len(),
        class => panic!("answered with a {class}"),
    };
    let (asked, told) = (request.len(), answer.len());
    assert!(told <= most, "{told} bytes for {asked} by {:?}: {answer:02x?}", client.transport);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let build = |method, fill: &dyn Fn(&mut Builder<'_>)| {
        let mut out = Vec::new();
        let mut builder = Builder::new(&mut out, Class::Request, method, TransactionId([3; 12]));
        fill(&mut builder);
        builder.finish().unwrap();
        out
    };
    let key = turn::integrity::Key::raw(b"a guess");
    let messages = [
        build(Method::BINDING, &|_| {}),
        build(Method::ALLOCATE, &|b| _ = b.requested_transport(17)),
        build(Method::ALLOCATE, &|b| {
            b.requested_transport(17).username("alice").realm("turnwire").nonce(b"obMatJos2AAAA");
            b.integrity(&key, turn::integrity::Hash::Sha1);
        }),
        build(Method::REFRESH, &|b| _ = b.lifetime_secs(0).fingerprint()),
        b"\x40\0\0\x04data".to_vec(),
    ];
    let one = |(at, message): (usize, &Vec<u8>)| {
        let kind = if at % 2 == 0 { 0 } else { 2 };
        [&[at as u8, kind], &chunk(message)[..]].concat()
    };
    let mut seeds: Vec<_> = messages.iter().enumerate().map(one).collect();
    seeds.push(seeds.concat());
    seeds
}
