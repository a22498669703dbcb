//! The codec against `stun-types` and `turn-types`, on generated and on damaged messages.
//!
//! The oracle is laxer: it reads on past the header's length and gives up silently at the first
//! attribute that should not be there. So: what we accept it accepts, with the same contents;
//! what it accepts and we refuse, we refuse for one of a few named reasons.
#![allow(clippy::unwrap_used, reason = "the code of a test")]

#[path = "generator/message.rs"]
mod generator;

use std::net::SocketAddr;

use generator::Attr;
use stun_types::attribute::{
    self as oracle, Attribute as _, AttributeFromRaw, AttributeStaticType,
};
use stun_types::message::{
    IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message as OracleMessage,
    MessageClass, MessageType, MessageWrite, MessageWriteExt, MessageWriteVec,
};
use turn::attribute::{AttributeType, Family, PasswordAlgorithm};
use turn::integrity::{Hash, Key};
use turn::message::{Class, Message, Method, ParseError};
use turn::{Random, Seeded};
use turn_types::attribute as turn_oracle;

const USER: (&str, &str, &str) = ("alice", "example.org", "secret");

/// The same key for both; with SHA-256 throughout, as the oracle ties a key to its hash.
fn keys(algorithm: PasswordAlgorithm) -> (Key, IntegrityKey) {
    let (user, realm, password) = USER;
    let theirs = LongTermKeyCredentials::new(user.into(), password.into(), realm.into());
    let tied = match algorithm {
        PasswordAlgorithm::Md5 => IntegrityAlgorithm::Sha1,
        PasswordAlgorithm::Sha256 => IntegrityAlgorithm::Sha256,
    };
    (Key::long_term(algorithm, user, realm, password), theirs.make_key(tied))
}

fn class_of(class: Class) -> MessageClass {
    match class {
        Class::Request => MessageClass::Request,
        Class::Indication => MessageClass::Indication,
        Class::Success => MessageClass::Success,
        Class::Error => MessageClass::Error,
    }
}

/// Header and attributes are the same in both.
fn assert_same(ours: &Message<'_>, theirs: &OracleMessage<'_>, case: usize) {
    assert_eq!(class_of(ours.class()), theirs.class(), "{case}");
    assert_eq!(ours.method().number(), theirs.method().value(), "{case}");
    let mut id = [0; 16];
    id[4..].copy_from_slice(&ours.transaction().0);
    assert_eq!(u128::from_be_bytes(id), theirs.transaction_id().into(), "{case}");
    let mut rest = theirs.iter_attributes();
    for attribute in ours.attributes() {
        let (_, raw) = rest.next().unwrap_or_else(|| panic!("{case}: {}", attribute.kind));
        assert_eq!(raw.get_type().value(), attribute.kind.0, "{case}");
        assert_eq!(&*raw.value, attribute.value, "{case}");
    }
    // The oracle's list goes on with the attributes that end a message, and only these.
    const ENDING: [AttributeType; 3] = [
        AttributeType::MESSAGE_INTEGRITY,
        AttributeType::MESSAGE_INTEGRITY_SHA256,
        AttributeType::FINGERPRINT,
    ];
    if let Some((_, next)) = rest.next() {
        assert!(ENDING.contains(&AttributeType(next.get_type().value())), "{case}: {next}");
    }
}

fn theirs<'a, A: AttributeFromRaw<'a> + AttributeStaticType>(
    message: &'a OracleMessage<'a>,
) -> Option<A> {
    message.attribute::<A>().ok()
}

/// The attribute as the oracle's own type reads it; `None` where it has none, or reads less.
fn read(attribute: &Attr, message: &OracleMessage<'_>) -> Option<Attr> {
    let id = message.transaction_id();
    let family = |family| match family {
        turn_types::AddressFamily::IPV4 => Family::V4,
        turn_types::AddressFamily::IPV6 => Family::V6,
    };
    let algorithm = |value| match value {
        oracle::PasswordAlgorithmValue::MD5 => PasswordAlgorithm::Md5,
        oracle::PasswordAlgorithmValue::SHA256 => PasswordAlgorithm::Sha256,
    };
    Some(match attribute {
        Attr::Username(_) => {
            Attr::Username(theirs::<oracle::Username>(message)?.username().to_owned())
        }
        Attr::Realm(_) => Attr::Realm(theirs::<oracle::Realm>(message)?.realm().to_owned()),
        Attr::Software(_) => {
            Attr::Software(theirs::<oracle::Software>(message)?.software().to_owned())
        }
        Attr::Userhash(_) => Attr::Userhash(*theirs::<oracle::Userhash>(message)?.hash()),
        Attr::ErrorCode(..) => {
            let error = theirs::<oracle::ErrorCode>(message)?;
            let code = turn::attribute::Code::new(error.code())?;
            Attr::ErrorCode(code, error.reason().to_owned())
        }
        Attr::XorMappedAddress(_) => {
            Attr::XorMappedAddress(theirs::<oracle::XorMappedAddress>(message)?.addr(id))
        }
        Attr::AlternateServer(_) => {
            Attr::AlternateServer(theirs::<oracle::AlternateServer>(message)?.server())
        }
        Attr::PasswordAlgorithm(_) => Attr::PasswordAlgorithm(algorithm(
            theirs::<oracle::PasswordAlgorithm>(message)?.algorithm(),
        )),
        Attr::PasswordAlgorithms(_) => {
            let list = theirs::<oracle::PasswordAlgorithms>(message)?;
            Attr::PasswordAlgorithms(list.algorithms().iter().copied().map(algorithm).collect())
        }
        Attr::XorPeerAddress(_) => {
            Attr::XorPeerAddress(theirs::<turn_oracle::XorPeerAddress>(message)?.addr(id))
        }
        Attr::XorRelayedAddress(_) => {
            Attr::XorRelayedAddress(theirs::<turn_oracle::XorRelayedAddress>(message)?.addr(id))
        }
        Attr::Lifetime(_) => Attr::Lifetime(theirs::<turn_oracle::Lifetime>(message)?.seconds()),
        Attr::ChannelNumber(_) => Attr::ChannelNumber(
            theirs::<turn_oracle::ChannelNumber>(message)?.channel().try_into().ok()?,
        ),
        Attr::RequestedTransport(_) => {
            Attr::RequestedTransport(theirs::<turn_oracle::RequestedTransport>(message)?.protocol())
        }
        Attr::EvenPort(_) => Attr::EvenPort(theirs::<turn_oracle::EvenPort>(message)?.requested()),
        Attr::ReservationToken(_) => Attr::ReservationToken(
            theirs::<turn_oracle::ReservationToken>(message)?.token().to_be_bytes(),
        ),
        Attr::Data(_) => {
            let raw = message.raw_attribute(turn_oracle::Data::TYPE)?;
            Attr::Data(turn_oracle::Data::from_raw_ref(&raw).ok()?.data().to_vec())
        }
        Attr::DontFragment => {
            theirs::<turn_oracle::DontFragment>(message)?;
            Attr::DontFragment
        }
        Attr::RequestedAddressFamily(_) => Attr::RequestedAddressFamily(family(
            theirs::<turn_oracle::RequestedAddressFamily>(message)?.family(),
        )),
        Attr::AdditionalAddressFamily(_) => Attr::AdditionalAddressFamily(family(
            theirs::<turn_oracle::AdditionalAddressFamily>(message)?.family(),
        )),
        Attr::Icmp(_) => {
            let icmp = theirs::<turn_oracle::Icmp>(message)?;
            Attr::Icmp(turn::attribute::Icmp {
                kind: icmp.icmp_type(),
                code: icmp.code(),
                data: icmp.data(),
            })
        }
        _ => return None,
    })
}

#[test]
fn the_oracle_reads_what_we_write() {
    let seed = 0x5EED_0002;
    println!("seed {seed:#x}");
    let mut random = Seeded::new(seed);
    let (key, their_key) = keys(PasswordAlgorithm::Sha256);
    let (legacy, their_legacy) = keys(PasswordAlgorithm::Md5);
    let mut out = Vec::new();
    let mut compared = 0;
    for case in 0..10_000 {
        let mut shadow = random.clone();
        let generated = generator::message(&mut random, &key, &mut out);
        if generated.sha1 && !generated.sha256 {
            // The oracle signs SHA-1 under the MD5 key only.
            generator::message(&mut shadow, &legacy, &mut out);
        }
        let ours = Message::parse(&out).unwrap();
        let theirs = OracleMessage::from_bytes(&out)
            .unwrap_or_else(|error| panic!("{case}: {error}: {ours:?}"));
        assert_same(&ours, &theirs, case);
        match (generated.sha1, generated.sha256) {
            (_, true) => {
                let verified = theirs.validate_integrity_with_key(&their_key);
                assert_eq!(verified.unwrap(), IntegrityAlgorithm::Sha256, "{case}");
            }
            (true, false) => {
                let verified = theirs.validate_integrity_with_key(&their_legacy);
                assert_eq!(verified.unwrap(), IntegrityAlgorithm::Sha1, "{case}");
            }
            (false, false) => assert!(theirs.validate_integrity_with_key(&their_key).is_err()),
        }
        for attribute in &generated.attributes {
            if let Some(read) = read(attribute, &theirs) {
                assert_eq!(&read, attribute, "{case}");
                compared += 1;
            }
        }
    }
    assert!(compared > 20_000, "{compared}");
}

#[test]
fn we_read_what_the_oracle_writes() {
    let seed = 0x5EED_0003;
    println!("seed {seed:#x}");
    let mut random = Seeded::new(seed);
    for case in 0..5_000 {
        let method = Method::new(random.below(0x100) as u16).unwrap();
        let class = [Class::Request, Class::Indication, Class::Success, Class::Error][case % 4];
        let mtype = MessageType::from_class_method(
            class_of(class),
            stun_types::message::Method::new(method.number()),
        );
        let mut id = [0; 16];
        random.fill(&mut id[4..]);
        let id = u128::from_be_bytes(id).into();
        let mut writer = OracleMessage::builder(mtype, id, MessageWriteVec::new());
        let mut octets = [0; 4];
        random.fill(&mut octets);
        let peer = SocketAddr::from((octets, random.below(65536) as u16));
        let name = format!("user{}", random.next_u64());
        let data = vec![random.below(256) as u8; random.below(100)];
        let secs = random.next_u64() as u32;
        writer.add_attribute(&oracle::Username::new(&name).unwrap()).unwrap();
        writer.add_attribute(&oracle::Realm::new(USER.1).unwrap()).unwrap();
        writer.add_attribute(&turn_oracle::XorPeerAddress::new(peer, id)).unwrap();
        writer.add_attribute(&turn_oracle::Lifetime::new(secs)).unwrap();
        writer.add_attribute(&turn_oracle::Data::new(&data)).unwrap();
        let (algorithm, hash, tied) = match random.below(2) {
            0 => (PasswordAlgorithm::Md5, Hash::Sha1, IntegrityAlgorithm::Sha1),
            _ => (PasswordAlgorithm::Sha256, Hash::Sha256, IntegrityAlgorithm::Sha256),
        };
        let (key, their_key) = keys(algorithm);
        writer.add_message_integrity_with_key(&their_key, tied).unwrap();
        writer.add_fingerprint().unwrap();
        let bytes = writer.finish();

        let message = Message::parse(&bytes).unwrap();
        assert_same(&message, &OracleMessage::from_bytes(&bytes).unwrap(), case);
        assert_eq!((message.class(), message.method()), (class, method));
        assert_eq!(message.username(), Ok(Some(name.as_str())));
        assert_eq!(message.realm(), Ok(Some(USER.1)));
        assert_eq!(message.xor_peer_address(), Ok(Some(peer)));
        assert_eq!(message.lifetime_secs(), Ok(Some(secs)));
        assert_eq!(message.data(), Some(&data[..]));
        assert_eq!(key.verify(&message), Ok(hash));
        assert!(message.has_fingerprint());
    }
}

#[test]
fn on_damaged_messages_we_panic_never_and_accept_no_more_than_the_oracle() {
    let seed = 0x5EED_0004;
    println!("seed {seed:#x}");
    let mut random = Seeded::new(seed);
    let (key, their_key) = keys(PasswordAlgorithm::Sha256);
    let mut out = Vec::new();
    let (mut accepted, mut refused) = (0, 0);
    for case in 0..40_000 {
        let generated = generator::message(&mut random, &key, &mut out);
        generator::mutate(&mut random, &mut out);
        let theirs = OracleMessage::from_bytes(&out);
        match Message::parse(&out) {
            Ok(ours) => {
                let theirs = theirs.unwrap_or_else(|error| panic!("{case}: {error}: {ours:?}"));
                assert_same(&ours, &theirs, case);
                read_everything(&ours, &generated.attributes);
                if key.verify(&ours) == Ok(Hash::Sha256) {
                    // An attribute that ends the oracle's reading may stand before the SHA-256
                    // that we go on to read (as RFC 8489 section 9 says), never the reverse.
                    assert!(ours.signature(Hash::Sha256).is_some());
                } else {
                    let verified = theirs.validate_integrity_with_key(&their_key);
                    assert!(!matches!(verified, Ok(IntegrityAlgorithm::Sha256)), "{case}");
                }
                accepted += 1;
            }
            Err(error) => {
                let named = matches!(
                    error,
                    ParseError::Length { .. }
                        | ParseError::Unaligned(_)
                        | ParseError::FingerprintPlace
                        | ParseError::TooManyAttributes
                        | ParseError::Overrun(_)
                        | ParseError::Fingerprint
                );
                assert!(theirs.is_err() || named, "{case}: {error}");
                refused += 1;
            }
        }
    }
    assert!(accepted > 2_000 && refused > 10_000, "{accepted} accepted, {refused} refused");
}

/// Every getter, whatever it says: it must return.
fn read_everything(message: &Message<'_>, attributes: &[Attr]) {
    let _ = (message.mapped_address(), message.username(), message.error_code());
    let _ = message.unknown_attributes().map(|types| types.map(Iterator::count));
    let _ = (message.channel_number(), message.lifetime_secs(), message.data());
    let _ = (message.xor_peer_addresses().count(), message.realm(), message.nonce());
    let _ = (message.xor_relayed_addresses().count(), message.requested_address_family());
    let _ = (message.even_port(), message.requested_transport(), message.dont_fragment());
    let _ = (message.password_algorithm(), message.userhash(), message.xor_mapped_address());
    let _ = (message.reservation_token(), message.additional_address_family());
    let _ = message.address_error_code();
    let _ = message.password_algorithms().map(|list| list.map(|list| list.iter().count()));
    let _ = (message.alternate_domain(), message.icmp(), message.software());
    let _ = (message.connection_id(), message.mobility_ticket(), message.access_token());
    let _ = (message.third_party_authorization(), message.change_request(), message.padding());
    let _ = (message.response_port(), message.response_origin(), message.other_address());
    let _ = (message.alternate_server(), message.unknown_required().count());
    let _ = (message.signature(Hash::Sha1), message.signature(Hash::Sha256));
    let _ = format!("{message:?}");
    let _ = attributes.len();
}
