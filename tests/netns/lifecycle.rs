//! However the relay ends, it leaves nothing behind on its interfaces.

use anyhow::{Result, ensure};
use turnwire_tests::call::Call;
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, Launch, RelayUnderTest, Tier};
use turnwire_tests::wait::{self, SOON};

use crate::af_xdp::{PUNTING, started};

#[test]
fn sigterm_ends_the_relay_cleanly() {
    for topology in Topology::ALL {
        for tier in [Tier::Native, Tier::Generic, Tier::AfXdp, Tier::Sockets] {
            in_lab(topology, |lab| {
                let mut relay = RelayUnderTest::start(lab, tier)?;
                let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
                call.warm_up(&relay)?;
                ensure!(programs(lab)? == programs_wanted(lab, tier), "{tier:?} while serving");
                let status = relay.terminate()?;
                ensure!(status.success(), "{tier:?}: {status}");
                ensure!(programs(lab)? == 0, "{tier:?}: a program stayed behind");
                Ok(())
            });
        }
    }
}

#[test]
fn a_killed_relay_is_detached_by_the_kernel_and_the_next_one_serves() {
    in_lab(Topology::TwoArmed, |lab| {
        // by the program, and with queues that the next one has to be given
        for launch in [Launch::of(Tier::Native), PUNTING, Launch::of(Tier::AfXdp)] {
            let mut relay = started(lab, &launch)?;
            let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
            call.warm_up(&relay)?;
            // in the middle of it
            for _ in 0..64 {
                call.send(Direction::ToPeer, b"on its way")?;
            }
            relay.kill();
            wait::until("the kernel detaches the program", SOON, || {
                Ok((programs(lab)? == 0).then_some(()))
            })?;
        }
        Ok(())
    });
}

#[test]
fn the_vlan_offload_is_off_while_the_program_is_attached_and_given_back() {
    in_lab(Topology::OneArmed, |lab| {
        let device = lab.towards_client();
        let strips = || -> Result<bool> {
            let features = lab.run(Host::Relay, &["ethtool", "-k", device])?;
            Ok(features.contains("rx-vlan-offload: on"))
        };
        lab.run(Host::Relay, &["ethtool", "-K", device, "rxvlan", "on"])?;
        let mut relay = RelayUnderTest::start(lab, Tier::Native)?;
        ensure!(!strips()?, "tags are taken out of frames, where the program cannot see them");
        ensure!(relay.log().contains("rx-vlan-offload is off"), "unsaid:\n{}", relay.log());
        relay.terminate()?;
        ensure!(strips()?, "the offload was not given back");
        Ok(())
    });
}

fn programs_wanted(lab: &Lab, tier: Tier) -> usize {
    if tier == Tier::Sockets { 0 } else { lab.relay_interfaces().len() }
}

/// How many of the relay's interfaces have an XDP program.
fn programs(lab: &Lab) -> Result<usize> {
    let links = lab.run(Host::Relay, &["ip", "-oneline", "link", "show"])?;
    Ok(links.lines().filter(|line| line.contains("prog/xdp")).count())
}
