//! The published test vectors (S1): RFC 5769 sections 2.1 to 2.4, and RFC 8489 appendix B.1 as
//! corrected by erratum 6268. Each is read, verified, written again byte for byte, and refused
//! once a bit of it has changed.
#![allow(clippy::unwrap_used, reason = "the code of a test")]

use turn::attribute::{AttributeType, PasswordAlgorithm};
use turn::integrity::{Hash, IntegrityError, Key, userhash};
use turn::message::{Builder, Class, Message, Method, ParseError, TransactionId};
use turn::nonce::SecurityFeatures;

const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
const TRANSACTION: TransactionId =
    TransactionId([0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae]);
const LONG_TERM_TRANSACTION: TransactionId =
    TransactionId([0x78, 0xad, 0x34, 0x33, 0xc6, 0xad, 0x72, 0xc0, 0x29, 0xda, 0x41, 0x2e]);
const MATRIX: &str = "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}";
const MATRIX_PASSWORD: &str = "TheMatrIX";
const PRIORITY: AttributeType = AttributeType(0x0024);
const ICE_CONTROLLED: AttributeType = AttributeType(0x8029);

/// RFC 5769 section 2.1. The padding is 0x20.
const REQUEST: &str = "
    00010058 2112a442 b7e7a701 bc34d686 fa87dfae 80220010 5354554e 20746573 7420636c 69656e74
    00240004 6e0001ff 80290008 932ff9b1 51263b36 00060009 6576746a 3a683676 59202020
    00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2 80280004 e57a3bcf";

/// RFC 5769 section 2.2. The padding is 0x20.
const RESPONSE_V4: &str = "
    0101003c 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220
    00200008 0001a147 e112a643 00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
    80280004 c07d4c96";

/// RFC 5769 section 2.3. The padding is 0x20.
const RESPONSE_V6: &str = "
    01010048 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220
    00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
    00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41 80280004 c8fb0b4c";

/// RFC 5769 section 2.4.
const LONG_TERM: &str = "
    00010060 2112a442 78ad3433 c6ad72c0 29da412e
    00060012 e3839ee3 8388e383 aae38383 e382afe3 82b90000
    0015001c 662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 36347341
    0014000b 6578616d 706c652e 6f726700 00080014 f6702465 6dd64a3e 02b8e071 2e85c9a2 8ca89666";

/// RFC 8489 appendix B.1 as corrected by erratum 6268.
const SHA256: &str = "
    00010090 2112a442 78ad3433 c6ad72c0 29da412e
    001e0020 4a3cf38f ef6992bd a952c678 0417da0f 24819415 569e60b2 05c46e41 407f1704
    00150029 6f624d61 744a6f73 32414141 43662f2f 3439396b 39353464 364f4c33 346f4c39 46535476
    79363473 41000000 0014000b 6578616d 706c652e 6f726700 001d0004 00020000
    001c0020 b5c7bf00 5b6c52a2 1c51c5e8 92f81924 136296cb 927c4314 9309278c c6518e65";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..][..2], 16).unwrap())
        .collect()
}

/// RFC 5769 pads with spaces; padding is ours to choose, and ours is zero.
fn pad_with_spaces(message: &mut [u8], attribute: AttributeType) {
    let parsed = Message::parse(message).unwrap();
    let value = parsed.attribute(attribute).unwrap();
    let end = value.as_ptr() as usize - parsed.as_bytes().as_ptr() as usize + value.len();
    message[end..end.next_multiple_of(4)].fill(b' ');
}

fn sign(message: &mut Vec<u8>, key: &Key) {
    let mut builder = Builder::append_to(message).unwrap();
    builder.integrity(key, Hash::Sha1).fingerprint();
    builder.finish().unwrap();
}

/// Every bit of the vector, flipped, is refused: by the parser, or by the key. The exception is
/// FINGERPRINT's type: with it the message ends in an unknown attribute, which counts for nothing.
fn assert_every_flip_is_refused(vector: &[u8], key: &Key) {
    let fingerprint = vector.len() - 8;
    let has_fingerprint = Message::parse(vector).unwrap().has_fingerprint();
    for bit in 0..vector.len() * 8 {
        let mut changed = vector.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        let accepted = Message::parse(&changed).is_ok_and(|message| key.verify(&message).is_ok());
        let is_type = has_fingerprint && (fingerprint..fingerprint + 2).contains(&(bit / 8));
        assert_eq!(accepted, is_type, "bit {bit}");
    }
}

#[test]
fn the_sample_request_reads_verifies_and_writes() {
    let vector = bytes(REQUEST);
    let key = Key::short_term(PASSWORD);

    let message = Message::parse(&vector).unwrap();
    assert_eq!((message.class(), message.method()), (Class::Request, Method::BINDING));
    assert_eq!(message.transaction(), TRANSACTION);
    assert_eq!(message.software(), Ok(Some("STUN test client")));
    assert_eq!(message.username(), Ok(Some("evtj:h6vY")));
    assert_eq!(message.attribute(PRIORITY), Some(&[0x6e, 0x00, 0x01, 0xff][..]));
    assert_eq!(message.unknown_required().collect::<Vec<_>>(), [PRIORITY]);
    assert_eq!(key.verify(&message), Ok(Hash::Sha1));
    assert!(message.has_fingerprint());

    let mut out = Vec::new();
    let mut builder = Builder::new(&mut out, Class::Request, Method::BINDING, TRANSACTION);
    builder
        .software("STUN test client")
        .attribute(PRIORITY, &[0x6e, 0x00, 0x01, 0xff])
        .attribute(ICE_CONTROLLED, &[0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36])
        .username("evtj:h6vY");
    builder.finish().unwrap();
    pad_with_spaces(&mut out, AttributeType::USERNAME);
    sign(&mut out, &key);
    assert_eq!(out, vector);

    assert_every_flip_is_refused(&vector, &key);
    assert_eq!(Key::short_term("wrong").verify(&message), Err(IntegrityError::Mismatch));
}

#[test]
fn the_sample_responses_read_verify_and_write() {
    for (vector, address) in [
        (RESPONSE_V4, "192.0.2.1:32853"),
        (RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
    ] {
        let (vector, address) = (bytes(vector), address.parse().unwrap());
        let key = Key::short_term(PASSWORD);

        let message = Message::parse(&vector).unwrap();
        assert_eq!((message.class(), message.method()), (Class::Success, Method::BINDING));
        assert_eq!(message.software(), Ok(Some("test vector")));
        assert_eq!(message.xor_mapped_address(), Ok(Some(address)));
        assert_eq!(key.verify(&message), Ok(Hash::Sha1));

        let mut out = Vec::new();
        let mut builder = Builder::new(&mut out, Class::Success, Method::BINDING, TRANSACTION);
        builder.software("test vector").xor_mapped_address(address);
        builder.finish().unwrap();
        pad_with_spaces(&mut out, AttributeType::SOFTWARE);
        sign(&mut out, &key);
        assert_eq!(out, vector);

        assert_every_flip_is_refused(&vector, &key);
        assert_eq!(Key::short_term("wrong").verify(&message), Err(IntegrityError::Mismatch));
    }
}

#[test]
fn a_wrong_fingerprint_is_refused_before_anything_else() {
    let mut vector = bytes(REQUEST);
    *vector.last_mut().unwrap() ^= 1;
    assert_eq!(Message::parse(&vector).err(), Some(ParseError::Fingerprint));
}

#[test]
fn the_long_term_request_reads_verifies_and_writes() {
    let vector = bytes(LONG_TERM);
    let nonce = b"f//499k954d6OL34oL9FSTvy64sA";
    let key = Key::long_term(PasswordAlgorithm::Md5, MATRIX, "example.org", MATRIX_PASSWORD);

    let message = Message::parse(&vector).unwrap();
    assert_eq!(message.username(), Ok(Some(MATRIX)));
    assert_eq!(message.nonce(), Ok(Some(&nonce[..])));
    assert_eq!(message.realm(), Ok(Some("example.org")));
    assert_eq!(SecurityFeatures::of_nonce(nonce), None);
    assert_eq!(key.verify(&message), Ok(Hash::Sha1));

    let mut out = Vec::new();
    let mut builder =
        Builder::new(&mut out, Class::Request, Method::BINDING, LONG_TERM_TRANSACTION);
    builder.username(MATRIX).nonce(nonce).realm("example.org").integrity(&key, Hash::Sha1);
    assert_eq!(builder.finish().unwrap(), vector);

    assert_every_flip_is_refused(&vector, &key);
    let wrong = Key::long_term(PasswordAlgorithm::Md5, MATRIX, "example.org", "TheMatriX");
    assert_eq!(wrong.verify(&message), Err(IntegrityError::Mismatch));
}

#[test]
fn the_sha256_request_with_userhash_reads_verifies_and_writes() {
    let vector = bytes(SHA256);
    assert_eq!(vector.len(), 164);
    let nonce = b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA";
    let key = Key::long_term(PasswordAlgorithm::Sha256, MATRIX, "example.org", MATRIX_PASSWORD);
    let userhash = userhash(MATRIX, "example.org");

    let message = Message::parse(&vector).unwrap();
    assert_eq!(message.userhash(), Ok(Some(&userhash)));
    assert_eq!(message.nonce(), Ok(Some(&nonce[..])));
    assert_eq!(message.password_algorithm(), Ok(Some(Some(PasswordAlgorithm::Sha256))));
    assert_eq!(message.password_algorithms(), Ok(None));
    let features = SecurityFeatures { password_algorithms: false, username_anonymity: true };
    assert_eq!(SecurityFeatures::of_nonce(nonce), Some(features));
    assert_eq!(key.verify(&message), Ok(Hash::Sha256));

    let mut out = Vec::new();
    let mut builder =
        Builder::new(&mut out, Class::Request, Method::BINDING, LONG_TERM_TRANSACTION);
    builder
        .userhash(&userhash)
        .nonce(nonce)
        .realm("example.org")
        .password_algorithm(PasswordAlgorithm::Sha256)
        .integrity(&key, Hash::Sha256);
    assert_eq!(builder.finish().unwrap(), vector);

    assert_every_flip_is_refused(&vector, &key);
    let md5 = Key::long_term(PasswordAlgorithm::Md5, MATRIX, "example.org", MATRIX_PASSWORD);
    assert_eq!(md5.verify(&message), Err(IntegrityError::Mismatch));
}

#[test]
fn the_example_key_of_rfc_8489_comes_out() {
    // RFC 8489 section 9.2.2: MD5("user:realm:pass"), and quotes and trailing NULs do not count.
    let expected = Key::raw(&bytes("8493fbc53ba582fb4c044c456bdc40eb"));
    let key = |user, realm, pass| Key::long_term(PasswordAlgorithm::Md5, user, realm, pass);
    assert_eq!(key("user", "realm", "pass"), expected);
    assert_eq!(key("\"user\"", "\"realm\"\0", "pass\0\0"), expected);
    assert_ne!(key("user", "realm", "Pass"), expected);
}
