//! Who sends to whom: sockets, channels and flows.
//!
//! ```text
//! sockets     0 .. N                N .. N + P
//!             clients, one each     peers of our own, or none
//!
//! peers       client i, channel j  <──relay──>  peer j
//! relay       client a, channel j  <──relay──>  client h + (a + j) mod h     h = N / 2, a < h
//! ```
//!
//! A flow is one channel in one direction. Flows are numbered in the order in which they take turns:
//! a few of one socket follow each other, so that one call sends them, and the directions alternate.

use serde::{Deserialize, Serialize};
use turn::ChannelNumber;

/// Most flows of one socket that follow each other.
const TURN_MAX: usize = 16;

/// The way of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From a client through the server to a peer.
    ToPeer,
    /// From a peer through the server to a client.
    ToClient,
}

impl Direction {
    /// Both, in the order of their numbers.
    pub const ALL: [Direction; 2] = [Direction::ToPeer, Direction::ToClient];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Direction::ToPeer => "to-peer",
            Direction::ToClient => "to-client",
        }
    }
}

/// One channel in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Its direction.
    pub direction: Direction,
    /// The socket that sends it.
    pub from: usize,
    /// The socket that it is to reach.
    pub to: usize,
    /// The allocation that it is counted for.
    pub allocation: usize,
    /// Its channel there, counted from 0.
    pub channel: usize,
}

/// At the other end of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Far {
    /// The peer with this number.
    Peer(usize),
    /// The relayed address of this allocation.
    Relayed(usize),
}

/// How many, and in which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Allocations.
    pub allocations: usize,
    /// Channels of each.
    pub channels: usize,
    /// From clients to peers.
    pub to_peer: bool,
    /// From peers to clients.
    pub to_client: bool,
    /// Between the relayed addresses of the server.
    pub relay_to_relay: bool,
}

/// Why a shape makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Channel numbers run out.
    #[error("an allocation has 1 to 4,096 channels, not {0}")]
    Channels(usize),
    /// Nothing to do.
    #[error("at least one allocation is needed")]
    Allocations,
    /// Relay to relay pairs allocations.
    #[error(
        "relay to relay pairs allocations: {0} must be even, and at least twice the {1} channels"
    )]
    Pairs(usize, usize),
}

impl Shape {
    /// # Errors
    /// [`ShapeError`].
    pub fn check(&self) -> Result<(), ShapeError> {
        if self.allocations == 0 {
            return Err(ShapeError::Allocations);
        }
        if !(1..=4096).contains(&self.channels) {
            return Err(ShapeError::Channels(self.channels));
        }
        let half = self.allocations / 2;
        let pairs = self.allocations.is_multiple_of(2) && self.channels <= half;
        if self.relay_to_relay && !pairs {
            return Err(ShapeError::Pairs(self.allocations, self.channels));
        }
        Ok(())
    }

    /// What is at the other end of this allocation's channel.
    pub fn far(&self, allocation: usize, channel: usize) -> Far {
        let half = self.allocations / 2;
        match (self.relay_to_relay, allocation < half) {
            (false, _) => Far::Peer(channel),
            (true, true) => Far::Relayed(half + (allocation + channel) % half),
            (true, false) => Far::Relayed((allocation - half + half - channel % half) % half),
        }
    }

    /// How many peers of our own that takes.
    pub fn peers(&self) -> usize {
        if self.relay_to_relay { 0 } else { self.channels }
    }

    /// Every flow, in the order in which they take turns.
    pub fn flows(&self) -> Vec<Flow> {
        let mut turns: [Vec<Vec<Flow>>; 2] = Default::default();
        if self.to_peer {
            turns[0] = self.turns(Direction::ToPeer);
        }
        if self.to_client {
            turns[1] = self.turns(Direction::ToClient);
        }
        let [mut there, mut back] = turns.map(Vec::into_iter);
        let mut flows = Vec::new();
        loop {
            let next = [there.next(), back.next()];
            if next.iter().all(Option::is_none) {
                return flows;
            }
            flows.extend(next.into_iter().flatten().flatten());
        }
    }

    /// The flows of one direction, the ones of one sending socket together.
    fn turns(&self, direction: Direction) -> Vec<Vec<Flow>> {
        let near = if self.relay_to_relay { self.allocations / 2 } else { self.allocations };
        let mut flows: Vec<Flow> = (0..near)
            .flat_map(|allocation| (0..self.channels).map(move |channel| (allocation, channel)))
            .map(|(allocation, channel)| {
                let far = match self.far(allocation, channel) {
                    Far::Peer(peer) => self.allocations + peer,
                    Far::Relayed(other) => other,
                };
                let (from, to) = match direction {
                    Direction::ToPeer => (allocation, far),
                    Direction::ToClient => (far, allocation),
                };
                Flow { direction, from, to, allocation, channel }
            })
            .collect();
        flows.sort_by_key(|flow| flow.from);
        let turns = flows.chunk_by(|one, two| one.from == two.from);
        turns.flat_map(|turn| turn.chunks(TURN_MAX)).map(<[Flow]>::to_vec).collect()
    }
}

/// The number of an allocation's channel; `channel` counts from 0 and is below 4,096.
pub fn channel_number(channel: usize) -> ChannelNumber {
    let number = 0x4000 + (channel % 4096) as u16;
    ChannelNumber::new(number).expect("0x4000 to 0x4FFF are channel numbers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const SHAPE: Shape = Shape {
        allocations: 10,
        channels: 5,
        to_peer: true,
        to_client: true,
        relay_to_relay: false,
    };

    #[test]
    fn every_channel_has_a_flow_each_way() {
        let flows = SHAPE.flows();
        assert_eq!(flows.len(), 100);
        let ends: HashSet<(usize, usize)> = flows.iter().map(|flow| (flow.from, flow.to)).collect();
        assert_eq!(ends.len(), 100);
        assert!(flows[..20].iter().any(|flow| flow.direction == Direction::ToClient));
    }

    #[test]
    fn between_relays_both_ends_of_a_channel_name_each_other() {
        let shape = Shape { relay_to_relay: true, ..SHAPE };
        shape.check().unwrap();
        for (allocation, channel) in (0..10).flat_map(|a| (0..5).map(move |c| (a, c))) {
            let Far::Relayed(other) = shape.far(allocation, channel) else { panic!("a peer") };
            assert_eq!(shape.far(other, channel), Far::Relayed(allocation));
        }
        assert_eq!(shape.flows().len(), 50);
    }

    #[test]
    fn an_allocation_never_has_two_channels_to_one_place() {
        for relay_to_relay in [false, true] {
            let shape = Shape { relay_to_relay, ..SHAPE };
            for allocation in 0..10 {
                let far = (0..5).map(|channel| format!("{:?}", shape.far(allocation, channel)));
                assert_eq!(far.collect::<HashSet<_>>().len(), 5);
            }
        }
    }

    #[test]
    fn shapes_that_make_no_sense_are_refused() {
        let pairs = Shape { relay_to_relay: true, channels: 6, ..SHAPE };
        for shape in [
            Shape { allocations: 0, ..SHAPE },
            Shape { channels: 0, ..SHAPE },
            Shape { channels: 4097, ..SHAPE },
            Shape { allocations: 9, ..pairs },
            pairs,
        ] {
            assert!(shape.check().is_err(), "{shape:?}");
        }
    }
}
