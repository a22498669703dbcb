//! How long packets took at rates that all subjects were offered.

use super::tables::label;
use crate::suite::record::{Delay, Results, Scenario};
use crate::summary::{Samples, number};

/// By rate, and at each all subjects, if delays were taken here.
pub(super) fn table(results: &Results, scenario: &Scenario) -> Option<Vec<Vec<String>>> {
    let head = [
        "offered, thousands a second",
        "subject",
        "arrived",
        "lost, %",
        "one way, µs: p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "of it the generator's own lateness: p99",
        "p99.9",
        "busiest thread: of a core, %",
        "waited for it, %",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for rate in rates(scenario) {
        for entry in &scenario.entries {
            let of = |pick: fn(&Delay) -> f64| {
                Samples::new(entry.rounds.iter().filter_map(|round| {
                    let at = |one: &&Delay| one.latency.offered_pps == rate;
                    Some((round.number, pick(round.delays.iter().find(at)?)))
                }))
            };
            if of(|one| one.pps).is_empty() {
                continue;
            }
            rows.push(vec![
                number(rate / 1e3, 0),
                label(results, &entry.subject),
                of(|one| one.pps).scaled(1e-3).show(0),
                of(|one| one.latency.loss * 100.0).show(2),
                of(|one| one.latency.p50_us).show(0),
                of(|one| one.latency.p90_us).show(0),
                of(|one| one.latency.p99_us).show(0),
                of(|one| one.latency.p999_us).show(0),
                of(|one| one.latency.max_us).show(0),
                of(|one| one.late_p99_us).show(0),
                of(|one| one.late_p999_us).show(0),
                of(|one| one.busy * 100.0).show(0),
                of(|one| one.waiting * 100.0).show(1),
            ]);
        }
    }
    (rows.len() > 1).then_some(rows)
}

/// Those that were offered, the least first.
fn rates(scenario: &Scenario) -> Vec<f64> {
    let rounds = scenario.entries.iter().flat_map(|entry| &entry.rounds);
    let mut rates: Vec<f64> =
        rounds.flat_map(|round| &round.delays).map(|one| one.latency.offered_pps).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    rates
}
