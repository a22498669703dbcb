//! The codec against itself: round trips, headers, attributes as a list.
#![allow(clippy::unwrap_used, reason = "the code of a test")]

#[path = "generator/message.rs"]
mod generator;
#[path = "generator/request.rs"]
mod request;

use request::{ID, builder, request};
use turn::Seeded;
use turn::attribute::AttributeType;
use turn::integrity::{Hash, IntegrityError, Key};
use turn::message::{ATTRIBUTES_MAX, Builder, Class, Message, Method, ParseError, is_stun};

#[test]
fn what_is_written_is_read_back() {
    let seed = 0x5EED_0001;
    println!("seed {seed:#x}");
    let mut random = Seeded::new(seed);
    let (mut out, key) = (Vec::new(), Key::raw(b"key"));
    for round in 0..20_000 {
        let generated = generator::message(&mut random, &key, &mut out);
        let message = Message::parse(&out).unwrap_or_else(|error| panic!("{round}: {error}"));
        assert_eq!(message.class(), generated.class, "{round}");
        assert_eq!(message.method(), generated.method, "{round}");
        assert_eq!(message.transaction(), generated.transaction, "{round}");
        for attribute in &generated.attributes {
            assert_eq!(attribute.read(&message).as_ref(), Some(attribute), "{round}");
        }
        assert_eq!(message.attributes().count(), generated.attributes.len(), "{round}");
        assert_eq!(message.has_fingerprint(), generated.fingerprint, "{round}");
        let verified = match (generated.sha1, generated.sha256) {
            (_, true) => Ok(Hash::Sha256),
            (true, false) => Ok(Hash::Sha1),
            (false, false) => Err(IntegrityError::Missing),
        };
        assert_eq!(key.verify(&message), verified, "{round}");
    }
}

#[test]
fn every_type_bit_pattern_is_one_class_and_one_method() {
    let mut out = Vec::new();
    let mut seen = vec![false; 1 << 14];
    for number in 0..0x1000 {
        for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
            let method = Method::new(number).unwrap();
            let bytes = Builder::new(&mut out, class, method, ID).finish().unwrap();
            let message = Message::parse(bytes).unwrap();
            assert_eq!((message.class(), message.method()), (class, method));
            let pattern = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
            assert!(!std::mem::replace(&mut seen[pattern], true));
        }
    }
    assert!(seen.iter().all(|seen| *seen));
    assert_eq!(Method::new(0x1000), None);
    // Known from elsewhere: Allocate request, success and error.
    let allocate = |class| encode(class, Method::ALLOCATE);
    assert_eq!([Class::Request, Class::Success, Class::Error].map(allocate), [0x003, 0x103, 0x113]);
    assert_eq!(encode(Class::Indication, Method::DATA), 0x017);
}

fn encode(class: Class, method: Method) -> u16 {
    let mut out = Vec::new();
    let bytes = Builder::new(&mut out, class, method, ID).finish().unwrap();
    u16::from_be_bytes([bytes[0], bytes[1]])
}

#[test]
fn a_broken_header_is_named() {
    let good = request(&[(AttributeType::LIFETIME, &[0, 0, 2, 88])]);
    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        Message::parse(&bytes).err()
    };
    assert_eq!(broken(&|_| ()), None);
    for len in 0..20 {
        assert_eq!(broken(&|bytes| bytes.truncate(len)), Some(ParseError::Short(len)));
    }
    assert_eq!(broken(&|bytes| bytes[0] |= 0x40), Some(ParseError::NotStun));
    assert_eq!(broken(&|bytes| bytes[0] |= 0x80), Some(ParseError::NotStun));
    for at in 4..8 {
        assert_eq!(broken(&|bytes| bytes[at] ^= 1), Some(ParseError::Cookie));
    }
    assert_eq!(broken(&|bytes| bytes[3] = 7), Some(ParseError::Unaligned(7)));
    let length = |header, actual| Some(ParseError::Length { header, actual });
    assert_eq!(broken(&|bytes| bytes[3] = 4), length(4, 8));
    assert_eq!(broken(&|bytes| bytes[3] = 12), length(12, 8));
    assert_eq!(broken(&|bytes| bytes.push(0)), length(8, 9));
    assert_eq!(broken(&|bytes| bytes[23] = 5), Some(ParseError::Overrun(20)));
    assert!(is_stun(&good) && !is_stun(&good[..19]) && !is_stun(b"GET / HTTP/1.1\r\n\r\n...."));
}

#[test]
fn of_duplicates_the_first_wins() {
    type Type = AttributeType;
    let bytes = request(&[
        (Type::LIFETIME, &[0, 0, 0, 1]),
        (Type::USERNAME, b"first"),
        (Type::LIFETIME, &[0, 0, 0, 2]),
        (Type::USERNAME, b"second"),
    ]);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.lifetime_secs(), Ok(Some(1)));
    assert_eq!(message.username(), Ok(Some("first")));

    let mut out = Vec::new();
    let peers = ["1.2.3.4:5", "[2001:db8::1]:6"].map(|peer| peer.parse().unwrap());
    let mut builder = builder(&mut out);
    builder.xor_peer_address(peers[0]).xor_peer_address(peers[1]);
    let message = Message::parse(builder.finish().unwrap()).unwrap();
    assert_eq!(message.xor_peer_addresses().collect::<Result<Vec<_>, _>>().unwrap(), peers);
    assert_eq!(message.xor_peer_address(), Ok(Some(peers[0])));
}

#[test]
fn unknown_required_attributes_are_listed_once_and_in_order() {
    let bytes = request(&[
        (AttributeType(0x7FFF), &[]),
        (AttributeType(0x8FFF), &[1]),
        (AttributeType(0x0002), &[1, 2]),
        (AttributeType::LIFETIME, &[0; 4]),
        (AttributeType(0x7FFF), &[3]),
        (AttributeType(0x0010), &[]),
    ]);
    let message = Message::parse(&bytes).unwrap();
    let unknown: Vec<_> = message.unknown_required().map(|kind| kind.0).collect();
    assert_eq!(unknown, [0x7FFF, 0x0002, 0x0010]);
    let mut out = Vec::new();
    let mut builder = Builder::reply(&mut out, &message, Class::Error);
    builder.unknown_attributes((0..100).map(AttributeType));
    let reply = Message::parse(builder.finish().unwrap()).unwrap();
    assert_eq!(reply.unknown_attributes().unwrap().unwrap().count(), 32);
    assert_eq!((reply.transaction(), reply.method()), (ID, Method::ALLOCATE));
}

#[test]
fn a_message_has_a_limited_number_of_attributes() {
    for (count, fits) in [(ATTRIBUTES_MAX, true), (ATTRIBUTES_MAX + 1, false)] {
        let bytes = request(&vec![(AttributeType::DONT_FRAGMENT, &[][..]); count]);
        let expected = (!fits).then_some(ParseError::TooManyAttributes);
        assert_eq!(Message::parse(&bytes).err(), expected);
    }
}
