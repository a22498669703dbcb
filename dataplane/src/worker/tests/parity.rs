//! The same 100,000 datagrams as frames and by sockets: what goes out is the same.
//!
//! As frames they are what AF_XDP brings: `wire`'s plan and rewrite over a frame of the packet
//! memory. The kernel program runs those same functions, and `tests/kernel` holds it to them byte
//! for byte, so three tiers are compared here; of Send and Data indications, which the program leaves
//! to workers, two. What differs by design is not looked at: link addresses, identification and flow
//! label, which the kernel chooses for a socket, and the transaction ids of indications.

use super::*;
use crate::batch::SocketKind;
use crate::frames::datagram;
use crate::kernel::FrameTables;
use crate::link::xsk::{FrameSize, Umem};
use crate::route::{Permission, PermissionHops, Relayed};
use crate::worker::frames::indication::Known;
use crate::worker::frames::{Leaving, Stays, leaving};
use crate::worker::indication::{DataHeader, Ids};
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
pub(super) struct Sent {
    pub(super) by: SocketId,
    pub(super) arrival: Arrival,
    pub(super) payload: Vec<u8>,
    pub(super) checksum: bool,
    /// With DF set, over IPv4.
    pub(super) whole: bool,
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
    if random.one_in(if up { 20 } else { 4 }) {
        remote.set_port(7);
    }
    let payload = match (up, random.below(3)) {
        (false, _) => data,
        (true, 0) => send(random, peer, &data),
        (true, _) => from_client(random, at, data),
    };
    let (local, by) = if up {
        (listener, SocketId::listener(usize::from(listener.is_ipv6())))
    } else {
        (relay, SocketId::port(at as u32))
    };
    let ttl = if random.one_in(20) { random.below(3) as u8 } else { random.next_u64() as u8 };
    let arrival = Arrival { remote, local, ttl, tos: random.next_u64() as u8, truncated: false };
    let (checksum, whole) = (remote.is_ipv6() || !random.one_in(8), random.one_in(2));
    Sent { by, arrival, payload, checksum, whole }
}

/// A Send indication to a port of `peer`, or of somebody else; plain, or not.
fn send(random: &mut Random, peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut peer = peer;
    peer.set_port(random.next_u64() as u16);
    if random.one_in(10) {
        peer.set_ip("192.0.2.77".parse().unwrap());
    }
    let id = std::array::from_fn(|_| random.next_u64() as u8);
    // a Data indication is the same but for its type
    let header = DataHeader::new(peer, data.len(), &id).expect("it fits a datagram");
    let (head, attributes) = header.bytes().split_at(20);
    let (address, name) = attributes.split_at(attributes.len() - 4);
    let padding: Vec<u8> = (0..header.padding).map(|_| random.next_u64() as u8).collect();
    let data = [name, data, &padding].concat();
    let mut attributes = vec![address.to_vec(), data];
    if random.one_in(3) {
        attributes.push(vec![0, 0x1a, 0, 0]);
    }
    match random.below(20) {
        0 => attributes.push(vec![0x80, 0x22, 0, 1, b'x', 0, 0, 0]),
        1 => drop(attributes.pop()),
        _ => {}
    }
    let turn = random.below(3) % attributes.len();
    attributes.rotate_left(turn);
    let attributes = attributes.concat();
    let mut size = attributes.len() as u16;
    size += u16::from(random.one_in(50)) * 4;
    [&[0, 0x16], &size.to_be_bytes()[..], &head[4..], &attributes].concat()
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
    pub(super) fn frame(&self) -> Vec<u8> {
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
            let flags = u8::from(self.whole) << 6;
            let mut ip =
                [&[0x45, tos][..], &total, &[0, 7, flags, 0, ttl, 17, 0, 0], &ends].concat();
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
    let mut frame = Sent { by, arrival, payload, checksum: true, whole: true }.frame();
    *frame.last_mut().expect("it is not empty") ^= 1;
    frame
}

/// What left, in whatever way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    from: SocketAddr,
    to: SocketAddr,
    ttl: u8,
    tos: u8,
    payload: Vec<u8>,
}

impl Sent {
    /// What IPv4's DF is to be in what leaves of it with `size` bytes of IP.
    fn stays_whole(&self, size: usize) -> bool {
        let wanted = self.payload.starts_with(&[0, 0x16]) && asks_for_one_piece(&self.payload);
        // RFC 8656 section 14; RFC 7915 section 5.1
        wanted || if self.arrival.remote.is_ipv4() { self.whole } else { size > 1260 }
    }
}

/// Whether DONT-FRAGMENT is among the attributes.
fn asks_for_one_piece(send: &[u8]) -> bool {
    let mut at = 20;
    while let Some(&[a, b, c, d]) = send.get(at..at + 4).and_then(|head| head.first_chunk()) {
        if [a, b] == [0, 0x1a] {
            return true;
        }
        at += 4 + usize::from(u16::from_be_bytes([c, d])).next_multiple_of(4);
    }
    false
}

/// What left as a frame, read by the book: each length and checksum must be right.
pub(super) fn read(frame: &[u8], sent: &Sent) -> Left {
    let (ip, v4) = (&frame[14..], frame[12..14] == [8, 0]);
    assert_eq!(frame[..12], [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1], "the hop's");
    let (from, to, udp) = if v4 {
        assert_eq!((ip[0], checksum(&ip[..20])), (0x45, 0), "{ip:?}");
        assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), ip.len());
        assert_eq!(ip[6..8], [u8::from(sent.stays_whole(ip.len())) << 6, 0], "{ip:?}");
        let octets = |at: usize| std::net::IpAddr::from(*ip[at..].first_chunk::<4>().unwrap());
        (octets(12), octets(16), &ip[20..])
    } else {
        assert_eq!(frame[12..14], [0x86, 0xdd]);
        assert_eq!(usize::from(u16::from_be_bytes([ip[4], ip[5]])), ip.len() - 40);
        let octets = |at: usize| std::net::IpAddr::from(*ip[at..].first_chunk::<16>().unwrap());
        (octets(8), octets(24), &ip[40..])
    };
    assert_eq!(usize::from(u16::from_be_bytes([udp[4], udp[5]])), udp.len());
    let ends = if v4 { &ip[12..20] } else { &ip[8..40] };
    let pseudo = [ends, &[0, 17], &udp[4..6], udp].concat();
    let none = udp[6..8] == [0, 0];
    assert!(if none { v4 && !sent.checksum } else { checksum(&pseudo) == 0 }, "{udp:?}");
    let port = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
    let (ttl, tos) = if v4 { (ip[8], ip[1]) } else { (ip[7], ip[0] << 4 | ip[1] >> 4) };
    let payload = udp[8..].to_vec();
    if payload.starts_with(&[0, 0x17]) {
        assert!(!none, "what is wrapped has a checksum");
    }
    Left { from: (from, port(0)).into(), to: (to, port(2)).into(), ttl, tos, payload }
}

/// A Data indication without its transaction id.
fn plain(mut payload: Vec<u8>) -> Vec<u8> {
    if payload.starts_with(&[0, 0x17]) {
        let id: [u8; 12] = *payload[8..].first_chunk().expect("a header");
        let masked = if payload[25] == 2 { 32..44 } else { 0..0 };
        payload[masked].iter_mut().zip(id).for_each(|(byte, mask)| *byte ^= mask);
        payload[8..20].fill(0);
    }
    payload
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
        bench.permits.insert_relayed(&Relayed { client, listener, relay, port }).unwrap();
        let (peer, expires) = (peer.ip(), NOW + Duration::from_secs(300));
        let permission = Permission { client, listener, relay, peer, expires };
        bench.permits.insert_permission(&permission).unwrap();
        bench.permits.lead_permission(peer, relay, hops(at));
        all.push(route);
    }
    bench.worker.round(NOW);
    bench.control = control;
    (bench, all)
}

/// The last call's client is at a hop that is not known.
fn hops(call: usize) -> PermissionHops {
    PermissionHops { to_peer: 1, to_client: u16::from(call + 1 < CALLS.len()) }
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
    Some(Left { from, to, ttl: marks.ttl, tos: marks.tos, payload: plain(payload) })
}

/// What left as a frame, or the datagram that it became, or neither.
enum AsFrame {
    Left(Left, bool),
    Datagram(Arrival, Vec<u8>, Option<Reason>),
    Refused(Reason),
}

fn by_frame(umem: &mut Umem, tables: &FrameTables, bench: &Bench, sent: &Sent) -> AsFrame {
    let bytes = sent.frame();
    let mut frame = umem.take().expect("every frame was given back");
    frame.set_size(bytes.len()).expect("it fits");
    umem.bytes_mut(&mut frame).copy_from_slice(&bytes);
    let Shared { routes, permits } = &bench.worker.shared;
    let (view, permits) = (View::new(routes, NOW), Permits::new(permits, NOW));
    let (kernel, egress) = (&tables.view(NOW), &bench.worker.egress);
    let known = Known { kernel, tables: &Tables { view, permits }, egress };
    let out = |interface| (interface == 2).then_some(0);
    let became = match leaving(&mut umem.view(&mut frame), &known, &mut Ids::new(), out) {
        Ok((_, leaving)) => {
            let mut left = read(umem.bytes(&frame), sent);
            left.payload = plain(left.payload);
            AsFrame::Left(left, matches!(leaving, Leaving::Indication(_)))
        }
        Err(Stays::Datagram(why)) => {
            let bytes = umem.bytes(&frame);
            let (arrival, payload) = datagram(bytes).expect("its checksum is right");
            AsFrame::Datagram(arrival, bytes[payload].to_vec(), why)
        }
        Err(Stays::Refused(_, reason)) => AsFrame::Refused(reason),
    };
    umem.give(frame);
    became
}

#[test]
fn a_hundred_thousand_datagrams_leave_alike_as_frames_and_by_sockets() {
    let (mut bench, routes) = worker();
    let ports = CALLS.iter().map(|ends| (address(ends[2]).port(), PortUse::relay(0)));
    let ports: Vec<(u16, u64)> = ports.chain([(3478, wire::LISTENER)]).collect();
    let tables = FrameTables::for_tests(&routes, &ports);
    let mut umem = Umem::new(4, FrameSize::Bytes2048).unwrap();
    let mut random = Random::replayable(20_261_121);
    let (mut as_frames, mut as_datagrams, mut refused) = ([0; 2], 0, 0);
    let mut by_socket_for = std::collections::BTreeMap::<Reason, u32>::new();
    for number in 0..COUNT {
        let sent = sent(&mut random);
        let left = by_socket(&mut bench, &sent);
        match by_frame(&mut umem, &tables, &bench, &sent) {
            AsFrame::Left(frame, indication) => {
                as_frames[usize::from(indication)] += 1;
                assert_eq!(Some(frame), left, "datagram {number}: as a frame, by a socket");
            }
            AsFrame::Datagram(arrival, payload, why) => {
                // from here on it is the same code: it must be given the same
                let came = (arrival.remote, arrival.local, arrival.ttl, arrival.tos);
                let Arrival { remote, local, ttl, tos, .. } = sent.arrival;
                assert_eq!(came, (remote, local, ttl, tos), "datagram {number}");
                assert_eq!(payload, sent.payload, "datagram {number}");
                as_datagrams += u32::from(left.is_some());
                refused += u32::from(left.is_none());
                why.into_iter().for_each(|why| *by_socket_for.entry(why).or_default() += 1);
                assert_eq!(why.is_some(), left.is_some(), "datagram {number}: {why:?}");
            }
            AsFrame::Refused(reason) => {
                refused += 1;
                assert_eq!((reason, left), (Reason::LastHop, None), "datagram {number}");
            }
        }
    }
    println!("{as_frames:?} as frames, {as_datagrams} as datagrams, {refused} not forwarded");
    println!("by sockets: {by_socket_for:?}");
    // The generator must reach what it is meant to reach.
    assert!(as_frames[0] > 45_000 && as_frames[1] > 10_000 && refused > 10_000);
    assert!(as_datagrams > 100 && by_socket_for.contains_key(&Reason::NoHop));
    assert!(by_socket_for.contains_key(&Reason::TooBig));
    assert_eq!(umem.free(), 4);
}
