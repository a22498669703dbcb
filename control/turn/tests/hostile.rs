//! Reused buffers leak nothing (S8), and a changed signed request is never accepted (S6).
#![allow(clippy::unwrap_used, reason = "the code of a test")]

#[path = "generator/message.rs"]
mod generator;

use std::time::Duration;

use turn::Seeded;
use turn::attribute::PasswordAlgorithm;
use turn::credentials::Credentials;
use turn::integrity::{Hash, Key};
use turn::message::{Builder, ChannelData, Class, Message, Method, TransactionId};

const CANARY: u8 = 0xCA;

/// A buffer whose capacity, not its length, is full of canaries: what a message left behind.
fn poison(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(2048, CANARY);
}

#[test]
fn a_reused_buffer_never_shows_what_was_in_it() {
    let seed = 0x5EED_0005;
    println!("seed {seed:#x}");
    let mut random = Seeded::new(seed);
    let key = Key::raw(b"key");
    let (mut fresh, mut reused) = (Vec::new(), Vec::new());
    for round in 0..100_000 {
        let mut again = random.clone();
        fresh = Vec::with_capacity(fresh.len());
        poison(&mut reused);
        if round % 10 == 0 {
            let data = vec![1; round / 10 % 64];
            let channel = turn::attribute::ChannelNumber::MIN;
            ChannelData { channel, data: &data }.write(&mut fresh, true).unwrap();
            ChannelData { channel, data: &data }.write(&mut reused, true).unwrap();
            assert!(fresh[4 + data.len()..].iter().all(|byte| *byte == 0), "{round}");
        } else {
            generator::message(&mut random, &key, &mut fresh);
            generator::message(&mut again, &key, &mut reused);
            assert_padding_is_zero(&fresh, round);
        }
        assert_eq!(fresh, reused, "{round}");
    }
}

/// Walks the attributes by hand, independently of the codec.
fn assert_padding_is_zero(bytes: &[u8], round: usize) {
    let mut at = 20;
    while at < bytes.len() {
        let len = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        let (end, next) = (at + 4 + len, at + 4 + len.next_multiple_of(4));
        assert!(bytes[end..next].iter().all(|byte| *byte == 0), "{round}");
        at = next;
    }
    assert_eq!(at, bytes.len(), "{round}");
}

#[test]
fn a_buffer_that_failed_is_left_empty() {
    let mut buffer = vec![CANARY; 2048];
    let mut builder =
        Builder::new(&mut buffer, Class::Request, Method::BINDING, TransactionId([0; 12]));
    builder.username("alice").data(&[0; 70_000]);
    assert!(builder.finish().is_err());
    assert!(buffer.is_empty());
}

#[test]
fn of_100000_bit_flips_in_signed_requests_none_is_accepted() {
    let seed = 0x5EED_0006;
    println!("seed {seed:#x}");
    let mut random = Seeded::new(seed);
    let realm = "example.org";
    let mut credentials = Credentials::new(realm).unwrap();
    credentials.add_user("alice", "secret").unwrap();
    credentials.add_rest_secret(b"shared").unwrap();
    let offered = credentials.password_algorithms();
    let rest = "1893456000:bob";
    let rest_password = turn::credentials::rest_password(b"shared", rest);
    let mut out = Vec::new();
    let mut flips = 0;
    while flips < 100_000 {
        let (user, password) =
            [("alice", "secret"), (rest, rest_password.as_str())][random.below(2)];
        let (algorithm, hash) =
            [(PasswordAlgorithm::Md5, Hash::Sha1), (PasswordAlgorithm::Sha256, Hash::Sha256)]
                [random.below(2)];
        let key = Key::long_term(algorithm, user, realm, password);
        let id = TransactionId(generator::array(&mut random));
        let mut builder = Builder::new(&mut out, Class::Request, Method::ALLOCATE, id);
        builder.requested_transport(17).username(user).realm(realm).nonce(b"nonce");
        if algorithm == PasswordAlgorithm::Sha256 {
            builder.password_algorithms(offered).password_algorithm(algorithm);
        }
        builder.integrity(&key, hash);
        builder.finish().unwrap();
        let message = Message::parse(&out).unwrap();
        let now = Duration::from_secs(1_700_000_000);
        let (account, reply) = credentials.authenticate(&message, offered, now).unwrap();
        assert_eq!((account.username(), reply), (user, hash));

        for _ in 0..100 {
            let bit = random.below(out.len() * 8);
            out[bit / 8] ^= 1 << (bit % 8);
            if let Ok(message) = Message::parse(&out) {
                assert!(credentials.authenticate(&message, offered, now).is_err(), "bit {bit}");
                assert!(account.verify(&message, offered).is_err(), "bit {bit}");
            }
            out[bit / 8] ^= 1 << (bit % 8);
            flips += 1;
        }
    }
}
