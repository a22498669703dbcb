//! Several results side by side. Results of one label are one entry: rates as median and spread,
//! latencies merged.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;

use crate::latency::{self, Latency};
use crate::report::{Report, SCHEMA, Settings, percent, rate};

/// Results of one label.
pub struct Entry {
    /// The label.
    pub label: String,
    /// The results, in the order in which they were given.
    pub reports: Vec<Report>,
    /// All their latencies, in nanoseconds.
    pub latency: Histogram<u64>,
}

/// Reads a result.
///
/// # Errors
/// The file cannot be read, or is no result of a schema that is known here.
pub fn read(path: &Path) -> Result<Report> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {name}"))?;
    let value: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{name} is not JSON"))?;
    match value.get("schema").and_then(|schema| schema.as_str()) {
        Some(SCHEMA) => {}
        Some(other) => bail!("{name} has the schema {other}; this program reads {SCHEMA}"),
        None => bail!("{name} is no result of turnwire-load"),
    }
    serde_json::from_value(value).with_context(|| format!("{name} is not as {SCHEMA} says"))
}

/// Puts results of one label together.
///
/// # Errors
/// A histogram that cannot be read.
pub fn entries(reports: Vec<Report>) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for report in reports {
        let text = report.run.as_ref().map_or("", |run| run.latency_histogram.as_str());
        let read = latency::decode(text).with_context(|| format!("in {}", report.label))?;
        let found = entries.iter().position(|entry| entry.label == report.label);
        let at = found.unwrap_or_else(|| {
            let (label, latency) = (report.label.clone(), latency::histogram());
            entries.push(Entry { label, reports: Vec::new(), latency });
            entries.len() - 1
        });
        entries[at].latency.add(&read).map_err(|error| anyhow::anyhow!("merging: {error}"))?;
        entries[at].reports.push(report);
    }
    Ok(entries)
}

/// The middle of some numbers, and the least and the greatest.
fn spread(mut numbers: Vec<f64>) -> Option<(f64, f64, f64)> {
    numbers.sort_by(f64::total_cmp);
    let (least, greatest) = (*numbers.first()?, *numbers.last()?);
    let (low, high) = (numbers[(numbers.len() - 1) / 2], numbers[numbers.len() / 2]);
    Some((low.midpoint(high), least, greatest))
}

impl Entry {
    fn median(&self, of: impl Fn(&Report) -> Option<f64>) -> Option<(f64, f64, f64)> {
        spread(self.reports.iter().filter_map(of).collect())
    }

    /// What this entry is compared by: the rate that a search found for the least loss, what was
    /// received a second, or lives a second.
    pub fn rate(&self) -> Option<(f64, f64, f64)> {
        self.median(|report| match (&report.search, &report.run, &report.churn) {
            (Some(search), ..) => search.rates.last().and_then(|found| found.pps),
            (None, Some(run), _) => Some(run.received_pps),
            (None, None, Some(churn)) => Some(churn.lives_per_sec),
            (None, None, None) => None,
        })
    }

    /// What the server's process used for a million datagrams.
    pub fn cpu(&self) -> Option<(f64, f64, f64)> {
        self.median(|report| report.run.as_ref()?.server_cpu.as_ref()?.secs_per_million)
    }

    /// Of everything sent, how much was lost.
    pub fn loss(&self) -> Option<f64> {
        let runs = self.reports.iter().filter_map(|report| report.run.as_ref());
        let (sent, lost) =
            runs.fold((0, 0), |(s, l), run| (s + run.totals.sent, l + run.totals.lost));
        (sent > 0).then(|| lost as f64 / sent as f64)
    }
}

/// A table: the first row is its head. Columns are the entries.
pub fn table(entries: &[Entry]) -> Vec<Vec<String>> {
    let first = entries.first().and_then(Entry::rate);
    let latency: Vec<Option<Latency>> =
        entries.iter().map(|entry| Latency::of(&entry.latency)).collect();
    let row = |name: &str, cell: &dyn Fn(usize) -> Option<String>| {
        let cells = (0..entries.len()).map(|at| cell(at).unwrap_or_else(|| "-".to_owned()));
        std::iter::once(name.to_owned()).chain(cells).collect::<Vec<String>>()
    };
    let with_spread = |text: &dyn Fn(f64) -> String, found: (f64, f64, f64)| match found {
        (median, least, greatest) if least < greatest => {
            format!("{} ({} to {})", text(median), text(least), text(greatest))
        }
        (median, ..) => text(median),
    };
    let us = |of: fn(&Latency) -> f64| {
        let latency = &latency;
        move |at: usize| latency[at].as_ref().map(|latency| format!("{:.0} us", of(latency)))
    };
    let ratio = |at: usize| {
        let (own, first) = (entries[at].rate()?.0, first?.0);
        (first > 0.0).then(|| format!("{:.3}", own / first))
    };
    let settings = |at: usize| entries[at].reports.first().map(|report| &report.settings);
    let generator = |at: usize| {
        let mut runs = entries[at].reports.iter().filter_map(|report| report.run.as_ref());
        let short = runs.any(|run| run.generator.shortfall.is_some());
        Some(if short { "did not keep up" } else { "kept up" }.to_owned())
    };
    vec![
        row("", &|at| Some(entries[at].label.clone())),
        row("what", &|at| entries[at].reports.first().map(|report| report.kind.clone())),
        row("results", &|at| Some(entries[at].reports.len().to_string())),
        row("allocations x channels", &|at| {
            let settings = settings(at)?;
            Some(format!("{} x {}", settings.allocations, settings.channels_per_allocation))
        }),
        row("payload", &|at| Some(settings(at)?.payload.clone())),
        row("way", &|at| {
            let settings = settings(at)?;
            let Settings { direction, mode, transport, generator, .. } = settings;
            Some(format!("{direction}, {mode}, {transport}, by {generator}"))
        }),
        row("a second", &|at| Some(with_spread(&rate, entries[at].rate()?))),
        row("to the first", &ratio),
        row("lost", &|at| entries[at].loss().map(percent)),
        row("latency p50", &us(|latency| latency.p50_us)),
        row("latency p90", &us(|latency| latency.p90_us)),
        row("latency p99", &us(|latency| latency.p99_us)),
        row("latency p99.9", &us(|latency| latency.p999_us)),
        row("latency max", &us(|latency| latency.max_us)),
        row("server CPU s a million", &|at| {
            Some(with_spread(&|secs| format!("{secs:.2}"), entries[at].cpu()?))
        }),
        row("generator", &generator),
    ]
}

/// The table as text, columns aligned.
pub fn text(entries: &[Entry]) -> String {
    let table = table(entries);
    let columns = table.first().map_or(0, Vec::len);
    let width =
        |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in &table {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| match at {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_lies_between() {
        assert_eq!(spread(vec![4.0, 1.0, 2.0, 3.0]), Some((2.5, 1.0, 4.0)));
        assert_eq!(spread(vec![3.0, 1.0, 2.0]), Some((2.0, 1.0, 3.0)));
        assert_eq!(spread(Vec::new()), None);
    }
}
