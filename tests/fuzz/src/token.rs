//! Access tokens (RFC 7635): a server opens a sealed one exactly when its fields say so, gives an
//! allocation no longer than it lasts, and authenticates nobody by one that was touched.
//!
//! ```text
//!   | secrets 1 | request | request | ... each:
//!   | kid 1 | flaw 1 | key length 1 | when 1 | timestamp 8 | lifetime 4 | touch 1 | place 2 | by 1 |
//! ```

use std::time::Duration;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit};
use turn::credentials::ThirdParty;
use turn::integrity::{Hash, Key};
use turn::message::{Builder, Class, Message, Method, TransactionId};
use turn::{Client, Transport};

use crate::input::Input;
use crate::lab::{Lab, REALM, Sent, UNIX_START, client, config, credentials};

const SERVER_NAME: &str = "turn1@example.org";

/// Most requests of one input.
const REQUESTS_MAX: usize = 12;

/// How far clocks may be apart: RFC 7635 section 7 recommends 5 seconds.
const DELTA_NS: i128 = 5_000_000_000;

const SECOND_NS: i128 = 1_000_000_000;

/// A secret: its name, its bytes, and for how many seconds of the lab it is good.
const SECRETS: [(&str, &[u8], u64); 3] = [
    ("long", b"an authorization server's secret", u64::MAX),
    ("short", b"sixteen of bytes", u64::MAX),
    ("ends", b"a secret which ends in a minute.", 60),
];

fn lab() -> Lab {
    let mut third_party = ThirdParty::new(SERVER_NAME).expect("a name");
    for (kid, secret, seconds) in SECRETS {
        let end = UNIX_START.saturating_add(Duration::from_secs(seconds));
        third_party.add_key(kid, secret, UNIX_START..end).expect("a secret");
    }
    let mut credentials = credentials();
    credentials.set_third_party(third_party);
    Lab::with_credentials(config(), credentials)
}

/// What an authorization server seals, and what goes wrong with it.
#[derive(Debug)]
struct Token {
    kid: usize,
    flaw: usize,
    mac_key: Vec<u8>,
    timestamp: u64,
    lifetime_secs: u32,
    touch: Touch,
}

/// What happens to a token on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Touch {
    Nothing,
    Bits(usize, u8),
    Cut(usize),
    Longer(usize, u8),
    /// Not sealed at all: as many bytes of one value.
    Forged(usize, u8),
}

/// Nothing is wrong with a token whose flaw is one of these or above.
const FLAWLESS: usize = 8;

impl Token {
    fn read(input: &mut Input<'_>, now: Duration) -> Self {
        let (kid, flaw, size, when) =
            (input.below(4), input.below(16), input.byte(), input.below(4));
        let timestamp = u64::from_be_bytes(input.array());
        // most are of about now, to parts of a second
        let about = (now.as_secs() << 16).wrapping_add(timestamp % (1 << 28));
        let timestamp = match when {
            0 => timestamp,
            1 => about.wrapping_sub(1 << 28),
            _ => about,
        };
        let lifetime_secs = u32::from_be_bytes(input.array());
        let (touch, place, by) = (input.below(12), usize::from(input.u16()), input.byte());
        let touch = match touch {
            // a touch could undo the flaw
            _ if (1..FLAWLESS).contains(&flaw) => Touch::Nothing,
            0 => Touch::Bits(place, by | 1),
            1 => Touch::Cut(place),
            2 => Touch::Longer(1 + place % 1200, by),
            3 => Touch::Forged(place % 1200, by),
            _ => Touch::Nothing,
        };
        let mac_key = vec![by; size.into()];
        Self { kid, flaw, mac_key, timestamp, lifetime_secs, touch }
    }

    fn kid(&self) -> &'static str {
        SECRETS.get(self.kid).map_or("nobody", |secret| secret.0)
    }

    /// RFC 7635 section 6.2, with the flaw.
    fn sealed(&self) -> Vec<u8> {
        let size = self.mac_key.len() as u16;
        let size = if self.flaw == 1 { size.wrapping_add(1) } else { size };
        let mut block = [&size.to_be_bytes()[..], &self.mac_key].concat();
        block.extend(self.timestamp.to_be_bytes());
        block.extend(self.lifetime_secs.to_be_bytes());
        match self.flaw {
            2 => block.push(0),
            3 => _ = block.pop(),
            _ => {}
        }
        let aad = if self.flaw == 4 { "turn2@example.org" } else { SERVER_NAME };
        let nonce = [3; 12];
        let payload = Payload { msg: &block, aad: aad.as_bytes() };
        // a wrong secret, and the right one
        let secret = SECRETS[(self.kid + usize::from(self.flaw == 5)) % SECRETS.len()].1;
        let sealed = match <&[u8; 16]>::try_from(secret) {
            Ok(secret) => Aes128Gcm::new(secret.into()).encrypt(&nonce.into(), payload),
            Err(_) => {
                let secret: &[u8; 32] = secret.try_into().expect("16 or 32 bytes");
                Aes256Gcm::new(secret.into()).encrypt(&nonce.into(), payload)
            }
        };
        let nonce_size = if self.flaw == 6 { [0, 13] } else { [0, 12] };
        [&nonce_size[..], &nonce, &sealed.expect("a short text")].concat()
    }

    /// What arrives.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.sealed();
        match self.touch {
            Touch::Nothing => {}
            Touch::Bits(place, by) => {
                let at = place % bytes.len();
                bytes[at] ^= by;
            }
            Touch::Cut(place) => bytes.truncate(place % bytes.len()),
            Touch::Longer(count, by) => bytes.resize(bytes.len() + count, by),
            Touch::Forged(count, by) => bytes = vec![by; count],
        }
        bytes
    }

    /// How many nanoseconds are left of it; `None` if it is not good now. Worked out in numbers
    /// without limits.
    fn left_ns(&self, now: Duration) -> Option<i128> {
        let (_, _, until) = SECRETS.get(self.kid)?;
        let known = (now - UNIX_START).as_secs() < *until;
        // flaw 7: the client signs with another key than the sealed one
        let whole = self.flaw == 0 || self.flaw >= FLAWLESS;
        let sized = (16..=128).contains(&self.mac_key.len());
        // 48 bits of seconds, 16 bits of 1/64000 of a second
        let seconds = i128::from(self.timestamp >> 16);
        let parts = i128::from(self.timestamp & 0xffff);
        let issued = seconds * SECOND_NS + parts * SECOND_NS / 64_000;
        let apart = (now.as_nanos() as i128 - issued).abs();
        let left = i128::from(self.lifetime_secs) * SECOND_NS + DELTA_NS - apart;
        (known && whole && sized && self.touch == Touch::Nothing && left > 0).then_some(left)
    }
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut lab = lab();
    // parts of a second, so that no moment is a round one
    lab.pass(Duration::from_millis(input.byte().into()), false);
    for number in 0..REQUESTS_MAX {
        if input.is_empty() {
            break;
        }
        let token = Token::read(&mut input, lab.now.unix);
        let left = token.left_ns(lab.now.unix);
        let client = Client { transport: Transport::Udp, ..client(number) };
        let hash = if token.mac_key.len().is_multiple_of(2) { Hash::Sha1 } else { Hash::Sha256 };
        let lifetime = allocate(&mut lab, client, &token, hash);
        let expected = left.map(|left| (left / SECOND_NS).min(600) as u32);
        assert_eq!(lifetime, expected, "{token:?}, {left:?} ns are left");
        lasts(&mut lab, expected.unwrap_or(0));
    }
}

/// Asks for an allocation; its lifetime in seconds, or `None` for a 401.
fn allocate(lab: &mut Lab, client: Client, token: &Token, hash: Hash) -> Option<u32> {
    let nonce = ask(lab, client, |b| _ = b.requested_transport(17));
    let told = Message::parse(&nonce).expect("a challenge");
    assert_eq!(told.third_party_authorization(), Ok(Some(SERVER_NAME)));
    let nonce = told.nonce().ok().flatten().expect("NONCE in a challenge").to_vec();
    let mut mac_key = token.mac_key.clone();
    if token.flaw == 7 {
        mac_key.push(1);
    }
    let key = Key::raw(&mac_key);
    let answer = ask(lab, client, |b| {
        b.requested_transport(17).lifetime_secs(600);
        b.username(token.kid()).realm(REALM).nonce(&nonce);
        b.access_token(&token.bytes()).integrity(&key, hash);
    });
    let told = Message::parse(&answer).expect("we send STUN");
    match told.error_code() {
        Ok(Some(error)) => {
            assert_eq!(error.code.value(), 401);
            assert!(!told.has_integrity(), "signed for a stranger");
            assert_eq!(lab.server.stats().allocations, 0, "something is kept for a stranger");
            None
        }
        _ => {
            assert_eq!(key.verify(&told), Ok(hash), "signed with the token's key");
            Some(told.lifetime_secs().ok().flatten().expect("LIFETIME in a success"))
        }
    }
}

fn ask(lab: &mut Lab, client: Client, fill: impl FnOnce(&mut Builder<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    let id = TransactionId([3; 12]);
    let mut builder = Builder::new(&mut out, Class::Request, Method::ALLOCATE, id);
    fill(&mut builder);
    builder.finish().expect("a request of the target");
    match lab.datagram(client, &out).as_slice() {
        [Sent::Client(to, answer)] if *to == client => answer.clone(),
        other => panic!("answered with {other:?}"),
    }
}

/// The allocation is there to its last moment, and then nothing is.
fn lasts(lab: &mut Lab, seconds: u32) {
    if seconds > 0 {
        lab.pass(Duration::from_secs(seconds.into()) - Duration::from_millis(1), false);
        assert_eq!(lab.server.stats().allocations, 1, "gone before its time");
    }
    lab.pass(Duration::from_millis(1), false);
    assert!(lab.server.holds_nothing(), "it outlives its token");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let request = |kid: u8, flaw: u8, size: u8, lifetime_secs: u32, touch: u8, place: u8| {
        let head = [kid, flaw, size, 2, 0, 0, 0, 0, 0, 0, 0, 0];
        [&head[..], &lifetime_secs.to_be_bytes(), &[touch, 0, place, 9]].concat()
    };
    let good = request(0, 15, 20, 3600, 11, 0);
    let mut seeds = vec![
        [&[7], &good[..], &request(1, 15, 16, 100, 11, 0), &request(2, 15, 128, 1, 11, 0)].concat(),
        [&[0], &request(2, 15, 20, 50, 11, 0)[..], &request(2, 15, 20, 50, 11, 0)].concat(),
        [&[9], &request(3, 15, 20, 50, 11, 0)[..], &request(0, 15, 15, 50, 11, 0)].concat(),
        [&[9], &request(0, 15, 129, 50, 11, 0)[..], &request(1, 15, 255, 50, 11, 0)].concat(),
    ];
    let flaws = (1..=7).flat_map(|flaw| request(flaw % 3, flaw, 20, 3600, 11, 0));
    seeds.push([&[1], &flaws.collect::<Vec<_>>()[..], &good].concat());
    for touch in 0..4 {
        let places = [0, 1, 2, 14, 15, 30, 63].into_iter();
        let touched = places.flat_map(|place| request(touch % 2, 15, 20, 3600, touch, place));
        seeds.push([&[1], &touched.collect::<Vec<_>>()[..], &good].concat());
    }
    // the last moments of a token: 5 s more than its lifetime
    for timestamp in [5_u64 << 16, (5 << 16) - 1, (4 << 16) + 64_000, 1 << 16, 0xffff] {
        let mut edge = request(0, 15, 20, 0, 11, 0);
        edge[4..12].copy_from_slice(&timestamp.to_be_bytes());
        seeds.push([&[0], &edge[..]].concat());
    }
    let mut far = request(0, 15, 20, u32::MAX, 11, 0);
    far[3..12].fill(0xff);
    far[3] = 0;
    seeds.push([&[0], &far[..]].concat());
    seeds
}
