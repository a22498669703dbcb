//! Access tokens of an authorization server (RFC 7635).
//!
//! ```text
//! ACCESS-TOKEN | nonce length, 2 | nonce, 12 | sealed | tag, 16 |
//!   sealed:      key length, 2 | mac_key | timestamp, 8 | lifetime, 4
//! ```
//!
//! The authorization server seals the key of a client's messages for this server, under a secret
//! that both know and that USERNAME names. What comes is a stranger's bytes: nothing in it is
//! believed, or indexed by, before the seal is verified.

use std::fmt;
use std::time::Duration;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit};

use super::{CredentialError, prepare};
use crate::attribute::TEXT_WRITE_MAX;

/// Most secrets that may be shared with authorization servers.
pub const TOKEN_KEYS_MAX: usize = 64;

/// How far the clocks of both servers may be apart (RFC 7635 section 7).
pub const TOKEN_SKEW: Duration = Duration::from_secs(5);

/// Longest token that is looked at, in bytes; real ones have about a hundred.
const TOKEN_MAX: usize = 1024;

const NONCE_LEN: usize = 12;

/// Shortest and longest key in a token, in bytes (RFC 7635 section 6.2 has 20; its erratum 5059
/// any).
const MAC_KEY_LEN: std::ops::RangeInclusive<usize> = 16..=128;

enum Cipher {
    Aes128(Box<Aes128Gcm>),
    Aes256(Box<Aes256Gcm>),
}

/// A secret shared with an authorization server.
struct TokenKey {
    /// Its name: what clients send as USERNAME.
    kid: Box<str>,
    cipher: Cipher,
    /// Since the Unix epoch; half open.
    valid: std::ops::Range<Duration>,
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// The key of the client's messages, as it is.
    pub mac_key: Vec<u8>,
    /// When the token ends, with the clocks' tolerance; since the Unix epoch.
    pub expires: Duration,
}

/// Third-party authorization: this server's name, and the secrets shared with authorization servers.
pub struct ThirdParty {
    server_name: Box<str>,
    keys: Vec<TokenKey>,
}

impl ThirdParty {
    /// `server_name` is what tokens for this server are sealed for, and THIRD-PARTY-AUTHORIZATION.
    ///
    /// # Errors
    /// [`CredentialError::TooLong`] above 509 bytes, [`CredentialError::Form`] when empty.
    pub fn new(server_name: &str) -> Result<Self, CredentialError> {
        if server_name.is_empty() {
            return Err(CredentialError::Form);
        }
        if server_name.len() > TEXT_WRITE_MAX {
            return Err(CredentialError::TooLong("server name"));
        }
        Ok(Self { server_name: server_name.into(), keys: Vec::new() })
    }

    /// Adds a secret under its name: 16 bytes for A128GCM, 32 for A256GCM (RFC 7635 section 4.1.1).
    /// `valid` is counted since the Unix epoch, its end excluded.
    ///
    /// # Errors
    /// [`CredentialError::TokenKey`], [`CredentialError::Duplicate`],
    /// [`CredentialError::TooManySecrets`], [`CredentialError::Prepare`].
    pub fn add_key(
        &mut self,
        kid: &str,
        key: &[u8],
        valid: std::ops::Range<Duration>,
    ) -> Result<(), CredentialError> {
        let kid = prepare(kid).map_err(|why| CredentialError::Prepare { what: "kid", why })?;
        if self.keys.iter().any(|key| *key.kid == *kid) {
            return Err(CredentialError::Duplicate(kid));
        }
        if self.keys.len() == TOKEN_KEYS_MAX {
            return Err(CredentialError::TooManySecrets);
        }
        let cipher = if let Ok(key) = <&[u8; 16]>::try_from(key) {
            Cipher::Aes128(Box::new(Aes128Gcm::new(key.into())))
        } else if let Ok(key) = <&[u8; 32]>::try_from(key) {
            Cipher::Aes256(Box::new(Aes256Gcm::new(key.into())))
        } else {
            return Err(CredentialError::TokenKey(key.len()));
        };
        self.keys.push(TokenKey { kid: kid.into(), cipher, valid });
        Ok(())
    }

    /// The value of THIRD-PARTY-AUTHORIZATION.
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// Opens a token; `unix` is the time since the epoch. `None` for every token that is not good
    /// now, without saying why.
    pub fn open(&self, kid: &str, token: &[u8], unix: Duration) -> Option<AccessToken> {
        let key = self.keys.iter().find(|key| *key.kid == *kid && key.valid.contains(&unix))?;
        if token.len() > TOKEN_MAX {
            return None;
        }
        let (len, rest) = token.split_first_chunk::<2>()?;
        if usize::from(u16::from_be_bytes(*len)) != NONCE_LEN {
            return None;
        }
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let sealed = Payload { msg: sealed, aad: self.server_name.as_bytes() };
        let block = match &key.cipher {
            Cipher::Aes128(cipher) => cipher.decrypt(&(*nonce).into(), sealed),
            Cipher::Aes256(cipher) => cipher.decrypt(&(*nonce).into(), sealed),
        };
        good_now(parse(&block.ok()?)?, unix)
    }
}

impl fmt::Debug for ThirdParty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThirdParty")
            .field("server_name", &self.server_name)
            .field("keys", &self.keys.len())
            .finish()
    }
}

/// The sealed part.
struct Block<'a> {
    mac_key: &'a [u8],
    issued: Duration,
    lifetime: Duration,
}

fn parse(block: &[u8]) -> Option<Block<'_>> {
    let (len, rest) = block.split_first_chunk::<2>()?;
    let (mac_key, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
    let (timestamp, rest) = rest.split_first_chunk::<8>()?;
    let lifetime: &[u8; 4] = rest.try_into().ok()?;
    if !MAC_KEY_LEN.contains(&mac_key.len()) {
        return None;
    }
    // 48 bits of seconds and 16 bits of 1/64000 s.
    let timestamp = u64::from_be_bytes(*timestamp);
    let fraction_ns = (timestamp & 0xffff) * (1_000_000_000 / 64_000);
    let issued = Duration::from_secs(timestamp >> 16) + Duration::from_nanos(fraction_ns);
    Some(Block {
        mac_key,
        issued,
        lifetime: Duration::from_secs(u32::from_be_bytes(*lifetime).into()),
    })
}

/// RFC 7635 section 7: lifetime + Delta > abs(RDnew - TS).
fn good_now(block: Block<'_>, unix: Duration) -> Option<AccessToken> {
    let allowed = block.lifetime + TOKEN_SKEW;
    if allowed <= unix.abs_diff(block.issued) {
        return None;
    }
    // Section 9: an allocation lives for lifetime + Delta - abs(RDnew - TS) at most.
    let expires = unix + (allowed - unix.abs_diff(block.issued));
    Some(AccessToken { mac_key: block.mac_key.to_vec(), expires })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8; 32] = b"HGkj32KJGiuy098sdfaqbNjOiaz71923";
    /// When the tokens of RFC 7635 appendix A were issued.
    const ISSUED: Duration = Duration::from_secs(92_470_300_704_768 >> 16);
    /// Appendix A, sample 1.
    const TOKEN_256: &[u8] = b"\x00\x0c\x68\x34\x6a\x33\x6b\x32\x6c\x32\x6e\x34\x62\
        \x35\x61\x7e\xf1\x34\xa3\xd5\xe4\x4e\x9a\x19\xcc\x7d\
        \xc1\x04\xb0\xc0\x3d\x03\xb2\xa5\x51\xd8\xfd\xf5\xcd\
        \x3b\x6d\xca\x6f\x10\xcf\xb7\x7e\x5b\x2d\xde\xc8\x4d\
        \x29\x3a\x5c\x50\x49\x93\x59\xf0\xc2\xe2\x6f\x76";
    /// Appendix A, sample 2.
    const TOKEN_128: &[u8] = b"\x00\x0c\x68\x34\x6a\x33\x6b\x32\x6c\x32\x6e\x34\x62\
        \x35\x7f\xb9\xe9\x9f\x08\x27\xbe\x3d\xf1\xe1\xbd\x65\
        \x14\x93\xd3\x03\x1d\x36\xdf\x57\x07\x97\x84\xae\xe5\
        \xea\xcb\x65\xfa\xd4\xf2\x7f\xab\x1a\x3f\x97\x97\x4b\
        \x69\xf8\x51\xb2\x4b\xf5\xaf\x09\xed\xa3\x57\xe0";

    fn third_party() -> ThirdParty {
        let mut third_party = ThirdParty::new("blackdow.carleon.gov").unwrap();
        let valid = Duration::ZERO..ISSUED * 2;
        third_party.add_key("long", KEY, valid.clone()).unwrap();
        third_party.add_key("short", &KEY[..16], valid).unwrap();
        third_party
    }

    #[test]
    fn the_samples_of_the_rfc_open_and_give_their_key() {
        for (kid, token) in [("long", TOKEN_256), ("short", TOKEN_128)] {
            let opened = third_party().open(kid, token, ISSUED).expect(kid);
            assert_eq!(opened.mac_key, b"ZksjpweoixXmvn67534m");
            assert_eq!(opened.expires, ISSUED + Duration::from_secs(3605));
            assert_eq!(
                third_party().open(if kid == "long" { "short" } else { "long" }, token, ISSUED),
                None
            );
            assert_eq!(third_party().open("nobody", token, ISSUED), None);
        }
    }

    #[test]
    fn a_token_lives_to_the_second_and_so_does_its_key() {
        let open = |at: Duration| third_party().open("long", TOKEN_256, at).is_some();
        let life = Duration::from_secs(3605);
        let moment = Duration::from_nanos(1);
        assert!(open(ISSUED + life - moment) && !open(ISSUED + life));
        assert!(open(ISSUED - life + moment) && !open(ISSUED - life));
        let mut third_party = ThirdParty::new("blackdow.carleon.gov").unwrap();
        third_party.add_key("long", KEY, ISSUED..ISSUED + Duration::from_secs(10)).unwrap();
        assert!(third_party.open("long", TOKEN_256, ISSUED).is_some());
        assert_eq!(third_party.open("long", TOKEN_256, ISSUED - moment), None);
        assert_eq!(third_party.open("long", TOKEN_256, ISSUED + Duration::from_secs(10)), None);
    }

    #[test]
    fn a_token_is_for_one_server_and_no_bit_of_it_may_change() {
        let mut other = ThirdParty::new("turn.example.org").unwrap();
        other.add_key("long", KEY, Duration::ZERO..Duration::MAX).unwrap();
        assert_eq!(other.open("long", TOKEN_256, ISSUED), None);
        let third_party = third_party();
        for bit in 0..8 * TOKEN_256.len() {
            let mut token = TOKEN_256.to_vec();
            token[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(third_party.open("long", &token, ISSUED), None, "bit {bit}");
        }
        for len in 0..TOKEN_256.len() {
            assert_eq!(third_party.open("long", &TOKEN_256[..len], ISSUED), None, "cut to {len}");
        }
        assert_eq!(third_party.open("long", &[0; 4000], ISSUED), None);
    }

    #[test]
    fn a_sealed_block_that_lies_is_refused() {
        let block = |key_len: u16, key: usize, tail: usize| {
            let mut block = key_len.to_be_bytes().to_vec();
            block.resize(2 + key + tail, 0);
            parse(&block).is_some()
        };
        assert!(block(20, 20, 12) && block(16, 16, 12) && block(128, 128, 12));
        assert!(
            !block(20, 20, 11) && !block(20, 20, 13) && !block(20, 0, 0) && !block(0xffff, 40, 12)
        );
        assert!(!block(15, 15, 12) && !block(129, 129, 12) && !block(0, 0, 12));
        assert!(parse(&[]).is_none() && parse(&[0]).is_none());
        // The largest timestamp and lifetime overflow nothing.
        let mut block = vec![0, 16];
        block.extend([0xff; 28]);
        assert!(good_now(parse(&block).unwrap(), ISSUED).is_none());
    }

    #[test]
    fn keys_are_of_two_lengths_and_have_a_name_each() {
        let mut third_party = third_party();
        for len in (0..=64).filter(|len| ![16, 32].contains(len)) {
            let refused = third_party.add_key("k", &vec![0; len], Duration::ZERO..Duration::MAX);
            assert_eq!(refused, Err(CredentialError::TokenKey(len)));
        }
        let again = third_party.add_key("long", KEY, Duration::ZERO..Duration::MAX);
        assert!(matches!(again, Err(CredentialError::Duplicate(_))));
        assert!(ThirdParty::new("").is_err() && ThirdParty::new(&"x".repeat(510)).is_err());
        assert!(!format!("{third_party:?}").contains("long"));
    }
}
