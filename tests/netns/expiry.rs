//! A relay whose process stands still: the kernel's program goes on, until the channel's expiry, and
//! not after it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::{Call, Wires};
use turnwire_tests::client::Client;
use turnwire_tests::faults::StoppedThread;
use turnwire_tests::frame::Packet;
use turnwire_tests::lab::{Family, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, Launch, RelayUnderTest, Tier};
use turnwire_tests::traffic::Outcome;
use turnwire_tests::wait::{SOON, Stopwatch};

use crate::af_xdp::{PUNTING, started};
use crate::indications::Talk;

/// Of the allocation, and so of its channels: with the 600 s of RFC 8656 this test would take ten
/// minutes.
const LIFETIME: Duration = Duration::from_secs(45);
const SHORT_LIVED: [&str; 2] = ["--allocation-lifetime", "45"];
/// Around the expiry, nothing is asserted: the answer's way, and the coarseness of both clocks.
const SLACK: Duration = Duration::from_secs(3);
const COUNT: u32 = 64;
/// Each takes 300 ms at most.
const TRIES: usize = 20;
const LATE: &[u8] = b"too late";
const QUIET: Duration = Duration::from_millis(500);

/// At the same time, as each waits for most of a minute.
#[test]
fn channel_data_goes_on_by_xdp_until_its_expiry_and_by_nothing_after_it() {
    std::thread::scope(|scope| {
        scope.spawn(|| in_lab(Topology::TwoArmed, |lab| goes_on_until_expiry(lab, Tier::Native)));
        for launch in [PUNTING, Launch::of(Tier::AfXdp)] {
            scope.spawn(move || {
                in_lab(Topology::TwoArmed, |lab| ends_by_itself(lab, &launch));
            });
        }
    });
}

#[test]
fn sockets_stop_with_the_process_and_go_on_with_it() {
    in_lab(Topology::TwoArmed, |lab| {
        let mut relay = RelayUnderTest::start(lab, Tier::Sockets)?;
        let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
        call.warm_up(&relay)?;
        relay.pause()?;
        for direction in Direction::ALL {
            ensure!(!call.gets_through(direction)?, "{direction:?}: who carried it?");
        }
        relay.resume()?;
        call.warm_up(&relay)?;
        call.loses_nothing(&relay, COUNT)
    });
}

/// The control thread alone stands still. Workers go on until the expiry, and not after it, and what
/// comes meanwhile is not relayed late.
fn ends_by_itself(lab: &Lab, launch: &Launch) -> Result<()> {
    let options = [launch.options, &SHORT_LIVED[..]].concat();
    let mut relay = started(lab, &Launch { options: &options, ..*launch })?;
    let before_binding = Stopwatch::start();
    let mut talk = Talk::set_up(lab, Family::V4, Family::V6)?;
    let after_binding = Stopwatch::start();
    talk.call.warm_up(&relay)?;
    talk.warm_up(&relay)?;
    let control = StoppedThread::stop(relay.pid(), "turnwire")?;
    let peer = talk.other.local_addr()?;
    while after_binding.elapsed() < LIFETIME + SLACK {
        for direction in Direction::ALL {
            // one may be late itself, on a busy machine
            let mut through = false;
            for _ in 0..TRIES {
                through = through || talk.call.gets_through(direction)?;
            }
            let late = before_binding.elapsed() + SLACK >= LIFETIME;
            ensure!(through || late, "{direction:?}: not relayed");
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let wires = Wires::open(lab)?;
    for _ in 0..4 {
        Direction::ALL.into_iter().try_for_each(|way| talk.call.send(way, LATE))?;
        talk.call.client.send_indication(peer, LATE)?;
        talk.other.send(LATE)?;
    }
    nothing_is_late(&wires).context("while the control thread stands still")?;
    drop(control);
    Client::new(lab, Family::V4)?.binding(SOON)?;
    nothing_is_late(&wires).context("when it goes on")?;
    relay.must_be_running()
}

fn nothing_is_late(wires: &Wires) -> Result<()> {
    for direction in Direction::ALL {
        let late = |packet: &Packet| packet.payload.windows(LATE.len()).any(|bytes| bytes == LATE);
        let late = wires.far(direction).collect(QUIET, late)?;
        ensure!(late.is_empty(), "{direction:?}: {late:?}");
    }
    Ok(())
}

fn goes_on_until_expiry(lab: &Lab, tier: Tier) -> Result<()> {
    let launch = Launch { options: &SHORT_LIVED, ..Launch::of(tier) };
    let mut relay = RelayUnderTest::launch(lab, &launch)?;
    let mut calls = Vec::new();
    let before_binding = Stopwatch::start();
    for outer in Family::ALL {
        for inner in Family::ALL {
            calls.push(Call::set_up(lab, outer, inner)?);
        }
    }
    let after_binding = Stopwatch::start();
    for call in &mut calls {
        call.warm_up(&relay)?;
    }

    relay.pause()?;
    while after_binding.elapsed() + SLACK < LIFETIME {
        for call in &mut calls {
            for direction in Direction::ALL {
                let outcome = call.traffic(direction, COUNT)?;
                let elapsed = before_binding.elapsed();
                let late = elapsed + SLACK >= LIFETIME;
                ensure!(
                    late || outcome == Outcome::perfect(COUNT),
                    "{direction:?}, {elapsed:?} after binding: {outcome:?}"
                );
            }
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    while after_binding.elapsed() < LIFETIME + SLACK {
        std::thread::sleep(Duration::from_millis(100));
    }
    for call in &mut calls {
        for direction in Direction::ALL {
            ensure!(!call.gets_through(direction)?, "{direction:?}: relayed after its expiry");
        }
    }
    // The kernel's sockets kept what came while the process stood still: none of it is relayed late.
    relay.resume()?;
    for call in &mut calls {
        for direction in Direction::ALL {
            ensure!(!call.gets_through(direction)?, "{direction:?}: relayed after all");
        }
    }
    relay.must_be_running()
}
