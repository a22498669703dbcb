//! A result in a few lines for a terminal.

use std::fmt::Write as _;

use super::{ChurnResult, Report, RunResult, SearchResult};
use crate::latency::Latency;

/// A number with its thousands apart.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate, to the nearest whole one.
pub fn rate(per_sec: f64) -> String {
    count(per_sec.round().max(0.0) as u64)
}

/// A ratio, with as many digits as it deserves.
pub fn percent(ratio: f64) -> String {
    match ratio * 100.0 {
        0.0 => "0 %".to_owned(),
        percent if percent.abs() < 0.01 => format!("{percent:.4} %"),
        percent if percent.abs() < 1.0 => format!("{percent:.3} %"),
        percent => format!("{percent:.2} %"),
    }
}

fn latency_line(latency: &Latency) -> String {
    let Latency { p50_us, p90_us, p99_us, p999_us, max_us, .. } = latency;
    format!(
        "p50 {p50_us:.0} us, p90 {p90_us:.0}, p99 {p99_us:.0}, p99.9 {p999_us:.0}, max {max_us:.0}"
    )
}

/// The whole result.
pub fn summary(report: &Report) -> String {
    let settings = &report.settings;
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{} over {}: {} allocations x {} channels, payload {}, {}, {}, peer {}, by {}",
        settings.address,
        settings.transport,
        count(settings.allocations as u64),
        settings.channels_per_allocation,
        settings.payload,
        settings.direction,
        settings.mode,
        settings.peer,
        settings.generator,
    );
    if let Some(setup) = &report.setup {
        let (allocations, channels) =
            (count(setup.allocations as u64), count(setup.channels as u64));
        let _ = writeln!(
            out,
            "setup      {allocations} allocations, {channels} channels in {:.2} s",
            setup.secs
        );
    }
    if let Some(search) = &report.search {
        search_lines(&mut out, search);
    }
    if let Some(run) = &report.run {
        run_lines(&mut out, run);
    }
    if let Some(churn) = &report.churn {
        churn_lines(&mut out, churn);
    }
    out
}

fn run_lines(out: &mut String, run: &RunResult) {
    let totals = &run.totals;
    let asked = run.asked_pps.map_or_else(|| "max".to_owned(), rate);
    let _ = writeln!(
        out,
        "rate       asked {asked}/s, sent {}/s, received {}/s ({:.1} Mbit/s of payload) for {:.1} s",
        rate(run.sent_pps),
        rate(run.received_pps),
        run.received_bps / 1e6,
        run.secs
    );
    let _ = writeln!(
        out,
        "datagrams  offered {}, sent {}, received {}, lost {} ({}), reordered {}, duplicated {}, \
         corrupted {}, misrouted {}",
        count(totals.offered),
        count(totals.sent),
        count(totals.received),
        count(totals.lost),
        percent(totals.loss_ratio),
        count(totals.reordered),
        count(totals.duplicated),
        count(totals.corrupted),
        count(totals.misrouted)
    );
    if let Some(latency) = &run.latency {
        let _ = writeln!(
            out,
            "latency    {} (one way, from the scheduled time)",
            latency_line(latency)
        );
    }
    if run.directions.len() > 1 {
        for one in &run.directions {
            let latency = one.latency.as_ref().map_or_else(String::new, latency_line);
            let name = one.direction.name();
            let lost = percent(one.counts.loss_ratio);
            let _ = writeln!(
                out,
                "{name:<10} received {}, lost {lost}, {latency}",
                count(one.counts.received)
            );
        }
    }
    let generator = &run.generator;
    if let Some(lateness) = &generator.lateness {
        let _ = writeln!(
            out,
            "generator  late by p50 {:.0} us, p99 {:.0} us; {:.2} CPU seconds",
            lateness.p50_us, lateness.p99_us, generator.cpu_secs
        );
    }
    for device in &generator.devices {
        let _ = writeln!(
            out,
            "interface  {}: sent {} ({}), received {} (sink: {} XDP)",
            device.name,
            count(device.tx_packets),
            device.transmit,
            count(device.rx_packets),
            device.sink
        );
    }
    if let Some(refusal) = &generator.refusal {
        let _ = writeln!(
            out,
            "           {} datagrams refused here: {refusal}",
            count(generator.refused)
        );
    }
    if generator.blocked > 0 {
        let _ = writeln!(
            out,
            "           {} datagrams did not fit into full streams",
            count(generator.blocked)
        );
    }
    cpu_line(out, run.server_cpu.as_ref());
    if let Some(shortfall) = &generator.shortfall {
        let _ = writeln!(out, "NOTE       {shortfall}");
    }
}

fn cpu_line(out: &mut String, cpu: Option<&super::ServerCpu>) {
    let Some(cpu) = cpu else { return };
    let per_million = cpu
        .secs_per_million
        .map_or_else(String::new, |secs| format!(", {secs:.2} a million datagrams"));
    let _ = writeln!(
        out,
        "server     process {}: {:.2} CPU seconds{per_million} (user and system, softirq not counted)",
        cpu.pid, cpu.secs
    );
}

fn search_lines(out: &mut String, search: &SearchResult) {
    for found in &search.rates {
        let what = match found.loss_max {
            0.0 => "no loss".to_owned(),
            most => format!("loss <= {}", percent(most)),
        };
        let _ = match found.pps {
            Some(pps) => {
                let least = if found.generator_limited { "at least " } else { "" };
                let times = found.confirmed;
                writeln!(out, "found      {what}: {least}{}/s, held {times} times", rate(pps))
            }
            None => writeln!(out, "found      {what}: not even at the lowest rate"),
        };
    }
    let _ = writeln!(out, "trials     {}", search.trials.len());
}

fn churn_lines(out: &mut String, churn: &ChurnResult) {
    let _ = writeln!(
        out,
        "churn      {:.1} whole lives a second for {:.1} s, at most {} at once",
        churn.lives_per_sec, churn.secs, churn.in_flight
    );
    for request in &churn.requests {
        let latency = request.latency.as_ref().map_or_else(String::new, latency_line);
        let _ = writeln!(
            out,
            "  {:<18} {} ({:.1}/s), {latency}",
            request.kind,
            count(request.succeeded),
            request.per_sec
        );
        for (cause, times) in &request.failed {
            let _ = writeln!(out, "  {:<18} failed {} times: {cause}", "", count(*times));
        }
    }
    cpu_line(out, churn.server_cpu.as_ref());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(0.001), "0.100 %");
        assert_eq!(percent(0.1), "10.00 %");
    }
}
