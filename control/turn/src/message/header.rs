//! Method, class and transaction id (RFC 8489 section 5).
//!
//! ```text
//!  bit 15  14  13  12  11  10   9   8   7   6   5   4   3   2   1   0
//!    | 0 | 0 |M11|M10|M9 |M8 |M7 |C1 |M6 |M5 |M4 |C0 |M3 |M2 |M1 |M0 |
//! ```

use std::fmt;

use super::HEADER_LEN;

/// What a message is to its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Asks for a response.
    Request,
    /// Asks for nothing.
    Indication,
    /// The request was carried out.
    Success,
    /// The request was refused; ERROR-CODE says why.
    Error,
}

impl Class {
    /// The two class bits.
    const fn bits(self) -> u16 {
        match self {
            Class::Request => 0,
            Class::Indication => 1,
            Class::Success => 2,
            Class::Error => 3,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Request => "request",
            Class::Indication => "indication",
            Class::Success => "success response",
            Class::Error => "error response",
        })
    }
}

/// A STUN method: 12 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method(u16);

impl Method {
    /// RFC 8489: what is my address?
    pub const BINDING: Method = Method(0x001);
    /// RFC 8656 section 7.
    pub const ALLOCATE: Method = Method(0x003);
    /// RFC 8656 section 8.
    pub const REFRESH: Method = Method(0x004);
    /// RFC 8656 section 11: indication from the client.
    pub const SEND: Method = Method(0x006);
    /// RFC 8656 section 11: indication from the server.
    pub const DATA: Method = Method(0x007);
    /// RFC 8656 section 10.
    pub const CREATE_PERMISSION: Method = Method(0x008);
    /// RFC 8656 section 12.
    pub const CHANNEL_BIND: Method = Method(0x009);
    /// RFC 6062 section 4.3.
    pub const CONNECT: Method = Method(0x00A);
    /// RFC 6062 section 4.3.
    pub const CONNECTION_BIND: Method = Method(0x00B);
    /// RFC 6062 section 4.4: indication from the server.
    pub const CONNECTION_ATTEMPT: Method = Method(0x00C);

    /// The method with this number, 0 to 0xFFF.
    pub const fn new(number: u16) -> Option<Method> {
        if number <= 0xFFF { Some(Method(number)) } else { None }
    }

    /// The number, 0 to 0xFFF.
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Method::BINDING => "Binding",
            Method::ALLOCATE => "Allocate",
            Method::REFRESH => "Refresh",
            Method::SEND => "Send",
            Method::DATA => "Data",
            Method::CREATE_PERMISSION => "CreatePermission",
            Method::CHANNEL_BIND => "ChannelBind",
            Method::CONNECT => "Connect",
            Method::CONNECTION_BIND => "ConnectionBind",
            Method::CONNECTION_ATTEMPT => "ConnectionAttempt",
            Method(number) => return write!(f, "method 0x{number:03x}"),
        })
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The 96 bits that tie a response to its request.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId(pub [u8; 12]);

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The first 20 bytes, if there are as many.
pub(super) fn header_of(bytes: &[u8]) -> Option<&[u8; HEADER_LEN]> {
    bytes.first_chunk()
}

pub(super) const fn encode_type(method: Method, class: Class) -> u16 {
    let (m, c) = (method.0, class.bits());
    (m & 0x00F) | (m & 0x070) << 1 | (m & 0xF80) << 2 | (c & 1) << 4 | (c & 2) << 7
}

pub(super) const fn decode_type(bits: u16) -> (Method, Class) {
    let method = (bits & 0x000F) | (bits & 0x00E0) >> 1 | (bits & 0x3E00) >> 2;
    let class = match (bits & 0x0100 != 0, bits & 0x0010 != 0) {
        (false, false) => Class::Request,
        (false, true) => Class::Indication,
        (true, false) => Class::Success,
        (true, true) => Class::Error,
    };
    (Method(method), class)
}
