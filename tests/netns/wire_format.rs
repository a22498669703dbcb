//! What leaves the relay, byte by byte, judged by code that shares nothing with it: addresses,
//! checksums, TTL one less, DSCP and ECN kept, and not one byte beyond the datagram.

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::{Call, Wires};
use turnwire_tests::frame::Datagram;
use turnwire_tests::lab::{Family, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, RelayUnderTest, Tier};
use turnwire_tests::traffic::payload;
use turnwire_tests::wait::SOON;

/// Expedited forwarding, congestion experienced.
const TRAFFIC_CLASS: u8 = 0b1011_1011;
const TTL: u8 = 57;

#[test]
fn the_oracles_frames() {
    in_lab(Topology::TwoArmed, |lab| every_mix_of_families(lab, Tier::Oracle));
}

#[test]
fn frames_are_right_by_xdp_between_two_interfaces() {
    in_lab(Topology::TwoArmed, |lab| every_mix_of_families(lab, Tier::Native));
}

#[test]
fn frames_are_right_by_xdp_on_one_interface() {
    in_lab(Topology::OneArmed, |lab| every_mix_of_families(lab, Tier::Native));
}

#[test]
fn frames_are_right_by_xdp_in_the_kernels_stack() {
    in_lab(Topology::TwoArmed, |lab| every_mix_of_families(lab, Tier::Generic));
}

#[test]
fn frames_are_right_by_sockets() {
    in_lab(Topology::TwoArmed, |lab| every_mix_of_families(lab, Tier::Sockets));
}

fn every_mix_of_families(lab: &Lab, tier: Tier) -> Result<()> {
    let relay = RelayUnderTest::start(lab, tier)?;
    let wires = Wires::open(lab)?;
    for outer in Family::ALL {
        for inner in Family::ALL {
            let mut call = Call::set_up(lab, outer, inner)?;
            call.warm_up(&relay)?;
            for direction in Direction::ALL {
                for shape in SHAPES {
                    leaves_as_it_should(&call, &wires, &relay, direction, &shape).with_context(
                        || {
                            format!(
                                "{tier:?}, {outer:?} outside, {inner:?}, {direction:?}, {shape:?}"
                            )
                        },
                    )?;
                }
            }
        }
    }
    Ok(())
}

/// Something about a datagram that is easy to get wrong.
#[derive(Debug)]
struct Shape {
    data_len: usize,
    /// Padding of ChannelData, counted in the UDP length (RFC 8656 section 12.5).
    padded: bool,
    /// Bytes behind the IP packet, as short Ethernet frames have.
    trailing_len: usize,
    dont_fragment: bool,
    checksum: bool,
}

const fn plain(data_len: usize) -> Shape {
    Shape { data_len, padded: false, trailing_len: 0, dont_fragment: false, checksum: true }
}

const SHAPES: [Shape; 12] = [
    plain(0),
    plain(1),
    plain(2),
    plain(3),
    plain(160),
    plain(1161),
    Shape { padded: true, ..plain(5) },
    Shape { padded: true, ..plain(6) },
    Shape { padded: true, ..plain(163) },
    Shape { trailing_len: 9, ..plain(3) },
    Shape { dont_fragment: true, ..plain(20) },
    Shape { checksum: false, ..plain(21) },
];

fn leaves_as_it_should(
    call: &Call,
    wires: &Wires,
    relay: &RelayUnderTest,
    direction: Direction,
    shape: &Shape,
) -> Result<()> {
    let mut data = payload(77);
    data.resize(shape.data_len, 0xee);
    let datagram = incoming(call, wires, direction, shape, &data)?;
    let mut frame = datagram.frame();
    frame.resize(frame.len() + shape.trailing_len, 0xdb);
    let before = relay.forwarded(direction)?;
    wires.far(direction).forget()?;
    wires.relays_kernel(direction).forget()?;
    wires.near(direction).send(&frame)?;

    let (source, destination) = call.leaves_as(direction)?;
    let (_, packet) = wires.far(direction).find("the forwarded datagram", SOON, |packet| {
        packet.source == source && packet.destination == destination
    })?;
    ensure!(packet.payload == call.arrives_as(direction, &data), "payload: {packet:?}");
    ensure!(packet.faults.is_empty(), "{}", packet.summary());
    ensure!(packet.trailing_len == 0, "bytes beyond the datagram: {packet:?}");
    // coturn counts the TTL down towards the peer only, and sets DF always.
    let ours = relay.tier() != Tier::Oracle;
    ensure!(!ours || packet.ttl == TTL - 1, "{}", packet.summary());
    ensure!(packet.traffic_class == TRAFFIC_CLASS, "{}", packet.summary());
    ensure!((packet.from, packet.to) == wires.far_macs(direction), "Ethernet: {packet:?}");
    ensure!(packet.vlans.is_empty() && packet.options_len == 0, "{}", packet.summary());
    if ours && datagram.source.is_ipv4() && source.is_ipv4() {
        // A socket does not tell whether a datagram came with DF; RFC 8656 section 14 has it taken
        // for clear then.
        let wanted = shape.dont_fragment && relay.tier() != Tier::Sockets;
        ensure!(packet.dont_fragment == wanted, "DF: {packet:?}");
    }
    // A zero checksum cannot be carried into IPv6 by the program: there the sockets do it.
    let by_another_tier = !shape.checksum && datagram.source.is_ipv4() && source.is_ipv6();
    if ours && !by_another_tier {
        let by_tier = relay.forwarded_since(before, direction, 1)?;
        ensure!(by_tier == 1, "forwarded {by_tier} times by its tier");
    }
    // The metrics' word is not all: what XDP takes, the relay's kernel never sees.
    let seen = wires.relays_kernel(direction).so_far(|packet| {
        packet.source == datagram.source && packet.destination == datagram.destination
    })?;
    let by_xdp = relay.tier().label() == Some("xdp") && !by_another_tier;
    ensure!(seen == usize::from(!by_xdp), "the relay's kernel saw it {seen} times");
    Ok(())
}

fn incoming(
    call: &Call,
    wires: &Wires,
    direction: Direction,
    shape: &Shape,
    data: &[u8],
) -> Result<Datagram> {
    let mut datagram = call.datagram(wires, direction, data)?;
    if shape.padded && direction == Direction::ToPeer {
        datagram.payload.resize(datagram.payload.len().next_multiple_of(4), 0xdb);
    }
    datagram.ttl = TTL;
    datagram.traffic_class = TRAFFIC_CLASS;
    datagram.dont_fragment = shape.dont_fragment;
    datagram.checksum = shape.checksum || datagram.source.is_ipv6();
    Ok(datagram)
}
