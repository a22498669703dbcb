//! Writing a message into a buffer that the caller owns and reuses.
//!
//! The buffer is cleared and every byte is appended, padding included: nothing that an earlier
//! message left in it can reach the wire. The length field is right after each attribute, as
//! the integrity and fingerprint attributes need it.
//!
//! Writers chain and do not fail one by one; [`Builder::finish`] reports the first error.

use super::header::encode_type;
use super::{
    Class, FINGERPRINT_MASK, HEADER_LEN, MAGIC_COOKIE, Message, Method, ParseError, TransactionId,
};
use crate::attribute::AttributeType;
use crate::integrity::{Hash, Key};

/// Longest value whose attribute, with its header and padding, can be in a message at all.
const VALUE_MAX: usize = 65528;

/// Why a message was not built. Each is a mistake of the caller, or input without a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A value is longer than its attribute allows, or does not fit the message any more.
    #[error("{0} does not fit")]
    TooLong(AttributeType),
    /// An attribute behind MESSAGE-INTEGRITY, where receivers ignore it, or behind FINGERPRINT.
    #[error("{0} behind the message's integrity or fingerprint")]
    Order(AttributeType),
    /// A truncated MESSAGE-INTEGRITY-SHA256 of a length other than 16, 20, 24, 28 or 32.
    #[error("MESSAGE-INTEGRITY-SHA256 cannot be truncated to {0} bytes")]
    Truncation(usize),
}

/// How far a message has been written: later stages admit fewer attributes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Attributes,
    Sha1,
    Sha256,
    Fingerprint,
}

/// Writes one message. The typed writers are named as the getters of [`Message`].
pub struct Builder<'b> {
    out: &'b mut Vec<u8>,
    stage: Stage,
    error: Option<BuildError>,
}

impl<'b> Builder<'b> {
    /// Starts a message in `out`, which is cleared.
    pub fn new(
        out: &'b mut Vec<u8>,
        class: Class,
        method: Method,
        transaction: TransactionId,
    ) -> Self {
        out.clear();
        out.extend_from_slice(&encode_type(method, class).to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&MAGIC_COOKIE);
        out.extend_from_slice(&transaction.0);
        Self { out, stage: Stage::Attributes, error: None }
    }

    /// Starts the response of this class to `request`: same method, same transaction id.
    pub fn reply(out: &'b mut Vec<u8>, request: &Message<'_>, class: Class) -> Self {
        Self::new(out, class, request.method(), request.transaction())
    }

    /// Goes on with a message that is already in `out`: adds to it, or signs it.
    ///
    /// # Errors
    /// [`ParseError`] unless `out` is a message.
    pub fn append_to(out: &'b mut Vec<u8>) -> Result<Self, ParseError> {
        let message = Message::parse(out)?;
        let stage = if message.has_fingerprint() {
            Stage::Fingerprint
        } else if message.signature(Hash::Sha256).is_some() {
            Stage::Sha256
        } else if message.has_integrity() {
            Stage::Sha1
        } else {
            Stage::Attributes
        };
        Ok(Self { out, stage, error: None })
    }

    /// The message as a whole.
    ///
    /// # Errors
    /// The first [`BuildError`] of any writer; the buffer is then to be thrown away.
    pub fn finish(self) -> Result<&'b [u8], BuildError> {
        match self.error {
            None => Ok(self.out),
            Some(error) => {
                self.out.clear();
                Err(error)
            }
        }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Never: there is a header.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    pub(super) fn transaction(&self) -> TransactionId {
        let mut id = [0; 12];
        id.copy_from_slice(&self.out[8..HEADER_LEN]);
        TransactionId(id)
    }

    /// Keeps the first error.
    pub(super) fn fail(&mut self, error: BuildError) -> &mut Self {
        self.error.get_or_insert(error);
        self
    }

    /// Any attribute, its value as it is; padded with zeros.
    pub fn attribute(&mut self, kind: AttributeType, value: &[u8]) -> &mut Self {
        self.attribute_parts(kind, &[value])
    }

    /// Any attribute, its value in pieces.
    pub(super) fn attribute_parts(&mut self, kind: AttributeType, parts: &[&[u8]]) -> &mut Self {
        if self.stage != Stage::Attributes {
            return self.fail(BuildError::Order(kind));
        }
        self.append(kind, parts)
    }

    fn append(&mut self, kind: AttributeType, parts: &[&[u8]]) -> &mut Self {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let body = self.out.len() - HEADER_LEN + 4 + len.next_multiple_of(4);
        let (true, Ok(body)) = (len <= VALUE_MAX, u16::try_from(body)) else {
            return self.fail(BuildError::TooLong(kind));
        };
        self.out.extend_from_slice(&kind.0.to_be_bytes());
        self.out.extend_from_slice(&(len as u16).to_be_bytes());
        parts.iter().for_each(|part| self.out.extend_from_slice(part));
        self.out.resize(HEADER_LEN + usize::from(body), 0);
        self.out[2..4].copy_from_slice(&body.to_be_bytes());
        self
    }

    /// MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256 over what has been written.
    pub fn integrity(&mut self, key: &Key, hash: Hash) -> &mut Self {
        match hash {
            Hash::Sha1 => self.sign(AttributeType::MESSAGE_INTEGRITY, Stage::Sha1, key, hash, 20),
            Hash::Sha256 => self.integrity_sha256_truncated(key, 32),
        }
    }

    /// MESSAGE-INTEGRITY-SHA256 of `len` bytes: 16, 20, 24, 28 or 32. Only for usages that
    /// allow truncation (RFC 8489 section 14.6); TURN does not.
    pub fn integrity_sha256_truncated(&mut self, key: &Key, len: usize) -> &mut Self {
        if !(16..=32).contains(&len) || !len.is_multiple_of(4) {
            return self.fail(BuildError::Truncation(len));
        }
        let kind = AttributeType::MESSAGE_INTEGRITY_SHA256;
        self.sign(kind, Stage::Sha256, key, Hash::Sha256, len)
    }

    fn sign(
        &mut self,
        kind: AttributeType,
        stage: Stage,
        key: &Key,
        hash: Hash,
        len: usize,
    ) -> &mut Self {
        if self.stage >= stage {
            return self.fail(BuildError::Order(kind));
        }
        let mac = key.mac(hash, self.out, len);
        self.stage = stage;
        self.append(kind, &[&mac.as_bytes()[..len]])
    }

    /// FINGERPRINT over what has been written: the last attribute.
    pub fn fingerprint(&mut self) -> &mut Self {
        let kind = AttributeType::FINGERPRINT;
        if self.stage == Stage::Fingerprint {
            return self.fail(BuildError::Order(kind));
        }
        self.stage = Stage::Fingerprint;
        let covered = self.out.len();
        self.append(kind, &[&[0; 4]]);
        if self.out.len() == covered + 8 {
            let crc = crc32fast::hash(&self.out[..covered]) ^ FINGERPRINT_MASK;
            self.out[covered + 4..].copy_from_slice(&crc.to_be_bytes());
        }
        self
    }
}
