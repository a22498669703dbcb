//! A path with a smaller MTU than the interface that leads there: a router behind says so, by ICMP.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::{Call, Wires};
use turnwire_tests::client::receive;
use turnwire_tests::frame::Datagram;
use turnwire_tests::lab::{Family, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, Launch, Tier};
use turnwire_tests::wait::{self, Deadline, SOON};

use crate::af_xdp::{PUNTING, started};
use crate::indications::Talk;

const PATH_MTU: u16 = 1300;
const DATA_LEN: usize = 1350;
/// A tick, or the rest that the relay takes where the two messages came in two of them.
const HEEDED: Duration = Duration::from_secs(60);

#[test]
fn a_router_with_a_smaller_mtu_is_heeded_by_sockets() {
    let launch = Launch::of(Tier::Sockets);
    in_lab(Topology::TwoArmed, |lab| a_smaller_mtu_on_the_way_is_heeded(lab, &launch));
}

#[test]
fn a_router_with_a_smaller_mtu_is_heeded_with_xdp() {
    in_lab(Topology::TwoArmed, |lab| a_smaller_mtu_on_the_way_is_heeded(lab, &PUNTING));
}

#[test]
fn a_router_with_a_smaller_mtu_is_heeded_with_af_xdp() {
    let launch = Launch::of(Tier::AfXdp);
    in_lab(Topology::TwoArmed, |lab| a_smaller_mtu_on_the_way_is_heeded(lab, &launch));
}

fn a_smaller_mtu_on_the_way_is_heeded(lab: &Lab, launch: &Launch) -> Result<()> {
    let relay = started(lab, launch)?;
    let wires = Wires::open(lab)?;
    let mut talk = Talk::set_up(lab, Family::V6, Family::V6)?;
    talk.call.warm_up(&relay)?;
    talk.warm_up(&relay)?;
    let ways = [By::Channel, By::Indication];
    let ways = || Direction::ALL.into_iter().flat_map(|way| ways.map(|by| (way, by)));
    for (direction, by) in ways() {
        ensure!(!fragmented(&mut talk, &wires, direction, by)?, "{direction:?}, {by:?}: it fits");
    }
    for direction in Direction::ALL {
        wires.far(direction).send(&too_big(&talk.call, &wires, direction)?)?;
    }
    for (direction, by) in ways() {
        let what = format!("{direction:?}, {by:?}: what is too big is fragmented");
        wait::until(&what, HEEDED, || {
            Ok(fragmented(&mut talk, &wires, direction, by)?.then_some(()))
        })?;
    }
    Ok(())
}

/// How data goes between client and relay.
#[derive(Clone, Copy, Debug)]
enum By {
    Channel,
    Indication,
}

/// Whether a datagram that fits the interface, and not the path, is sent in pieces. It arrives whole.
fn fragmented(talk: &mut Talk, wires: &Wires, direction: Direction, by: By) -> Result<bool> {
    let data: Vec<u8> = (0..DATA_LEN).map(|at| at as u8).collect();
    let (source, destination) = talk.call.leaves_as(direction)?;
    wires.far(direction).forget()?;
    match (direction, by) {
        (_, By::Channel) => talk.call.send(direction, &data)?,
        (Direction::ToPeer, By::Indication) => {
            talk.call.client.send_indication(talk.other.local_addr()?, &data)?;
        }
        (Direction::ToClient, By::Indication) => _ = talk.other.send(&data)?,
    }
    let socket = match (direction, by) {
        (Direction::ToClient, _) => talk.call.client.socket(),
        (Direction::ToPeer, By::Channel) => &talk.call.peer,
        (Direction::ToPeer, By::Indication) => &talk.other,
    };
    let deadline = Deadline::after(SOON);
    // the client is told of the router's words in an indication, too
    while {
        let came = receive(socket, deadline)?.context("it did not arrive whole")?;
        !came.windows(data.len()).any(|bytes| bytes == data)
    } {}
    let (_, packet) = wires.far(direction).find("it", SOON, |packet| {
        packet.source.ip() == source.ip() && packet.destination.ip() == destination.ip()
    })?;
    Ok(packet.fragment)
}

/// ICMPv6 "packet too big" about a datagram that the relay has sent this way (RFC 4443 section 3.2).
fn too_big(call: &Call, wires: &Wires, direction: Direction) -> Result<Vec<u8>> {
    let (source, destination) = call.leaves_as(direction)?;
    let (relay, host) = wires.far_macs(direction);
    let about = Datagram::new((relay, host), source, destination).carrying(&[0; DATA_LEN]).frame();
    let mut icmp = vec![2, 0, 0, 0, 0, 0];
    icmp.extend(PATH_MTU.to_be_bytes());
    icmp.extend(&about[14..14 + 1000]);
    let (from, to) = (destination.ip(), source.ip());
    let octets = |ip: IpAddr| match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(_) => unreachable!("of IPv6 only"),
    };
    let mut sum = 0_u32;
    let pseudo =
        [&octets(from)[..], &octets(to), &(icmp.len() as u32).to_be_bytes(), &[0, 0, 0, 58]];
    for word in [pseudo.concat(), icmp.clone()].concat().chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    icmp[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    let mut frame = Vec::new();
    frame.extend(relay);
    frame.extend(host);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((icmp.len() as u16).to_be_bytes());
    frame.extend([58, 64]);
    frame.extend(octets(from));
    frame.extend(octets(to));
    frame.extend(icmp);
    Ok(frame)
}
