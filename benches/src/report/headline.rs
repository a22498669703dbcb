//! What stands first: how it was measured, what a reader must know, and the ratios.

use super::blocks::Block;
use crate::suite::record::{Entry, Rate, Results, Round, Scenario};
use crate::suite::search::Limit;
use crate::summary::Samples;

/// A quantity of a round.
type Pick = fn(&Round) -> Option<Rate>;

/// Everything that a ratio is made of.
struct Ratio {
    name: &'static str,
    of: &'static str,
    to: &'static str,
    pick: Pick,
    /// At the base point, at least.
    wanted: Option<f64>,
}

const ONE_CORE: Pick = |round| round.one_core;
const PDR: Pick = |round| Some(round.pdr);

const RATIOS: [Ratio; 6] = [
    Ratio {
        name: "native XDP : bare XDP, one core for all",
        of: "xdp",
        to: "bare",
        pick: ONE_CORE,
        wanted: Some(0.9),
    },
    Ratio {
        name: "native XDP : bare XDP, at 0.1 %",
        of: "xdp",
        to: "bare",
        pick: PDR,
        wanted: None,
    },
    Ratio {
        name: "native XDP : coturn, at 0.1 %",
        of: "xdp",
        to: "coturn",
        pick: PDR,
        wanted: Some(10.0),
    },
    Ratio {
        name: "generic XDP : coturn, at 0.1 %",
        of: "xdp-generic",
        to: "coturn",
        pick: PDR,
        wanted: None,
    },
    Ratio {
        name: "sockets : coturn, at 0.1 %",
        of: "sockets",
        to: "coturn",
        pick: PDR,
        wanted: None,
    },
    Ratio { name: "sockets : pion, at 0.1 %", of: "sockets", to: "pion", pick: PDR, wanted: None },
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

/// Who is missing, what failed, and that it ended early.
pub(super) fn notes(results: &Results) -> Vec<Block> {
    let mut notes = Vec::new();
    if results.interrupted {
        notes.push("Interrupted: only what had been measured by then.".to_owned());
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

/// A line each, a column for each scenario where somebody has both sides.
pub(super) fn ratios(results: &Results) -> Vec<Vec<String>> {
    let mut rows = vec![vec!["scenario".to_owned()]];
    rows[0].extend(RATIOS.iter().map(|ratio| match ratio.wanted {
        Some(wanted) => format!("{} (wanted at the base: {wanted})", ratio.name),
        None => ratio.name.to_owned(),
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

impl Ratio {
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
        let verdict = match self.wanted {
            Some(wanted) if scenario.name == "base" => {
                if ratio.median() >= wanted {
                    ": met"
                } else {
                    ": missed"
                }
            }
            _ => "",
        };
        format!("{mark}{}{verdict}", ratio.show(digits))
    }
}
