//! What stands first: how it was measured, what a reader must know, and the ratios.

use super::blocks::Block;
use crate::suite::record::{Entry, Rate, Results, Round, Scenario};
use crate::suite::search::Limit;
use crate::summary::Samples;

/// A quantity of a round.
pub(super) type Pick = fn(&Round) -> Option<Rate>;

/// Everything that a ratio is made of.
struct Ratio {
    name: &'static str,
    of: &'static str,
    to: &'static str,
    pick: Pick,
    /// At these points, at least.
    wanted: &'static [(&'static str, f64)],
}

const ONE_CORE: Pick = |round| round.one_core;
pub(super) const PDR: Pick = |round| (round.pdr.offered_pps > 0.0).then_some(round.pdr);
const DRAINED: Pick = |round| round.drained;
const DRAINED_WHOLLY: Pick = |round| round.drained_wholly;

const fn at_pdr(
    name: &'static str,
    of: &'static str,
    to: &'static str,
    wanted: &'static [(&'static str, f64)],
) -> Ratio {
    Ratio { name, of, to, pick: PDR, wanted }
}

const RATIOS: [Ratio; 11] = [
    Ratio {
        name: "native XDP : bare XDP, one core for all",
        of: "xdp",
        to: "bare",
        pick: ONE_CORE,
        wanted: &[("base", 0.9)],
    },
    at_pdr("native XDP : bare XDP, at 0.1 %", "xdp", "bare", &[]),
    at_pdr("native XDP : coturn, at 0.1 %", "xdp", "coturn", &[("base", 10.0)]),
    at_pdr("generic XDP : coturn, at 0.1 %", "xdp-generic", "coturn", &[]),
    at_pdr("AF_XDP (copy) : coturn, at 0.1 %", "af-xdp", "coturn", &[]),
    at_pdr(
        "sockets : coturn, at 0.1 %",
        "sockets",
        "coturn",
        &[("base", 1.5), ("1-channel", 3.0), ("send", 2.0)],
    ),
    at_pdr(
        "sockets : bare echo, at 0.1 %",
        "sockets",
        "echo",
        &[("base", 0.9), ("1-channel", 0.9)],
    ),
    at_pdr("AF_XDP (copy) : sockets, at 0.1 %", "af-xdp", "sockets", &[]),
    at_pdr("sockets : pion, at 0.1 %", "sockets", "pion", &[]),
    Ratio {
        name: "two workers : one, full sockets emptied, while both have work",
        of: "two-workers",
        to: "one-worker",
        pick: DRAINED,
        wanted: &[("two-cores", 1.7)],
    },
    Ratio {
        name: "two workers : one, full sockets emptied, until all is out",
        of: "two-workers",
        to: "one-worker",
        pick: DRAINED_WHOLLY,
        wanted: &[("two-cores", 1.7)],
    },
];

/// How it was measured.
pub(super) fn introduction(results: &Results) -> String {
    let machine = &results.machine;
    let (trials, void) = results.trials();
    format!(
        "`{}`\n\nLinux {}, {}, {} cores, load before {}, after {}; commit {}. {}; {}. {} from {}, \
         {:.0} minutes: {trials} trials of {} ms, {void} of them void and thrown out. Rates are \
         thousands of packets a second that arrived whole: median (lowest to highest) of the rounds \
         after the first.",
        results.command,
        machine.kernel,
        machine.processor,
        machine.cores,
        machine.load_before,
        machine.load_after,
        machine.commit,
        machine.devices,
        machine.placement,
        results.effort,
        results.started,
        results.seconds / 60.0,
        results.trial_seconds * 1e3,
    )
}

/// The run that it was, in a sentence.
pub(super) fn source(results: &Results) -> String {
    let machine = &results.machine;
    format!(
        "One run of `{}` at commit {}, {}, on {} cores of {} (Linux {}), over veth and not a NIC; \
         ratios are taken within a round.",
        results.command,
        machine.commit,
        results.started,
        machine.cores,
        machine.processor,
        machine.kernel,
    )
}

/// Who is missing, what failed, and that it ended early.
pub(super) fn notes(results: &Results) -> Vec<Block> {
    let mut notes = Vec::new();
    if results.interrupted {
        notes
            .push(format!("Interrupted: only what had been measured by then.{}", missing(results)));
    }
    for subject in &results.subjects {
        if let Some(why) = &subject.skipped {
            notes.push(format!("{} is left out: {why}.", subject.label));
        }
    }
    for scenario in &results.scenarios {
        for entry in &scenario.entries {
            if let Some(why) = &entry.failure {
                notes.push(format!("{} at {}, {why}", entry.subject, scenario.name));
            }
        }
    }
    notes.into_iter().map(Block::Note).collect()
}

/// What an interrupted run was asked for and has not got.
fn missing(results: &Results) -> String {
    let most = |scenario: &Scenario| {
        scenario.entries.iter().map(|entry| entry.rounds.len()).max().unwrap_or(0)
    };
    let measured =
        |name: &&String| results.scenarios.iter().any(|one| one.name == **name && most(one) > 0);
    let none: Vec<_> = results.planned.iter().filter(|name| !measured(name)).cloned().collect();
    let last = results.scenarios.last().filter(|one| most(one) > 0);
    let few = last.map_or_else(String::new, |one| {
        format!(" The last, {}, has {} rounds at most.", one.name, most(one))
    });
    if none.is_empty() { few } else { format!(" Not measured: {}.{few}", none.join(", ")) }
}

/// A line each, a column for each scenario where somebody has both sides.
pub(super) fn ratios(results: &Results) -> Vec<Vec<String>> {
    let mut rows = vec![vec!["scenario".to_owned()]];
    rows[0].extend(RATIOS.iter().map(|ratio| {
        let wanted: Vec<_> =
            ratio.wanted.iter().map(|(name, least)| format!("{name} {least}")).collect();
        match wanted.as_slice() {
            [] => ratio.name.to_owned(),
            wanted => format!("{} (wanted: {})", ratio.name, wanted.join(", ")),
        }
    }));
    for scenario in &results.scenarios {
        let cells: Vec<String> = RATIOS.iter().map(|ratio| ratio.cell(scenario)).collect();
        if cells.iter().any(|cell| cell != "–") {
            rows.push(std::iter::once(scenario.name.clone()).chain(cells).collect());
        }
    }
    // columns in which nobody has anything
    let columns = rows[0].len();
    let kept: Vec<usize> =
        (0..columns).filter(|at| *at == 0 || rows[1..].iter().any(|row| row[*at] != "–")).collect();
    rows.into_iter().map(|row| kept.iter().map(|at| row[*at].clone()).collect()).collect()
}

/// The signs of the tables.
pub(super) fn legend() -> String {
    "≥: the generator or the sink was the limit in some round, so this is a lower bound (≤: of a \
     ratio's second part, an upper bound; ~: of both, so that the ratio tells nothing about \
     either's own limit). –: not measured."
        .to_owned()
}

/// A subject's rounds.
pub(super) fn entry<'r>(scenario: &'r Scenario, subject: &str) -> Option<&'r Entry> {
    scenario.entries.iter().find(|entry| entry.subject == subject)
}

/// A quantity over the rounds, and whether something other than the subject limited it.
pub(super) fn samples(entry: &Entry, pick: Pick) -> (Samples, bool) {
    let rates = || entry.rounds.iter().filter_map(|round| Some((round.number, pick(round)?)));
    let limited = rates().any(|(_, rate)| rate.limit != Limit::Subject);
    (Samples::new(rates().map(|(round, rate)| (round, rate.pps))), limited)
}

/// The figures that stand for the whole, a line each: those of which something is wanted, and the
/// same over many flows.
pub(super) fn chosen(results: &Results) -> Vec<Vec<String>> {
    let mut rows =
        vec![["what", "where", "median (lowest to highest)", "wanted"].map(str::to_owned)];
    for ratio in RATIOS.iter().filter(|ratio| !ratio.wanted.is_empty()) {
        for scenario in &results.scenarios {
            let wanted = ratio.wanted(scenario);
            let cell = ratio.cell(scenario);
            if cell != "–" && (wanted.is_some() || scenario.name == "64000-channels") {
                let wanted = wanted.map_or_else(String::new, |least| least.to_string());
                rows.push([ratio.name.to_owned(), scenario.title.clone(), cell, wanted]);
            }
        }
    }
    for row in results.cost.iter().flat_map(|cost| &cost.rows) {
        if let Some(most) = row.wanted {
            let samples = Samples::numbered(&row.nanoseconds);
            let verdict = if samples.median() <= most { "met" } else { "missed" };
            rows.push([
                row.name.clone(),
                "the program alone, net of an empty one".to_owned(),
                format!("{} ns: {verdict}", samples.show(0)),
                format!("at most {most} ns"),
            ]);
        }
    }
    rows.into_iter().map(Vec::from).collect()
}

impl Ratio {
    fn wanted(&self, scenario: &Scenario) -> Option<f64> {
        self.wanted.iter().find(|(name, _)| *name == scenario.name).map(|(_, wanted)| *wanted)
    }

    fn cell(&self, scenario: &Scenario) -> String {
        let side = |name| entry(scenario, name).map(|entry| samples(entry, self.pick));
        let (Some((of, of_limited)), Some((to, to_limited))) = (side(self.of), side(self.to))
        else {
            return "–".to_owned();
        };
        let ratio = of.over(&to);
        if ratio.is_empty() {
            return "–".to_owned();
        }
        let digits = if ratio.median() < 3.0 { 2 } else { 1 };
        // with one core for all, the generator is part of what is compared
        let shared = self.pick as usize == ONE_CORE as usize;
        let mark = match (of_limited && !shared, to_limited && !shared) {
            (false, false) => "",
            (true, false) => "≥ ",
            (false, true) => "≤ ",
            (true, true) => "~ ",
        };
        let verdict = match self.wanted(scenario) {
            Some(wanted) if ratio.median() >= wanted => ": met",
            Some(_) => ": missed",
            None => "",
        };
        format!("{mark}{}{verdict}", ratio.show(digits))
    }
}
