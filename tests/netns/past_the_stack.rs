//! What README says goes past the host's stack: its packet filter and its packet sockets neither see
//! nor hold up what is forwarded in front of it, and have all that sockets carry.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::{Call, Wires};
use turnwire_tests::frame::Packet;
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, RelayUnderTest, Tier};
use turnwire_tests::wait::{self, SOON};

/// Datagrams each way.
const TRIES: usize = 4;
const QUIET: Duration = Duration::from_millis(200);

#[test]
fn the_packet_filter_and_captures_have_nothing_of_what_goes_past_the_stack() {
    for tier in [Tier::Native, Tier::Generic, Tier::AfXdp] {
        in_lab(Topology::TwoArmed, |lab| {
            let relay = RelayUnderTest::start(lab, tier)?;
            let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
            call.warm_up(&relay)?;
            let wires = Wires::open(lab)?;
            filter(lab, call.relayed.port())?;
            // sockets may still have had the first ones, and of good datagrams they have one in 65,536
            wait::until("all get through, unseen and unhindered", SOON, || {
                let seen = pass(lab, &mut call, &wires)?;
                Ok((seen == Seen { through: 2 * TRIES, ..Seen::default() }).then_some(()))
            })
            .with_context(|| format!("{tier:?}"))
        });
    }
}

#[test]
fn the_packet_filter_and_captures_have_all_of_what_sockets_carry() {
    in_lab(Topology::TwoArmed, |lab| {
        let relay = RelayUnderTest::start(lab, Tier::Sockets)?;
        let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
        call.warm_up(&relay)?;
        let wires = Wires::open(lab)?;
        filter(lab, call.relayed.port())?;
        let seen = pass(lab, &mut call, &wires)?;
        ensure!(seen.through == 0 && seen.dropped > 0 && seen.captured > 0, "{seen:?}");
        Ok(())
    });
}

/// What became of datagrams both ways, some each.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    through: usize,
    dropped: u64,
    captured: usize,
}

fn pass(lab: &Lab, call: &mut Call, wires: &Wires) -> Result<Seen> {
    let before = dropped(lab)?;
    let mut seen = Seen::default();
    for direction in Direction::ALL {
        let captures = wires.relays_kernel(direction);
        captures.forget()?;
        for _ in 0..TRIES {
            seen.through += usize::from(call.gets_through(direction)?);
        }
        let (from, to) = match direction {
            Direction::ToPeer => (call.client.address()?, call.listener),
            Direction::ToClient => (call.peer.local_addr()?, call.relayed),
        };
        let ours = |packet: &Packet| packet.source == from && packet.destination == to;
        seen.captured += captures.collect(QUIET, ours)?.len();
    }
    seen.dropped = dropped(lab)? - before;
    Ok(seen)
}

/// Drops what comes to this relay port, and what leaves by it.
fn filter(lab: &Lab, port: u16) -> Result<()> {
    let rules = format!(
        "add table ip hold
         add chain ip hold in {{ type filter hook prerouting priority 0; }}
         add chain ip hold out {{ type filter hook output priority 0; }}
         add rule ip hold in udp dport {port} counter drop
         add rule ip hold out udp sport {port} counter drop\n"
    );
    let file = lab.scratch().join("hold.nft");
    std::fs::write(&file, rules)?;
    let file = file.to_str().context("a path in UTF-8")?;
    lab.run(Host::Relay, &["nft", "-f", file]).map(|_| ())
}

fn dropped(lab: &Lab) -> Result<u64> {
    let rules = lab.run(Host::Relay, &["nft", "list", "table", "ip", "hold"])?;
    let counts = rules.split("packets ").skip(1).filter_map(|rest| rest.split(' ').next());
    counts.map(|count| count.parse::<u64>().context("a count")).sum()
}
