//! A route table with many channels, and datagrams of theirs in random order, so that the caches
//! help as much as they would a relay.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;

use turn::Seeded;
use wire::table::{Bucket, Entry, Geometry, HASH_WORDS, Memory, Table, Writer};
use wire::{
    Checksums, Datagram, Endpoint, Hop, Ingress, Key, LISTENER, Network, PortUse, Route, Tables,
    Tuple,
};

/// MAC address of the relay.
pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// MAC address of everybody else.
pub const NEXT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// One channel.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// The client.
    pub client: SocketAddr,
    /// Where it sends to.
    pub listener: SocketAddr,
    /// The channel's number.
    pub channel: u16,
    /// The relayed transport address.
    pub relay: SocketAddr,
    /// The peer.
    pub peer: SocketAddr,
}

impl Flow {
    /// The `number`th channel, of clients and peers of these families ("is IPv6").
    pub fn new(number: u32, client_v6: bool, peer_v6: bool) -> Self {
        let [_, a, b, c] = number.to_be_bytes();
        let at = |v6: bool, net: u8, port: u16| -> SocketAddr {
            match v6 {
                false => ([net, a, b, c], port).into(),
                true => {
                    let low = u16::from_be_bytes([b, c]);
                    ([0x2e00, net.into(), 0, 0, 0, 0, a.into(), low], port).into()
                }
            }
        };
        let ours = |v6: bool, port: u16| -> SocketAddr {
            if v6 {
                ([0x2e00, 1, 0, 0, 0, 0, 0, 1], port).into()
            } else {
                ([44, 0, 0, 1], port).into()
            }
        };
        Self {
            client: at(client_v6, 45, 40_000),
            listener: ours(client_v6, 3478),
            channel: 0x4000 + (number % 4096) as u16,
            relay: ours(peer_v6, 49_152 + (number % 16_384) as u16),
            peer: at(peer_v6, 46, 41_000),
        }
    }

    fn routes(&self) -> [(Key, Route); 2] {
        let [client, listener, relay, peer] =
            [self.client, self.listener, self.relay, self.peer].map(Endpoint::from);
        let tuple = |src, dst| Tuple { src, dst };
        let to_peer = Route::new(tuple(client, listener), tuple(relay, peer), 0, u64::MAX);
        let to_client =
            Route::new(tuple(peer, relay), tuple(listener, client), self.channel, u64::MAX);
        [(Key::new(client, listener, self.channel), to_peer), (Key::new(peer, relay, 0), to_client)]
    }

    /// A datagram of `data` bytes from the client, as the packet path sees it.
    pub fn from_client(&self, data: u16) -> Datagram {
        let ([a, b], [c, d]) = (self.channel.to_be_bytes(), data.to_be_bytes());
        Datagram {
            remote: self.client.ip().into(),
            local: self.listener.ip().into(),
            remote_port: self.client.port().into(),
            local_port: self.listener.port().into(),
            size: data + 4,
            head: [a, b, c, d],
            ttl: 64,
        }
    }
}

/// The tables of a relay with these channels.
pub struct Relay {
    geometry: Geometry,
    index: Vec<Bucket>,
    entries: Vec<Entry>,
    moves: AtomicU64,
}

impl Relay {
    /// A relay with `flows`, in tables for that many.
    pub fn new(flows: &[Flow]) -> Self {
        let entries = 2 * flows.len() as u32;
        // a table for few routes is full before it is full
        let buckets = Geometry::buckets_for(entries.max(64));
        let mut random = Seeded::new(7);
        let secret = std::array::from_fn::<_, HASH_WORDS, _>(|_| random.next_u64());
        let relay = Self {
            geometry: Geometry { secret, buckets: buckets.into() },
            index: (0..buckets).map(|_| Bucket::default()).collect(),
            entries: (0..entries).map(|_| Entry::default()).collect(),
            moves: AtomicU64::default(),
        };
        let memory = relay.memory();
        let mut writer = Writer::new(memory);
        for (key, route) in flows.iter().flat_map(Flow::routes) {
            writer.insert(memory, &key, &route).expect("a table takes what it was made for");
        }
        relay
    }

    fn memory(&self) -> Memory<'_> {
        let Self { geometry, index, entries, moves } = self;
        Memory { geometry, index, entries, moves }
    }
}

impl Table for Relay {
    #[inline(always)]
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    #[inline(always)]
    fn bucket(&self, number: u32) -> [u64; 2] {
        self.memory().bucket(number)
    }
    #[inline(always)]
    fn entry(&self, number: u32) -> Option<&Entry> {
        self.entries.get(number as usize)
    }
}

impl Tables for Relay {
    #[inline(always)]
    fn port(&self, number: u16) -> PortUse {
        PortUse(if number == 3478 { LISTENER } else { u64::from(number >= 49_152) << 1 })
    }
    #[inline(always)]
    fn now(&self) -> u64 {
        1
    }
}

impl Network for Relay {
    #[inline(always)]
    fn hop(&self, _index: u16) -> Option<Hop> {
        Some(Hop { dst: NEXT_MAC, src: MAC, ifindex: 1, mtu: 1500, vlan: 0.into() })
    }
}

impl Ingress for Relay {
    #[inline(always)]
    fn own(&self, mac: u64, _vlan: u16) -> Option<Checksums> {
        Checksums::of(Checksums::Made.word(wire::mac_word(MAC)), mac)
    }
}

/// A relay with `count` channels over IPv4, and a datagram of each in random order.
pub fn many(count: u32) -> (Relay, Vec<Datagram>) {
    let flows: Vec<Flow> = (0..count).map(|number| Flow::new(number, false, false)).collect();
    let mut datagrams: Vec<Datagram> = flows.iter().map(|flow| flow.from_client(160)).collect();
    let mut random = Seeded::new(11);
    for at in (1..datagrams.len()).rev() {
        datagrams.swap(at, random.below(at + 1));
    }
    (Relay::new(&flows), datagrams)
}
