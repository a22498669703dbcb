//! Who is let in, who is not, and what the refusal says.
#![allow(clippy::unwrap_used, reason = "the code of a test")]

use std::time::Duration;

use turn::attribute::{AttributeType, Fault, PasswordAlgorithm};
use turn::credentials::{
    Account, CredentialError, Credentials, Denial, PrepareError, RestName, prepare, rest_password,
};
use turn::integrity::{Hash, Key, userhash};
use turn::message::{Builder, Class, Message, Method, TransactionId};

const REALM: &str = "example.org";
const NOW: Duration = Duration::from_secs(1_700_000_000);
const LEGACY: &[PasswordAlgorithm] = &[];
const BOTH: &[PasswordAlgorithm] = &[PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5];

/// An Allocate request; the rest is for `write`.
fn request(write: impl FnOnce(&mut Builder<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut builder =
        Builder::new(&mut out, Class::Request, Method::ALLOCATE, TransactionId([9; 12]));
    write(&mut builder);
    builder.finish().unwrap();
    out
}

/// A request as an RFC 5389 client signs it.
fn legacy(username: &str, password: &str) -> Vec<u8> {
    let key = Key::long_term(PasswordAlgorithm::Md5, username, REALM, password);
    request(|b| {
        b.username(username).realm(REALM).nonce(b"n").integrity(&key, Hash::Sha1);
    })
}

/// A request as an RFC 8489 client signs it.
fn modern(username: &str, password: &str, algorithm: PasswordAlgorithm) -> Vec<u8> {
    let key = Key::long_term(algorithm, username, REALM, password);
    request(|b| {
        b.username(username).realm(REALM).nonce(b"n").password_algorithms(BOTH);
        b.password_algorithm(algorithm).integrity(&key, Hash::Sha256);
    })
}

fn credentials() -> Credentials {
    let mut credentials = Credentials::new(REALM).unwrap();
    credentials.add_user_line("alice:se:cret").unwrap();
    credentials.add_rest_secret(b"old secret").unwrap();
    credentials.add_rest_secret(b"new secret").unwrap();
    credentials
}

fn authenticate(
    credentials: &Credentials,
    bytes: &[u8],
    offered: &[PasswordAlgorithm],
) -> Result<(Account, Hash), Denial> {
    credentials.authenticate(&Message::parse(bytes).unwrap(), offered, NOW)
}

fn denial(credentials: &Credentials, bytes: &[u8], offered: &[PasswordAlgorithm]) -> Denial {
    authenticate(credentials, bytes, offered).expect_err("must be denied")
}

#[test]
fn a_static_user_gets_in_with_either_algorithm() {
    let credentials = credentials();
    let (account, reply) = authenticate(&credentials, &legacy("alice", "se:cret"), BOTH).unwrap();
    assert_eq!((account.username(), account.user(), reply), ("alice", "alice", Hash::Sha1));
    for algorithm in [PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256] {
        let bytes = modern("alice", "se:cret", algorithm);
        let (account, reply) = authenticate(&credentials, &bytes, BOTH).unwrap();
        assert_eq!((account.username(), reply), ("alice", Hash::Sha256));
        assert_eq!(*account.key(), Key::long_term(algorithm, "alice", REALM, "se:cret"));
    }
}

#[test]
fn unknown_users_and_wrong_passwords_are_answered_alike() {
    let credentials = credentials();
    let wrong_key = Key::long_term(PasswordAlgorithm::Md5, "alice", "example.com", "se:cret");
    let wrong_realm = request(|b| {
        b.username("alice").realm("example.com").nonce(b"n").integrity(&wrong_key, Hash::Sha1);
    });
    let right_key = Key::long_term(PasswordAlgorithm::Md5, "alice", REALM, "se:cret");
    let right_key_wrong_realm = request(|b| {
        b.username("alice").realm("example.com").nonce(b"n").integrity(&right_key, Hash::Sha1);
    });
    let unknown_hash = request(|b| {
        b.userhash(&[7; 32]).realm(REALM).nonce(b"n").integrity(&wrong_key, Hash::Sha1);
    });
    for bytes in [
        legacy("alice", "wrong"),
        legacy("nobody", "se:cret"),
        legacy("", "se:cret"),
        legacy("1800000000:bob", "wrong"),
        legacy("1600000000:bob", &rest_password(b"new secret", "1600000000:bob")),
        wrong_realm,
        right_key_wrong_realm,
        unknown_hash,
    ] {
        assert_eq!(denial(&credentials, &bytes, LEGACY), Denial::Unauthenticated);
    }
}

#[test]
fn nobody_gets_in_under_the_key_of_an_unknown_user() {
    // The dummy's inputs are no secret: knowing them must not help.
    let credentials = credentials();
    for algorithm in [PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256] {
        let key = Key::long_term(PasswordAlgorithm::Sha256, "nobody", REALM, "");
        for user in ["nobody", "mallory", "1800000000:bob", "1600000000:bob"] {
            let bytes = request(|b| {
                b.username(user).realm(REALM).nonce(b"n").password_algorithms(BOTH);
                b.password_algorithm(algorithm).integrity(&key, Hash::Sha256);
            });
            assert_eq!(denial(&credentials, &bytes, BOTH), Denial::Unauthenticated);
        }
    }
}

#[test]
fn a_rest_user_gets_in_under_every_secret_until_the_name_expires() {
    let credentials = credentials();
    let name = "1700000001:bob";
    for secret in [&b"old secret"[..], b"new secret"] {
        let bytes = legacy(name, &rest_password(secret, name));
        let message = Message::parse(&bytes).unwrap();
        let (account, _) = credentials.authenticate(&message, LEGACY, NOW).unwrap();
        assert_eq!((account.username(), account.user()), (name, "bob"));
        let late = NOW + Duration::from_secs(1);
        let denied = credentials.authenticate(&message, LEGACY, late).expect_err("expired");
        assert_eq!(denied, Denial::Unauthenticated);
        // An account that has been let in is not thrown out.
        assert_eq!(account.verify(&message, LEGACY), Ok(Hash::Sha1));
        let bytes = modern(name, &rest_password(secret, name), PasswordAlgorithm::Sha256);
        assert!(authenticate(&credentials, &bytes, BOTH).is_ok());
    }
    let bytes = legacy(name, &rest_password(b"other secret", name));
    assert_eq!(denial(&credentials, &bytes, LEGACY), Denial::Unauthenticated);
}

#[test]
fn a_static_user_may_have_a_name_like_a_rest_user() {
    let mut credentials = credentials();
    credentials.add_user("1700000001:bob", "static").unwrap();
    for password in ["static", &rest_password(b"new secret", "1700000001:bob")] {
        let bytes = legacy("1700000001:bob", password);
        assert!(authenticate(&credentials, &bytes, LEGACY).is_ok());
    }
}

#[test]
fn the_known_rest_password_comes_out() {
    // HMAC-SHA1("key", "The quick brown fox jumps over the lazy dog"), as published.
    let text = "The quick brown fox jumps over the lazy dog";
    assert_eq!(rest_password(b"key", text), "3nybhbi3iqa8ino29wqQcBydtNk=");
}

#[test]
fn rest_names_are_digits_and_perhaps_a_user() {
    let expires = Duration::from_secs;
    let name = |text| RestName::parse(text).map(|name| (name.expires, name.user));
    assert_eq!(name("1700000000:bob"), Some((expires(1_700_000_000), "bob")));
    assert_eq!(name("1700000000:bob:x"), Some((expires(1_700_000_000), "bob:x")));
    assert_eq!(name("1700000000"), Some((expires(1_700_000_000), "")));
    assert_eq!(name("1700000000:"), Some((expires(1_700_000_000), "")));
    for bad in ["", ":", ":bob", "bob", "+1:bob", "-1:bob", " 1:bob", "99999999999999999999:x"] {
        assert_eq!(name(bad), None, "{bad}");
    }
    assert!(RestName::parse("18446744073709551615:x").is_some());
}

#[test]
fn an_allocations_account_verifies_without_the_credentials() {
    let credentials = credentials();
    let first = legacy("alice", "se:cret");
    let (account, _) = authenticate(&credentials, &first, BOTH).unwrap();
    let verify = |bytes: &[u8]| account.verify(&Message::parse(bytes).unwrap(), BOTH);
    assert_eq!(verify(&first), Ok(Hash::Sha1));
    assert_eq!(verify(&legacy("alice", "wrong")), Err(Denial::Unauthenticated));
    assert_eq!(verify(&legacy("bob", "se:cret")), Err(Denial::OtherAccount));
    let other_algorithm = modern("alice", "se:cret", PasswordAlgorithm::Sha256);
    assert_eq!(verify(&other_algorithm), Err(Denial::OtherAccount));
    assert_eq!(verify(&request(|_| ())), Err(Denial::NoIntegrity));
    let by_hash = |hash: [u8; 32]| {
        request(|b| {
            b.userhash(&hash).realm(REALM).nonce(b"n").integrity(account.key(), Hash::Sha1);
        })
    };
    assert_eq!(verify(&by_hash(userhash("alice", REALM))), Ok(Hash::Sha1));
    assert_eq!(verify(&by_hash([0; 32])), Err(Denial::OtherAccount));
    let other_realm = request(|b| {
        b.username("alice").realm("x").nonce(b"n").integrity(account.key(), Hash::Sha1);
    });
    assert_eq!(verify(&other_realm), Err(Denial::Unauthenticated));
}

#[test]
fn a_static_user_is_found_by_userhash() {
    let credentials = credentials();
    let key = Key::long_term(PasswordAlgorithm::Md5, "alice", REALM, "se:cret");
    let bytes = request(|b| {
        b.userhash(&userhash("alice", REALM)).realm(REALM).nonce(b"n");
        b.integrity(&key, Hash::Sha1);
    });
    assert_eq!(authenticate(&credentials, &bytes, LEGACY).unwrap().0.username(), "alice");
    // REST names cannot be found so, and then anonymity must not be announced.
    assert!(!credentials.allows_anonymity());
    assert!(Credentials::new(REALM).unwrap().allows_anonymity());
}

#[test]
fn the_checks_come_in_the_order_of_the_rfc() {
    let credentials = credentials();
    let key = Key::raw(b"x");
    let missing = Denial::Missing;
    type Type = AttributeType;
    let cases: [(Vec<u8>, Denial); 7] = [
        (
            request(|b| {
                b.username("alice");
            }),
            Denial::NoIntegrity,
        ),
        (
            request(|b| {
                b.integrity(&key, Hash::Sha1);
            }),
            missing(Type::USERNAME),
        ),
        (
            request(|b| {
                b.username("a").integrity(&key, Hash::Sha1);
            }),
            missing(Type::REALM),
        ),
        (
            request(|b| {
                b.username("a").realm(REALM).integrity(&key, Hash::Sha1);
            }),
            missing(Type::NONCE),
        ),
        (
            request(|b| {
                b.attribute(Type::USERNAME, &[0xFF]).integrity(&key, Hash::Sha1);
            }),
            Denial::Malformed(Fault::Utf8.of(Type::USERNAME)),
        ),
        (
            request(|b| {
                b.username("a").realm(REALM).nonce(b"n");
                b.password_algorithm(PasswordAlgorithm::Md5).integrity(&key, Hash::Sha1);
            }),
            Denial::Algorithm,
        ),
        (
            request(|b| {
                b.username("a").realm(REALM).nonce(b"n");
                b.attribute(Type::MESSAGE_INTEGRITY, &[0; 16]);
            }),
            Denial::Malformed(Fault::Length(16).of(Type::MESSAGE_INTEGRITY)),
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(denial(&credentials, &bytes, BOTH), expected);
    }
}

#[test]
fn the_algorithms_must_be_what_was_offered() {
    let credentials = credentials();
    let (md5, sha256) = (PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256);
    let key = Key::long_term(sha256, "alice", REALM, "se:cret");
    let with = |list: Option<&[PasswordAlgorithm]>, one: Option<u16>| {
        request(|b| {
            b.username("alice").realm(REALM).nonce(b"n");
            if let Some(list) = list {
                b.password_algorithms(list);
            }
            if let Some([high, low]) = one.map(u16::to_be_bytes) {
                b.attribute(AttributeType::PASSWORD_ALGORITHM, &[high, low, 0, 0]);
            }
            b.integrity(&key, Hash::Sha256);
        })
    };
    assert!(authenticate(&credentials, &with(Some(BOTH), Some(2)), BOTH).is_ok());
    for (list, one, offered) in [
        (None, Some(2), BOTH),
        (Some(BOTH), None, BOTH),
        (Some(&[md5, sha256][..]), Some(2), BOTH),
        (Some(&[sha256][..]), Some(2), BOTH),
        (Some(BOTH), Some(3), BOTH),
        (Some(&[md5][..]), Some(2), &[md5][..]),
    ] {
        assert_eq!(denial(&credentials, &with(list, one), offered), Denial::Algorithm);
    }
    // Nothing offered: both attributes are ignored, and MD5 it is.
    let bytes = with(Some(BOTH), Some(2));
    assert_eq!(denial(&credentials, &bytes, LEGACY), Denial::Unauthenticated);
}

#[test]
fn a_stored_ha1_lets_its_user_in_and_limits_what_is_offered() {
    let mut credentials = Credentials::new("realm").unwrap();
    assert_eq!(credentials.password_algorithms(), BOTH);
    // RFC 8489 section 9.2.2: MD5("user:realm:pass").
    let ha1 = 0x8493fbc53ba582fb4c044c456bdc40eb_u128.to_be_bytes();
    credentials.add_user_key("user", &ha1, None).unwrap();
    assert_eq!(credentials.password_algorithms(), [PasswordAlgorithm::Md5]);
    let key = Key::long_term(PasswordAlgorithm::Md5, "user", "realm", "pass");
    let bytes = request(|b| {
        b.username("user").realm("realm").nonce(b"n").integrity(&key, Hash::Sha1);
    });
    assert!(authenticate(&credentials, &bytes, LEGACY).is_ok());
}

#[test]
fn bad_credentials_are_refused_by_name() {
    let mut credentials = credentials();
    assert_eq!(credentials.add_user_line("alice"), Err(CredentialError::Form));
    assert_eq!(credentials.add_user_line(":x"), Err(CredentialError::Form));
    assert_eq!(credentials.add_user_line("bob:"), Err(CredentialError::Form));
    assert_eq!(
        credentials.add_user("alice", "again"),
        Err(CredentialError::Duplicate("alice".into()))
    );
    let refused = |what, why| Err(CredentialError::Prepare { what, why });
    assert_eq!(
        credentials.add_user("bo\u{7}b", "x"),
        refused("username", PrepareError::Character(7))
    );
    assert_eq!(
        credentials.add_user("bob", "\u{AD}"),
        refused("password", PrepareError::Character(0xAD))
    );
    assert_eq!(
        credentials.add_user(&"x".repeat(509), "x"),
        Err(CredentialError::TooLong("username"))
    );
    assert_eq!(credentials.add_rest_secret(b""), Err(CredentialError::EmptySecret));
    assert_eq!(
        Credentials::new("").err(),
        Some(CredentialError::Prepare { what: "realm", why: PrepareError::Empty })
    );
    assert!(Credentials::new(&"\u{E9}".repeat(127)).is_ok());
    assert!(Credentials::new(&"\u{E9}".repeat(128)).is_err());
    for _ in 2..8 {
        credentials.add_rest_secret(b"more").unwrap();
    }
    assert_eq!(credentials.add_rest_secret(b"one more"), Err(CredentialError::TooManySecrets));
}

#[test]
fn texts_are_prepared_as_opaque_strings() {
    // RFC 8265 section 4.3.
    assert_eq!(prepare("Correct Horse Battery Staple").unwrap(), "Correct Horse Battery Staple");
    assert_eq!(prepare("foo\u{1680}bar").unwrap(), "foo bar");
    assert_eq!(prepare("\u{3C0}\u{DF}\u{E5}").unwrap(), "\u{3C0}\u{DF}\u{E5}");
    assert_eq!(prepare("a\u{30A}").unwrap(), "\u{E5}");
    assert_eq!(prepare("Jack of \u{2666}s").unwrap(), "Jack of \u{2666}s");
    assert_eq!(prepare("my cat is a \u{9}by"), Err(PrepareError::Character(9)));
    assert_eq!(prepare(""), Err(PrepareError::Empty));
    // A user added in one form is found in the other, prepared, as a client must send it.
    let mut credentials = Credentials::new(REALM).unwrap();
    credentials.add_user("A\u{30A}sa", "p\u{A0}w").unwrap();
    assert!(authenticate(&credentials, &legacy("\u{C5}sa", "p w"), LEGACY).is_ok());
}

#[test]
fn nothing_secret_is_printed() {
    let credentials = credentials();
    let (account, _) = authenticate(&credentials, &legacy("alice", "se:cret"), BOTH).unwrap();
    let printed = format!("{credentials:?} {account:?} {:?}", account.key());
    assert!(!printed.contains("se:cret") && !printed.contains("old secret"), "{printed}");
    assert_eq!(format!("{:?}", account.key()), "Key(..)");
    assert!(!credentials.is_empty() && Credentials::new(REALM).unwrap().is_empty());
}
