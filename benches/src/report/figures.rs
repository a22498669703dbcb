//! The page's plots.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use turnwire_load::html::plot::{Plot, Scale, Series};
use turnwire_load::html::{COLOURS, escape};

use super::blocks::Block;
use super::tables::{carried, label, short};
use crate::suite::record::{Results, Scenario};
use crate::summary::Samples;

/// Rates of the first scenario as bars.
pub(super) fn overview(results: &Results) -> Option<Block> {
    let scenario = results.scenarios.first()?;
    let rows = carried(results, scenario);
    if rows.is_empty() {
        return None;
    }
    let caption = format!("{}: thousands of packets a second, at most 0.1 % lost", scenario.title);
    Some(Block::Figure(caption, bars(&rows)))
}

/// Delivered over offered, and latency, where there is enough to draw.
pub(super) fn of_scenario(results: &Results, scenario: &Scenario) -> Vec<Block> {
    let mut blocks = Vec::new();
    let delivered = each(results, scenario, delivered);
    if !delivered.is_empty() {
        let plot = Plot {
            x: Scale::Log,
            y: Scale::Log,
            x_label: "offered, packets a second",
            y_label: "arrived, packets a second",
            series: delivered,
        };
        blocks.push(Block::Figure("What arrived of what was offered".into(), plot.svg()));
    }
    let latency = each(results, scenario, |scenario, subject| percentiles(scenario, subject, 0.5));
    if !latency.is_empty() {
        let plot = Plot {
            x: Scale::Percentile,
            y: Scale::Log,
            x_label: "percentile",
            y_label: "one-way latency, us",
            series: latency,
        };
        let caption = "Latency from the scheduled time, at half of each subject's own rate";
        blocks.push(Block::Figure(caption.into(), plot.svg()));
    }
    blocks
}

/// A line for each subject that has points.
fn each(
    results: &Results,
    scenario: &Scenario,
    points: impl Fn(&Scenario, &str) -> Vec<(f64, f64)>,
) -> Vec<Series> {
    let all = results.subjects.iter().enumerate().map(|(at, subject)| Series {
        name: label(results, &subject.name),
        colour: COLOURS[at % COLOURS.len()],
        points: points(scenario, &subject.name),
    });
    all.filter(|series| series.points.len() > 1).collect()
}

/// Medians of what arrived, for offered rates that are within a tenth of each other.
fn delivered(scenario: &Scenario, subject: &str) -> Vec<(f64, f64)> {
    const STEPS: f64 = 7.0;
    let mut bins: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    let entries = scenario.entries.iter().filter(|entry| entry.subject == subject);
    for trial in entries.flat_map(|entry| &entry.rounds).flat_map(|round| &round.trials) {
        let Some(asked) = trial.asked_pps.filter(|asked| *asked > 0.0) else { continue };
        if trial.void.is_none() && trial.seconds > 0.0 && trial.received > 0 {
            let arrived = trial.received as f64 / trial.seconds;
            bins.entry((asked.log2() * STEPS).round() as i64).or_default().push(arrived);
        }
    }
    let median = |(bin, arrived): (&i64, &Vec<f64>)| {
        ((*bin as f64 / STEPS).exp2(), Samples::numbered(arrived).median())
    };
    bins.iter().map(median).collect()
}

/// Points of a latency curve over all rounds: 1 / (1 - quantile), and microseconds.
fn percentiles(scenario: &Scenario, subject: &str, share: f64) -> Vec<(f64, f64)> {
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let entries = scenario.entries.iter().filter(|entry| entry.subject == subject);
    let rounds = entries.flat_map(|entry| &entry.rounds);
    for latency in rounds.flat_map(|round| &round.latency).filter(|one| one.share == share) {
        for (nanoseconds, packets) in &latency.histogram {
            *counts.entry(*nanoseconds).or_default() += packets;
        }
    }
    let total: u64 = counts.values().sum();
    let mut seen = 0;
    let mut points = Vec::new();
    for (nanoseconds, packets) in counts {
        // up to here, and from here on
        let before = total as f64 / (total - seen) as f64;
        seen += packets;
        points.push((before, nanoseconds as f64 / 1e3));
    }
    points
}

/// Horizontal bars with the range of the rounds.
fn bars(rows: &[(String, Samples, bool)]) -> String {
    const LEFT: f64 = 190.0;
    const WIDTH: f64 = 900.0;
    const ROW: f64 = 34.0;
    let most = rows.iter().map(|(_, samples, _)| samples.range().1).fold(1.0, f64::max);
    let x = |value: f64| LEFT + value / most * (WIDTH - LEFT - 90.0);
    let height = ROW * rows.len() as f64 + 12.0;
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
    for (at, (name, samples, limited)) in rows.iter().enumerate() {
        let top = ROW * at as f64 + 8.0;
        let (middle, (low, high)) = (samples.median(), samples.range());
        let mark = if *limited { "≥ " } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"20\" fill=\"{}\"/>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"currentColor\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{mark}{}</text>",
            LEFT - 8.0,
            top + 14.0,
            escape(name),
            (x(middle) - LEFT).max(1.0),
            COLOURS[at % COLOURS.len()],
            x(low),
            x(high),
            top + 10.0,
            top + 10.0,
            x(high) + 6.0,
            top + 14.0,
            short(middle),
        );
    }
    out + "</svg>"
}
