//! TURN's small fixed-size values (RFC 8656 section 18).

use std::fmt;

use super::Fault;

/// REQUESTED-TRANSPORT's protocol number for UDP.
pub const PROTOCOL_UDP: u8 = 17;

/// REQUESTED-TRANSPORT's protocol number for TCP (RFC 6062).
pub const PROTOCOL_TCP: u8 = 6;

/// A channel number: 0x4000 to 0x4FFF by construction (RFC 8656 section 12).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelNumber(u16);

/// A number outside 0x4000 to 0x4FFF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("channel number 0x{0:04x} is outside 0x4000 to 0x4fff")]
pub struct ChannelNumberError(pub u16);

impl ChannelNumber {
    /// The lowest channel number, 0x4000.
    pub const MIN: ChannelNumber = ChannelNumber(0x4000);
    /// The highest channel number, 0x4FFF.
    pub const MAX: ChannelNumber = ChannelNumber(0x4FFF);

    /// The channel with this number.
    ///
    /// # Errors
    /// [`ChannelNumberError`] outside 0x4000 to 0x4FFF.
    pub const fn new(number: u16) -> Result<ChannelNumber, ChannelNumberError> {
        if Self::MIN.0 <= number && number <= Self::MAX.0 {
            Ok(ChannelNumber(number))
        } else {
            Err(ChannelNumberError(number))
        }
    }

    /// The number, 0x4000 to 0x4FFF.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Reads the value of CHANNEL-NUMBER; the two reserved bytes are ignored.
    pub(crate) fn decode(value: &[u8]) -> Result<ChannelNumber, Fault> {
        let &[high, low, _, _] = value else { return Err(Fault::Length(value.len())) };
        Self::new(u16::from_be_bytes([high, low])).map_err(|error| Fault::ChannelNumber(error.0))
    }
}

impl TryFrom<u16> for ChannelNumber {
    type Error = ChannelNumberError;

    fn try_from(number: u16) -> Result<Self, ChannelNumberError> {
        Self::new(number)
    }
}

impl From<ChannelNumber> for u16 {
    fn from(channel: ChannelNumber) -> u16 {
        channel.0
    }
}

impl fmt::Display for ChannelNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:04x}", self.0)
    }
}

impl fmt::Debug for ChannelNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// CHANGE-REQUEST (RFC 5780 section 7.2): where a Binding response is to come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeRequest {
    /// From the server's other address.
    pub ip: bool,
    /// From the server's other port.
    pub port: bool,
}

impl ChangeRequest {
    const IP: u8 = 4;
    const PORT: u8 = 2;

    pub(crate) fn decode(value: &[u8]) -> Result<ChangeRequest, Fault> {
        let &[_, _, _, flags] = value else { return Err(Fault::Length(value.len())) };
        Ok(ChangeRequest { ip: flags & Self::IP != 0, port: flags & Self::PORT != 0 })
    }

    pub(crate) fn encode(self) -> [u8; 4] {
        [0, 0, 0, (Self::IP * u8::from(self.ip)) | (Self::PORT * u8::from(self.port))]
    }
}

/// An ICMP attribute: why a datagram to a peer was dropped (RFC 8656 section 18.13). Type and
/// code have 8 bits each (erratum 8901).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// The type, of ICMP or of ICMPv6 by the family of the relayed address.
    pub kind: u8,
    /// The code.
    pub code: u8,
    /// The next hop's MTU in bytes for "too big" and "fragmentation needed", else 0.
    pub data: u32,
}

impl Icmp {
    pub(crate) fn decode(value: &[u8]) -> Result<Icmp, Fault> {
        let &[_, _, kind, code, a, b, c, d] = value else { return Err(Fault::Length(value.len())) };
        Ok(Icmp { kind, code, data: u32::from_be_bytes([a, b, c, d]) })
    }

    pub(crate) fn encode(self) -> [u8; 8] {
        let [a, b, c, d] = self.data.to_be_bytes();
        [0, 0, self.kind, self.code, a, b, c, d]
    }
}
