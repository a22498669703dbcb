//! A borrowed STUN codec (RFC 8489 section 5): nothing is copied, nothing is allocated.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---+---------------------------+-------------------------------+
//! |0 0|  Method and class, mixed  |  Length: bytes that follow    |
//! +---+---------------------------+-------------------------------+
//! |                  Magic cookie 0x2112A442                      |
//! +---------------------------------------------------------------+
//! |                  Transaction id (96 bits)                     |
//! +---------------------------------------------------------------+
//! |  Attributes | MESSAGE-INTEGRITY | -SHA256 | FINGERPRINT       |
//! +-------------+-------------------+---------+-------------------+
//! ^ 20          ^ what follows here counts only if it is one of these
//! ```
//!
//! [`Message::parse`] checks the header and walks all attributes once: what it accepts can be
//! iterated without error. It never looks past the length in the header, which must be the
//! buffer's. Typed getters check the value of one attribute each and say what is wrong with it.
//! [`Builder`] writes into a buffer that the caller reuses: every byte is written anew, padding
//! is always zero.
//!
//! Of several attributes of one type the first wins (RFC 8489 section 14), save where the
//! getter returns an iterator.

mod attributes;
mod builder;
mod channel_data;
mod get;
mod header;
mod write;

pub use crate::attribute::{ChannelNumber, ChannelNumberError};
pub use attributes::{Attribute, Attributes};
pub use builder::{BuildError, Builder};
pub use channel_data::{CHANNEL_HEADER_LEN, ChannelData, is_channel_data};
pub use header::{Class, Method, TransactionId};

use crate::attribute::AttributeType;
use crate::integrity::{Hash, Signature};
use attributes::Offsets;
use header::{decode_type, header_of};

/// The magic cookie, 0x2112A442, as the wire has it.
pub const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

/// Length of the STUN header in bytes.
pub const HEADER_LEN: usize = 20;

/// Longest STUN message in bytes: the largest multiple of 4 that the length field can say, and
/// the header.
pub const MESSAGE_MAX: usize = HEADER_LEN + 65532;

/// Most attributes that a message may have. A message of 65 kB can hold 16,000 empty ones, each
/// of which every lookup would walk over; no real message has more than a few dozen.
pub const ATTRIBUTES_MAX: usize = 256;

/// The FINGERPRINT is the CRC-32 XORed with this, "STUN" (RFC 8489 section 14.7).
pub(crate) const FINGERPRINT_MASK: u32 = 0x5354_554E;

/// Whether a datagram may be STUN: two zero bits, room for a header, and the magic cookie
/// (RFC 8489 section 5, RFC 7983).
pub fn is_stun(bytes: &[u8]) -> bool {
    header_of(bytes).is_some_and(|header| header[0] & 0xC0 == 0 && header[4..8] == MAGIC_COOKIE)
}

/// Why a datagram is not a STUN message. Such a datagram is dropped without an answer
/// (RFC 8489 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Fewer bytes than a header.
    #[error("{0} bytes are too few for a STUN header")]
    Short(usize),
    /// The first two bits are not zero.
    #[error("the first two bits are not zero")]
    NotStun,
    /// Not the magic cookie: another protocol, or RFC 3489.
    #[error("wrong magic cookie")]
    Cookie,
    /// The length field is not a multiple of 4.
    #[error("length {0} is not a multiple of 4")]
    Unaligned(u16),
    /// The length field is not the length of what came.
    #[error("length field says {header} bytes, there are {actual}")]
    Length {
        /// Bytes after the header, as the header says.
        header: usize,
        /// Bytes after the header.
        actual: usize,
    },
    /// An attribute reaches past the end of the message.
    #[error("the attribute at byte {0} reaches past the end")]
    Overrun(usize),
    /// More than [`ATTRIBUTES_MAX`] attributes.
    #[error("more than {ATTRIBUTES_MAX} attributes")]
    TooManyAttributes,
    /// FINGERPRINT is not the last attribute, or not 4 bytes long.
    #[error("FINGERPRINT is misplaced or has the wrong length")]
    FingerprintPlace,
    /// FINGERPRINT is not that of the message.
    #[error("wrong FINGERPRINT")]
    Fingerprint,
}

/// A well-formed STUN message, borrowed from the buffer it came in.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    class: Class,
    method: Method,
    offsets: Offsets,
}

impl<'a> Message<'a> {
    /// Parses a datagram (or one message cut out of a stream). A FINGERPRINT, if there is one,
    /// is verified. Integrity is not: that needs a key, see [`crate::integrity::Key::verify`].
    ///
    /// # Errors
    /// [`ParseError`]: drop it silently.
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, ParseError> {
        let header = header_of(bytes).ok_or(ParseError::Short(bytes.len()))?;
        if header[0] & 0xC0 != 0 {
            return Err(ParseError::NotStun);
        }
        if header[4..8] != MAGIC_COOKIE {
            return Err(ParseError::Cookie);
        }
        let length = u16::from_be_bytes([header[2], header[3]]);
        if !length.is_multiple_of(4) {
            return Err(ParseError::Unaligned(length));
        }
        let actual = bytes.len() - HEADER_LEN;
        if usize::from(length) != actual {
            return Err(ParseError::Length { header: length.into(), actual });
        }
        let (method, class) = decode_type(u16::from_be_bytes([header[0], header[1]]));
        let offsets = Offsets::find(bytes)?;
        let message = Message { bytes, class, method, offsets };
        message.verify_fingerprint()?;
        Ok(message)
    }

    fn verify_fingerprint(&self) -> Result<(), ParseError> {
        let Some(offset) = self.offsets.fingerprint() else { return Ok(()) };
        let Some((covered, [_, _, 0, 4, value @ ..])) = self.bytes.split_at_checked(offset) else {
            return Err(ParseError::FingerprintPlace);
        };
        let expected = (crc32fast::hash(covered) ^ FINGERPRINT_MASK).to_be_bytes();
        if *value == expected {
            Ok(())
        } else if value.len() == 4 {
            Err(ParseError::Fingerprint)
        } else {
            Err(ParseError::FingerprintPlace)
        }
    }

    /// Request, indication, success or error.
    pub const fn class(&self) -> Class {
        self.class
    }

    /// The method.
    pub const fn method(&self) -> Method {
        self.method
    }

    /// The transaction id.
    pub fn transaction(&self) -> TransactionId {
        let mut id = [0; 12];
        id.copy_from_slice(&self.bytes[8..HEADER_LEN]);
        TransactionId(id)
    }

    /// The message, header included.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The attributes that count, in order: all that precede the first of MESSAGE-INTEGRITY,
    /// MESSAGE-INTEGRITY-SHA256 and FINGERPRINT. What is signed or summed is not among them,
    /// nor is anything that somebody appended behind a signature (RFC 8489 section 9).
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(&self.bytes[..self.offsets.end()])
    }

    /// The value of the first attribute of this type, among [`Message::attributes`].
    pub fn attribute(&self, kind: AttributeType) -> Option<&'a [u8]> {
        self.attributes().find(|attribute| attribute.kind == kind).map(|attribute| attribute.value)
    }

    /// Whether there is an attribute of this type, among [`Message::attributes`].
    pub fn has(&self, kind: AttributeType) -> bool {
        self.attribute(kind).is_some()
    }

    /// The comprehension-required attributes that this crate does not know, in order and without
    /// repetition: what UNKNOWN-ATTRIBUTES of a 420 lists.
    pub fn unknown_required(&self) -> impl Iterator<Item = AttributeType> + use<'a> {
        self.unknown_required_and(|_| false)
    }

    /// The same, and those that are `off`: known here, and not used by this server.
    pub fn unknown_required_and<F: Fn(AttributeType) -> bool + Clone>(
        &self,
        off: F,
    ) -> impl Iterator<Item = AttributeType> + Clone + use<'a, F> {
        let all = self.attributes();
        let unknown = move |kind: AttributeType| {
            kind.is_comprehension_required() && (!kind.is_known() || off(kind))
        };
        all.clone().enumerate().map(|(at, attribute)| (at, attribute.kind)).filter_map(
            move |(at, kind)| {
                let repeated = || all.clone().take(at).any(|earlier| earlier.kind == kind);
                (unknown(kind) && !repeated()).then_some(kind)
            },
        )
    }

    /// Whether there is MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256, right or wrong.
    pub const fn has_integrity(&self) -> bool {
        self.offsets.sha1().is_some() || self.offsets.sha256().is_some()
    }

    /// The MESSAGE-INTEGRITY (SHA-1) or MESSAGE-INTEGRITY-SHA256 attribute and what it covers,
    /// if it is there and where it may be: MESSAGE-INTEGRITY behind MESSAGE-INTEGRITY-SHA256
    /// is ignored.
    pub fn signature(&self, hash: Hash) -> Option<Signature<'a>> {
        let offset = match hash {
            Hash::Sha1 => self.offsets.sha1()?,
            Hash::Sha256 => self.offsets.sha256()?,
        };
        let (covered, attribute) = self.bytes.split_at_checked(offset)?;
        let value = Attributes::new_at(attribute).next()?.value;
        Some(Signature { hash, covered, value })
    }

    /// Whether there is a FINGERPRINT; [`Message::parse`] has verified it.
    pub const fn has_fingerprint(&self) -> bool {
        self.offsets.fingerprint().is_some()
    }
}

impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:?} [", self.method, self.class, self.transaction())?;
        for (at, attribute) in self.attributes().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{} ({})", attribute.kind, attribute.value.len())?;
        }
        f.write_str("]")
    }
}
