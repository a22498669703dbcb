//! The flows of a scenario: who is where, and what generator and sink are told.
//!
//! ```text
//!  with peers          client ── ChannelData ──> listener   relayed address ── datagram ──> peer
//!                      client <── ChannelData ── listener   relayed address <── datagram ── peer
//!  between clients     client ── ChannelData ──> listener   listener ── ChannelData ──> other client
//! ```

use traffic::abi::LISTENER;
use traffic::{Crossing, Flow, Leg, Path, Scheme, Traffic, Wrapper};
use wire::Family;

use super::plan::{Direction, Mode, Scenario};
use super::site::{self, Side, Site};

/// Above so many channels a client has several.
const CLIENTS_MAX: u16 = 4096;
/// Channels of each client then.
const CHANNELS_EACH: u16 = 16;

/// What crosses the relay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flows {
    /// Channels.
    pub(crate) count: u16,
    /// Application data, bytes: 20 at least.
    payload: u16,
    pub(crate) direction: Direction,
    pub(crate) mode: Mode,
    pub(crate) client: Family,
    pub(crate) peer: Family,
}

/// One channel: where its two ends are. All ports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Channel {
    pub(crate) client: u16,
    pub(crate) relay: u16,
    pub(crate) peer: u16,
    pub(crate) number: u16,
}

impl Flows {
    /// Of this scenario.
    pub(crate) fn new(scenario: &Scenario) -> Flows {
        let Scenario { channels: count, payload, direction, mode, families, .. } = *scenario;
        Flows { count, payload, direction, mode, client: families.0, peer: families.1 }
    }

    /// Both ends are clients of the relay.
    pub(crate) fn between_clients(&self) -> bool {
        self.direction == Direction::RelayToRelay
    }

    /// The client and the channel of number `number`, counted from 0.
    pub(crate) fn place(&self, number: u16) -> (u16, u16) {
        if self.count <= CLIENTS_MAX {
            (number, 0)
        } else {
            (number / CHANNELS_EACH, number % CHANNELS_EACH)
        }
    }

    /// How generator and sink are loaded. `tracked`: latencies are taken, and every byte is checked.
    pub(crate) fn scheme(&self, site: &Site, tracked: bool) -> Scheme {
        let path = |cable: usize, src, dst| Path {
            interface: site.far[cable],
            own: site::mac(Side::Far, cable),
            next: site::mac(Side::Relay, cable),
            src,
            dst,
            peer: (self.mode == Mode::Indications).then(|| site::peer_ip(self.peer)),
        };
        let peers = site.peer_cable();
        let listener = site::listener_ip(self.client);
        let to_peer = path(0, site::client_ip(self.client), listener);
        let back = if self.between_clients() {
            path(0, site::other_client_ip(self.client), listener)
        } else {
            path(peers, site::peer_ip(self.peer), site::relay_ip(self.peer))
        };
        Scheme {
            paths: vec![to_peer, back],
            flows: usize::from(self.count) * self.legs(),
            payloads: vec![self.payload],
            tracked,
            arms: [site.arms[0], site.arms[peers]],
        }
    }

    /// Flows of each channel.
    fn legs(&self) -> usize {
        match self.direction {
            Direction::ToPeers | Direction::ToClients => 1,
            Direction::Both | Direction::RelayToRelay => 2,
        }
    }

    /// Tells generator and sink about all channels, as they come back from what stands there.
    pub(crate) fn tell(&self, traffic: &Traffic, channels: &[Channel], crossing: Crossing) {
        for (number, channel) in channels.iter().enumerate() {
            for (at, flow) in self.flows(channel, crossing).into_iter().enumerate() {
                traffic.set_flow(number * self.legs() + at, &flow);
            }
        }
    }

    fn flows(&self, channel: &Channel, crossing: Crossing) -> Vec<Flow> {
        let Channel { client, relay, peer, number } = *channel;
        let leg = |src, dst, wrapper| Leg { src, dst, wrapper };
        let wrapper = match self.mode {
            Mode::Channels => Wrapper::Channel(number),
            Mode::Indications => Wrapper::Indication(peer),
        };
        let up = leg(client, LISTENER, wrapper);
        let down = leg(LISTENER, client, wrapper);
        let flow = |path, out: Leg, relayed, to_client| {
            let arrive = match crossing {
                Crossing::Changed => relayed,
                Crossing::Mirrored => Leg { src: out.dst, dst: out.src, ..out },
                Crossing::Unchanged => out,
            };
            Flow { path, out, arrive, to_client }
        };
        let to_peer = flow(0, up, leg(relay, peer, Wrapper::None), false);
        let to_client = flow(1, leg(peer, relay, Wrapper::None), down, true);
        match self.direction {
            Direction::ToPeers => vec![to_peer],
            Direction::ToClients => vec![to_client],
            Direction::Both => vec![to_peer, to_client],
            // both clients have the same ports and channels, at different addresses
            Direction::RelayToRelay => vec![flow(0, up, down, true), flow(1, up, down, true)],
        }
    }
}
