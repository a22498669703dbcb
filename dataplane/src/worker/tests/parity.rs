//! The same 100,000 datagrams as frames and by sockets: what goes out is the same.
//!
//! As frames they are what AF_XDP brings: `wire`'s plan and rewrite over a frame of the packet
//! memory. The kernel program runs those same functions, and `tests/kernel` holds it to them byte
//! for byte, so three tiers are compared here. What differs by design is not looked at: link
//! addresses, identification and flow label, which the kernel chooses for a socket.

use super::*;
use crate::batch::SocketKind;
use crate::frames::datagram;
use crate::kernel::FrameTables;
use crate::link::xsk::{FrameSize, Umem};
use crate::worker::frames::{Way, way};
use std::ops::Range;
use turnwire_tests::random::Random;
use wire::PortUse;

const COUNT: u32 = 100_000;
const LISTENERS: [&str; 2] = ["198.51.100.1:3478", "[2001:db8:1::1]:3478"];

/// Client, listener, relayed address, peer: every mix of families.
const CALLS: [[&str; 4]; 4] = [
    ["192.0.2.1:5000", LISTENERS[0], "198.51.100.1:50000", "203.0.113.9:6000"],
    ["[2001:db8:9::1]:5001", LISTENERS[1], "[2001:db8:1::1]:50001", "[2001:db8:5::9]:6001"],
    ["192.0.2.2:5002", LISTENERS[0], "[2001:db8:1::1]:50002", "[2001:db8:5::9]:6002"],
    ["[2001:db8:9::1]:5003", LISTENERS[1], "198.51.100.1:50003", "203.0.113.9:6003"],
];

/// One datagram on its way to the relay.
struct Sent {
    by: SocketId,
    arrival: Arrival,
    payload: Vec<u8>,
    checksum: bool,
}

fn channel(call: usize) -> u16 {
    0x4000 + call as u16
}

fn sent(random: &mut Random) -> Sent {
    let at = random.below(CALLS.len());
    let [client, listener, relay, peer] = CALLS[at].map(address);
    let size = if random.one_in(4) { random.below(1468) } else { random.below(200) };
    let data: Vec<u8> = (0..size).map(|_| random.next_u64() as u8).collect();
    let up = random.one_in(2);
    let mut remote = if up { client } else { peer };
    if random.one_in(20) {
        remote.set_port(7);
    }
    let payload = if !up { data } else { from_client(random, at, data) };
    let (local, by) = if up {
        (listener, SocketId::listener(usize::from(listener.is_ipv6())))
    } else {
        (relay, SocketId::port(at as u32))
    };
    let ttl = if random.one_in(20) { random.below(3) as u8 } else { random.next_u64() as u8 };
    let arrival = Arrival { remote, local, ttl, tos: random.next_u64() as u8, truncated: false };
    Sent { by, arrival, payload, checksum: remote.is_ipv6() || !random.one_in(8) }
}

/// ChannelData, good or not, or something else.
fn from_client(random: &mut Random, call: usize, data: Vec<u8>) -> Vec<u8> {
    let mut number = channel(call);
    let mut size = data.len();
    match random.below(12) {
        0 => number = 0x4abc,
        1 => number = random.next_u64() as u16,
        2 => size += 1 + random.below(70_000),
        3 => size = size.saturating_sub(random.below(9)),
        4 => return [vec![random.below(4) as u8], data].concat(),
        5 => return data,
        _ => {}
    }
    let header = [number.to_be_bytes(), (size as u16).to_be_bytes()].concat();
    let padding: Vec<u8> = (0..random.below(4)).map(|_| random.next_u64() as u8).collect();
    [header, data, padding].concat()
}

/// RFC 1071, a word at a time: independent of what is tested.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |two: &[u8]| u32::from(two[0]) << 8 | two.get(1).map_or(0, |low| u32::from(*low));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

impl Sent {
    fn frame(&self) -> Vec<u8> {
        let Arrival { remote, local, ttl, tos, .. } = self.arrival;
        let size = (8 + self.payload.len()) as u16;
        let ports = [remote.port().to_be_bytes(), local.port().to_be_bytes()].concat();
        let mut udp = [&ports[..], &size.to_be_bytes(), &[0, 0], &self.payload].concat();
        let octets = |address: SocketAddr| match address.ip() {
            std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
            std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let ends = [octets(remote), octets(local)].concat();
        if self.checksum {
            let pseudo = [&ends[..], &[0, 17], &size.to_be_bytes(), &udp].concat();
            let sum = match checksum(&pseudo) {
                0 => 0xffff,
                sum => sum,
            };
            udp[6..8].copy_from_slice(&sum.to_be_bytes());
        }
        let macs = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9];
        if remote.is_ipv4() {
            let total = (20 + size).to_be_bytes();
            let mut ip =
                [&[0x45, tos][..], &total, &[0, 7, 0x40, 0, ttl, 17, 0, 0], &ends].concat();
            let sum = checksum(&ip).to_be_bytes();
            ip[10..12].copy_from_slice(&sum);
            return [&macs[..], &[8, 0], &ip, &udp].concat();
        }
        let class = [0x60 | tos >> 4, tos << 4, 0, 0];
        [&macs[..], &[0x86, 0xdd], &class, &size.to_be_bytes(), &[17, ttl], &ends, &udp].concat()
    }
}

/// A frame with a datagram whose UDP checksum is wrong.
pub(super) fn unsound(remote: &str, local: &str) -> Vec<u8> {
    let [remote, local] = [remote, local].map(address);
    let arrival = Arrival { remote, local, ttl: 64, tos: 0, truncated: false };
    let (by, payload) = (SocketId::RELAYED, b"payload".to_vec());
    let mut frame = Sent { by, arrival, payload, checksum: true }.frame();
    *frame.last_mut().expect("it is not empty") ^= 1;
    frame
}

/// What left, in whatever way.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    from: SocketAddr,
    to: SocketAddr,
    ttl: u8,
    tos: u8,
    payload: Vec<u8>,
}

/// A worker with all calls, stepped by hand.
fn worker() -> (Bench, Vec<Route>) {
    let mut bench = bench();
    let (mut control, mail) = mailbox(0, Arc::new(Bell::silent()), Arc::new(Bell::silent()));
    let listeners = LISTENERS.map(|local| Listener { local: address(local) }).to_vec();
    let mut routes = RouteWriter::new(64).unwrap();
    let shared =
        Shared { routes: Arc::clone(routes.table()), permits: Arc::clone(bench.permits.table()) };
    let (counters, batch) = (Arc::clone(&bench.counters), Batch::new(16, 2000));
    bench.worker = Worker::new(MemoryLink::default(), mail, listeners, shared, counters, batch);
    let mut all = Vec::new();
    for (at, ends) in CALLS.iter().enumerate() {
        let [client, listener, relay, peer] = ends.map(address);
        let port = PortId::new(0, at as u32, 1);
        let route =
            Route { client, listener, relay, peer, channel: channel(at), port, ..bench.route };
        routes.insert(&route).unwrap();
        control.command(Command::Open { id: port, local: relay, port: () });
        all.push(route);
    }
    bench.worker.round(NOW);
    bench.control = control;
    (bench, all)
}

fn by_socket(bench: &mut Bench, sent: &Sent) -> Option<Left> {
    bench.worker.link.arrive(sent.by, sent.arrival, &sent.payload);
    bench.worker.round(NOW);
    // what was handed to the control thread is not what is compared
    while bench.control.events.take(|_, _| ()).is_some() {}
    let (departure, payload) = bench.worker.link.sent.pop()?;
    assert!(bench.worker.link.sent.is_empty(), "one in, more than one out");
    let marks = departure.marks.expect("what is forwarded keeps its marks");
    let from = match departure.by.kind() {
        SocketKind::Listener(at) => LISTENERS[at],
        SocketKind::Port(slot) => CALLS[slot as usize][2],
        other => panic!("sent by {other:?}"),
    };
    let (from, to) = (address(from), departure.to);
    Some(Left { from, to, ttl: marks.ttl, tos: marks.tos, payload })
}

/// What left as a frame, or the datagram that it became.
enum AsFrame {
    Left(Left),
    Datagram(Arrival, Vec<u8>),
}

fn by_frame(umem: &mut Umem, tables: &FrameTables, bytes: &[u8]) -> AsFrame {
    let mut frame = umem.take().expect("every frame was given back");
    frame.set_size(bytes.len()).expect("it fits");
    umem.bytes_mut(&mut frame).copy_from_slice(bytes);
    let view = tables.view(NOW);
    let way = way(&mut umem.view(&mut frame), &view, |_| Some(0));
    let read = |range: Range<usize>| umem.bytes(&frame)[range].to_vec();
    let after = datagram(umem.bytes(&frame)).map(|(arrival, payload)| (arrival, read(payload)));
    umem.give(frame);
    let (arrival, payload) = after.expect("its checksums are right, before and after");
    match way {
        Way::Out(0, _) => {
            let Arrival { remote: from, local: to, ttl, tos, .. } = arrival;
            AsFrame::Left(Left { from, to, ttl, tos, payload })
        }
        Way::Datagram => AsFrame::Datagram(arrival, payload),
        Way::Out(..) | Way::Refuse(..) => panic!("no lane of that number, and nothing malformed"),
    }
}

#[test]
fn a_hundred_thousand_datagrams_leave_alike_as_frames_and_by_sockets() {
    let (mut bench, routes) = worker();
    let ports = CALLS.iter().map(|ends| (address(ends[2]).port(), PortUse::relay(0)));
    let ports: Vec<(u16, u64)> = ports.chain([(3478, wire::LISTENER)]).collect();
    let tables = FrameTables::for_tests(&routes, &ports);
    let mut umem = Umem::new(4, FrameSize::Bytes2048).unwrap();
    let mut random = Random::replayable(20_261_121);
    let (mut as_frames, mut as_datagrams, mut refused) = (0, 0, 0);
    for number in 0..COUNT {
        let sent = sent(&mut random);
        let left = by_socket(&mut bench, &sent);
        match by_frame(&mut umem, &tables, &sent.frame()) {
            AsFrame::Left(frame) => {
                as_frames += 1;
                assert_eq!(Some(frame), left, "datagram {number}: as a frame, by a socket");
            }
            AsFrame::Datagram(arrival, payload) => {
                // from here on it is the same code: it must be given the same
                let came = (arrival.remote, arrival.local, arrival.ttl, arrival.tos);
                let Arrival { remote, local, ttl, tos, .. } = sent.arrival;
                assert_eq!(came, (remote, local, ttl, tos), "datagram {number}");
                assert_eq!(payload, sent.payload, "datagram {number}");
                as_datagrams += u32::from(left.is_some());
                refused += u32::from(left.is_none());
            }
        }
    }
    println!("{as_frames} as frames, {as_datagrams} as datagrams, {refused} not forwarded");
    // The generator must reach what it is meant to reach.
    assert!(as_frames > 50_000 && as_datagrams > 100 && refused > 10_000);
    assert_eq!(umem.free(), 4);
}
