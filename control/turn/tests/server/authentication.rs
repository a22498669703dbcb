//! RFC 8489 section 9.2.4, in its order, and what strangers are told.

use std::time::Duration;

use turn::attribute::{AttributeType, PasswordAlgorithm};
use turn::integrity::{Hash, userhash};
use turn::message::{Builder, Class, Message, Method};
use turn::{Config, Reason};

use crate::lab::{Lab, REALM, client, code, config};
use crate::user::{Mode, User};

const METHODS: [Method; 4] =
    [Method::ALLOCATE, Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND];

/// A request with exactly these credential attributes, signed by SHA-1.
fn signed(lab: &mut Lab, user: &User, fill: impl Fn(&mut Builder<'_>)) -> Vec<u8> {
    lab.plain(Class::Request, Method::ALLOCATE, |b| {
        b.requested_transport(17);
        fill(b);
        b.integrity(&user.key, Hash::Sha1);
    })
}

#[test]
fn without_integrity_every_method_is_challenged() {
    let mut lab = Lab::new();
    for method in METHODS {
        let request = lab.plain(Class::Request, method, |b| {
            b.username("alice").realm(REALM).nonce(b"nonsense");
        });
        let answer = lab.answer(client(1), &request).unwrap();
        assert_eq!(code(&answer), Some(401));
        let message = Message::parse(&answer).unwrap();
        assert_eq!(message.realm().unwrap(), Some(REALM));
        let nonce = message.nonce().unwrap().unwrap();
        assert!(nonce.starts_with(b"obMatJos2AAAB"), "the lowest bit (erratum 6290)");
        let algorithms = message.password_algorithms().unwrap().unwrap();
        assert_eq!(algorithms.as_bytes(), [0, 2, 0, 0, 0, 1, 0, 0]);
        for kind in [AttributeType::USERNAME, AttributeType::USERHASH, AttributeType::SOFTWARE] {
            assert!(!message.has(kind));
        }
        assert!(!message.has_integrity());
    }
    assert!(lab.server.holds_nothing());
}

#[test]
fn a_missing_part_of_the_credential_is_a_400_without_realm_and_nonce() {
    let mut lab = Lab::new();
    let mut user = User::new("alice", client(1), Mode::Legacy);
    user.learn(&mut lab);
    let nonce = user.nonce.clone();
    type Fill<'a> = &'a dyn Fn(&mut Builder<'_>);
    let cases: [Fill<'_>; 4] = [
        &|b| _ = b.realm(REALM).nonce(&nonce),
        &|b| _ = b.username("alice").nonce(&nonce),
        &|b| _ = b.username("alice").realm(REALM),
        &|_| {},
    ];
    for fill in cases {
        let request = signed(&mut lab, &user, fill);
        let answer = lab.answer(client(1), &request).unwrap();
        assert_eq!((code(&answer), answer.len()), (Some(400), 28));
    }
    assert_eq!(lab.refused(Reason::MissingCredential), 4);
}

#[test]
fn wrong_user_password_realm_and_tampering_are_all_the_same_401() {
    let mut lab = Lab::new();
    let mut alice = User::new("alice", client(1), Mode::Legacy);
    alice.learn(&mut lab);
    let nonce = alice.nonce.clone();
    let mut mallory = User::with_password("mallory", "x", client(1), Mode::Legacy);
    mallory.nonce.clone_from(&nonce);
    let mut guess = User::with_password("alice", "guess", client(1), Mode::Legacy);
    guess.nonce.clone_from(&nonce);
    let mut requests = Vec::new();
    for user in [&mallory, &guess] {
        let id = lab.transaction();
        requests.push(user.sign(id, Method::ALLOCATE, |b| _ = b.requested_transport(17)));
    }
    requests.push(signed(&mut lab, &alice, |b| {
        b.username("alice").realm("elsewhere").nonce(&nonce);
    }));
    let mut tampered =
        alice.sign(lab.transaction(), Method::ALLOCATE, |b| _ = b.requested_transport(17));
    tampered[24] = 6;
    requests.push(tampered);
    let lens: Vec<usize> = requests
        .iter()
        .map(|request| {
            let answer = lab.answer(client(1), request).unwrap();
            assert_eq!(code(&answer), Some(401));
            assert!(!Message::parse(&answer).unwrap().has_integrity());
            answer.len()
        })
        .collect();
    assert!(lens.iter().all(|&len| len == lens[0]));
    assert_eq!(lab.refused(Reason::Unauthenticated), 4);
    assert!(lab.server.holds_nothing());
}

#[test]
fn integrity_comes_before_the_nonce_and_the_nonce_before_everything_else() {
    let mut lab = Lab::new();
    let mut alice = User::new("alice", client(1), Mode::Legacy);
    alice.nonce = b"an invented nonce that is long enough".to_vec();
    let mut guess = User::with_password("alice", "guess", client(1), Mode::Legacy);
    guess.nonce.clone_from(&alice.nonce);
    let unknown = |b: &mut Builder<'_>| _ = b.attribute(AttributeType(0x7777), &[]);
    let request = guess.sign(lab.transaction(), Method::REFRESH, unknown);
    assert_eq!(code(&lab.answer(client(1), &request).unwrap()), Some(401));
    let request = alice.sign(lab.transaction(), Method::REFRESH, unknown);
    let answer = lab.answer(client(1), &request).unwrap();
    assert_eq!(code(&answer), Some(438));
    alice.learn_from(&answer);
    // 420 before 437.
    let request = alice.sign(lab.transaction(), Method::REFRESH, unknown);
    assert_eq!(code(&lab.answer(client(1), &request).unwrap()), Some(420));
    let request = alice.sign(lab.transaction(), Method::REFRESH, |_| {});
    assert_eq!(code(&lab.answer(client(1), &request).unwrap()), Some(437));
}

#[test]
fn a_nonce_is_good_for_its_client_and_its_hour() {
    let mut lab = Lab::new();
    let mut alice = User::new("alice", client(1), Mode::Modern);
    alice.allocate(&mut lab);
    let stolen = User { client: client(2), ..alice.clone() };
    let request =
        stolen.sign(lab.transaction(), Method::ALLOCATE, |b| _ = b.requested_transport(17));
    assert_eq!(code(&lab.answer(client(2), &request).unwrap()), Some(438));
    lab.step(Duration::from_secs(599));
    let request = alice.sign(lab.transaction(), Method::REFRESH, |b| _ = b.lifetime_secs(3600));
    assert_eq!(alice.exchange(&mut lab, &request).unwrap().lifetime(), 3600);
    lab.step(Duration::from_secs(3001));
    let request = alice.sign(lab.transaction(), Method::REFRESH, |_| {});
    assert_eq!(code(&lab.answer(client(1), &request).unwrap()), Some(438));
    assert_eq!(alice.refresh(&mut lab, 600).lifetime(), 600);
    assert_eq!(lab.refused(Reason::StaleNonce), 3);
    // A rotated key keeps the nonces of the one before, and of no other.
    lab.server.rotate_nonce_key(&[1; 32]);
    let request = alice.sign(lab.transaction(), Method::REFRESH, |_| {});
    assert_eq!(code(&lab.answer(client(1), &request).unwrap()), None);
    lab.server.rotate_nonce_key(&[2; 32]);
    let request = alice.sign(lab.transaction(), Method::REFRESH, |_| {});
    assert_eq!(code(&lab.answer(client(1), &request).unwrap()), Some(438));
}

#[test]
fn bidding_down_is_a_400_or_a_438() {
    let mut lab = Lab::new();
    let mut alice = User::new("alice", client(1), Mode::Modern);
    alice.learn(&mut lab);
    let nonce = alice.nonce.clone();
    type Fill<'a> = &'a dyn Fn(&mut Builder<'_>);
    let list = [0, 2, 0, 0, 0, 1, 0, 0];
    let cases: [Fill<'_>; 5] = [
        // Only one of the two; a list that was cut, reordered, or grown; an algorithm not in it.
        &|b| _ = b.password_algorithm(PasswordAlgorithm::Sha256),
        &|b| _ = b.password_algorithms_echo(&list),
        &|b| _ = b.password_algorithm(PasswordAlgorithm::Md5).password_algorithms_echo(&list[4..]),
        &|b| {
            b.password_algorithm(PasswordAlgorithm::Sha256);
            b.password_algorithms_echo(&[0, 1, 0, 0, 0, 2, 0, 0]);
        },
        &|b| {
            b.attribute(AttributeType::PASSWORD_ALGORITHM, &[0, 9, 0, 0]);
            b.password_algorithms_echo(&list);
        },
    ];
    for (n, fill) in cases.into_iter().enumerate() {
        let request = lab.plain(Class::Request, Method::ALLOCATE, |b| {
            b.requested_transport(17).username("alice").realm(REALM).nonce(&nonce);
            fill(b);
            b.integrity(&alice.key, Hash::Sha256);
        });
        assert_eq!(code(&lab.answer(client(1), &request).unwrap()), Some(400), "case {n}");
    }
    assert_eq!(lab.refused(Reason::PasswordAlgorithm), 5);
    // A nonce whose cookie was cleared on the way is not ours.
    let mut legacy = User::new("alice", client(1), Mode::Legacy);
    legacy.nonce = nonce;
    legacy.nonce[12] = b'A';
    let request =
        legacy.sign(lab.transaction(), Method::ALLOCATE, |b| _ = b.requested_transport(17));
    assert_eq!(code(&lab.answer(client(1), &request).unwrap()), Some(438));
}

#[test]
fn a_userhash_is_as_good_as_a_username() {
    let mut lab = Lab::with(Config { username_anonymity: true, ..config() });
    let mut alice = User::new("alice", client(1), Mode::Legacy);
    alice.learn(&mut lab);
    assert!(alice.nonce.starts_with(b"obMatJos2AAAB"), "REST users cannot be found by hash");
    let hash = userhash("alice", REALM);
    let nonce = alice.nonce.clone();
    let request = signed(&mut lab, &alice, |b| _ = b.userhash(&hash).realm(REALM).nonce(&nonce));
    assert_eq!(alice.exchange(&mut lab, &request).unwrap().code(), 0);
    assert_eq!(lab.server.allocations().next().unwrap().username(), "alice");
}

#[test]
fn another_user_of_the_same_five_tuple_is_a_441() {
    let mut lab = Lab::new();
    let (mut alice, _) = crate::user::alice(&mut lab, 1);
    let mut bob = User::new("bob", client(1), Mode::Modern);
    bob.learn(&mut lab);
    for method in &METHODS[1..] {
        assert_eq!(bob.ask(&mut lab, *method, |_| {}).code(), 441);
    }
    assert_eq!(lab.refused(Reason::WrongUser), 3);
    assert_eq!(alice.refresh(&mut lab, 600).code(), 0);
    // The same user may change the algorithm.
    let mut modern = User::new("alice", client(1), Mode::Modern);
    assert_eq!(modern.refresh(&mut lab, 600).code(), 0);
}

#[test]
fn a_rest_name_is_good_until_it_expires_and_its_allocation_goes_on() {
    let mut lab = Lab::new();
    let expiry = lab.now.unix.as_secs() + 60;
    let mut carol = User::rest(&format!("{expiry}:carol"), client(1));
    carol.allocate(&mut lab);
    let mut bare = User::rest(&expiry.to_string(), client(2));
    bare.allocate(&mut lab);
    lab.pass_secs(60);
    assert_eq!(carol.refresh(&mut lab, 600).code(), 0);
    assert_eq!(carol.permit(&mut lab, &[crate::lab::address("9.9.9.9:1")]), 0);
    let mut late = carol.at(client(3));
    late.learn(&mut lab);
    let request = late.sign(lab.transaction(), Method::ALLOCATE, |b| _ = b.requested_transport(17));
    assert_eq!(code(&lab.answer(client(3), &request).unwrap()), Some(401));
    // Once the allocation is over, even if no timer came, its user is a stranger.
    lab.step(Duration::from_secs(600));
    let request =
        carol.sign(lab.transaction(), Method::ALLOCATE, |b| _ = b.requested_transport(17));
    assert_eq!(code(&lab.answer(client(1), &request).unwrap()), Some(401));
}

#[test]
fn credentials_are_replaced_under_live_allocations() {
    let mut lab = Lab::new();
    let (mut alice, _) = crate::user::alice(&mut lab, 1);
    let mut others = turn::Credentials::new(REALM).unwrap();
    others.add_user("dave", "d").unwrap();
    lab.server.replace_credentials(others);
    assert_eq!(alice.refresh(&mut lab, 600).code(), 0);
    let mut again = alice.at(client(2));
    again.learn(&mut lab);
    let request =
        again.sign(lab.transaction(), Method::ALLOCATE, |b| _ = b.requested_transport(17));
    assert_eq!(code(&lab.answer(client(2), &request).unwrap()), Some(401));
    let mut dave = User::with_password("dave", "d", client(3), Mode::Modern);
    dave.allocate(&mut lab);
}
