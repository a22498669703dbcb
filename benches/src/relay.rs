//! What crosses the relay end to end: the bare programs, Turnwire by both tiers, and coturn, in the
//! same namespaces, with the same generator and sink, one after the other in every round.

pub(crate) mod calls;
pub(crate) mod mix;
pub(crate) mod report;
pub(crate) mod server;
pub(crate) mod site;
pub(crate) mod trial;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use traffic::{Bare, Crossing, Offer, Traffic};

use crate::progress;
use crate::summary::Samples;
use mix::Mix;
use server::{Kind, Server};
use site::{Side, Site, Topology};
use trial::{Bench, Outcome, Search};

/// What stands in the relay's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The least that an XDP program can do.
    Bare,
    /// A relay.
    Relay(Kind),
}

/// In the order of a round.
pub(crate) const SUBJECTS: [Subject; 4] = [
    Subject::Bare,
    Subject::Relay(Kind::Xdp),
    Subject::Relay(Kind::Sockets),
    Subject::Relay(Kind::Coturn),
];

impl Subject {
    /// For people.
    pub(crate) fn name(self, topology: Topology) -> &'static str {
        match (self, topology) {
            (Subject::Bare, Topology::OneArmed) => "bare XDP_TX",
            (Subject::Bare, Topology::TwoArmed) => "bare redirect",
            (Subject::Relay(Kind::Xdp), _) => "Turnwire, XDP",
            (Subject::Relay(Kind::Sockets), _) => "Turnwire, sockets",
            (Subject::Relay(Kind::Coturn), _) => "coturn",
        }
    }

    fn in_kernel(self) -> bool {
        matches!(self, Subject::Bare | Subject::Relay(Kind::Xdp))
    }
}

/// How long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Rounds that count.
    pub(crate) rounds: usize,
    /// How long each trial sends.
    pub(crate) trial: Duration,
    /// Bisections.
    pub(crate) steps: u32,
}

/// Packets a second at which CPU time is compared.
pub(crate) const EQUAL_RATE: f64 = 50_000.0;

/// The figures of one subject over the rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Offered all that the generator can, on one core with generator and sink: no ring is ever
    /// full, and each packet costs all three.
    pub(crate) one_core: Samples,
    /// The same with a core for the relay: rings overflow, what arrives is what the relay can do.
    /// For processes, the most that arrived in any trial of the search.
    pub(crate) own_core: Samples,
    /// CPU nanoseconds of the relay's NAPI thread for each packet that arrived then.
    pub(crate) own_core_ns: Samples,
    /// Highest rate with at most 0.1 % loss, and with none.
    pub(crate) most: Samples,
    pub(crate) lossless: Samples,
    /// CPU seconds of the process for a million packets at [`EQUAL_RATE`], softirqs not counted.
    pub(crate) process_cpu: Samples,
    /// How it was started.
    pub(crate) command: String,
    pub(crate) trials: u32,
    pub(crate) voids: u32,
    /// The generator was the limit of `most` in some round.
    pub(crate) generator_limited: bool,
}

/// Everything measured with one topology and mix.
pub(crate) struct Scenario {
    pub(crate) topology: Topology,
    pub(crate) mix: Mix,
    pub(crate) figures: Vec<(Subject, Figures)>,
}

/// Measures all `subjects`, round by round.
pub(crate) fn measure(
    topology: Topology,
    mix: Mix,
    subjects: &[Subject],
    effort: Effort,
    (turnwire, logs): (&Path, &Path),
) -> Result<Scenario> {
    let site = Site::new(topology)?;
    let mut figures: Vec<_> =
        subjects.iter().map(|subject| (*subject, Figures::default())).collect();
    for round in 0..=effort.rounds {
        for (subject, kept) in &mut figures {
            let name = subject.name(topology);
            let mut first = Figures::default();
            let figures = if round == 0 { &mut first } else { kept };
            one(*subject, &site, &mix, effort, (turnwire, logs), figures)
                .with_context(|| format!("{name}, {}", topology.name()))?;
            progress(&format!("  round {round}: {name}: {}", figures.last()));
        }
    }
    Ok(Scenario { topology, mix, figures })
}

fn one(
    subject: Subject,
    site: &Site,
    mix: &Mix,
    effort: Effort,
    (turnwire, logs): (&Path, &Path),
    figures: &mut Figures,
) -> Result<()> {
    let mut plan = mix.plan(site);
    if subject == Subject::Bare && site.topology == Topology::TwoArmed {
        plan.crossing = Crossing::Unchanged;
    }
    let mut traffic = Traffic::load(&plan)?;
    Side::Far.inside(|| traffic.attach_sink(&site.far))?;
    let program = match site.topology {
        Topology::OneArmed => Bare::Tx,
        Topology::TwoArmed => Bare::Redirect,
    };
    let bare = (subject == Subject::Bare)
        .then(|| Side::Relay.inside(|| traffic.attach_bare(program, &site.arms)))
        .transpose()?;
    let (server, calls) = match subject {
        Subject::Bare => {
            calls::without_relay(&traffic, mix);
            figures.command = "(ebpf/program/src/bare.rs)".into();
            (None, None)
        }
        Subject::Relay(kind) => {
            site.set_threaded(false)?;
            let server = Server::start(kind, site, turnwire, logs)?;
            figures.command.clone_from(&server.command);
            let calls = calls::set_up(&traffic, mix)
                .with_context(|| format!("setting calls up:\n{}", server.last_words()))?;
            (Some(server), Some(calls))
        }
    };
    let mut bench = Bench { site, traffic: &traffic, server, in_kernel: subject.in_kernel() };
    run(&mut bench, subject, effort, figures)?;
    let server = bench.server.take();
    drop(calls);
    server.map_or(Ok(()), Server::stop)?;
    bare.map_or(Ok(()), |bare| traffic.detach_bare(bare))
}

fn run(
    bench: &mut Bench<'_>,
    subject: Subject,
    effort: Effort,
    figures: &mut Figures,
) -> Result<()> {
    let mut first = 40_000.0;
    if subject.in_kernel() {
        bench.site.set_threaded(false)?;
        let shared = saturated(bench, effort)?;
        figures.one_core.push(middle(&shared, Outcome::rate));
        bench.site.set_threaded(true)?;
        let own = saturated(bench, effort)?;
        let rate = middle(&own, Outcome::rate);
        figures.own_core.push(rate);
        figures.own_core_ns.push(middle(&own, |one| one.napi_seconds * 1e9 / one.received as f64));
        first = rate / 2.0;
    }
    // Processes do better where the sender's softirq feeds their sockets: a thread in between
    // would have to be woken for each packet.
    bench.site.set_threaded(subject.in_kernel())?;
    let search = Search { first, time: effort.trial, steps: effort.steps };
    let carried = search.run(bench)?;
    if !subject.in_kernel() {
        figures.own_core.push(carried.delivered);
    }
    figures.most.push(carried.most);
    figures.lossless.push(carried.lossless);
    figures.trials += carried.trials;
    figures.voids += carried.voids;
    figures.generator_limited |= carried.generator_limited;
    let outcome = counted(bench, Offer::Rate(EQUAL_RATE), 2 * effort.trial)?;
    figures.process_cpu.push(outcome.process_seconds * 1e6 / outcome.received as f64);
    Ok(())
}

/// All that the generator can, a few times.
fn saturated(bench: &mut Bench<'_>, effort: Effort) -> Result<Vec<Outcome>> {
    (0..3).map(|_| counted(bench, Offer::Most, effort.trial)).collect()
}

fn middle(outcomes: &[Outcome], quantity: impl Fn(&Outcome) -> f64) -> f64 {
    let mut samples = Samples::default();
    outcomes.iter().for_each(|outcome| samples.push(quantity(outcome)));
    samples.median()
}

/// A trial that must count; void ones are tried again.
fn counted(bench: &mut Bench<'_>, offer: Offer, time: Duration) -> Result<Outcome> {
    let mut why = None;
    for _ in 0..5 {
        let outcome = bench.trial(offer, time)?;
        why = outcome.void();
        if let Some(why) = &why {
            progress(&format!("    void: {why}"));
            continue;
        }
        ensure!(outcome.received > 0, "nothing arrived of {} sent: {outcome:?}", outcome.sent);
        return Ok(outcome);
    }
    anyhow::bail!("five trials in a row were void, the last because {why:?}")
}

impl Figures {
    fn last(&self) -> String {
        let all = [
            ("one core", &self.one_core),
            ("own core", &self.own_core),
            ("ns", &self.own_core_ns),
            ("at 0.1 %", &self.most),
            ("lossless", &self.lossless),
        ];
        let words =
            all.iter().filter_map(|(name, samples)| Some(format!("{name} {:.0}", samples.last()?)));
        words.collect::<Vec<_>>().join(", ")
    }
}
