//! Send and Data indications as they leave, byte by byte, judged by code that shares nothing with the
//! relay: by sockets, and in the frames that they came in. The two differ in what a socket cannot
//! tell (whether a datagram came with DF), and in nothing else.

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::{Call, Wires};
use turnwire_tests::client::{Received, receive};
use turnwire_tests::frame::{Datagram, Packet};
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, Launch, RelayUnderTest, Tier};
use turnwire_tests::stun::{Builder, Message, attribute, kind};
use turnwire_tests::traffic::payload;
use turnwire_tests::wait::{self, Deadline, SOON};

use crate::af_xdp::{PUNTING, queues_are_open};

/// Expedited forwarding, congestion experienced.
const TRAFFIC_CLASS: u8 = 0b1011_1011;
const TTL: u8 = 57;

#[test]
fn indications_are_right_in_the_frames_that_they_came_in_between_two_interfaces() {
    in_lab(Topology::TwoArmed, |lab| every_mix_of_families(lab, &PUNTING));
}

#[test]
fn indications_are_right_in_the_frames_that_they_came_in_on_one_interface() {
    in_lab(Topology::OneArmed, |lab| every_mix_of_families(lab, &PUNTING));
}

#[test]
fn indications_are_right_by_sockets() {
    in_lab(Topology::TwoArmed, |lab| every_mix_of_families(lab, &Launch::of(Tier::Sockets)));
}

fn every_mix_of_families(lab: &Lab, launch: &Launch) -> Result<()> {
    let relay = RelayUnderTest::launch(lab, launch)?;
    if by_frame(&relay) {
        queues_are_open(lab, &relay)?;
    }
    let wires = Wires::open(lab)?;
    for outer in Family::ALL {
        for inner in Family::ALL {
            let mut talk = Talk::set_up(lab, outer, inner)?;
            talk.warm_up(&relay).with_context(|| format!("{outer:?} outside, {inner:?}"))?;
            for direction in Direction::ALL {
                for shape in &SHAPES {
                    talk.leaves_as_it_should(&wires, &relay, direction, shape).with_context(
                        || format!("{outer:?} outside, {inner:?}, {direction:?}, {shape:?}"),
                    )?;
                }
            }
        }
    }
    Ok(())
}

/// What no longer fits in a frame arrives whole: a socket sends it, and the metrics say why.
#[test]
fn what_does_not_fit_once_wrapped_is_a_sockets() {
    in_lab(Topology::TwoArmed, |lab| {
        let relay = RelayUnderTest::launch(lab, &PUNTING)?;
        queues_are_open(lab, &relay)?;
        for (outer, inner, fits) in [(Family::V4, Family::V4, 1436), (Family::V6, Family::V6, 1404)]
        {
            let mut talk = Talk::set_up(lab, outer, inner)?;
            talk.warm_up(&relay)?;
            for (size, wanted) in [(fits, (1, 0)), (fits + 1, (0, 1))] {
                let before = (frames(&relay, Direction::ToClient)?, too_big(&relay)?);
                let data: Vec<u8> = (0..size).map(|at| at as u8).collect();
                talk.other.send(&data)?;
                let came = talk.call.client.receive(SOON)?.context("nothing came")?;
                ensure!(came == Received::Data(talk.other.local_addr()?, data), "{came:?}");
                wait::until(&format!("{size} bytes counted as {wanted:?}"), SOON, || {
                    let now = (frames(&relay, Direction::ToClient)?, too_big(&relay)?);
                    Ok((now == (before.0 + wanted.0, before.1 + wanted.1)).then_some(()))
                })?;
            }
        }
        Ok(())
    });
}

/// A client and a peer of its with a permission, and no channel.
pub(crate) struct Talk {
    pub(crate) call: Call,
    pub(crate) other: std::net::UdpSocket,
}

/// Something about a datagram that is easy to get wrong.
#[derive(Debug)]
struct Shape {
    data_len: usize,
    /// Bytes behind the IP packet, as short Ethernet frames have.
    trailing_len: usize,
    /// DF, over IPv4.
    whole: bool,
    /// DONT-FRAGMENT, in a Send indication: behind the data.
    asked: bool,
    checksum: bool,
}

const fn plain(data_len: usize) -> Shape {
    Shape { data_len, trailing_len: 0, whole: false, asked: false, checksum: true }
}

const SHAPES: [Shape; 12] = [
    plain(0),
    plain(1),
    plain(2),
    plain(3),
    plain(4),
    plain(160),
    plain(1161),
    Shape { trailing_len: 9, ..plain(3) },
    Shape { trailing_len: 1, ..plain(9) },
    Shape { whole: true, ..plain(21) },
    Shape { asked: true, ..plain(21) },
    Shape { checksum: false, ..plain(21) },
];

impl Talk {
    /// A channel's peer has a permission for all of its ports.
    pub(crate) fn set_up(lab: &Lab, outer: Family, inner: Family) -> Result<Talk> {
        let call = Call::set_up(lab, outer, inner)?;
        let other = lab.udp(Host::Peer, (inner.peer(), 0).into())?;
        other.connect(call.relayed)?;
        Ok(Talk { call, other })
    }

    /// Both ways go by the tier that is tested: its next hops are known.
    pub(crate) fn warm_up(&mut self, relay: &RelayUnderTest) -> Result<()> {
        let peer = self.other.local_addr()?;
        for direction in Direction::ALL {
            wait::until("indications go their way", SOON, || {
                let before = frames(relay, direction)?;
                let came = match direction {
                    Direction::ToPeer => {
                        self.call.client.send_indication(peer, b"warm")?;
                        receive(&self.other, Deadline::after(SOON))?.is_some()
                    }
                    Direction::ToClient => {
                        self.other.send(b"warm")?;
                        self.call.client.receive(SOON)?.is_some()
                    }
                };
                ensure!(came, "{direction:?}: nothing came");
                let by_frame = by_frame(relay);
                Ok((!by_frame || frames(relay, direction)? > before).then_some(()))
            })?;
        }
        Ok(())
    }

    fn leaves_as_it_should(
        &self,
        wires: &Wires,
        relay: &RelayUnderTest,
        direction: Direction,
        shape: &Shape,
    ) -> Result<()> {
        let mut data = payload(77);
        data.resize(shape.data_len, 0xee);
        let datagram = self.incoming(wires, direction, shape, &data)?;
        let mut frame = datagram.frame();
        frame.resize(frame.len() + shape.trailing_len, 0xdb);
        let before = frames(relay, direction)?;
        wires.far(direction).forget()?;
        wires.near(direction).send(&frame)?;

        let (source, destination) = match direction {
            Direction::ToPeer => (self.call.relayed, self.other.local_addr()?),
            Direction::ToClient => (self.call.listener, self.call.client.address()?),
        };
        let (_, packet) = wires.far(direction).find("the datagram", SOON, |packet| {
            packet.source == source && packet.destination == destination
        })?;
        ensure!(packet.faults.is_empty(), "{}", packet.summary());
        ensure!(packet.trailing_len == 0, "bytes beyond the datagram: {packet:?}");
        ensure!(packet.checksum != 0, "without a checksum: {packet:?}");
        ensure!(packet.ttl == TTL - 1, "{}", packet.summary());
        ensure!(packet.traffic_class == TRAFFIC_CLASS, "{}", packet.summary());
        ensure!((packet.from, packet.to) == wires.far_macs(direction), "Ethernet: {packet:?}");
        ensure!(packet.vlans.is_empty() && packet.options_len == 0, "{}", packet.summary());
        match direction {
            Direction::ToPeer => ensure!(packet.payload == data, "payload: {packet:?}"),
            Direction::ToClient => self.is_wrapped(&packet, &data)?,
        }
        if source.is_ipv4() {
            // by a socket what the datagram came with is not known, and taken for clear
            let copied = by_frame(relay)
                && if datagram.source.is_ipv4() { shape.whole } else { shape.data_len > 1161 };
            let asked = shape.asked && direction == Direction::ToPeer;
            ensure!(packet.dont_fragment == (copied || asked), "DF: {packet:?}");
        }
        if by_frame(relay) {
            wait::until("it is counted among the frames", SOON, || {
                Ok((frames(relay, direction)? == before + 1).then_some(()))
            })?;
        }
        Ok(())
    }

    fn incoming(
        &self,
        wires: &Wires,
        direction: Direction,
        shape: &Shape,
        data: &[u8],
    ) -> Result<Datagram> {
        let (client, peer) = (self.call.client.address()?, self.other.local_addr()?);
        let mut datagram = match direction {
            Direction::ToPeer => {
                let mut send = Builder::new(kind::SEND_INDICATION, *b"transaction!")
                    .with_xor_address(attribute::XOR_PEER_ADDRESS, peer)
                    .with(attribute::DATA, data);
                if shape.asked {
                    send = send.with(attribute::DONT_FRAGMENT, &[]);
                }
                Datagram::new(wires.client, client, self.call.listener).carrying(&send.bytes())
            }
            Direction::ToClient => {
                Datagram::new(wires.peer, peer, self.call.relayed).carrying(data)
            }
        };
        datagram.ttl = TTL;
        datagram.traffic_class = TRAFFIC_CLASS;
        datagram.dont_fragment = shape.whole;
        datagram.checksum = shape.checksum || datagram.source.is_ipv6();
        Ok(datagram)
    }

    /// A Data indication with these data, and not one byte besides.
    fn is_wrapped(&self, packet: &Packet, data: &[u8]) -> Result<()> {
        let message = Message::parse(&packet.payload).context("not STUN")?;
        ensure!(message.kind() == kind::DATA_INDICATION, "{packet:?}");
        let id = *message.transaction().first_chunk().context("a transaction id")?;
        ensure!(id != [0; 12], "a transaction id that was not drawn");
        let wanted = Builder::new(kind::DATA_INDICATION, id)
            .with_xor_address(attribute::XOR_PEER_ADDRESS, self.other.local_addr()?)
            .with(attribute::DATA, data)
            .bytes();
        ensure!(packet.payload == wanted, "payload: {packet:?}, wanted {wanted:?}");
        Ok(())
    }
}

fn by_frame(relay: &RelayUnderTest) -> bool {
    relay.tier() != Tier::Sockets
}

/// Indications that left as frames.
fn frames(relay: &RelayUnderTest, direction: Direction) -> Result<u64> {
    let direction = match direction {
        Direction::ToPeer => "to_peer",
        Direction::ToClient => "to_client",
    };
    let labels = [("direction", direction)];
    Ok(relay.metrics()?.sum("turnwire_af_xdp_indications_total", &labels))
}

fn too_big(relay: &RelayUnderTest) -> Result<u64> {
    Ok(relay.metrics()?.sum("turnwire_af_xdp_by_socket_total", &[("reason", "too_big")]))
}
