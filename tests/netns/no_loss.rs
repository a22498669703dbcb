//! Channel data arrives whole, both ways, in every mix of families, and every datagram of it by the
//! tier that was asked for.

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::Call;
use turnwire_tests::client::{Client, Received};
use turnwire_tests::lab::{Family, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, Launch, RelayUnderTest, Tier};
use turnwire_tests::traffic::{self, Outcome};

const COUNT: u32 = 400;
/// Right behind the answer to ChannelBind: by whatever tier, while the way is still being found.
const FIRST: u32 = 16;

#[test]
fn the_oracle_loses_nothing() {
    in_lab(Topology::TwoArmed, |lab| every_mix_of_families(lab, Tier::Oracle));
    in_lab(Topology::OneArmed, |lab| every_mix_of_families(lab, Tier::Oracle));
}

#[test]
fn nothing_is_lost_by_xdp_between_two_interfaces() {
    in_lab(Topology::TwoArmed, |lab| every_mix_of_families(lab, Tier::Native));
}

#[test]
fn nothing_is_lost_by_xdp_on_one_interface() {
    in_lab(Topology::OneArmed, |lab| every_mix_of_families(lab, Tier::Native));
}

#[test]
fn nothing_is_lost_by_xdp_in_the_kernels_stack_between_two_interfaces() {
    in_lab(Topology::TwoArmed, |lab| every_mix_of_families(lab, Tier::Generic));
}

#[test]
fn nothing_is_lost_by_xdp_in_the_kernels_stack_on_one_interface() {
    in_lab(Topology::OneArmed, |lab| every_mix_of_families(lab, Tier::Generic));
}

/// As in a container, whose host knows nothing of XDP.
#[test]
fn nothing_is_lost_by_xdp_in_the_kernels_stack_where_the_far_ends_are_plain() {
    for topology in Topology::ALL {
        in_lab(topology, |lab| {
            lab.plain_far_ends()?;
            every_mix_of_families(lab, Tier::Generic)
        });
    }
}

/// What is asked for by default must not be what loses everything there.
#[test]
fn nothing_is_lost_by_auto_where_the_far_ends_are_plain() {
    for topology in Topology::ALL {
        in_lab(topology, |lab| {
            lab.plain_far_ends()?;
            let relay =
                RelayUnderTest::launch(lab, &Launch { mode: "auto", ..Launch::of(Tier::Generic) })?;
            let mut call = Call::set_up(lab, Family::V4, Family::V6)?;
            call.warm_up(&relay)?;
            call.loses_nothing(&relay, 64)?;
            let log = relay.log();
            ensure!(log.contains("it is a veth"), "the log does not say why generic:\n{log}");
            Ok(())
        });
    }
}

#[test]
fn nothing_is_lost_by_sockets() {
    in_lab(Topology::TwoArmed, |lab| every_mix_of_families(lab, Tier::Sockets));
}

fn every_mix_of_families(lab: &Lab, tier: Tier) -> Result<()> {
    every_mix_by(lab, &Launch::of(tier))
}

pub(crate) fn every_mix_by(lab: &Lab, launch: &Launch<'_>) -> Result<()> {
    let tier = launch.tier;
    let relay = RelayUnderTest::launch(lab, launch)?;
    for outer in Family::ALL {
        for inner in Family::ALL {
            let mix = || format!("{tier:?}, client over {outer:?}, peer over {inner:?}");
            let mut call = Call::set_up(lab, outer, inner).with_context(mix)?;
            for direction in Direction::ALL {
                let outcome = call.traffic(direction, FIRST).with_context(mix)?;
                let told = || format!("{}, the first ones {direction:?}: {outcome:?}", mix());
                ensure!(outcome == Outcome::perfect(FIRST), told());
            }
            call.warm_up(&relay).with_context(mix)?;
            call.loses_nothing(&relay, COUNT).with_context(mix)?;
        }
        between_two_clients(lab, &relay, outer)
            .with_context(|| format!("{tier:?}, relay to relay over {outer:?}"))?;
    }
    Ok(())
}

/// Each client's peer is the other's relayed address.
fn between_two_clients(lab: &Lab, relay: &RelayUnderTest, family: Family) -> Result<()> {
    let mut clients = [Client::new(lab, family)?, Client::new(lab, family)?];
    let [first, second] = &mut clients;
    let relayed = [first.allocate(family)?, second.allocate(family)?];
    first.bind(0x4001, relayed[1])?;
    second.bind(0x4002, relayed[0])?;

    let before = [relay.forwarded(Direction::ToPeer)?, relay.forwarded(Direction::ToClient)?];
    let outcome = traffic::run(
        COUNT,
        |data| first.send(0x4001, data),
        |deadline| match deadline.left() {
            None => Ok(None),
            Some(limit) => Ok(match second.receive(limit)? {
                Some(Received::Channel(0x4002, data)) => Some(data),
                other => anyhow::bail!("unexpected: {other:?}"),
            }),
        },
    )?;
    ensure!(outcome == Outcome::perfect(COUNT), "{outcome:?}");
    // Each of them goes to a peer, and to a client.
    for (direction, before) in Direction::ALL.into_iter().zip(before) {
        let by_tier = relay.forwarded_since(before, direction, COUNT.into())?;
        let right = relay.tier() == Tier::Oracle || by_tier == u64::from(COUNT);
        ensure!(right, "{direction:?}: {by_tier} of {COUNT} by {:?}", relay.tier());
    }
    Ok(())
}
