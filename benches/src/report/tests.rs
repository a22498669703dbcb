//! The report of made-up results.

use super::*;
use crate::suite::record::{
    Cpu, Delay, Entry, Latency, Machine, Rate, Round, SCHEMA, Scenario, Subject, Trial,
};
use crate::suite::search::Limit;

fn rate(pps: f64, limit: Limit) -> Rate {
    Rate { offered_pps: pps, pps, limit }
}

fn trial(asked: f64, void: Option<&str>) -> Trial {
    let count = asked as u64;
    Trial {
        asked_pps: Some(asked),
        seconds: 1.0,
        sent: count,
        entered: count,
        left: count,
        received: count,
        void: void.map(str::to_owned),
        ..Trial::default()
    }
}

/// Two rounds; the PDR as given.
fn entry(subject: &str, pdr: [f64; 2], limit: Limit) -> Entry {
    let round = |(at, pps): (usize, &f64)| Round {
        number: at + 1,
        one_core: Some(rate(pps * 2.0, Limit::Subject)),
        saturated_napi_ns: Some(200.0),
        delivered: rate(pps * 1.25, Limit::Subject),
        pdr: rate(*pps, limit),
        lossless: Some(rate(pps * 0.75, Limit::Subject)),
        drained: None,
        drained_wholly: None,
        cpu: Some(Cpu { pps: 50_000.0, process_ns: 4_000.0, napi_ns: 300.0 }),
        latency: Latency::of(0.5, pps * 0.5, 0.0, vec![(10_000, 50), (20_000, 50)])
            .into_iter()
            .collect(),
        delays: Vec::new(),
        trials: vec![trial(*pps, None), trial(pps * 2.0, Some("the counts do not add up"))],
    };
    let rounds = pdr.iter().enumerate().map(round).collect();
    Entry { subject: subject.to_owned(), rounds, ..Entry::default() }
}

fn results(entries: Vec<Entry>) -> Results {
    let subject = |name: &str, skipped: Option<&str>| Subject {
        name: name.to_owned(),
        label: format!("The {name}"),
        version: "1.0".to_owned(),
        command: "serve | --now".to_owned(),
        skipped: skipped.map(str::to_owned),
    };
    Results {
        schema: SCHEMA.to_owned(),
        started: "2026-01-02T03:04:05Z".to_owned(),
        seconds: 60.0,
        command: "scripts/bench".to_owned(),
        effort: "quick".to_owned(),
        trial_seconds: 0.25,
        interrupted: false,
        planned: vec!["base".to_owned(), "send".to_owned()],
        machine: Machine { processor: "<A & B>".to_owned(), ..Machine::default() },
        subjects: vec![
            subject("bare", None),
            subject("xdp", None),
            subject("coturn", None),
            subject("pion", Some("no compiler")),
        ],
        cost: None,
        rings: Vec::new(),
        scenarios: vec![Scenario {
            name: "base".to_owned(),
            title: "in words".to_owned(),
            channels: 1000,
            payload_bytes: 160,
            direction: "both".to_owned(),
            indications: false,
            client_family: 4,
            peer_family: 4,
            interfaces: 1,
            entries,
        }],
    }
}

fn example() -> Results {
    results(vec![
        entry("bare", [2e6, 2e6], Limit::Generator),
        entry("xdp", [1e6, 3e6], Limit::Sink),
        entry("coturn", [1e5, 1e5], Limit::Subject),
    ])
}

/// The cells of the line that starts with `first`.
fn cells<'t>(text: &'t str, first: &str) -> Vec<&'t str> {
    let start = format!("| {first} |");
    let line = text.lines().find(|line| line.starts_with(&start));
    let line = line.unwrap_or_else(|| panic!("no line {start} in\n{text}"));
    line.trim_matches('|').split(" | ").map(str::trim).collect()
}

#[test]
fn results_survive_json_and_nothing_else_is_taken_for_them() {
    let text = serde_json::to_string(&example()).unwrap();
    assert_eq!(Results::parse(&text).unwrap(), example());
    assert!(Results::parse(&text.replace("turnwire-bench/1", "turnwire-bench/2")).is_err());
    assert!(Results::parse(&text.replace("\"pdr\"", "\"pdq\"")).is_err());
}

#[test]
fn ratios_are_medians_of_rounds_with_the_generators_part_marked() {
    let text = markdown(&example());
    let ratios = cells(&text, "base");
    // 1:2 and 3:2, both sides limited by others
    assert!(ratios.contains(&"~ 1.00 (0.50 to 1.50)"), "{ratios:?}");
    // 10 and 30, a lower bound
    assert!(ratios.contains(&"≥ 20.0 (10.0 to 30.0): met"), "{ratios:?}");
    // one core for all: the generator's part is meant to be in it
    assert!(ratios.contains(&"1.00 (0.50 to 1.50): met"), "{ratios:?}");
    assert_eq!(ratios.len(), 4, "no column that nobody has: {ratios:?}");
}

#[test]
fn a_missed_target_is_called_missed() {
    let slow =
        [entry("xdp", [5e5, 5e5], Limit::Subject), entry("coturn", [1e5, 1e5], Limit::Subject)];
    assert!(markdown(&results(slow.into())).contains("5.0 (5.0 to 5.0): missed"));
}

#[test]
fn void_trials_and_limits_are_counted_and_marked() {
    let text = markdown(&example());
    assert!(text.contains("12 trials of 250 ms, 6 of them void"), "{text}");
    let coturn = cells(&text, "The coturn");
    assert_eq!(coturn.last(), Some(&"4, 2"));
    assert!(coturn.contains(&"100 (100 to 100)"), "{coturn:?}");
    assert!(cells(&text, "The xdp").contains(&"≥ 2,000 (1,000 to 3,000)"), "{text}");
}

#[test]
fn whoever_is_missing_or_failed_is_named() {
    let mut results = example();
    results.interrupted = true;
    results.scenarios[0].entries[1].failure = Some("round 2: it ended early".to_owned());
    for text in [markdown(&results), page(&results)] {
        assert!(text.contains("The pion is left out: no compiler"), "{text}");
        assert!(text.contains("xdp at base, round 2: it ended early"), "{text}");
        assert!(text.contains("Interrupted"), "{text}");
        assert!(text.contains("Not measured: send. The last, base, has 2 rounds"), "{text}");
    }
    assert!(chosen(&results).contains("Interrupted"));
    assert!(!chosen(&example()).contains("Interrupted"));
}

#[test]
fn what_stands_for_the_whole_is_what_something_is_wanted_of() {
    let text = chosen(&example());
    let line = cells(&text, "native XDP : coturn, at 0.1 %");
    assert_eq!(line[1..], ["in words", "≥ 20.0 (10.0 to 30.0): met", "10"], "{text}");
    assert!(!text.contains("generic"), "{text}");
}

#[test]
fn the_page_needs_no_network_and_takes_no_text_for_markup() {
    let page = page(&example());
    assert!(page.contains("&lt;A &amp; B&gt;") && !page.contains("<A & B>"));
    for outside in ["http://", "https://", "src=", "@import", "<script"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<svg").count(), 3, "bars, delivered over offered, latency");
    assert!(!page.contains("NaN"), "{page}");
}

#[test]
fn tables_are_tables_whatever_their_cells_say() {
    let text = markdown(&example());
    assert!(text.contains("serve \\| --now"), "{text}");
}

#[test]
fn a_run_without_any_figure_has_a_report_too() {
    let text = markdown(&results(vec![Entry { subject: "xdp".into(), ..Entry::default() }]));
    assert!(!text.contains("NaN"), "{text}");
    assert!(!page(&results(Vec::new())).contains("NaN"));
}

#[test]
fn delays_stand_side_by_side_at_each_rate_and_nothing_else_does() {
    // given two subjects, offered the same two rates
    let entry = |subject: &str, slower: u64| {
        let delay = |rate: f64| Delay {
            latency: Latency::of(0.0, rate, 0.25, vec![(slower * 10_000, 99)]).unwrap(),
            pps: rate * 0.75,
            busy: 0.5,
            waiting: 0.125,
            late_p99_us: 7.0,
            late_p999_us: 8.0,
        };
        let round = Round { number: 1, delays: [2e5, 1e5].map(delay).into(), ..Round::default() };
        Entry { subject: subject.to_owned(), rounds: vec![round], ..Entry::default() }
    };
    let text = markdown(&results(vec![entry("xdp", 1), entry("coturn", 3)]));
    // then
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("| 100 | ")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].starts_with("| 100 | The xdp | 75 (75 to 75) | 25.00 (25.00 to 25.00) | 10 (")
    );
    assert!(lines[1].contains("| The coturn |") && lines[1].contains("| 30 (30 to 30) |"));
    assert!(lines[1].ends_with("| 50 (50 to 50) | 12.5 (12.5 to 12.5) |"), "{}", lines[1]);
    assert!(!text.contains("at most 0.1 % lost |"), "{text}");
}
