//! Results as one HTML file: tables and plots, nothing from the network, no script.

pub mod plot;

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::compare::{Entry, table};
use crate::latency::Latency;
use crate::report::{ChurnResult, Report, RunResult, SearchResult, percent, rate};
use plot::{Plot, Scale, Series};

/// Colours that people with any colour vision can tell apart (Okabe and Ito).
pub const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f"];

/// The look of a page.
pub const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#5b6470;--line:#d5dae0;--back:#fff;--box:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaef;--soft:#9aa4b0;--line:#39414b;--back:#14181d;\
--box:#1c2229}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);max-width:60rem;\
margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
p.sub{color:var(--soft);margin:.2rem 0 1.5rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}.wide{overflow-x:auto}
th,td{padding:.25rem .8rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;font-weight:600}
.note{background:var(--box);border-left:4px solid #d55e00;padding:.6rem 1rem;margin:1rem 0}
svg{width:100%;height:auto;background:var(--box);border-radius:6px}
svg text{fill:var(--soft);font:12px system-ui,sans-serif}svg .grid{stroke:var(--line)}
code{background:var(--box);padding:.1rem .3rem;border-radius:3px;overflow-wrap:anywhere}
footer{color:var(--soft);margin-top:2.5rem;font-size:.85rem}";

/// Text that cannot be taken for markup.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// The page of these results.
pub fn page(entries: &[Entry]) -> String {
    let title = match entries {
        [one] => one.label.clone(),
        _ => format!("{} results compared", entries.len()),
    };
    let mut out = String::new();
    // Writing to a string cannot fail, here and below.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>turnwire-load: {0}</title><link rel=\"icon\" href=\"data:,\">\
         <style>{STYLE}</style></head><body>\n<h1>{0}</h1>\n",
        escape(&title)
    );
    out.push_str("<p class=\"sub\">A TURN relay, measured by turnwire-load</p>\n");
    notes(&mut out, entries);
    section(&mut out, "Results", &html_table(&table(entries)));
    plots(&mut out, entries);
    for entry in entries {
        for report in &entry.reports {
            if let Some(search) = &report.search {
                let heading = format!("Search: {}", entry.label);
                section(&mut out, &heading, &html_table(&trials(search)));
            }
            if let Some(churn) = &report.churn {
                let heading = format!("Churn: {}", entry.label);
                section(&mut out, &heading, &html_table(&requests(churn)));
            }
            if let Some(run) = &report.run {
                let heading = format!("Datagrams: {}", entry.label);
                section(&mut out, &heading, &html_table(&datagrams(run)));
            }
        }
    }
    section(&mut out, "How it was measured", &html_table(&circumstances(entries)));
    commands(&mut out, entries);
    let _ = writeln!(
        out,
        "<footer>One-way latency counts from the time when each datagram was due, not from when it \
         was sent. The server's CPU time is its process's, user and system; the kernel's work in \
         softirq is not in it. turnwire-load {}.</footer></body></html>",
        env!("CARGO_PKG_VERSION")
    );
    out
}

fn section(out: &mut String, heading: &str, body: &str) {
    let _ = writeln!(out, "<h2>{}</h2>\n{body}", escape(heading));
}

/// What a reader must know before the numbers.
fn notes(out: &mut String, entries: &[Entry]) {
    for entry in entries {
        for report in &entry.reports {
            let failure = report.failure.as_ref().map(|failure| failure.message.as_str());
            let shortfall = report.run.as_ref().and_then(|run| run.generator.shortfall.as_deref());
            for note in [failure, shortfall].into_iter().flatten() {
                let (label, note) = (escape(&entry.label), escape(note));
                let _ = writeln!(out, "<p class=\"note\"><b>{label}</b>: {note}</p>");
            }
        }
    }
}

/// A table; its first row is the head.
pub fn html_table(rows: &[Vec<String>]) -> String {
    let mut out = String::from("<div class=\"wide\"><table>");
    for (at, row) in rows.iter().enumerate() {
        let tag = if at == 0 { "th" } else { "td" };
        out.push_str("<tr>");
        for cell in row {
            let _ = write!(out, "<{tag}>{}</{tag}>", escape(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>");
    out
}

fn plots(out: &mut String, entries: &[Entry]) {
    let colour = |at: usize| COLOURS[at % COLOURS.len()];
    let runs = |of: &dyn Fn(&RunResult) -> Vec<(f64, f64)>| -> Vec<Series> {
        let own = |(at, entry): (usize, &Entry)| {
            let reports = entry.reports.iter().filter_map(|report| report.run.as_ref());
            let series = reports.map(|run| Series {
                name: entry.label.clone(),
                colour: colour(at),
                points: of(run),
            });
            series.collect::<Vec<_>>()
        };
        entries.iter().enumerate().flat_map(own).collect()
    };
    let latency = entries.iter().enumerate().filter(|(_, entry)| !entry.latency.is_empty());
    let latency: Vec<Series> = latency
        .map(|(at, entry)| Series {
            name: entry.label.clone(),
            colour: colour(at),
            points: percentiles(&entry.latency),
        })
        .collect();
    if latency.is_empty() {
        return;
    }
    let plot = Plot {
        x: Scale::Percentile,
        y: Scale::Log,
        x_label: "percentile",
        y_label: "one-way latency, us",
        series: latency,
    };
    section(out, "Latency by percentile", &plot.svg());
    let received = |run: &RunResult| {
        let slots = run.slots.iter();
        slots.map(|slot| (slot.at_secs, slot.received as f64 / slot.secs)).collect()
    };
    let plot = Plot {
        x: Scale::Linear,
        y: Scale::Linear,
        x_label: "seconds",
        y_label: "received a second, by when it was due",
        series: runs(&received),
    };
    section(out, "Rate over time", &plot.svg());
    let lost = |run: &RunResult| {
        let share = |sent: u64, received: u64| {
            100.0 * sent.saturating_sub(received) as f64 / sent.max(1) as f64
        };
        run.slots.iter().map(|slot| (slot.at_secs, share(slot.sent, slot.received))).collect()
    };
    let plot = Plot {
        x: Scale::Linear,
        y: Scale::Linear,
        x_label: "seconds",
        y_label: "lost, % of what was due then",
        series: runs(&lost),
    };
    section(out, "Loss over time", &plot.svg());
}

/// Points of a latency curve: 1 / (1 - quantile), and microseconds.
fn percentiles(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let most = histogram.len() as f64;
    let mut points = Vec::new();
    let mut nines = 1.0;
    while nines <= most.max(1.0) {
        let value = histogram.value_at_quantile(1.0 - 1.0 / nines).max(1);
        points.push((nines, value as f64 / 1_000.0));
        nines *= 1.12;
    }
    points.push((most.max(1.0), histogram.max().max(1) as f64 / 1_000.0));
    points
}

fn cells<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

fn us(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0} us"))
}

fn trials(search: &SearchResult) -> Vec<Vec<String>> {
    let mut rows = vec![cells(["trial", "asked", "sent", "undelivered", "p99", "generator"])];
    for (at, trial) in search.trials.iter().enumerate() {
        rows.push(vec![
            (at + 1).to_string(),
            rate(trial.asked_pps),
            rate(trial.sent_pps),
            percent(trial.undelivered_ratio),
            us(trial.p99_us),
            if trial.kept_up { "kept up" } else { "did not keep up" }.to_owned(),
        ]);
    }
    for found in &search.rates {
        let what = format!("found at loss {}", percent(found.loss_max));
        let least = if found.generator_limited { "at least " } else { "" };
        let pps =
            found.pps.map_or_else(|| "nothing".to_owned(), |pps| format!("{least}{}", rate(pps)));
        let held = format!("held {} times", found.confirmed);
        let p99 = us(found.latency.as_ref().map(|latency| latency.p99_us));
        rows.push(vec![what, pps, String::new(), String::new(), p99, held]);
    }
    rows
}

fn requests(churn: &ChurnResult) -> Vec<Vec<String>> {
    let mut rows = vec![cells(["request", "succeeded", "a second", "failed", "p50", "p99", "max"])];
    for request in &churn.requests {
        let latency = |of: fn(&Latency) -> f64| us(request.latency.as_ref().map(of));
        let failed = request.failed.iter().map(|(cause, times)| format!("{times} x {cause}"));
        rows.push(vec![
            request.kind.clone(),
            request.succeeded.to_string(),
            format!("{:.1}", request.per_sec),
            failed.collect::<Vec<_>>().join(", "),
            latency(|latency| latency.p50_us),
            latency(|latency| latency.p99_us),
            latency(|latency| latency.max_us),
        ]);
    }
    rows
}

fn datagrams(run: &RunResult) -> Vec<Vec<String>> {
    let mut rows = vec![cells([
        "",
        "offered",
        "sent",
        "received",
        "lost",
        "reordered",
        "duplicated",
        "corrupted",
        "misrouted",
    ])];
    let directions = run.directions.iter().map(|one| (one.direction.name(), one.counts));
    for (name, counts) in directions.chain([("all", run.totals)]) {
        let numbers = [
            counts.offered,
            counts.sent,
            counts.received,
            counts.lost,
            counts.reordered,
            counts.duplicated,
            counts.corrupted,
            counts.misrouted,
        ];
        let numbers = numbers.into_iter().map(crate::report::count);
        rows.push(std::iter::once(name.to_owned()).chain(numbers).collect());
    }
    rows
}

fn circumstances(entries: &[Entry]) -> Vec<Vec<String>> {
    let mut rows =
        vec![cells(["", "server", "machine", "kernel", "load", "generator", "threads", "clock"])];
    for report in entries.iter().flat_map(|entry| &entry.reports) {
        let Report { machine, settings, .. } = report;
        rows.push(vec![
            report.label.clone(),
            settings.address.clone(),
            format!("{}, {} cores", machine.cpu, machine.cores),
            machine.kernel.clone(),
            format!("{:.1}", machine.load_average),
            format!("{}{}", settings.generator, if settings.offload { ", offload" } else { "" }),
            format!("{} + {}", settings.threads[0], settings.threads[1]),
            report.run.as_ref().map_or_else(String::new, |run| run.clock.clone()),
        ]);
    }
    rows
}

fn commands(out: &mut String, entries: &[Entry]) {
    out.push_str("<h2>Commands</h2>\n<ul>");
    for report in entries.iter().flat_map(|entry| &entry.reports) {
        let _ = writeln!(out, "<li><code>{}</code></li>", escape(&report.command.join(" ")));
    }
    out.push_str("</ul>\n");
}
