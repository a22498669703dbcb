//! Routes: where a datagram goes and all of the new headers that does not change from one packet
//! to the next. Both ends of the shared memory rely on these layouts.

use crate::{Address, Endpoint, Family, Sum, headers::UDP};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, network_endian::U16};

/// What finds a route: the datagram's addresses and ports, and the channel.
///
/// From a client the channel is 0x4000 to 0x4FFF and `local` is the listening address; from a peer
/// the channel is 0 and `local` is the relayed transport address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Key {
    /// Source IP address of the datagram.
    pub remote: Address,
    /// Destination IP address of the datagram: one of ours.
    pub local: Address,
    /// Source port.
    pub remote_port: U16,
    /// Destination port.
    pub local_port: U16,
    /// Channel number, 0 from a peer.
    pub channel: U16,
    /// Always zero.
    pub zero: U16,
}

const _: () = assert!(size_of::<Key>() == 40);

impl Key {
    /// A key for datagrams from `remote` to `local`; `channel` is 0 from a peer.
    pub fn new(remote: Endpoint, local: Endpoint, channel: u16) -> Self {
        Self {
            remote: remote.address,
            local: local.address,
            remote_port: remote.port,
            local_port: local.port,
            channel: channel.into(),
            zero: 0.into(),
        }
    }

    /// As words, the way the table stores and compares it.
    #[inline(always)]
    pub fn words(&self) -> &[u64; 5] {
        zerocopy::transmute_ref!(self)
    }
}

/// The addresses of a datagram on one side of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Source.
    pub src: Endpoint,
    /// Destination.
    pub dst: Endpoint,
}

impl Tuple {
    fn sum(&self) -> Sum {
        // the 0xffff of a mapped address is zero in one's complement
        Sum::default()
            .bytes(&self.src.address.octets())
            .bytes(&self.dst.address.octets())
            .with(self.src.port)
            .with(self.dst.port)
    }
}

/// The same for all of a flow, and unlikely to be another's (RFC 6437 section 3).
fn flow_label(tuple: &Tuple) -> u32 {
    let (src, dst) = (u32::from(tuple.src.port.get()), u32::from(tuple.dst.port.get()));
    (src << 4 ^ dst) & 0xf_ffff
}

/// How datagrams leave: one cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Route {
    /// New source address.
    pub src: Address,
    /// New destination address.
    pub dst: Address,
    /// Not forwarded at or after this time, in the reading tier's unit.
    pub expires: u64,
    /// New source port.
    pub src_port: U16,
    /// New destination port.
    pub dst_port: U16,
    /// ChannelData header to put on; 0 for none.
    pub channel: U16,
    /// Bits: [`Route::V4`], [`Route::INNER`].
    pub flags: u16,
    /// New addresses and ports less the old, a one's-complement sum.
    pub delta: u16,
    /// Sum of the words of a new IPv4 header that never change.
    pub header: u16,
    /// Index of the next hop.
    pub hop: u16,
    /// Of a permission, which leads to its client: index of the next hop to the peer. Else zero.
    pub peer_hop: u16,
    /// The worker's relay socket; unused by the kernel program.
    pub port_id: u32,
    /// Flow label of new IPv6 headers (RFC 6437), 20 bits.
    pub flow_label: u32,
}

const _: () = assert!(size_of::<Route>() == 64);

impl Route {
    /// Flag: leaves as IPv4.
    pub const V4: u16 = 1;
    /// Flag: the destination is a relayed address of our own; its route is looked up in turn.
    pub const INNER: u16 = 2;

    /// A route that turns datagrams with the addresses `old` into ones with `new`.
    /// `channel` is the header to put on, 0 for none.
    pub fn new(old: Tuple, new: Tuple, channel: u16, expires: u64) -> Self {
        let v4 = new.dst.address.family() == Family::V4;
        let header = Sum::default()
            .bytes(&new.src.address.octets())
            .bytes(&new.dst.address.octets())
            .bytes(&[0x45, 0, 0, UDP]);
        Self {
            src: new.src.address,
            dst: new.dst.address,
            expires,
            src_port: new.src.port,
            dst_port: new.dst.port,
            channel: channel.into(),
            delta: new.sum().plus(old.sum().negated()).fold(),
            header: header.fold(),
            hop: 0,
            flags: if v4 { Self::V4 } else { 0 },
            peer_hop: 0,
            port_id: 0,
            flow_label: flow_label(&new),
        }
    }

    /// From the words of an entry, field by field: a cast of the whole would have the BPF target
    /// take it apart on its stack, at addresses that the verifier refuses.
    #[inline(always)]
    pub(crate) fn from_words([a, b, c, d, expires, ports, header, ids]: [u64; 8]) -> Self {
        let half = |word: u64, at: u32| (word >> (16 * at)) as u16;
        let network = |word: u64, at: u32| U16::from_bytes(half(word, at).to_le_bytes());
        Self {
            src: Address::from_words([a, b]),
            dst: Address::from_words([c, d]),
            expires,
            src_port: network(ports, 0),
            dst_port: network(ports, 1),
            channel: network(ports, 2),
            flags: half(ports, 3),
            delta: half(header, 0),
            header: half(header, 1),
            hop: half(header, 2),
            peer_hop: half(header, 3),
            port_id: ids as u32,
            flow_label: (ids >> 32) as u32,
        }
    }

    /// Family of the datagrams that leave.
    #[inline(always)]
    pub fn family(&self) -> Family {
        if self.flags & Self::V4 != 0 { Family::V4 } else { Family::V6 }
    }

    /// True when the destination is a relayed address of our own.
    #[inline(always)]
    pub fn is_inner(&self) -> bool {
        self.flags & Self::INNER != 0
    }

    /// Where a datagram that left by this route would be looked up if it came back to us.
    #[inline(always)]
    pub fn next_key(&self) -> Key {
        Key {
            remote: self.src,
            local: self.dst,
            remote_port: self.src_port,
            local_port: self.dst_port,
            channel: 0.into(),
            zero: 0.into(),
        }
    }

    /// Source of the datagrams that leave.
    pub fn source(&self) -> Endpoint {
        Endpoint { address: self.src, port: self.src_port }
    }

    /// Destination of the datagrams that leave.
    pub fn destination(&self) -> Endpoint {
        Endpoint { address: self.dst, port: self.dst_port }
    }
}
