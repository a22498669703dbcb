//! As much of STUN (RFC 8489) and TURN (RFC 8656) messages as a test client needs.
//!
//! ```text
//!  0                   2                   4                               20
//!  +-------------------+-------------------+------------------------------+----------------+
//!  | class and method  | length of the rest| cookie 2112a442, transaction | type, length,  |
//!  |                   |                   |                              | value, padding |...
//!  +-------------------+-------------------+------------------------------+----------------+
//! ```

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER_LEN: usize = 20;

/// Message types as they stand on the wire: method and class.
pub mod kind {
    #![allow(missing_docs, reason = "the names are the RFC's")]
    pub const BINDING: u16 = 0x0001;
    pub const ALLOCATE: u16 = 0x0003;
    pub const REFRESH: u16 = 0x0004;
    pub const SEND_INDICATION: u16 = 0x0016;
    pub const DATA_INDICATION: u16 = 0x0017;
    pub const CREATE_PERMISSION: u16 = 0x0008;
    pub const CHANNEL_BIND: u16 = 0x0009;
    /// Added to a request's kind, gives its success response's.
    pub const SUCCESS: u16 = 0x0100;
    /// Added to a request's kind, gives its error response's.
    pub const ERROR: u16 = 0x0110;
}

/// Attribute types.
pub mod attribute {
    #![allow(missing_docs, reason = "the names are the RFC's")]
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const CHANNEL_NUMBER: u16 = 0x000c;
    pub const LIFETIME: u16 = 0x000d;
    pub const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub const DATA: u16 = 0x0013;
    pub const REALM: u16 = 0x0014;
    pub const NONCE: u16 = 0x0015;
    pub const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    pub const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub const DONT_FRAGMENT: u16 = 0x001a;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
}

/// A transaction id.
pub type Transaction = [u8; 12];

/// A message being written.
#[derive(Clone, Debug)]
pub struct Builder(Vec<u8>);

impl Builder {
    /// A message without attributes.
    pub fn new(kind: u16, transaction: Transaction) -> Self {
        let mut bytes = Vec::from(kind.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(COOKIE);
        bytes.extend(transaction);
        Self(bytes)
    }

    /// Adds an attribute, padded with zeroes.
    #[must_use]
    pub fn with(self, attribute: u16, value: &[u8]) -> Self {
        self.with_padding(attribute, value, 0)
    }

    /// Adds an attribute, padded with any byte: a receiver is not to look at it (RFC 8489 section 14).
    #[must_use]
    pub fn with_padding(mut self, attribute: u16, value: &[u8], padding: u8) -> Self {
        self.0.extend(attribute.to_be_bytes());
        self.0.extend((value.len() as u16).to_be_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), padding);
        self.set_length(self.0.len());
        self
    }

    /// Adds an address attribute of the XOR kind.
    #[must_use]
    pub fn with_xor_address(self, attribute: u16, address: SocketAddr) -> Self {
        let mut value = vec![0, if address.is_ipv4() { 1 } else { 2 }];
        value.extend(address.port().to_be_bytes());
        match address.ip() {
            IpAddr::V4(ip) => value.extend(ip.octets()),
            IpAddr::V6(ip) => value.extend(ip.octets()),
        }
        mask(&mut value, &self.0);
        self.with(attribute, &value)
    }

    /// Adds MESSAGE-INTEGRITY (HMAC-SHA1), which must come last.
    #[must_use]
    pub fn with_integrity(mut self, key: &[u8]) -> Self {
        self.set_length(self.0.len() + 24);
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(key) else { return self };
        mac.update(&self.0);
        let digest = mac.finalize().into_bytes();
        self.with(attribute::MESSAGE_INTEGRITY, &digest)
    }

    /// The message's bytes.
    pub fn bytes(self) -> Vec<u8> {
        self.0
    }

    fn set_length(&mut self, whole: usize) {
        self.0[2..4].copy_from_slice(&((whole - HEADER_LEN) as u16).to_be_bytes());
    }
}

/// A message that was received.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// `None` when the bytes are not a whole STUN message, exactly.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let length = usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
        let whole = bytes.get(4..8)? == COOKIE && bytes.len() == HEADER_LEN + length;
        whole.then(|| Self { bytes: bytes.into() })
    }

    /// Method and class.
    pub fn kind(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    /// Whose request this answers.
    pub fn transaction(&self) -> &[u8] {
        &self.bytes[8..HEADER_LEN]
    }

    /// The first attribute of a type.
    pub fn attribute(&self, wanted: u16) -> Option<&[u8]> {
        let mut rest = &self.bytes[HEADER_LEN..];
        while let [t0, t1, l0, l1, values @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*l0, *l1]));
            let value = values.get(..length)?;
            if u16::from_be_bytes([*t0, *t1]) == wanted {
                return Some(value);
            }
            rest = values.get(length.next_multiple_of(4)..)?;
        }
        None
    }

    /// The first attribute of a type, as a number of four bytes.
    pub fn number(&self, wanted: u16) -> Option<u32> {
        self.attribute(wanted)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// The first attribute of a type, as an address of the XOR kind.
    pub fn xor_address(&self, wanted: u16) -> Option<SocketAddr> {
        let mut value = self.attribute(wanted)?.to_vec();
        mask(&mut value, &self.bytes);
        let port = u16::from_be_bytes([*value.get(2)?, *value.get(3)?]);
        let ip: IpAddr = match *value.get(1)? {
            1 => <[u8; 4]>::try_from(value.get(4..)?).ok()?.into(),
            2 => <[u8; 16]>::try_from(value.get(4..)?).ok()?.into(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }

    /// ERROR-CODE's number.
    pub fn error_code(&self) -> Option<u16> {
        let value = self.attribute(attribute::ERROR_CODE)?;
        Some(u16::from(*value.get(2)? & 7) * 100 + u16::from(*value.get(3)?))
    }
}

/// RFC 8489 section 14.2: the port with the cookie's first half, the address with the cookie and
/// the transaction id. `header` is a message's start.
fn mask(value: &mut [u8], header: &[u8]) {
    for (byte, key) in value[2..4].iter_mut().zip(&header[4..6]) {
        *byte ^= key;
    }
    for (byte, key) in value[4..].iter_mut().zip(&header[4..20]) {
        *byte ^= key;
    }
}

/// The key of a long-term credential (RFC 8489 section 9.2.2).
pub fn long_term_key(user: &str, realm: &str, password: &str) -> Vec<u8> {
    Md5::digest(format!("{user}:{realm}:{password}")).to_vec()
}
