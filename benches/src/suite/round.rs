//! One subject's turn: started, filled with calls, measured, ended.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use traffic::{Bare, BareLinks, Crossing, Offer, Traffic};

use super::calls;
use super::flows::Flows;
use super::plan::{Effort, Figures, LATENCY_AT, Scenario};
use super::record::{Cpu, Delay, Latency, Rate, Round};
use super::search::{Found, History, Limit, Search, Verdict};
use super::server::{Paths, Server};
use super::site::{Side, Site};
use super::subject::Subject;
use super::trial::{Bench, Outcome};
use crate::summary::{Samples, grouped};
use crate::{progress, sys};

/// Throughput is what is carried with so much loss at most.
const LOSS_MAX: f64 = 0.001;
/// Packets a second at which CPU time is compared.
const EQUAL_RATE: f64 = 50_000.0;
/// Times that sockets are filled and emptied, and datagrams for each of them: as many as a relay
/// port's buffer surely holds, frames of the generator being a page each.
const DRAINS: usize = 5;
const DRAINED_EACH: u16 = 64;
/// Datagrams a second with which they are filled.
const FILL_RATE: f64 = 400_000.0;
/// Trials of a rate at which latency is taken; if none counts, there is no latency.
const LATENCY_TRIES: usize = 3;
/// Void trials in a row that end a round.
const VOIDS_MAX: usize = 8;
/// Rates that are looked at, packets a second.
const BOUNDS: (f64, f64) = (2_000.0, 6_000_000.0);

/// What a turn needs.
pub(crate) struct Turn<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) scenario: &'a Scenario,
    pub(crate) site: &'a Site,
    pub(crate) paths: &'a Paths,
    pub(crate) effort: Effort,
    /// What the round before carried, packets a second.
    pub(crate) seed: Option<f64>,
}

/// A turn under way.
struct Measuring<'a> {
    turn: &'a Turn<'a>,
    flows: Flows,
    bench: Bench,
    bare: Option<BareLinks>,
    round: Round,
    voids: usize,
}

impl Turn<'_> {
    /// Takes it. Round 0 only looks for the rate.
    ///
    /// # Errors
    /// The subject does not start, ends, sends wrong bytes or delivers nothing at all.
    pub(crate) fn take(&self, number: usize) -> Result<Round> {
        let flows = Flows::new(self.scenario);
        let traffic = Traffic::open(&flows.scheme(self.site, false))?;
        let bench = Bench { traffic, server: None, calls: None, tag: 0 };
        let round = Round { number, ..Round::default() };
        let mut measuring = Measuring { turn: self, flows, bench, bare: None, round, voids: 0 };
        measuring.attach()?;
        measuring.start()?;
        if let Err(error) = measuring.all() {
            return Err(error.context(measuring.last_words()));
        }
        measuring.stop()?;
        Ok(measuring.round)
    }
}

impl Measuring<'_> {
    /// The sink, and what stands in the relay's place if that is a bare program.
    fn attach(&mut self) -> Result<()> {
        let Turn { subject, scenario, site, .. } = *self.turn;
        let traffic = &mut self.bench.traffic;
        Side::Far.inside(|| traffic.attach_sink(&site.far))?;
        if subject.is_bare() {
            let program = if scenario.arms == 2 { Bare::Redirect } else { Bare::Tx };
            self.bare = Some(Side::Relay.inside(|| traffic.attach_bare(program, &site.arms))?);
        }
        Ok(())
    }

    /// Starts the subject, and makes its calls.
    fn start(&mut self) -> Result<()> {
        let Turn { subject, site, paths, .. } = *self.turn;
        if !subject.is_bare() {
            site.set_threaded(false)?;
            self.bench.server = Some(Server::start(subject, site, paths)?);
        }
        if !subject.is_bare() && subject.abilities.turn {
            let calls = calls::set_up(&self.flows)
                .with_context(|| format!("setting calls up with {}", self.last_words()))?;
            self.bench.calls = Some(calls);
        }
        self.tell();
        Ok(())
    }

    /// Tells generator and sink the ports.
    fn tell(&self) {
        let Turn { subject, scenario, .. } = *self.turn;
        let crossing = match scenario.arms {
            _ if !subject.is_bare() => Crossing::Changed,
            2 => Crossing::Unchanged,
            _ => Crossing::Mirrored,
        };
        let channels = match &self.bench.calls {
            Some(calls) => calls.channels.clone(),
            None => calls::without_relay(&self.flows),
        };
        self.flows.tell(&self.bench.traffic, &channels, crossing);
    }

    /// From now on latencies are taken, which costs the sink some time.
    fn track(&mut self) -> Result<()> {
        if let Some(links) = self.bare.take() {
            self.bench.traffic.detach_bare(links)?;
        }
        let scheme = self.flows.scheme(self.turn.site, true);
        // the old sink makes room for the new one before that is attached
        drop(std::mem::replace(&mut self.bench.traffic, Traffic::open(&scheme)?));
        self.attach()?;
        self.tell();
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.bench.calls = None;
        self.bench.server.take().map_or(Ok(()), Server::stop)
    }

    /// Who it is about, and the last that it printed.
    fn last_words(&self) -> String {
        let words = self.bench.server.as_ref().map_or_else(String::new, Server::last_words);
        match words.lines().last() {
            Some(line) => format!("{}, which said last: {line}", self.turn.subject.name),
            None => self.turn.subject.name.clone(),
        }
    }

    fn all(&mut self) -> Result<()> {
        let Turn { subject, scenario, site, effort, seed, .. } = *self.turn;
        match scenario.figures {
            Figures::Drained => return self.drained(),
            Figures::Delays => return self.delays(),
            _ => {}
        }
        let mut first = seed.unwrap_or(40_000.0);
        if subject.in_kernel {
            site.set_threaded(false)?;
            self.round.one_core = Some(self.saturated(effort.saturated)?.0);
        }
        // Processes do better where the sender's softirq feeds their sockets: a thread in between
        // would have to be woken for each packet.
        site.set_threaded(subject.in_kernel)?;
        let own_core = self.round.trials.len();
        if subject.in_kernel {
            let (most, napi_ns) = self.saturated(effort.saturated)?;
            self.round.saturated_napi_ns = Some(napi_ns);
            first = seed.unwrap_or(most.pps / 2.0);
        }
        let stride = if seed.is_some() { 1.2 } else { 1.5 };
        let Effort { steps, resolution, .. } = effort;
        let search = Search { first, stride, steps, resolution, bounds: BOUNDS };
        let mut history = History::default();
        let pdr = self.search(search, LOSS_MAX, &mut history)?;
        self.round.pdr = pdr.into();
        ensure!(pdr.offered > 0.0, "nothing arrived without loss, at any rate");
        if self.round.number == 0 {
            return Ok(());
        }
        let least = (pdr.offered / 16.0).max(BOUNDS.0);
        self.round.delivered = self.delivered(own_core);
        if matches!(scenario.figures, Figures::All | Figures::Costs) {
            self.round.cpu = Some(self.cpu()?);
            site.set_threaded(subject.in_kernel)?;
        }
        if scenario.figures == Figures::All {
            let search =
                Search { first: pdr.offered, stride: 2.0, bounds: (least, BOUNDS.1), ..search };
            self.round.lossless = Some(self.search(search, 0.0, &mut history)?.into());
            self.track()?;
            site.set_threaded(subject.in_kernel)?;
            self.latencies(pdr.offered)?;
        }
        Ok(())
    }

    /// Full sockets, emptied: the middle one of a few times.
    fn drained(&mut self) -> Result<()> {
        let packets = f64::from(self.turn.scenario.channels) * f64::from(DRAINED_EACH);
        let (offer, time) = (Offer::Rate(FILL_RATE), Duration::from_secs_f64(packets / FILL_RATE));
        let (mut rates, mut whole) = (Vec::new(), Vec::new());
        for _ in 0..DRAINS {
            ensure!(!sys::stopping(), "interrupted");
            let outcome = self.bench.drain(offer, time)?;
            ensure!(outcome.trial.received > 0, "nothing was relayed of {packets}");
            rates.push(outcome.trial.rate());
            let emptied = outcome.trial.emptied_seconds;
            whole.extend(emptied.map(|seconds| outcome.trial.received as f64 / seconds));
            self.round.trials.push(outcome.trial);
        }
        let middle = |rates: &[f64]| {
            let pps = Samples::numbered(rates).median();
            Some(Rate { offered_pps: pps, pps, limit: Limit::Subject })
        };
        (self.round.drained, self.round.drained_wholly) = (middle(&rates), middle(&whole));
        Ok(())
    }

    /// How long packets take at rates that all are offered. Round 0 only warms up.
    fn delays(&mut self) -> Result<()> {
        let Turn { subject, scenario, site, effort, .. } = *self.turn;
        self.track()?;
        site.set_threaded(subject.in_kernel)?;
        let rates = if self.round.number == 0 { &scenario.rates[..1] } else { &scenario.rates };
        for &rate in rates {
            for _ in 0..LATENCY_TRIES {
                let (outcome, verdict) = self.trial(Offer::Rate(rate), effort.trial)?;
                if matches!(verdict, Verdict::Counts { .. }) {
                    let (pps, loss) = (outcome.trial.rate(), outcome.trial.loss());
                    let seconds = outcome.trial.seconds;
                    let [busy, waiting] = outcome.busiest_seconds.map(|spent| spent / seconds);
                    let late = |share| quantile(&outcome.lateness, share);
                    let (late_p99_us, late_p999_us) = (late(0.99), late(0.999));
                    let latency = Latency::of(0.0, rate, loss, outcome.latency);
                    let delay = latency.map(|latency| Delay {
                        latency,
                        pps,
                        busy,
                        waiting,
                        late_p99_us,
                        late_p999_us,
                    });
                    self.round.delays.extend(delay);
                    break;
                }
            }
        }
        Ok(())
    }

    /// A trial, for the record; void ones are counted.
    fn trial(&mut self, offer: Offer, time: Duration) -> Result<(Outcome, Verdict)> {
        ensure!(!sys::stopping(), "interrupted");
        let outcome = self.bench.trial(offer, time)?;
        let (verdict, why) = outcome.trial.judge();
        self.round.trials.push(outcome.trial.clone());
        match verdict {
            Verdict::Counts { .. } => self.voids = 0,
            Verdict::Late => {}
            Verdict::Void => {
                progress(&format!("    void: {}", why.unwrap_or_default()));
                self.voids += 1;
                ensure!(self.voids < VOIDS_MAX, "{VOIDS_MAX} trials in a row were void");
            }
        }
        if !self.turn.subject.abilities.sturdy && outcome.trial.loss() > LOSS_MAX {
            // its clients may be gone: new ones, and a new process to serve them
            self.stop()?;
            self.start()?;
        }
        Ok((outcome, verdict))
    }

    fn search(&mut self, search: Search, loss_max: f64, history: &mut History) -> Result<Found> {
        let time = self.turn.effort.trial;
        search.run(loss_max, history, |rate| Ok(self.trial(Offer::Rate(rate), time)?.1))
    }

    /// A trial that must count; others are tried again.
    fn counted(&mut self, offer: Offer, time: Duration) -> Result<Outcome> {
        for _ in 0..VOIDS_MAX {
            let (outcome, verdict) = self.trial(offer, time)?;
            if let Verdict::Counts { delivered, .. } = verdict {
                ensure!(delivered > 0.0, "nothing arrived of {} sent", outcome.trial.sent);
                return Ok(outcome);
            }
        }
        bail!("{VOIDS_MAX} trials in a row did not count")
    }

    /// All that the generator can: the middle one of a few, and the interfaces' CPU time for each
    /// packet then, nanoseconds.
    fn saturated(&mut self, times: usize) -> Result<(Rate, f64)> {
        let mut trials = Vec::new();
        for _ in 0..times {
            trials.push(self.counted(Offer::Most, self.turn.effort.trial)?);
        }
        let middle = |of: fn(&Outcome) -> f64| {
            Samples::numbered(&trials.iter().map(of).collect::<Vec<_>>()).median()
        };
        let offered_pps = middle(|one| one.trial.sent as f64 / one.trial.seconds);
        let rate = Rate { offered_pps, pps: middle(|one| one.trial.rate()), limit: Limit::Subject };
        Ok((rate, middle(|one| one.napi_seconds * 1e9 / one.trial.received.max(1) as f64)))
    }

    /// The most that arrived in the trials from `first` on, and why not more.
    fn delivered(&self, first: usize) -> Rate {
        let trials = || self.round.trials[first..].iter().filter(|trial| trial.void.is_none());
        let best = trials().max_by(|a, b| a.rate().total_cmp(&b.rate()));
        let Some(best) = best else { return Rate::default() };
        let offered = |trial: &super::record::Trial| trial.sent as f64 / trial.seconds;
        // what was offered more and lost some shows who could not do more
        let above = trials().filter(|trial| offered(trial) > offered(best));
        let limit = above.map(super::record::Trial::limit).find(|limit| *limit != Limit::Generator);
        Rate {
            offered_pps: offered(best),
            pps: best.rate(),
            limit: limit.unwrap_or_else(|| best.limit()),
        }
    }

    /// At shares of what it carries.
    fn latencies(&mut self, pdr: f64) -> Result<()> {
        for share in LATENCY_AT {
            let offered_pps = pdr * share;
            // stamping every packet may be too much for a generator that was the limit before
            for _ in 0..LATENCY_TRIES {
                let time = self.turn.effort.trial;
                let (outcome, verdict) = self.trial(Offer::Rate(offered_pps), time)?;
                if matches!(verdict, Verdict::Counts { .. }) {
                    let loss = outcome.trial.loss();
                    let latency = Latency::of(share, offered_pps, loss, outcome.latency);
                    self.round.latency.extend(latency);
                    break;
                }
            }
        }
        Ok(())
    }

    /// At a rate that all can do, with the interface's work in a thread, where it can be seen, and
    /// gathered: a thread that wakes for each packet costs many times what the packet does.
    fn cpu(&mut self) -> Result<Cpu> {
        let site = self.turn.site;
        site.set_threaded(true)?;
        site.set_gathering(true)?;
        let outcome = self.counted(Offer::Rate(EQUAL_RATE), 2 * self.turn.effort.trial);
        site.set_gathering(false)?;
        let outcome = outcome?;
        let each = |seconds: f64| seconds * 1e9 / outcome.trial.received.max(1) as f64;
        Ok(Cpu {
            pps: outcome.trial.rate(),
            process_ns: each(outcome.process_seconds),
            napi_ns: each(outcome.napi_seconds),
        })
    }
}

impl From<Found> for Rate {
    fn from(found: Found) -> Rate {
        Rate { offered_pps: found.offered, pps: found.delivered, limit: found.limit }
    }
}

impl Latency {
    /// Of a histogram: nanoseconds, and packets that took so long. `None` when it is empty.
    pub(crate) fn of(
        share: f64,
        offered_pps: f64,
        loss: f64,
        histogram: Vec<(u64, u64)>,
    ) -> Option<Latency> {
        let packets: u64 = histogram.iter().map(|(_, packets)| packets).sum();
        let at = |share| quantile(&histogram, share);
        let (p50_us, p90_us, p99_us, p999_us) = (at(0.5), at(0.9), at(0.99), at(0.999));
        let max_us = at(1.0);
        let histogram = coarse(&histogram);
        (packets > 0).then_some(Latency {
            share,
            offered_pps,
            packets,
            loss,
            p50_us,
            p90_us,
            p99_us,
            p999_us,
            max_us,
            histogram,
        })
    }
}

/// Microseconds within which so large a share of a histogram's packets are; 0 for none.
fn quantile(histogram: &[(u64, u64)], share: f64) -> f64 {
    let packets: u64 = histogram.iter().map(|(_, packets)| packets).sum();
    let wanted = (packets as f64 * share).ceil().max(1.0) as u64;
    let mut seen = 0;
    let bucket = histogram.iter().find(|(_, packets)| {
        seen += packets;
        seen >= wanted
    });
    bucket.map_or(0.0, |(nanoseconds, _)| *nanoseconds as f64 / 1e3)
}

/// A histogram in steps of 5 %, for the record: a plot shows no more.
fn coarse(histogram: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut steps = BTreeMap::new();
    for (nanoseconds, packets) in histogram {
        let step = ((*nanoseconds).max(1) as f64).log(1.05).round();
        *steps.entry(1.05_f64.powf(step).round() as u64).or_default() += packets;
    }
    steps.into_iter().collect()
}

impl Round {
    /// For whoever waits.
    pub(crate) fn in_words(&self) -> String {
        let one_core = self.one_core.map(|rate| format!("one core {}, ", grouped(rate.pps)));
        let at_least = |rate: &Rate| {
            let mark = if rate.limit == Limit::Subject { "" } else { "at least " };
            format!("{mark}{}", grouped(rate.pps))
        };
        let void = self.trials.iter().filter(|trial| trial.void.is_some()).count();
        if let Some(drained) = self.drained {
            return format!("emptied at {}, {void} void", grouped(drained.pps));
        }
        if self.pdr.offered_pps == 0.0 {
            let delay = |one: &Delay| {
                let Latency { offered_pps, p50_us, p99_us, .. } = one.latency;
                format!("{}: {} to {} µs", grouped(offered_pps), grouped(p50_us), grouped(p99_us))
            };
            let delays: Vec<_> = self.delays.iter().map(delay).collect();
            return format!("p50 and p99 at {}, {void} void", delays.join(", "));
        }
        format!(
            "{}at 0.1 % {}{}, {} trials, {void} void",
            one_core.unwrap_or_default(),
            at_least(&self.pdr),
            self.lossless
                .map_or_else(String::new, |rate| format!(", none lost {}", at_least(&rate))),
            self.trials.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_least_bucket_that_holds_enough() {
        // given 1,000 packets: 989 within 10 µs, 10 within 100, one within 5,000
        let histogram = vec![(10_000, 989), (100_000, 10), (5_000_000, 1)];
        // when
        let latency = Latency::of(0.5, 1e5, 0.0, histogram).unwrap();
        // then
        assert_eq!(latency.packets, 1000);
        let all = [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us];
        assert_eq!(all, [10.0, 10.0, 100.0, 100.0, 5000.0]);
        // and the record has all packets, at most 3 % off
        let kept: Vec<u64> = latency.histogram.iter().map(|(_, packets)| *packets).collect();
        assert_eq!(kept, [989, 10, 1]);
        assert!(latency.histogram[0].0.abs_diff(10_000) < 300, "{:?}", latency.histogram);
        assert!(Latency::of(0.5, 1e5, 0.0, Vec::new()).is_none());
    }
}
