//! ChannelData (RFC 8656 section 12.4): four bytes in front of a datagram.
//!
//! ```text
//! +-------------------------------+-------------------------------+
//! |   Channel (0x4000 to 0x4FFF)  |   Length (without padding)    |
//! +-------------------------------+-------------------------------+
//! |                Application data      | 0 to 3 bytes over UDP  |
//! +--------------------------------------+------------------------+
//! ```

use crate::attribute::ChannelNumber;

/// Length of the ChannelData header in bytes.
pub const CHANNEL_HEADER_LEN: usize = 4;

/// Most bytes of padding behind the data.
const PADDING_MAX: usize = 3;

/// Whether a datagram is in ChannelData's part of the first byte: 64 to 79 (RFC 8656
/// section 12, table 3).
pub fn is_channel_data(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| (0x40..=0x4F).contains(first))
}

/// A ChannelData message, borrowed from the buffer it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelData<'a> {
    /// The channel.
    pub channel: ChannelNumber,
    /// The application data, without padding; may be empty.
    pub data: &'a [u8],
}

impl<'a> ChannelData<'a> {
    /// Parses a datagram. Up to 3 bytes behind the data are padding, which RFC 8656 section 12.5
    /// allows over UDP; they are not looked at, and more than that is refused.
    ///
    /// `None` is to be dropped silently: too short, a channel outside 0x4000 to 0x4FFF, or a
    /// length that is not the datagram's.
    pub fn parse(bytes: &'a [u8]) -> Option<ChannelData<'a>> {
        let (&[high, low, len_high, len_low], rest) =
            bytes.split_first_chunk::<CHANNEL_HEADER_LEN>()?;
        let channel = ChannelNumber::new(u16::from_be_bytes([high, low])).ok()?;
        let len = usize::from(u16::from_be_bytes([len_high, len_low]));
        let data = rest.get(..len)?;
        (rest.len() - len <= PADDING_MAX).then_some(ChannelData { channel, data })
    }

    /// The header for this channel and data length in bytes.
    pub const fn header(channel: ChannelNumber, len: u16) -> [u8; CHANNEL_HEADER_LEN] {
        let ([a, b], [c, d]) = (channel.number().to_be_bytes(), len.to_be_bytes());
        [a, b, c, d]
    }

    /// Writes the message into `out`, which is cleared; `padded` adds zeros up to a multiple of
    /// 4, as streams require. `None` when `data` is longer than 65,535 bytes.
    pub fn write(self, out: &mut Vec<u8>, padded: bool) -> Option<&[u8]> {
        let len = u16::try_from(self.data.len()).ok()?;
        out.clear();
        out.extend_from_slice(&Self::header(self.channel, len));
        out.extend_from_slice(self.data);
        if padded {
            out.resize(out.len().next_multiple_of(4), 0);
        }
        Some(out)
    }
}
