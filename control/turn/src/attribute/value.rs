//! TURN's small fixed-size values (RFC 8656 section 18).

use super::Fault;
use crate::channel::ChannelNumber;

/// REQUESTED-TRANSPORT's protocol number for UDP.
pub const PROTOCOL_UDP: u8 = 17;

/// REQUESTED-TRANSPORT's protocol number for TCP (RFC 6062).
pub const PROTOCOL_TCP: u8 = 6;

/// Reads the value of CHANNEL-NUMBER; the two reserved bytes are ignored.
pub(crate) fn decode_channel_number(value: &[u8]) -> Result<ChannelNumber, Fault> {
    let &[high, low, _, _] = value else { return Err(Fault::Length(value.len())) };
    let number = u16::from_be_bytes([high, low]);
    ChannelNumber::new(number).ok_or(Fault::ChannelNumber(number))
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
    pub error_data: u32,
}

impl Icmp {
    pub(crate) fn decode(value: &[u8]) -> Result<Icmp, Fault> {
        let &[_, _, kind, code, a, b, c, d] = value else { return Err(Fault::Length(value.len())) };
        Ok(Icmp { kind, code, error_data: u32::from_be_bytes([a, b, c, d]) })
    }

    pub(crate) fn encode(self) -> [u8; 8] {
        let [a, b, c, d] = self.error_data.to_be_bytes();
        [0, 0, self.kind, self.code, a, b, c, d]
    }
}
