//! A relay's tables, described once and loaded into the kernel program and into the host's twin.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use turnwire_tests::frame::Mac;
use wire::{Checksums, Counters, Endpoint, Hop, Key, PortUse, Reason, Route, Tuple};

/// The interface that a test run's frames come in by: loopback.
pub(crate) const INGRESS: u32 = 1;
/// Frames behind this time are expired, in any unit.
pub(crate) const NOW: u64 = 1 << 20;

/// What a relay did with one frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The interface that it left by.
    pub(crate) forwarded: Option<u32>,
    /// The frame afterwards.
    pub(crate) frame: Vec<u8>,
    /// What went up in [`wire::Counters`], and by how much.
    pub(crate) counted: [u64; Counters::WORDS],
}

impl Outcome {
    /// The only reason counted, when nothing was forwarded.
    pub(crate) fn reason(&self) -> Option<Reason> {
        let first = Counters::WORDS - Reason::COUNT;
        let counted = |at: &usize| self.counted[*at] != 0;
        let mut all = (0..Counters::WORDS).filter(counted);
        let (reason, others) = (all.next()?, all.count());
        (others == 0 && reason >= first && self.counted[reason] == 1)
            .then(|| Reason::ALL[reason - first])
    }
}

/// The kernel program, or the same functions on the host.
pub(crate) trait Relay {
    /// Gives it one frame.
    fn run(&mut self, frame: &[u8]) -> Outcome;
    /// Datagrams and bytes that the route of `key` has counted.
    fn route_counts(&self, key: &Key) -> Option<(u64, u64)>;
}

/// One channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) client: SocketAddr,
    pub(crate) listener: SocketAddr,
    pub(crate) number: u16,
    pub(crate) relay: SocketAddr,
    pub(crate) peer: SocketAddr,
    /// The peer is a relayed address of our own.
    pub(crate) inner: bool,
    pub(crate) expires: u64,
    /// Next hops toward the client and toward the peer.
    pub(crate) hops: [u16; 2],
}

impl Call {
    pub(crate) fn keys(&self) -> [Key; 2] {
        let [client, listener, relay, peer] =
            [self.client, self.listener, self.relay, self.peer].map(Endpoint::from);
        [Key::new(client, listener, self.number), Key::new(peer, relay, 0)]
    }
}

/// A relay with channels.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) mac: Mac,
    /// Where our interface leaves checksums.
    pub(crate) checksums: Checksums,
    pub(crate) listeners: Vec<u16>,
    /// Ports with an allocation.
    pub(crate) relay_ports: Vec<u16>,
    pub(crate) vlans: Vec<u16>,
    pub(crate) hops: Vec<Option<Hop>>,
    pub(crate) calls: Vec<Call>,
}

impl World {
    /// An interface other than [`INGRESS`].
    pub(crate) const OTHER_INTERFACE: u32 = 2;

    /// What the program's tables say of our interface and its VLANs.
    pub(crate) fn link_word(&self) -> u64 {
        self.checksums.word(wire::mac_word(self.mac))
    }

    pub(crate) fn ports(&self) -> BTreeMap<u16, u64> {
        let relays = self.relay_ports.iter().map(|port| (*port, PortUse::relay(0)));
        relays.chain(self.listeners.iter().map(|port| (*port, wire::LISTENER))).collect()
    }

    pub(crate) fn routes(&self) -> Vec<(Key, Route)> {
        self.calls.iter().flat_map(both_ways).collect()
    }
}

fn both_ways(call: &Call) -> [(Key, Route); 2] {
    let tuple = |src: SocketAddr, dst: SocketAddr| Tuple { src: src.into(), dst: dst.into() };
    let Call { client, listener, relay, peer, expires, .. } = *call;
    let mut to_peer = Route::new(tuple(client, listener), tuple(relay, peer), 0, expires);
    let mut to_client =
        Route::new(tuple(peer, relay), tuple(listener, client), call.number, expires);
    [to_client.hop, to_peer.hop] = call.hops;
    if call.inner {
        to_peer.flags |= Route::INNER;
    }
    let [from_client, from_peer] = call.keys();
    [(from_client, to_peer), (from_peer, to_client)]
}
