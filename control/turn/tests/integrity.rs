//! The attributes that end a message: MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256, FINGERPRINT.
#![allow(clippy::unwrap_used, reason = "the code of a test")]

#[path = "generator/request.rs"]
mod request;

use request::{ID, builder, request};
use turn::attribute::{AttributeType, Fault};
use turn::integrity::{Hash, IntegrityError, Key};
use turn::message::{BuildError, Builder, Class, Message, Method, ParseError};

fn key() -> Key {
    Key::raw(b"key")
}

/// The header's length field, after something has been appended by hand.
fn fix_length(bytes: &mut [u8]) {
    let len = (bytes.len() - 20) as u16;
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
}

/// S6: whatever is appended behind an integrity attribute, nothing of it is seen.
#[test]
fn attributes_behind_the_integrity_are_not_there() {
    type Type = AttributeType;
    let key = key();
    let mut cases = 0;
    let appended: Vec<_> =
        AttributeType::KNOWN.iter().copied().chain([AttributeType(0x7ABC)]).collect();
    for hashes in [&[Hash::Sha1][..], &[Hash::Sha256], &[Hash::Sha1, Hash::Sha256]] {
        for &kind in &appended {
            if kind == Type::FINGERPRINT || kind == Type::MESSAGE_INTEGRITY_SHA256 {
                continue; // Those may follow, and are tested where they do.
            }
            let mut out = Vec::new();
            let mut builder = builder(&mut out);
            builder.username("alice");
            for hash in hashes {
                builder.integrity(&key, *hash);
            }
            builder.finish().unwrap();
            let signed = out.clone();
            out.extend_from_slice(&kind.0.to_be_bytes());
            out.extend_from_slice(&[0, 20]);
            out.extend_from_slice(&[0x41; 20]);
            fix_length(&mut out);

            let message = Message::parse(&out).unwrap();
            assert_eq!(message.attributes().count(), 1, "{kind} behind {hashes:?}");
            assert_eq!(message.has(kind), kind == Type::USERNAME);
            assert_eq!(message.username(), Ok(Some("alice")));
            assert_eq!(message.unknown_required().count(), 0);
            assert_eq!(key.verify(&message), Ok(*hashes.last().unwrap()));
            let signature = message.signature(Hash::Sha1).map(|signature| signature.value);
            let before = Message::parse(&signed).unwrap();
            assert_eq!(signature, before.signature(Hash::Sha1).map(|signature| signature.value));
            cases += 1;
        }
    }
    assert!(cases >= 84, "{cases}");
}

#[test]
fn a_forged_integrity_behind_sha256_uncovers_nothing_between() {
    // given a request signed with SHA-256 alone
    let key = key();
    let mut out = Vec::new();
    let mut builder = builder(&mut out);
    builder.username("alice").integrity(&key, Hash::Sha256);
    builder.finish().unwrap();
    // when somebody appends LIFETIME and a MESSAGE-INTEGRITY
    out.extend_from_slice(&[0, 0x0D, 0, 4, 0, 0, 0, 0]);
    out.extend_from_slice(&[0, 8, 0, 20]);
    out.extend_from_slice(&[0; 20]);
    fix_length(&mut out);
    // then neither is seen
    let message = Message::parse(&out).unwrap();
    assert_eq!(message.lifetime_secs(), Ok(None));
    assert!(message.signature(Hash::Sha1).is_none());
    assert_eq!(key.verify(&message), Ok(Hash::Sha256));
}

#[test]
fn sha256_is_preferred_and_a_wrong_one_is_fatal() {
    let key = key();
    let mut out = Vec::new();
    let mut builder = builder(&mut out);
    builder.username("alice").integrity(&key, Hash::Sha1).integrity(&key, Hash::Sha256);
    builder.finish().unwrap();
    assert_eq!(key.verify(&Message::parse(&out).unwrap()), Ok(Hash::Sha256));
    *out.last_mut().unwrap() ^= 1;
    let message = Message::parse(&out).unwrap();
    assert_eq!(key.verify(&message), Err(IntegrityError::Mismatch));
    let sha1 = message.signature(Hash::Sha1).unwrap();
    assert_eq!(key.verify_signature(&sha1, 32), Ok(()));
}

#[test]
fn a_truncated_sha256_needs_permission() {
    let key = key();
    let mut out = Vec::new();
    for len in 0..=40 {
        let mut builder = builder(&mut out);
        builder.integrity_sha256_truncated(&key, len);
        let good = (16..=32).contains(&len) && len % 4 == 0;
        let Ok(bytes) = builder.finish() else {
            assert!(!good);
            continue;
        };
        let message = Message::parse(bytes).unwrap();
        assert_eq!(key.verify(&message).is_ok(), len == 32);
        let signature = message.signature(Hash::Sha256).unwrap();
        assert_eq!(key.verify_signature(&signature, 20).is_ok(), len >= 20);
        assert_eq!(key.verify_signature(&signature, 0), Ok(()));
    }
}

#[test]
fn integrity_attributes_of_a_wrong_length_are_malformed() {
    for (kind, hash) in [
        (AttributeType::MESSAGE_INTEGRITY, Hash::Sha1),
        (AttributeType::MESSAGE_INTEGRITY_SHA256, Hash::Sha256),
    ] {
        for len in 0..=40 {
            let bytes = request(&[(kind, &vec![0; len])]);
            let message = Message::parse(&bytes).unwrap();
            let good = if hash == Hash::Sha1 { len == 20 } else { len == 32 };
            let expected = match good {
                true => IntegrityError::Mismatch,
                false => Fault::Length(len).of(kind).into(),
            };
            assert_eq!(key().verify(&message), Err(expected), "{kind} {len}");
        }
    }
}

#[test]
fn the_fingerprint_is_last_and_has_four_bytes() {
    let mut out = Vec::new();
    let mut builder = builder(&mut out);
    builder.username("alice").fingerprint();
    builder.finish().unwrap();
    let mut followed = out.clone();
    followed.extend_from_slice(&[0x80, 0x22, 0, 0]);
    fix_length(&mut followed);
    assert_eq!(Message::parse(&followed).err(), Some(ParseError::FingerprintPlace));
    for len in [0, 3, 5, 8] {
        let bytes = request(&[(AttributeType::FINGERPRINT, &vec![0; len])]);
        assert_eq!(Message::parse(&bytes).err(), Some(ParseError::FingerprintPlace), "{len}");
    }
    let wrong = request(&[(AttributeType::FINGERPRINT, &[0; 4])]);
    assert_eq!(Message::parse(&wrong).err(), Some(ParseError::Fingerprint));
}

#[test]
fn the_builder_keeps_the_order_of_the_last_attributes() {
    type Type = AttributeType;
    let key = key();
    let mut out = Vec::new();
    let mut error = |write: &dyn Fn(&mut Builder<'_>)| {
        let mut builder = builder(&mut out);
        write(&mut builder);
        let error = builder.finish().err();
        assert_eq!(out.is_empty(), error.is_some());
        error
    };
    let order = |kind| Some(BuildError::Order(kind));
    let (sha1, sha256) = (Hash::Sha1, Hash::Sha256);
    let all = error(&|b| {
        b.integrity(&key, sha1).integrity(&key, sha256).fingerprint();
    });
    assert_eq!(all, None);
    assert_eq!(
        error(&|b| {
            b.integrity(&key, sha1).realm("x");
        }),
        order(Type::REALM)
    );
    assert_eq!(
        error(&|b| {
            b.fingerprint().software("x");
        }),
        order(Type::SOFTWARE)
    );
    assert_eq!(
        error(&|b| {
            b.fingerprint().fingerprint();
        }),
        order(Type::FINGERPRINT)
    );
    let twice = error(&|b| {
        b.integrity(&key, sha1).integrity(&key, sha1);
    });
    assert_eq!(twice, order(Type::MESSAGE_INTEGRITY));
    let turned = error(&|b| {
        b.integrity(&key, sha256).integrity(&key, sha1);
    });
    assert_eq!(turned, order(Type::MESSAGE_INTEGRITY));
    let late = error(&|b| {
        b.fingerprint().integrity(&key, sha256);
    });
    assert_eq!(late, order(Type::MESSAGE_INTEGRITY_SHA256));
    // The message as a whole is limited too, and the first error is the one that is told.
    let full = error(&|b| {
        b.data(&[0; 65000]).data(&[0; 500]).data(&[0; 500]).realm("x");
    });
    assert_eq!(full, Some(BuildError::TooLong(Type::DATA)));
}

#[test]
fn a_message_can_be_continued_where_it_ended() {
    let key = key();
    let (mut whole, mut pieces) = (Vec::new(), Vec::new());
    let mut builder = builder(&mut whole);
    builder.username("alice").integrity(&key, Hash::Sha1).fingerprint();
    builder.finish().unwrap();
    Builder::new(&mut pieces, Class::Request, Method::ALLOCATE, ID).finish().unwrap();
    for step in 0..3 {
        let mut builder = Builder::append_to(&mut pieces).unwrap();
        match step {
            0 => builder.username("alice"),
            1 => builder.integrity(&key, Hash::Sha1),
            _ => builder.fingerprint(),
        };
        builder.finish().unwrap();
    }
    assert_eq!(pieces, whole);
    let mut builder = Builder::append_to(&mut pieces).unwrap();
    builder.integrity(&key, Hash::Sha1);
    assert!(builder.finish().is_err());
    assert!(Builder::append_to(&mut vec![0; 19]).is_err());
}
