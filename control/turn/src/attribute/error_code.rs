//! ERROR-CODE and ADDRESS-ERROR-CODE (RFC 8489 section 14.8, RFC 8656 section 18.12).
//!
//! ```text
//! +---------------+-------------------+-------+-------------------+
//! | 0, or family  |     Reserved      | Class |      Number       |
//! +---------------+-------------------+-------+-------------------+
//! |                  Reason phrase (UTF-8)                        |
//! +---------------------------------------------------------------+
//! ```

use std::fmt;

use super::{Family, Fault, TEXT_READ_MAX};

/// An error code of RFC 8489 section 14.8, RFC 8656 section 19, RFC 6062 or RFC 8016.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(u16);

macro_rules! codes {
    ($($name:ident = $value:literal, $reason:literal;)*) => {
        impl Code {
            $(#[doc = concat!(stringify!($value), " ", $reason, ".")]
            pub const $name: Code = Code($value);)*

            /// The recommended reason phrase, or an empty one for a code that is not defined.
            pub const fn reason(self) -> &'static str {
                match self.0 {
                    $($value => $reason,)*
                    _ => "",
                }
            }
        }
    };
}

codes! {
    TRY_ALTERNATE = 300, "Try Alternate";
    BAD_REQUEST = 400, "Bad Request";
    UNAUTHENTICATED = 401, "Unauthenticated";
    FORBIDDEN = 403, "Forbidden";
    MOBILITY_FORBIDDEN = 405, "Mobility Forbidden";
    UNKNOWN_ATTRIBUTE = 420, "Unknown Attribute";
    ALLOCATION_MISMATCH = 437, "Allocation Mismatch";
    STALE_NONCE = 438, "Stale Nonce";
    ADDRESS_FAMILY_NOT_SUPPORTED = 440, "Address Family not Supported";
    WRONG_CREDENTIALS = 441, "Wrong Credentials";
    UNSUPPORTED_TRANSPORT = 442, "Unsupported Transport Protocol";
    PEER_ADDRESS_FAMILY_MISMATCH = 443, "Peer Address Family Mismatch";
    CONNECTION_ALREADY_EXISTS = 446, "Connection Already Exists";
    CONNECTION_FAILED = 447, "Connection Timeout or Failure";
    ALLOCATION_QUOTA_REACHED = 486, "Allocation Quota Reached";
    SERVER_ERROR = 500, "Server Error";
    INSUFFICIENT_CAPACITY = 508, "Insufficient Capacity";
}

impl Code {
    /// The code with this value, if it is one of 300 to 699.
    pub const fn new(value: u16) -> Option<Code> {
        if 300 <= value && value <= 699 { Some(Code(value)) } else { None }
    }

    /// The value, 300 to 699.
    pub const fn value(self) -> u16 {
        self.0
    }

    /// Class and number as the wire has them.
    pub(crate) const fn encode(self) -> [u8; 2] {
        // 300 to 699 by construction: the class is 3 to 6, the number 0 to 99.
        [(self.0 / 100) as u8, (self.0 % 100) as u8]
    }

    fn decode(class: u8, number: u8) -> Result<Code, Fault> {
        let class = class & 0x07;
        if !(3..=6).contains(&class) || number > 99 {
            return Err(Fault::ErrorCode(class, number));
        }
        Ok(Code(u16::from(class) * 100 + u16::from(number)))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            "" => write!(f, "{}", self.0),
            reason => write!(f, "{} {reason}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An ERROR-CODE attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode<'a> {
    /// The code.
    pub code: Code,
    /// For humans only; may be empty.
    pub reason: &'a str,
}

impl<'a> ErrorCode<'a> {
    pub(crate) fn decode(value: &'a [u8]) -> Result<Self, Fault> {
        let (_, code, reason) = decode(value)?;
        Ok(Self { code, reason })
    }
}

/// An ADDRESS-ERROR-CODE attribute: why an additional family was not allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressErrorCode<'a> {
    /// The family that was not allocated.
    pub family: Family,
    /// 440 or 508.
    pub code: Code,
    /// For humans only; may be empty.
    pub reason: &'a str,
}

impl<'a> AddressErrorCode<'a> {
    pub(crate) fn decode(value: &'a [u8]) -> Result<Self, Fault> {
        let (family, code, reason) = decode(value)?;
        Ok(Self { family: Family::from_code(family)?, code, reason })
    }
}

fn decode(value: &[u8]) -> Result<(u8, Code, &str), Fault> {
    let Some((&[first, _, class, number], reason)) = value.split_first_chunk::<4>() else {
        return Err(Fault::Length(value.len()));
    };
    if reason.len() > TEXT_READ_MAX {
        return Err(Fault::Length(value.len()));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Fault::Utf8)?;
    Ok((first, Code::decode(class, number)?, reason))
}
