//! The two STUN messages that a worker reads and writes itself: Send and Data indications (RFC 8656
//! sections 11.1 to 11.6).
//!
//! ```text
//!  0              4              8                             20
//!  +------+-------+--------------+------------------------------+
//!  | type | length| magic cookie | transaction id               |
//!  +------+-------+------+-------+----------------+-------------+
//!  | 0012 |  8 or 20     | 0, family, port, address, XORed      |  XOR-PEER-ADDRESS
//!  +------+--------------+--------------------------------------+
//!  | 0013 | bytes of data| data, to the next multiple of 4      |  DATA
//!  +------+--------------+--------------------------------------+
//!  | 001a | 0            |                                         DONT-FRAGMENT, of Send only
//!  +------+--------------+
//! ```
//!
//! Only the plainest Send is read here: each of these attributes at most once, in any order, and
//! nothing else. Whatever differs is the control thread's, which knows what it means. What is read
//! here means the same there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use wire::Family;

const SEND: [u8; 2] = [0x00, 0x16];
const DATA: [u8; 2] = [0x00, 0x17];
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const XOR_PEER_ADDRESS: [u8; 2] = [0x00, 0x12];
const DATA_ATTRIBUTE: [u8; 2] = [0x00, 0x13];
const DONT_FRAGMENT: [u8; 2] = [0x00, 0x1a];

const HEADER: usize = 20;

/// The longest UDP payload over IPv4; a longer Data indication is not sent.
const DATAGRAM_MAX: usize = 65_507;

/// A transaction id: 96 bits.
pub(crate) type TransactionId = [u8; 12];

/// A Send indication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Send {
    pub(crate) peer: SocketAddr,
    /// Where its data lies in the payload.
    pub(crate) data: Range<usize>,
    pub(crate) dont_fragment: bool,
}

/// Reads a Send indication, if the payload is one of the plainest kind.
pub(crate) fn parse(payload: &[u8]) -> Option<Send> {
    let (header, _) = payload.split_first_chunk::<HEADER>()?;
    let [a, b, c, d, rest @ ..] = header;
    let length = usize::from(u16::from_be_bytes([*c, *d]));
    if [*a, *b] != SEND
        || rest[..4] != COOKIE
        || length % 4 != 0
        || length + HEADER != payload.len()
    {
        return None;
    }
    let (mut peer, mut data, mut dont_fragment) = (None, None, false);
    let mut at = HEADER;
    while at < payload.len() {
        let &[a, b, c, d] = payload.get(at..at + 4)?.first_chunk()?;
        let size = usize::from(u16::from_be_bytes([c, d]));
        let value = at + 4..at + 4 + size;
        at = value.start + size.next_multiple_of(4);
        if at > payload.len() {
            return None;
        }
        match [a, b] {
            XOR_PEER_ADDRESS if peer.is_none() => {
                peer = Some(unmasked(&payload[value], &header[4..])?);
            }
            DATA_ATTRIBUTE if data.is_none() => data = Some(value),
            DONT_FRAGMENT if size == 0 && !dont_fragment => dont_fragment = true,
            _ => return None,
        }
    }
    Some(Send { peer: peer?, data: data?, dont_fragment })
}

/// True for what [`parse`] may take; most other messages are told apart by this.
#[inline(always)]
pub(crate) fn is_send(payload: &[u8]) -> bool {
    payload.starts_with(&SEND)
}

/// The family that a peer's datagrams travel in.
pub(crate) fn family_of(peer: SocketAddr) -> Family {
    if peer.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// The value of XOR-PEER-ADDRESS; `mask` is cookie and transaction id (RFC 8489 section 14.2). An
/// IPv4 address in IPv6's clothes is left to the control thread.
fn unmasked(value: &[u8], mask: &[u8]) -> Option<SocketAddr> {
    let (&[_, family, high, low], address) = value.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes([high ^ mask[0], low ^ mask[1]]);
    let ip: IpAddr = match (family, address.len()) {
        (1, 4) => Ipv4Addr::from(std::array::from_fn(|at| address[at] ^ mask[at])).into(),
        (2, 16) => Ipv6Addr::from(std::array::from_fn(|at| address[at] ^ mask[at])).into(),
        _ => return None,
    };
    let mapped = matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    (port != 0 && !mapped).then_some(SocketAddr::new(ip, port))
}

/// What goes in front of a peer's datagram, and how many zeros behind it.
#[derive(Clone, Copy)]
pub(crate) struct DataHeader {
    bytes: [u8; Self::MAX],
    size: usize,
    pub(crate) padding: usize,
}

impl DataHeader {
    /// The longest: of an IPv6 peer.
    pub(crate) const MAX: usize = HEADER + 4 + 20 + 4;

    /// The header of a Data indication with `data` bytes from `peer`. `None` for more than a
    /// datagram holds.
    pub(crate) fn new(peer: SocketAddr, data: usize, id: &TransactionId) -> Option<Self> {
        let address = if peer.is_ipv4() { 8 } else { 20 };
        let (size, padded) = (HEADER + 4 + address + 4, data.next_multiple_of(4));
        if size + padded > DATAGRAM_MAX {
            return None;
        }
        let mut bytes = [0; Self::MAX];
        bytes[0..2].copy_from_slice(&DATA);
        bytes[2..4].copy_from_slice(&((size - HEADER + padded) as u16).to_be_bytes());
        bytes[4..8].copy_from_slice(&COOKIE);
        bytes[8..20].copy_from_slice(id);
        bytes[20..22].copy_from_slice(&XOR_PEER_ADDRESS);
        bytes[23] = address as u8;
        bytes[25] = if peer.is_ipv4() { 1 } else { 2 };
        bytes[26..28].copy_from_slice(&peer.port().to_be_bytes());
        match peer.ip() {
            IpAddr::V4(ip) => bytes[28..32].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes[28..44].copy_from_slice(&ip.octets()),
        }
        let (front, back) = bytes.split_at_mut(26);
        back[..2].iter_mut().zip(&front[4..]).for_each(|(byte, mask)| *byte ^= mask);
        back[2..address - 2].iter_mut().zip(&front[4..20]).for_each(|(byte, mask)| *byte ^= mask);
        bytes[size - 4..size - 2].copy_from_slice(&DATA_ATTRIBUTE);
        bytes[size - 2..size].copy_from_slice(&(data as u16).to_be_bytes());
        Some(Self { bytes, size, padding: padded - data })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.size]
    }
}

/// What a worker makes of a Send indication, for tests that hold it against other readers and
/// writers.
#[doc(hidden)]
#[derive(Debug)]
pub struct Indication<'a> {
    /// Whom its data is for.
    pub peer: SocketAddr,
    /// Its data.
    pub data: &'a [u8],
    /// True when the data is to stay in one piece.
    pub dont_fragment: bool,
    /// The same data as a Data indication from that peer, with the same transaction id.
    pub wrapped: Option<Vec<u8>>,
}

impl<'a> Indication<'a> {
    /// Reads one, if the payload is one that workers carry.
    pub fn of(payload: &'a [u8]) -> Option<Self> {
        let Send { peer, data, dont_fragment } = parse(payload)?;
        let (data, id) = (&payload[data], payload[8..HEADER].first_chunk()?);
        let wrapped = DataHeader::new(peer, data.len(), id)
            .map(|header| [header.bytes(), data, &[0; 3][..header.padding]].concat());
        Some(Self { peer, data, dont_fragment, wrapped })
    }
}

const _: () = assert!(DataHeader::MAX <= crate::batch::HEADROOM);
const _: () = assert!(DataHeader::MAX <= crate::batch::HEADER_MAX);

/// Transaction ids of indications: uniform and unpredictable (RFC 8489 section 6), drawn from the
/// operating system so many at a time that one costs about as much as a lookup.
pub(crate) struct Ids {
    drawn: Box<[TransactionId; Self::DRAWN]>,
    /// Those from here on were not used.
    next: usize,
}

impl Ids {
    /// What a page holds.
    const DRAWN: usize = 341;

    pub(crate) fn new() -> Self {
        Self { drawn: Box::new([[0; 12]; Self::DRAWN]), next: Self::DRAWN }
    }

    /// The next one. `None` where the operating system gives no randomness.
    #[inline]
    pub(crate) fn draw(&mut self) -> Option<&TransactionId> {
        if self.next >= self.drawn.len() {
            getrandom::fill(self.drawn.as_flattened_mut()).ok()?;
            self.next = 0;
        }
        let id = &self.drawn[self.next];
        self.next += 1;
        Some(id)
    }
}

#[cfg(test)]
mod tests;
