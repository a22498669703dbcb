//! Channels between two addresses each: what the benchmarks send.

use crate::abi;
use crate::scheme::{Flow, Leg, Path, Scheme, Wrapper};

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

/// What stands in the relay's place, as far as the sink must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// A relay: ChannelData arrives as datagrams, and datagrams as ChannelData.
    Changed,
    /// Frames come back with their addresses and ports swapped, as from [`crate::Bare::Tx`].
    Mirrored,
    /// Frames arrive as they were sent, as from [`crate::Bare::Redirect`].
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

/// Channels in one or both directions. Make one with [`Plan::new`] and change what differs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// From clients to the listener (port [`abi::LISTENER`]), and from peers to the relayed
    /// address.
    pub paths: [Path; 2],
    /// Channels, 1 to 65,535. They take turns.
    pub channels: u16,
    /// Application data of each datagram in bytes.
    pub payload: u16,
    /// Which directions.
    pub ways: Ways,
    /// What stands in the relay's place; [`crate::Traffic::attach_bare`] sets it too.
    pub crossing: Crossing,
    /// See [`Scheme::arms`].
    pub arms: [u32; 2],
    /// See [`Scheme::tracked`].
    pub tracked: bool,
}

impl Plan {
    /// Both directions in turn, through a relay, counted but not tracked.
    pub fn new(paths: [Path; 2], channels: u16, payload: u16) -> Plan {
        let (ways, crossing) = (Ways::Both, Crossing::Changed);
        Plan { paths, channels, payload, ways, crossing, arms: [0; 2], tracked: false }
    }

    pub(crate) fn scheme(&self) -> Scheme {
        let each = if self.ways == Ways::Both { 2 } else { 1 };
        Scheme {
            paths: self.paths.to_vec(),
            flows: usize::from(self.channels) * each,
            payloads: vec![self.payload],
            tracked: self.tracked,
            arms: self.arms,
        }
    }

    /// The flows of the channel counted as `number`, with theirs.
    pub(crate) fn flows(&self, number: usize, channel: &Channel) -> Vec<(usize, Flow)> {
        let Channel { client, relay, peer, number: channel } = *channel;
        let listener = abi::LISTENER;
        let leg = |src, dst, wrapper| Leg { src, dst, wrapper };
        let wrapper = Wrapper::Channel(channel);
        let to_peer = [leg(client, listener, wrapper), leg(relay, peer, Wrapper::None)];
        let to_client = [leg(peer, relay, Wrapper::None), leg(listener, client, wrapper)];
        let flow = |path: usize, [out, relayed]: [Leg; 2]| {
            let arrive = match self.crossing {
                Crossing::Changed => relayed,
                Crossing::Mirrored => Leg { src: out.dst, dst: out.src, ..out },
                Crossing::Unchanged => out,
            };
            Flow { path, out, arrive, to_client: path == 1 }
        };
        match self.ways {
            Ways::ToPeers => vec![(number, flow(0, to_peer))],
            Ways::ToClients => vec![(number, flow(1, to_client))],
            Ways::Both => {
                vec![(2 * number, flow(0, to_peer)), (2 * number + 1, flow(1, to_client))]
            }
        }
    }
}
