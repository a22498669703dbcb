//! Nonces: whose they are, how long they last, what they announce.
#![allow(clippy::unwrap_used, reason = "the code of a test")]

use std::net::SocketAddr;
use std::time::Duration;

use turn::nonce::{COOKIE, NONCE_LEN, NonceState, Nonces, SecurityFeatures};

const KEYS: [[u8; 32]; 3] = [[1; 32], [2; 32], [3; 32]];
const HOUR: Duration = Duration::from_secs(3600);
const START: Duration = Duration::from_secs(1_700_000_000);
const NONE: SecurityFeatures =
    SecurityFeatures { password_algorithms: false, username_anonymity: false };
const ALL: SecurityFeatures =
    SecurityFeatures { password_algorithms: true, username_anonymity: true };

fn client(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn nonces() -> Nonces {
    Nonces::new(&KEYS[0], HOUR, NONE)
}

#[test]
fn a_nonce_is_good_for_its_client_alone() {
    let nonces = nonces();
    let alice = client("192.0.2.1:5000");
    let nonce = nonces.issue(alice, START);
    assert_eq!(nonces.check(nonce.as_bytes(), alice, START), NonceState::Valid);
    for other in
        ["192.0.2.1:5001", "192.0.2.2:5000", "[::ffff:192.0.2.1]:5000", "[2001:db8::1]:5000"]
    {
        let state = nonces.check(nonce.as_bytes(), client(other), START);
        assert_eq!(state, NonceState::Forged, "{other}");
        assert_ne!(nonces.issue(client(other), START), nonce);
    }
    assert_eq!(nonces.issue(alice, START), nonce);
}

#[test]
fn a_nonce_lives_to_the_second() {
    let nonces = nonces();
    let alice = client("[2001:db8::1]:5000");
    let nonce = nonces.issue(alice, START);
    let after =
        |secs: u64| nonces.check(nonce.as_bytes(), alice, START + Duration::from_secs(secs));
    assert_eq!(after(3599), NonceState::Valid);
    assert_eq!(after(3600), NonceState::Stale);
    assert_eq!(after(1_000_000), NonceState::Stale);
    // Servers that share a key may disagree on the time by a minute.
    let before =
        |secs: u64| nonces.check(nonce.as_bytes(), alice, START - Duration::from_secs(secs));
    assert_eq!(before(60), NonceState::Valid);
    assert_eq!(before(61), NonceState::Stale);
}

#[test]
fn the_clock_may_pass_2106() {
    let nonces = nonces();
    let alice = client("192.0.2.1:5000");
    let end = Duration::from_secs((1 << 32) - 10);
    let nonce = nonces.issue(alice, end);
    let later = |secs| nonces.check(nonce.as_bytes(), alice, end + Duration::from_secs(secs));
    assert_eq!(later(100), NonceState::Valid);
    assert_eq!(later(3600), NonceState::Stale);
}

#[test]
fn the_previous_key_is_kept_and_the_one_before_is_not() {
    let alice = client("192.0.2.1:5000");
    let mut nonces = nonces();
    let nonce = nonces.issue(alice, START);
    nonces.rotate(&KEYS[1]);
    assert_eq!(nonces.check(nonce.as_bytes(), alice, START), NonceState::Valid);
    assert_ne!(nonces.issue(alice, START), nonce);
    nonces.rotate(&KEYS[2]);
    assert_eq!(nonces.check(nonce.as_bytes(), alice, START), NonceState::Forged);
}

#[test]
fn servers_that_share_a_key_share_nonces() {
    let alice = client("192.0.2.1:5000");
    let nonce = nonces().issue(alice, START);
    assert_eq!(nonces().check(nonce.as_bytes(), alice, START), NonceState::Valid);
    let stranger = Nonces::new(&KEYS[1], HOUR, NONE);
    assert_eq!(stranger.check(nonce.as_bytes(), alice, START), NonceState::Forged);
}

#[test]
fn every_changed_character_makes_it_forged() {
    let nonces = nonces();
    let alice = client("192.0.2.1:5000");
    let nonce = nonces.issue(alice, START);
    for at in 0..NONCE_LEN {
        for byte in 0..=255 {
            let mut changed = nonce.as_bytes().to_vec();
            changed[at] = byte;
            let expected = match changed == nonce.as_bytes() {
                true => NonceState::Valid,
                false => NonceState::Forged,
            };
            assert_eq!(nonces.check(&changed, alice, START), expected, "{at} {byte}");
        }
    }
    for len in 0..NONCE_LEN {
        let state = nonces.check(&nonce.as_bytes()[..len], alice, START);
        assert_eq!(state, NonceState::Forged);
    }
    let longer = [nonce.as_bytes(), b"A"].concat();
    assert_eq!(nonces.check(&longer, alice, START), NonceState::Forged);
    assert_eq!(nonces.check(&[0xFF; NONCE_LEN], alice, START), NonceState::Forged);
}

#[test]
fn features_are_announced_lowest_bit_first() {
    let with = |password_algorithms, username_anonymity| SecurityFeatures {
        password_algorithms,
        username_anonymity,
    };
    let alice = client("192.0.2.1:5000");
    for (features, cookie) in [
        (with(false, false), "obMatJos2AAAA"),
        (with(true, false), "obMatJos2AAAB"),
        (with(false, true), "obMatJos2AAAC"),
        (with(true, true), "obMatJos2AAAD"),
    ] {
        assert_eq!(features.cookie(), cookie.as_bytes());
        let nonce = Nonces::new(&KEYS[0], HOUR, features).issue(alice, START);
        assert!(nonce.as_bytes().starts_with(cookie.as_bytes()));
        assert!(nonce.as_bytes().is_ascii() && !nonce.as_bytes().contains(&b'"'));
        assert_eq!(SecurityFeatures::of_nonce(nonce.as_bytes()), Some(features));
    }
}

#[test]
fn features_are_read_in_both_bit_orders() {
    let of = |bits: &str| SecurityFeatures::of_nonce(format!("obMatJos2{bits}rest").as_bytes());
    for (bits, algorithms, anonymity) in [
        ("AAAA", false, false),
        ("AAAB", true, false),
        ("AAAC", false, true),
        ("AAAD", true, true),
        ("gAAA", true, false),
        ("QAAA", false, true),
        ("wAAA", true, true),
    ] {
        let features = of(bits).unwrap();
        assert_eq!(features.password_algorithms, algorithms, "{bits}");
        assert_eq!(features.username_anonymity, anonymity, "{bits}");
    }
    for bad in ["!AAA", "AAA", ""] {
        assert_eq!(SecurityFeatures::of_nonce(format!("obMatJos2{bad}").as_bytes()), None);
    }
    assert_eq!(SecurityFeatures::of_nonce(b"obMatJos1AAAB"), None);
    assert_eq!(SecurityFeatures::of_nonce(b""), None);
    assert_eq!(COOKIE, b"obMatJos2");
}

#[test]
fn other_features_are_stale_and_forged_ones_are_forged() {
    let alice = client("192.0.2.1:5000");
    let nonce = nonces().issue(alice, START);
    let other = Nonces::new(&KEYS[0], HOUR, ALL);
    assert_eq!(other.check(nonce.as_bytes(), alice, START), NonceState::Stale);
    // Somebody bids the features down.
    let mut lowered = other.issue(alice, START).as_bytes().to_vec();
    lowered[..13].copy_from_slice(&NONE.cookie());
    assert_eq!(other.check(&lowered, alice, START), NonceState::Forged);
    assert_eq!(nonces().check(&lowered, alice, START), NonceState::Forged);
}

#[test]
fn nothing_secret_is_printed() {
    let printed = format!("{:?}", Nonces::new(&[0x5A; 32], HOUR, ALL));
    assert!(!printed.contains("90") && !printed.contains("5a"), "{printed}");
}
