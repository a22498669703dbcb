//! From a frame to a datagram as a socket would have given it: what the stack checks is checked here.
//!
//! ```text
//!   | Ethernet | VLAN? | IP | UDP | payload ............ | filled up |
//!                      └── Arrival ─┘ └── checked by the UDP checksum ──┘
//! ```
//!
//! `wire::Packet` has checked lengths, fragments, options and the IPv4 header's checksum, and the
//! program sources that are nobody's (`wire::is_punted`). What is left is the UDP checksum.

use crate::batch::Arrival;
use std::net::SocketAddr;
use std::ops::Range;
use wire::headers::{UDP, Udp};
use wire::{Endpoint, Family, Packet, Reason, Sum};

/// The datagram in `frame`, and where its payload lies.
///
/// # Errors
/// [`Reason::Malformed`]: the checksum is wrong. Others as [`Packet::parse`].
pub(crate) fn datagram(frame: &[u8]) -> Result<(Arrival, Range<usize>), Reason> {
    let (arrival, packet) = packet(frame)?;
    let (start, size) = (packet.payload, usize::from(packet.size()));
    if packet.udp.checksum.get() != 0 && sum_of_all(frame, &packet) != Some(0xffff) {
        return Err(Reason::Malformed);
    }
    Ok((arrival, start..start + size))
}

/// The datagram in `frame`, whose checksum nobody has looked at yet.
///
/// # Errors
/// As [`Packet::parse`].
pub(crate) fn packet(frame: &[u8]) -> Result<(Arrival, Packet), Reason> {
    let packet = Packet::parse(&Whole(frame))?;
    let address = |address, port| SocketAddr::from(Endpoint { address, port });
    let arrival = Arrival {
        remote: address(packet.src, packet.udp.src),
        local: address(packet.dst, packet.udp.dst),
        ttl: packet.carried.ttl,
        tos: packet.carried.class,
        truncated: false,
    };
    Ok((arrival, packet))
}

/// The checksum of the datagram in `frame`, once it was found right; what it would be, where IPv4
/// has none. Never zero, which stands for none: a computed zero is 0xffff (RFC 768).
///
/// # Errors
/// [`Reason::Malformed`]: it is wrong.
pub(crate) fn checksum(frame: &[u8], packet: &Packet) -> Result<u16, Reason> {
    let sum = sum_of_all(frame, packet).ok_or(Reason::Malformed)?;
    match packet.udp.checksum.get() {
        0 => Ok(match Sum::raw(sum).checksum().get() {
            0 => 0xffff,
            computed => computed,
        }),
        right if sum == 0xffff => Ok(right),
        _ => Err(Reason::Malformed),
    }
}

/// The sum of `bytes` that lie at place `at` of a datagram, as part of its own: at an odd place they
/// are the other halves of its words (RFC 1071 section 2).
pub(crate) fn part(bytes: &[u8], at: usize) -> Sum {
    let sum = fold(sum(bytes, 0));
    Sum::raw(if at.is_multiple_of(2) { sum } else { sum.swap_bytes() })
}

/// Where the datagram in `frame` was going, whatever its checksum.
pub(crate) fn target(frame: &[u8]) -> Option<SocketAddr> {
    let packet = Packet::parse(&Whole(frame)).ok()?;
    Some(Endpoint { address: packet.dst, port: packet.udp.dst }.into())
}

/// RFC 768, RFC 8200 section 8.1: addresses, protocol and length are summed with the datagram.
fn sum_of_all(frame: &[u8], packet: &Packet) -> Option<u16> {
    let size = packet.udp.size.get();
    let start = packet.payload - Udp::SIZE;
    let datagram = frame.get(start..start + usize::from(size))?;
    let (source, destination) = (packet.src.octets(), packet.dst.octets());
    // the 0xffff of a mapped address would count
    let from = if packet.carried.family == Family::V4 { 12 } else { 0 };
    let head =
        u64::from(u16::from_ne_bytes([0, UDP])) + u64::from(u16::from_ne_bytes(size.to_be_bytes()));
    Some(fold(sum(datagram, sum(&source[from..], sum(&destination[from..], head)))))
}

/// One's-complement sum, in memory order, of bytes that start at an even place: not folded.
fn sum(bytes: &[u8], start: u64) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    // 16 million words of 32 bits fit; a datagram has 16 thousand
    let sum = words.iter().fold(start, |sum, word| sum + u64::from(u32::from_ne_bytes(*word)));
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_ne_bytes(last))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A frame that is only read.
struct Whole<'f>(&'f [u8]);

impl wire::Frame for Whole<'_> {
    fn size(&self) -> usize {
        self.0.len()
    }
    fn at<T: wire::Plain>(&self, offset: usize) -> Option<&T> {
        T::ref_from_prefix(self.0.get(offset..)?).ok().map(|(view, _)| view)
    }
    fn at_mut<T: wire::Plain>(&mut self, _offset: usize) -> Option<&mut T> {
        None
    }
    fn move_head(&mut self, _delta: i32) -> Option<()> {
        None
    }
    fn trim_tail(&mut self, _count: u32) -> Option<()> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `192.0.2.1:5000 > 198.51.100.1:3478`, five bytes of payload, two of padding behind.
    fn frame() -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0];
        frame.extend([0x45, 0xb8, 0, 33, 0, 7, 0x40, 0, 64, 17, 0x8f, 0xfc - 0xb8]);
        frame.extend([192, 0, 2, 1, 198, 51, 100, 1]);
        frame.extend([0x13, 0x88, 0x0d, 0x96, 0, 13, 0, 0]);
        frame.extend(*b"hello\xdd\xdd");
        let header: u64 = fold(sum(&frame[14..24], sum(&frame[26..34], 0))).into();
        frame[24..26].copy_from_slice(&(!(header as u16)).to_ne_bytes());
        frame
    }

    fn with_checksum(mut frame: Vec<u8>) -> Vec<u8> {
        // by the book: big-endian words, one by one
        let mut words: Vec<u8> = [&frame[26..34], &[0, 17, 0, 13], &frame[34..47], &[0]].concat();
        words[8 + 4 + 6..8 + 4 + 8].fill(0);
        let sum: u32 = words.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        frame[40..42].copy_from_slice(&(!(folded as u16)).to_be_bytes());
        frame
    }

    #[test]
    fn a_datagram_is_what_a_socket_would_give() {
        let frame = with_checksum(frame());
        let (arrival, payload) = datagram(&frame).unwrap();
        assert_eq!(arrival.remote, "192.0.2.1:5000".parse().unwrap());
        assert_eq!(arrival.local, "198.51.100.1:3478".parse().unwrap());
        assert_eq!((arrival.ttl, arrival.tos, arrival.truncated), (64, 0xb8, false));
        assert_eq!(&frame[payload], b"hello");
    }

    #[test]
    fn a_checksum_that_is_made_up_for_is_never_none() {
        // given datagrams without a checksum, whose sums differ by two bytes of payload
        let mut zeros = 0;
        for two in 0..=u16::MAX {
            let mut frame = frame();
            frame[43..45].copy_from_slice(&two.to_be_bytes());
            let (_, packet) = packet(&frame).unwrap();
            // when, then
            let made = checksum(&frame, &packet).unwrap();
            assert_ne!(made, 0, "payload {two:#06x}");
            zeros += u32::from(made == 0xffff);
            if two % 257 == 0 || made == 0xffff {
                frame[40..42].copy_from_slice(&made.to_be_bytes());
                assert_eq!(datagram(&frame).map(|(_, payload)| payload.len()), Ok(5));
            }
        }
        assert!(zeros > 0, "no sum was zero");
    }

    #[test]
    fn a_wrong_checksum_is_refused_and_none_is_none() {
        assert!(datagram(&frame()).is_ok(), "zero is no checksum over IPv4");
        let good = with_checksum(frame());
        for at in (26..40).chain(42..47) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(datagram(&bad).is_err(), "byte {at}");
        }
        let mut padded = good;
        padded[47] ^= 0xff;
        assert!(datagram(&padded).is_ok(), "what Ethernet filled up is nobody's");
    }
}
