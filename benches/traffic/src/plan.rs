//! What crosses the relay: who sends to whom, and how much.

use std::net::IpAddr;

use crate::{abi, packet};

/// A link address.
pub type Mac = [u8; 6];

/// How frames of one direction reach the relay.
#[derive(Clone, Copy, Debug)]
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
}

/// Which directions are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    /// From clients, as ChannelData.
    ToPeers,
    /// From peers, as plain datagrams.
    ToClients,
    /// Both take turns.
    Both,
}

impl Ways {
    pub(crate) fn bits(self) -> u64 {
        match self {
            Ways::ToPeers => 1,
            Ways::ToClients => 2,
            Ways::Both => 3,
        }
    }
}

/// What stands in the relay's place, as far as the sink must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// A relay, or a mirror that swaps addresses and ports: ports are checked.
    Changed,
    /// Frames arrive with the ports that they were sent with: ports are not checked.
    Unchanged,
}

/// One channel: what the sink knows a datagram by. All ports in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// The client's port.
    pub client: u16,
    /// The relayed address's port.
    pub relay: u16,
    /// The peer's port.
    pub peer: u16,
    /// Its number, 0x4000 to 0x4fff.
    pub number: u16,
}

/// What is sent. Make one with [`Plan::new`] and change what differs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// From clients to the listener, and from peers to the relayed address.
    pub paths: [Path; 2],
    /// Channels, 1 to 65,535. They take turns.
    pub channels: u16,
    /// Application data of each datagram in bytes: 20 to 1,400.
    pub payload: u16,
    /// Which directions.
    pub ways: Ways,
    /// What stands in the relay's place.
    pub crossing: Crossing,
    /// The two interfaces of [`crate::Bare::Redirect`], in the namespace in which it is attached.
    pub arms: [u32; 2],
}

impl Plan {
    /// Both directions in turn, through a relay.
    pub fn new(paths: [Path; 2], channels: u16, payload: u16) -> Plan {
        let (ways, crossing) = (Ways::Both, Crossing::Changed);
        Plan { paths, channels, payload, ways, crossing, arms: [0; 2] }
    }

    /// The headers of both directions, as the generator wants them.
    pub(crate) fn templates(&self) -> [abi::Template; abi::WAYS] {
        let [to_peer, to_client] = &self.paths;
        let mut ways =
            [template(to_peer, self.payload, true), template(to_client, self.payload, false)];
        let header = |way: usize| [12, 8][way];
        let sizes = [0, 1].map(|way| head_size(&ways[way]) + header(way));
        for way in 0..abi::WAYS {
            ways[way].skip = (sizes[0].max(sizes[1]) - sizes[way]) as u32;
        }
        ways
    }
}

/// A sum of big-endian words, as `wire::Sum` keeps it.
pub(crate) fn memory_order(sum: u16) -> u16 {
    u16::from_ne_bytes(sum.to_be_bytes())
}

/// Ethernet and IP headers of a template.
pub(crate) fn head_size(template: &abi::Template) -> usize {
    if template.v6 != 0 { 54 } else { 34 }
}

fn template(path: &Path, payload: u16, channel: bool) -> abi::Template {
    let Path { interface, own, next, src, dst } = *path;
    let udp_size = 8 + payload + if channel { 4 } else { 0 };
    let mut bytes = packet::head(next, own, src, dst, udp_size);
    let mut covered = packet::pseudo_header(src, dst, udp_size);
    covered.extend(udp_size.to_be_bytes());
    if channel {
        covered.extend(payload.to_be_bytes());
    }
    covered.extend(vec![abi::FILLING; usize::from(payload) - abi::STAMP]);
    bytes.resize(56, 0);
    let mut head = [0; 7];
    for (word, bytes) in head.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    abi::Template {
        head,
        ifindex: interface,
        v6: dst.is_ipv6().into(),
        skip: 0,
        udp_size,
        sum: memory_order(packet::sum(&covered)),
    }
}
