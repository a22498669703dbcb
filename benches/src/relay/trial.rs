//! One trial: send, count at four points, and void what does not add up.
//!
//! ```text
//!  generator --sent--> [ring] --in--> relay --out--> [ring] --received--> sink
//! ```

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use traffic::{Offer, Place, Traffic};

use super::server::{Server, cpu_of};
use super::site::{FAR_CORE, Side, Site, kernel_threads};

/// Frames that are not ours: answers to clients, neighbour discovery.
const STRAYS: u64 = 100;
/// Share of what was due that the generator may skip, having come too late.
const SKIPPED_MAX: f64 = 0.1;

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// The four points.
    pub(crate) sent: u64,
    pub(crate) entered: u64,
    pub(crate) left: u64,
    pub(crate) received: u64,
    /// Due but skipped by a generator that was held up.
    pub(crate) skipped: u64,
    pub(crate) seconds: f64,
    /// CPU time of the relay's process, and of its interfaces' NAPI threads.
    pub(crate) process_seconds: f64,
    pub(crate) napi_seconds: f64,
}

impl Outcome {
    /// Packets a second that arrived.
    pub(crate) fn rate(&self) -> f64 {
        self.received as f64 / self.seconds
    }

    /// Share of what was sent that did not arrive.
    pub(crate) fn loss(&self) -> f64 {
        1.0 - self.received as f64 / self.sent.max(1) as f64
    }

    /// Why this trial says nothing about the relay.
    pub(crate) fn void(&self) -> Option<String> {
        let points = [self.sent, self.entered, self.left, self.received];
        if points.windows(2).any(|pair| pair[1] > pair[0] + STRAYS) {
            return Some(format!("the counts do not add up: {points:?}"));
        }
        let due = (self.sent + self.skipped) as f64;
        if self.sent == 0 || self.skipped as f64 > SKIPPED_MAX * due {
            return Some(format!("the generator came too late: {} of {due}", self.skipped));
        }
        None
    }
}

/// What can be read at any time.
struct Reading {
    received: u64,
    wrong: u64,
    entered: u64,
    left: u64,
    process: u64,
    napi: u64,
}

/// Where trials are made.
pub(crate) struct Bench<'a> {
    pub(crate) site: &'a Site,
    pub(crate) traffic: &'a Traffic,
    /// The process, if the subject is one.
    pub(crate) server: Option<Server>,
    /// Whether an XDP program does the work.
    pub(crate) in_kernel: bool,
}

impl Bench<'_> {
    /// Sends for `time`, lets the queues run empty, and counts.
    pub(crate) fn trial(&mut self, offer: Offer, time: Duration) -> Result<Outcome> {
        let before = self.read()?;
        let place = Place { core: Some(FAR_CORE), rank: Some(1) };
        let traffic = self.traffic;
        let sent = Side::Far.inside(|| traffic.send(offer, time, place))?;
        let after = self.settled()?;
        ensure!(
            after.wrong == before.wrong,
            "{} frames arrived with wrong bytes",
            after.wrong - before.wrong
        );
        Ok(Outcome {
            sent: sent.packets.iter().sum(),
            entered: after.entered - before.entered,
            left: after.left - before.left,
            received: after.received - before.received,
            skipped: sent.skipped,
            seconds: sent.time.as_secs_f64(),
            process_seconds: (after.process - before.process) as f64 / 1e9,
            napi_seconds: (after.napi - before.napi) as f64 / 1e9,
        })
    }

    /// A reading once nothing moves any more.
    fn settled(&mut self) -> Result<Reading> {
        let mut last = self.read()?;
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(15));
            let next = self.read()?;
            if next.received == last.received {
                return Ok(next);
            }
            last = next;
        }
        Ok(last)
    }

    fn read(&mut self) -> Result<Reading> {
        let received = self.traffic.received()?;
        let in_kernel = self.in_kernel;
        let (entered, left) = Side::Relay.inside(move || {
            let entered = interfaces()?;
            Ok((entered, if in_kernel { forwarded_by_xdp()? } else { datagrams_out()? }))
        })?;
        let task = |pid| PathBuf::from(format!("/proc/{pid}"));
        let napi = kernel_threads("napi/arm")?.into_iter().map(|pid| cpu_of(&task(pid))).sum();
        Ok(Reading {
            received: received.right.iter().sum(),
            wrong: received.wrong,
            entered,
            left,
            process: self.server.as_mut().map_or(Ok(0), Server::cpu)?,
            napi,
        })
    }
}

/// Frames that the relay's interfaces took from their rings.
fn interfaces() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    let packets = text.lines().filter_map(|line| {
        let (name, counters) = line.split_once(':')?;
        let packets = counters.split_whitespace().nth(1)?;
        name.trim().starts_with("arm").then(|| packets.parse::<u64>().ok())?
    });
    Ok(packets.sum())
}

/// Frames that the relay's interfaces sent or redirected by an XDP program.
fn forwarded_by_xdp() -> Result<u64> {
    let mut sum = 0;
    for arm in ["arm0", "arm1"] {
        // one of them may not be there
        let output = std::process::Command::new("ethtool").args(["-S", arm]).output()?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Some((name, value)) = line.trim().split_once(": ") else { continue };
            if name.ends_with("_xdp_tx") || name.ends_with("_xdp_redirect") {
                sum += value.parse::<u64>()?;
            }
        }
    }
    Ok(sum)
}

/// UDP datagrams that sockets of the relay's namespace sent.
fn datagrams_out() -> Result<u64> {
    let four = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
    let mut udp = four.lines().filter(|line| line.starts_with("Udp: ")).map(str::split_whitespace);
    let (names, values) = (udp.next(), udp.next());
    let mut pairs = names.into_iter().flatten().zip(values.into_iter().flatten());
    let four = pairs.find(|(name, _)| *name == "OutDatagrams");
    let six = std::fs::read_to_string("/proc/thread-self/net/snmp6")?;
    let six = six.lines().find_map(|line| line.strip_prefix("Udp6OutDatagrams"));
    let number =
        |text: Option<&str>| text.and_then(|text| text.trim().parse().ok()).unwrap_or(0u64);
    Ok(number(four.map(|(_, value)| value)) + number(six))
}

/// What the search found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Carried {
    /// Packets a second that arrived at the highest rate with at most 0.1 % loss.
    pub(crate) most: f64,
    /// And with none.
    pub(crate) lossless: f64,
    /// Most that arrived in any trial, however much was lost.
    pub(crate) delivered: f64,
    /// Trials made, and those that were void.
    pub(crate) trials: u32,
    pub(crate) voids: u32,
    /// The generator reached its own limit first: `most` is a lower bound.
    pub(crate) generator_limited: bool,
}

/// How the search goes about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    /// Where to start, packets a second.
    pub(crate) first: f64,
    /// How long each trial sends.
    pub(crate) time: Duration,
    /// Bisections after the first failure.
    pub(crate) steps: u32,
}

const LOSS_MAX: f64 = 0.001;
const RATE_MAX: f64 = 6_000_000.0;

impl Search {
    /// The highest offered rate with at most 0.1 % loss: up by a half until one fails, then
    /// bisection. Of all trials, the highest rate without any loss is kept too.
    ///
    /// A rate counts as carried if one of two trials carries it: the machine's other work
    /// interrupts now and then, and a relay cannot be better by luck.
    pub(crate) fn run(&self, bench: &mut Bench<'_>) -> Result<Carried> {
        let mut found = Carried::default();
        let (mut low, mut high, mut rate) = (0.0, f64::INFINITY, self.first);
        let mut steps = 0;
        while steps < self.steps && rate < RATE_MAX {
            if self.carries(bench, &mut found, rate)? {
                low = rate;
            } else {
                high = rate;
            }
            if high.is_finite() {
                rate = (low + high) / 2.0;
                steps += 1;
            } else {
                rate *= 1.5;
            }
        }
        Ok(found)
    }

    fn carries(&self, bench: &mut Bench<'_>, found: &mut Carried, rate: f64) -> Result<bool> {
        let mut voids = 0;
        for _ in 0..2 {
            let outcome = bench.trial(Offer::Rate(rate), self.time)?;
            found.trials += 1;
            if outcome.void().is_some() {
                voids += 1;
                continue;
            }
            found.delivered = found.delivered.max(outcome.rate());
            if outcome.received == outcome.sent {
                found.lossless = found.lossless.max(outcome.rate());
            }
            if outcome.loss() <= LOSS_MAX {
                found.most = found.most.max(outcome.rate());
                found.generator_limited = false;
                return Ok(true);
            }
        }
        found.voids += voids;
        found.generator_limited = voids == 2;
        Ok(false)
    }
}
