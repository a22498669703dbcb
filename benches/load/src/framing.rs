//! How a payload is wrapped on the way to its next hop.
//!
//! ```text
//! bare     | payload |                                      peers
//! channel  | number | length | payload | 0 to 3 zeros |     clients; zeros on streams only
//! send     | STUN header | XOR-PEER-ADDRESS | DATA, length | payload | 0 to 3 zeros |
//! ```

use std::net::SocketAddr;

use turn::ChannelNumber;
use turn::message::{Builder, ChannelData, Class, Method, TransactionId};

/// The most that a wrapping adds: a Send indication to an IPv6 peer, and its padding.
pub const FRAMING_MAX: usize = 20 + 24 + 4 + 3;

/// One way to wrap payloads.
#[derive(Clone, Debug)]
pub enum Framing {
    /// As it is.
    Bare,
    /// ChannelData, padded to a multiple of 4 on streams.
    Channel {
        /// The channel.
        number: ChannelNumber,
        /// Whether it is padded.
        padded: bool,
    },
    /// A Send indication: everything up to the payload, with lengths yet to be written.
    Send(Box<[u8]>),
}

impl Framing {
    /// A Send indication to this peer. All of a flow have one transaction id, which nobody looks
    /// at (RFC 8656 section 11.1).
    pub fn send(peer: SocketAddr, transaction: [u8; 12]) -> Framing {
        let mut head = Vec::new();
        let id = TransactionId(transaction);
        let mut builder = Builder::new(&mut head, Class::Indication, Method::SEND, id);
        builder.xor_peer_address(peer).data(&[]);
        builder.finish().expect("an address and no data are far from too long");
        Framing::Send(head.into())
    }

    /// Wraps a payload of `len` bytes, which `write` fills in; the length of the whole. `out` has
    /// room for `len` and [`FRAMING_MAX`] bytes.
    pub fn wrap(&self, len: usize, out: &mut [u8], write: impl FnOnce(&mut [u8])) -> usize {
        let padded_len = len.next_multiple_of(4);
        let (start, end) = match self {
            Framing::Bare => (0, len),
            Framing::Channel { number, padded } => {
                out[..4].copy_from_slice(&ChannelData::header(*number, len as u16));
                (4, if *padded { 4 + padded_len } else { 4 + len })
            }
            Framing::Send(head) => {
                let start = head.len();
                out[..start].copy_from_slice(head);
                let message = (start - 20 + padded_len) as u16;
                out[2..4].copy_from_slice(&message.to_be_bytes());
                out[start - 2..start].copy_from_slice(&(len as u16).to_be_bytes());
                (start, start + padded_len)
            }
        };
        write(&mut out[start..start + len]);
        out[start + len..end].fill(0);
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use turn::message::Message;

    #[test]
    fn every_framing_is_what_the_protocol_says() {
        let number = ChannelNumber::MIN;
        for len in [20, 21, 22, 23, 1160] {
            let mut out = vec![0xff; len + FRAMING_MAX];
            let fill = |payload: &mut [u8]| payload.fill(7);
            // channel
            let end = Framing::Channel { number, padded: false }.wrap(len, &mut out, fill);
            assert_eq!(end, 4 + len);
            let end = Framing::Channel { number, padded: true }.wrap(len, &mut out, fill);
            let read = ChannelData::parse(&out[..end]).unwrap();
            assert_eq!((end % 4, read.data), (0, vec![7; len].as_slice()));
            // send
            for peer in ["10.1.2.3:99", "[2001:db8::1]:99"] {
                let peer: SocketAddr = peer.parse().unwrap();
                let end = Framing::send(peer, [3; 12]).wrap(len, &mut out, fill);
                let message = Message::parse(&out[..end]).unwrap();
                assert_eq!(message.xor_peer_address().unwrap(), Some(peer));
                assert_eq!(message.data().unwrap(), vec![7; len]);
            }
        }
    }
}
