//! Next hops that change while calls are under way.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use turnwire_tests::call::{Call, Wires};
use turnwire_tests::frame::Packet;
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, RelayUnderTest, Tier};
use turnwire_tests::wait::{self, SOON};

const NEW_MAC: &str = "02:44:00:00:02:99";
const COUNT: u32 = 64;

#[test]
fn a_gateway_that_announces_a_new_address_is_followed() {
    for topology in Topology::ALL {
        in_lab(topology, |lab| followed(lab, announce));
    }
}

#[test]
fn a_gateway_that_changes_its_address_in_silence_is_found_again() {
    in_lab(Topology::TwoArmed, |lab| followed(lab, |_| Ok(())));
}

#[test]
fn a_gateway_that_is_replaced_by_another_is_followed() {
    in_lab(Topology::TwoArmed, |lab| {
        let relay = RelayUnderTest::start(lab, Tier::Native)?;
        let mut calls = calls_behind_the_gateway(lab, &relay)?;
        // The same host by a second address: to the relay, another gateway.
        lab.run(Host::Peer, &["ip", "address", "add", "44.128.2.3/24", "dev", "eth0"])?;
        lab.run(Host::Peer, &["ip", "address", "add", "2e00:44:2::3/64", "dev", "eth0", "nodad"])?;
        lab.run(Host::Peer, &["ip", "link", "set", "eth0", "address", NEW_MAC])?;
        lab.run(Host::Relay, &["ip", "route", "replace", "44.128.9.0/24", "via", "44.128.2.3"])?;
        lab.run(Host::Relay, &["ip", "route", "replace", "2e00:44:9::/64", "via", "2e00:44:2::3"])?;
        calls.iter_mut().try_for_each(|call| flows_by_xdp_again(call, &relay))
    });
}

#[test]
fn a_link_that_goes_and_comes_back_is_used_again() {
    in_lab(Topology::TwoArmed, |lab| {
        let relay = RelayUnderTest::start(lab, Tier::Native)?;
        let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
        call.warm_up(&relay)?;
        lab.run(Host::Peer, &["ip", "link", "set", "eth0", "down"])?;
        ensure!(!call.gets_through(Direction::ToPeer)?, "who carried it?");
        lab.run(Host::Peer, &["ip", "link", "set", "eth0", "up"])?;
        flows_by_xdp_again(&mut call, &relay)
    });
}

#[test]
fn the_relays_own_new_address_is_used_at_once() {
    for topology in Topology::ALL {
        in_lab(topology, |lab| {
            let relay = RelayUnderTest::start(lab, Tier::Native)?;
            let mut call = Call::set_up(lab, Family::V4, Family::V6)?;
            call.warm_up(&relay)?;
            let device = lab.towards_peer();
            lab.run(Host::Relay, &["ip", "link", "set", device, "address", NEW_MAC])?;
            for host in [Host::Client, Host::Peer] {
                lab.run(host, &["ip", "neighbour", "flush", "dev", "eth0"])?;
            }
            flows_by_xdp_again(&mut call, &relay)?;
            let wires = Wires::open(lab)?;
            call.send(Direction::ToPeer, b"from whom?")?;
            let ours = |packet: &Packet| packet.payload == b"from whom?";
            let (_, packet) = wires.far(Direction::ToPeer).find("the datagram", SOON, ours)?;
            ensure!((packet.from, packet.to) == wires.far_macs(Direction::ToPeer), "{packet:?}");
            Ok(())
        });
    }
}

/// Calls to the peer's far addresses, while the gateway's own Ethernet address changes.
fn followed(lab: &Lab, after_change: impl Fn(&Lab) -> Result<()>) -> Result<()> {
    probe_often(lab)?;
    let relay = RelayUnderTest::start(lab, Tier::Native)?;
    let mut calls = calls_behind_the_gateway(lab, &relay)?;
    lab.run(Host::Peer, &["ip", "link", "set", "eth0", "address", NEW_MAC])?;
    after_change(lab)?;
    calls.iter_mut().try_for_each(|call| flows_by_xdp_again(call, &relay))
}

fn calls_behind_the_gateway(lab: &Lab, relay: &RelayUnderTest) -> Result<Vec<Call>> {
    let call = |family: Family| {
        let peer = lab.udp(Host::Peer, SocketAddr::new(family.far_peer(), 0))?;
        let mut call = Call::with_peer(lab, Family::V4, family, peer)?;
        call.warm_up(relay)?;
        Ok(call)
    };
    Family::ALL.into_iter().map(call).collect()
}

fn flows_by_xdp_again(call: &mut Call, relay: &RelayUnderTest) -> Result<()> {
    wait::until("the next hop is found again", 3 * SOON, || {
        let before = relay.forwarded(Direction::ToPeer)?;
        let through = call.gets_through(Direction::ToPeer)?;
        Ok((through && relay.forwarded(Direction::ToPeer)? > before).then_some(()))
    })?;
    // the way back, too: the peer's host may have to ask for the relay's address first
    call.warm_up(relay)?;
    call.loses_nothing(relay, COUNT)
}

/// What `arp_notify` does when a link comes up: gratuitous ARP, and an unsolicited advertisement.
fn announce(lab: &Lab) -> Result<()> {
    for family in ["ipv4", "ipv6"] {
        let what = if family == "ipv4" { "arp_notify" } else { "ndisc_notify" };
        let path = format!("/proc/sys/net/{family}/conf/eth0/{what}");
        lab.run(Host::Peer, &["sh", "-c", &format!("echo 1 >{path}")])?;
    }
    // A gratuitous ARP changes an entry only while the relay's host is willing to believe it.
    let accept = format!("/proc/sys/net/ipv4/conf/{}/arp_accept", lab.towards_peer());
    lab.run(Host::Relay, &["sh", "-c", &format!("echo 1 >{accept}")])?;
    lab.run(Host::Peer, &["ip", "link", "set", "eth0", "down"])?;
    lab.run(Host::Peer, &["ip", "link", "set", "eth0", "up"])?;
    // IPv6 loses its addresses with the link.
    let add = "ip address replace 2e00:44:2::2/64 dev eth0 nodad";
    lab.run(Host::Peer, &["sh", "-c", add])?;
    Ok(())
}

/// Makes the relay's host doubt a silent neighbour after one second instead of thirty.
fn probe_often(lab: &Lab) -> Result<()> {
    let script = format!(
        "for family in ipv4 ipv6; do cd /proc/sys/net/$family/neigh/{} && \
         echo 1000 >base_reachable_time_ms && echo 1 >delay_first_probe_time && \
         echo 100 >retrans_time_ms; done",
        lab.towards_peer()
    );
    lab.run(Host::Relay, &["sh", "-c", &script])?;
    Ok(())
}
