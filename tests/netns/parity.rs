//! The same 100,000 datagrams through three relays, which differ in nothing but their tier: what comes
//! out at the far ends is the same.
//!
//! ```text
//!                    ┌─> lab, relay by the XDP program ─> what came out of each window ─┐
//!   seed ─> frames ──┼─> lab, relay by AF_XDP          ─> ...                           ├─> the same?
//!                    └─> lab, relay by sockets         ─> ...                           ┘
//! ```
//!
//! Frames go in and come out by packet sockets, a window at a time: the next leaves when all of the last
//! that is to come out has come out, so that no queue runs over. What is compared, and what is not, is
//! said in `seen`.

mod generated;
mod parts;
mod seen;
mod stand;

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use turnwire_tests::lab::{Topology, in_lab};
use turnwire_tests::namespace;
use turnwire_tests::random::Random;
use turnwire_tests::relay::{Direction, Launch, RelayUnderTest, Tier};

use generated::{Generator, Sent};
use seen::{Out, difference};
use stand::Stand;

const COUNT: u32 = 100_000;
/// Datagrams under way at a time. A veth holds 256 frames, a relay port's socket about 50 datagrams
/// at least, and these spread over two dozen flows and both directions.
const WINDOW: usize = 64;
const TIERS: [Tier; 3] = [Tier::Native, Tier::AfXdp, Tier::Sockets];
/// Datagrams that each tier must have forwarded by itself, for the comparison to mean anything.
const BY_TIER_MIN: u64 = 40_000;

/// What came out of each window.
type Run = Vec<Vec<Out>>;

#[test]
fn a_hundred_thousand_datagrams_come_out_alike_by_xdp_af_xdp_and_sockets() {
    if !namespace::is_root() {
        eprintln!("skipped: labs of network namespaces need root (CAP_SYS_ADMIN)");
        return;
    }
    let windows = windows(Random::replayable(20_261_121));
    let runs = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for (at, tier) in TIERS.into_iter().enumerate() {
            let (windows, runs) = (&windows, &runs);
            scope.spawn(move || {
                in_lab(Topology::TwoArmed, |lab| {
                    let stand = Stand::set_up(lab, &Launch::of(tier))?;
                    let run = run(&stand, windows).with_context(|| format!("{tier:?}"))?;
                    assert_by_tier(&stand.relay)?;
                    runs.lock().expect("nobody panics holding it").insert(at, run);
                    Ok(())
                });
            });
        }
    });
    let runs: Vec<Run> =
        runs.into_inner().expect("nobody panicked holding it").into_values().collect();
    for (tier, run) in TIERS.into_iter().zip(&runs).skip(1) {
        for (number, outs) in runs[0].iter().zip(run).enumerate() {
            if let Some(words) = difference([TIERS[0], tier], [outs.0, outs.1]) {
                panic!("window {number}: {words}");
            }
        }
    }
}

fn windows(random: Random) -> Vec<Vec<Sent>> {
    let mut generator = Generator::new(random);
    let mut left = COUNT as usize;
    let mut windows = Vec::new();
    while left > 0 {
        let size = WINDOW.min(left);
        windows.push(generator.window(size));
        left -= size;
    }
    let all = || windows.iter().flatten();
    let out = all().filter(|sent| sent.out.is_some()).count();
    println!("{} datagrams, {out} of them to come out", all().count());
    // The generator must reach what it is meant to reach.
    for direction in Direction::ALL {
        let out = all().filter(|sent| sent.out == Some(direction)).count();
        assert!(out > 20_000, "only {out} come out {direction:?}");
    }
    assert!(COUNT as usize - out > 10_000, "only {out} of {COUNT} are refused");
    windows
}

/// Sends all windows and collects what comes out.
fn run(stand: &Stand<'_>, windows: &[Vec<Sent>]) -> Result<Run> {
    let mut all = Vec::with_capacity(windows.len());
    for (number, window) in windows.iter().enumerate() {
        for sent in window {
            for frame in stand.frames(sent) {
                stand.wires.near(sent.direction).send(&frame)?;
            }
        }
        let mut outs = Vec::with_capacity(window.len());
        for direction in Direction::ALL {
            let wanted = window.iter().filter(|sent| sent.out == Some(direction)).count();
            let taken = seen::take(stand, direction, wanted, &mut outs);
            taken.with_context(|| told(number, direction, window, &outs)).with_context(|| {
                stand.relay.metrics().map_or_else(|error| error.to_string(), |all| all.counted())
            })?;
        }
        outs.sort();
        all.push(outs);
    }
    // whatever comes out beyond that
    if let Some(last) = all.last_mut() {
        seen::take_rest(stand, last)?;
    }
    Ok(all)
}

/// What did not come out that was to, as far as numbers tell.
fn told(number: usize, direction: Direction, window: &[Sent], outs: &[Out]) -> String {
    let missing = window.iter().filter(|sent| {
        let came = |number: &[u8; 4]| outs.iter().any(|out| out.carries(number));
        sent.out == Some(direction) && !sent.number.as_ref().is_some_and(came)
    });
    let missing: Vec<_> = missing.map(Sent::summary).collect();
    format!("window {number}, {direction:?}: not seen, or without a number: {missing:#?}")
}

/// Most of it went the way that is tested.
fn assert_by_tier(relay: &RelayUnderTest<'_>) -> Result<()> {
    let forwarded = Direction::ALL.map(|direction| relay.forwarded(direction));
    let mut sum = 0;
    for count in forwarded {
        sum += count?;
    }
    println!("{sum} forwarded by {:?}", relay.tier());
    ensure!(sum >= BY_TIER_MIN, "only {sum} were forwarded by {:?}", relay.tier());
    Ok(())
}
