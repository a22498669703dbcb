//! What is sent, in full: paths, flows and payload lengths.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use crate::{abi, packet};

/// Bytes of a ChannelData header.
const CHANNEL_DATA: usize = 4;

/// A link address.
pub type Mac = [u8; 6];

/// How frames reach the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Index of the interface by which they leave.
    pub interface: u32,
    /// That interface's address.
    pub own: Mac,
    /// The address of the relay's interface, or of the router before it.
    pub next: Mac,
    /// The client, or the peer.
    pub src: IpAddr,
    /// Where the relay listens, or its relayed address.
    pub dst: IpAddr,
    /// The peer that Send indications of this path's flows name, and the Data indications that
    /// become of them; where there are any.
    pub peer: Option<IpAddr>,
}

/// What is around a datagram's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapper {
    /// Nothing.
    None,
    /// ChannelData of this channel.
    Channel(u16),
    /// A Send or Data indication with this port of the [`Path::peer`].
    Indication(u16),
}

impl From<Option<u16>> for Wrapper {
    fn from(channel: Option<u16>) -> Wrapper {
        channel.map_or(Wrapper::None, Wrapper::Channel)
    }
}

/// One end of a flow's way. Ports in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
    /// What carries it.
    pub wrapper: Wrapper,
}

/// Datagrams that leave and arrive in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Its path, by number.
    pub path: usize,
    /// As it leaves.
    pub out: Leg,
    /// As it is to arrive.
    pub arrive: Leg,
    /// Counted as going to a client, else to a peer.
    pub to_client: bool,
}

/// What generator and sink are loaded for.
#[derive(Clone, Debug)]
pub struct Scheme {
    /// Sources, destinations and the ways to them: 1 to [`abi::PATHS`].
    pub paths: Vec<Path>,
    /// How many flows there are: 1 to [`abi::FLOWS`]. They take turns.
    pub flows: usize,
    /// Payload lengths in bytes that take turns: 1 to [`abi::PATTERN`] of them, each
    /// [`abi::STAMP`] to [`abi::PAYLOAD_MAX`]; multiples of 4 where a path has a peer, as indications
    /// are, and short enough for their headers.
    pub payloads: Vec<u16>,
    /// Follow each flow's numbers, every latency and every byte. Without it the sink only counts
    /// datagrams whose headers, stamp, first and last bytes are right, and is faster.
    pub tracked: bool,
    /// The two interfaces of [`crate::Bare::Redirect`], in the namespace in which it is attached.
    pub arms: [u32; 2],
}

impl Leg {
    pub(crate) fn word(self, number: u16) -> u64 {
        let leg = |wrapper| abi::Leg::new(self.src, self.dst, wrapper, number);
        match self.wrapper {
            Wrapper::None => leg(0).0,
            Wrapper::Channel(channel) => leg(channel).0,
            Wrapper::Indication(port) => leg(port).indication().0,
        }
    }
}

impl Scheme {
    pub(crate) fn check(&self) -> Result<()> {
        let Scheme { paths, flows, payloads, .. } = self;
        ensure!((1..=abi::PATHS).contains(&paths.len()), "{} paths", paths.len());
        ensure!((1..=abi::FLOWS).contains(flows), "{flows} flows are not 1 to {}", abi::FLOWS);
        ensure!((1..=abi::PATTERN).contains(&payloads.len()), "{} lengths", payloads.len());
        for payload in payloads {
            ensure!(
                (abi::STAMP..=abi::PAYLOAD_MAX).contains(&usize::from(*payload)),
                "a payload of {payload} bytes is not {} to {}: a frame holds no more",
                abi::STAMP,
                abi::PAYLOAD_MAX
            );
            let longest = abi::PAYLOAD_MAX + CHANNEL_DATA - abi::SEND_V6;
            ensure!(
                !self.indicates() || payload.is_multiple_of(4) && usize::from(*payload) <= longest,
                "a payload of {payload} bytes in indications is no multiple of 4 up to {longest}"
            );
        }
        Ok(())
    }

    /// Whether there are indications among the flows.
    pub(crate) fn indicates(&self) -> bool {
        self.paths.iter().any(|path| path.peer.is_some())
    }

    pub(crate) fn longest(&self) -> u16 {
        self.payloads.iter().copied().max().unwrap_or_default()
    }

    /// The longest headers of any frame, from Ethernet to the wrapper.
    pub(crate) fn headers(&self) -> usize {
        let v6 = self.paths.iter().any(|path| path.dst.is_ipv6());
        let wrapper = match self.paths.iter().filter_map(|path| path.peer).max() {
            None => CHANNEL_DATA,
            Some(IpAddr::V4(_)) => abi::SEND_V4,
            Some(IpAddr::V6(_)) => abi::SEND_V6,
        };
        (if v6 { 54 } else { 34 }) + 8 + wrapper
    }
}

/// STUN's magic cookie (RFC 8489 section 5), and the transaction of every Send indication.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const TRANSACTION: [u8; 12] = *b"turnwire/sen";

/// What a template has for indications about a peer.
fn indications(peer: Option<IpAddr>) -> abi::Template {
    const NOTHING: abi::Template = abi::Template {
        head: [0; 7],
        ifindex: 0,
        v6: 0,
        ip_sum: 0,
        sum: 0,
        send: [0; 11],
        send_sum: 0,
        peer: [0; 4],
        peer_family: 0,
        reserved: 0,
    };
    let (ip, family, peer_family) = match peer {
        None => return NOTHING,
        Some(IpAddr::V4(ip)) => (ip.octets().to_vec(), 1, 4),
        Some(IpAddr::V6(ip)) => (ip.octets().to_vec(), 2, 6),
    };
    let mask = [&COOKIE[..], &TRANSACTION].concat();
    let mut bytes = [&[0, 0x16, 0, 0], &mask[..]].concat();
    // XOR-PEER-ADDRESS (RFC 8489 section 14.2): reserved, family, port
    bytes.extend([0, 0x12, 0, 4 + ip.len() as u8, 0, family, 0, 0]);
    bytes.extend(ip.iter().zip(&mask).map(|(byte, mask)| byte ^ mask));
    abi::Template {
        send: words(&bytes),
        send_sum: packet::sum(&bytes).to_be().into(),
        peer: words(&ip),
        peer_family,
        ..NOTHING
    }
}

/// In memory order, filled up with zeros.
fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    words
}

impl Path {
    /// The headers of this path's frames, without lengths.
    pub(crate) fn template(&self) -> abi::Template {
        let Path { interface, own, next, src, dst, peer } = *self;
        let mut bytes = packet::head(next, own, src, dst, 0);
        let v6 = dst.is_ipv6();
        if v6 {
            bytes[18..20].fill(0);
        } else {
            // length and checksum
            bytes[16..18].fill(0);
            bytes[24..26].fill(0);
        }
        let ip_sum = if v6 { 0 } else { packet::sum(&bytes[14..]) };
        let sum = packet::sum(&packet::pseudo_header(src, dst, 0));
        bytes.resize(56, 0);
        let mut head = [0; 7];
        for (word, bytes) in head.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        abi::Template {
            head,
            ifindex: interface,
            v6: v6.into(),
            ip_sum: ip_sum.to_be().into(),
            sum: sum.to_be().into(),
            ..indications(peer)
        }
    }
}
