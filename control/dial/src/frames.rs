//! Messages in a stream, told apart by their first two bits (RFC 8656 section 12.4 and 12.5):
//!
//! ```text
//!   00  STUN          type(2) length(2) cookie(4) ...      20 + length bytes
//!   01  ChannelData   number(2) length(2) data, padding    4 + length, rounded up to 4
//!   1x  neither
//! ```

/// What a stream's buffer starts with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A whole message, taken from the buffer.
    Whole(Vec<u8>),
    /// More bytes are needed.
    Partial,
    /// Neither STUN nor ChannelData.
    Foreign,
}

/// Takes the first message from `buffer`.
pub(crate) fn take(buffer: &mut Vec<u8>) -> Frame {
    let Some(&[first, _, high, low]) = buffer.first_chunk::<4>() else {
        return match buffer.first() {
            Some(first) if first >> 6 > 1 => Frame::Foreign,
            _ => Frame::Partial,
        };
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let (message, frame) = match first >> 6 {
        0 => (20 + length, 20 + length),
        1 => (4 + length, (4 + length).next_multiple_of(4)),
        _ => return Frame::Foreign,
    };
    if buffer.len() < frame {
        return Frame::Partial;
    }
    let mut whole: Vec<u8> = buffer.drain(..frame).collect();
    whole.truncate(message);
    Frame::Whole(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_where_its_messages_end() {
        // given a Binding request, ChannelData of 5 bytes with padding, half a header
        let stun = [&[0, 1, 0, 4][..], &[7; 20]].concat();
        let data = [&[0x40, 0, 0, 5][..], b"hello\0\0\0"].concat();
        let mut buffer = [&stun[..], &data, &[0, 1]].concat();
        // when and then
        assert_eq!(take(&mut buffer), Frame::Whole(stun));
        assert_eq!(take(&mut buffer), Frame::Whole(data[..9].into()));
        assert_eq!(take(&mut buffer), Frame::Partial);
        assert_eq!(buffer, [0, 1]);
        assert_eq!(take(&mut b"HTTP/1.1 400".to_vec()), Frame::Partial);
        assert_eq!(take(&mut vec![0x80]), Frame::Foreign);
        assert_eq!(take(&mut Vec::new()), Frame::Partial);
    }
}
