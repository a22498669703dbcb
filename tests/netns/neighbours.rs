//! Next hops that change while calls are under way: of channels, by the program and by workers, and of
//! indications that leave as frames.

use anyhow::{Context, Result, anyhow, ensure};
use turnwire_tests::call::{Call, Wires};
use turnwire_tests::frame::Packet;
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, Launch, RelayUnderTest, Tier};
use turnwire_tests::wait::{self, SOON};

use crate::af_xdp::{PUNTING, started};
use crate::indications::Talk;

const NEW_MAC: &str = "02:44:00:00:02:99";
const COUNT: u32 = 64;

#[test]
fn a_gateway_that_announces_a_new_address_is_followed() {
    for topology in Topology::ALL {
        in_lab(topology, |lab| followed(lab, &PUNTING, announce));
    }
}

#[test]
fn a_gateway_that_changes_its_address_in_silence_is_found_again() {
    in_lab(Topology::TwoArmed, |lab| followed(lab, &PUNTING, |_| Ok(())));
}

#[test]
fn a_gateway_that_changes_its_address_in_silence_is_found_again_by_workers() {
    let launch = Launch::of(Tier::AfXdp);
    in_lab(Topology::TwoArmed, |lab| followed(lab, &launch, |_| Ok(())));
}

#[test]
fn a_gateway_that_is_replaced_by_another_is_followed() {
    in_lab(Topology::TwoArmed, |lab| {
        let relay = started(lab, &PUNTING)?;
        let mut talks = behind_the_gateway(lab, &relay)?;
        // The same host by a second address: to the relay, another gateway.
        lab.run(Host::Peer, &["ip", "address", "add", "44.128.2.3/24", "dev", "eth0"])?;
        lab.run(Host::Peer, &["ip", "address", "add", "2e00:44:2::3/64", "dev", "eth0", "nodad"])?;
        lab.run(Host::Peer, &["ip", "link", "set", "eth0", "address", NEW_MAC])?;
        lab.run(Host::Relay, &["ip", "route", "replace", "44.128.9.0/24", "via", "44.128.2.3"])?;
        lab.run(Host::Relay, &["ip", "route", "replace", "2e00:44:9::/64", "via", "2e00:44:2::3"])?;
        talks.iter_mut().try_for_each(|talk| flows_as_frames_again(talk, &relay))
    });
}

#[test]
fn a_link_that_goes_and_comes_back_is_used_again() {
    in_lab(Topology::TwoArmed, |lab| {
        let relay = started(lab, &PUNTING)?;
        let mut talk = Talk::set_up(lab, Family::V4, Family::V4)?;
        talk.warm_up(&relay)?;
        lab.run(Host::Peer, &["ip", "link", "set", "eth0", "down"])?;
        ensure!(!talk.call.gets_through(Direction::ToPeer)?, "who carried it?");
        lab.run(Host::Peer, &["ip", "link", "set", "eth0", "up"])?;
        flows_as_frames_again(&mut talk, &relay)
    });
}

#[test]
fn the_relays_own_new_address_is_used_at_once() {
    for topology in Topology::ALL {
        in_lab(topology, |lab| {
            let relay = started(lab, &PUNTING)?;
            let mut talk = Talk::set_up(lab, Family::V4, Family::V6)?;
            talk.warm_up(&relay)?;
            let device = lab.towards_peer();
            lab.run(Host::Relay, &["ip", "link", "set", device, "address", NEW_MAC])?;
            for host in [Host::Client, Host::Peer] {
                lab.run(host, &["ip", "neighbour", "flush", "dev", "eth0"])?;
            }
            flows_as_frames_again(&mut talk, &relay)?;
            let wires = Wires::open(lab)?;
            let peer = talk.other.local_addr()?;
            for way in ["channel", "indication"] {
                match way {
                    "channel" => talk.call.send(Direction::ToPeer, way.as_bytes())?,
                    _ => talk.call.client.send_indication(peer, way.as_bytes())?,
                }
                let ours = |packet: &Packet| packet.payload == way.as_bytes();
                let (_, packet) = wires.far(Direction::ToPeer).find(way, SOON, ours)?;
                let macs = (packet.from, packet.to);
                ensure!(macs == wires.far_macs(Direction::ToPeer), "{packet:?}");
            }
            Ok(())
        });
    }
}

/// Calls to the peer's far addresses, while the gateway's own Ethernet address changes.
fn followed(lab: &Lab, launch: &Launch, after_change: impl Fn(&Lab) -> Result<()>) -> Result<()> {
    probe_often(lab)?;
    let relay = started(lab, launch)?;
    let mut talks = behind_the_gateway(lab, &relay)?;
    lab.run(Host::Peer, &["ip", "link", "set", "eth0", "address", NEW_MAC])?;
    after_change(lab)?;
    talks.iter_mut().try_for_each(|talk| flows_as_frames_again(talk, &relay))
}

/// Channels and indications, which have next hops of their own.
fn behind_the_gateway(lab: &Lab, relay: &RelayUnderTest) -> Result<Vec<Talk>> {
    let talk = |family: Family| {
        let sockets = lab.many_udp(Host::Peer, family.far_peer(), 2)?;
        let [peer, other] = sockets.try_into().map_err(|_| anyhow!("two were asked for"))?;
        let call = Call::with_peer(lab, Family::V4, family, peer)?;
        other.connect(call.relayed)?;
        let mut talk = Talk { call, other };
        talk.call.warm_up(relay)?;
        talk.warm_up(relay)?;
        Ok(talk)
    };
    Family::ALL.into_iter().map(talk).collect()
}

fn flows_as_frames_again(talk: &mut Talk, relay: &RelayUnderTest) -> Result<()> {
    wait::until("the next hop is found again", 3 * SOON, || {
        let before = relay.forwarded(Direction::ToPeer)?;
        let through = talk.call.gets_through(Direction::ToPeer)?;
        Ok((through && relay.forwarded(Direction::ToPeer)? > before).then_some(()))
    })?;
    // the way back, too: the peer's host may have to ask for the relay's address first
    talk.call.warm_up(relay)?;
    talk.call.loses_nothing(relay, COUNT)?;
    talk.warm_up(relay).context("indications")
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
