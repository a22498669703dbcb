//! Datagrams that do not fit their next link once wrapped: 4 bytes more towards the client, 20 more
//! from IPv4 to IPv6.

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::{Call, Wires};
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, RelayUnderTest, Tier};
use turnwire_tests::wait::{self, Deadline, SOON};

#[test]
fn the_oracle_fragments_what_no_longer_fits() {
    in_lab(Topology::TwoArmed, |lab| what_no_longer_fits_arrives_whole(lab, Tier::Oracle));
}

#[test]
fn what_no_longer_fits_is_fragmented_with_xdp() {
    in_lab(Topology::TwoArmed, |lab| what_no_longer_fits_arrives_whole(lab, Tier::Native));
}

#[test]
fn what_no_longer_fits_is_fragmented_with_af_xdp() {
    in_lab(Topology::TwoArmed, |lab| what_no_longer_fits_arrives_whole(lab, Tier::AfXdp));
}

#[test]
fn what_no_longer_fits_is_fragmented_by_sockets() {
    in_lab(Topology::TwoArmed, |lab| what_no_longer_fits_arrives_whole(lab, Tier::Sockets));
}

#[test]
fn a_smaller_mtu_is_heeded_at_once() {
    in_lab(Topology::TwoArmed, |lab| a_smaller_mtu(lab, Tier::Native));
}

#[test]
fn a_smaller_mtu_is_heeded_at_once_by_af_xdp() {
    in_lab(Topology::TwoArmed, |lab| a_smaller_mtu(lab, Tier::AfXdp));
}

fn a_smaller_mtu(lab: &Lab, tier: Tier) -> Result<()> {
    let relay = RelayUnderTest::start(lab, tier)?;
    let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
    call.warm_up(&relay)?;
    lab.run(Host::Relay, &["ip", "link", "set", lab.towards_client(), "mtu", "1300"])?;
    let wires = Wires::open(lab)?;
    // The program may take a moment to hear of it; from then on the sockets fragment.
    wait::until("a datagram too big for the new MTU is fragmented", SOON, || {
        let before = relay.forwarded(Direction::ToClient)?;
        arrives_whole(&mut call, &wires, Direction::ToClient, 1280)?;
        Ok((relay.forwarded(Direction::ToClient)? == before).then_some(()))
    })?;
    let before = relay.forwarded(Direction::ToClient)?;
    arrives_whole(&mut call, &wires, Direction::ToClient, 1268)?;
    let by_tier = relay.forwarded_since(before, Direction::ToClient, 1)?;
    ensure!(by_tier == 1, "what fits still goes by {tier:?}");
    Ok(())
}

fn what_no_longer_fits_arrives_whole(lab: &Lab, tier: Tier) -> Result<()> {
    let relay = RelayUnderTest::start(lab, tier)?;
    let wires = Wires::open(lab)?;
    for (outer, inner, direction, fits) in [
        (Family::V4, Family::V4, Direction::ToClient, 1468),
        (Family::V6, Family::V6, Direction::ToClient, 1448),
        (Family::V6, Family::V4, Direction::ToClient, 1448),
        (Family::V4, Family::V6, Direction::ToPeer, 1452),
    ] {
        let mix = format!("{tier:?}, client over {outer:?}, peer over {inner:?}");
        let mut call = Call::set_up(lab, outer, inner)?;
        call.warm_up(&relay).context(mix.clone())?;
        let before = relay.forwarded(direction)?;
        arrives_whole(&mut call, &wires, direction, fits).context(mix.clone())?;
        let by_tier = relay.forwarded_since(before, direction, 1)?;
        ensure!(tier == Tier::Oracle || by_tier == 1, "{mix}: {fits} bytes just fit");
        arrives_whole(&mut call, &wires, direction, fits + 1).context(mix.clone())?;
        arrives_whole(&mut call, &wires, direction, fits + 4).context(mix)?;
    }
    Ok(())
}

/// Sends a datagram that may be fragmented, and wants it back in one piece.
fn arrives_whole(
    call: &mut Call,
    wires: &Wires,
    direction: Direction,
    length: usize,
) -> Result<()> {
    let data: Vec<u8> = (0..length).map(|at| at as u8).collect();
    wires.near(direction).send(&call.datagram(wires, direction, &data)?.frame())?;
    let received = call.receive(direction, Deadline::after(SOON))?;
    let received = received.with_context(|| format!("{length} bytes did not arrive"))?;
    ensure!(received == data, "{length} bytes arrived as {}", received.len());
    Ok(())
}
