//! This program's codec: the published vectors (S1), and `stun-types` as a second opinion.

use turnwire_conformance::codec::{
    Algorithm, Answer, Hash, Writer, attribute, kind, long_term_key, userhash,
};

/// RFC 5769 section 2.4: a request with long-term credentials.
const LONG_TERM: &str = "
    00010060 2112a442 78ad3433 c6ad72c0 29da412e
    00060012 e3839ee3 8388e383 aae38383 e382afe3 82b90000
    0015001c 662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 36347341
    0014000b 6578616d 706c652e 6f726700 00080014 f6702465 6dd64a3e 02b8e071 2e85c9a2 8ca89666";

/// RFC 5769 section 2.2: a response with an IPv4 address; its padding is 0x20.
const RESPONSE_V4: &str = "
    0101003c 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220
    00200008 0001a147 e112a643 00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
    80280004 c07d4c96";

/// RFC 5769 section 2.3: the same with an IPv6 address.
const RESPONSE_V6: &str = "
    01010048 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220
    00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
    00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41 80280004 c8fb0b4c";

/// RFC 8489 appendix B.1 as corrected by erratum 6268.
const SHA256: &str = "
    00010090 2112a442 78ad3433 c6ad72c0 29da412e
    001e0020 4a3cf38f ef6992bd a952c678 0417da0f 24819415 569e60b2 05c46e41 407f1704
    00150029 6f624d61 744a6f73 32414141 43662f2f 3439396b 39353464 364f4c33 346f4c39 46535476
    79363473 41000000 0014000b 6578616d 706c652e 6f726700 001d0004 00020000
    001c0020 b5c7bf00 5b6c52a2 1c51c5e8 92f81924 136296cb 927c4314 9309278c c6518e65";

const MATRIX: &str = "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}";
const SHORT_TERM: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    let byte = |at: usize| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap();
    (0..digits.len() / 2).map(byte).collect()
}

#[test]
fn the_vectors_are_read_verified_and_refused_once_changed() {
    let long_term = long_term_key(Algorithm::Md5, MATRIX, "example.org", "TheMatrIX");
    let sha256 = long_term_key(Algorithm::Sha256, MATRIX, "example.org", "TheMatrIX");
    for (vector, hash, key) in [
        (LONG_TERM, Hash::Sha1, long_term),
        (RESPONSE_V4, Hash::Sha1, SHORT_TERM.to_vec()),
        (RESPONSE_V6, Hash::Sha1, SHORT_TERM.to_vec()),
        (SHA256, Hash::Sha256, sha256),
    ] {
        let mut raw = bytes(vector);
        let message = Answer::read(&raw).unwrap();
        assert_eq!(message.verify(hash, &key), Ok(()), "{vector}");
        assert_eq!(message.verify_fingerprint(), Ok(()), "{vector}");
        raw[30] ^= 1;
        let changed = Answer::read(&raw).unwrap();
        assert!(changed.verify(hash, &key).is_err(), "{vector}");
    }
}

#[test]
fn the_vectors_are_written_byte_for_byte() {
    // given
    let id = bytes("78ad3433 c6ad72c0 29da412e").try_into().unwrap();
    let nonce = b"f//499k954d6OL34oL9FSTvy64sA";
    let key = long_term_key(Algorithm::Md5, MATRIX, "example.org", "TheMatrIX");
    // when
    let legacy = Writer::new(kind::BINDING, id)
        .with(attribute::USERNAME, MATRIX.as_bytes())
        .with(attribute::NONCE, nonce)
        .with(attribute::REALM, b"example.org")
        .sign(Hash::Sha1, &key);
    let key = long_term_key(Algorithm::Sha256, MATRIX, "example.org", "TheMatrIX");
    let modern = Writer::new(kind::BINDING, id)
        .with(attribute::USERHASH, &userhash(MATRIX, "example.org"))
        .with(attribute::NONCE, &[b"obMatJos2AAAC", &nonce[..]].concat())
        .with(attribute::REALM, b"example.org")
        .with(attribute::PASSWORD_ALGORITHM, &Algorithm::Sha256.value())
        .sign(Hash::Sha256, &key);
    // then
    assert_eq!(legacy.bytes(), bytes(LONG_TERM));
    assert_eq!(modern.bytes(), bytes(SHA256));
}

#[test]
fn addresses_survive_the_way_there_and_back() {
    for text in ["192.0.2.1:32853", "[2001:db8:1234:5678:11:2233:4455:6677]:32853"] {
        let address = text.parse().unwrap();
        let w = Writer::new(0x0101, [7; 12]);
        let raw = w.with_xor_address(attribute::XOR_MAPPED_ADDRESS, address).bytes();
        let read = Answer::read(&raw).unwrap();
        assert_eq!(read.xor_address(attribute::XOR_MAPPED_ADDRESS), Some(address));
    }
    let v4 = Answer::read(&bytes(RESPONSE_V4)).unwrap();
    let mapped = v4.xor_address(attribute::XOR_MAPPED_ADDRESS);
    assert_eq!(mapped, Some("192.0.2.1:32853".parse().unwrap()));
}

#[test]
fn another_codec_reads_what_is_written_here() {
    use stun_types::message::{IntegrityAlgorithm, LongTermKeyCredentials, Message};
    // given
    let theirs = LongTermKeyCredentials::new("user".into(), "password".into(), "realm".into());
    let key = long_term_key(Algorithm::Md5, "user", "realm", "password");
    // when
    let raw = Writer::new(kind::ALLOCATE, [9; 12])
        .with(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
        .with(attribute::USERNAME, b"user")
        .with(attribute::REALM, b"realm")
        .with(attribute::NONCE, b"nonce")
        .sign(Hash::Sha1, &key)
        .fingerprint(0)
        .bytes();
    // then
    let read = Message::from_bytes(&raw).unwrap();
    assert_eq!(read.method().value(), 3);
    let key = theirs.make_key(IntegrityAlgorithm::Sha1);
    let algorithm = read.validate_integrity_with_key(&key).unwrap();
    assert_eq!(algorithm, IntegrityAlgorithm::Sha1);
}

#[test]
fn message_types_are_as_the_figure_draws_them() {
    assert_eq!(kind::of(1, 0), kind::BINDING);
    assert_eq!(kind::of(1, 2), kind::success(kind::BINDING));
    assert_eq!(kind::of(3, 3), kind::error(kind::ALLOCATE));
    assert_eq!(kind::of(6, 1), kind::SEND);
    // RFC 8489 erratum 8900: the masks are 0xF80, 0x070, 0x00F.
    assert_eq!(kind::of(0xfff, 3), 0x3fff);
    assert_eq!(kind::of(0xfff, 0), 0x3eef);
}
