//! The relay's host has traffic of its own, and the program on its interfaces never touches it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::{Call, Wires};
use turnwire_tests::client::receive;
use turnwire_tests::frame::Packet;
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, Launch, RELAY_PORTS, Tier};
use turnwire_tests::wait::{Deadline, SOON};

use crate::af_xdp::{PUNTING, started};

const QUIET: Duration = Duration::from_millis(300);

/// As a resolver's or a clock's answer comes to a port that the kernel picked from the same range.
#[test]
fn answers_to_the_hosts_own_sockets_in_the_relay_range_arrive() {
    for tier in [Tier::Native, Tier::Generic, Tier::AfXdp] {
        in_lab(Topology::TwoArmed, |lab| {
            let relay = started(lab, &Launch::of(tier))?;
            for family in Family::ALL {
                let mut call = Call::set_up(lab, family, family)?;
                call.warm_up(&relay)?;
                let own = own_socket_beside(lab, &call)?;
                let server = lab.udp(Host::Peer, (family.peer(), 53).into())?;
                own.send_to(b"a question", server.local_addr()?)?;
                let mut question = [0; 64];
                let (length, asker) = server.recv_from(&mut question)?;
                server.send_to(&question[..length], asker)?;
                let answer = receive(&own, Deadline::after(SOON))?.context("no answer came")?;
                ensure!(answer == b"a question", "{answer:02x?}");
                call.loses_nothing(&relay, 32)?;
            }
            Ok(())
        });
    }
}

/// A socket of the relay's host on the relayed address, and on a port next to the call's.
fn own_socket_beside(lab: &Lab, call: &Call) -> Result<std::net::UdpSocket> {
    let port = call.relayed.port();
    let beside = if port == *RELAY_PORTS.end() { port - 1 } else { port + 1 };
    lab.udp(Host::Relay, (call.relayed.ip(), beside).into())
}

#[test]
fn frames_of_unknown_vlans_and_for_other_hosts_are_passed_on_untouched() {
    let two_armed = Topology::TwoArmed;
    for (topology, launch) in [
        (two_armed, Launch::of(Tier::Native)),
        (Topology::OneArmed, Launch::of(Tier::Native)),
        (two_armed, PUNTING),
        (two_armed, Launch::of(Tier::AfXdp)),
    ] {
        in_lab(topology, |lab| {
            let relay = started(lab, &launch)?;
            let wires = Wires::open(lab)?;
            let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
            call.warm_up(&relay)?;
            for direction in Direction::ALL {
                for foreign in [Foreign::Vlan, Foreign::TwoVlans, Foreign::Mac] {
                    is_left_alone(&call, &wires, direction, foreign)
                        .with_context(|| format!("{direction:?}, {foreign:?}"))?;
                }
            }
            call.loses_nothing(&relay, 32)
        });
    }
}

/// Why a frame that would be forwarded otherwise is not the relay's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Foreign {
    Vlan,
    TwoVlans,
    Mac,
}

fn is_left_alone(call: &Call, wires: &Wires, direction: Direction, foreign: Foreign) -> Result<()> {
    let mut datagram = call.datagram(wires, direction, b"not for the relay")?;
    match foreign {
        Foreign::Vlan => datagram.vlans = vec![321],
        Foreign::TwoVlans => datagram.vlans = vec![654, 321],
        // Unknown to the switch, which floods it.
        Foreign::Mac => datagram.to = [0x02, 0, 0, 0, 0, 0x77],
    }
    let frame = datagram.frame();
    wires.far(direction).forget()?;
    wires.relays_kernel(direction).forget()?;
    wires.near(direction).send(&frame)?;
    let same = |packet: &Packet| {
        (packet.from, packet.to) == (datagram.from, datagram.to) && packet.vlans == datagram.vlans
    };
    let (seen, _) =
        wires.relays_kernel(direction).find("the frame, passed to the kernel", SOON, same)?;
    ensure!(seen.bytes == frame, "changed: {:02x?} was {frame:02x?}", seen.bytes);

    let (source, destination) = call.leaves_as(direction)?;
    let relayed = wires
        .far(direction)
        .collect(QUIET, |packet| packet.source == source && packet.destination == destination)?;
    ensure!(relayed.is_empty(), "relayed all the same: {relayed:?}");
    Ok(())
}
