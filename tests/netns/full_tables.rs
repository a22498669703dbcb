//! Tables that are full: who is in them goes on, who is not is served all the same, or refused by
//! name; and there is room again when somebody leaves.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::Call;
use turnwire_tests::client::{Client, Received};
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, Launch};
use turnwire_tests::wait::{self, SOON};

use crate::af_xdp::{every_tier, started};

/// Peers that each of the clients permits; one may permit 256.
const PEERS: u8 = 250;
const CLIENTS: usize = 5;
/// The workers have places for 1,024 relay ports, as reserved ones come on top, and some permissions more.
const FEW: [&str; 4] = ["--max-allocations", "8", "--max-channels", "2"];
/// Of each client's peers, how many speak: the first, who have their places, and the last.
const SPEAKERS: usize = 8;

#[test]
fn permissions_without_a_place_and_channels_beyond_the_last_hurt_nobody() {
    for launch in every_tier() {
        let options = [launch.options, &FEW[..]].concat();
        let launch = Launch { options: &options, ..launch };
        in_lab(Topology::TwoArmed, |lab| hurt_nobody(lab, &launch));
    }
}

fn hurt_nobody(lab: &Lab, launch: &Launch) -> Result<()> {
    let relay = started(lab, launch)?;
    // given two calls, which are all the channels that there may be
    let mut calls = [Family::V4, Family::V6]
        .map(|family| Call::set_up(lab, family, Family::V4))
        .into_iter()
        .collect::<Result<Vec<Call>>>()?;
    calls.iter_mut().try_for_each(|call| call.warm_up(&relay))?;
    let refused = Call::set_up(lab, Family::V4, Family::V4);
    ensure!(refused.is_err_and(|error| format!("{error:#}").contains("508")), "a third channel");
    // when clients permit more peers than there are places
    let all = (1..=PEERS).map(|host| format!("address add 44.128.7.{host}/32 dev lo\n"));
    let batch = lab.scratch().join("addresses");
    std::fs::write(&batch, all.collect::<String>())?;
    let batch = batch.to_str().context("an odd path")?;
    lab.run(Host::Peer, &["ip", "-batch", batch])?;
    lab.run(Host::Relay, &["ip", "route", "add", "44.128.7.0/24", "via", "44.128.2.2"])?;
    let peer = |host: u8| SocketAddr::from(([44, 128, 7, host], 5000));
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::new(lab, Family::V4)?;
        let relayed = client.allocate(Family::V4)?;
        (1..=PEERS).try_for_each(|host| client.permit(peer(host)))?;
        clients.push((client, relayed));
    }
    let refused = relay.metrics()?.sum("turnwire_permits_refused_total", &[]);
    ensure!(refused > 0, "all permissions found a place");
    // then those with a place and those without are heard, both ways
    let control = || relay.forwarded_by("control", Direction::ToClient);
    let before = control()?;
    let hosts: Vec<u8> = (1..=PEERS).collect();
    let speakers = [&hosts[..SPEAKERS], &hosts[hosts.len() - SPEAKERS..]].concat();
    for host in speakers {
        let peer = lab.udp(Host::Peer, peer(host))?;
        for (client, relayed) in &mut clients {
            is_heard(client, *relayed, &peer).with_context(|| format!("{host}"))?;
        }
    }
    ensure!(control()? > before, "nobody was without a place");
    for call in &mut calls {
        call.loses_nothing(&relay, 32)?;
    }
    // and there is room again for a channel
    calls.remove(0).client.refresh(0)?;
    let mut next = wait::until("there is room again", SOON, || {
        Ok(Call::set_up(lab, Family::V4, Family::V4).ok())
    })?;
    next.warm_up(&relay)?;
    next.loses_nothing(&relay, 32)
}

fn is_heard(client: &mut Client, relayed: SocketAddr, peer: &UdpSocket) -> Result<()> {
    let address = peer.local_addr()?;
    client.send_indication(address, b"there")?;
    let mut bytes = [0; 64];
    let (length, from) = peer.recv_from(&mut bytes).context("nothing came to the peer")?;
    ensure!(bytes[..length] == *b"there" && from == relayed, "{from}");
    peer.send_to(b"and back", relayed)?;
    let came = client.receive(SOON)?;
    ensure!(came == Some(Received::Data(address, b"and back".into())), "{came:?}");
    Ok(())
}
