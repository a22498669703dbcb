//! What the kernel's program leaves alone is relayed all the same, by the sockets beneath it.

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::{Call, Wires};
use turnwire_tests::client::{Received, receive};
use turnwire_tests::frame::Datagram;
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, RelayUnderTest, Tier};
use turnwire_tests::wait::{self, Deadline, SOON};

use crate::af_xdp::{every_tier, started};

/// Four "no operation" options.
const IPV4_OPTIONS: [u8; 4] = [1, 1, 1, 1];
/// A destination options header: UDP follows, 8 bytes, six of padding.
const IPV6_OPTIONS: [u8; 8] = [17, 0, 1, 4, 0, 0, 0, 0];
const DATA_LEN: usize = 333;

#[test]
fn the_oracle_relays_fragments_options_and_indications() {
    in_lab(Topology::TwoArmed, |lab| odd_datagrams_are_relayed(lab, Tier::Oracle));
    in_lab(Topology::TwoArmed, |lab| indications_work_beside_channels(lab, Tier::Oracle));
}

#[test]
fn fragments_and_options_are_relayed_by_sockets_while_xdp_is_on() {
    for topology in Topology::ALL {
        in_lab(topology, |lab| odd_datagrams_are_relayed(lab, Tier::Native));
    }
}

#[test]
fn fragments_and_options_are_relayed_by_sockets_alone() {
    in_lab(Topology::TwoArmed, |lab| odd_datagrams_are_relayed(lab, Tier::Sockets));
}

#[test]
fn a_peer_with_a_permission_only_is_heard_while_xdp_is_on() {
    in_lab(Topology::TwoArmed, |lab| indications_work_beside_channels(lab, Tier::Native));
}

#[test]
fn a_peer_with_a_permission_only_is_heard_by_sockets() {
    in_lab(Topology::TwoArmed, |lab| indications_work_beside_channels(lab, Tier::Sockets));
}

#[test]
fn an_allocation_that_is_given_back_relays_nothing_more() {
    for launch in every_tier() {
        in_lab(Topology::TwoArmed, |lab| {
            let relay = started(lab, &launch)?;
            let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
            call.warm_up(&relay)?;
            ensure!(call.client.refresh(0)? == 0, "a lifetime of zero ends the allocation");
            for direction in Direction::ALL {
                ensure!(!call.gets_through(direction)?, "{direction:?}: still relayed");
            }
            Ok(())
        });
    }
}

fn odd_datagrams_are_relayed(lab: &Lab, tier: Tier) -> Result<()> {
    let relay = RelayUnderTest::start(lab, tier)?;
    let wires = Wires::open(lab)?;
    for outer in Family::ALL {
        for inner in Family::ALL {
            let mut call = Call::set_up(lab, outer, inner)?;
            call.warm_up(&relay)?;
            for direction in Direction::ALL {
                for oddity in [Oddity::Fragments, Oddity::Options] {
                    let what = format!("{tier:?}, {outer:?}, {inner:?}, {direction:?}, {oddity:?}");
                    let before = by_sockets(&relay, direction)?;
                    is_relayed(&mut call, &wires, direction, oddity).context(what.clone())?;
                    if tier != Tier::Oracle {
                        wait::until(&format!("{what}: counted for the sockets"), SOON, || {
                            Ok((by_sockets(&relay, direction)? == before + 1).then_some(()))
                        })?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Indications that workers carried, and datagrams that the control thread did, each to peers and to
/// clients.
fn indications(relay: &RelayUnderTest) -> Result<[u64; 4]> {
    if relay.tier() == Tier::Oracle {
        return Ok([0; 4]);
    }
    let metrics = relay.metrics()?;
    let of = |series: &str, labels: &[(&str, &str)]| metrics.sum(series, labels);
    let by_workers = |way: &str| of("turnwire_socket_indications_total", &[("direction", way)]);
    let by_control = |way: &str| {
        of("turnwire_forwarded_packets_total", &[("tier", "control"), ("direction", way)])
    };
    Ok([
        by_workers("to_peer"),
        by_workers("to_client"),
        by_control("to_peer"),
        by_control("to_client"),
    ])
}

fn by_sockets(relay: &RelayUnderTest, direction: Direction) -> Result<u64> {
    if relay.tier() == Tier::Oracle { Ok(0) } else { relay.forwarded_by("socket", direction) }
}

#[derive(Clone, Copy, Debug)]
enum Oddity {
    Fragments,
    Options,
}

fn is_relayed(call: &mut Call, wires: &Wires, direction: Direction, oddity: Oddity) -> Result<()> {
    let data: Vec<u8> = (0..DATA_LEN).map(|at| at as u8).collect();
    let datagram = call.datagram(wires, direction, &data)?;
    for frame in odd_frames(datagram, oddity) {
        wires.near(direction).send(&frame)?;
    }
    let received = call.receive(direction, Deadline::after(SOON))?.context("did not arrive")?;
    ensure!(received == data, "arrived as {received:02x?}");
    Ok(())
}

fn odd_frames(mut datagram: Datagram, oddity: Oddity) -> Vec<Vec<u8>> {
    match oddity {
        Oddity::Fragments => datagram.fragments(160).into(),
        Oddity::Options => {
            datagram.options =
                if datagram.source.is_ipv4() { IPV4_OPTIONS.into() } else { IPV6_OPTIONS.into() };
            vec![datagram.frame()]
        }
    }
}

/// The call's peer has a channel; another socket on the same host has the permission that came
/// with it, and no channel.
fn indications_work_beside_channels(lab: &Lab, tier: Tier) -> Result<()> {
    let relay = RelayUnderTest::start(lab, tier)?;
    for family in Family::ALL {
        let mut call = Call::set_up(lab, family, family)?;
        call.warm_up(&relay)?;
        let other = lab.udp(Host::Peer, (family.peer(), 0).into())?;
        other.connect(call.relayed)?;
        let other_address = other.local_addr()?;
        let before = indications(&relay)?;

        other.send(b"without a channel")?;
        let received = call.client.receive(SOON)?;
        let wanted = Received::Data(other_address, b"without a channel".into());
        ensure!(received.as_ref() == Some(&wanted), "{family:?}: {received:?}");

        call.client.send_indication(other_address, b"and back")?;
        let received = receive(&other, Deadline::after(SOON))?;
        ensure!(received.as_deref() == Some(b"and back"), "{family:?}: {received:?}");

        if tier != Tier::Oracle {
            wait::until("one each way counted for the workers", SOON, || {
                let now = indications(&relay)?;
                let one_more = [before[0] + 1, before[1] + 1, before[2], before[3]];
                Ok((now == one_more).then_some(()))
            })?;
        }

        let stranger = lab.udp(Host::Peer, (family.far_peer(), 0).into())?;
        stranger.connect(call.relayed)?;
        stranger.send(b"without a permission")?;
        call.loses_nothing(&relay, 32).context("a stranger was heard")?;
    }
    Ok(())
}
