//! Peers and clients that are gone: their hosts answer with ICMP errors, which must cost nobody else
//! a datagram.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use turnwire_tests::call::{CHANNEL, Call};
use turnwire_tests::client::receive;
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, Launch};
use turnwire_tests::traffic::{self, Outcome};

use crate::af_xdp::{every_tier, started};

const COUNT: u32 = 64;
const GONE: u16 = 0x4002;

#[test]
fn a_peer_that_is_gone_costs_another_peer_of_the_same_allocation_nothing() {
    for launch in every_tier() {
        in_lab(Topology::TwoArmed, |lab| beside_a_peer_that_is_gone(lab, &launch));
    }
}

fn beside_a_peer_that_is_gone(lab: &Lab, launch: &Launch) -> Result<()> {
    let (relay, tier) = (started(lab, launch)?, launch.tier);
    for family in Family::ALL {
        let mut call = Call::set_up(lab, Family::V4, family)?;
        let gone = lab.udp(Host::Peer, SocketAddr::new(family.peer(), 0))?.local_addr()?;
        call.client.bind(GONE, gone)?;
        call.warm_up(&relay)?;
        let outcome = traffic::run(
            COUNT,
            |data| {
                call.client.send(GONE, data)?;
                call.client.send(CHANNEL, data)
            },
            |deadline| receive(&call.peer, deadline),
        )?;
        ensure!(outcome == Outcome::perfect(COUNT), "{tier:?}, {family:?}: {outcome:?}");
    }
    Ok(())
}

#[test]
fn a_client_that_is_gone_costs_another_client_nothing() {
    for launch in every_tier() {
        in_lab(Topology::TwoArmed, |lab| beside_a_client_that_is_gone(lab, &launch));
    }
}

fn beside_a_client_that_is_gone(lab: &Lab, launch: &Launch) -> Result<()> {
    let (relay, tier) = (started(lab, launch)?, launch.tier);
    for family in Family::ALL {
        let Call { client, peer: still_sending, .. } = Call::set_up(lab, family, Family::V4)?;
        drop(client);
        let mut call = Call::set_up(lab, family, Family::V4)?;
        call.warm_up(&relay)?;
        let call = std::cell::RefCell::new(call);
        let outcome = traffic::run(
            COUNT,
            |data| {
                still_sending.send(data)?;
                call.borrow().send(Direction::ToClient, data)
            },
            |deadline| call.borrow_mut().receive(Direction::ToClient, deadline),
        )?;
        ensure!(outcome == Outcome::perfect(COUNT), "{tier:?}, {family:?}: {outcome:?}");
    }
    Ok(())
}
