//! STUN messages: what parses is read alike by a plain walk over the bytes and by `stun-types`.
//!
//! Each input is tried as it is, and once more with its header put right, so that inputs get past
//! cookie and length to the attributes.

use stun_types::message::Message as Oracle;
use turn::attribute::AttributeType;
use turn::integrity::{Hash, Key};
use turn::message::{Builder, Class, Message, Method, ParseError, TransactionId, is_stun};

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

pub(crate) fn run(bytes: &[u8]) {
    check(bytes);
    check(&repaired(bytes));
}

/// The same bytes with a header that is right: two zero bits, the cookie, the length.
pub(crate) fn repaired(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().clamp(20, 20 + 65532).next_multiple_of(4), 0);
    bytes[0] &= 0x3f;
    let length = (bytes.len() - 20) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes[4..8].copy_from_slice(&COOKIE);
    bytes
}

fn check(bytes: &[u8]) {
    let oracle = Oracle::from_bytes(bytes);
    let message = match Message::parse(bytes) {
        Ok(message) => message,
        Err(error) => return refused(error, oracle.is_ok(), bytes),
    };
    assert!(is_stun(bytes));
    let plain = walk(bytes);
    let ours: Vec<_> = message.attributes().map(|a| (a.kind.0, a.value)).collect();
    let ending = plain.iter().position(|(kind, _)| matches!(kind, 0x0008 | 0x001c | 0x8028));
    assert_eq!(ours, plain[..ending.unwrap_or(plain.len())]);
    let oracle = oracle.expect("what we accept the oracle accepts");
    assert_eq!(message.method().number(), oracle.method().value());
    assert_eq!(&bytes[8..20], message.transaction().0);
    read_everything(&message);
    rebuilt(&message, &ours);
}

/// The oracle is laxer; these are the reasons for which we refuse what it accepts.
fn refused(error: ParseError, oracle_accepts: bool, bytes: &[u8]) {
    let named = matches!(
        error,
        ParseError::Length { .. }
            | ParseError::Unaligned(_)
            | ParseError::FingerprintPlace
            | ParseError::TooManyAttributes
            | ParseError::Overrun(_)
            | ParseError::Fingerprint
    );
    assert!(named || !oracle_accepts, "{error}: {bytes:02x?}");
}

/// All attributes, by arithmetic alone.
fn walk(bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let (mut at, mut found) = (20, Vec::new());
    while at < bytes.len() {
        let kind = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let size = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        found.push((kind, &bytes[at + 4..at + 4 + size]));
        at += 4 + size.div_ceil(4) * 4;
    }
    assert_eq!(at, bytes.len(), "a message ends with an attribute");
    found
}

/// Every getter, whatever it says: it must return.
fn read_everything(message: &Message<'_>) {
    let _ = (message.mapped_address(), message.username(), message.error_code());
    let _ = message.unknown_attributes().map(|types| types.map(Iterator::count));
    let _ = (message.channel_number(), message.lifetime_secs(), message.data());
    let _ = (message.xor_peer_addresses().count(), message.realm(), message.nonce());
    let _ = (message.xor_relayed_addresses().count(), message.requested_address_family());
    let _ = (message.even_port(), message.requested_transport(), message.dont_fragment());
    let _ = (message.password_algorithm(), message.userhash(), message.xor_mapped_address());
    let _ = (message.reservation_token(), message.additional_address_family());
    let _ = (message.address_error_code(), message.icmp(), message.software());
    let _ = message.password_algorithms().map(|list| list.map(|list| list.iter().count()));
    let _ = (message.alternate_domain(), message.alternate_server(), message.connection_id());
    let _ = (message.mobility_ticket(), message.access_token(), message.padding());
    let _ = (message.third_party_authorization(), message.change_request());
    let _ = (message.response_port(), message.response_origin(), message.other_address());
    let unknown: Vec<_> = message.unknown_required().collect();
    assert!(unknown.iter().all(|kind| kind.is_comprehension_required() && !kind.is_known()));
    let key = Key::raw(b"not the key");
    assert!(key.verify(message).is_err(), "signed with a key that nobody has");
    let _ = (message.signature(Hash::Sha1), message.signature(Hash::Sha256));
    let _ = format!("{message:?}");
}

/// The attributes written anew, signed and summed, are read as they were.
fn rebuilt(message: &Message<'_>, attributes: &[(u16, &[u8])]) {
    let mut out = vec![0xee; 64];
    let mut builder =
        Builder::new(&mut out, message.class(), message.method(), message.transaction());
    for (kind, value) in attributes {
        builder.attribute(AttributeType(*kind), value);
    }
    let key = Key::short_term("secret");
    builder.integrity(&key, Hash::Sha1).integrity(&key, Hash::Sha256).fingerprint();
    // three attributes more may be too many
    let Ok(_) = builder.finish() else { return };
    let again = match Message::parse(&out) {
        Err(ParseError::TooManyAttributes) => return,
        parsed => parsed.expect("we read what we write"),
    };
    assert_eq!((again.class(), again.method()), (message.class(), message.method()));
    let read: Vec<_> = again.attributes().map(|a| (a.kind.0, a.value)).collect();
    assert_eq!(read, attributes);
    assert_eq!(key.verify(&again), Ok(Hash::Sha256));
    assert!(again.has_fingerprint());
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let key = Key::short_term("secret");
    let methods = [Method::BINDING, Method::ALLOCATE, Method::CHANNEL_BIND, Method::SEND];
    let build = |(at, method): (usize, &Method)| {
        let mut out = Vec::new();
        let id = TransactionId([at as u8; 12]);
        let mut builder = Builder::new(&mut out, Class::Request, *method, id);
        builder.username("alice").realm("example.org").nonce(b"nonce").lifetime_secs(600);
        builder.xor_peer_address(([192, 0, 2, 1], 9).into()).data(b"data").dont_fragment();
        if at % 2 == 1 {
            builder.integrity(&key, Hash::Sha256).fingerprint();
        }
        builder.finish().unwrap();
        out
    };
    methods.iter().enumerate().map(build).collect()
}
