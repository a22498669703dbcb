//! Frames through `wire::plan` and `wire::rewrite`: passed untouched, or forwarded as worked out by
//! code that shares nothing with them.
//!
//! ```text
//!   | even 1 | a frame ... |
//!   | odd 1  | call 1 | flags 1 | TTL 1 | class 1 | VLAN 2 | patches 1 | offset, byte, ... | data |
//! ```
//!
//! Each frame is tried as it is, and with its IPv4 header checksum put right.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::OnceLock;

use turnwire_tests::buffer::Buffer;
use turnwire_tests::frame::{Datagram, Mac, Packet};
use wire::table::{Bucket, Entry, Geometry, HASH_WORDS, Memory, Table, Writer};
use wire::{
    Checksums, Endpoint, Hop, Ingress, Key, Network, PortUse, Reason, Route, Tables, Tuple,
};

use crate::input::Input;

mod expect;

const OUR_MAC: Mac = [2, 0, 0, 0, 0, 1];
const THEIR_MAC: Mac = [2, 0, 0, 0, 0, 9];
const OUR_VLAN: u16 = 5;
const NOW: u64 = 1 << 20;
/// Room in front of a frame, as a driver leaves it.
const HEADROOM: usize = 256;

/// One channel; `hop` leads both ways.
#[derive(Clone, Copy)]
struct Call {
    client: SocketAddr,
    listener: SocketAddr,
    number: u16,
    relay: SocketAddr,
    peer: SocketAddr,
    inner: bool,
    expires: u64,
    hop: u16,
}

fn calls() -> Vec<Call> {
    let at = crate::lab::address;
    let new = |client: &str, number, relay: &str, peer: &str| Call {
        client: at(client),
        listener: at(if at(client).is_ipv4() { "44.1.0.1:3478" } else { "[2e00::1]:3478" }),
        number,
        relay: at(relay),
        peer: at(peer),
        inner: relay.ends_with('9'),
        expires: u64::MAX,
        hop: 0,
    };
    let (client4, client6) = ("44.1.0.10:40000", "[2e00::10]:40000");
    let (peer4, peer6) = ("44.9.0.20:41000", "[2e09::20]:41000");
    vec![
        new(client4, 0x4000, "44.1.0.2:50000", peer4),
        new(client6, 0x4001, "[2e00::2]:50001", peer6),
        new(client4, 0x4fff, "[2e00::2]:50002", peer6),
        new(client6, 0x4003, "44.1.0.2:50003", peer4),
        Call { hop: 1, ..new(client4, 0x4005, "44.1.0.2:50005", peer4) },
        Call { hop: 1, ..new(client6, 0x4006, "[2e00::2]:50006", peer6) },
        Call { hop: 2, ..new(client4, 0x4007, "44.1.0.2:50007", peer4) },
        Call { hop: 3, ..new(client4, 0x4008, "[2e00::2]:50008", peer6) },
        Call { expires: 1, ..new(client4, 0x400a, "44.1.0.2:50010", peer4) },
        // two clients of this relay, each the other's peer
        new(client4, 0x4011, "44.1.0.2:50019", "44.1.0.2:50029"),
        new(client6, 0x4012, "44.1.0.2:50029", "44.1.0.2:50019"),
    ]
}

/// A relay with these channels, for every input the same.
struct Twin {
    calls: Vec<Call>,
    hops: Vec<Option<Hop>>,
    ports: BTreeMap<u16, u64>,
    memory: Memory<'static>,
}

impl Twin {
    fn new() -> Self {
        let geometry =
            Geometry { secret: [77; HASH_WORDS], buckets: Geometry::buckets_for(64).into() };
        let index: Vec<Bucket> = (0..geometry.buckets).map(|_| Bucket::default()).collect();
        let entries: Vec<Entry> = (0..64).map(|_| Entry::default()).collect();
        let memory = Memory {
            geometry: Box::leak(Box::new(geometry)),
            index: index.leak(),
            entries: entries.leak(),
            moves: Box::leak(Box::default()),
        };
        let (mut writer, calls) = (Writer::new(memory), calls());
        let mut ports = BTreeMap::from([(3478, wire::LISTENER), (50_099, PortUse::relay(0))]);
        for call in &calls {
            ports.insert(call.relay.port(), PortUse::relay(0));
            for (key, route) in call.routes() {
                writer.insert(memory, &key, &route).expect("a table with room");
            }
        }
        let usual = Hop { dst: THEIR_MAC, src: OUR_MAC, ifindex: 1, mtu: 1500, vlan: 0.into() };
        let tagged = Hop { vlan: 7.into(), ifindex: 2, ..usual };
        let hops = vec![Some(usual), Some(tagged), None, Some(Hop { mtu: 200, ..usual })];
        Self { calls, hops, ports, memory }
    }

    fn forward(&self, buffer: &mut Buffer) -> Result<Hop, Reason> {
        let plan = wire::plan(buffer, self, self)?;
        wire::rewrite(buffer, &plan)?;
        Ok(plan.hop)
    }
}

impl Call {
    fn routes(&self) -> [(Key, Route); 2] {
        let [client, listener, relay, peer] =
            [self.client, self.listener, self.relay, self.peer].map(Endpoint::from);
        let tuple = |src, dst| Tuple { src, dst };
        let mut out = Route::new(tuple(client, listener), tuple(relay, peer), 0, self.expires);
        let mut back =
            Route::new(tuple(peer, relay), tuple(listener, client), self.number, self.expires);
        (out.hop, back.hop) = (self.hop, self.hop);
        out.flags |= if self.inner { Route::INNER } else { 0 };
        [(Key::new(client, listener, self.number), out), (Key::new(peer, relay, 0), back)]
    }
}

impl Table for Twin {
    fn geometry(&self) -> Geometry {
        self.memory.geometry()
    }
    fn bucket(&self, number: u32) -> [u64; 2] {
        self.memory.bucket(number)
    }
    fn entry(&self, number: u32) -> Option<&Entry> {
        self.memory.entries.get(number as usize)
    }
}

impl Tables for Twin {
    fn port(&self, number: u16) -> PortUse {
        PortUse(self.ports.get(&number).copied().unwrap_or(0))
    }
    fn now(&self) -> u64 {
        NOW
    }
}

impl Network for Twin {
    fn hop(&self, index: u16) -> Option<Hop> {
        *self.hops.get(usize::from(index))?
    }
}

impl Ingress for Twin {
    fn own(&self, mac: u64, vlan: u16) -> Option<Checksums> {
        let ours = mac == wire::mac_word(OUR_MAC) && (vlan == 0 || vlan == OUR_VLAN);
        ours.then_some(Checksums::MayBeLeft)
    }
}

pub(crate) fn run(bytes: &[u8]) {
    static TWIN: OnceLock<Twin> = OnceLock::new();
    let twin = TWIN.get_or_init(Twin::new);
    let mut input = Input::new(bytes);
    let made = input.byte() % 2 == 1;
    let frame = if made { built(twin, &mut input) } else { input.rest().to_vec() };
    check(twin, &frame);
    check(twin, &mended(&frame));
}

fn check(twin: &Twin, frame: &[u8]) {
    let mut buffer = Buffer::new(frame, HEADROOM);
    match twin.forward(&mut buffer) {
        Ok(hop) => {
            let out = buffer.frame();
            expect::check(twin, frame, &hop, out)
                .unwrap_or_else(|wrong| panic!("{wrong}\nin  {frame:02x?}\nout {out:02x?}"));
        }
        Err(Reason::Torn) => panic!("a good plan cannot tear: {frame:02x?}"),
        Err(_) => {
            assert_eq!((buffer.headroom(), buffer.frame()), (HEADROOM, frame), "changed");
        }
    }
}

/// A datagram of one of the calls, some of its bytes patched.
fn built(twin: &Twin, input: &mut Input<'_>) -> Vec<u8> {
    let call = twin.calls[input.below(twin.calls.len())];
    let flags = input.byte();
    let from_client = flags & 1 != 0;
    let (source, destination) =
        if from_client { (call.client, call.listener) } else { (call.peer, call.relay) };
    let mut sent = Datagram::new((THEIR_MAC, OUR_MAC), source, destination);
    sent.ttl = input.byte();
    sent.traffic_class = input.byte();
    let vlan = input.u16() & 0xfff;
    sent.vlans = match flags >> 1 & 3 {
        0 | 1 => vec![],
        2 => vec![OUR_VLAN],
        _ => vec![vlan],
    };
    sent.dont_fragment = flags & 8 != 0;
    sent.checksum = flags & 16 == 0;
    sent.options = if flags & 0xe0 == 0xe0 { vec![0; 8] } else { vec![] };
    let patches: Vec<(u8, u8)> =
        (0..input.below(5)).map(|_| (input.byte(), input.byte())).collect();
    let (trailing, padding) = (input.below(24), input.below(5));
    let data = input.rest();
    if from_client {
        sent.payload.extend(call.number.to_be_bytes());
        sent.payload.extend((data.len() as u16).to_be_bytes());
    }
    sent.payload.extend(data);
    if from_client {
        sent.payload.extend(&[0xa1, 0xb2, 0xc3, 0xd4][..padding]);
    }
    let mut frame = sent.frame();
    for (offset, byte) in patches {
        if let Some(place) = frame.get_mut(usize::from(offset)) {
            *place ^= byte;
        }
    }
    frame.extend(vec![0xdd; if flags & 0x60 == 0x60 { trailing } else { 0 }]);
    frame
}

/// With the IPv4 header checksum put right, where there is a header to put right.
fn mended(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let at = if frame.get(12..14) == Some(&[0x81, 0]) { 18 } else { 14 };
    if let Some(header) = frame.get_mut(at..at + 20).filter(|header| header[0] == 0x45) {
        header[10..12].fill(0);
        let sum: u32 =
            header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = !((folded & 0xffff) + (folded >> 16)) as u16;
        header[10..12].copy_from_slice(&folded.to_be_bytes());
    }
    frame
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for call in 0..calls().len() as u8 {
        for flags in [0, 1] {
            seeds.push([&[1, call, flags, 64, 0, 0, 0, 0, 0, 0][..], b"some data"].concat());
        }
    }
    let call = calls()[0];
    let datagram = Datagram::new((THEIR_MAC, OUR_MAC), call.peer, call.relay).carrying(&[7; 48]);
    seeds.push([&[0], &datagram.frame()[..]].concat());
    seeds.extend(datagram.fragments(24).map(|frame| [&[0], &frame[..]].concat()));
    let parsed = Packet::parse(&datagram.frame()).expect("a datagram");
    debug_assert!(parsed.faults.is_empty());
    seeds
}
