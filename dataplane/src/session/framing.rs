//! Where one message ends and the next begins in a stream (RFC 8489 section 6.2.2, RFC 8656 section
//! 12.5). Pure: looks at bytes, keeps nothing.
//!
//! ```text
//!   0x00..0x03  STUN         | type 2 | length 2 | cookie 4 | transaction 12 | length bytes |
//!                              length: a multiple of 4
//!   0x40..0x4F  ChannelData  | channel 2 | length 2 | length bytes | 0 to 3 bytes of padding |
//!   all else                 neither: the stream makes no sense from here on (RFC 7983)
//! ```
//!
//! A lying length only ever makes a message wait for bytes that do not come. The first message of
//! a stream is STUN: whoever has no allocation has no channel, and `GET /` looks like ChannelData.

use super::Ending;

/// Longest STUN message taken from a stream, bytes with its header: a Send indication of a jumbo
/// frame fits, and a message of many thousand empty attributes does not.
pub const STUN_MAX: usize = 16 << 10;

/// Longest message of any kind: ChannelData of 65,535 bytes with its padding.
pub const FRAME_MAX: usize = 4 + 65_536;

/// Bytes of a STUN header.
const STUN_HEADER: usize = 20;

/// Bytes of a ChannelData header.
const CHANNEL_HEADER: usize = 4;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

/// What a stream's bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A whole STUN message of `size` bytes.
    Stun {
        /// Bytes of it.
        size: usize,
    },
    /// A whole ChannelData message: 4 bytes of header, `data` bytes, padding up to `size` bytes.
    Channel {
        /// Channel number, 0x4000 to 0x4FFF.
        channel: u16,
        /// Bytes of application data.
        data: usize,
        /// Bytes in the stream, a multiple of 4.
        size: usize,
    },
    /// Nothing can be said before there are `size` bytes in all.
    Partial {
        /// More than there are; never more than [`FRAME_MAX`].
        size: usize,
    },
    /// Neither. The connection is closed, for this.
    Refused(Ending),
}

/// Looks at the first message of `bytes`. `opened`: a whole STUN message came before.
pub fn cut(bytes: &[u8], opened: bool) -> Cut {
    match bytes.first() {
        None => Cut::Partial { size: CHANNEL_HEADER },
        Some(0x00..=0x03) => stun(bytes),
        Some(0x40..=0x4F) if opened => channel_data(bytes),
        Some(_) => Cut::Refused(Ending::NotStun),
    }
}

fn stun(bytes: &[u8]) -> Cut {
    // The cookie is compared as far as it has come: what is not STUN is not waited for.
    let cookie = bytes.get(4..).unwrap_or_default();
    if cookie.iter().zip(COOKIE).any(|(byte, expected)| *byte != expected) {
        return Cut::Refused(Ending::NotStun);
    }
    let Some(&[_, _, high, low]) = bytes.first_chunk() else {
        return Cut::Partial { size: STUN_HEADER };
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if !length.is_multiple_of(4) {
        return Cut::Refused(Ending::BadLength);
    }
    let size = STUN_HEADER + length;
    if size > STUN_MAX {
        return Cut::Refused(Ending::TooLong);
    }
    if bytes.len() < size { Cut::Partial { size } } else { Cut::Stun { size } }
}

fn channel_data(bytes: &[u8]) -> Cut {
    let Some(&[a, b, c, d]) = bytes.first_chunk() else {
        return Cut::Partial { size: CHANNEL_HEADER };
    };
    let data = usize::from(u16::from_be_bytes([c, d]));
    let size = (CHANNEL_HEADER + data).next_multiple_of(4);
    if bytes.len() < size {
        return Cut::Partial { size };
    }
    Cut::Channel { channel: u16::from_be_bytes([a, b]), data, size }
}

/// What a datagram, or one record of DTLS, holds: one whole message, ChannelData with or without
/// its padding. `None` when it is neither.
pub fn datagram(bytes: &[u8]) -> Option<Cut> {
    let &[a, b, c, d] = bytes.first_chunk()?;
    let channel = u16::from_be_bytes([a, b]);
    if (0x4000..=0x4FFF).contains(&channel) {
        let data = usize::from(u16::from_be_bytes([c, d]));
        let padding = bytes.len().checked_sub(CHANNEL_HEADER + data)?;
        return (padding <= 3).then_some(Cut::Channel { channel, data, size: bytes.len() });
    }
    (a <= 0x03 && bytes.len() >= STUN_HEADER).then_some(Cut::Stun { size: bytes.len() })
}

/// The message type of a STUN message, or nothing.
pub(crate) fn stun_type(bytes: &[u8]) -> Option<u16> {
    let &[a, b] = bytes.first_chunk()?;
    (a <= 0x3F).then_some(u16::from_be_bytes([a, b]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stun_message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0, 1, (length >> 8) as u8, length as u8, 0x21, 0x12, 0xA4, 0x42];
        bytes.resize(STUN_HEADER + length, 7);
        bytes
    }

    #[test]
    fn messages_are_cut_where_their_length_says() {
        let cases: [(Vec<u8>, Cut); 12] = [
            (vec![], Cut::Partial { size: 4 }),
            (vec![0], Cut::Partial { size: 20 }),
            (stun_message(0), Cut::Stun { size: 20 }),
            (stun_message(8), Cut::Stun { size: 28 }),
            (stun_message(8)[..27].into(), Cut::Partial { size: 28 }),
            (stun_message(STUN_MAX - 20), Cut::Stun { size: STUN_MAX }),
            (stun_message(STUN_MAX - 16), Cut::Refused(Ending::TooLong)),
            (vec![0, 1, 0, 3], Cut::Refused(Ending::BadLength)),
            (vec![0x40, 0, 0, 5, 1, 2, 3, 4, 5], Cut::Partial { size: 12 }),
            (
                vec![0x4F, 0xFF, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 9],
                Cut::Channel { channel: 0x4FFF, data: 5, size: 12 },
            ),
            (vec![0x40, 0, 0, 0], Cut::Channel { channel: 0x4000, data: 0, size: 4 }),
            (vec![0x40, 0, 0xFF, 0xFF], Cut::Partial { size: FRAME_MAX }),
        ];
        for (bytes, expected) in cases {
            assert_eq!(cut(&bytes, true), expected, "{:02x?}", &bytes[..bytes.len().min(16)]);
        }
    }

    #[test]
    fn every_first_byte_but_those_of_stun_and_channel_data_is_refused_at_once() {
        for first in 0..=255_u8 {
            let good = first <= 3 || (0x40..=0x4F).contains(&first);
            let refused = cut(&[first], true) == Cut::Refused(Ending::NotStun);
            assert_eq!(refused, !good, "{first:#04x}");
            let refused = cut(&[first], false) == Cut::Refused(Ending::NotStun);
            assert_eq!(refused, first > 3, "{first:#04x} at first");
        }
    }

    #[test]
    fn a_wrong_cookie_is_refused_before_the_message_is_whole() {
        let bytes = [0, 1, 0, 0, 0x21, 0x12, 0xA4];
        assert_eq!(cut(&bytes, false), Cut::Partial { size: 20 });
        assert_eq!(cut(&[0, 1, 0, 0, 0x21, 0x13], false), Cut::Refused(Ending::NotStun));
    }

    #[test]
    fn a_partial_message_always_asks_for_more_than_there_is_and_for_no_more_than_the_limit() {
        for head in 0..=u16::MAX {
            let [a, b] = head.to_be_bytes();
            for bytes in [vec![a], vec![a, b], vec![a, b, 0xFF], vec![a, b, 0x3F, 0xE0, 0x21]] {
                if let Cut::Partial { size } = cut(&bytes, true) {
                    assert!(size > bytes.len() && size <= FRAME_MAX, "{bytes:02x?}: {size}");
                }
            }
        }
    }

    #[test]
    fn a_record_holds_one_message_with_or_without_padding() {
        for padding in 0..6 {
            let mut bytes = vec![0x40, 1, 0, 5];
            bytes.resize(9 + padding, 0);
            let expected = Cut::Channel { channel: 0x4001, data: 5, size: 9 + padding };
            assert_eq!(datagram(&bytes), (padding <= 3).then_some(expected));
        }
        assert_eq!(datagram(&[0x40, 1, 0, 5, 0]), None);
        assert_eq!(datagram(&stun_message(0)), Some(Cut::Stun { size: 20 }));
        assert_eq!(datagram(&[0x16; 40]), None);
        assert_eq!(datagram(&[]), None);
    }
}
