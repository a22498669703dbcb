//! What can be wrong with an attribute that this crate knows.

use super::AttributeType;

/// A known attribute whose value breaks its own format: in a request, a 400 (Bad Request).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{attribute}: {fault}")]
pub struct Malformed {
    /// The attribute.
    pub attribute: AttributeType,
    /// What is wrong with it.
    pub fault: Fault,
}

/// How an attribute's value breaks its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The value has not the length that its format asks for.
    #[error("a value of {0} bytes has the wrong length")]
    Length(usize),
    /// An address family other than IPv4 (1) and IPv6 (2). In REQUESTED-ADDRESS-FAMILY this is
    /// an unsupported family (440) rather than a malformed request.
    #[error("unknown address family {0}")]
    Family(u8),
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    Utf8,
    /// An error code outside 300 to 699, or a number above 99.
    #[error("error code of class {0} and number {1}")]
    ErrorCode(u8, u8),
    /// A channel number outside 0x4000 to 0x4FFF.
    #[error("channel number 0x{0:04x} is outside 0x4000 to 0x4fff")]
    ChannelNumber(u16),
    /// Parameters of a password algorithm that reach past the end of the value.
    #[error("parameters reach past the end of the value")]
    Parameters,
}

impl Fault {
    /// The fault, said of an attribute.
    pub const fn of(self, attribute: AttributeType) -> Malformed {
        Malformed { attribute, fault: self }
    }
}
