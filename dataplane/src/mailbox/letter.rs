//! Datagrams between a worker and the control thread, in a ring of bytes.
//!
//! ```text
//! | kind 1 | way 1 | size 2 | slot 4 | generation 4 | remote 26 | local 26 | TTL 1 | TOS 1 | 2 zero |
//! | payload ... | next                                  family 2, port 2, scope 4, address 16, 2 zero
//! ```
//!
//! Bytes instead of slots: a 20-byte Refresh takes 88 bytes of the ring and a datagram of 60 kB
//! still fits. The ring is allocated once; a datagram is copied in once, and out of it only where
//! it happens to lie across the ring's end.

use crate::batch::Marks;
use crate::route::Transport;
use rtrb::{Consumer, Producer, RingBuffer};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Bytes in front of each payload.
pub(crate) const HEADER: usize = 68;

const ADDRESS: usize = 26;

/// Where the marks are.
const MARKS: usize = 12 + 2 * ADDRESS;

/// What is to be done with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LetterKind {
    /// From or to a client.
    Client,
    /// From or to a peer.
    Peer,
    /// A client's connection has ended.
    Gone,
    /// An ICMP error about a peer: the payload is type, code and data (4, network order).
    Unreachable,
}

impl LetterKind {
    const ALL: [LetterKind; 4] = [Self::Client, Self::Peer, Self::Gone, Self::Unreachable];
}

/// Instead of a slot: the client's channel has a route, or its Send a permission, but its relay port
/// is another worker's.
pub(crate) const ELSEWHERE: u32 = u32::MAX;

/// A datagram's envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) kind: LetterKind,
    pub(crate) dont_fragment: bool,
    /// What the datagram that it came as leaves with, or this one is to leave with: see
    /// [`IpFields`](crate::IpFields).
    pub(crate) marks: Option<Marks>,
    /// Of a client.
    pub(crate) transport: Transport,
    /// Of the relay port; for a client's 0, or [`ELSEWHERE`].
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
}

impl Letter {
    fn encode(&self, size: u16) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[0] = self.kind as u8;
        header[1] = u8::from(self.dont_fragment)
            | (self.transport as u8) << 1
            | u8::from(self.marks.is_some()) << 3;
        header[2..4].copy_from_slice(&size.to_ne_bytes());
        header[4..8].copy_from_slice(&self.slot.to_ne_bytes());
        header[8..12].copy_from_slice(&self.generation.to_ne_bytes());
        encode_address(&mut header[12..12 + ADDRESS], &self.remote);
        encode_address(&mut header[12 + ADDRESS..MARKS], &self.local);
        if let Some(Marks { ttl, tos }) = self.marks {
            header[MARKS..MARKS + 2].copy_from_slice(&[ttl, tos]);
        }
        header
    }

    /// The envelope and the payload's size.
    fn decode(header: &[u8; HEADER]) -> (Self, usize) {
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let letter = Self {
            kind: LetterKind::ALL[usize::from(header[0]) % LetterKind::ALL.len()],
            dont_fragment: header[1] & 1 != 0,
            marks: (header[1] & 8 != 0)
                .then(|| Marks { ttl: header[MARKS], tos: header[MARKS + 1] }),
            transport: Transport::ALL[usize::from(header[1] >> 1) % Transport::ALL.len()],
            slot: word(4),
            generation: word(8),
            remote: decode_address(&header[12..12 + ADDRESS]),
            local: decode_address(&header[12 + ADDRESS..MARKS]),
        };
        (letter, u16::from_ne_bytes([header[2], header[3]]).into())
    }
}

fn encode_address(bytes: &mut [u8], address: &SocketAddr) {
    let (family, octets, scope) = match address {
        SocketAddr::V4(v4) => (4, v4.ip().to_ipv6_mapped().octets(), 0),
        SocketAddr::V6(v6) => (6, v6.ip().octets(), v6.scope_id()),
    };
    bytes[0] = family;
    bytes[2..4].copy_from_slice(&address.port().to_ne_bytes());
    bytes[4..8].copy_from_slice(&scope.to_ne_bytes());
    bytes[8..24].copy_from_slice(&octets);
}

fn decode_address(bytes: &[u8]) -> SocketAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[8..24]);
    let port = u16::from_ne_bytes([bytes[2], bytes[3]]);
    let ip = Ipv6Addr::from(octets);
    match ip.to_ipv4_mapped() {
        Some(v4) if bytes[0] == 4 => SocketAddr::new(IpAddr::V4(v4), port),
        _ => {
            let scope = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            SocketAddrV6::new(ip, port, 0, scope).into()
        }
    }
}

/// A ring of `size` bytes for datagrams; never so small that the longest does not fit.
pub(crate) fn letters(size: usize) -> (LetterWriter, LetterReader) {
    let size = size.max(2 * (HEADER + usize::from(u16::MAX)));
    let (writer, reader) = RingBuffer::new(size);
    let across = vec![0; usize::from(u16::MAX)].into_boxed_slice();
    (LetterWriter { ring: writer }, LetterReader { ring: reader, across })
}

/// Writes datagrams.
pub(crate) struct LetterWriter {
    ring: Producer<u8>,
}

impl LetterWriter {
    /// Puts a datagram in. False, changing nothing, when fewer than `reserve` bytes would stay
    /// free, or it is longer than any UDP datagram.
    pub(crate) fn push(&mut self, letter: &Letter, bytes: &[u8], reserve: usize) -> bool {
        let Ok(size) = u16::try_from(bytes.len()) else { return false };
        if self.ring.slots() < HEADER + bytes.len() + reserve {
            return false;
        }
        self.ring.push_entire_slice(&letter.encode(size)).is_ok()
            && self.ring.push_entire_slice(bytes).is_ok()
    }

    /// Bytes the ring has in all.
    pub(crate) fn size(&self) -> usize {
        self.ring.buffer().capacity()
    }

    /// Bytes that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.size() - self.ring.slots()
    }
}

/// Reads datagrams.
pub(crate) struct LetterReader {
    ring: Consumer<u8>,
    /// For a payload that lies across the ring's end.
    across: Box<[u8]>,
}

impl LetterReader {
    /// Bytes that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.ring.slots()
    }

    /// True when nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Takes one datagram out, if one is there whole, and says how many bytes of the ring it used.
    pub(crate) fn take(&mut self, on_letter: impl FnOnce(&Letter, &[u8])) -> Option<usize> {
        let mut header = [0; HEADER];
        let chunk = self.ring.read_chunk(HEADER).ok()?;
        let (first, second) = chunk.as_slices();
        header[..first.len()].copy_from_slice(first);
        header[first.len()..].copy_from_slice(second);
        let (letter, size) = Letter::decode(&header);
        // the payload is written after its header: not there yet, or whole
        let chunk = self.ring.read_chunk(HEADER + size).ok()?;
        let (first, second) = chunk.as_slices();
        if second.is_empty() {
            on_letter(&letter, &first[HEADER..]);
        } else if first.len() <= HEADER {
            on_letter(&letter, &second[HEADER - first.len()..]);
        } else {
            let (front, back) = self.across[..size].split_at_mut(first.len() - HEADER);
            front.copy_from_slice(&first[HEADER..]);
            back.copy_from_slice(second);
            on_letter(&letter, &self.across[..size]);
        }
        chunk.commit_all();
        Some(HEADER + size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(slot: u32) -> Letter {
        Letter {
            kind: LetterKind::Peer,
            dont_fragment: slot.is_multiple_of(2),
            marks: (!slot.is_multiple_of(3)).then_some(Marks { ttl: slot as u8, tos: 0xb8 }),
            transport: Transport::ALL[slot as usize % 4],
            slot,
            generation: 9,
            remote: "[fe80::1%3]:7".parse().unwrap(),
            local: "192.0.2.1:3478".parse().unwrap(),
        }
    }

    #[test]
    fn envelopes_survive_the_way_through() {
        let mut mapped = letter(3);
        mapped.remote = "[::ffff:192.0.2.1]:9".parse().unwrap();
        let unreachable = Letter { kind: LetterKind::Unreachable, ..mapped };
        for letter in [letter(1), letter(2), mapped, unreachable] {
            assert_eq!(Letter::decode(&letter.encode(517)), (letter, 517));
        }
    }

    #[test]
    fn datagrams_of_every_size_come_out_as_they_went_in_wherever_the_ring_ends() {
        let (mut writer, mut reader) = letters(0);
        let mut sizes = (0..3000_usize).map(|round| round * 7919 % 2000).chain([65_535, 0, 65_535]);
        let mut expected = std::collections::VecDeque::new();
        let mut next = sizes.next();
        let mut slot = 0;
        while next.is_some() || !expected.is_empty() {
            if let Some(size) = next {
                let bytes: Vec<u8> = (0..size).map(|at| (at + slot) as u8).collect();
                if writer.push(&letter(slot as u32), &bytes, 0) {
                    expected.push_back((letter(slot as u32), bytes));
                    (next, slot) = (sizes.next(), slot + 1);
                    continue;
                }
            }
            let used = reader.take(|letter, bytes| {
                assert_eq!(expected.pop_front(), Some((*letter, bytes.to_vec())));
            });
            assert!(used.is_some());
        }
        assert!(reader.is_empty() && reader.take(|_, _| ()).is_none());
    }

    #[test]
    fn a_full_ring_refuses_and_keeps_what_it_has() {
        let (mut writer, mut reader) = letters(0);
        let mut pushed = 0;
        while writer.push(&letter(pushed), &[7; 1000], 0) {
            pushed += 1;
        }
        assert!(pushed > 100);
        let mut taken = 0;
        while reader
            .take(|letter, bytes| assert_eq!((letter.slot, bytes.len()), (taken, 1000)))
            .is_some()
        {
            taken += 1;
        }
        assert_eq!(taken, pushed);
    }

    #[test]
    fn a_reserve_is_kept_free() {
        let (mut writer, _reader) = letters(0);
        let reserve = writer.size() / 2;
        while writer.push(&letter(0), &[0; 100], reserve) {}
        assert!(writer.push(&letter(1), &[0; 100], 0), "the reserve is there for what matters");
    }
}
