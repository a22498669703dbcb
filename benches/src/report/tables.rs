//! The report's tables.

use super::headline::{PDR, entry, samples};
use crate::suite::plan::LATENCY_AT;
use crate::suite::record::{Cost, Cpu, Entry, Latency, Machine, Rate, Results, Round, Scenario};
use crate::summary::{Samples, number};

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// The name for people.
pub(super) fn label(results: &Results, subject: &str) -> String {
    let found = results.subjects.iter().find(|one| one.name == subject);
    found.map_or_else(|| subject.to_owned(), |one| one.label.clone())
}

/// A rate in thousands, with its mark.
fn rate(entry: &Entry, pick: fn(&Round) -> Option<Rate>) -> String {
    let (samples, limited) = samples(entry, pick);
    let mark = if limited && !samples.is_empty() { "≥ " } else { "" };
    format!("{mark}{}", samples.scaled(1e-3).show(0))
}

fn cpu(entry: &Entry, pick: fn(&Cpu) -> f64) -> Samples {
    let rounds = entry.rounds.iter();
    Samples::new(rounds.filter_map(|one| Some((one.number, pick(one.cpu.as_ref()?)))))
}

/// What each subject carried.
pub(super) fn throughput(results: &Results, scenario: &Scenario) -> Vec<Vec<String>> {
    let mut rows = vec![row([
        "subject",
        "one core for all",
        "most delivered",
        "at most 0.1 % lost",
        "none lost",
        "full sockets emptied",
        "the same until all is out",
        "saturated: CPU of its NAPI, ns a packet",
        "at an equal rate: CPU of the process, ns a packet",
        "at an equal rate: CPU of its NAPI",
        "that rate, packets a second",
        "trials, void",
    ])];
    for entry in &scenario.entries {
        let name = label(results, &entry.subject);
        if let Some(why) = &entry.skipped {
            let mut cells = vec![name, format!("skipped: {why}")];
            cells.resize(rows[0].len(), String::new());
            rows.push(cells);
            continue;
        }
        let trials = || entry.rounds.iter().flat_map(|round| &round.trials);
        let void = trials().filter(|trial| trial.void.is_some()).count();
        let saturated = entry.rounds.iter();
        let saturated = saturated.filter_map(|one| Some((one.number, one.saturated_napi_ns?)));
        rows.push(vec![
            name,
            samples(entry, |round| round.one_core).0.scaled(1e-3).show(0),
            rate(entry, |round| PDR(round).map(|_| round.delivered)),
            rate(entry, PDR),
            rate(entry, |round| round.lossless),
            rate(entry, |round| round.drained),
            rate(entry, |round| round.drained_wholly),
            Samples::new(saturated).show(0),
            cpu(entry, |cpu| cpu.process_ns).show(0),
            cpu(entry, |cpu| cpu.napi_ns).show(0),
            cpu(entry, |cpu| cpu.pps).show(0),
            format!("{}, {void}", trials().count()),
        ]);
    }
    without_empty_columns(rows)
}

/// Drops columns that have dashes only.
fn without_empty_columns(rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let says = |at: &usize| {
        *at == 0 || rows[1..].iter().any(|row| !["–", ""].contains(&row[*at].as_str()))
    };
    let kept: Vec<usize> = (0..rows[0].len()).filter(says).collect();
    rows.iter().map(|row| kept.iter().map(|at| row[*at].clone()).collect()).collect()
}

/// One-way latency, if it was taken here.
pub(super) fn latency(results: &Results, scenario: &Scenario) -> Option<Vec<Vec<String>>> {
    let mut rows = vec![row([
        "one-way latency, µs",
        "offered, thousands a second",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "lost, %",
    ])];
    for entry in &scenario.entries {
        for share in LATENCY_AT {
            let of = |pick: fn(&Latency) -> f64| {
                Samples::new(entry.rounds.iter().filter_map(|round| {
                    let found = round.latency.iter().find(|one| one.share == share)?;
                    Some((round.number, pick(found)))
                }))
            };
            if of(|one| one.p50_us).is_empty() {
                continue;
            }
            rows.push(vec![
                format!("{}, {:.0} %", label(results, &entry.subject), share * 100.0),
                of(|one| one.offered_pps).scaled(1e-3).show(0),
                of(|one| one.p50_us).show(0),
                of(|one| one.p90_us).show(0),
                of(|one| one.p99_us).show(0),
                of(|one| one.p999_us).show(0),
                of(|one| one.max_us).show(0),
                of(|one| one.loss * 100.0).show(3),
            ]);
        }
    }
    (rows.len() > 1).then_some(rows)
}

/// The program alone.
pub(super) fn cost(cost: &Cost) -> Vec<Vec<String>> {
    let mut rows = vec![row(["program, net of an empty one", "nanoseconds", "wanted"])];
    for one in &cost.rows {
        let samples = Samples::numbered(&one.nanoseconds);
        let wanted = one.wanted.map(|most| {
            let verdict = if samples.median() <= most { "met" } else { "missed" };
            format!("at most {most}: {verdict}")
        });
        rows.push(vec![one.name.clone(), samples.show(0), wanted.unwrap_or_default()]);
    }
    rows
}

/// Who took part, and how it was started.
pub(super) fn subjects(results: &Results) -> Vec<Vec<String>> {
    let mut rows = vec![row(["subject", "version", "command"])];
    for one in &results.subjects {
        let version = match &one.skipped {
            Some(why) => format!("left out: {why}"),
            None => one.version.clone(),
        };
        rows.push(vec![one.label.clone(), version, format!("`{}`", one.command)]);
    }
    rows
}

/// What a figure is worth nothing without.
pub(super) fn machine(machine: &Machine) -> Vec<Vec<String>> {
    let mitigations: Vec<_> =
        machine.mitigations.iter().map(|(name, how)| format!("{name}: {how}")).collect();
    vec![
        row(["", ""]),
        row(["kernel", &machine.kernel]),
        row(["processor", &format!("{}, {} cores", machine.processor, machine.cores)]),
        row(["programs compiled (bpf_jit_enable)", &machine.bpf_jit]),
        row(["mitigations", &mitigations.join("; ")]),
        row(["devices", &machine.devices]),
        row(["offloads that are on (relay's interface)", &machine.offloads.join(", ")]),
        row(["placement", &machine.placement]),
        row(["load", &format!("{} before, {} after", machine.load_before, machine.load_after)]),
        row(["commit", &machine.commit]),
    ]
}

/// `x.y` times, for a figure's label.
pub(super) fn short(value: f64) -> String {
    number(value, usize::from(value < 100.0))
}

/// Rates at 0.1 % in thousands, by subject, for a figure.
pub(super) fn carried(results: &Results, scenario: &Scenario) -> Vec<(String, Samples, bool)> {
    let names = scenario.entries.iter().map(|one| one.subject.as_str());
    let carried = names.filter_map(|name| {
        let (samples, limited) = samples(entry(scenario, name)?, PDR);
        (!samples.is_empty()).then(|| (label(results, name), samples.scaled(1e-3), limited))
    });
    carried.collect()
}
