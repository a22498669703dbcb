//! Message integrity (RFC 8489 sections 9.2.2, 14.5 and 14.6): keys, signing, verifying.
//!
//! ```text
//! HMAC input:  | type | length | cookie | id | attributes before the integrity attribute |
//!                        ^^^^^^ as if the message ended with the integrity attribute
//! ```
//!
//! A [`Key`] is bytes, tied to no hash: a stored HA1, an RFC 7635 key and a password all become
//! one. It keeps the HMAC state that follows from those bytes, so that each further message
//! under the same key costs two hash blocks fewer, and it is cheap to clone.

use std::fmt;
use std::sync::{Arc, OnceLock};

use hmac::{Hmac, KeyInit};
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::attribute::{AttributeType, Fault, Malformed, PasswordAlgorithm};
use crate::message::{HEADER_LEN, Message};

/// The hash of an integrity attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hash {
    /// MESSAGE-INTEGRITY.
    Sha1,
    /// MESSAGE-INTEGRITY-SHA256.
    Sha256,
}

/// An integrity attribute as it came: see [`Message::signature`].
#[derive(Clone, Copy, Debug)]
pub struct Signature<'a> {
    /// Which of the two attributes.
    pub hash: Hash,
    /// The message up to the attribute.
    pub covered: &'a [u8],
    /// The attribute's value.
    pub value: &'a [u8],
}

/// Why a message is not authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntegrityError {
    /// Neither MESSAGE-INTEGRITY nor MESSAGE-INTEGRITY-SHA256: a 401.
    #[error("no message integrity")]
    Missing,
    /// The attribute has the wrong length: a 400.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Another key, or a message that was changed: a 401.
    #[error("wrong message integrity")]
    Mismatch,
}

/// A key for message integrity. Clones share the prepared HMAC state.
#[derive(Clone)]
pub struct Key(Arc<Prepared>);

struct Prepared {
    bytes: Box<[u8]>,
    sha1: OnceLock<Hmac<Sha1>>,
    sha256: OnceLock<Hmac<Sha256>>,
}

/// A computed HMAC: 20 or 32 bytes. It is compared in constant time.
#[derive(Clone, Copy)]
pub(crate) struct MacValue {
    bytes: [u8; 32],
    len: usize,
}

impl MacValue {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Key {
    /// A key as it is: a stored HA1, an RFC 7635 key, any length.
    pub fn raw(bytes: &[u8]) -> Key {
        let (sha1, sha256) = (OnceLock::new(), OnceLock::new());
        Key(Arc::new(Prepared { bytes: bytes.into(), sha1, sha256 }))
    }

    /// The long-term key (RFC 8489 sections 9.2.2 and 18.5.1): a hash over
    /// username ":" realm ":" password, all three prepared (see
    /// [`crate::credentials::prepare`]). Trailing NULs and enclosing quotes do not count.
    pub fn long_term(
        algorithm: PasswordAlgorithm,
        username: &str,
        realm: &str,
        password: &str,
    ) -> Key {
        let password = password.trim_end_matches('\0');
        let parts = [unquoted(username), ":", unquoted(realm), ":", password];
        match algorithm {
            PasswordAlgorithm::Md5 => Key::raw(&digest::<Md5>(&parts)),
            PasswordAlgorithm::Sha256 => Key::raw(&digest::<Sha256>(&parts)),
        }
    }

    /// The short-term key: the prepared password (RFC 8489 section 9.1.1).
    pub fn short_term(password: &str) -> Key {
        Key::raw(password.as_bytes())
    }

    /// Prepares the HMAC state for both hashes now, so that the first message costs what every
    /// other one does.
    pub fn warm(&self) {
        self.sha1();
        self.sha256();
    }

    fn sha1(&self) -> &Hmac<Sha1> {
        self.0.sha1.get_or_init(|| hmac(&self.0.bytes))
    }

    fn sha256(&self) -> &Hmac<Sha256> {
        self.0.sha256.get_or_init(|| hmac(&self.0.bytes))
    }

    /// The HMAC for an integrity attribute of `len` bytes that follows `covered`.
    pub(crate) fn mac(&self, hash: Hash, covered: &[u8], len: usize) -> MacValue {
        // The attribute's end; a message's length fits 16 bits, and an overlong one is refused
        // by whoever appends the attribute.
        let length = (covered.len() + 4 + len.next_multiple_of(4)).wrapping_sub(HEADER_LEN) as u16;
        let length = length.to_be_bytes();
        let (start, rest) = covered.split_at_checked(2).unwrap_or((covered, &[]));
        let pieces = [start, &length, rest.get(2..).unwrap_or_default()];
        let mut value = MacValue { bytes: [0; 32], len: 0 };
        match hash {
            Hash::Sha1 => fill(&mut value, self.sha1().clone(), &pieces),
            Hash::Sha256 => fill(&mut value, self.sha256().clone(), &pieces),
        }
        value
    }

    /// Verifies a message as TURN does: MESSAGE-INTEGRITY-SHA256 if it is there, in full length,
    /// else MESSAGE-INTEGRITY (RFC 8489 section 9.2.4). Says which one it was.
    ///
    /// # Errors
    /// [`IntegrityError`].
    pub fn verify(&self, message: &Message<'_>) -> Result<Hash, IntegrityError> {
        let signature = message
            .signature(Hash::Sha256)
            .or_else(|| message.signature(Hash::Sha1))
            .ok_or(IntegrityError::Missing)?;
        self.verify_signature(&signature, 32)?;
        Ok(signature.hash)
    }

    /// Verifies one integrity attribute, admitting a MESSAGE-INTEGRITY-SHA256 truncated to no
    /// fewer than `sha256_min` bytes, and never fewer than 16.
    ///
    /// # Errors
    /// [`IntegrityError::Malformed`], [`IntegrityError::Mismatch`].
    pub fn verify_signature(
        &self,
        signature: &Signature<'_>,
        sha256_min: usize,
    ) -> Result<(), IntegrityError> {
        let Signature { hash, covered, value } = *signature;
        signature.check_len(sha256_min)?;
        let mac = self.mac(hash, covered, value.len());
        let same: bool = mac.as_bytes()[..value.len()].ct_eq(value).into();
        if same { Ok(()) } else { Err(IntegrityError::Mismatch) }
    }
}

impl Signature<'_> {
    /// Whether the value has a length that its hash allows: 20 bytes for SHA-1; 32 for SHA-256,
    /// or a multiple of 4 of at least `sha256_min` and 16.
    ///
    /// # Errors
    /// [`Malformed`]: a 400.
    pub fn check_len(&self, sha256_min: usize) -> Result<(), Malformed> {
        let len = self.value.len();
        let (kind, good) = match self.hash {
            Hash::Sha1 => (AttributeType::MESSAGE_INTEGRITY, len == 20),
            Hash::Sha256 => (
                AttributeType::MESSAGE_INTEGRITY_SHA256,
                (sha256_min.max(16)..=32).contains(&len) && len.is_multiple_of(4),
            ),
        };
        if good { Ok(()) } else { Err(Fault::Length(len).of(kind)) }
    }
}

/// Same bytes, compared in constant time.
impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.0.bytes.ct_eq(&other.0.bytes).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// USERHASH: SHA-256(username ":" realm), both prepared (RFC 8489 section 14.4).
pub fn userhash(username: &str, realm: &str) -> [u8; 32] {
    digest::<Sha256>(&[username, ":", realm]).into()
}

fn digest<D: Digest>(parts: &[&str]) -> hmac::digest::Output<D> {
    let mut digest = D::new();
    parts.iter().for_each(|part| digest.update(part.as_bytes()));
    digest.finalize()
}

/// `HMAC` accepts keys of any length.
pub(crate) fn hmac<M: KeyInit>(key: &[u8]) -> M {
    M::new_from_slice(key).expect("HMAC accepts keys of any length")
}

fn fill<M: hmac::Mac>(value: &mut MacValue, mut mac: M, pieces: &[&[u8]]) {
    pieces.iter().for_each(|piece| mac.update(piece));
    let bytes = mac.finalize().into_bytes();
    value.len = bytes.len();
    value.bytes[..value.len].copy_from_slice(&bytes);
}

/// Without trailing NULs and one pair of enclosing quotes (RFC 8489 section 9.2.2).
fn unquoted(text: &str) -> &str {
    let text = text.trim_end_matches('\0');
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}
