//! A data plane over loopback, with the test as its control thread, its clients and its peers.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses its own part"
)]

use dataplane::batch::{Arrival, Batch, Departure, Marks, Outcome, SocketId};
use dataplane::link::socket::{SocketLink, bind_listener, register};
use dataplane::link::{Link, Offload};
use dataplane::{
    BufferSizes, Client, Config, Dataplane, Event, PortId, Route, Sessions, Transport, Tuning,
    monotonic,
};
use mio::{Events, Poll, Token, Waker};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Long enough for a loaded machine, short enough for a failing test.
pub const PATIENCE: Duration = Duration::from_secs(10);

const LARGE: BufferSizes = BufferSizes { receive: 4 << 20, send: 4 << 20 };

pub fn config(workers: usize, listen: &[&str]) -> Config {
    Config {
        cores: (0..workers).collect(),
        listen: listen.iter().map(|address| address.parse().unwrap()).collect(),
        routes_max: 1024,
        permits_max: 1024,
        ports_max: 1024,
        ring_len: 1024,
        sessions: Sessions::default(),
    }
}

/// An event with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Client {
        worker: usize,
        transport: Transport,
        local: SocketAddr,
        remote: SocketAddr,
        marks: Option<Marks>,
        bytes: Vec<u8>,
    },
    Gone {
        worker: usize,
        client: Client,
    },
    Peer {
        port: PortId,
        relay: SocketAddr,
        peer: SocketAddr,
        marks: Option<Marks>,
        bytes: Vec<u8>,
    },
    Unreachable {
        port: PortId,
        relay: SocketAddr,
        peer: SocketAddr,
        icmp: (u8, u8, u32),
    },
}

pub struct Rig {
    pub plane: Dataplane,
    poll: Poll,
    events: Events,
}

impl Rig {
    pub fn start(workers: usize, listen: &[&str]) -> Self {
        Self::tuned(config(workers, listen), Tuning::default())
    }

    pub fn tuned(config: Config, tuning: Tuning) -> Self {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let plane = Dataplane::start_tuned(config, tuning, waker).unwrap();
        Self { plane, poll, events: Events::with_capacity(16) }
    }

    pub fn listener(&self, index: usize) -> SocketAddr {
        self.plane.listen_addresses()[index]
    }

    /// Opens a relay port on any free port of `ip`.
    pub fn open(&mut self, worker: usize, ip: &str) -> (PortId, SocketAddr) {
        for _ in 0..100 {
            // the kernel's choice, given back at once
            let probe = std::net::UdpSocket::bind((ip.parse::<IpAddr>().unwrap(), 0)).unwrap();
            let relay = probe.local_addr().unwrap();
            drop(probe);
            let before = self.open_ports(worker);
            if let Ok(port) = self.plane.open_port(worker, relay) {
                self.plane.flush();
                // a worker in the middle of a round hears of it at the next, and until then leaves
                // what needs the port to the control thread; one that closes others counts no more
                let end = monotonic() + Duration::from_millis(500);
                while before.is_some() && self.open_ports(worker) <= before && monotonic() < end {
                    std::thread::sleep(Duration::from_micros(200));
                }
                return (port, relay);
            }
        }
        panic!("no relay port on {ip}");
    }

    /// Of a worker; a session thread does not say.
    fn open_ports(&self, worker: usize) -> Option<u64> {
        self.plane.stats().workers.get(worker).map(|worker| worker.ports)
    }

    /// A relay port on `relay_ip` and a channel from `client` to `peer` through it.
    pub fn channel(
        &mut self,
        client: SocketAddr,
        listener: SocketAddr,
        relay_ip: &str,
        peer: SocketAddr,
    ) -> Route {
        let (port, relay) = self.open(0, relay_ip);
        let route = Route {
            transport: Transport::Udp,
            client,
            listener,
            channel: 0x4000,
            relay,
            port,
            peer,
            expires: monotonic() + Duration::from_secs(600),
            inner: false,
        };
        self.plane.add_route(&route).unwrap();
        route
    }

    /// What the workers tell within `timeout`, at least `least` events if they come.
    pub fn told(&mut self, least: usize, timeout: Duration) -> Vec<Told> {
        let (mut told, end) = (Vec::new(), monotonic() + timeout);
        loop {
            self.plane.poll(64, &mut |event| {
                told.push(match event {
                    Event::Client { worker, transport, local, remote, marks, bytes } => {
                        let bytes = bytes.to_vec();
                        Told::Client { worker, transport, local, remote, marks, bytes }
                    }
                    Event::Gone { worker, transport, local, remote } => {
                        Told::Gone { worker, client: Client { transport, local, remote } }
                    }
                    Event::Unreachable { port, relay, peer, kind, code, data } => {
                        Told::Unreachable { port, relay, peer, icmp: (kind, code, data) }
                    }
                    Event::Peer { port, relay, peer, marks, bytes } => {
                        Told::Peer { port, relay, peer, marks, bytes: bytes.to_vec() }
                    }
                });
            });
            self.plane.flush();
            let left = end.saturating_sub(monotonic());
            if told.len() >= least || left.is_zero() {
                return told;
            }
            self.poll.poll(&mut self.events, Some(left)).unwrap();
        }
    }

    /// What comes next to `host`, or is told here: something of one, where nothing else is under way.
    pub fn either(&mut self, host: &mut Host) -> (Vec<Got>, Vec<Told>) {
        let (end, step) = (monotonic() + PATIENCE, Duration::from_millis(1));
        while monotonic() < end {
            let (got, told) = (host.receive(1, step), self.told(1, step));
            if !got.is_empty() || !told.is_empty() {
                return (got, told);
            }
        }
        panic!("neither: {:#?}", self.plane.stats());
    }

    /// Waits until `holds`, or fails with what there is instead.
    pub fn until(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&dataplane::stats::Snapshot) -> bool,
    ) {
        let end = monotonic() + PATIENCE;
        while !holds(&self.plane.stats()) {
            assert!(monotonic() < end, "{what}: {:#?}", self.plane.stats());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A datagram as a host received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub from: SocketAddr,
    pub bytes: Vec<u8>,
    pub marks: Marks,
}

/// A client or a peer, which sees and sets TTL and TOS.
pub struct Host {
    link: SocketLink,
    received: Batch,
    sending: Batch,
    pub address: SocketAddr,
}

impl Host {
    pub fn new(ip: &str) -> Self {
        let bound = bind_listener((ip.parse::<IpAddr>().unwrap(), 0).into(), false, LARGE).unwrap();
        let address = bound.local();
        let poll = Poll::new().unwrap();
        register(poll.registry(), &bound, SocketId::listener(0)).unwrap();
        // what it sends at once arrives merged, as from a NIC
        let offload = Offload { receive: false, send: true };
        let link = SocketLink::with_offload(poll, vec![bound], offload);
        Self { link, received: Batch::new(64, 65_535), sending: Batch::new(64, 65_535), address }
    }

    /// Puts a datagram into the batch that [`flush`](Self::flush) sends.
    pub fn put(&mut self, to: SocketAddr, bytes: &[u8], marks: Option<Marks>) {
        let (remote, local) = (to, self.address);
        let arrival = Arrival { remote, local, ttl: 0, tos: 0, truncated: false };
        let index = self.sending.len();
        assert!(self.sending.push(bytes, arrival), "at most 64 at a time");
        let (by, from) = (SocketId::listener(0), None);
        self.sending.depart(index, Departure { by, to, from, marks, dont_fragment: false });
    }

    pub fn flush(&mut self) {
        self.link.send(&mut self.sending);
        for index in 0..self.sending.len() {
            assert_eq!(self.sending.outcome(index), Outcome::Sent);
        }
        self.sending.clear();
    }

    pub fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.put(to, bytes, None);
        self.flush();
    }

    /// Takes what comes within `timeout`, up to and including datagram `least`.
    pub fn each(
        &mut self,
        least: usize,
        timeout: Duration,
        mut on: impl FnMut(&Arrival, &[u8]),
    ) -> usize {
        let (mut count, end) = (0, monotonic() + timeout);
        loop {
            self.received.clear();
            while self.link.receive(&mut self.received).is_some() {
                for index in 0..self.received.len() {
                    on(self.received.arrival(index), self.received.payload(index));
                }
                count += self.received.len();
                self.received.clear();
            }
            let left = end.saturating_sub(monotonic());
            if count >= least || left.is_zero() {
                return count;
            }
            self.link.wait(Some(left)).unwrap();
        }
    }

    pub fn receive(&mut self, least: usize, timeout: Duration) -> Vec<Got> {
        let mut all = Vec::new();
        self.each(least, timeout, |arrival, bytes| {
            let marks = Marks { ttl: arrival.ttl, tos: arrival.tos };
            all.push(Got { from: arrival.remote, bytes: bytes.to_vec(), marks });
        });
        all
    }

    /// The one datagram that must come.
    pub fn receive_one(&mut self) -> Got {
        let mut all = self.receive(1, PATIENCE);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// Nothing comes, after all that the test knows of has been dealt with.
    pub fn receive_nothing(&mut self) {
        assert_eq!(self.receive(1, Duration::from_millis(50)), []);
    }
}

/// A UDP client's five-tuple.
pub fn udp(local: SocketAddr, remote: SocketAddr) -> Client {
    Client { transport: Transport::Udp, local, remote }
}

/// ChannelData with `padding` bytes behind it.
pub fn channel_data(channel: u16, data: &[u8], padding: usize) -> Vec<u8> {
    let mut bytes = channel.to_be_bytes().to_vec();
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes.resize(bytes.len() + padding, 0);
    bytes
}

/// A Send indication to an IPv4 peer.
pub fn send_indication(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let SocketAddr::V4(peer) = peer else { panic!("an IPv4 peer") };
    let mut bytes = vec![0, 0x16, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    bytes.resize(20, 7);
    bytes.extend([0, 0x12, 0, 8, 0, 1]);
    bytes.extend((peer.port() ^ 0x2112).to_be_bytes());
    bytes.extend((peer.ip().to_bits() ^ 0x2112_a442).to_be_bytes());
    bytes.extend([0, 0x13]);
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let length = bytes.len() as u16 - 20;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// A STUN header with method Binding and `tail` more bytes.
pub fn stun(tail: usize) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, tail as u8, 0x21, 0x12, 0xa4, 0x42];
    bytes.resize(20 + tail, 7);
    bytes
}
