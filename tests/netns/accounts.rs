//! What `/allocations` says that each allocation carried: together, all that the tiers forwarded.

use std::net::UdpSocket;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use turnwire_tests::call::Call;
use turnwire_tests::client::{Client, Received, receive};
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::metrics;
use turnwire_tests::relay::{Launch, RelayUnderTest, Tier};
use turnwire_tests::stun::{Builder, attribute, kind};
use turnwire_tests::wait::{self, Deadline, SOON};

const WAYS: [&str; 2] = ["to_peer", "to_client"];
/// Tiers as the page names them, and as the metrics do: the fast ones, and the control thread.
const TIERS: [[&[&str]; 2]; 2] =
    [[&["xdp", "socket"], &["xdp", "af_xdp", "socket", "session"]], [&["control"], &["control"]]];
/// A Send with this attribute is none of the plainest: the control thread carries it.
const SOFTWARE: u16 = 0x8022;

/// Packets and bytes each way, by the fast tiers and by the control thread.
type Carried = [[[u64; 2]; 2]; 2];

#[test]
fn allocations_sum_up_to_all_that_was_carried_also_by_what_is_withdrawn() {
    for tier in [Tier::Native, Tier::AfXdp, Tier::Sockets] {
        in_lab(Topology::TwoArmed, |lab| everything_is_accounted_for(lab, tier));
    }
}

fn everything_is_accounted_for(lab: &Lab, tier: Tier) -> Result<()> {
    // given two clients with a channel to one peer and a permission for another
    let config = lab.scratch().join("turnwire.toml");
    std::fs::write(&config, "")?;
    let config_option = ["--config", config.to_str().context("an odd path")?];
    let options = [Launch::of(tier).options, &config_option[..]].concat();
    let mut relay = RelayUnderTest::launch(lab, &Launch { options: &options, ..Launch::of(tier) })?;
    let mut calls = Vec::new();
    for family in Family::ALL {
        let bound = lab.udp(Host::Peer, (family.far_peer(), 0).into())?;
        let mut call = Call::with_peer(lab, family, family, bound)?;
        call.warm_up(&relay)?;
        let permitted = lab.udp(Host::Peer, (family.peer(), 0).into())?;
        permitted.connect(call.relayed)?;
        call.client.permit(permitted.local_addr()?)?;
        // the bound peer's address has a permission, too: for its other ports
        let beside = lab.udp(Host::Peer, (family.far_peer(), 0).into())?;
        beside.connect(call.relayed)?;
        calls.push((call, permitted, beside));
    }
    // when they use all of it
    for (call, permitted, beside) in &mut calls {
        call.loses_nothing(&relay, 32)?;
        for size in 0..10 {
            indicate(&mut call.client, permitted, size)?;
            indicate(&mut call.client, beside, 100 + size)?;
        }
        oddly(&mut call.client, permitted)?;
    }
    // then
    let carried = settled(lab, &relay)?;
    let [fast, control] = carried;
    ensure!(fast.iter().all(|way| way[0] >= 2 * (32 + 20)) && control[0][0] >= 2, "{carried:?}");
    let metrics = relay.metrics()?;
    for way in WAYS {
        let by_workers: u64 = ["socket", "af_xdp"]
            .iter()
            .map(|how| {
                metrics.sum(&format!("turnwire_{how}_indications_total"), &[("direction", way)])
            })
            .sum();
        ensure!(by_workers == 2 * 20, "{way}: workers carried {by_workers}");
    }
    // and when the peer of a channel and of a permission is denied
    let denied = Family::ALL.map(|family| format!("{:?}", family.far_peer().to_string()));
    std::fs::write(&config, format!("deny-peer = [{}]\n", denied.join(", ")))?;
    relay.reload()?;
    wait::until("the channels are withdrawn", SOON, || {
        Ok((relay.metrics()?.sum("turnwire_routes", &[]) == 0).then_some(()))
    })?;
    // then what it carried still counts
    ensure!(settled(lab, &relay)? == carried, "something was lost with what was withdrawn");
    // and so does what is carried from now on
    let (call, permitted, beside) = &mut calls[0];
    beside.send(b"denied")?;
    indicate(&mut call.client, permitted, 1)?;
    let after = settled(lab, &relay)?;
    let mut wanted = carried;
    wanted[0].iter_mut().flatten().for_each(|count| *count += 1);
    ensure!(after == wanted, "{after:?}, not {wanted:?}");
    Ok(())
}

/// One datagram of `size` bytes each way in an indication.
fn indicate(client: &mut Client, peer: &UdpSocket, size: usize) -> Result<()> {
    client.send_indication(peer.local_addr()?, &vec![1; size])?;
    let received = receive(peer, Deadline::after(SOON))?;
    ensure!(received.as_deref() == Some(&vec![1; size][..]), "{size}: {received:?}");
    peer.send(&vec![2; size])?;
    let received = client.receive(SOON)?;
    let wanted = Received::Data(peer.local_addr()?, vec![2; size]);
    ensure!(received.as_ref() == Some(&wanted), "{size}: {received:?}");
    Ok(())
}

/// A Send that workers leave to the control thread.
fn oddly(client: &mut Client, peer: &UdpSocket) -> Result<()> {
    let send = Builder::new(kind::SEND_INDICATION, [9; 12])
        .with_xor_address(attribute::XOR_PEER_ADDRESS, peer.local_addr()?)
        .with(attribute::DATA, b"oddly")
        .with(SOFTWARE, b"test");
    client.send_bytes(&send.bytes())?;
    let received = receive(peer, Deadline::after(SOON))?;
    ensure!(received.as_deref() == Some(b"oddly"), "{received:?}");
    Ok(())
}

/// What all allocations carried, once it is what the tiers forwarded: a worker counts a datagram when
/// it has gone.
fn settled(lab: &Lab, relay: &RelayUnderTest) -> Result<Carried> {
    let (mut listed, mut forwarded) = Default::default();
    let settled = wait::until("the allocations sum up", SOON, || {
        (listed, forwarded) = (listed_of(lab, relay)?, forwarded_of(relay)?);
        Ok((listed == forwarded).then_some(listed))
    });
    settled.with_context(|| format!("listed {listed:?}, forwarded {forwarded:?}"))
}

/// Sums over tiers, of what `count` says of tier, way, and packets or bytes.
fn sums(tiers: [&[&str]; 2], count: impl Fn(&str, &str, &str) -> Option<u64>) -> Result<Carried> {
    let mut carried = Carried::default();
    for (row, tiers) in carried.iter_mut().zip(tiers) {
        for (cells, way) in row.iter_mut().zip(WAYS) {
            for (cell, what) in cells.iter_mut().zip(["packets", "bytes"]) {
                let counts = tiers.iter().map(|tier| count(tier, way, what));
                *cell = counts.sum::<Option<u64>>().context("a count is missing")?;
            }
        }
    }
    Ok(carried)
}

fn listed_of(lab: &Lab, relay: &RelayUnderTest) -> Result<Carried> {
    let page: Value = serde_json::from_str(&metrics::get(lab, relay.admin(), "/allocations")?)?;
    let all = page["allocations"].as_array().context("a list")?;
    sums(TIERS.map(|[listed, _]| listed), |tier, way, what| {
        all.iter().map(|one| one["traffic"][tier][way][what].as_u64()).sum()
    })
}

fn forwarded_of(relay: &RelayUnderTest) -> Result<Carried> {
    let metrics = relay.metrics()?;
    sums(TIERS.map(|[_, forwarded]| forwarded), |tier, way, what| {
        let series = format!("turnwire_forwarded_{what}_total");
        Some(metrics.sum(&series, &[("tier", tier), ("direction", way)]))
    })
}
