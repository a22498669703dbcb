//! Indications that must not come out, whatever carries them: by sockets, and in the frames that they
//! came in. A good one follows each bad one, and comes out alone.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::{Call, Wires};
use turnwire_tests::frame::{Datagram, Packet};
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, Launch, RelayUnderTest, Tier};
use turnwire_tests::stun::{Builder, attribute, kind};
use turnwire_tests::wait::{self, SOON};

use crate::af_xdp::{PUNTING, queues_are_open};

/// What the datagram behind a bad one carries.
const GOOD: &[u8] = b"this one may";
const BAD: &[u8] = b"this one must not";

#[test]
fn nothing_bad_comes_out_by_sockets() {
    in_lab(Topology::TwoArmed, |lab| nothing_bad_comes_out(lab, &Launch::of(Tier::Sockets)));
}

#[test]
fn nothing_bad_comes_out_in_frames() {
    in_lab(Topology::TwoArmed, |lab| nothing_bad_comes_out(lab, &PUNTING));
}

/// A call, and another socket on its peer's host: a permission, no channel.
struct Talk {
    call: Call,
    other: UdpSocket,
    outer: Family,
    inner: Family,
}

/// How a good datagram is spoilt, if it can be this way.
type Spoil = fn(&Talk, Direction) -> Option<Spoilt>;

/// What differs from a good datagram.
struct Spoilt {
    source: Option<SocketAddr>,
    peer: Option<SocketAddr>,
    change: fn(&mut Vec<u8>),
}

const WHOLE: Spoilt = Spoilt { source: None, peer: None, change: |_| {} };

/// Offset of the UDP header in a frame.
fn udp(frame: &[u8]) -> usize {
    if frame[12] == 0x08 { 34 } else { 54 }
}

/// A wrong length must not be told by a wrong checksum.
fn without_checksum(frame: &mut [u8]) {
    let at = udp(frame);
    frame[at + 6..at + 8].fill(0);
}

const CASES: [(&str, Spoil); 8] = [
    ("to port 0 of a peer's", |talk, direction| {
        let peer = SocketAddr::new(talk.inner.peer(), 0);
        (direction == Direction::ToPeer).then_some(Spoilt { peer: Some(peer), ..WHOLE })
    }),
    ("from port 0", |talk, direction| {
        let ip = match direction {
            Direction::ToPeer => talk.outer.client(),
            Direction::ToClient => talk.inner.peer(),
        };
        Some(Spoilt { source: Some(SocketAddr::new(ip, 0)), ..WHOLE })
    }),
    ("from the relay's own address", |talk, direction| {
        let ip: IpAddr = match direction {
            Direction::ToPeer => talk.outer.listener().ip(),
            Direction::ToClient => talk.inner.relayed(),
        };
        Some(Spoilt { source: Some(SocketAddr::new(ip, 5000)), ..WHOLE })
    }),
    ("to a peer without a permission", |talk, direction| {
        let peer = SocketAddr::new(talk.inner.far_peer(), 9);
        (direction == Direction::ToPeer).then_some(Spoilt { peer: Some(peer), ..WHOLE })
    }),
    ("with a wrong checksum", |_, _| {
        Some(Spoilt {
            change: |frame| {
                let at = udp(frame);
                frame[at + 7] ^= 0x55;
            },
            ..WHOLE
        })
    }),
    ("over IPv6 without a checksum", |talk, direction| {
        let family = if direction == Direction::ToPeer { talk.outer } else { talk.inner };
        (family == Family::V6)
            .then_some(Spoilt { change: |frame| without_checksum(frame), ..WHOLE })
    }),
    ("longer by UDP's word than IP's", |_, _| {
        Some(Spoilt {
            change: |frame| {
                let at = udp(frame);
                without_checksum(frame);
                frame[at + 5] += 4;
                frame.extend([0xdb; 8]);
            },
            ..WHOLE
        })
    }),
    ("cut short behind its headers", |_, _| {
        Some(Spoilt { change: |frame| frame.truncate(frame.len() - 3), ..WHOLE })
    }),
];

fn nothing_bad_comes_out(lab: &Lab, launch: &Launch) -> Result<()> {
    let relay = RelayUnderTest::launch(lab, launch)?;
    if launch.options.contains(&"--af-xdp") {
        queues_are_open(lab, &relay)?;
    }
    let wires = Wires::open(lab)?;
    for outer in Family::ALL {
        for inner in Family::ALL {
            let call = Call::set_up(lab, outer, inner)?;
            let other = lab.udp(Host::Peer, (inner.peer(), 0).into())?;
            other.connect(call.relayed)?;
            let talk = Talk { call, other, outer, inner };
            for direction in Direction::ALL {
                talk.warm_up(&wires, launch, &relay, direction)
                    .with_context(|| format!("{outer:?}, {inner:?}, {direction:?}"))?;
                for (what, spoil) in CASES {
                    let Some(spoilt) = spoil(&talk, direction) else { continue };
                    talk.is_refused(&wires, direction, &spoilt)
                        .with_context(|| format!("{outer:?}, {inner:?}, {direction:?}: {what}"))?;
                }
            }
        }
    }
    Ok(())
}

impl Talk {
    /// An indication with these data, or what becomes one.
    fn datagram(
        &self,
        wires: &Wires,
        direction: Direction,
        (spoilt, data): (&Spoilt, &[u8]),
    ) -> Result<Vec<u8>> {
        let (client, peer) = (self.call.client.address()?, self.other.local_addr()?);
        let datagram = match direction {
            Direction::ToPeer => {
                let send = Builder::new(kind::SEND_INDICATION, *b"transaction!")
                    .with_xor_address(attribute::XOR_PEER_ADDRESS, spoilt.peer.unwrap_or(peer))
                    .with(attribute::DATA, data);
                let source = spoilt.source.unwrap_or(client);
                Datagram::new(wires.client, source, self.call.listener).carrying(&send.bytes())
            }
            Direction::ToClient => {
                let source = spoilt.source.unwrap_or(peer);
                Datagram::new(wires.peer, source, self.call.relayed).carrying(data)
            }
        };
        let mut frame = datagram.frame();
        (spoilt.change)(&mut frame);
        Ok(frame)
    }

    /// Good ones go by the tier that is tested.
    fn warm_up(
        &self,
        wires: &Wires,
        launch: &Launch,
        relay: &RelayUnderTest,
        direction: Direction,
    ) -> Result<()> {
        let by_frame = launch.options.contains(&"--af-xdp");
        wait::until("indications go their way", SOON, || {
            let frames = || -> Result<u64> {
                Ok(relay.metrics()?.sum("turnwire_af_xdp_indications_total", &[]))
            };
            let before = frames()?;
            wires.far(direction).forget()?;
            wires.near(direction).send(&self.datagram(wires, direction, (&WHOLE, GOOD))?)?;
            self.next(wires, direction)?;
            Ok((!by_frame || frames()? > before).then_some(()))
        })
    }

    /// The next that comes out of what this client and its peer say to each other.
    fn next(&self, wires: &Wires, direction: Direction) -> Result<Packet> {
        let (client, ours) = (self.call.client.address()?, self.inner.peer());
        let (_, packet) =
            wires.far(direction).find("a datagram", SOON, |packet| match direction {
                Direction::ToPeer => {
                    packet.source == self.call.relayed || packet.destination.ip() == ours
                }
                Direction::ToClient => packet.destination == client,
            })?;
        Ok(packet)
    }

    fn is_refused(&self, wires: &Wires, direction: Direction, spoilt: &Spoilt) -> Result<()> {
        wires.far(direction).forget()?;
        wires.near(direction).send(&self.datagram(wires, direction, (spoilt, BAD))?)?;
        wires.near(direction).send(&self.datagram(wires, direction, (&WHOLE, GOOD))?)?;
        let packet = self.next(wires, direction)?;
        let good = packet.payload.windows(GOOD.len()).any(|bytes| bytes == GOOD);
        ensure!(good, "came out: {packet:?}");
        Ok(())
    }
}
