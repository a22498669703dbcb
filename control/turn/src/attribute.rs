//! STUN attributes: their types, their typed values, and what can be wrong with them.
//!
//! The values here are plain data, decoded from and encoded to the value part of an attribute:
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+-------------------------------+
//! |             Type              |   Length (without padding)    |
//! +-------------------------------+-------------------------------+
//! |                       Value (variable)    | 0 to 3 zero bytes |
//! +-------------------------------+-------------------------------+
//! ```
//!
//! Where the attributes lie in a message is the business of [`crate::message`].

mod address;
mod algorithm;
mod error_code;
mod malformed;
mod types;
mod value;

pub use address::{Family, decode_address, decode_xor_address};
pub(crate) use address::{encode_address, encode_xor_address};
pub use algorithm::{PasswordAlgorithm, PasswordAlgorithms};
pub use error_code::{AddressErrorCode, Code, ErrorCode};
pub use malformed::{Fault, Malformed};
pub use types::AttributeType;
pub use value::{
    ChangeRequest, ChannelNumber, ChannelNumberError, Icmp, PROTOCOL_TCP, PROTOCOL_UDP,
};

/// Longest USERNAME, REALM, NONCE, SOFTWARE or reason phrase that is written, in bytes
/// (RFC 8489 sections 14.3, 14.8 to 14.10 and 14.14).
pub const TEXT_WRITE_MAX: usize = 509;

/// Longest USERNAME, REALM, NONCE, SOFTWARE or reason phrase that is read, in bytes
/// (RFC 8489 sections 14.3, 14.8 to 14.10 and 14.14).
pub const TEXT_READ_MAX: usize = 763;

/// Longest USERNAME that is written, in bytes: "fewer than 509" (RFC 8489 section 14.3).
pub const USERNAME_WRITE_MAX: usize = 508;

/// Longest ALTERNATE-DOMAIN, in bytes (RFC 8489 section 14.16).
pub const DOMAIN_MAX: usize = 255;
