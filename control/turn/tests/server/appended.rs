//! S6: what is appended behind the integrity has no effect, and what is flipped before it is refused.

use turn::attribute::AttributeType;
use turn::message::{Builder, Message, Method};
use turn::{ChannelNumber, Seeded};

use crate::lab::{Lab, address, client, code};
use crate::user::{Mode, User};
use crate::wire::Event;

/// Appends attributes to a finished message, fixing only its length.
fn append(request: &[u8], attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = request.to_vec();
    for (kind, value) in attributes {
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let len = (bytes.len() - 20) as u16;
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
    bytes
}

/// The value of an attribute as a builder writes it.
fn value(
    lab: &mut Lab,
    id: turn::message::TransactionId,
    kind: AttributeType,
    fill: impl Fn(&mut Builder<'_>),
) -> (u16, Vec<u8>) {
    let _ = lab;
    let mut bytes = Vec::new();
    let mut builder = Builder::new(&mut bytes, turn::message::Class::Request, Method::BINDING, id);
    fill(&mut builder);
    builder.finish().unwrap();
    (kind.0, Message::parse(&bytes).unwrap().attribute(kind).unwrap().to_vec())
}

#[test]
fn attributes_behind_the_integrity_do_nothing() {
    let mut cases = 0;
    for mode in [Mode::Legacy, Mode::Modern] {
        for method in
            [Method::ALLOCATE, Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND]
        {
            for n in 0..14 {
                let mut lab = Lab::new();
                let mut user = User::new("alice", client(1), mode);
                user.learn(&mut lab);
                if method != Method::ALLOCATE {
                    user.allocate(&mut lab);
                }
                let id = lab.transaction();
                let (good, evil) = (address("9.9.9.9:1"), address("8.8.8.8:1"));
                let peer = |lab: &mut Lab, at| {
                    value(lab, id, AttributeType::XOR_PEER_ADDRESS, |b| _ = b.xor_peer_address(at))
                };
                let appended = match n {
                    0 => vec![peer(&mut lab, evil)],
                    1 => vec![peer(&mut lab, address("127.0.0.1:1"))],
                    2 => vec![(AttributeType::LIFETIME.0, vec![0; 4])],
                    3 => vec![(AttributeType::LIFETIME.0, vec![0, 0, 0x0e, 0x10])],
                    4 => vec![(AttributeType::USERNAME.0, b"bob".to_vec())],
                    5 => vec![(0x7fff, vec![1, 2, 3])],
                    6 => vec![(AttributeType::CHANNEL_NUMBER.0, vec![0x4f, 0xff, 0, 0])],
                    7 => vec![(AttributeType::EVEN_PORT.0, vec![0x80])],
                    8 => vec![(AttributeType::REQUESTED_ADDRESS_FAMILY.0, vec![2, 0, 0, 0])],
                    9 => vec![(AttributeType::RESERVATION_TOKEN.0, vec![0; 8])],
                    10 => vec![(AttributeType::ADDITIONAL_ADDRESS_FAMILY.0, vec![2, 0, 0, 0])],
                    11 => vec![
                        (AttributeType::MESSAGE_INTEGRITY.0, vec![0; 20]),
                        peer(&mut lab, evil),
                    ],
                    12 => vec![(AttributeType::REQUESTED_TRANSPORT.0, vec![6, 0, 0, 0])],
                    _ => vec![
                        (AttributeType::NONCE.0, b"x".to_vec()),
                        (AttributeType::REALM.0, b"y".to_vec()),
                    ],
                };
                let request = user.sign(id, method, |b| match method {
                    Method::ALLOCATE => _ = b.requested_transport(17),
                    Method::REFRESH => _ = b.lifetime_secs(1200),
                    Method::CREATE_PERMISSION => _ = b.xor_peer_address(good),
                    _ => _ = b.channel_number(ChannelNumber::MIN).xor_peer_address(good),
                });
                let bytes = append(&request, &appended);
                let answer = user.exchange(&mut lab, &bytes).unwrap();
                assert_eq!(answer.code(), 0, "{method} {n} {mode:?}");
                // As without: the same as the bare request does.
                match method {
                    Method::ALLOCATE => {
                        assert_eq!((answer.relayed().len(), answer.lifetime()), (1, 600));
                        assert!(answer.relayed()[0].is_ipv4());
                        assert_eq!(lab.server.stats().reservations, 0);
                    }
                    Method::REFRESH => assert_eq!(answer.lifetime(), 1200),
                    Method::CREATE_PERMISSION => assert_eq!(lab.server.stats().permissions, 1),
                    _ => assert!(lab.wire.route(client(1), 0x4000, lab.now.monotonic).is_some()),
                }
                assert!(lab.send(client(1), evil, b"x").is_none());
                cases += 1;
            }
        }
    }
    assert!(cases >= 90, "{cases}");
}

#[test]
fn a_sha256_that_is_appended_and_wrong_is_refused() {
    let mut lab = Lab::new();
    let mut user = User::new("alice", client(1), Mode::Legacy);
    user.learn(&mut lab);
    let request = user.sign(lab.transaction(), Method::ALLOCATE, |b| _ = b.requested_transport(17));
    let bytes = append(&request, &[(AttributeType::MESSAGE_INTEGRITY_SHA256.0, vec![0; 32])]);
    assert_eq!(code(&lab.answer(client(1), &bytes).unwrap()), Some(401));
    assert!(lab.server.holds_nothing());
}

#[test]
fn a_flipped_bit_has_no_effect() {
    let seed = 6;
    println!("seed {seed}");
    let mut random = Seeded::new(seed);
    let mut config = crate::lab::config();
    // So that each is answered, and none hides behind the budget.
    let rate = turn::limits::Rate { per_second: 1_000_000, burst: 1_000_000 };
    config.limits.unauthenticated =
        turn::limits::Budget { source: rate, prefix: rate, total: rate };
    let mut lab = Lab::with(config);
    for mode in [Mode::Legacy, Mode::Modern] {
        let mut user = User::new("alice", client(1), mode);
        user.allocate(&mut lab);
        let id = lab.transaction();
        let requests = [
            user.sign(id, Method::CREATE_PERMISSION, |b| {
                _ = b.xor_peer_address(address("9.9.9.9:1"))
            }),
            user.sign(id, Method::REFRESH, |b| _ = b.lifetime_secs(0)),
            user.sign(id, Method::CHANNEL_BIND, |b| {
                b.channel_number(ChannelNumber::MIN).xor_peer_address(address("9.9.9.9:1"));
            }),
        ];
        let before = (
            lab.server.stats().allocations,
            lab.server.stats().permissions,
            lab.server.stats().channels,
        );
        for n in 0..6_000 {
            let mut bytes = requests[n % 3].clone();
            let bit = random.below(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            for event in lab.input(client(1), &bytes) {
                let Event::ToClient(_, answer) = event else { panic!("bit {bit}: {event:?}") };
                // A request that became a Binding request needs no signature.
                let binding = Message::parse(&answer).unwrap().method() == Method::BINDING;
                assert!(binding || matches!(code(&answer), Some(400 | 401 | 438)), "bit {bit}");
            }
            let now = (
                lab.server.stats().allocations,
                lab.server.stats().permissions,
                lab.server.stats().channels,
            );
            assert_eq!(now, before, "bit {bit} of request {}", n % 3);
        }
        user.refresh(&mut lab, 0);
    }
}
