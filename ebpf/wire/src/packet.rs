//! From a frame to the datagram in it.

use crate::headers::{Ethernet, IPV4, IPV6, Ipv4, Ipv6, UDP, Udp, VLAN, Vlan};
use crate::{Address, Datagram, Endpoint, Family, Frame, Reason, Sum};
use zerocopy::network_endian::U16;

/// A UDP datagram in an Ethernet frame, its lengths checked.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Destination MAC address, as [`mac_word`] makes it.
    pub mac: u64,
    /// VLAN identifier, 0 for an untagged frame.
    pub vlan: u16,
    /// Source IP address.
    pub src: Address,
    /// Destination IP address.
    pub dst: Address,
    /// UDP header.
    pub udp: Udp,
    /// Offset of the UDP payload in the frame.
    pub payload: usize,
    /// What survives the relay.
    pub carried: Carried,
}

/// Header fields that survive the relay (RFC 8656 section 14).
#[derive(Clone, Copy, Debug)]
pub struct Carried {
    /// Family of the datagram received.
    pub family: Family,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// DSCP and ECN.
    pub class: u8,
    /// IPv4 identification, 0 from IPv6.
    pub id: U16,
    /// IPv4's don't-fragment flag as it lies in the header, 0 from IPv6.
    pub fragment: U16,
}

const MORE_OR_OFFSET: u16 = 0x3fff;
/// Largest UDP datagram that the program looks at; the verifier needs a bound too.
const LARGEST: u16 = 9000;

/// A MAC address as a number, for comparing: its bytes in memory order, then two zero bytes.
#[inline(always)]
pub const fn mac_word([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_ne_bytes([a, b, c, d, e, f, 0, 0])
}

impl Packet {
    /// Parses `frame`.
    #[inline(always)]
    pub fn parse<F: Frame>(frame: &F) -> Result<Self, Reason> {
        let ethernet = frame.at::<Ethernet>(0).ok_or(Reason::NotUdp)?;
        let (kind, vlan, ip) = match ethernet.kind.get() {
            VLAN => {
                let tag = frame.at::<Vlan>(Ethernet::SIZE).ok_or(Reason::NotUdp)?;
                // identifier 0 is a priority tag: 0x1000 stands for it, and is nobody's
                let vlan = match tag.tag.get() & 0xfff {
                    0 => 0x1000,
                    vlan => vlan,
                };
                (tag.kind.get(), vlan, Ethernet::SIZE + Vlan::SIZE)
            }
            kind => (kind, 0, Ethernet::SIZE),
        };
        let mac = mac_word(ethernet.dst);
        match kind {
            IPV4 => Self::ipv4(frame, ip).map(|packet| Self { mac, vlan, ..packet }),
            IPV6 => Self::ipv6(frame, ip).map(|packet| Self { mac, vlan, ..packet }),
            _ => Err(Reason::NotUdp),
        }
    }

    #[inline(always)]
    fn ipv4<F: Frame>(frame: &F, offset: usize) -> Result<Self, Reason> {
        let ip = frame.at::<Ipv4>(offset).ok_or(Reason::NotUdp)?;
        let fragment = ip.fragment.get();
        if ip.version_ihl != 0x45 || ip.protocol != UDP || fragment & MORE_OR_OFFSET != 0 {
            return Err(Reason::NotUdp);
        }
        if Sum::default().bytes::<20>(zerocopy::transmute_ref!(ip)).fold() != 0xffff {
            return Err(Reason::Malformed);
        }
        let carried = Carried {
            family: Family::V4,
            ttl: ip.ttl,
            class: ip.class,
            id: ip.id,
            fragment: ip.fragment,
        };
        let size = ip.size.get().wrapping_sub(Ipv4::SIZE as u16);
        let ends = (Address::v4(ip.src), Address::v4(ip.dst));
        Self::udp(frame, offset + Ipv4::SIZE, ends, size, carried)
    }

    #[inline(always)]
    fn ipv6<F: Frame>(frame: &F, offset: usize) -> Result<Self, Reason> {
        let ip = frame.at::<Ipv6>(offset).ok_or(Reason::NotUdp)?;
        let word = ip.version_class_flow.get();
        if word >> 28 != 6 || ip.next != UDP {
            return Err(Reason::NotUdp);
        }
        let carried = Carried {
            family: Family::V6,
            ttl: ip.hops,
            class: (word >> 20) as u8,
            id: U16::ZERO,
            fragment: U16::ZERO,
        };
        let ends = (Address::v6(ip.src), Address::v6(ip.dst));
        // a mapped address in an IPv6 header would pass for an IPv4 one
        if ends.0.family() == Family::V4 || ends.1.family() == Family::V4 {
            return Err(Reason::Malformed);
        }
        Self::udp(frame, offset + Ipv6::SIZE, ends, ip.size.get(), carried)
    }

    #[inline(always)]
    fn udp<F: Frame>(
        frame: &F,
        offset: usize,
        (src, dst): (Address, Address),
        size: u16,
        carried: Carried,
    ) -> Result<Self, Reason> {
        let udp = *frame.at::<Udp>(offset).ok_or(Reason::Malformed)?;
        let fits = udp.size.get() == size
            && (Udp::SIZE as u16..LARGEST).contains(&size)
            && offset + size as usize <= frame.size();
        let zero_over_ipv6 = carried.family == Family::V6 && udp.checksum == U16::ZERO;
        if !fits || zero_over_ipv6 {
            return Err(Reason::Malformed);
        }
        let payload = offset + Udp::SIZE;
        Ok(Self { mac: 0, vlan: 0, src, dst, udp, payload, carried })
    }

    /// Where it came from.
    pub fn source(&self) -> Endpoint {
        Endpoint { address: self.src, port: self.udp.src }
    }

    /// Where it was sent to.
    pub fn destination(&self) -> Endpoint {
        Endpoint { address: self.dst, port: self.udp.dst }
    }

    /// UDP payload, bytes.
    #[inline(always)]
    pub fn size(&self) -> u16 {
        self.udp.size.get() - Udp::SIZE as u16
    }

    /// True when the UDP checksum is only that of the pseudo-header, as where the rest is left to a
    /// network card (CHECKSUM_PARTIAL, linux/skbuff.h): a datagram that was sent on this machine and
    /// came by a veth, and several that the kernel has merged or not cut yet, which a program in the
    /// stack is shown as one. Only the stack knows what is left to be done. One finished datagram in
    /// 65,536 looks the same.
    #[inline(always)]
    pub fn is_unfinished(&self) -> bool {
        let half = |word: u64| (word & 0xffff_ffff) + (word >> 32);
        // the 0xffff of a mapped address is zero in one's complement
        let ([a, b], [c, d]) = (self.src.words(), self.dst.words());
        let rest = [U16::from_bytes([0, UDP]), self.udp.size];
        let rest = rest.map(|word| u64::from(u16::from_ne_bytes(word.to_bytes())));
        let sum = half(half(a) + half(b) + half(c) + half(d) + rest[0] + rest[1]);
        // at most 33 bits, then 17, then 16
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        sum as u16 == u16::from_ne_bytes(self.udp.checksum.to_bytes())
    }

    /// The datagram, for `decide`.
    #[inline(always)]
    pub fn datagram<F: Frame>(&self, frame: &F) -> Datagram {
        let size = self.size();
        let head = if size < 4 { None } else { frame.at::<[u8; 4]>(self.payload).copied() };
        Datagram {
            remote: self.src,
            local: self.dst,
            remote_port: self.udp.src,
            local_port: self.udp.dst,
            size,
            head: head.unwrap_or_default(),
            ttl: self.carried.ttl,
        }
    }
}
