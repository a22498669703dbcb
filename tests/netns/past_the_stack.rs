//! What README says goes past the host's stack: its packet filter and its packet sockets neither see
//! nor hold up what is forwarded in front of it, and have all that sockets carry.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::{Call, Wires};
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, RelayUnderTest, Tier};
use turnwire_tests::wait::{self, SOON};

/// Datagrams each way.
const TRIES: usize = 4;
const QUIET: Duration = Duration::from_millis(200);

#[test]
fn the_packet_filter_and_captures_have_what_sockets_carry_and_nothing_else() {
    for (tier, past) in
        [(Tier::Native, true), (Tier::Generic, true), (Tier::AfXdp, true), (Tier::Sockets, false)]
    {
        in_lab(Topology::TwoArmed, |lab| {
            let relay = RelayUnderTest::start(lab, tier)?;
            let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
            call.warm_up(&relay)?;
            let wires = Wires::open(lab)?;
            filter(lab, call.relayed.port())?;
            for direction in Direction::ALL {
                for _ in 0..TRIES {
                    let through = call.gets_through(direction)?;
                    ensure!(through <= past, "{direction:?} by {tier:?} in spite of the filter");
                }
                if past {
                    wait::until("it gets through", SOON, || {
                        Ok(call.gets_through(direction)?.then_some(()))
                    })?;
                }
            }
            // of good datagrams, one in 65,536 is left to the stack for its checksum
            let labels = [("tier", "xdp"), ("reason", "unfinished_checksum")];
            let left = relay.metrics()?.sum("turnwire_refused_packets_total", &labels);
            let dropped = dropped(lab)?;
            ensure!(
                (dropped <= left) == past,
                "{tier:?}: the filter dropped {dropped}, {left} left"
            );
            for direction in Direction::ALL {
                let (from, to) = match direction {
                    Direction::ToPeer => (call.client.address()?, call.listener),
                    Direction::ToClient => (call.peer.local_addr()?, call.relayed),
                };
                let seen = wires
                    .relays_kernel(direction)
                    .collect(QUIET, |packet| packet.source == from && packet.destination == to)?;
                let few = seen.len() as u64 <= left;
                ensure!(few == past, "{tier:?}: {} were captured, {left} left", seen.len());
            }
            Ok(())
        });
    }
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
