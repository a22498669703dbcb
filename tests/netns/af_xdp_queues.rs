//! Several queues: two workers, or one with two; and queues that come and go with what they belong to.

use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::Call;
use turnwire_tests::faults::StoppedThread;
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, Launch, RelayUnderTest, Tier};
use turnwire_tests::traffic::Outcome;
use turnwire_tests::wait::{self, SOON};

use crate::af_xdp::{CHANGES, changes, has_queues};

/// Calls until both queues have carried both ways: each is on either queue by a hash.
const CALLS_MAX: usize = 64;

fn by_workers(options: &'static [&'static str]) -> Launch<'static> {
    Launch { options, ..Launch::of(Tier::AfXdp) }
}

const ONE: &[&str] = &["--af-xdp", "copy", "--xdp-forward", "workers", "--cores", "0"];
const TWO: &[&str] = &["--af-xdp", "copy", "--xdp-forward", "workers", "--cores", "0,1"];

/// Veths have as many queues as there are processors.
fn has_two_cores() -> bool {
    let two = available_parallelism().is_ok_and(|cores| cores.get() >= 2);
    if !two {
        eprintln!("skipped: two queues need two processors");
    }
    two
}

/// A relay with these options, whose two interfaces have two queues each.
fn with_four_queues(
    options: &'static [&'static str],
    test: impl FnOnce(&Lab, RelayUnderTest) -> Result<()>,
) {
    if !has_two_cores() {
        return;
    }
    in_lab(Topology::TwoArmed, |lab| {
        lab.raise_queues(2)?;
        let relay = RelayUnderTest::launch(lab, &by_workers(options))?;
        has_queues(&relay, 4)?;
        test(lab, relay)
    });
}

#[test]
fn one_worker_serves_two_queues_of_two_interfaces_from_one_memory() {
    with_four_queues(ONE, |lab, relay| {
        calls_until_both_queues_carry(lab, &relay)?;
        wait::until("no frame is held, and all are there", SOON, || {
            let [free, held, all] = memory(&relay)?;
            // four queues, each with a fill ring and a tx ring of 1024, and a burst
            Ok((held == 0 && all == 4 * 2048 + 64 && free > 0).then_some(()))
        })
    });
}

/// A client's datagrams and its peer's come by queues that know nothing of each other: half of the
/// time to a worker that does not own the relay port.
#[test]
fn two_workers_serve_a_queue_each_whosever_relay_port_it_is() {
    with_four_queues(TWO, |lab, relay| {
        calls_until_both_queues_carry(lab, &relay)?;
        for worker in ["0", "1"] {
            let carried = forwarded(&relay, worker)?;
            ensure!(carried > 0, "worker {worker} carried nothing");
        }
        Ok(())
    });
}

fn calls_until_both_queues_carry(lab: &Lab, relay: &RelayUnderTest) -> Result<()> {
    for number in 0..CALLS_MAX {
        let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
        call.warm_up(relay)?;
        call.loses_nothing(relay, 32).with_context(|| format!("call {number}"))?;
        call.exchanges_indications(lab, 3).with_context(|| format!("call {number}"))?;
        let mut all = true;
        for device in [lab.towards_client(), lab.towards_peer()] {
            for queue in 0..2 {
                all &= carried(lab, device, queue)?;
            }
        }
        if all && number >= 3 {
            return Ok(());
        }
    }
    anyhow::bail!("{CALLS_MAX} calls, and none by some queue")
}

/// Frames that the program on the relay's `device` had from `queue`, or none.
fn carried(lab: &Lab, device: &str, queue: u32) -> Result<bool> {
    let counters = lab.run(Host::Relay, &["ethtool", "-S", device])?;
    let name = format!("rx_queue_{queue}_xdp_packets: ");
    let count = counters.lines().find_map(|line| line.trim().strip_prefix(&name));
    Ok(count.context("a veth counts its frames")?.parse::<u64>()? > 64)
}

/// A worker that does not run keeps nobody waiting but the flows of its own queues.
#[test]
fn a_worker_that_stands_still_does_not_stop_the_other() {
    with_four_queues(TWO, |lab, relay| {
        let mut calls: [Option<Call>; 2] = [None, None];
        for _ in 0..CALLS_MAX {
            let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
            call.warm_up(&relay)?;
            if let Some(worker) = both_ways_by(&relay, &mut call)? {
                calls[worker] = Some(call);
            }
            if calls.iter().all(Option::is_some) {
                break;
            }
        }
        let [Some(first), Some(second)] = &mut calls else {
            anyhow::bail!("no call by some worker")
        };

        let stopped = StoppedThread::stop(relay.pid(), "turnwire-w0")?;
        second.loses_nothing(&relay, 64).context("beside a worker that stands still")?;
        ensure!(!first.gets_through(Direction::ToPeer)?, "it does not stand still");
        drop(stopped);

        first.warm_up(&relay)?;
        first.loses_nothing(&relay, 64).context("when it goes on")?;
        second.loses_nothing(&relay, 64)
    });
}

/// The worker that carries a call both ways, if one does.
fn both_ways_by(relay: &RelayUnderTest, call: &mut Call) -> Result<Option<usize>> {
    let before = [forwarded(relay, "0")?, forwarded(relay, "1")?];
    call.loses_nothing(relay, 8)?;
    let more = [forwarded(relay, "0")? - before[0], forwarded(relay, "1")? - before[1]];
    Ok(more.iter().position(|count| *count >= 16).filter(|_| more.contains(&0)))
}

fn forwarded(relay: &RelayUnderTest, worker: &str) -> Result<u64> {
    let labels = [("worker", worker), ("way", "forwarded")];
    Ok(relay.metrics()?.sum("turnwire_af_xdp_frames_total", &labels))
}

/// Frames of all memories: free, held, and in all.
fn memory(relay: &RelayUnderTest) -> Result<[u64; 3]> {
    let metrics = relay.metrics()?;
    let of = |labels: &[(&str, &str)]| metrics.sum("turnwire_af_xdp_memory_frames", labels);
    Ok([of(&[("place", "free")]), of(&[("place", "held")]), of(&[])])
}

/// More queues while datagrams pass; fewer only when the relay has let go of them, as it does when
/// the interface goes down: the kernel refuses to take a queue away that an AF_XDP socket has. A
/// veth's new queues run no program until it has been down, so sockets have what comes by them.
#[test]
fn queues_follow_the_interface_up_and_down() {
    if !has_two_cores() {
        return;
    }
    in_lab(Topology::TwoArmed, |lab| {
        let relay = RelayUnderTest::launch(lab, &by_workers(ONE))?;
        has_queues(&relay, 2)?;
        let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
        call.warm_up(&relay)?;
        let opened = changes(&relay, "opened")?;

        // a veth whose queues change has no carrier for a moment
        lab.raise_queues(2)?;
        for direction in Direction::ALL {
            wait::until(&format!("a way {direction:?}"), SOON, || {
                Ok(call.gets_through(direction)?.then_some(()))
            })?;
        }
        wait::until("all four queues are open", CHANGES, || {
            for direction in Direction::ALL {
                let outcome = call.traffic(direction, 16)?;
                ensure!(
                    outcome == Outcome::perfect(16),
                    "{direction:?}, as queues come: {outcome:?}"
                );
            }
            let reopened = changes(&relay, "opened")? > opened;
            let queues = relay.metrics()?.sum("turnwire_af_xdp_queues", &[]);
            Ok((reopened && queues == 4).then_some(()))
        })?;
        let log = relay.log();
        ensure!(log.contains("can be had"), "the log does not say which queues are new:\n{log}");

        // down, fewer, and up
        let (client, peer) = (lab.towards_client(), lab.towards_peer());
        lab.run(Host::Peer, &["ethtool", "-L", "eth0", "tx", "1"])?;
        for device in [client, peer] {
            lab.run(Host::Relay, &["ip", "link", "set", "dev", device, "down"])?;
        }
        has_queues(&relay, 0)?;
        wait::until("the kernel takes a queue away", CHANGES, || {
            Ok(lab.run(Host::Relay, &["ethtool", "-L", peer, "rx", "1"]).ok())
        })?;
        for device in [client, peer] {
            lab.run(Host::Relay, &["ip", "link", "set", "dev", device, "up"])?;
        }
        has_queues(&relay, 3)?;
        call.warm_up(&relay)?;
        call.loses_nothing(&relay, 64)
    });
}
