//! Frames, read and written plainly: Ethernet, VLAN tags, IPv4 and IPv6, UDP.
//!
//! ```text
//!  0     6     12                14                34 or 54    +8
//!  +-----+-----+----------------+------------------+-----------+---------+----------+
//!  | to  | from| tags, 4 each   | type | IP header | UDP header| payload | trailing |
//!  +-----+-----+----------------+------------------+-----------+---------+----------+
//! ```

use std::net::{IpAddr, SocketAddr};

/// An Ethernet address.
pub type Mac = [u8; 6];

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const PROVIDER_VLAN: u16 = 0x88a8;
const UDP: u8 = 17;

/// A UDP datagram in a frame, as it is to be written.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Source Ethernet address.
    pub from: Mac,
    /// Destination Ethernet address.
    pub to: Mac,
    /// VLAN ids, outermost first.
    pub vlans: Vec<u16>,
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port, of the same family.
    pub destination: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// IPv4 options, or the bytes of an IPv6 destination options header; a multiple of 4 or 8.
    pub options: Vec<u8>,
    /// IPv4: Don't Fragment.
    pub dont_fragment: bool,
    /// False: the UDP checksum is zero, which means none (IPv4).
    pub checksum: bool,
    /// What the datagram carries.
    pub payload: Vec<u8>,
    /// Bytes that the IP packet has behind the UDP datagram, which tells a shorter length then.
    pub behind: Vec<u8>,
}

impl Datagram {
    /// A plain datagram of TTL 64.
    pub fn new(macs: (Mac, Mac), source: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            from: macs.0,
            to: macs.1,
            vlans: Vec::new(),
            source,
            destination,
            ttl: 64,
            traffic_class: 0,
            options: Vec::new(),
            dont_fragment: false,
            checksum: true,
            payload: Vec::new(),
            behind: Vec::new(),
        }
    }

    /// The same with a payload.
    #[must_use]
    pub fn carrying(mut self, payload: &[u8]) -> Self {
        self.payload = payload.into();
        self
    }

    /// The whole frame.
    pub fn frame(&self) -> Vec<u8> {
        let udp = self.udp();
        match self.source.ip() {
            IpAddr::V4(_) => self.ipv4(&udp, 0, false),
            IpAddr::V6(_) => {
                let (next, body) = if self.options.is_empty() {
                    (UDP, udp)
                } else {
                    (60, [&self.options[..], &udp].concat())
                };
                self.ipv6(next, &body)
            }
        }
    }

    /// The datagram in two fragments, cut behind `first` bytes (a multiple of 8) of UDP.
    pub fn fragments(&self, first: usize) -> [Vec<u8>; 2] {
        assert!(first.is_multiple_of(8), "fragments are cut at multiples of 8");
        let udp = self.udp();
        let (head, tail) = udp.split_at(first);
        match self.source.ip() {
            IpAddr::V4(_) => [self.ipv4(head, 0, true), self.ipv4(tail, first, false)],
            IpAddr::V6(_) => {
                let part = |body: &[u8], offset: usize, more: bool| {
                    let mut bytes = vec![UDP, 0];
                    bytes.extend((offset as u16 | u16::from(more)).to_be_bytes());
                    bytes.extend([0xab, 0xcd, 0xef, 0x01]);
                    bytes.extend(body);
                    self.ipv6(44, &bytes)
                };
                [part(head, 0, true), part(tail, first, false)]
            }
        }
    }

    fn udp(&self) -> Vec<u8> {
        let length = (8 + self.payload.len()) as u16;
        let mut udp = Vec::from(self.source.port().to_be_bytes());
        udp.extend(self.destination.port().to_be_bytes());
        udp.extend(length.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(&self.payload);
        if self.checksum {
            let sum = udp_sum(self.source.ip(), self.destination.ip(), &udp);
            // A computed zero is sent as ffff, since zero means none (RFC 768).
            let checksum = if sum == 0xffff { 0xffff } else { !sum };
            udp[6..8].copy_from_slice(&checksum.to_be_bytes());
        }
        udp.extend(&self.behind);
        udp
    }

    fn ethernet(&self, ethertype: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.to);
        bytes.extend(self.from);
        for (depth, vlan) in self.vlans.iter().enumerate() {
            let outer = depth + 1 < self.vlans.len();
            bytes.extend(if outer { PROVIDER_VLAN } else { VLAN }.to_be_bytes());
            bytes.extend(vlan.to_be_bytes());
        }
        bytes.extend(ethertype.to_be_bytes());
        bytes
    }

    fn ipv4(&self, body: &[u8], offset: usize, more: bool) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let mut flags = (offset / 8) as u16;
        flags |= if more { 0x2000 } else { 0 } | if self.dont_fragment { 0x4000 } else { 0 };
        let mut ip = vec![0x40 | (header_len / 4) as u8, self.traffic_class];
        ip.extend(((header_len + body.len()) as u16).to_be_bytes());
        ip.extend([0x12, 0x34]);
        ip.extend(flags.to_be_bytes());
        ip.extend([self.ttl, UDP, 0, 0]);
        extend_address(&mut ip, self.source.ip());
        extend_address(&mut ip, self.destination.ip());
        ip.extend(&self.options);
        let checksum = !ones_complement_sum(&ip, 0);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        [&self.ethernet(IPV4)[..], &ip, body].concat()
    }

    fn ipv6(&self, next: u8, body: &[u8]) -> Vec<u8> {
        let mut ip = Vec::from((0x6000_0000 | u32::from(self.traffic_class) << 20).to_be_bytes());
        ip.extend((body.len() as u16).to_be_bytes());
        ip.extend([next, self.ttl]);
        extend_address(&mut ip, self.source.ip());
        extend_address(&mut ip, self.destination.ip());
        [&self.ethernet(IPV6)[..], &ip, body].concat()
    }
}

fn extend_address(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(ip) => bytes.extend(ip.octets()),
        IpAddr::V6(ip) => bytes.extend(ip.octets()),
    }
}

const WRONG_VERSION: &str = "the IP version is not the one that the EtherType says";

/// A UDP datagram that was read out of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source Ethernet address.
    pub from: Mac,
    /// Destination Ethernet address.
    pub to: Mac,
    /// VLAN ids, outermost first.
    pub vlans: Vec<u16>,
    /// Source address and port (0 in a fragment that is not the first).
    pub source: SocketAddr,
    /// Destination address and port (0 in a fragment that is not the first).
    pub destination: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// IPv4: Don't Fragment. True for IPv6, where routers never fragment.
    pub dont_fragment: bool,
    /// True when this is a part of a datagram.
    pub fragment: bool,
    /// Bytes of IPv4 options.
    pub options_len: usize,
    /// The UDP checksum as it stands there; 0 for none.
    pub checksum: u16,
    /// What the datagram carries; of a fragment, all behind the IP header.
    pub payload: Vec<u8>,
    /// Bytes of the frame behind the end of the IP packet.
    pub trailing_len: usize,
    /// What is wrong with it; nothing, if all lengths agree and all checksums are right.
    pub faults: Vec<&'static str>,
}

impl Packet {
    /// `None` when the frame is not UDP over IP, or cut short.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let to = frame.get(..6)?.try_into().ok()?;
        let from = frame.get(6..12)?.try_into().ok()?;
        let (mut at, mut vlans) = (12, Vec::new());
        let ethertype = loop {
            match number(frame, at)? {
                VLAN | PROVIDER_VLAN => vlans.push(number(frame, at + 2)? & 0xfff),
                other => break other,
            }
            at += 4;
        };
        let ip = frame.get(at + 2..)?;
        let mut packet = match ethertype {
            IPV4 => Self::ipv4(ip)?,
            IPV6 => Self::ipv6(ip)?,
            _ => return None,
        };
        (packet.to, packet.from, packet.vlans) = (to, from, vlans);
        Some(packet)
    }

    fn ipv4(ip: &[u8]) -> Option<Self> {
        let header_len = usize::from(ip.first()? & 0xf) * 4;
        let header = ip.get(..header_len).filter(|header| header.len() >= 20)?;
        let total = usize::from(number(ip, 2)?);
        let flags = number(ip, 6)?;
        let source = <[u8; 4]>::try_from(&header[12..16]).ok()?.into();
        let destination = <[u8; 4]>::try_from(&header[16..20]).ok()?.into();
        let fragment = flags & 0x3fff != 0;
        let body = ip.get(header_len..total)?;
        let mut packet = Self::udp(header[9], source, destination, fragment, body)?;
        packet.ttl = header[8];
        packet.traffic_class = header[1];
        packet.dont_fragment = flags & 0x4000 != 0;
        packet.options_len = header_len - 20;
        packet.trailing_len = ip.len() - total;
        if ones_complement_sum(header, 0) != 0xffff {
            packet.faults.push("the IPv4 header checksum is wrong");
        }
        if header[0] >> 4 != 4 {
            packet.faults.push(WRONG_VERSION);
        }
        Some(packet)
    }

    fn ipv6(ip: &[u8]) -> Option<Self> {
        let length = usize::from(number(ip, 4)?);
        let source = <[u8; 16]>::try_from(ip.get(8..24)?).ok()?.into();
        let destination = <[u8; 16]>::try_from(ip.get(24..40)?).ok()?.into();
        let body = ip.get(40..40 + length)?;
        let fragment = ip[6] == 44;
        let protocol = if fragment { *body.first()? } else { ip[6] };
        let mut packet = Self::udp(protocol, source, destination, fragment, body)?;
        packet.ttl = ip[7];
        packet.traffic_class = (number(ip, 0)? >> 4) as u8;
        packet.dont_fragment = true;
        packet.trailing_len = ip.len() - 40 - length;
        if ip[0] >> 4 != 6 {
            packet.faults.push(WRONG_VERSION);
        }
        Some(packet)
    }

    fn udp(
        protocol: u8,
        source: IpAddr,
        destination: IpAddr,
        fragment: bool,
        body: &[u8],
    ) -> Option<Self> {
        let mut packet = Self {
            from: Mac::default(),
            to: Mac::default(),
            vlans: Vec::new(),
            source: SocketAddr::new(source, 0),
            destination: SocketAddr::new(destination, 0),
            ttl: 0,
            traffic_class: 0,
            dont_fragment: false,
            fragment,
            options_len: 0,
            checksum: 0,
            payload: body.into(),
            trailing_len: 0,
            faults: Vec::new(),
        };
        if protocol != UDP {
            return None;
        }
        if fragment {
            return Some(packet);
        }
        packet.source.set_port(number(body, 0)?);
        packet.destination.set_port(number(body, 2)?);
        packet.checksum = number(body, 6)?;
        packet.payload = body.get(8..)?.into();
        if usize::from(number(body, 4)?) != body.len() {
            packet.faults.push("the UDP length is not what the IP header leaves");
        }
        let none = packet.checksum == 0 && source.is_ipv4();
        if !none && udp_sum(source, destination, body) != 0xffff {
            packet.faults.push("the UDP checksum is wrong");
        }
        Some(packet)
    }

    /// One line for a failure's message.
    pub fn summary(&self) -> String {
        format!(
            "{} > {}, {} bytes, ttl {}, class {:#04x}, vlans {:?}{}, faults {:?}",
            self.source,
            self.destination,
            self.payload.len(),
            self.ttl,
            self.traffic_class,
            self.vlans,
            if self.fragment { ", fragment" } else { "" },
            self.faults
        )
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The sum over a whole UDP datagram and its pseudo header: 0xffff when its checksum is right.
fn udp_sum(source: IpAddr, destination: IpAddr, udp: &[u8]) -> u16 {
    let mut pseudo = Vec::new();
    extend_address(&mut pseudo, source);
    extend_address(&mut pseudo, destination);
    pseudo.extend((udp.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, UDP]);
    ones_complement_sum(udp, ones_complement_sum(&pseudo, 0))
}

/// RFC 1071, two bytes at a time.
fn ones_complement_sum(bytes: &[u8], start: u16) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        _ => u32::from(pair[0]) << 8,
    });
    let mut sum = u32::from(start) + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(source: &str, destination: &str) -> Datagram {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Datagram::new(([2; 6], [4; 6]), source, destination).carrying(b"odd")
    }

    #[test]
    fn what_is_written_is_read_back_without_fault() {
        for (source, destination) in [("44.1.2.3:5", "44.4.5.6:7"), ("[2e00::1]:5", "[2e00::2]:7")]
        {
            let mut datagram = datagram(source, destination);
            datagram.vlans = vec![7, 9];
            datagram.traffic_class = 0xb9;
            let mut frame = datagram.frame();
            frame.extend([0; 5]);
            let packet = Packet::parse(&frame).unwrap();
            assert_eq!(packet.faults, Vec::<&str>::new());
            assert_eq!(packet.source, datagram.source);
            assert_eq!(packet.vlans, [7, 9]);
            assert_eq!(packet.traffic_class, 0xb9);
            assert_eq!(
                (packet.ttl, &packet.payload[..], packet.trailing_len),
                (64, &b"odd"[..], 5)
            );
        }
    }

    #[test]
    fn a_wrong_bit_is_a_fault() {
        let mut frame = datagram("44.1.2.3:5", "44.4.5.6:7").frame();
        *frame.last_mut().unwrap() ^= 1;
        frame[14 + 8] ^= 1;
        assert_eq!(Packet::parse(&frame).unwrap().faults.len(), 2);
    }

    /// From RFC 1071's worked example: 0001 f203 f4f5 f6f7 sum to ddf2.
    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        assert_eq!(ones_complement_sum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7], 0), 0xddf2);
    }
}
