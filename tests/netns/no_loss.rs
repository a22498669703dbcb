//! Channel data arrives whole, both ways, by every tier, in every mix of families.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use turnwire_tests::client::{Client, Received, receive};
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, RelayUnderTest, Tier};
use turnwire_tests::traffic::{self, Outcome};
use turnwire_tests::wait::{self, Deadline, SOON};

const CHANNEL: u16 = 0x4abc;
const COUNT: u32 = 500;

#[test]
fn the_oracle_loses_nothing() {
    for topology in Topology::ALL {
        in_lab(topology, |lab| every_mix_of_families(lab, Tier::Oracle));
    }
}

fn every_mix_of_families(lab: &Lab, tier: Tier) -> Result<()> {
    let relay = RelayUnderTest::start(lab, tier)?;
    for outer in Family::ALL {
        for inner in Family::ALL {
            both_ways(lab, &relay, outer, inner)
                .with_context(|| format!("{tier:?}, client over {outer:?}, peer over {inner:?}"))?;
        }
    }
    Ok(())
}

fn both_ways(lab: &Lab, relay: &RelayUnderTest, outer: Family, inner: Family) -> Result<()> {
    let mut client = Client::new(lab, outer)?;
    let relayed = client.allocate(inner)?;
    let peer = lab.udp(Host::Peer, SocketAddr::new(inner.peer(), 0))?;
    peer.connect(relayed)?;
    client.bind(CHANNEL, peer.local_addr()?)?;
    let outcome = traffic::run(
        COUNT,
        |bytes| client.send(CHANNEL, bytes),
        |deadline| receive(&peer, deadline),
    )?;
    ensure!(outcome == Outcome::perfect(COUNT), "to the peer: {outcome:?}");
    Ok(())
}
