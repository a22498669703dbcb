//! The datagram side of a session thread: the relay ports of its clients, and the DTLS listeners.
//!
//! ```text
//!   client's frames ── channel -> (relay port, peer) ──> outbound batch ──> sendmmsg
//!   recvmmsg ──> inbound batch ── (relay port, peer) -> channel ──> the client's queue
//! ```
//!
//! Sending and receiving are the workers' own ([`SocketLink`]), so what holds for TTL, DSCP and DF
//! there holds here. A datagram made of bytes of a stream has no TTL to take over: it leaves with
//! the host's defaults (RFC 8656 section 16).

use super::members::Key;
use crate::batch::{Arrival, BATCH_MAX, Batch, Departure, Outcome, SocketId};
use crate::link::Link;
use crate::link::socket::{Bound, SocketLink};
use crate::route::PortId;
use crate::stats::{Counters, PathCounters};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use wire::{Direction, Reason};

/// From a client's channel to a peer.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) channel: u16,
    pub(crate) port: PortId,
    pub(crate) peer: SocketAddr,
    pub(crate) expires: Duration,
    pub(crate) traffic: Arc<PathCounters>,
}

/// A client's channels, in the order of their numbers.
#[derive(Default)]
pub(crate) struct Channels {
    ways: Vec<Way>,
}

impl Channels {
    pub(crate) fn find(&self, channel: u16) -> Option<&Way> {
        let at = self.ways.binary_search_by_key(&channel, |way| way.channel).ok()?;
        Some(&self.ways[at])
    }

    /// Puts a way in. False when there are `limit` others.
    pub(crate) fn put(&mut self, way: Way, limit: usize) -> bool {
        match self.ways.binary_search_by_key(&way.channel, |way| way.channel) {
            Ok(at) => self.ways[at] = way,
            Err(_) if self.ways.len() >= limit => return false,
            Err(at) => self.ways.insert(at, way),
        }
        true
    }

    /// Takes the way out that leads by this port to this peer.
    pub(crate) fn take(&mut self, channel: u16, port: PortId, peer: SocketAddr) -> bool {
        let found = self.ways.binary_search_by_key(&channel, |way| way.channel);
        let found =
            found.ok().filter(|at| self.ways[*at].port == port && self.ways[*at].peer == peer);
        found.map(|at| self.ways.remove(at)).is_some()
    }

    /// All of them, which are no longer its.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Way> {
        self.ways.drain(..)
    }
}

/// From a peer to a client's channel.
#[derive(Clone)]
pub(crate) struct Back {
    pub(crate) peer: SocketAddr,
    pub(crate) owner: Key,
    pub(crate) channel: u16,
    pub(crate) expires: Duration,
    pub(crate) traffic: Arc<PathCounters>,
}

struct Port {
    id: PortId,
    local: SocketAddr,
    /// In the order of the peers.
    backs: Vec<Back>,
}

/// What an outbound datagram is counted as.
enum Tally {
    /// A client's data on a channel, with its bytes.
    Channel(Arc<PathCounters>, u64),
    /// Sent for the control thread.
    Control(Direction),
    /// A DTLS record.
    Record(u64),
}

/// Sockets, ports and batches.
pub(crate) struct Relay {
    pub(crate) link: SocketLink,
    outbound: Batch,
    tallies: Vec<Tally>,
    ports: Vec<Option<Port>>,
    open: u64,
    pub(crate) counters: Arc<Counters>,
    /// Bytes of DTLS records that were sent.
    pub(crate) record_bytes: u64,
}

impl Relay {
    pub(crate) fn new(link: SocketLink, outbound: Batch, counters: Arc<Counters>) -> Self {
        let tallies = Vec::with_capacity(BATCH_MAX);
        Self { link, outbound, tallies, ports: Vec::new(), open: 0, counters, record_bytes: 0 }
    }

    /// Takes a port in; gives back what was in its slot.
    pub(crate) fn open(&mut self, id: PortId, local: SocketAddr, port: Bound) -> Option<Bound> {
        self.enter(id, local);
        self.link.open(id.slot(), port)
    }

    /// Takes a port in that another thread receives from until [`hear`](Self::hear).
    pub(crate) fn take_over(
        &mut self,
        id: PortId,
        local: SocketAddr,
        port: Bound,
    ) -> Option<Bound> {
        self.enter(id, local);
        self.link.take_over(id.slot(), port)
    }

    /// Receives from now on, if the port was not closed meanwhile.
    pub(crate) fn hear(&mut self, id: PortId, overflowed: u32) {
        if self.port(id).is_some() {
            self.link.hear(id.slot(), overflowed);
        }
    }

    fn enter(&mut self, id: PortId, local: SocketAddr) {
        let slot = id.slot() as usize;
        if self.ports.len() <= slot {
            self.ports.resize_with(slot + 1, || None);
        }
        let old = self.ports[slot].replace(Port { id, local, backs: Vec::new() });
        self.open += u64::from(old.is_none());
        self.counters.ports.set(self.open);
    }

    /// Gives a port back with the ways that led to it; nothing where the slot has another owner.
    pub(crate) fn close(&mut self, id: PortId) -> Option<(Option<Bound>, Vec<Back>)> {
        let place = self.ports.get_mut(id.slot() as usize)?;
        let port = place.take_if(|port| port.id == id)?;
        self.flush();
        self.open -= 1;
        self.counters.ports.set(self.open);
        Some((self.link.close(id.slot()), port.backs))
    }

    fn port(&mut self, id: PortId) -> Option<&mut Port> {
        self.ports.get_mut(id.slot() as usize)?.as_mut().filter(|port| port.id == id)
    }

    /// The open port in `slot`, and its relayed address.
    pub(crate) fn owner(&self, slot: u32) -> Option<(PortId, SocketAddr)> {
        self.ports.get(slot as usize)?.as_ref().map(|port| (port.id, port.local))
    }

    /// Publishes the way back. False where the port is not open.
    pub(crate) fn put_back(&mut self, id: PortId, back: Back) -> bool {
        let Some(port) = self.port(id) else { return false };
        match port.backs.binary_search_by_key(&back.peer, |back| back.peer) {
            Ok(at) => port.backs[at] = back,
            Err(at) => port.backs.insert(at, back),
        }
        true
    }

    /// Withdraws the way back, if it leads to this channel of this client.
    pub(crate) fn take_back(&mut self, id: PortId, peer: SocketAddr, owner: Key, channel: u16) {
        let Some(port) = self.port(id) else { return };
        if let Ok(at) = port.backs.binary_search_by_key(&peer, |back| back.peer)
            && (port.backs[at].owner, port.backs[at].channel) == (owner, channel)
        {
            port.backs.remove(at);
        }
    }

    /// The way back from a peer, expired or not.
    pub(crate) fn find_back(&self, slot: u32, peer: SocketAddr) -> Option<&Back> {
        let port = self.ports.get(slot as usize)?.as_ref()?;
        let at = port.backs.binary_search_by_key(&peer, |back| back.peer).ok()?;
        Some(&port.backs[at])
    }

    /// Sends a client's data to its peer.
    pub(crate) fn send_data(&mut self, way: &Way, data: &[u8]) {
        let by = SocketId::port(way.port.slot());
        if self.owner(way.port.slot()).is_none_or(|(id, _)| id != way.port) {
            return self.counters.refuse(Direction::ToPeer, Reason::PortClosed);
        }
        let departure =
            Departure { by, to: way.peer, from: None, marks: None, dont_fragment: false };
        let tally = Tally::Channel(Arc::clone(&way.traffic), data.len() as u64);
        if !self.push(data, departure, tally) {
            self.counters.refuse(Direction::ToPeer, Reason::TooBig);
        }
    }

    /// Sends what the control thread wants sent to a peer.
    pub(crate) fn letter(
        &mut self,
        slot: u32,
        generation: u32,
        departure: Departure,
        bytes: &[u8],
    ) {
        let owner = self.owner(slot).filter(|(id, _)| id.generation() == generation);
        let refused = match owner {
            None => Some(Reason::PortClosed),
            Some(_) if !self.push(bytes, departure, Tally::Control(Direction::ToPeer)) => {
                Some(Reason::TooBig)
            }
            Some(_) => None,
        };
        if let Some(reason) = refused {
            self.counters.refused_control[reason as usize].add(1);
        }
    }

    /// Sends a DTLS record from listener `listener`.
    pub(crate) fn record(
        &mut self,
        listener: usize,
        from: Option<IpAddr>,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        let by = SocketId::listener(listener);
        let departure = Departure { by, to, from, marks: None, dont_fragment: false };
        if !self.push(bytes, departure, Tally::Record(bytes.len() as u64)) {
            self.counters.refuse(Direction::ToClient, Reason::TooBig);
        }
    }

    fn push(&mut self, bytes: &[u8], departure: Departure, tally: Tally) -> bool {
        if self.outbound.is_full() {
            self.flush();
        }
        let index = self.outbound.len();
        let pushed = self.outbound.push(bytes, WRITTEN);
        if pushed {
            self.outbound.depart(index, departure);
            self.tallies.push(tally);
        }
        pushed
    }

    /// Sends everything that was put into the batch.
    pub(crate) fn flush(&mut self) {
        if self.outbound.is_empty() {
            return;
        }
        self.link.send(&mut self.outbound);
        for (index, tally) in self.tallies.drain(..).enumerate() {
            let refused = match self.outbound.outcome(index) {
                Outcome::Sent => None,
                Outcome::Refused(reason) => Some(reason),
                Outcome::Unsent => Some(Reason::SendFailed),
            };
            match (tally, refused) {
                (Tally::Channel(traffic, data), None) => {
                    traffic.count(Direction::ToPeer, data);
                    self.counters.forward(Direction::ToPeer, data);
                }
                (Tally::Channel(..), Some(reason)) => {
                    self.counters.refuse(Direction::ToPeer, reason);
                }
                (Tally::Control(direction), None) => {
                    self.counters.sent[direction as usize].add(1);
                }
                (Tally::Control(_), Some(reason)) => {
                    self.counters.refused_control[reason as usize].add(1);
                }
                (Tally::Record(size), None) => self.record_bytes += size,
                (Tally::Record(_), Some(_)) => {}
            }
        }
        self.outbound.clear();
    }
}

/// How a datagram that was made here is entered in a batch.
const WRITTEN: Arrival = Arrival {
    remote: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0),
    local: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0),
    ttl: 0,
    tos: 0,
    truncated: false,
};
