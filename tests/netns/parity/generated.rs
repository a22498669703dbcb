//! The datagrams: drawn from a seed, the same for every relay, each with whether it is to come out.

use std::net::SocketAddr;

use turnwire_tests::client::channel_data;
use turnwire_tests::lab::Family;
use turnwire_tests::random::Random;
use turnwire_tests::relay::Direction;
use turnwire_tests::stun::{Builder, attribute, kind};

/// Of an Ethernet: the longest IP packet that goes in.
const MTU: usize = 1500;
const CLIENT_PORT: u16 = 20_000;
const PEER_PORT: u16 = 30_000;
/// Added to a peer's port: another socket on the same host, with a permission and without a channel.
const PERMITTED: u16 = 1000;
/// A client's port without an allocation.
const STRANGER_PORT: u16 = 19_000;
/// Comprehension-optional, so that the control thread takes this Send, not a worker.
const SOFTWARE: u16 = 0x8022;

/// A client with an allocation, its number on the list of all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) number: usize,
    pub(crate) outer: Family,
    pub(crate) inner: Family,
    pub(crate) role: Role,
}

/// What a call is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its peer has a channel.
    Usual,
    /// Its peer is the relayed address of that call.
    Inner(usize),
    /// The allocation was given back.
    Gone,
}

impl Call {
    /// Three in every mix of families, two pairs of clients that are each other's peers, and two that
    /// are gone.
    pub(crate) fn all() -> Vec<Call> {
        let mut all = Vec::new();
        let mut add = |outer, inner, role| {
            let number = all.len();
            all.push(Call { number, outer, inner, role });
        };
        for outer in Family::ALL {
            for inner in Family::ALL {
                (0..3).for_each(|_| add(outer, inner, Role::Usual));
            }
        }
        // 12 to 15: the second pair over both families
        add(Family::V4, Family::V4, Role::Inner(13));
        add(Family::V4, Family::V4, Role::Inner(12));
        add(Family::V4, Family::V6, Role::Inner(15));
        add(Family::V6, Family::V6, Role::Inner(14));
        Family::ALL.into_iter().for_each(|family| add(family, family, Role::Gone));
        all
    }

    pub(crate) fn client(&self) -> SocketAddr {
        SocketAddr::new(self.outer.client(), CLIENT_PORT + self.number as u16)
    }

    /// With a channel.
    pub(crate) fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.inner.peer(), PEER_PORT + self.number as u16)
    }

    /// With a permission only.
    pub(crate) fn permitted(&self) -> SocketAddr {
        SocketAddr::new(self.inner.peer(), self.peer().port() + PERMITTED)
    }

    /// The same, for Send indications that do not ask for DF.
    pub(crate) fn permitted_plainly(&self) -> SocketAddr {
        SocketAddr::new(self.inner.peer(), self.permitted().port() + PERMITTED)
    }

    /// Without.
    pub(crate) fn stranger(&self) -> SocketAddr {
        SocketAddr::new(self.inner.far_peer(), self.peer().port())
    }

    /// Whether this client uses DONT-FRAGMENT. Nothing of its own goes by another way than its tier's
    /// then: a relay port has one switch for DF, and two workers that send by it at the same moment
    /// may see each other's.
    fn is_whole(&self) -> bool {
        self.number % 3 == 2
    }

    pub(crate) fn channel(&self) -> u16 {
        0x4000 + 7 * self.number as u16
    }

    /// Channel data with nothing odd about it.
    pub(crate) fn plain(&self, direction: Direction) -> Sent {
        let data = b"is there a way?";
        let up = direction == Direction::ToPeer;
        let (source, payload) = match up {
            true => (self.client(), channel_data(self.channel(), data)),
            false => (self.peer(), data.to_vec()),
        };
        Sent {
            direction,
            call: *self,
            source,
            payload,
            ttl: 64,
            class: 0,
            dont_fragment: false,
            checksum: Checksum::Right,
            shape: Shape::Whole,
            out: Some(self.comes_out(direction)),
            number: None,
        }
    }

    /// The way that what goes `direction` comes out.
    fn comes_out(&self, direction: Direction) -> Direction {
        if matches!(self.role, Role::Inner(_)) { Direction::ToClient } else { direction }
    }
}

/// How data comes to a peer's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By a channel, and over IPv6 by Send indications as well.
    Channel,
    /// By Send indications that ask for DF.
    SendWhole,
    /// By those that do not.
    Send,
}

impl Way {
    pub(crate) fn to(peer: SocketAddr) -> Way {
        match peer.port().saturating_sub(PEER_PORT) / PERMITTED {
            0 => Way::Channel,
            1 => Way::SendWhole,
            _ => Way::Send,
        }
    }
}

/// How a datagram lies in its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// In one frame.
    Whole,
    /// In one frame with so many bytes behind it.
    Trailing(usize),
    /// With IPv4 options, or an IPv6 extension header.
    Options,
    /// In two.
    Fragments,
}

/// The UDP checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    Right,
    /// Zero, over IPv4.
    None,
    Wrong,
}

/// One datagram on its way to the relay.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) direction: Direction,
    pub(crate) call: Call,
    pub(crate) source: SocketAddr,
    pub(crate) payload: Vec<u8>,
    pub(crate) ttl: u8,
    pub(crate) class: u8,
    pub(crate) dont_fragment: bool,
    pub(crate) checksum: Checksum,
    pub(crate) shape: Shape,
    /// The way that something is to come out, if it is.
    pub(crate) out: Option<Direction>,
    /// The number that its data begins with, if it is as long.
    pub(crate) number: Option<[u8; 4]>,
}

impl Sent {
    /// For a failure's message: all but most of the payload.
    pub(crate) fn summary(&self) -> String {
        let (size, head) = (self.payload.len(), &self.payload[..self.payload.len().min(48)]);
        let short = Sent { payload: Vec::new(), ..self.clone() };
        format!("{short:?}, payload of {size}: {head:02x?}")
    }
}

/// Draws datagrams.
pub(crate) struct Generator {
    random: Random,
    calls: Vec<Call>,
    number: u32,
}

impl Generator {
    pub(crate) fn new(random: Random) -> Self {
        Self { random, calls: Call::all(), number: 0 }
    }

    /// So many, some of them alike and one behind the other, as kernels merge them.
    pub(crate) fn window(&mut self, size: usize) -> Vec<Sent> {
        let mut window: Vec<Sent> = Vec::with_capacity(size);
        while window.len() < size {
            let mut sent = self.datagram();
            // with fragments of one source and identification, one at a time
            let fits = (16..MTU - 48 - 20).contains(&sent.payload.len());
            if window.is_empty()
                && fits
                && !sent.call.is_whole()
                && sent.checksum != Checksum::Wrong
            {
                sent.shape = Shape::Fragments;
            }
            let alike = if self.random.one_in(12) { 1 + self.random.below(7) } else { 0 };
            let (call, up, len) = (sent.call, sent.direction, sent.payload.len());
            window.push(sent);
            for _ in 0..alike.min(size - window.len()) {
                window.push(self.like(window.len() - 1, &window, call, up, len));
            }
        }
        window
    }

    /// One of the same flow, size and marks as that of the window.
    fn like(&mut self, at: usize, window: &[Sent], call: Call, way: Direction, len: usize) -> Sent {
        let Sent { ttl, source, .. } = window[at];
        let channel = window[at].payload.starts_with(&call.channel().to_be_bytes());
        let up = way == Direction::ToPeer;
        let usual = if up { source == call.client() && channel } else { source == call.peer() };
        let overhead = if up { 4 } else { 0 };
        if !usual || call.role == Role::Gone || len < overhead {
            return self.datagram();
        }
        let data = self.data(len - overhead);
        let payload = if up { channel_data(call.channel(), &data) } else { data };
        let out = (ttl > 1).then(|| call.comes_out(way));
        let (checksum, shape) = (Checksum::Right, Shape::Whole);
        let number = self.numbered(payload.len() - overhead);
        Sent { payload, checksum, shape, out, number, ..window[at].clone() }
    }

    fn datagram(&mut self) -> Sent {
        let random = &mut self.random;
        let call = self.calls[random.below(self.calls.len())];
        let inner = matches!(call.role, Role::Inner(_));
        let up = inner || random.one_in(2);
        let direction = if up { Direction::ToPeer } else { Direction::ToClient };
        let mut sent = call.plain(direction);
        sent.ttl = if random.one_in(20) { random.below(3) as u8 } else { random.next_u64() as u8 };
        (sent.class, sent.dont_fragment) = (random.next_u64() as u8, random.one_in(2));
        sent.out = sent.out.filter(|_| call.role != Role::Gone);
        match direction {
            Direction::ToPeer => self.client_sends(&mut sent),
            Direction::ToClient => self.peer_sends(&mut sent),
        }
        self.dress(&mut sent);
        sent
    }

    /// Application data of this size: its number first, where there is room.
    fn data(&mut self, size: usize) -> Vec<u8> {
        self.number += 1;
        let mut data = bytes(&mut self.random, size);
        if let Some(first) = data.first_chunk_mut() {
            *first = self.number.to_be_bytes();
        }
        data
    }

    /// How data of this size that was made last begins.
    fn numbered(&self, size: usize) -> Option<[u8; 4]> {
        (size >= 4).then(|| self.number.to_be_bytes())
    }

    /// A size that leaves room for `overhead` in a packet of this family.
    fn size(&mut self, call: Call, family: Family, overhead: usize) -> usize {
        let headers = if family == Family::V4 { 28 } else { 48 };
        let most = if call.is_whole() { MTU / 2 } else { MTU - headers - overhead };
        match self.random.below(16) {
            0 => most - self.random.below(10),
            1 => self.random.below(8),
            2..5 => self.random.below(most + 1),
            _ => self.random.below(200),
        }
    }

    fn client_sends(&mut self, sent: &mut Sent) {
        let call = sent.call;
        let forwarded = sent.out.filter(|_| sent.ttl > 1);
        let size = self.size(call, call.outer, 4 + 3);
        let data = self.data(size);
        sent.number = self.numbered(size);
        let random = &mut self.random;
        let padding = random.below(4);
        let padding = bytes(random, padding);
        let message = |number: u16, length: usize| {
            let header = [number.to_be_bytes(), (length as u16).to_be_bytes()].concat();
            [&header[..], &data, &padding].concat()
        };
        match random.below(32) {
            // a channel of nobody
            0 => (sent.payload, sent.out) = (message(0x4fff, data.len()), None),
            // another protocol, or a channel beyond the RFC's
            1 => {
                (sent.payload, sent.out) = (message(0x5000 | random.next_u64() as u16, size), None)
            }
            2 => {
                let longer = size + padding.len() + 1 + random.below(60_000);
                (sent.payload, sent.out) = (message(call.channel(), longer), None);
            }
            // the rest is padding, up to three bytes of it
            3 => {
                let shorter = size.saturating_sub(random.below(5));
                let rest = size + padding.len() - shorter;
                sent.payload = message(call.channel(), shorter);
                sent.out = forwarded.filter(|_| rest <= 3);
            }
            4 => (sent.payload, sent.out) = (data[..size.min(3)].to_vec(), None),
            5 => (sent.payload, sent.out) = (data, None),
            6 => {
                sent.source.set_port(STRANGER_PORT);
                (sent.payload, sent.out) = (message(call.channel(), size), None);
            }
            7 => {
                sent.payload = Builder::new(kind::BINDING, self.transaction()).bytes();
                sent.out = Some(Direction::ToClient);
            }
            8..12 => self.send_indication(sent, data),
            _ => (sent.payload, sent.out) = (message(call.channel(), size), forwarded),
        }
    }

    fn transaction(&mut self) -> [u8; 12] {
        let mut id = [0; 12];
        id.copy_from_slice(&bytes(&mut self.random, 12));
        id
    }

    /// A plain one goes on as channel data does; the control thread takes the others.
    fn send_indication(&mut self, sent: &mut Sent, mut data: Vec<u8>) {
        let call = sent.call;
        if matches!(call.role, Role::Inner(_)) {
            // the peer's address is not the same in every lab
            (sent.payload, sent.out) = (data, None);
            return;
        }
        // header, address, header of the data, padding, DONT-FRAGMENT, SOFTWARE
        let headers = if call.outer == Family::V4 { 28 } else { 48 };
        data.truncate(MTU - headers - (20 + 24 + 4 + 3 + 4 + 12));
        let random = &mut self.random;
        let (whole, odd, last) = (random.one_in(3), random.one_in(12), random.one_in(4));
        let whole = whole && call.is_whole();
        let peer = match random.below(8) {
            0 => call.stranger(),
            1 if call.inner == Family::V6 => call.peer(),
            _ if whole => call.permitted(),
            _ => call.permitted_plainly(),
        };
        if peer == call.stranger() || sent.ttl <= 1 {
            sent.out = None;
        }
        let mut message = Builder::new(kind::SEND_INDICATION, self.transaction());
        if last {
            message = message.with(attribute::DATA, &data);
        }
        message = message.with_xor_address(attribute::XOR_PEER_ADDRESS, peer);
        if whole {
            message = message.with(attribute::DONT_FRAGMENT, &[]);
        }
        if odd {
            message = message.with(SOFTWARE, b"parity");
        }
        if !last {
            message = message.with(attribute::DATA, &data);
        }
        sent.payload = message.bytes();
    }

    fn peer_sends(&mut self, sent: &mut Sent) {
        let size = self.size(sent.call, sent.call.inner, 0);
        sent.payload = self.data(size);
        sent.number = self.numbered(size);
        match self.random.below(12) {
            0 => (sent.source, sent.out) = (sent.call.stranger(), None),
            // a Data indication
            1..4 => sent.source = sent.call.permitted(),
            _ => {}
        }
        sent.out = sent.out.filter(|_| sent.ttl > 1);
    }

    /// What surrounds the payload.
    fn dress(&mut self, sent: &mut Sent) {
        let random = &mut self.random;
        match random.below(40) {
            0..4 if sent.source.is_ipv4() && !sent.call.is_whole() => {
                sent.checksum = Checksum::None
            }
            4 if !sent.payload.is_empty() => (sent.checksum, sent.out) = (Checksum::Wrong, None),
            _ => {}
        }
        // for either
        let fits = sent.payload.len() < MTU - 48 - 20 && !sent.call.is_whole();
        match random.below(40) {
            0 if sent.checksum != Checksum::Wrong && fits => {
                sent.shape = Shape::Options;
            }
            1 | 2 if fits => sent.shape = Shape::Trailing(1 + random.below(18)),
            _ => {}
        }
    }
}

fn bytes(random: &mut Random, size: usize) -> Vec<u8> {
    let words = (0..size.div_ceil(8)).flat_map(|_| random.next_u64().to_le_bytes());
    let mut bytes: Vec<u8> = words.collect();
    bytes.truncate(size);
    bytes
}
