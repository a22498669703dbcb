//! A host whose network configuration never rests: containers come and go, and with them interfaces.
//! The kernel has one lock for all that, and clients must not wait for it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use turnwire_tests::client::Client;
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::process::Process;
use turnwire_tests::relay::{RelayUnderTest, Tier};
use turnwire_tests::rtnl::Rtnl;
use turnwire_tests::wait::{Deadline, SOON, Stopwatch};

/// How long the lock is held at least: longer than the relay's own looks are apart.
const HELD: Duration = Duration::from_millis(2500);

#[test]
fn requests_are_answered_while_the_kernel_s_network_configuration_is_locked() {
    for tier in [Tier::Native, Tier::AfXdp] {
        in_lab(Topology::TwoArmed, |lab| answered_meanwhile(lab, tier));
    }
}

fn answered_meanwhile(lab: &Lab, tier: Tier) -> Result<()> {
    // given
    let relay = RelayUnderTest::start(lab, tier)?;
    let mut clients = (0..2).map(|_| Client::new(lab, Family::V4)).collect::<Result<Vec<_>>>()?;
    // when
    let Some(lock) = Rtnl::hold()? else { return Ok(()) };
    // then: also where the next hop is yet to be asked for, and at each of the relay's own looks
    let held = Deadline::after(HELD);
    for client in &mut clients {
        client.allocate(Family::V4)?;
    }
    let mut rounds = 0u16;
    while rounds < 3 || held.left().is_some() {
        for client in &mut clients {
            let stranger = SocketAddr::from(([44, 128, 2, 100 + (rounds % 100) as u8], 7000));
            client.bind(0x4000 + rounds, stranger)?;
            client.permit(stranger)?;
        }
        relay.metrics()?;
        rounds += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    lock.release()
}

/// Figures, and no verdict: `cargo test -p turnwire-tests --test netns -- --ignored churn --nocapture`.
#[test]
#[ignore = "measures for half a minute"]
fn how_long_requests_wait_while_interfaces_come_and_go() {
    for tier in [Tier::Native, Tier::AfXdp] {
        in_lab(Topology::TwoArmed, |lab| {
            let relay = RelayUnderTest::start(lab, tier)?;
            measure(lab, &relay, "at rest")?;
            let _churn = (0..2).map(|number| churn(lab, number)).collect::<Result<Vec<_>>>()?;
            measure(lab, &relay, "interfaces come and go")
        });
    }
}

/// Makes a namespace with 100 pairs of interfaces, and removes it with all in it, without an end.
fn churn(lab: &Lab, number: usize) -> Result<Process> {
    const SCRIPT: &str = "while :; do unshare --net sh -c \
        'i=0; while [ $i -lt 100 ]; do echo link add a$i up type veth peer name b$i; i=$((i+1)); \
        done | ip -batch -'; done";
    lab.start(Host::Peer, &format!("churn-{number}"), &["sh", "-c", SCRIPT])
}

fn measure(lab: &Lab, relay: &RelayUnderTest, what: &str) -> Result<()> {
    const ROUNDS: u16 = 200;
    let (mut allocating, mut binding) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let mut client = Client::new(lab, Family::V4)?;
        let start = Stopwatch::start();
        client.allocate(Family::V4)?;
        allocating.push(start.elapsed());
        let stranger = SocketAddr::from(([44, 128, 2, 10 + round as u8], 7000));
        let start = Stopwatch::start();
        client.bind(0x4000, stranger)?;
        binding.push(start.elapsed());
        client.refresh(0)?;
        std::thread::sleep(Duration::from_millis(20));
    }
    for (request, mut times) in [("Allocate", allocating), ("ChannelBind", binding)] {
        times.sort_unstable();
        ensure!(times.last().is_some_and(|longest| *longest < SOON), "{times:?}");
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        let (median, late, longest) = (at(50), at(99), at(100));
        println!(
            "{:?}, {what}: {request} p50 {median:.1?}, p99 {late:.1?}, longest {longest:.1?}",
            relay.tier()
        );
    }
    Ok(())
}
