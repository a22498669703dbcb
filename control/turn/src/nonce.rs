//! Stateless nonces (RFC 8489 section 9.2): the server keeps a key and nothing per client.
//!
//! ```text
//! obMatJos2 AAAB | base64url( issued, 4 bytes | MAC, 10 bytes )          32 characters
//! ^ cookie  ^ security features, 24 bits       ^ HMAC-SHA256, cut, over features, issue time,
//!                                                client address and port
//! ```
//!
//! The MAC is 80 bits: nonces are short because a 401 may be no more than four times its
//! request, and guessing one gains nothing without a user's key. The issue time is in seconds of
//! the Unix epoch, so that servers that share the key accept each other's nonces.
//!
//! Clients disagree on the order of the feature bits. RFC 8489 section 18.1 counts from the most
//! significant one, its erratum 6290 from the least significant one. What is written here
//! follows the erratum; a client reads both (no other bit is assigned, so they cannot be
//! confused).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::integrity::hmac;

/// How every nonce of an RFC 8489 server starts.
pub const COOKIE: &[u8; 9] = b"obMatJos2";

/// Length of a nonce in bytes.
pub const NONCE_LEN: usize = 32;

/// How long a nonce is good, unless configured: RFC 8656 section 5 wants at most an hour.
pub const NONCE_LIFETIME: Duration = Duration::from_secs(3600);

/// How far the clocks of servers that share a key may be apart.
const SKEW_SECS: i64 = 60;

const COOKIE_LEN: usize = 13;
const TIME_LEN: usize = 4;
const MAC_LEN: usize = 10;

/// The security features of a nonce cookie (RFC 8489 section 18.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecurityFeatures {
    /// The server sends PASSWORD-ALGORITHMS.
    pub password_algorithms: bool,
    /// The client must send USERHASH in place of USERNAME.
    pub username_anonymity: bool,
}

impl SecurityFeatures {
    /// The features that a nonce announces, in either bit order; `None` without the cookie.
    pub fn of_nonce(nonce: &[u8]) -> Option<SecurityFeatures> {
        let (cookie, rest) = nonce.split_first_chunk::<9>()?;
        let bits = STANDARD.decode(rest.get(..4)?).ok()?;
        let &[first, _, last] = bits.as_slice() else { return None };
        (cookie == COOKIE).then_some(SecurityFeatures {
            password_algorithms: last & 0x01 != 0 || first & 0x80 != 0,
            username_anonymity: last & 0x02 != 0 || first & 0x40 != 0,
        })
    }

    /// The 13 characters that a nonce starts with, lowest bit first (erratum 6290).
    pub fn cookie(self) -> [u8; COOKIE_LEN] {
        let bits = u8::from(self.password_algorithms) | u8::from(self.username_anonymity) << 1;
        let mut cookie = *b"obMatJos2AAAA";
        cookie[COOKIE_LEN - 1] += bits;
        cookie
    }
}

/// A nonce: printable ASCII without quotes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; NONCE_LEN]);

impl Nonce {
    /// The value of the NONCE attribute.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// What a nonce that came in a request is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceState {
    /// Ours, for this client, and in time.
    Valid,
    /// Ours, for this client, and too old, or of other features: 438 with a fresh one.
    Stale,
    /// Not ours, or another client's: answered as [`NonceState::Stale`] is.
    Forged,
}

/// Issues nonces and checks them.
pub struct Nonces {
    current: Hmac<Sha256>,
    previous: Option<Hmac<Sha256>>,
    lifetime: Duration,
    features: SecurityFeatures,
}

impl Nonces {
    /// With a key of 32 random bytes; the same key on several servers makes their nonces
    /// interchangeable. `lifetime` counts in whole seconds.
    pub fn new(key: &[u8; 32], lifetime: Duration, features: SecurityFeatures) -> Nonces {
        Nonces { current: hmac(key), previous: None, lifetime, features }
    }

    /// Issues under this key from now on, and still accepts nonces of the one before.
    pub fn rotate(&mut self, key: &[u8; 32]) {
        self.previous = Some(std::mem::replace(&mut self.current, hmac(key)));
    }

    /// What the nonces announce.
    pub const fn features(&self) -> SecurityFeatures {
        self.features
    }

    /// A nonce for this client; `unix` is the time since the epoch.
    pub fn issue(&self, client: SocketAddr, unix: Duration) -> Nonce {
        // Wraps in 2106; ages are computed modulo 2^32 too.
        let issued = (unix.as_secs() as u32).to_be_bytes();
        let cookie = self.features.cookie();
        let mut raw = [0; TIME_LEN + MAC_LEN];
        raw[..TIME_LEN].copy_from_slice(&issued);
        raw[TIME_LEN..].copy_from_slice(&tag(&self.current, &cookie, issued, client));
        let mut nonce = [0; NONCE_LEN];
        nonce[..COOKIE_LEN].copy_from_slice(&cookie);
        URL_SAFE_NO_PAD
            .encode_slice(raw, &mut nonce[COOKIE_LEN..])
            .expect("14 bytes are 19 characters of base64");
        Nonce(nonce)
    }

    /// Checks a nonce that this client sent. The time it takes depends on nothing secret.
    pub fn check(&self, nonce: &[u8], client: SocketAddr, unix: Duration) -> NonceState {
        let Some((cookie, issued, mac)) = split(nonce) else { return NonceState::Forged };
        let current = tag(&self.current, cookie, issued, client).ct_eq(&mac);
        // Computed in any case, so that the time does not say which key it was.
        let previous = self.previous.as_ref().unwrap_or(&self.current);
        let previous = tag(previous, cookie, issued, client).ct_eq(&mac);
        if !bool::from(current | previous) {
            return NonceState::Forged;
        }
        // The difference modulo 2^32, as a signed number: negative is the future.
        let age = (unix.as_secs() as u32).wrapping_sub(u32::from_be_bytes(issued)) as i32;
        let lifetime = i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX);
        let in_time = (-SKEW_SECS..lifetime).contains(&i64::from(age));
        if in_time && *cookie == self.features.cookie() {
            NonceState::Valid
        } else {
            NonceState::Stale
        }
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nonces")
            .field("lifetime", &self.lifetime)
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

/// Cookie, issue time and MAC of a nonce that has the form of ours.
fn split(nonce: &[u8]) -> Option<(&[u8; COOKIE_LEN], [u8; TIME_LEN], [u8; MAC_LEN])> {
    let (cookie, rest) = nonce.split_first_chunk::<COOKIE_LEN>()?;
    if nonce.len() != NONCE_LEN || !cookie.starts_with(COOKIE) {
        return None;
    }
    let mut raw = [0; TIME_LEN + MAC_LEN];
    let len = URL_SAFE_NO_PAD.decode_slice(rest, &mut raw).ok()?;
    let (issued, mac) = raw[..len].split_first_chunk::<TIME_LEN>()?;
    Some((cookie, *issued, mac.try_into().ok()?))
}

fn tag(
    key: &Hmac<Sha256>,
    cookie: &[u8; COOKIE_LEN],
    issued: [u8; TIME_LEN],
    client: SocketAddr,
) -> [u8; MAC_LEN] {
    let mut mac = key.clone();
    mac.update(b"turnwire nonce 1");
    mac.update(cookie);
    mac.update(&issued);
    mac.update(&client.port().to_be_bytes());
    // The lengths differ, and the address comes last: no two clients give the same input.
    match client.ip() {
        IpAddr::V4(ip) => mac.update(&ip.octets()),
        IpAddr::V6(ip) => mac.update(&ip.octets()),
    }
    let mut tag = [0; MAC_LEN];
    tag.copy_from_slice(&mac.finalize().into_bytes()[..MAC_LEN]);
    tag
}
