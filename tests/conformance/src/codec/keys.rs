//! Message integrity (RFC 8489 sections 9.2.2, 14.5, 14.6): HMAC, keys, USERHASH.

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;

use super::attribute;

/// The hash of an integrity attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// MESSAGE-INTEGRITY.
    Sha1,
    /// MESSAGE-INTEGRITY-SHA256.
    Sha256,
}

impl Hash {
    /// The attribute's type.
    pub const fn attribute(self) -> u16 {
        match self {
            Hash::Sha1 => attribute::MESSAGE_INTEGRITY,
            Hash::Sha256 => attribute::MESSAGE_INTEGRITY_SHA256,
        }
    }

    /// Bytes of its value.
    pub const fn len(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
        }
    }

    /// It never is.
    pub const fn is_empty(self) -> bool {
        false
    }
}

/// How a key is made of a password (RFC 8489 section 18.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// 0x0001.
    Md5,
    /// 0x0002.
    Sha256,
}

impl Algorithm {
    /// The value of PASSWORD-ALGORITHM.
    pub const fn value(self) -> [u8; 4] {
        match self {
            Algorithm::Md5 => [0, 1, 0, 0],
            Algorithm::Sha256 => [0, 2, 0, 0],
        }
    }
}

/// HMAC of a message, with its length field as it stands.
pub fn hmac(hash: Hash, key: &[u8], covered: &[u8]) -> Vec<u8> {
    match hash {
        Hash::Sha1 => {
            let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("any length of key will do");
            mac.update(covered);
            mac.finalize().into_bytes().to_vec()
        }
        Hash::Sha256 => {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length of key will do");
            mac.update(covered);
            mac.finalize().into_bytes().to_vec()
        }
    }
}

/// The long-term key of a prepared password.
pub fn long_term_key(algorithm: Algorithm, user: &str, realm: &str, password: &str) -> Vec<u8> {
    let text = format!("{user}:{realm}:{password}");
    match algorithm {
        Algorithm::Md5 => Md5::digest(text).to_vec(),
        Algorithm::Sha256 => Sha256::digest(text).to_vec(),
    }
}

/// The value of USERHASH (RFC 8489 section 14.4).
pub fn userhash(user: &str, realm: &str) -> Vec<u8> {
    Sha256::digest(format!("{user}:{realm}")).to_vec()
}
