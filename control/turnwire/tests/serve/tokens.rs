//! Third-party authorization (RFC 7635): who holds an access token needs no password.

use std::time::Duration;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use turn::integrity::Key;
use turn::message::{Builder, Message, Method};

use crate::by_hand::{Challenge, Line, UDP, code};
use crate::client::Client;
use crate::relay::{LOOPBACK, Relay, USER, program};

const SERVER_NAME: &str = "turn1@example.org";
/// The name of the secret that the two servers share: the USERNAME of who holds a token.
const KID: &str = "kid-1";
const SECRET: [u8; 32] = [9; 32];
/// Seconds that a token of these tests is good for.
const LIFETIME: u32 = 300;
/// How far the clocks of both servers may be apart, seconds (RFC 7635 section 7).
const SKEW: u32 = 5;

/// A relay that takes passwords, and tokens sealed for it with `secret`.
fn relay(secret: &[u8]) -> Relay {
    let key = format!("{KID}:{}", STANDARD.encode(secret));
    let mut command = program();
    command.args(LOOPBACK).args(["--listen=127.0.0.1:0", "--user=alice:wonderland"]);
    command.args(["--oauth-server-name", SERVER_NAME, "--oauth-key", &key]);
    Relay::start_as(command)
}

/// A token as the authorization server makes it: nonce length, nonce, and sealed for the server by
/// its name the length of the key, the key, the time (seconds in 48 bits, then their 65,536ths) and the
/// lifetime.
fn seal(mac_key: &[u8], issued: Duration, server_name: &str) -> Vec<u8> {
    let mut block = (mac_key.len() as u16).to_be_bytes().to_vec();
    block.extend_from_slice(mac_key);
    block.extend_from_slice(&(issued.as_secs() << 16).to_be_bytes());
    block.extend_from_slice(&LIFETIME.to_be_bytes());
    let nonce = [3; 12];
    let payload = Payload { msg: &block, aad: server_name.as_bytes() };
    let sealed = Aes256Gcm::new(&SECRET.into()).encrypt(&nonce.into(), payload).expect("sealed");
    [&[0, 12][..], &nonce, &sealed].concat()
}

fn now() -> Duration {
    turnwire::clock::now().unix
}

fn allocate(line: &mut Line, challenge: &Challenge, key: &Key, token: &[u8]) -> Vec<u8> {
    let fill = |b: &mut Builder<'_>| _ = b.requested_transport(UDP).access_token(token);
    challenge.ask(line, Method::ALLOCATE, (KID, key), fill)
}

#[test]
fn a_token_opens_an_allocation_that_lives_no_longer_than_it() {
    // given a client that the authorization server has given a key, and a token with it
    let relay = relay(&SECRET);
    let mut line = Line::datagrams(relay.listen);
    let challenge = Challenge::of(&mut line);
    let message = Message::parse(&challenge.answer).expect("a message");
    assert_eq!(message.third_party_authorization(), Ok(Some(SERVER_NAME)), "whom to ask for");
    let mac_key = [5; 20];
    let (key, token) = (Key::raw(&mac_key), seal(&mac_key, now(), SERVER_NAME));
    // when
    let answer = allocate(&mut line, &challenge, &key, &token);
    // then
    assert_eq!(code(&answer), 0);
    let message = Message::parse(&answer).expect("a message");
    assert!(message.has_integrity(), "by the token's key");
    let lifetime = message.lifetime_secs().expect("well formed").expect("LIFETIME");
    assert!((LIFETIME - 30..=LIFETIME + SKEW).contains(&lifetime), "{lifetime}");
    assert_eq!(relay.metric("turnwire_allocations"), 1);
    // and the key signs what follows, without the token
    let fill = |b: &mut Builder<'_>| _ = b.lifetime_secs(0);
    let ended = challenge.ask(&mut line, Method::REFRESH, (KID, &key), fill);
    assert_eq!(code(&ended), 0);
    assert_eq!(relay.metric("turnwire_allocations"), 0);
    // and passwords are as good as ever
    Client::new(relay.listen, USER).allocate();
}

#[test]
fn a_token_that_is_not_for_this_relay_and_this_time_opens_nothing() {
    let relay = relay(&SECRET);
    let mut line = Line::datagrams(relay.listen);
    let challenge = Challenge::of(&mut line);
    let mac_key = [5; 20];
    let key = Key::raw(&mac_key);
    let hour = Duration::from_secs(3600);
    for (what, token) in [
        ("of another server", seal(&mac_key, now(), "turn2@example.org")),
        ("of an hour ago", seal(&mac_key, now() - hour, SERVER_NAME)),
        ("of an hour from now", seal(&mac_key, now() + hour, SERVER_NAME)),
        ("with another key", seal(&[6; 20], now(), SERVER_NAME)),
    ] {
        assert_eq!(code(&allocate(&mut line, &challenge, &key, &token)), 401, "{what}");
    }
    assert_eq!(relay.metric("turnwire_allocations"), 0);
    // nor does a good one where the relay shares another secret with the authorization server
    let token = seal(&mac_key, now(), SERVER_NAME);
    let stranger = self::relay(&[8; 32]);
    let mut line = Line::datagrams(stranger.listen);
    let challenge = Challenge::of(&mut line);
    assert_eq!(code(&allocate(&mut line, &challenge, &key, &token)), 401);
    assert_eq!(stranger.metric("turnwire_allocations"), 0);
}
