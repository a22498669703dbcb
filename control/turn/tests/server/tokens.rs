//! Third-party authorization (RFC 7635): a client with an access token in place of a password.

use std::time::Duration;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use turn::Client;
use turn::credentials::ThirdParty;
use turn::integrity::{Hash, Key};
use turn::message::{Builder, Class, Message, Method};

use crate::lab::{Lab, REALM, UNIX_START, address, client, code, config, credentials};
use crate::user::{Mode, User};

const SERVER_NAME: &str = "turn1@example.org";
const SECRET: [u8; 32] = [9; 32];

fn lab() -> Lab {
    let mut third_party = ThirdParty::new(SERVER_NAME).unwrap();
    third_party.add_key("kid-1", &SECRET, Duration::ZERO..UNIX_START * 2).unwrap();
    let mut credentials = credentials();
    credentials.set_third_party(third_party);
    Lab::with_credentials(config(), credentials, 1)
}

/// What an authorization server makes, written apart from the crate's own reader.
fn seal(mac_key: &[u8], issued: Duration, lifetime_secs: u32, server_name: &str) -> Vec<u8> {
    let mut block = (mac_key.len() as u16).to_be_bytes().to_vec();
    block.extend_from_slice(mac_key);
    block.extend_from_slice(&(issued.as_secs() << 16).to_be_bytes());
    block.extend_from_slice(&lifetime_secs.to_be_bytes());
    let nonce = [3; 12];
    let payload = Payload { msg: &block, aad: server_name.as_bytes() };
    let sealed = Aes256Gcm::new(&SECRET.into()).encrypt(&nonce.into(), payload).unwrap();
    [&[0, 12][..], &nonce, &sealed].concat()
}

#[derive(Clone)]
struct Holder {
    client: Client,
    nonce: Vec<u8>,
    key: Vec<u8>,
    token: Vec<u8>,
    hash: Hash,
}

impl Holder {
    fn new(lab: &mut Lab, client: Client, key: u8, lifetime_secs: u32) -> Self {
        let request =
            lab.plain(Class::Request, Method::ALLOCATE, |b| _ = b.requested_transport(17));
        let answer = lab.answer(client, &request).unwrap();
        let message = Message::parse(&answer).unwrap();
        let key = vec![key; 20];
        let token = seal(&key, lab.now.unix, lifetime_secs, SERVER_NAME);
        let nonce = message.nonce().unwrap().unwrap().to_vec();
        Self { client, nonce, key, token, hash: Hash::Sha1 }
    }

    fn ask(
        &self,
        lab: &mut Lab,
        method: Method,
        with_token: bool,
        fill: impl FnOnce(&mut Builder<'_>),
    ) -> Vec<u8> {
        let key = Key::raw(&self.key);
        let request = lab.plain(Class::Request, method, |b| {
            fill(b);
            b.username("kid-1").realm(REALM).nonce(&self.nonce);
            if with_token {
                b.access_token(&self.token);
            }
            b.integrity(&key, self.hash);
        });
        let answer = lab.answer(self.client, &request).expect("an answer");
        let message = Message::parse(&answer).unwrap();
        if message.has_integrity() {
            assert_eq!(key.verify(&message), Ok(self.hash), "signed with the token's key");
        }
        answer
    }

    fn allocate(&self, lab: &mut Lab) -> Vec<u8> {
        self.ask(lab, Method::ALLOCATE, true, |b| _ = b.requested_transport(17))
    }
}

fn lifetime(answer: &[u8]) -> u32 {
    assert_eq!(code(answer), None);
    Message::parse(answer).unwrap().lifetime_secs().unwrap().unwrap()
}

#[test]
fn a_token_opens_an_allocation_and_its_key_signs_everything_after() {
    for hash in [Hash::Sha1, Hash::Sha256] {
        let mut lab = lab();
        let mut holder = Holder::new(&mut lab, client(1), 5, 7200);
        holder.hash = hash;
        assert_eq!(lifetime(&holder.allocate(&mut lab)), 600);
        let peer = address("9.9.9.9:53");
        for method in [Method::CREATE_PERMISSION, Method::REFRESH] {
            let fill = |b: &mut Builder<'_>| _ = b.xor_peer_address(peer);
            assert_eq!(code(&holder.ask(&mut lab, method, false, fill)), None, "{method}");
        }
        assert!(lab.send(client(1), peer, b"x").is_some());
    }
}

#[test]
fn the_challenge_names_this_server_and_passwords_stay_good() {
    let mut lab = lab();
    let request = lab.plain(Class::Request, Method::ALLOCATE, |b| {
        b.requested_transport(17).lifetime_secs(600);
    });
    let answer = lab.answer(client(1), &request).unwrap();
    let message = Message::parse(&answer).unwrap();
    assert_eq!(message.third_party_authorization().unwrap(), Some(SERVER_NAME));
    assert!(answer.len() <= 4 * request.len());
    // What does not fit into four times a bare header is left out.
    let bare = lab.plain(Class::Request, Method::ALLOCATE, |_| {});
    let answer = lab.answer(client(1), &bare).unwrap();
    assert!(answer.len() <= 80, "{}", answer.len());
    User::new("alice", client(2), Mode::Modern).allocate(&mut lab);
    // Without an authorization server nothing of it shows.
    let mut off = Lab::new();
    let answer = off.answer(client(1), &request).unwrap();
    assert_eq!(Message::parse(&answer).unwrap().third_party_authorization().unwrap(), None);
}

#[test]
fn a_token_that_is_not_good_is_a_401_and_one_that_nobody_asked_for_a_420() {
    let mut lab = lab();
    let good = Holder::new(&mut lab, client(1), 5, 3600);
    let unix = lab.now.unix;
    let day = Duration::from_secs(86_400);
    for (what, token) in [
        ("of another server", seal(&good.key, unix, 3600, "turn2@example.org")),
        ("of yesterday", seal(&good.key, unix - day, 3600, SERVER_NAME)),
        ("of tomorrow", seal(&good.key, unix + day, 3600, SERVER_NAME)),
        ("with another key", seal(&[6; 20], unix, 3600, SERVER_NAME)),
        ("empty", Vec::new()),
        ("cut short", good.token[..30].to_vec()),
    ] {
        let holder = Holder { token, ..good.clone() };
        assert_eq!(code(&holder.allocate(&mut lab)), Some(401), "{what}");
    }
    assert_eq!(lab.server.stats().allocations, 0);
    let mut off = Lab::new();
    let mut user = User::new("alice", client(1), Mode::Modern);
    let answer = user.allocate_with(&mut off, |b| _ = b.access_token(&good.token));
    assert_eq!(answer.code(), 420, "RFC 7635 section 7");
}

#[test]
fn an_allocation_lives_no_longer_than_its_token_and_on_under_the_next() {
    let mut lab = lab();
    let first = Holder::new(&mut lab, client(1), 5, 100);
    assert_eq!(lifetime(&first.allocate(&mut lab)), 104, "105, of which 250 ms are over");
    lab.pass_secs(50);
    let refresh = |lab: &mut Lab, holder: &Holder, with_token| {
        holder.ask(lab, Method::REFRESH, with_token, |b| _ = b.lifetime_secs(600))
    };
    assert_eq!(lifetime(&refresh(&mut lab, &first, false)), 54);
    let mut second = Holder::new(&mut lab, client(9), 6, 1000);
    (second.client, second.nonce) = (first.client, first.nonce.clone());
    assert_eq!(code(&refresh(&mut lab, &second, false)), Some(401), "its key came in no token yet");
    assert_eq!(lifetime(&refresh(&mut lab, &second, true)), 600);
    assert_eq!(code(&refresh(&mut lab, &first, false)), Some(401), "the old key is done with");
    assert_eq!(lifetime(&refresh(&mut lab, &second, false)), 600);
    let end = second.ask(&mut lab, Method::REFRESH, false, |b| _ = b.lifetime_secs(0));
    assert_eq!(lifetime(&end), 0);
    assert!(lab.server.holds_nothing(), "the quota went along with the token");
}

#[test]
fn each_token_is_a_user_of_its_own_to_the_quotas() {
    let mut third_party = ThirdParty::new(SERVER_NAME).unwrap();
    third_party.add_key("kid-1", &SECRET, Duration::ZERO..UNIX_START * 2).unwrap();
    let mut credentials = credentials();
    credentials.set_third_party(third_party);
    let mut config = config();
    config.limits.allocations_per_user = Some(1);
    let mut lab = Lab::with_credentials(config, credentials, 1);
    let first = Holder::new(&mut lab, client(1), 5, 3600);
    lifetime(&first.allocate(&mut lab));
    let mut again = Holder::new(&mut lab, client(2), 5, 3600);
    again.token = first.token.clone();
    assert_eq!(code(&again.allocate(&mut lab)), Some(486));
    let other = Holder::new(&mut lab, client(3), 6, 3600);
    lifetime(&other.allocate(&mut lab));
}
