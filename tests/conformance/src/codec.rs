//! STUN messages, written and read from the RFCs for this program alone: nothing here is shared with
//! Turnwire's own codec, so that the two cannot be wrong together.
//!
//! ```text
//!  0                   1                   2                   3
//! |0 0|  type, 14 bits            |  length of what follows 20    |
//! |                       cookie 0x2112A442                       |
//! |                  transaction id, 96 bits                      |
//! |  attribute type               |  length, without padding      |
//! |  value, padded with zeros to a multiple of 4                  |
//! ```

mod answer;
mod keys;

use std::net::{IpAddr, SocketAddr};

pub use answer::{Answer, Attribute};
pub use keys::{Algorithm, Hash, hmac, long_term_key, userhash};

/// RFC 8489 section 5.
pub const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// What FINGERPRINT's CRC is mixed with (RFC 8489 section 14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// A transaction id.
pub type Id = [u8; 12];

/// Message types: class and method in one number (RFC 8489 section 5, RFC 8656 section 17,
/// RFC 6062 section 6.1).
pub mod kind {
    #![allow(missing_docs, reason = "the names are the RFCs' own")]
    pub const BINDING: u16 = 0x0001;
    pub const BINDING_INDICATION: u16 = 0x0011;
    pub const ALLOCATE: u16 = 0x0003;
    pub const REFRESH: u16 = 0x0004;
    pub const SEND: u16 = 0x0016;
    pub const DATA: u16 = 0x0017;
    pub const CREATE_PERMISSION: u16 = 0x0008;
    pub const CHANNEL_BIND: u16 = 0x0009;
    pub const CONNECT: u16 = 0x000a;
    pub const CONNECTION_BIND: u16 = 0x000b;
    pub const CONNECTION_ATTEMPT: u16 = 0x001c;

    /// The success response to a request.
    pub const fn success(request: u16) -> u16 {
        request | 0x0100
    }

    /// The error response to a request.
    pub const fn error(request: u16) -> u16 {
        request | 0x0110
    }

    /// Method and class as a type: `class` is 0 for requests, 1 for indications, 2 and 3 for
    /// success and error responses.
    pub const fn of(method: u16, class: u16) -> u16 {
        let spread = (method & 0x0f) | (method & 0x70) << 1 | (method & 0xf80) << 2;
        spread | (class & 1) << 4 | (class & 2) << 7
    }
}

/// Attribute types.
pub mod attribute {
    #![allow(missing_docs, reason = "the names are the RFCs' own")]
    pub const CHANGE_REQUEST: u16 = 0x0003;
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub const CHANNEL_NUMBER: u16 = 0x000c;
    pub const LIFETIME: u16 = 0x000d;
    pub const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub const DATA: u16 = 0x0013;
    pub const REALM: u16 = 0x0014;
    pub const NONCE: u16 = 0x0015;
    pub const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    pub const EVEN_PORT: u16 = 0x0018;
    pub const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub const DONT_FRAGMENT: u16 = 0x001a;
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub const PASSWORD_ALGORITHM: u16 = 0x001d;
    pub const USERHASH: u16 = 0x001e;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    /// The same without the XOR.
    pub const MAPPED_ADDRESS: u16 = 0x0001;
    pub const RESERVATION_TOKEN: u16 = 0x0022;
    pub const PADDING: u16 = 0x0026;
    pub const RESPONSE_PORT: u16 = 0x0027;
    pub const CONNECTION_ID: u16 = 0x002a;
    pub const ADDITIONAL_ADDRESS_FAMILY: u16 = 0x8000;
    pub const ADDRESS_ERROR_CODE: u16 = 0x8001;
    pub const PASSWORD_ALGORITHMS: u16 = 0x8002;
    pub const ICMP: u16 = 0x8004;
    pub const SOFTWARE: u16 = 0x8022;
    pub const ALTERNATE_SERVER: u16 = 0x8023;
    pub const FINGERPRINT: u16 = 0x8028;
    pub const RESPONSE_ORIGIN: u16 = 0x802b;
    pub const OTHER_ADDRESS: u16 = 0x802c;
    pub const MOBILITY_TICKET: u16 = 0x8030;
}

/// A message being written. It may be as wrong as a check wants it.
#[derive(Clone, Debug)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A message without attributes.
    pub fn new(kind: u16, id: Id) -> Self {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&COOKIE);
        bytes.extend_from_slice(&id);
        Self { bytes }
    }

    /// One attribute, padded with zeros.
    pub fn with(self, kind: u16, value: &[u8]) -> Self {
        self.with_padding(kind, value, 0)
    }

    /// One attribute, padded with any byte (RFC 8489 section 14: receivers ignore which).
    pub fn with_padding(self, kind: u16, value: &[u8], padding: u8) -> Self {
        let mut padded = value.to_vec();
        padded.resize(value.len().next_multiple_of(4), padding);
        self.with_length(kind, value.len() as u16, &padded)
    }

    /// One attribute whose length field says what it likes.
    pub fn with_length(mut self, kind: u16, length: u16, value: &[u8]) -> Self {
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value);
        self.fix_length();
        self
    }

    /// A 32-bit number.
    pub fn with_u32(self, kind: u16, value: u32) -> Self {
        self.with(kind, &value.to_be_bytes())
    }

    /// An address, XORed with cookie and transaction id (RFC 8489 section 14.2).
    pub fn with_xor_address(self, kind: u16, address: SocketAddr) -> Self {
        let mask: [u8; 16] = [&COOKIE[..], self.id()].concat().try_into().expect("4 and 12 bytes");
        let port = address.port() ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
        let (family, ip) = match address.ip() {
            IpAddr::V4(ip) => (1, ip.octets().to_vec()),
            IpAddr::V6(ip) => (2, ip.octets().to_vec()),
        };
        let mut value = vec![0, family];
        value.extend_from_slice(&port.to_be_bytes());
        value.extend(ip.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        self.with(kind, &value)
    }

    /// Whatever `more` adds.
    pub fn and(self, more: impl FnOnce(Self) -> Self) -> Self {
        more(self)
    }

    /// MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256 over what is there.
    pub fn sign(self, hash: Hash, key: &[u8]) -> Self {
        let value = self.mac(hash, key);
        self.with(hash.attribute(), &value)
    }

    /// What an integrity attribute appended here would be.
    pub fn mac(&self, hash: Hash, key: &[u8]) -> Vec<u8> {
        self.mac_of(hash, key, hash.len())
    }

    /// The same for an attribute cut to `len` bytes.
    pub fn mac_of(&self, hash: Hash, key: &[u8], len: usize) -> Vec<u8> {
        let mut covered = self.bytes.clone();
        let length = (covered.len() - 20 + 4 + len) as u16;
        covered[2..4].copy_from_slice(&length.to_be_bytes());
        let mut value = hmac(hash, key, &covered);
        value.truncate(len);
        value
    }

    /// FINGERPRINT over what is there, XORed with `wrong` (0 for a right one).
    pub fn fingerprint(self, wrong: u32) -> Self {
        let mut covered = self.bytes.clone();
        let length = (covered.len() - 20 + 8) as u16;
        covered[2..4].copy_from_slice(&length.to_be_bytes());
        let crc = crc32fast::hash(&covered) ^ FINGERPRINT_XOR ^ wrong;
        self.with(attribute::FINGERPRINT, &crc.to_be_bytes())
    }

    fn fix_length(&mut self) {
        let length = (self.bytes.len() - 20) as u16;
        self.bytes[2..4].copy_from_slice(&length.to_be_bytes());
    }

    /// The transaction id.
    pub fn id(&self) -> &[u8] {
        &self.bytes[8..20]
    }

    /// The message.
    pub fn bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A ChannelData message without padding (RFC 8656 section 12.4).
pub fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// Bytes as people read them, cut after 160.
pub fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 160;
    let mut text: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN {
        text.push_str(&format!("... ({} bytes)", bytes.len()));
    }
    text
}
